"""Published pickles become the safe files that the tasks read; another content is named, and nothing half is left."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orca.errors import InputError
from orca.tasks import TASKS
from orca.tasks.benchmark import Frame, load_folder
from orca.tasks.converting import convert
from orca.tasks.encodings import GridEncoding
from orca.tasks.files import read_npz
from orca.tasks.inspection import inspect
from orca.tasks.nb360.cifar100 import CIFAR100

RNG = np.random.default_rng(0)


def save(path: Path, value: Any, protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=protocol))


def save_npy(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, value if isinstance(value, np.ndarray) else np.array(value, dtype=object))


def ecg(folder: Path, **changes: Any) -> None:
    records = np.empty(2, object)
    records[:] = [np.arange(5.0), np.arange(3.0)]
    save(folder / "challenge2017.pkl", {"data": records, "label": np.array(["N", "~"]), **changes})


def satellite(folder: Path, **changes: Any) -> None:
    for part in ("train", "test"):
        save_npy(folder / f"satellite_{part}.npy", {"data": np.ones((3, 46)), "label": np.array([1, 24, 2]), **changes})


def spherical(folder: Path, **changes: Any) -> None:
    half = {"images": np.zeros((2, 3, 60, 60), np.uint8), "labels": np.array([0, 99])} | changes
    (folder / "s2_cifar100.gz").write_bytes(gzip.compress(pickle.dumps({"train": half, "test": half}, protocol=2)))


def cifar(folder: Path, **changes: Any) -> None:
    rows = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8)
    for part in ("train", "test"):
        half = {"data": rows, "fine_labels": [0, 1], "coarse_labels": [0, 0], "filenames": ["a", "b"]} | changes
        save(folder / "cifar-100-python" / part, half, protocol=2)
    save(folder / "cifar-100-python" / "meta", {"fine_label_names": ["apple", "bee"]}, protocol=2)


def psicov(folder: Path, **changes: Any) -> None:
    shapes = {"ss": (3, 4), "pssm": (4, 22), "sa": (4,), "entropy": (4,)}
    shapes |= dict.fromkeys(("ccmpred", "freecon", "potential"), (4, 4))
    features = {"seq": "ACDE", **{name: RNG.standard_normal(shape) for name, shape in shapes.items()}, **changes}
    save(folder / "protein" / "deepcov" / "features" / "1abc.pkl", features)
    triple = np.empty(3, object)
    triple[:] = [4, "ACDE", np.ones((4, 4), np.float32)]
    save_npy(folder / "protein" / "deepcov" / "distance" / "1abc-cb.npy", changes.get("triple", triple))


MAKERS: dict[str, Callable[..., None]] = {
    "ecg": ecg, "satellite": satellite, "spherical": spherical, "cifar100": cifar, "psicov": psicov,
}  # fmt: skip


def converted(name: str, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    MAKERS[name](folder)
    return {path.relative_to(folder).as_posix(): read_npz(path) for path in convert(name, folder)}


def test_every_conversion_is_tried_here() -> None:
    there = {task.published.name for task in TASKS if task.published is not None and task.published.conversion}
    assert set(MAKERS) == there


def test_records_of_different_lengths_lie_end_to_end(tmp_path: Path) -> None:
    (arrays,) = converted("ecg", tmp_path).values()
    assert arrays["data"].dtype == np.float32
    assert arrays["data"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert (arrays["length"].tolist(), arrays["label"].tolist()) == ([5, 3], ["N", "~"])


def test_satellite_and_spherical_keep_their_arrays(tmp_path: Path) -> None:
    found = converted("satellite", tmp_path)
    assert sorted(found) == ["satellite_test.npz", "satellite_train.npz"]
    assert found["satellite_test.npz"]["data"].shape == (3, 46)
    (arrays,) = converted("spherical", tmp_path).values()
    assert sorted(arrays) == ["test_images", "test_labels", "train_images", "train_labels"]
    assert arrays["train_images"].dtype == np.uint8


def test_images_of_cifar_get_their_channels_last(tmp_path: Path) -> None:
    found = converted("cifar100", tmp_path)
    arrays = found["cifar-100.npz"]
    assert arrays["x_train"].shape == (2, 32, 32, 3)
    assert arrays["x_train"][0, 1, 2].tolist() == [v % 256 for v in (34, 1024 + 34, 2048 + 34)]
    assert arrays["classes"].tolist() == ["apple", "bee"]


def test_proteins_and_their_distances_stand_beside_their_pickles(tmp_path: Path) -> None:
    found = converted("psicov", tmp_path)
    features = found["protein/deepcov/features/1abc.npz"]
    assert str(features["seq"]) == "ACDE"
    assert features["pssm"].shape == (4, 22)
    assert found["protein/deepcov/distance/1abc-cb.npz"]["dist"].shape == (4, 4)


def test_what_is_done_is_kept_and_what_is_newer_is_done_again(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    MAKERS["satellite"](tmp_path)
    first, second = convert("satellite", tmp_path, progress=lambda done, whole: told.append((done, whole)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    first.write_bytes(b"kept")
    second.write_bytes(b"older")
    os.utime(second, (0, 0))
    convert("satellite", tmp_path)
    assert first.read_bytes() == b"kept"
    assert second.read_bytes() != b"older"


FAULTS = {
    "not a dict": ("satellite", lambda f: save_npy(f / "satellite_train.npy", [1]), "expected a dict with data, label"),
    "a key": ("ecg", lambda f: save(f / "challenge2017.pkl", {"data": [], "x": 1}), "lacks label; it has data, x"),
    "rhythm": ("ecg", lambda f: ecg(f, label=["N", "X"]), "label in .* has 'X'; expected N, A, O, ~"),
    "no records": ("ecg", lambda f: ecg(f, label=[], data=[]), "has no records"),
    "a label less": ("ecg", lambda f: ecg(f, label=["N"]), "has data 2, label 1; expected one of each"),
    "two axes": ("ecg", lambda f: ecg(f, data=[np.ones((2, 2))] * 2), r"data\[0\] in .* has shape \(2, 2\); expected"),
    "dates": (
        "satellite", lambda f: satellite(f, data=np.ones((3, 45))), r"data .* \(3, 45\); expected \(n, 46\)",
    ),
    "text": ("satellite", lambda f: satellite(f, label=np.array(["a"] * 3)), "label in .* holds <U1; expected numbers"),
    "half": ("spherical", lambda f: spherical(f, labels=np.zeros(3, int)), "train.images 2, train.labels 3"),
    "no half": ("spherical", lambda f: (f / "s2_cifar100.gz").write_bytes(pickle.dumps({"train": 1})), "lacks test"),
    "pixels": ("cifar100", lambda f: cifar(f, data=np.zeros((2, 9), np.uint8)), r"data in .*train has shape \(2, 9\)"),
    "feature": ("psicov", lambda f: psicov(f, pssm=np.zeros((4, 21))), r"pssm in .* \(4, 21\); expected \(4, 22\)"),
    "ragged": ("psicov", lambda f: psicov(f, sa=[[1], [1, 2]]), "sa in .* holds object; expected numbers"),
    "distances": ("psicov", lambda f: psicov(f, triple=np.arange(2)), "something else than length, sequence and"),
    "nothing there": ("ecg", lambda f: None, "lacks challenge2017.pkl, as the PhysioNet challenge of 2017 was"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_other_content_is_named_and_nothing_is_written(fault: str, tmp_path: Path) -> None:
    name, spoil, message = FAULTS[fault]
    if fault not in ("nothing there",):
        MAKERS[name](tmp_path)
    spoil(tmp_path)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        convert(name, tmp_path)
    new = {path.name for path in set(tmp_path.rglob("*")) - before}
    assert new == ({"1abc.npz"} if fault == "distances" else set())  # its features are whole


def test_a_task_without_pickles_and_a_folder_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="darcy has no pickles to convert; there are: cifar100, spherical"):
        convert("darcy", tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        convert("CIFAR-100", tmp_path / "none")


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_that_has_only_the_pickles_says_how_to_convert_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    folder = tmp_path / name
    folder.mkdir()
    with pytest.raises(
        InputError, match=f"put the published files there and convert them with `orca data convert {name}"
    ):
        TASKS.get(name).load()
    MAKERS[name](folder)
    remedy = f"convert the published pickles that are there with `orca data convert {name} {folder}`"
    with pytest.raises(InputError, match=remedy):
        TASKS.get(name).load()
    assert [remedy in finding.what for finding in inspect(TASKS.get(name), folder).findings] == [True]


def test_the_names_of_cifars_classes_reach_its_reports(tmp_path: Path) -> None:
    names = [f"thing {k}" for k in range(100)]
    x, y = RNG.integers(0, 256, (400, 8, 8, 3), np.uint8), np.arange(400) % 100
    arrays = {"x_train": x, "y_train": y, "x_test": x[:100] // 2, "y_test": y[:100]}
    frame = Frame("classes", "error", GridEncoding(channels="last"), classes=("?",) * 100)
    for told, wanted in (({}, frame.classes), ({"classes": np.array(names)}, tuple(names))):
        np.savez(tmp_path / "cifar-100.npz", **arrays, **told)
        assert load_folder(CIFAR100, frame, tmp_path).layout.classes == wanted
    np.savez(tmp_path / "cifar-100.npz", **arrays, classes=np.array(names[:3]))
    with pytest.raises(InputError, match="has 3 names; expected 100"):
        load_folder(CIFAR100, frame, tmp_path)
