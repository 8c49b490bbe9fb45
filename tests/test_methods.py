"""Every method on every tiny body: exactly the chosen parameters have a gradient, and only they move."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from orca.batches import to_batch
from orca.bodies import FAMILIES
from orca.config import check_config
from orca.errors import InputError
from orca.methods import METHODS, MethodChoice
from orca.methods.chained import FirstOptions
from orca.model import AdaptedModel
from orca.train import FinetuneConfig, loss_of, make_optimizer
from tests.tiny import tiny_adapted, tiny_config, tiny_examples

OPTIONS: dict[str, dict[str, Any]] = {"partial": {"last": 1}}  # where defaults say nothing of a body of two blocks
PHASES = [(m.name, i) for m in METHODS for i in range(len(MethodChoice(name=m.name).phases))]
every_method = pytest.mark.parametrize("name", METHODS.names())
every_phase = pytest.mark.parametrize(("name", "phase"), PHASES)
every_family = pytest.mark.parametrize("family", list(FAMILIES))
MARKS = {"lora": ".lora_", "ia3": ".ia3_", "adapter": ".adapter.", "prompt": ".prompt.", "prefix": ".prefix."}
LACKS = {("bitfit", "modernbert")}  # it has no biases


FIRSTS = get_args(FirstOptions.model_fields["first"].annotation)


def choice_of(name: str) -> MethodChoice:
    """A method by its name; ``peft-ft:ia3`` has ia3 come first."""
    name, _, first = name.partition(":")
    return MethodChoice(name=name, options={"first": first} if first else OPTIONS.get(name, {}))


def equipped(name: str, family: str = "bert", *, seed: int = 0) -> tuple[AdaptedModel, MethodChoice]:
    model, choice = tiny_adapted("classes", family), choice_of(name)
    torch.manual_seed(seed)
    model.equip(choice, rows=9)
    return model, choice


def wanted(model: AdaptedModel, name: str, phase: int = 0) -> set[str]:
    """What should train, told by the names of parameters: independent of the rules under test."""
    names = {n for n, _ in model.named_parameters()}
    norms = {
        f"{m}.{p}"
        for m, module in model.named_modules()
        if isinstance(module, nn.LayerNorm)
        for p in ("weight", "bias")
    }
    ends = {n for n in names if n.startswith(("embedder.", "predictor."))}
    head = {n for n in names if n.startswith("predictor.")}
    told = {
        "full": [names],
        "scratch": [names],
        "head": [head],
        "layernorm": [(norms & names) | ends],
        "partial": [{n for n in names if n.startswith(("encoder.blocks.1.", "encoder.norm."))} | ends],
        "bitfit": [{n for n in names if n.endswith(".bias")} | ends],
        "lp-ft": [head, names],
        "peft-ft": [{n for n in names if ".lora_" in n} | ends, names],
    } | {inserting: [{n for n in names if mark in n} | ends] for inserting, mark in MARKS.items()}
    return told[name][phase]


def backward(model: AdaptedModel) -> None:
    x, y, length = to_batch(tiny_examples("classes", 9), list(range(9)), torch.device("cpu"))
    loss_of(model(x, length), y, "classes").backward()


@every_family
@every_phase
def test_exactly_the_chosen_parameters_get_a_gradient_and_only_they_move(family: str, name: str, phase: int) -> None:
    model, choice = equipped(name, family)
    if (name, family) in LACKS:
        with pytest.raises(InputError, match=f"'{name}' finds nothing in this body to train: it trains biases"):
            choice.apply(model.layer_groups(), phase)
        return
    chosen = choice.apply(model.layer_groups(), phase)
    rates = {"lr": 0.1, "head_lr": 0.1, "embedder_lr": 0.1, "inserted_lr": 0.1}
    optimizer = make_optimizer(chosen, FinetuneConfig(method=name, **rates))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    backward(model)
    assert {n for n, p in model.named_parameters() if p.grad is not None} == wanted(model, name, phase)
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    touched = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert touched <= moved <= wanted(model, name, phase)


@every_family
@pytest.mark.parametrize("first", FIRSTS)
def test_any_method_may_come_first_and_everything_trains_then(first: str, family: str) -> None:
    model, choice = tiny_adapted("classes", family), MethodChoice(name="peft-ft", options={"first": first})
    model.equip(choice)
    if (first, family) in LACKS:
        with pytest.raises(
            InputError, match="'peft-ft' finds nothing in this body to train: it trains biases, .* first"
        ):
            choice.apply(model.layer_groups(), 0)
        return
    for phase, told in enumerate((wanted(model, first), wanted(model, "full"))):
        model.zero_grad()
        choice.apply(model.layer_groups(), phase)
        backward(model)
        assert {n for n, p in model.named_parameters() if p.grad is not None} == told


@every_phase
def test_a_second_method_undoes_the_first(name: str, phase: int) -> None:
    model, choice = equipped(name)
    MethodChoice(name="head").apply(model.layer_groups())
    choice.apply(model.layer_groups(), phase)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == wanted(model, name, phase)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("part", ["embedder", "predictor"])
@every_phase
def test_a_switch_decides_of_embedder_or_predictor_and_of_nothing_else(
    name: str, phase: int, part: str, *, train: bool
) -> None:
    model, choice = equipped(name)
    switched = choice.model_copy(update={f"train_{part}": train})
    own = {n for n, _ in model.named_parameters() if n.startswith(f"{part}.")}
    told = wanted(model, name, phase) | own if train else wanted(model, name, phase) - own
    if not train and not wanted(model, name, 0) - own:  # the first phase would have nothing
        with pytest.raises(InputError, match=f"nothing is left to train in '{name}': finetune.train_predictor is off"):
            switched.lengths(4)
        with pytest.raises(InputError, match="nothing is left to train"):
            check_config({"task": "digits", "finetune": {"method": name, "train_predictor": False}})
        return
    assert switched.lengths(4)
    switched.apply(model.layer_groups(), phase)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == told


def test_chosen_blocks_train_and_blocks_that_are_not_there_are_refused() -> None:
    model = tiny_adapted("classes", "gpt2")
    chosen = MethodChoice(name="partial", options={"blocks": [0]}).apply(model.layer_groups())
    assert list(chosen) == ["embedder", "block.0", "head"]  # not the final norm, which comes after the last
    for options, said in (({"last": 3}, "last 3"), ({"blocks": [2]}, r"blocks \[2\]")):
        with pytest.raises(InputError, match=f"options: {said}, but the body has 2 blocks, numbered from 0"):
            MethodChoice(name="partial", options=options).apply(model.layer_groups())


def test_epochs_are_shared_among_phases_and_each_has_one() -> None:
    def lengths(epochs: int, share: float) -> list[int]:
        return MethodChoice(name="lp-ft", options={"share": share}).lengths(epochs)

    assert [lengths(10, 0.5), lengths(10, 0.26), lengths(2, 0.99), lengths(3, 0.01)] == [[5, 5], [3, 7], [1, 1], [1, 2]]
    assert MethodChoice(name="full").lengths(7) == [7]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "lp-ft", "epochs": 1}, "'lp-ft' trains in 2 phases; finetune.epochs is 1, give more"),
        ({"method": "lp-ft", "options": {"shar": 0.5}}, r"shar: there is no such option; it has share \(0.5\)"),
        (
            {"method": "lp-ft", "options": {"share": 2}},
            r"share: input should be less than 1; got 2; it has share \(0.5\)",
        ),
        ({"method": "full", "options": {"rank": 2}}, "finetune.options of 'full': rank: .*; it has none"),
        ({"method": "lora", "options": {"targets": "query"}}, r"targets: expected a list, as in \[a, b\]; got 'query'"),
    ],
)
def test_options_that_do_not_fit_the_method_are_refused_with_those_that_there_are(settings: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"finetune: .*{said}"):
        check_config({"task": "digits", "finetune": settings})


def test_what_is_chosen_of_a_method_is_part_of_the_key_and_what_is_left_alone_is_not() -> None:
    def document(**settings: Any) -> dict[str, Any]:
        return FinetuneConfig(**settings).document()

    later = {"options", "train_embedder", "train_predictor", "inserted_lr", "layer_decay", "method_version"}
    assert [name for m in ("full", "layernorm", "scratch") for name in later & set(document(method=m))] == []
    assert document(method="partial") == document(method="partial", options={"last": 2})  # a default, written out
    assert document(method="partial")["options"] == {"last": 2, "blocks": None}
    assert "first_version" not in document(method="peft-ft")
    assert document(method="knn")["method_version"] == 2
    assert document(method="peft-ft", options={"first": "ia3"})["first_version"] == 2
    changed = ({"train_embedder": False}, {"train_predictor": False}, {"layer_decay": 0.5}, {"inserted_lr": 1e-2})
    assert all(document(**one)[name] == value for one in changed for name, value in one.items())


def test_a_body_that_lacks_what_a_method_needs_is_found_without_its_weights() -> None:
    with pytest.raises(InputError, match="'bitfit' finds nothing in this body to train"):
        MethodChoice(name="bitfit").try_on(tiny_config("modernbert").to_dict())
    with pytest.raises(InputError, match="the body has 2 blocks, numbered from 0"):
        MethodChoice(name="partial", options={"last": 5}).try_on(tiny_config("bert").to_dict())
    MethodChoice(name="bitfit").try_on(tiny_config("bert").to_dict())


@every_method
@every_family
def test_the_models_groups_are_an_ordered_complete_partition(family: str, name: str) -> None:
    model, _ = equipped(name, family)
    groups = model.layer_groups()
    names = [g.name for g in groups if g.name != "inserted"]
    assert (names[0], names[1], names[-1]) == ("embedder", "block.0", "head")
    counted = [id(p) for g in groups for p in g.parameters()]
    assert len(counted) == len(set(counted))
    assert set(counted) == {id(p) for p in model.parameters()}


def test_learning_rates_and_decay_follow_groups_and_dimensions() -> None:
    model = tiny_adapted()
    config = FinetuneConfig(lr=1e-5, embedder_lr=2e-5, head_lr=3e-5, weight_decay=0.3)
    optimizer = make_optimizer(MethodChoice(name="full").apply(model.layer_groups()), config)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        lr = {"embedder": 2e-5, "predictor": 3e-5}.get(name.split(".")[0], 1e-5)
        assert rate[id(parameter)] == (lr, 0.3 if parameter.ndim > 1 else 0.0), name


def test_the_rows_of_ia3_are_vectors_and_do_not_decay() -> None:
    model, choice = equipped("ia3")
    optimizer = make_optimizer(choice.apply(model.layer_groups()), FinetuneConfig(method="ia3"))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    scales = [p for n, p in model.named_parameters() if ".ia3_" in n]
    assert MethodChoice(name="lora").decays
    assert not MethodChoice(name="peft-ft", options={"first": "ia3"}).decays
    assert {p.ndim for p in scales} == {2}
    assert {decay[id(p)] for p in scales} == {0.0}
    assert decay[id(model.get_parameter("predictor.linear.weight"))] > 0


def test_the_rate_of_a_block_is_a_share_of_the_next_ones() -> None:
    config = FinetuneConfig(lr=1e-2, layer_decay=0.5)
    optimizer = make_optimizer(MethodChoice(name="full").apply(tiny_adapted("classes", "gpt2").layer_groups()), config)
    rates = [group["peak"] for group in optimizer.param_groups if group["weight_decay"]]
    assert rates == [1e-3, 5e-3, 1e-2, 1e-3]  # embedder, two blocks, head
    assert optimizer.param_groups[-3]["peak"] == 1e-2  # the final norm
