"""PDEBench's one-dimensional tasks: files written and read back, checks, closed forms, imitations and broken files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from orca.errors import InputError
from orca.metrics import METRICS
from orca.tasks import TASKS
from orca.tasks.making import make
from orca.tasks.pdebench import advection, burgers, cfd1d, diffsorp, reacdiff1d
from orca.tasks.published import Published, Size
from orca.tasks.spec import TaskSpec

NAMES = ("advection", "burgers", "burgers-nu0.01", "reacdiff1d", "reacdiff1d-early", "diffsorp", "cfd1d")
SMALL = Size(36, 0, 4, 64)
# nRMSE of the named predictor lies in this range
EXPECTED = {
    "advection": ("closed form", 0, 1e-5),
    "burgers": ("mean of the input", 0, 1e-5),
    "burgers-nu0.01": ("closed form", 0, 0.03),
    "reacdiff1d": ("closed form", 0, 4e-3),
    "reacdiff1d-early": ("closed form", 0.05, 0.5),
    "diffsorp": ("one parameter", 0, 2e-3),
    "cfd1d": ("relaxed state", 0.05, 0.4),
}


def published(task: TaskSpec) -> Published:
    assert task.published is not None
    return task.published


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a task with small generated files, made once."""
    root = tmp_path_factory.mktemp("made")

    def folder(name: str) -> Path:
        source = published(TASKS.get(name))
        if not (root / source.name).exists():
            checks = make(source, root / source.name, SMALL)
            assert [check for check in checks if not check.passed] == []
        return root / source.name

    return folder


@pytest.mark.parametrize("name", NAMES)
def test_generated_files_pass_their_checks_and_are_read_back(name: str, made, monkeypatch: pytest.MonkeyPatch) -> None:
    task, folder = TASKS.get(name), made(name)
    monkeypatch.setenv("ORCA_DATA", str(folder.parent))
    splits = task.load()
    assert (len(splits.train) + len(splits.val), len(splits.test)) == (36, 4)
    fields = 3 if name == "cfd1d" else 1
    assert splits.train.x.shape[1:] == splits.train.y.shape[1:] == (fields, 64)
    assert splits.train.y.dtype == np.float32
    assert "synthetic: generated" in splits.notes[0]


@pytest.mark.parametrize("name", NAMES)
def test_closed_forms_reach_what_the_literature_on_these_maps_says(name: str, made, monkeypatch) -> None:
    task = TASKS.get(name)
    monkeypatch.setenv("ORCA_DATA", str(made(name).parent))
    splits, nrmse = task.load(), METRICS.get("nrmse").fn
    predictor, low, high = EXPECTED[name]
    answers = {key: make_one(splits.train)(splits.test) for key, make_one in task.predictors.items()}
    assert {answer.shape for answer in answers.values()} == {splits.test.y.shape}
    assert {answer.dtype for answer in answers.values()} == {np.dtype(np.float32)}
    value = nrmse(answers[predictor], splits.test.y)
    assert low <= value <= high
    assert nrmse(np.broadcast_to(splits.train.y.mean(0), splits.test.y.shape), splits.test.y) > value


def test_the_harder_frames_are_harder(made, monkeypatch: pytest.MonkeyPatch) -> None:
    nrmse = METRICS.get("nrmse").fn
    for easy, hard, predictor in (
        ("burgers", "burgers-nu0.01", "mean of the input"), ("reacdiff1d", "reacdiff1d-early", "closed form"),
    ):  # fmt: skip
        errors = []
        for name in (easy, hard):
            monkeypatch.setenv("ORCA_DATA", str(made(name).parent))
            splits = TASKS.get(name).load()
            answer = TASKS.get(name).predictors[predictor](splits.train)(splits.test)
            errors.append(nrmse(answer, splits.test.y))
        assert errors[1] > 20 * errors[0]


