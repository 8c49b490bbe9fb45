"""Every family of bodies on a tiny random model; the packaged body against its checksum."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from orca.bodies import BODIES, FAMILIES, Body, BodyConfig, build_encoder, load_body, locate_body, weights
from orca.errors import InputError
from tests.tiny import save_tiny_body, tiny_body, tiny_model

families = pytest.mark.parametrize("family", list(FAMILIES))


def ids_and_mask() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 64, (3, 9), generator=draw)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 6:] = mask[2, 2:] = False
    return ids.masked_fill(~mask, 1), mask


@families
def test_encode_of_own_embeddings_equals_the_ordinary_forward(family: str) -> None:
    model, (ids, mask) = tiny_model(family), ids_and_mask()
    body = Body(model).eval()
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        got = body.encode(body.embed(ids, mask), mask)
        whole = model(input_ids=ids[:1]).last_hidden_state
        unmasked = body.encode(body.embed(ids[:1], mask[:1]))
    torch.testing.assert_close(got[mask], wanted[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(unmasked, whole, atol=1e-5, rtol=0)


@families
def test_groups_are_an_ordered_complete_partition(family: str) -> None:
    body = tiny_body(family)
    groups = body.layer_groups()
    names = [group.name for group in groups]
    counted = [id(p) for group in groups for p in group.parameters()]
    assert names[:3] == ["embeddings", "block.0", "block.1"]
    assert names[3:] == (["norm"] if FAMILIES[family].final_norm else [])
    assert len(counted) == len(set(counted))
    assert set(counted) == {id(p) for p in body.parameters()}


@families
def test_nothing_of_the_model_is_lost(family: str) -> None:
    model = tiny_model(family)
    assert {id(p) for p in model.parameters()} == {id(p) for p in Body(model).parameters()}


@families
def test_gradients_reach_every_parameter(family: str) -> None:
    body, (ids, mask) = tiny_body(family), ids_and_mask()
    body.encode(body.embed(ids, mask), mask)[mask].square().sum().backward()
    without = [name for name, p in body.named_parameters() if p.grad is None]
    assert without == []


@families
def test_masked_tokens_change_nothing(family: str) -> None:
    body, (ids, mask) = tiny_body(family), ids_and_mask()
    tokens = body.embed(ids, mask).detach()
    with torch.no_grad():
        noisy = tokens + 10 * torch.randn(tokens.shape) * ~mask.unsqueeze(-1)
        a, b = body.encode(tokens, mask), body.encode(noisy, mask)
    torch.testing.assert_close(a[mask], b[mask], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("causal", "leaks"), [(None, False), (True, False), (False, True)])
def test_causal_attention_is_a_choice(causal, leaks) -> None:
    body = tiny_body("gpt2", causal=causal)
    tokens = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, -1] = torch.arange(16.0)
    with torch.no_grad():
        moved = (body.encode(tokens) - body.encode(changed)).abs()[:, :-1].max()
    assert (moved > 1e-6) == leaks


@families
def test_a_saved_folder_loads_by_path_and_from_its_configuration(family: str, tmp_path) -> None:
    folder = save_tiny_body(tmp_path / family, family)
    body, (ids, mask) = load_body(BodyConfig(name=str(folder))), ids_and_mask()
    wanted = Body(tiny_model(family)).eval()
    with torch.no_grad():
        features = wanted.encode(wanted.embed(ids, mask), mask)
        torch.testing.assert_close(body.encode(body.embed(ids, mask), mask), features)
        rebuilt = build_encoder(body.encoder.config.to_dict()).eval()
        rebuilt.load_state_dict(body.encoder.state_dict())
        torch.testing.assert_close(rebuilt(body.embed(ids, mask), mask), body.encode(body.embed(ids, mask), mask))
    assert body.tokenizer is not None


def test_random_weights_follow_the_seed_and_leave_the_global_state(tmp_path) -> None:
    config = BodyConfig(name=str(save_tiny_body(tmp_path)))
    state = torch.get_rng_state()
    one, same, other = (load_body(config, random_seed=s).embeddings.words.weight for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())


def test_dropout_is_set_in_every_block(tmp_path) -> None:
    body = load_body(BodyConfig(name=str(save_tiny_body(tmp_path)), dropout=0.25))
    assert {m.p for m in body.encoder.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}


def test_the_packaged_body_has_its_checksum_and_resolved_origin() -> None:
    files = locate_body(BodyConfig())
    assert (
        files.sha256
        == BODIES.get("minilm").sha256
        == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    body = load_body(files=files)
    assert (body.width, len(body.encoder.blocks)) == (384, 6)


def test_damaged_packaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataclasses.replace(BODIES.get("minilm"), sha256="0" * 64)
    with pytest.raises(InputError, match="damaged or changed: sha256 53aa.*expected 0000.*reinstall"):
        weights._from_package(spec)


def test_absent_weights_name_the_ways_to_get_them() -> None:
    with pytest.raises(InputError, match="roberta-base.*not on this machine.*--online.*local folder.*hub cache"):
        locate_body(BodyConfig(name="roberta-base"))


def test_online_against_the_hubs_own_switch_is_an_error() -> None:
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        locate_body(BodyConfig(name="gpt2"), online=True)


def test_an_unknown_body_lists_the_near_names() -> None:
    with pytest.raises(InputError, match="no body 'robertabase'; did you mean roberta-base"):
        locate_body(BodyConfig(name="robertabase"))


def test_a_folder_that_is_no_body_says_what_it_lacks(tmp_path) -> None:
    with pytest.raises(InputError, match=r"lacks config.json and model.safetensors.*safetensors"):
        locate_body(BodyConfig(name=str(tmp_path)))


def test_an_unsupported_type_lists_the_supported_ones(tmp_path) -> None:
    folder = save_tiny_body(tmp_path / "t")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(InputError, match="type 't5'; supported are bert, roberta"):
        locate_body(BodyConfig(name=str(folder)))


def test_weights_of_another_model_are_refused(tmp_path) -> None:
    folder, other = save_tiny_body(tmp_path / "bert"), save_tiny_body(tmp_path / "gpt2", "gpt2")
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(InputError, match="belong to another model"):
        load_body(BodyConfig(name=str(folder)))
