"""MATLAB files of both versions, and the Darcy flow of NAS-Bench-360 read from them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from orca.errors import InputError
from orca.metrics import METRICS
from orca.runtime import read_json
from orca.tasks import TASKS
from orca.tasks.making import make
from orca.tasks.nb360.darcy_flow import DARCY_FLOW, FILES, read
from orca.tasks.published import SIDE, Size
from orca.tasks.readers.matlab import matlab_array
from orca.types import Examples

AXES = ("samples", "s", "s")


def version_5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    savemat(str(path), arrays, do_compression=True)


def version_73(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, values in arrays.items():
            file[key] = values.T  # MATLAB stores columns first
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("write", [version_5, version_73])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8])
def test_both_versions_give_the_same_array(write, dtype, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (7, 11, 11)).astype(dtype)
    write(tmp_path / "a.mat", {"coeff": values})
    found = matlab_array(tmp_path / "a.mat", "coeff", AXES)
    assert found.shape == (7, 11, 11)
    part = found.read(slice(0, 5), slice(None, None, 5), slice(None, None, 2))
    assert part.dtype == np.float32
    np.testing.assert_array_equal(part, values[:5, ::5, ::2])


@pytest.mark.parametrize("write", [version_5, version_73])
def test_a_missing_or_misshapen_variable_is_named(write, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with pytest.raises(InputError, match=r"there is no file .*a.mat; expected a MATLAB file"):
        matlab_array(path, "coeff", AXES)
    write(path, {"sol": np.zeros((3, 4))})
    with pytest.raises(InputError, match="lacks coeff; it has sol"):
        matlab_array(path, "coeff", AXES)
    with pytest.raises(InputError, match=r"sol in .* has shape \(\d, \d\).*; expected \(.*\)"):
        matlab_array(path, "sol", AXES)
    with pytest.raises(InputError, match=r"sol in .* has shape \(3, 4\).*; expected \(3, 5\)"):
        matlab_array(path, "sol", (3, 5))


def test_what_holds_no_numbers_is_refused(tmp_path: Path) -> None:
    cells = np.empty((1, 2), dtype=object)
    cells[:] = [[np.zeros(2), np.zeros(3)]]
    version_5(tmp_path / "a.mat", {"coeff": cells, "sol": np.array("text")})
    with pytest.raises(InputError, match="coeff in .* is of MATLAB's class cell; expected an array of numbers"):
        matlab_array(tmp_path / "a.mat", "coeff", AXES)
    with pytest.raises(InputError, match="sol in .* is of MATLAB's class char"):
        matlab_array(tmp_path / "a.mat", "sol", AXES)


def test_other_bytes_and_a_file_cut_short_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB says hello" * 40)
    with pytest.raises(InputError, match="is no MATLAB file, or it is damaged"):
        matlab_array(path, "coeff", AXES)
    version_5(path, {"coeff": np.random.default_rng(0).standard_normal((5, 20, 20))})
    whole = path.read_bytes()
    for share in (0.05, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match="is no MATLAB file, or it is damaged"):
            matlab_array(path, "coeff", AXES).read(slice(None))


# Darcy flow


def both(folder: Path, arrays: dict[str, np.ndarray], write=version_5, **test: np.ndarray) -> None:
    write(folder / FILES["train"], arrays)
    write(folder / FILES["test"], {**arrays, **test})


def arrays(samples: int, side: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(side)
    return {"coeff": random.choice([3.0, 12.0], (samples, side, side)), "sol": random.random((samples, side, side))}


@pytest.mark.parametrize("write", [version_5, version_73])
def test_every_fifth_of_421_nodes_is_read(write, tmp_path: Path) -> None:
    made = arrays(3, 421)
    both(tmp_path, made, write)
    raw = read(tmp_path)
    assert raw["train"].x.shape == (3, 85, 85)
    np.testing.assert_array_equal(raw["train"].x, made["coeff"][:, ::5, ::5])
    np.testing.assert_allclose(raw["test"].y, made["sol"][:, ::5, ::5], rtol=1e-6)
    np.testing.assert_array_equal(raw["shift_fine"].x, made["coeff"][:, ::3, ::3])
    np.testing.assert_allclose(raw["shift_fine"].y, made["sol"][:, ::3, ::3], rtol=1e-6)


def test_of_longer_files_the_first_thousand_and_hundred_samples_are_read(tmp_path: Path) -> None:
    both(tmp_path, arrays(1024, 5))
    raw = read(tmp_path)
    assert (raw["train"].x.shape, raw["test"].x.shape) == ((1000, 5, 5), (100, 5, 5))
    assert set(raw) == {"train", "test"}  # there are no nodes between these


def test_files_that_do_not_fit_are_told(tmp_path: Path) -> None:
    both(tmp_path, arrays(3, 9), sol=np.zeros((3, 9, 8)))
    with pytest.raises(InputError, match=r"smooth2.mat has shape \(3, 9, 8\); expected \(3, 9, 9\)"):
        read(tmp_path)
    both(tmp_path, arrays(3, 9), **arrays(3, 7))
    with pytest.raises(
        InputError, match=r"smooth1.mat gives \(9, 9\) nodes and .*smooth2.mat \(7, 7\); they must agree"
    ):
        read(tmp_path)
    version_73(tmp_path / FILES["train"], {key: values.T for key, values in arrays(3, 9).items()})
    with pytest.raises(InputError, match=r"has shape \(9, 9, 3\); expected \(samples, s, s\)"):
        read(tmp_path)


def test_a_generated_set_meets_its_checks_and_beats_its_mean(tmp_path: Path) -> None:
    make(DARCY_FLOW, tmp_path / "made", Size(150, 0, 20, 29))
    assert not [check for check in read_json(tmp_path / "made" / SIDE)["checks"] if not check["passed"]]
    raw = read(tmp_path / "made")
    train, test = (Examples(raw[part].x[:, None], raw[part].y[:, None], None) for part in ("train", "test"))
    metric = METRICS.get("relative_l2")
    mean = metric.fn(np.repeat(train.y.mean(0, keepdims=True), len(test), 0), test.y)
    assert mean == pytest.approx(0.24, abs=0.06)
    (closed,) = TASKS.get("darcy-flow").predictors.values()
    assert metric.fn(closed(train)(test), test.y) < mean
