"""Every method on every tiny body: exactly the chosen parameters have a gradient, and only they move."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orca.batches import to_batch
from orca.bodies import FAMILIES
from orca.methods import METHODS, apply_method
from orca.model import AdaptedModel
from orca.train import FinetuneConfig, loss_of, make_optimizer
from tests.tiny import tiny_adapted, tiny_examples

every_method = pytest.mark.parametrize("name", METHODS.names())
every_family = pytest.mark.parametrize("family", list(FAMILIES))


def wanted(model: AdaptedModel, name: str) -> set[str]:
    """What should train, told by the names of parameters: independent of the rules under test."""
    names = {n for n, _ in model.named_parameters()}
    norms = {
        f"{m}.{p}"
        for m, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for p in ("weight", "bias")
    }
    ends = {n for n in names if n.startswith(("embedder.", "predictor."))}
    return {
        "full": names,
        "scratch": names,
        "head": {n for n in names if n.startswith("predictor.")},
        "layernorm": (norms & names) | ends,
    }[name]


def backward(model: AdaptedModel) -> None:
    x, y, length = to_batch(tiny_examples("classes", 9), list(range(9)), torch.device("cpu"))
    loss_of(model(x, length), y, "classes").backward()


@every_family
@every_method
def test_exactly_the_chosen_parameters_get_a_gradient_and_only_they_move(family: str, name: str) -> None:
    model = tiny_adapted("classes", family)
    chosen = apply_method(model.layer_groups(), METHODS.get(name))
    optimizer = make_optimizer(chosen, FinetuneConfig(method=name, lr=0.1, head_lr=0.1, embedder_lr=0.1))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    backward(model)
    assert {n for n, p in model.named_parameters() if p.grad is not None} == wanted(model, name)
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    touched = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert touched <= moved <= wanted(model, name)


@every_method
def test_a_second_method_undoes_the_first(name: str) -> None:
    model = tiny_adapted()
    apply_method(model.layer_groups(), METHODS.get("head"))
    apply_method(model.layer_groups(), METHODS.get(name))
    assert {n for n, p in model.named_parameters() if p.requires_grad} == wanted(model, name)


@every_family
def test_the_models_groups_are_an_ordered_complete_partition(family: str) -> None:
    model = tiny_adapted("classes", family)
    groups = model.layer_groups()
    names = [g.name for g in groups]
    assert (names[0], names[1], names[-1]) == ("embedder", "block.0", "head")
    counted = [id(p) for g in groups for p in g.parameters()]
    assert len(counted) == len(set(counted))
    assert set(counted) == {id(p) for p in model.parameters()}


def test_learning_rates_and_decay_follow_groups_and_dimensions() -> None:
    model = tiny_adapted()
    config = FinetuneConfig(lr=1e-5, embedder_lr=2e-5, head_lr=3e-5, weight_decay=0.3)
    optimizer = make_optimizer(apply_method(model.layer_groups(), METHODS.get("full")), config)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        lr = {"embedder": 2e-5, "predictor": 3e-5}.get(name.split(".")[0], 1e-5)
        assert rate[id(parameter)] == (lr, 0.3 if parameter.ndim > 1 else 0.0), name