def test_two_tasks_of_one_file_read_the_same_first_state_and_have_their_own_fingerprint(made, monkeypatch) -> None:
    monkeypatch.setenv("ORCA_DATA", str(made("reacdiff1d").parent))
    late, early = TASKS.get("reacdiff1d"), TASKS.get("reacdiff1d-early")
    np.testing.assert_array_equal(late.load().test.x, early.load().test.x)
    assert not np.array_equal(late.load().test.y, early.load().test.y)
    assert late.fingerprint() != early.fingerprint()


def test_merged_files_have_the_published_keys_shapes_and_types(made) -> None:
    with h5py.File(made("cfd1d") / cfd1d.FILE) as file:
        assert sorted(file) == ["Vx", "density", "pressure", "t-coordinate", "x-coordinate"]
        assert {(file[key].shape, file[key].dtype.name) for key in cfd1d.KEYS} == {((40, 21, 64), "float32")}
        assert file["x-coordinate"][0] == pytest.approx(-1 + 1 / 64)
        assert file["t-coordinate"][[0, -1]].tolist() == [0.0, 1.0]


def test_group_files_have_the_published_keys_shapes_and_types(made) -> None:
    with h5py.File(made("diffsorp") / diffsorp.FILE) as file:
        assert [*file] == [f"{number:04d}" for number in range(40)]
        assert (file["0007/data"].shape, file["0007/data"].dtype.name) == ((11, 64, 1), "float32")
        assert {file["0000/grid/x"].shape, file["0000/grid/t"].shape} == {(64,), (11,)}
        assert file["0000/grid/t"][-1] == 500


def test_full_size_files_have_the_published_frames() -> None:
    draw = np.random.default_rng(0)
    assert advection.draw(1024, 1, draw, "train")["tensor"].shape == (1, 201, 1024)
    assert reacdiff1d.draw(1024, 1, draw, "train")["tensor"].shape == (1, 101, 1024)
    assert diffsorp.draw(1024, 1, draw, "train")["data"].shape == (1, 101, 1024, 1)
    assert [burgers.BURGERS.files, burgers.BURGERS_001.files] == [
        ("1D_Burgers_Sols_Nu1.0.hdf5",), ("1D_Burgers_Sols_Nu0.01.hdf5",),
    ]  # fmt: skip


# Imitations of the published files, by hand


def test_the_first_tenth_of_a_merged_file_is_test_and_every_fourth_point_is_kept(tmp_path: Path) -> None:
    u = np.arange(20 * 201 * 1024, dtype=np.float64).reshape(20, 201, 1024) / 1e6
    with h5py.File(tmp_path / advection.FILE, "w") as file:  # compressed, double, with one time more than frames
        file.create_dataset("tensor", data=u, chunks=(5, 50, 256), compression="lzf")
        file["t-coordinate"] = np.linspace(0, 2.01, 202)
    parts = advection.read(tmp_path)
    np.testing.assert_array_equal(parts["test"].x[:, 0], u[:2, 0, ::4].astype(np.float32))
    np.testing.assert_array_equal(parts["train"].y[:, 0], u[2:, 200, ::4].astype(np.float32))


def test_full_size_files_without_times_have_a_frame_every_hundredth(tmp_path: Path) -> None:
    u = np.zeros((4, 101, 1024), ">f4") + np.arange(101)[:, None]
    with h5py.File(tmp_path / reacdiff1d.FILE, "w") as file:
        file["tensor"] = u
    for time, frame in ((0.29, 29), (0.01, 1)):
        assert (reacdiff1d.read(tmp_path, time=time)["train"].y == frame).all()


def test_the_last_tenth_of_a_group_file_is_test_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / diffsorp.FILE, "w") as file:
        for number in (10, *range(10), *range(11, 20)):  # not padded, and without coordinates
            file[f"{number}/data"] = np.full((101, 8, 1), number, np.float64) + np.arange(101)[:, None, None] / 1000
        file.attrs["0000/config"] = "sim: {}"
        file["notes"] = 1
    parts = diffsorp.read(tmp_path)
    assert parts["test"].x.shape == (2, 1, 8)
    assert parts["test"].x[:, 0, 0].tolist() == [18.0, 19.0]
    np.testing.assert_allclose(parts["train"].y[:, 0, 0], np.arange(18) + 0.1, rtol=1e-6)


