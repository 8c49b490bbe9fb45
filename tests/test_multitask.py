"""Many tasks on one body: each answers as its run alone would, and the body's weights are there once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import orca
import orca.shared_body
from benchmarks import multitask as benchmark
from orca.bodies import FAMILIES, BodyConfig, Encoder, load_body, locate_body
from orca.build import EmbedConfig, training_statistics
from orca.errors import InputError
from orca.methods import METHODS, Neighbours
from orca.model import AdaptedModel
from orca.modelspec import Base
from orca.multitask import MultiTask, passes
from orca.tasks.encodings import SequenceEncoding
from orca.types import Examples, Layout
from tests.test_inserted import perturbed
from tests.test_methods import choice_of
from tests.test_vision import adapted as vision_adapted
from tests.tiny import LAYOUTS, save_tiny_body, tiny_adapted, tiny_body, tiny_examples

REFUSED = ("full", "scratch", "partial", "lp-ft", "peft-ft")
SERVED = [name for name in METHODS.names() if name not in REFUSED]
PAIRS = [(method, "bert") for method in SERVED]  # and of each family a method at its ends, and ones inside it
PAIRS += [(method, family) for family in FAMILIES if family != "bert" for method in ("prompt", "prefix", "lora")]
MODALITIES = ("classes", "scalar", "field")  # sequences, tables, grids


def store(
    place: Path, method: str, target: str = "classes", family: str = "bert", *, part: bool, **changes: Any
) -> Path:
    """The folder of a model of a body that lies in the same place, saved whole or as its trained part."""
    body = place / f"body-{family}"
    if not body.is_dir():
        save_tiny_body(body, family)
    files = locate_body(BodyConfig(name=str(body)))
    model = tiny_adapted(target, family, seed=len(list(place.iterdir())))
    model.encoder.load_state_dict(load_body(BodyConfig(name=str(body)), files=files).encoder.state_dict())
    return save(place, model, method, base=Base(name=str(body), sha256=files.sha256), part=part, **changes)


def save(place: Path, model: AdaptedModel, method: str, *, base: Base | None, part: bool, **changes: Any) -> Path:
    model.equip(choice_of(method), base=base, rows=9)
    if isinstance(model.predictor, Neighbours):
        outputs = torch.arange(9) % 3 if model.layout.target == "classes" else torch.randn(9, model.predictor.outputs)
        model.predictor.remember(torch.randn(9, model.encoder.width), outputs)
    perturbed(model)
    model.spec = model.spec.model_copy(update=changes)
    folder = place / f"{method}-{model.layout.target}-{len(list(place.iterdir()))}"
    model.save_pretrained(folder, trained_only=part)
    return folder


def requests_of(names: Sequence[str], targets: Sequence[str], seed: int = 0) -> list[Any]:
    """Some samples of each task, in a mixed order; sequences of several lengths, with and without saying so."""
    made: list[Any] = []
    for number in range(3):
        for name, target in zip(names, targets, strict=True):
            x = tiny_examples(target, number + 1, seed + number).x
            if target == "classes" and number == 1:
                made.append((name, x, np.array([5, 12])))
            elif target == "classes" and number == 2:
                made.append((name, x[..., :7]))
                made.append((name, np.tile(x, 3), np.array([20, 36, 5])))  # longer than in training
            else:
                made.append((name, x))
    return made


def check_equal(served: MultiTask, folders: Sequence[Path], requests: Sequence[Any], **options: Any) -> None:
    alone = {name: orca.load(folder) for name, folder in zip(served.names, folders, strict=True)}
    for (name, *given), scores in zip(requests, served.scores(requests, **options), strict=True):
        wanted = alone[name].scores(*given)
        assert scores.shape == wanted.shape
        assert scores.dtype == wanted.dtype
        np.testing.assert_allclose(scores, wanted, atol=1e-5, rtol=1e-5)


def shared_with(served: MultiTask, model: nn.Module) -> tuple[int, int]:
    """How many parameters of a model's encoder are those of the body, at the same place in memory, and how many not."""
    body = {p.data_ptr() for p in served.body.parameters()}
    encoder = model.encoder
    assert isinstance(encoder, nn.Module)
    places = [p.data_ptr() in body for p in encoder.parameters()]
    return sum(places), len(places) - sum(places)


