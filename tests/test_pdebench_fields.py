"""The files of PDEBench's two-dimensional tasks: imitations load, and each way to break one has its own message."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from orca.errors import InputError
from orca.tasks.pdebench.groups import read_groups
from orca.tasks.pdebench.stacks import read_evolution, read_steady, thinned

FRAME = {"axes": ("x", "y"), "end": 1.0}


def grouped(path: Path, *, samples: int = 10, dtype: str = "f4", times: bool = True) -> np.ndarray:
    """A file of groups with frames at 0, 0.5 and 1, and its data (n, 3, 6, 6, 1)."""
    data = np.random.default_rng(0).standard_normal((samples, 3, 6, 6, 1))
    with h5py.File(path, "w") as file:
        for row, values in enumerate(data):
            file[f"{row:04d}/data"] = values.astype(dtype)
            if times:
                file[f"{row:04d}/grid/t"] = np.linspace(0, 1, 3)
        file.attrs["config"] = "as published files have one"
    return data


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_groups_give_their_first_frame_and_a_later_one(tmp_path: Path, dtype: str) -> None:
    data = grouped(tmp_path / "a.h5", dtype=dtype)
    raw = read_groups(tmp_path / "a.h5", channels=1, **FRAME, time=0.5)
    assert raw["train"].x.dtype == np.float32
    np.testing.assert_allclose(raw["train"].x[:, 0], data[:9, 0, ..., 0], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(raw["test"].y[:, 0], data[9:, 1, ..., 0], rtol=1e-2, atol=1e-2)


def test_a_smaller_file_without_times_is_refused(tmp_path: Path) -> None:
    grouped(tmp_path / "a.h5", times=False)
    with pytest.raises(InputError, match="lacks 0000/grid/t"):
        read_groups(tmp_path / "a.h5", channels=1, **FRAME, time=1.0)


def test_broken_groups_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(InputError, match=r"there is no file .*a.h5"):
        read_groups(path, channels=1, **FRAME, time=1.0)
    grouped(path)
    with pytest.raises(InputError, match=r"0000/data in .* has shape \(3, 6, 6, 1\); expected \(times, x, y, 2\)"):
        read_groups(path, channels=2, **FRAME, time=1.0)
    with pytest.raises(InputError, match=r"has no frame at t = 5.0; its t-coordinate goes from 0.0 to 1.0"):
        read_groups(path, channels=1, **FRAME, time=5.0)
    with h5py.File(path, "a") as file:
        del file["0003/data"]
    with pytest.raises(InputError, match="0003/data"):
        read_groups(path, channels=1, **FRAME, time=1.0)
    with h5py.File(path, "a") as file:
        file["0003/data"] = np.zeros((3, 5, 6, 1))
    with pytest.raises(InputError, match=r"0003/data in .* has shape \(3, 5, 6, 1\); expected \(3, 6, 6, 1\)"):
        read_groups(path, channels=1, **FRAME, time=1.0)
    with h5py.File(path, "a") as file:
        del file["0003"]
        file["0003"] = np.zeros(3)
    with pytest.raises(InputError, match="0003/data"):
        read_groups(path, channels=1, **FRAME, time=1.0)


def test_too_few_samples_or_none_are_told(tmp_path: Path) -> None:
    grouped(tmp_path / "two.h5", samples=2)
    with pytest.raises(InputError, match="has 2 samples; at least 3 are needed to train, validate and test"):
        read_groups(tmp_path / "two.h5", channels=1, **FRAME, time=1.0)
    with h5py.File(tmp_path / "merged.h5", "w") as file:
        file["tensor"] = np.zeros((3, 2, 4, 4))
    with pytest.raises(InputError, match="has no samples; expected groups 0000, 0001, ...; it has tensor"):
        read_groups(tmp_path / "merged.h5", channels=1, **FRAME, time=1.0)


def test_a_broken_steady_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["nu"] = np.zeros((10, 8, 8))
    with pytest.raises(InputError, match="lacks tensor; it has nu"):
        read_steady(path, "nu", "tensor", points=4)
    with h5py.File(path, "a") as file:
        file["tensor"] = np.zeros((10, 8, 8))
    with pytest.raises(InputError, match=r"tensor in .* has shape \(10, 8, 8\); expected \(10, 1, 8, 8\)"):
        read_steady(path, "nu", "tensor", points=4)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="is no HDF5 file, or it is damaged"):
        read_steady(path, "nu", "tensor", points=4)


def test_cells_that_are_left_out_make_a_finer_test_set(tmp_path: Path) -> None:
    path, nu = tmp_path / "a.hdf5", np.arange(30 * 64, dtype=np.float32).reshape(30, 8, 8)
    with h5py.File(path, "w") as file:
        file["nu"], file["tensor"] = nu, -nu[:, None]
    raw = read_steady(path, "nu", "tensor", points=4)
    np.testing.assert_array_equal(raw["test"].x, nu[:3, ::2, ::2])
    np.testing.assert_array_equal(raw["shift_fine"].x, nu[:3])
    np.testing.assert_array_equal(raw["shift_fine"].y, -nu[:3])
    assert set(read_steady(path, "nu", "tensor", points=8)) == {"train", "test"}


def test_an_evolution_of_several_fields_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    fields = np.random.default_rng(0).standard_normal((2, 20, 3, 8, 8)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["density"], file["Vx"] = fields
        file["t-coordinate"] = np.linspace(0, 1.5, 4)  # one more than frames, as published
    raw = read_evolution(path, ("density", "Vx"), time=1.0, points=4)
    np.testing.assert_array_equal(raw["test"].y, fields[:, 18:, 2, ::2, ::2].swapaxes(0, 1))
    with pytest.raises(InputError, match="has no frame at t = 1.5"):
        read_evolution(path, ("density", "Vx"), time=1.5, points=4)
    with h5py.File(path, "a") as file:
        file["pressure"] = np.zeros((20, 3, 8, 7))
    with pytest.raises(InputError, match=r"pressure in .* has shape \(20, 3, 8, 7\); expected \(20, 3, 8, 8\)"):
        read_evolution(path, ("density", "pressure"), time=1.0, points=4)


def test_at_most_so_many_points_are_kept() -> None:
    assert [len(range(n)[thinned(n, 64)]) for n in (48, 64, 96, 128)] == [48, 64, 48, 64]