# Broken files


def merged(**given: Any) -> dict[str, Any]:
    whole = {"density": np.ones((4, 3, 8)), "Vx": np.ones((4, 3, 8)), "pressure": np.ones((4, 3, 8))}
    return {**whole, "t-coordinate": np.array([0, 0.5, 1.0]), **given}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (merged(Vx=None), r"Train.hdf5 lacks Vx; it has density, pressure, t-coordinate"),
        (merged(Vx=np.ones((4, 3))), r"Vx in .* has shape \(4, 3\); expected \(samples, times, points\)"),
        (merged(Vx=np.ones((3, 3, 8))), r"Vx in .* has shape \(3, 3, 8\) and density \(4, 3, 8\); they must agree"),
        (merged(density=np.full((4, 3, 8), b"x")), r"density in .* holds \|S1; expected numbers"),
        (merged(**{"t-coordinate": None}), r"lacks t-coordinate"),
        (merged(**{"t-coordinate": np.array([0, 1.0])}), r"t-coordinate in .* has 2 times; expected one for each of 3"),
        (merged(**{"t-coordinate": np.array([0, 0.2, 0.4])}), r"no frame at t = 1.0; .* goes from 0.0 to 0.4"),
    ],
)  # fmt: skip
def test_every_way_to_break_a_merged_file_has_its_message(content: dict, message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / cfd1d.FILE, "w") as file:
        for key, values in content.items():
            if values is not None:
                file[key] = values
    with pytest.raises(InputError, match=message):
        cfd1d.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tensor": np.ones((4, 3, 8))}, r"NA_NA.h5 has no samples; expected groups 0000, 0001, ...; it has tensor"),
        ({}, r"it has nothing"),
        ({"0000/grid/t": np.ones(3)}, r"lacks 0000/data"),
        ({"0000/data": np.ones((3, 8))}, r"0000/data in .* has shape \(3, 8\); expected \(times, x, channels\)"),
        ({"0000/data": np.ones((3, 8, 1))}, r"lacks 0000/grid/t"),
        ({"0000/data": np.ones((101, 8, 1)), "0001/data": np.ones((101, 7, 1))},
         r"0001/data in .* has shape \(101, 7, 1\); expected \(101, 8, 1\)"),
        ({"0000/data/t": np.ones(3)}, r"0000/data in .* is a group; expected an array"),
        ({"0000/data": np.ones((3, 8, 1)), "0000/grid/t": np.array([0, 5.0, 9.0])}, r"no frame at t = 500.0"),
    ],
)  # fmt: skip
def test_every_way_to_break_a_group_file_has_its_message(content: dict, message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / diffsorp.FILE, "w") as file:
        for key, values in content.items():
            file[key] = values
    with pytest.raises(InputError, match=message):
        diffsorp.read(tmp_path)


def test_a_file_that_is_no_hdf5_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*beta0.4.hdf5"):
        advection.read(tmp_path)
    (tmp_path / advection.FILE).write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match=r"beta0.4.hdf5 is no HDF5 file, or it is damaged"):
        advection.read(tmp_path)


def test_values_that_are_not_finite_are_found_with_their_row(made, tmp_path, monkeypatch) -> None:
    (tmp_path / "cfd1d").mkdir()
    (copy := tmp_path / "cfd1d" / cfd1d.FILE).write_bytes((made("cfd1d") / cfd1d.FILE).read_bytes())
    with h5py.File(copy, "r+") as file:
        file["Vx"][1, -1, 3] = np.nan
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    with pytest.raises(InputError, match="y_test has 1 NaN or infinite values in 1 of 4 rows, first in row 1"):
        TASKS.get("cfd1d").load()