@pytest.mark.parametrize(("method", "family"), PAIRS)
def test_tasks_of_several_modalities_answer_as_each_run_alone(method: str, family: str, tmp_path) -> None:
    able = METHODS.get(method).targets
    targets = [target for target in MODALITIES if not able or target in able]
    folders = [store(tmp_path, method, target, family, part=i != 1) for i, target in enumerate(targets)]
    served = MultiTask(folders, names=targets)
    check_equal(served, folders, requests_of(targets, targets))
    for model in served.models:
        same, own = shared_with(served, model)
        everything = len(list(served.body.parameters()))
        assert everything / 3 <= same < everything if method in ("bitfit", "layernorm") else same == everything
        assert (own > 0) == (method not in ("head", "knn"))


def test_all_methods_at_once_in_any_order_and_batch(tmp_path) -> None:
    folders = [store(tmp_path, method, part=bool(i % 2)) for i, method in enumerate(SERVED)]
    served = orca.MultiTask(folders, names=SERVED)
    requests = requests_of(SERVED, ["classes"] * len(SERVED))
    mixed = [requests[i] for i in np.random.default_rng(0).permutation(len(requests))]
    check_equal(served, folders, mixed)
    check_equal(served, folders, mixed, batch_size=4)
    predicted, likely = served.predict(mixed), served.predict_proba(mixed)
    for (name, *given), classes, share in zip(mixed, predicted, likely, strict=True):
        alone = orca.load(folders[SERVED.index(name)])
        assert np.array_equal(classes, alone.predict(*given))
        np.testing.assert_allclose(share, alone.predict_proba(*given), atol=1e-5)


def test_the_body_is_in_memory_once_and_each_task_adds_what_its_file_holds(tmp_path) -> None:
    methods = [name for name in SERVED if name != "knn"] + ["head", "lora"]  # knn keeps data, not parameters
    folders = [store(tmp_path, method, part=True) for method in methods]
    served = MultiTask(folders, names=[str(i) for i in range(len(methods))])
    held = {p.data_ptr(): p.numel() for model in (served.body, *served.models) for p in model.parameters()}
    own = 0
    for folder, model in zip(folders, served.models, strict=True):
        parameters = {name for name, _ in model.named_parameters()}
        own += sum(t.numel() for name, t in load_file(folder / "trained.safetensors").items() if name in parameters)
    assert sum(held.values()) == sum(p.numel() for p in served.body.parameters()) + own


def test_tasks_that_leave_the_blocks_alone_share_one_pass(tmp_path, monkeypatch) -> None:
    methods, targets = ["head", "knn", "prompt", "lora"], ["field", "classes", "scalar", "classes"]
    folders = [store(tmp_path, *pair, part=True) for pair in zip(methods, targets, strict=True)]
    served, rows, plain = MultiTask(folders, names=methods), [], Encoder.forward

    def forward(encoder: Encoder, tokens: torch.Tensor, *given: Any) -> torch.Tensor:
        rows.append((encoder is served.body, len(tokens)))
        return plain(encoder, tokens, *given)

    monkeypatch.setattr(Encoder, "forward", forward)
    monkeypatch.setitem(orca.multitask.SPARE, "cpu", 10_000)
    requests = requests_of(methods, targets)
    served.scores(requests)
    assert sorted(rows) == [(False, 9), (True, 21)]
    monkeypatch.undo()
    check_equal(served, folders, requests)


@pytest.mark.parametrize("target", [target for target in LAYOUTS if target != "classes"])
def test_answers_of_every_kind_are_those_of_the_run(target: str, tmp_path) -> None:
    folders = [store(tmp_path, "head", part=True), store(tmp_path, "prompt", target, part=True)]
    served, x = MultiTask(folders, names=["one", "two"]), tiny_examples(target, 5).x
    (_, made), alone = served.predict([("one", tiny_examples("classes", 2).x), ("two", x)]), orca.load(folders[1])
    np.testing.assert_allclose(made, alone.predict(x), atol=1e-5, rtol=1e-5)
    assert made.dtype == alone.predict(x).dtype
    if target in ("scalar", "field"):
        with pytest.raises(InputError, match=f"request [0-9]+, of '.*': a {target} has no probabilities"):
            served.predict_proba([("two", x)])


def test_answers_are_averaged_over_the_views_that_the_run_averages(tmp_path) -> None:
    folders = [store(tmp_path, "head", part=True, average=("reverse_complement",)), store(tmp_path, "lora", part=True)]
    served = MultiTask(folders, names=["both", "plain"])
    requests = requests_of(served.names, ["classes"] * 2)
    check_equal(served, folders, requests)


