"""What methods put into a body: where it starts, that it is folded in, stored alone and rebuilt."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from orca.bodies import FAMILIES, Body, BodyConfig, load_body, locate_body
from orca.errors import InputError
from orca.methods import METHODS, MethodChoice, Neighbours, Origin
from orca.model import AdaptedModel
from orca.modelspec import Base
from tests.test_methods import FIRSTS, LACKS, MARKS, choice_of, equipped
from tests.tiny import LAYOUTS, save_tiny_body, tiny_adapted, tiny_body, tiny_config, tiny_examples

every_family = pytest.mark.parametrize("family", list(FAMILIES))
X, LENGTH = torch.from_numpy(tiny_examples("classes", 5).x), torch.tensor([12, 5, 9, 1, 12])
UNCHANGED = ("lora", "ia3", "adapter", "partial", "bitfit", "layernorm", "full", "head", "lp-ft", "peft-ft")


def perturbed(model: AdaptedModel) -> AdaptedModel:
    """The model as some training leaves it: all that trains has moved."""
    method = model.spec.method
    assert method is not None
    for phase in range(len(method.phases)):
        for part in method.apply(model.layer_groups(), phase).values():
            for parameter in part:
                parameter.data += 0.05 * torch.randn_like(parameter)
    return model.requires_grad_(True).eval()  # noqa: FBT003 - a convolution rounds otherwise where its weights are frozen


@every_family
@pytest.mark.parametrize("name", UNCHANGED)
def test_a_method_starts_at_the_pretrained_function(name: str, family: str) -> None:
    model = tiny_adapted("classes", family).eval()
    full, short = model(X), model(X, LENGTH)
    model.equip(choice_of(name))
    assert torch.equal(model.eval()(X), full)
    assert torch.equal(model(X, LENGTH), short)


@every_family
@pytest.mark.parametrize("name", ["lora", "ia3", "peft-ft:lora", "peft-ft:ia3"])
def test_merging_changes_nothing_beyond_rounding_and_leaves_plain_layers(name: str, family: str, tmp_path) -> None:
    model = perturbed(equipped(name, family)[0])
    before, untouched = model(X, LENGTH).detach(), tiny_adapted("classes", family).eval()(X, LENGTH)
    model.merge()
    assert (before - untouched).abs().max() > 1e-3
    torch.testing.assert_close(model(X, LENGTH), before, atol=1e-5, rtol=1e-4)
    assert set(model.state_dict()) == set(tiny_adapted("classes", family).state_dict())
    model.save_pretrained(tmp_path)
    assert torch.equal(AdaptedModel.from_pretrained(tmp_path)(X, LENGTH), model(X, LENGTH))


@pytest.mark.parametrize("name", [m.name for m in METHODS if m.pretrained and m.insertion is None])
def test_where_nothing_was_inserted_merging_leaves_a_model_that_loads_as_it_was(name: str, tmp_path) -> None:
    model = based(name, "bert", tmp_path / "body")
    spec = model.spec
    model.merge()
    assert model.spec == spec
    model.save_pretrained(tmp_path / "merged")
    x = tiny_examples("classes", 6).x
    assert np.array_equal(AdaptedModel.from_pretrained(tmp_path / "merged").scores(x), model.scores(x))


@pytest.mark.parametrize("name", ["prompt", "prefix", "adapter"])
def test_what_cannot_be_folded_in_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"what '{name}' inserts cannot be folded into the body's weights"):
        equipped(name)[0].merge()


def based(name: str, family: str, folder: Path) -> AdaptedModel:
    """A tiny model of a body that is stored in a folder."""
    save_tiny_body(folder, family)
    files = locate_body(BodyConfig(name=str(folder)))
    model = tiny_adapted("classes", family)
    model.encoder.load_state_dict(load_body(BodyConfig(name=str(folder)), files=files).encoder.state_dict())
    model.equip(choice_of(name), base=Base(name=str(folder), sha256=files.sha256), rows=9)
    if isinstance(model.predictor, Neighbours):
        model.predictor.remember(torch.randn(9, 16), torch.arange(9) % 3)
    return perturbed(model)


@every_family
@pytest.mark.parametrize("name", [*(m.name for m in METHODS if m.pretrained), *(f"peft-ft:{name}" for name in FIRSTS)])
def test_the_trained_part_alone_gives_the_same_predictions_bit_for_bit(name: str, family: str, tmp_path) -> None:
    if (name.removeprefix("peft-ft:"), family) in LACKS:
        return
    model = based(name, family, tmp_path / "body")
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "part", trained_only=True)
    whole, part = (AdaptedModel.from_pretrained(tmp_path / kind) for kind in ("whole", "part"))
    x = tiny_examples("classes", 6).x
    assert np.array_equal(part.scores(x), model.scores(x))
    assert np.array_equal(whole.scores(x), model.scores(x))
    assert part.spec == whole.spec
    assert sorted(p.name for p in (tmp_path / "part").iterdir()) == ["config.json", "trained.safetensors"]


def test_the_trained_part_is_small(tmp_path) -> None:
    based("lora", "bert", tmp_path / "body").save_pretrained(tmp_path, trained_only=True)
    from safetensors import safe_open

    with safe_open(tmp_path / "trained.safetensors", framework="pt") as file:
        inside = [name for name in file.keys() if name.startswith("encoder.")]  # noqa: SIM118
    assert all(".lora_" in name for name in inside)
    assert inside


def test_a_part_without_its_body_is_refused(tmp_path) -> None:
    model = based("head", "bert", tmp_path / "body")
    model.save_pretrained(tmp_path / "part", trained_only=True)
    save_tiny_body(tmp_path / "body", "bert", seed=1)
    with pytest.raises(InputError, match="are not those that the model was made from"):
        AdaptedModel.from_pretrained(tmp_path / "part")
    with pytest.raises(InputError, match="does not know where the weights that did not train are from; save it whole"):
        equipped("head")[0].save_pretrained(tmp_path / "none", trained_only=True)
    assert not (tmp_path / "none").exists()


def test_a_model_stored_before_methods_were_kept_with_it_is_read(tmp_path) -> None:
    model = tiny_adapted().eval()
    model.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if k not in ("method", "base")}))
    assert torch.equal(AdaptedModel.from_pretrained(tmp_path)(X), model(X))


@every_family
@pytest.mark.parametrize("name", sorted(MARKS))
def test_inserted_modules_hide_no_padding_and_reveal_none(name: str, family: str) -> None:
    """The features of a short sequence are the same alone, and among longer ones."""
    model = perturbed(equipped(name, family)[0])
    together = model(X, LENGTH)
    for row, length in enumerate(LENGTH.tolist()):
        alone = model(X[row : row + 1, :, :length], LENGTH[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-4)


@every_family
def test_a_deep_copy_is_a_model_of_its_own(family: str) -> None:
    for name in MARKS:
        model = equipped(name, family)[0].eval()
        before = model(X)
        perturbed(copy.deepcopy(model))
        assert torch.equal(model(X), before)


def test_learned_keys_and_values_are_what_attention_reads_beside_the_inputs() -> None:
    model = perturbed(equipped("prefix")[0])
    attention = model.encoder.blocks[0].get_submodule("attention.self")
    x = torch.randn(2, 5, 16)
    own, heads = attention.prefix, lambda t: t.unflatten(-1, (2, 8)).transpose(1, 2)  # (B, H, T, 8)
    query, key, value = (heads(getattr(attention, name)(x)) for name in ("query", "key", "value"))
    key = torch.cat([own.keys.expand(2, -1, -1, -1), key], 2)
    value = torch.cat([own.values.expand(2, -1, -1, -1), value], 2)
    wanted = ((query @ key.mT / 8**0.5).softmax(-1) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x)[0], wanted, atol=1e-6, rtol=1e-5)


def test_an_adapter_stands_before_the_residual_of_both_sublayers() -> None:
    model = perturbed(equipped("adapter")[0])
    last = model.encoder.blocks[1].get_submodule("output.dense")
    x, own = torch.randn(2, 24), last.adapter
    plain: Tensor = torch.nn.functional.linear(x, last.weight, last.bias)
    assert torch.allclose(last(x), plain + own.up(torch.nn.functional.gelu(own.down(plain))))
    assert sum(name.endswith("adapter.up.weight") for name, _ in model.named_parameters()) == 4


def started(body: Body, classes: tuple[str, ...] = (), **options: Any) -> Tensor:
    MethodChoice(name="prompt", options=options).insert(body.encoder, Origin(lambda: body, classes))
    return body.encoder.get_parameter("inserted.prompt.tokens")


def embedded(body: Body, words: list[str], place: int = 0) -> Tensor:
    """Embeddings of words, each at a place, the first of them special."""
    rows = torch.tensor([body.tokenizer.convert_tokens_to_ids(["w9"] * place + words)])
    return body.embed(rows, torch.ones_like(rows, dtype=torch.bool))[0, place:]


@every_family
def test_a_prompt_starts_from_words_of_the_body_names_of_the_classes_or_noise(family: str) -> None:
    body = tiny_body(family)
    words = torch.stack([body.embed(torch.full((1, 3), i), torch.ones(1, 3, dtype=torch.bool))[0] for i in range(64)])
    tokens = started(body, tokens=3)
    distance = (words[:, :1] - tokens).norm(dim=-1).min(0)  # each at the first position
    assert distance.values.max() < 1e-5
    assert distance.indices.min() > 3  # none of the special tokens
    body = tiny_body(family)
    names = started(body, ("w5", "w6 w7"), tokens=3, start="labels")
    torch.testing.assert_close(names[0], embedded(body, ["w5"])[0])
    torch.testing.assert_close(names[1], embedded(body, ["w6", "w7"]).mean(0))
    noise = started(tiny_body(family), tokens=40, start="noise")
    assert 0.015 < noise.std() < 0.025


@every_family
def test_a_prompt_may_be_longer_than_the_body_has_positions_or_words(family: str) -> None:
    assert started(tiny_body(family), tokens=90).shape == (90, 16)
    names = started(tiny_body(family), ("", "w5"), tokens=70, start="labels")  # the first has no token
    torch.testing.assert_close(names[0], embedded(tiny_body(family), ["w5"])[0])
    assert started(tiny_body(family), ("",), tokens=5, start="labels").shape == (5, 16)


def test_a_prompt_of_names_needs_names_which_is_told_before_any_work() -> None:
    prompt = MethodChoice(name="prompt", options={"start": "labels"})
    with pytest.raises(InputError, match="start is labels, but the task names no classes; choose words or noise"):
        prompt.check_task(LAYOUTS["field"])
    prompt.check_task(replace(LAYOUTS["classes"], classes=("up", "down")))
    first = MethodChoice(name="peft-ft", options={"first": "prompt", "options": {"start": "labels"}})
    with pytest.raises(InputError, match="start is labels, but the task names no classes"):
        first.check_task(LAYOUTS["field"])


def test_lora_changes_the_chosen_projections_alone_and_fused_ones_once() -> None:
    def changed(family: str, *targets: str) -> set[str]:
        model = tiny_adapted("classes", family)
        model.equip(MethodChoice(name="lora", options={"targets": targets, "rank": 2}))
        return {n.split(".lora_")[0] for n, p in model.named_parameters() if ".lora_A" in n and p.shape[0] == 2}

    assert changed("bert", "key", "up") == {
        f"encoder.blocks.{i}.{name}" for i in (0, 1) for name in ("attention.self.key", "intermediate.dense")
    }
    assert changed("gpt2", "query", "value") == {f"encoder.blocks.{i}.attn.c_attn" for i in (0, 1)}


def test_a_family_that_does_not_say_where_its_parts_are_is_refused(monkeypatch) -> None:
    import dataclasses

    monkeypatch.setitem(FAMILIES, "bert", dataclasses.replace(FAMILIES["bert"], value=""))
    with pytest.raises(InputError, match="bodies of the family bert have no value that a method can use"):
        MethodChoice(name="lora").try_on(tiny_config("bert").to_dict())
