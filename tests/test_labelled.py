"""Labelled sets by name, and the records of their distances: what is drawn, from where, in which space and unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from embedders import pool
from orca.bodies import BodyConfig, load_body
from orca.build import training_statistics
from orca.checkpoint import load_tensors
from orca.config import load_config
from orca.errors import InputError
from orca.labelled import (
    COMPARISONS,
    ComparedSet,
    CompareOptions,
    SetOptions,
    compare,
    load_set,
    rank,
    stratified,
)
from orca.labelled.features import Encoded
from orca.plan import plan
from orca.run import embed
from orca.sources import SourceConfig, source_features
from orca.store import Store
from orca.transport import OTDDOptions, otdd
from orca.types import LabeledSet
from tests.test_run import settings, write_data
from tests.tiny import save_tiny_body

DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_body(tmp_path_factory.mktemp("body"))


def config_file(folder: Path, body: Path, **changes: Any) -> str:
    path = folder / "set.yaml"
    path.write_text(yaml.safe_dump(settings(folder, body, **changes)))
    return str(path)


def npz(folder: Path, name: str = "set.npz", **arrays: Any) -> str:
    np.savez(folder / name, **arrays)
    return str(folder / name)


def a_set(name: str, n: int = 30, d: int = 3, *, shift: float = 0.0, seed: int = 0, space: str = "here") -> ComparedSet:
    draw = np.random.default_rng(seed)
    y = torch.arange(n) % 3
    x = torch.from_numpy(draw.normal(size=(n, d)) + 3 * np.eye(max(3, d))[y][:, :d]) + shift
    return ComparedSet(name, LabeledSet(x, y, ("p", "q", "r")), n, space, "classes")


# What is drawn.


@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=80), n=st.integers(4, 60), seed=st.integers(0, 5))
def test_a_part_has_its_size_every_class_and_the_shares_of_the_whole(labels: list[int], n: int, seed: int) -> None:
    y = np.array(labels)
    names, counts = np.unique(y, return_counts=True)
    if n < min(len(names), len(y)):
        with pytest.raises(InputError, match="cannot hold"):
            stratified(y, n, seed=seed)
        return
    rows = stratified(y, n, seed=seed)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == min(n, len(y))
    assert rows.tolist() == stratified(y, n, seed=seed).tolist()
    kept = np.array([(y[rows] == name).sum() for name in names])
    assert (kept >= np.minimum(counts, 2 if n >= 2 * len(names) else 1)).all()
    share = len(rows) * counts / len(y)
    if (np.floor(share) >= 2).all():
        assert (np.abs(kept - share) < 1).all()


def test_another_seed_draws_another_part() -> None:
    y = np.arange(100) % 4
    assert stratified(y, 40, seed=0).tolist() != stratified(y, 40, seed=1).tolist()


# Files.


def test_a_file_gives_its_rows_as_they_are_with_the_names_of_its_labels(tmp_path) -> None:
    x, y = DRAW.normal(size=(6, 2)), np.array(["dog", "cat", "dog", "cow", "cat", "cow"])
    found = load_set(npz(tmp_path, x=x, y=y))
    assert torch.equal(found.data.x, torch.from_numpy(x))  # in float64, as given
    assert [found.data.names[int(k)] for k in found.data.y] == y.tolist()
    assert (found.available, found.space) == (6, "features of a file")


def test_images_are_flattened_and_labels_may_be_any_integers(tmp_path) -> None:
    x = DRAW.integers(0, 255, size=(8, 2, 3)).astype(np.uint8)
    found = load_set(npz(tmp_path, x_train=x, y_train=np.array([-1, 7] * 4), x_test=x), SetOptions(samples=4))
    assert (found.data.x.dtype, tuple(found.data.x.shape)) == (torch.float32, (4, 6))
    assert found.data.names == ("-1", "7")
    assert torch.bincount(found.data.y).tolist() == [2, 2]
    assert found.available == 8


def test_numbers_far_from_zero_keep_their_spread(tmp_path) -> None:
    """float32 knows 1.7e9, a Unix time, to 128 seconds."""
    x, y = DRAW.normal(size=(40, 2)), np.arange(40) % 2
    near, far = (load_set(npz(tmp_path, x=x + offset, y=y)) for offset in (0, 1.7e9))
    (one,), (other,) = compare(near, [near]), compare(far, [far])
    assert other["settings"]["spread"] == pytest.approx(one["settings"]["spread"], rel=1e-5)
    seconds = load_set(npz(tmp_path, x=2_000_000_000 + np.arange(40)[:, None], y=y))
    assert seconds.data.x.flatten().diff().tolist() == [1] * 39


FILES: dict[str, tuple[dict[str, Any], str]] = {
    "no such arrays": ({"a": np.zeros(3)}, "expected x and y, or x_train and y_train; it has a"),
    "one axis": ({"x": np.zeros(3), "y": np.zeros(3, int)}, r"x in .*expected numbers \(n, d\), not empty"),
    "strings": ({"x": np.array([["a"]]), "y": np.zeros(1, int)}, "need a configuration with task"),
    "empty": ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "not empty"),
    "lengths": ({"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, r"expected one label per row \(3,\)"),
    "numbers as labels": ({"x": np.zeros((3, 2)), "y": np.zeros(3)}, "integers or strings; got float64"),
    "nan": ({"x": np.array([[0, 1], [np.nan, 0]]), "y": np.zeros(2, int)}, "1 of 2 rows have NaN or infinity, the f"),
    "pickles": ({"x": np.array([[{}]], object), "y": np.zeros(1, int)}, "pickled objects"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_faulty_file_is_refused(case: str, tmp_path) -> None:
    arrays, message = FILES[case]
    with pytest.raises(InputError, match=message):
        load_set(npz(tmp_path, **arrays))


# Tasks.


def test_a_task_is_embedded_as_the_embed_stage_does_it(tmp_path, body) -> None:
    name = config_file(tmp_path, body)
    found = load_set(name, SetOptions(body=str(body), seed=3))
    made = plan(load_config(name, seed=3))
    stage = embed(made, Store(tmp_path / "store"))
    train = made.data().train
    model = made.build_model(training_statistics(train, made.data().layout))
    model.embedder.load_state_dict(load_tensors(stage.path / "embedder.safetensors")[0])
    with torch.no_grad():
        tokens = model.eval().embedder(torch.from_numpy(train.x))
        assert torch.allclose(found.data.x, pool(tokens.x, tokens.mask), atol=1e-6)
        through = load_set(name, SetOptions(body=str(body), seed=3, features="body"))
        assert torch.allclose(through.data.x, model.pooled(torch.from_numpy(train.x)), atol=1e-5)
    assert torch.equal(found.data.y, torch.from_numpy(train.y))
    assert (found.available, found.labels) == (40, "classes")


def test_only_the_training_split_enters(tmp_path, body) -> None:
    name = config_file(tmp_path, body)
    before = load_set(name, SetOptions(body=str(body)))
    with np.load(tmp_path / "data.npz") as stored:
        other = {
            key: value + 5 if key in ("x_val", "x_test", "x_shift_loud") else value for key, value in stored.items()
        }
    write_data(tmp_path / "data.npz", **other)
    assert torch.equal(before.data.x, load_set(name, SetOptions(body=str(body))).data.x)


def test_raw_is_the_encoded_input_and_needs_no_body(tmp_path, body) -> None:
    name = config_file(tmp_path, Path("gpt2"))
    found = load_set(name, SetOptions(raw=True))
    with np.load(tmp_path / "data.npz") as stored:
        assert torch.equal(found.data.x, torch.from_numpy(stored["x_train"].reshape(40, 12)))
    assert found.space == "encoded inputs, flattened"


def test_a_configuration_that_learns_from_a_part_gives_that_part(tmp_path, body) -> None:
    name = config_file(tmp_path, body, train_size=20)
    for options in (SetOptions(raw=True), SetOptions(body=str(body))):
        found = load_set(name, options)
        assert (found.available, len(found.data.x)) == (20, 20)


def test_targets_that_are_not_classes_get_groups(tmp_path, body) -> None:
    y = DRAW.normal(size=(40, 1)).astype(np.float32)
    write_data(tmp_path / "data.npz", y_train=y, y_val=y[:16], y_test=y[:20], y_shift_loud=y[:10])
    task = {"name": "tiny", "data": str(tmp_path / "data.npz"), "input": "sequence", "target": "scalar"}
    name = config_file(tmp_path, body, task=task, align={"pseudo_labels": 4})
    found = load_set(name, SetOptions(raw=True))
    assert found.data.names == ("0", "1", "2", "3")
    assert found.labels == "k-means groups of the targets (scalar)"
    means = [float(torch.from_numpy(y)[found.data.y == k].mean()) for k in range(4)]
    assert min(abs(a - b) for i, a in enumerate(means) for b in means[:i]) > 0.2


def test_a_name_of_a_task_takes_the_settings_that_ship_with_it() -> None:
    found = load_set("digits", SetOptions(raw=True, samples=50))
    assert tuple(found.data.x.shape) == (50, 64)
    assert torch.bincount(found.data.y).tolist() == [5] * 10


# Sources.


def test_a_source_has_the_features_of_the_align_stage(body) -> None:
    found = load_set("ner", SetOptions(body=str(body), samples=60, seed=2))
    made = load_body(BodyConfig(name=str(body)))
    wanted = source_features(SourceConfig(n=60, seed=2), made)
    assert torch.equal(found.data.x, wanted.x)
    assert found.data.names == wanted.names
    assert found.available is None


def test_features_of_the_body_have_passed_its_encoder(body) -> None:
    made = load_body(BodyConfig(name=str(body)))
    ids, mask = torch.tensor([[4, 5, 6], [7, 8, 1]]), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    with torch.no_grad():
        expected = made.encode(made.embed(ids, mask), mask)
        assert torch.equal(Encoded(made).embed(ids, mask), expected)
    plain, through = (load_set("ner", SetOptions(body=str(body), samples=20, features=k)) for k in ("embedder", "body"))
    assert torch.equal(plain.data.y, through.data.y)
    assert not torch.allclose(plain.data.x, through.data.x)


def test_a_column_file_is_a_source_too(tmp_path, body) -> None:
    (tmp_path / "a.conll").write_text("w1 X\nw2 Y\nw3 X\n\nw4 Y\nw5 X\n")
    found = load_set(f"conll:{tmp_path}/a.conll", SetOptions(body=str(body), samples=4))
    assert found.data.names == ("X", "Y")
    (tmp_path / "a.conllu").write_text("1\tw1\tw\tX\t_\n2\tw2\tw\tY\t_\n\n1\tw3\tw\tX\t_\n2\tw4\tw\tY\t_\n")
    assert load_set(f"conll:{tmp_path}/a.conllu", SetOptions(body=str(body), samples=4)).data.names == ("X", "Y")


NAMES: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": ("digitz", {}, "no task, configuration or source 'digitz'; did you mean digits"),
    "nothing near": ("qqqq", {}, "there are: adult, advection, burgers"),
    "no file": ("nowhere.npz", {}, "there is no file nowhere.npz"),
    "no configuration": ("nowhere.yaml", {}, "there is no configuration file"),
    "no path": ("conll", {}, "source 'conll' needs a file.*conll:FILE"),
    "no column file": ("conll:nowhere", {}, "there is no file nowhere.*conll:FILE"),
    "a path too many": ("ner:file", {}, "source 'ner' takes no file, got 'file'"),
    "words have no raw form": ("ner", {"raw": True}, "'ner' is text and has no raw features"),
    "missing data": ("fsdd", {}, "ORCA_DATA is not set"),
    "missing raw data": ("fsdd", {"raw": True}, "ORCA_DATA is not set"),
    "no such body": ("digits", {"body": "minilmm"}, "there is no 'minilmm'; did you mean 'minilm'"),
    "no such body of a source": ("ner", {"body": "minilmm"}, "there is no body 'minilmm'; did you mean minilm"),
    "no such device": ("ner", {"device": "gpu"}, "device must be auto, cpu"),
    "too few samples": ("digits", {"raw": True, "samples": 9}, "9 samples cannot hold 10 classes"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_set_that_cannot_be_had_is_refused(case: str, monkeypatch) -> None:
    monkeypatch.delenv("ORCA_DATA", raising=False)
    name, options, message = NAMES[case]
    with pytest.raises(InputError, match=message):
        load_set(name, SetOptions(**options))


def test_options_that_contradict_each_other_are_refused_at_once() -> None:
    with pytest.raises(
        InputError, match="expected embedder or body, got 'tokens'; samples: expected at least 4, got 3"
    ):
        SetOptions(features="tokens", samples=3)
    with pytest.raises(InputError, match="raw takes the data as it is"):
        SetOptions(raw=True, body="minilm")
    with pytest.raises(InputError, match="seed: expected at least 0"):
        SetOptions(seed=-1)


# Distances.


def test_a_record_has_the_value_of_the_function_and_names_its_labels() -> None:
    a, b = a_set("a", 30), a_set("b", 30, shift=1.0, seed=1)
    record = compare(a, [b], CompareOptions(reg=0.2, reg_unit="absolute"))[0]
    direct = otdd(a.data.x, a.data.y, b.data.x, b.data.y, reg=0.2)
    assert record["value"] == pytest.approx(float(direct.value))
    assert np.array(record["label_distances"]) == pytest.approx(direct.label_distances.numpy())
    assert record["source_labels"] == ["p", "q", "r"]
    assert np.array(record["label_mass"]).sum(1) == pytest.approx([1 / 3] * 3)
    assert (record["converged"], record["iterations"]) == (True, direct.iterations)
    assert record["notes"] == []
    assert json.loads(json.dumps(record))["samples"] == {"a": 30, "b": 30}


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("method", COMPARISONS.names())
def test_the_distance_in_spreads_does_not_depend_on_the_unit_of_the_features(method: str, p: int) -> None:
    found = []
    for scale in (1.0, 1e-3):
        sets = [a_set("a", 24), a_set("b", 24, shift=1.0, seed=1)]
        moved = [ComparedSet(s.name, LabeledSet(s.data.x * scale, s.data.y, s.data.names), 24, "", "") for s in sets]
        found.append(compare(moved[0], moved[1:], CompareOptions(method=method, p=p))[0])
    assert found[0]["relative"] == pytest.approx(found[1]["relative"], rel=1e-3)
    assert found[0]["value"] * 1e-3**p == pytest.approx(found[1]["value"], rel=1e-3)


@pytest.mark.parametrize("kind", ["gaussian", "exact", "means", "none"])
def test_what_lies_between_the_means_is_all_that_a_move_changes(kind: str) -> None:
    options = CompareOptions(label_distance=kind, lambda_x=0.5, lambda_y=2.0)
    near, far = (compare(a_set("a"), [a_set("b", shift=s, seed=1)], options)[0] for s in (0.5, 3.0))
    assert far["between_means"] - near["between_means"] > 1
    assert far["value"] - far["between_means"] == pytest.approx(near["value"] - near["between_means"], abs=0.02)
    assert compare(a_set("a"), [a_set("b")], CompareOptions(p=1))[0]["between_means"] is None


def test_sets_are_ranked_nearest_first() -> None:
    others = [a_set("far", shift=3.0), a_set("same"), a_set("near", shift=1.0)]
    found = compare(a_set("a"), others)
    assert [record["b"] for record in found] == ["same", "near", "far"]
    assert found[0]["value"] == pytest.approx(0, abs=1e-3)
    assert found[1]["relative"] == pytest.approx(found[1]["value"] / found[1]["settings"]["spread"])


def test_sizes_and_spaces_that_differ_are_said() -> None:
    note = compare(a_set("a", 30), [a_set("b", 24, space="there")])[0]["notes"]
    assert note[0] == "a has 30 samples and b 24: debiased values of small samples compare at equal sizes only"
    assert note[1] == "a is here, b is there: a distance means something within one space only"
    assert compare(a_set("a", 30), [a_set("b", 24)], CompareOptions(debias=False))[0]["notes"][0].startswith("a has 30")


def test_a_solver_that_stops_early_is_said(monkeypatch) -> None:
    monkeypatch.setattr(OTDDOptions, "stopping", {"tolerance": 1e-12, "max_iterations": 1})
    record = compare(a_set("a"), [a_set("b", seed=1)], CompareOptions(reg=1e-3))[0]
    assert record["converged"] is False
    assert "the solver stopped before it converged: take a larger reg" in record["notes"]


def test_sets_of_different_dimensions_are_refused_with_the_ways_out_and_compared_by_gromov() -> None:
    a, b = a_set("a", 20), a_set("b", 18, 5)
    for method in ("sinkhorn", "sliced"):
        with pytest.raises(
            InputError, match=r"'a' has 3 features \(here\) and 'b' 5 .*--body.*project.*--method gromov"
        ):
            compare(a, [b], CompareOptions(method=method))
    record = compare(a, [b], CompareOptions(method="gromov"))[0]
    assert 0 <= record["lower_bound"] <= record["value"]
    assert "gromov is experimental" in record["notes"][-1]
    assert np.array(record["label_mass"]).sum() == pytest.approx(1)


def test_sliced_knows_its_error_and_no_plan() -> None:
    record = compare(a_set("a"), [a_set("b", shift=1.0)], CompareOptions(method="sliced"))[0]
    assert 0 < record["standard_error"] < record["value"]
    assert record["label_mass"] is record["label_distances"] is record["converged"] is None


def test_wrong_options_are_refused_before_any_data_is_read() -> None:
    for options, message in (
        ({"method": "slice"}, "there is no method 'slice'; did you mean sliced"),
        ({"label_distance": "gauss"}, "there is no label distance 'gauss'"),
        ({"reg_unit": "m"}, "reg-unit: expected source or absolute, got 'm'"),
        ({"reg": -1.0}, "reg: expected"),
        ({"p": 3}, "p: expected 1 or 2"),
        ({"lambda_y": -1.0}, "lambda_y: expected a number of at least 0"),
    ):
        with pytest.raises(InputError, match=message):
            CompareOptions(**options)


def test_a_first_set_without_spread_has_no_unit() -> None:
    flat = ComparedSet("a", LabeledSet(torch.zeros(6, 2), torch.arange(6) % 2, ("p", "q")), 6, "here", "classes")
    with pytest.raises(InputError, match="expected finite numbers that differ"):
        compare(flat, [flat])


def test_names_become_records_that_hold_all_settings(tmp_path) -> None:
    x, y = DRAW.normal(size=(20, 2)), np.arange(20) % 2
    names = [npz(tmp_path, f"{k}.npz", x=x + k, y=y) for k in range(3)]
    seen: list[str] = []
    records = rank([names[0], names[2], names[1]], SetOptions(samples=10, seed=4), progress=seen.append)
    assert [record["b"] for record in records] == names[1:]
    assert seen == [names[0], names[2], names[1], ""]
    kept = records[0]["settings"]
    assert (kept["samples"], kept["seed"], kept["method"], kept["reg"]) == (10, 4, "sinkhorn", 0.05)
    assert kept["absolute_reg"] == pytest.approx(0.05 * kept["spread"])