def test_a_fields_end_is_that_of_its_request_alone(tmp_path) -> None:
    layout, draw = Layout("sequence", "field", (1, 12), (1, 12)), np.random.default_rng(0)
    x = draw.normal(size=(4, 1, 12)).astype(np.float32)
    model = AdaptedModel.build(
        tiny_body(), training_statistics(Examples(x, x), layout), task="tiny", layout=layout,
        encoding=SequenceEncoding(), config=EmbedConfig(tokens=6),
    )  # fmt: skip
    folders = [save(tmp_path, model, "head", base=None, part=False)]
    requests = [("one", x[:2], np.array([5, 3])), ("one", x[2:], np.array([12, 7])), ("one", x[:1])]
    check_equal(MultiTask(folders, names=["one"]), folders, requests)


@pytest.mark.parametrize("family", ["swin", "vit"])
@pytest.mark.parametrize("method", ["head", "layernorm"])
def test_bodies_of_vision_serve_grids_of_several_sizes(method: str, family: str, tmp_path) -> None:
    first = vision_adapted(family)
    folders = [save(tmp_path, first, "head", base=None, part=False)]
    second = vision_adapted(family)
    second.encoder.load_state_dict(first.encoder.state_dict())
    folders.append(save(tmp_path, second, method, base=None, part=False))
    served, draw = MultiTask(folders, names=["one", "two"]), np.random.default_rng(0)
    side = first.layout.input_shape
    small = (side[0], side[1] // 2, side[2])
    shapes = [(name, shape) for shape in (side, small) for name in ("one", "two", "one")]
    check_equal(served, folders, [(n, draw.normal(size=(2, *shape)).astype(np.float32)) for n, shape in shapes])


def test_the_weights_are_there_once_and_stay_shared_when_moved(tmp_path, monkeypatch) -> None:
    loaded, plain = [], orca.shared_body.body_weights
    monkeypatch.setattr(
        orca.shared_body, "body_weights", lambda *given, **more: loaded.append(1) or plain(*given, **more)
    )
    folders = [store(tmp_path, method, part=True) for method in ("bitfit", "lora", "head", "layernorm", "lora")]
    served = MultiTask(folders, names=["a", "b", "c", "d", "e"])
    assert len(loaded) == 1
    everything = len(list(served.body.parameters()))
    for _ in range(2):
        told = [shared_with(served, model) for model in served.models]
        assert told[2] == (everything, 0)
        assert all(same + own == everything for same, own in (told[0], told[3]))
        assert told[1] == told[4] == (everything, 8)  # two maps of two projections in two blocks
        served.double()
    assert not any(p.requires_grad for p in served.parameters())


def test_a_run_whose_base_is_gone_is_served_from_its_own_file_and_compared(tmp_path) -> None:
    folders = [store(tmp_path, "bitfit", part=False), store(tmp_path, "head", part=False)]
    for file in (tmp_path / "body-bert").iterdir():
        file.unlink()
    check_equal(MultiTask(folders, names=["a", "b"]), folders, requests_of(["a", "b"], ["classes"] * 2))


@pytest.mark.parametrize("method", REFUSED)
def test_a_run_that_changed_much_of_the_body_is_refused(method: str, tmp_path) -> None:
    folders = [store(tmp_path, "head", part=False), store(tmp_path, method, part=False)]
    with pytest.raises(InputError, match=r"the run 'b' changed \d+% of the body's weights.*'" + method) as told:
        MultiTask(folders, names=["a", "b"])
    assert "orca.load" in str(told.value)


def test_runs_of_other_bodies_are_refused(tmp_path) -> None:
    first, whole = store(tmp_path, "head", part=True), store(tmp_path, "lora", part=False)
    save_tiny_body(tmp_path / "another" / "body-bert", seed=1)
    for part in (True, False):
        other = store(tmp_path / "another", "layernorm", part=part)
        with pytest.raises(InputError, match="the body of 'b' has other weights than that of 'a', first in blocks"):
            MultiTask([first, whole, other], names=["a", "c", "b"])
    raw = json.loads((whole / "config.json").read_text())
    for change in ({"num_attention_heads": 4}, {"hidden_act": "relu"}):
        (whole / "config.json").write_text(json.dumps({**raw, "body": {**raw["body"], **change}}))
        with pytest.raises(InputError, match="'b' has another architecture than that of 'a'"):
            MultiTask([first, whole], names=["a", "b"])
    (whole / "config.json").write_text(json.dumps({**raw, "causal": True}))
    with pytest.raises(InputError, match="'b' has another architecture than that of 'a'"):
        MultiTask([first, whole], names=["a", "b"])


def test_what_changes_nothing_in_evaluation_makes_no_other_body(tmp_path) -> None:
    folders = [store(tmp_path, "head", part=False), store(tmp_path, "lora", part=False)]
    raw = json.loads((folders[1] / "config.json").read_text())
    told = {"hidden_dropout_prob": 0.0, "_name_or_path": "elsewhere", "transformers_version": "4.0.0"}
    (folders[1] / "config.json").write_text(json.dumps({**raw, "body": {**raw["body"], **told}}))
    check_equal(MultiTask(folders, names=["a", "b"]), folders, requests_of(["a", "b"], ["classes"] * 2))


def test_requests_that_cannot_be_answered_are_told_by_their_number(tmp_path) -> None:
    served = MultiTask([store(tmp_path, "head", part=True), store(tmp_path, "ia3", part=True)], names=["a", "b"])
    good = ("a", tiny_examples("classes", 2).x)
    for bad, message in [
        (("c", good[1]), "request 1 asks for the task 'c'; there are: a, b"),
        (("a", good[1][:, :1]), r"request 1, of 'a': the model takes inputs of shape \(n, 2, 12\)"),
        (("b", good[1] * np.nan), "request 1, of 'b': the input has values that are not finite"),
        (("b", good[1][:0]), "request 1, of 'b': there are no samples"),
        (("b", [[1.0], [1.0, 2.0]]), "request 1, of 'b'"),
        (("b", good[1], np.array([99, 1])), "request 1, of 'b': lengths must be 1..12"),
        (good[1], r"request 1 must be \(name, x\) or \(name, x, length\); got ndarray"),
        (("a",), "request 1 must be"),
    ]:
        with pytest.raises(InputError, match=message):
            served.predict([good, bad])
    assert served.predict([]) == []


def test_runs_are_found_by_name_and_called_by_their_task(tmp_path) -> None:
    for number, task in enumerate(("speech", "images")):
        folder = tmp_path / "runs" / f"{task}-head-s{number}"
        store(tmp_path, "head", part=True, task=task).rename(tmp_path / "model")
        folder.mkdir(parents=True)
        (tmp_path / "model").rename(folder / "model")
        (folder / "run.json").write_text(json.dumps({"run": folder.name, "state": "completed"}))
    served = MultiTask(["speech-head", str(tmp_path / "runs" / "images-head-s1")], store=tmp_path)
    assert served.names == ["speech", "images"]
    with pytest.raises(InputError, match="there is no run 'nothing'"):
        MultiTask(["nothing"], store=tmp_path)
    with pytest.raises(InputError, match="there are two runs of 'speech': give names="):
        MultiTask(["speech-head", "speech"], store=tmp_path)
    with pytest.raises(InputError, match="there are 1 runs and 2 names"):
        MultiTask(["speech"], names=["a", "b"], store=tmp_path)
    for nothing in ("speech", []):
        with pytest.raises(InputError, match="needs a list of runs"):
            MultiTask(nothing, store=tmp_path)


@pytest.mark.parametrize("spare", [0, 3, 1000])
def test_passes_hold_every_row_once_and_no_more_padding_than_is_spared(spare: int) -> None:
    counts = np.random.default_rng(0).integers(1, 9, 40).tolist()
    made = list(passes(counts, spare))
    assert sorted(row for taken in made for row in taken) == list(range(40))
    for taken in made:
        lengths = [counts[row] for row in taken]
        assert sum(max(lengths) - length for length in lengths) <= spare
    assert len(made) == {0: len(set(counts)), 1000: 1}.get(spare, len(made))


def test_the_benchmark_measures_every_way_to_serve(tmp_path) -> None:
    body = save_tiny_body(tmp_path / "body")
    (tmp_path / "runs").mkdir()
    folders = benchmark.make(tmp_path / "runs", str(body), ["head", "lora"], 3)
    names, ways = benchmark.answer_with("shared", folders)
    burst = [
        (name, benchmark.draw(folder.name.split("-")[1], 1, 0)) for name, folder in zip(names, folders, strict=True)
    ]
    alone = benchmark.answer_with("separate", folders)[1]["one by one"](burst)
    for one, other in zip(ways["mixed"](burst), alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for way, ways in (("shared", {"mixed"}), ("separate", {"one by one", "by task"})):
        told = benchmark.serve(way, folders, bursts=1, burst=5)
        assert set(told["rates"]) == ways
        assert told["held_mb"] == benchmark.resident() - told["libraries_mb"]
