"""Every method on tiny bodies of vision: what trains, where it starts, that it is folded in, stored and rebuilt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from orca.batches import to_batch
from orca.bodies import BodyConfig, load_body, locate_body
from orca.errors import InputError
from orca.finetuning import FinetuneConfig
from orca.methods import METHODS, Method, MethodChoice, Neighbours
from orca.model import AdaptedModel
from orca.modelspec import Base
from orca.train import loss_of, make_optimizer
from orca.types import Examples
from tests.test_inserted import perturbed
from tests.test_methods import MARKS, choice_of
from tests.test_vision import adapted, families
from tests.tiny import save_tiny_body, tiny_config

ABLE = [method for method in METHODS if method.insertion is None or method.insertion.vision]
every_method = pytest.mark.parametrize("method", ABLE, ids=lambda method: method.name)
X = np.random.default_rng(1).normal(size=(6, 2, 9, 7)).astype(np.float32)


def equipped(family: str, method: str) -> AdaptedModel:
    model = adapted(family)
    torch.manual_seed(0)
    model.equip(choice_of(method), rows=6)
    return model


@families
@every_method
def test_what_trains_gets_a_gradient_and_it_alone_moves(family: str, method: Method) -> None:
    model, choice = equipped(family, method.name), choice_of(method.name)
    data = Examples(X, np.arange(6) % 3)
    for phase in range(len(choice.phases)):
        chosen = choice.apply(model.layer_groups(), phase)
        wanted = {id(p) for part in chosen.values() for p in part}
        assert {id(p) for p in model.parameters() if p.requires_grad} == wanted
        x, y, _ = to_batch(data, list(range(6)), torch.device("cpu"))
        loss_of(model(x), y, "classes").backward()
        assert {id(p) for p in model.parameters() if p.grad is not None} == wanted
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        make_optimizer(chosen, FinetuneConfig(method=method.name, lr=0.1)).step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved
        assert moved <= {name for name, p in model.named_parameters() if id(p) in wanted}
        model.zero_grad()


@families
@pytest.mark.parametrize("name", ["lora", "ia3", "adapter"])
def test_what_is_inserted_is_in_every_block_and_changes_nothing_at_first(family: str, name: str) -> None:
    model = adapted(family)
    before = model.scores(X)
    model.equip(choice_of(name))
    assert np.array_equal(model.scores(X), before)
    for group in model.encoder.layer_groups():
        inside = [n for module in group.modules for n, _ in module.named_parameters() if MARKS[name] in f".{n}"]
        assert bool(inside) == group.name.startswith("block.")


@families
@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_merging_changes_nothing_beyond_rounding_and_leaves_plain_layers(family: str, name: str) -> None:
    model, plain = perturbed(equipped(family, name)), adapted(family)
    before = model(torch.from_numpy(X)).detach()
    model.merge()
    assert (before - plain(torch.from_numpy(X))).abs().max() > 1e-3
    torch.testing.assert_close(model(torch.from_numpy(X)), before, atol=1e-5, rtol=1e-4)
    assert set(model.state_dict()) == set(plain.state_dict())


@families
@every_method
def test_the_trained_part_alone_gives_the_same_predictions(family: str, method: Method, tmp_path: Path) -> None:
    if not method.pretrained:
        return
    config = BodyConfig(name=str(save_tiny_body(tmp_path / "body", family)))
    files, model = locate_body(config), adapted(family)
    model.encoder.load_state_dict(load_body(config, files=files).encoder.state_dict())
    model.equip(choice_of(method.name), base=Base(name=config.name, sha256=files.sha256), rows=6)
    if isinstance(model.predictor, Neighbours):
        model.predictor.remember(torch.randn(6, model.encoder.width), torch.arange(6) % 3)
    perturbed(model).save_pretrained(tmp_path / "part", trained_only=True)
    assert np.array_equal(AdaptedModel.from_pretrained(tmp_path / "part").scores(X), model.scores(X))


@pytest.mark.parametrize("name", ["prompt", "prefix"])
@families
def test_what_is_for_a_line_of_words_is_refused(family: str, name: str) -> None:
    for choice in (MethodChoice(name=name), MethodChoice(name="peft-ft", options={"first": name})):
        with pytest.raises(InputError, match=f"'{name}' is for bodies of language; for one of vision choose .*lora, "):
            choice.try_on(tiny_config(family).to_dict())
