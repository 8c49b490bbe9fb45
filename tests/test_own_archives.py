"""Your own arrays: the same from every kind of file; broken ones named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

import orca
from orca.errors import InputError
from orca.predict import predict_file
from orca.tasks import OwnData, resolve_task
from orca.tasks.readers.archives import read_archive
from orca.types import Splits
from tests.tiny import save_tiny_body

Arrays = dict[str, np.ndarray]


def arrays(n: int = 60) -> Arrays:
    """Signals (n, 12) of three classes that their mean tells apart, of different lengths."""
    draw = np.random.default_rng(0)
    made: Arrays = {}
    for part, rows in (("train", n), ("val", 12), ("test", 15)):
        y = np.arange(rows) % 3
        made |= {f"x_{part}": draw.standard_normal((rows, 12)) + 3.0 * y[:, None], f"y_{part}": y}
        made[f"length_{part}"] = draw.integers(6, 13, rows)
    return made


def save_hdf5(path: Path, made: Arrays) -> None:
    with h5py.File(path, "w") as file:
        for name, array in made.items():
            file[name] = array.astype("S") if array.dtype.kind == "U" else array


def save_matlab_7(path: Path, made: Arrays) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("#refs#")
        for name, array in made.items():
            file[name] = (array[:, None] if array.ndim == 1 else array).T  # no array of MATLAB's has one axis


def save_folder(path: Path, made: Arrays) -> None:
    path.mkdir()
    for name, array in made.items():
        np.save(path / f"{name}.npy", array)


SAVE: dict[str, Callable[[Path, Arrays], Any]] = {
    "a.npz": lambda path, made: np.savez(path, **made),  # pyright: ignore[reportArgumentType]
    "a.h5": save_hdf5,
    "a.HDF5": save_hdf5,
    "a.mat": lambda path, made: savemat(path, made),
    "a73.mat": save_matlab_7,
    "folder": save_folder,
}


def own(path: Path, **settings: Any) -> OwnData:
    return OwnData(**{"name": "mine", "data": str(path), "input": "sequence", "target": "classes", **settings})


def load(path: Path, **settings: Any) -> Splits:
    return resolve_task(own(path, **settings)).load()


@pytest.mark.parametrize("name", SAVE)
def test_every_kind_of_file_gives_the_same_splits(name: str, tmp_path: Path) -> None:
    made = arrays()
    SAVE[name](tmp_path / name, made)
    splits = load(tmp_path / name)
    assert splits.notes == ("validation: as given",)
    for part in ("train", "val", "test"):
        found = getattr(splits, part)
        inside = np.arange(12) < made[f"length_{part}"][:, None]
        np.testing.assert_allclose(found.x[:, 0], np.where(inside, made[f"x_{part}"], 0), rtol=1e-6)
        np.testing.assert_array_equal(found.y, made[f"y_{part}"])
        np.testing.assert_array_equal(found.length, made[f"length_{part}"])


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "folder"])
def test_text_is_read_as_text(name: str, tmp_path: Path) -> None:
    letters = np.random.default_rng(0).choice(list("ACGT"), (30, 9))
    words = np.array(["".join(row) for row in letters])
    made = {"x_train": words, "y_train": np.arange(30) % 2, "x_test": words[:4], "y_test": np.arange(4) % 2}
    SAVE[name](tmp_path / name, made)
    splits = load(tmp_path / name, input="dna")
    np.testing.assert_array_equal(np.array(list("ACGT"))[splits.test.x.argmax(1)], letters[:4])


def test_arrays_of_a_folder_stay_on_disk(tmp_path: Path) -> None:
    save_folder(tmp_path / "folder", arrays())
    found = read_archive(tmp_path / "folder", ("x_train",), prefix="x_")
    assert sorted(found) == ["x_test", "x_train", "x_val"]
    assert all(isinstance(array, np.memmap) for array in found.values())


def test_samples_of_sound_have_one_scale_in_every_kind_of_file(tmp_path: Path) -> None:
    made = {
        name: (1000 * value).astype(np.int16) if name[0] == "x" else value
        for name, value in arrays().items() if not name.startswith("length")
    }  # fmt: skip
    made |= {name: np.repeat(value, 40, axis=1) for name, value in made.items() if name[0] == "x"}
    found = []
    for name in ("a.npz", "a.mat", "a73.mat"):
        SAVE[name](tmp_path / name, made)
        found.append(load(tmp_path / name, input="waveform", sample_rate=8000).train.x)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


def test_the_fingerprint_changes_with_any_file_of_a_folder(tmp_path: Path) -> None:
    save_folder(tmp_path / "folder", arrays())
    before = resolve_task(own(tmp_path / "folder")).fingerprint()
    assert resolve_task(own(tmp_path / "folder")).fingerprint() == before
    np.save(tmp_path / "folder" / "y_test.npy", (np.arange(15) + 1) % 3)
    assert resolve_task(own(tmp_path / "folder")).fingerprint() != before


def test_a_model_predicts_from_each_kind_of_file(tmp_path: Path) -> None:
    save_folder(tmp_path / "data", arrays())
    config = {
        "task": own(tmp_path / "data").model_dump(), "body": str(save_tiny_body(tmp_path / "body")), "device": "cpu",
        "align": {"objective": "none"}, "finetune": {"epochs": 1},
    }  # fmt: skip
    model = orca.load(orca.adapt(config, store=tmp_path / "store").path)
    x = np.random.default_rng(1).standard_normal((5, 12))
    np.save(tmp_path / "x.npy", x)
    for name in ("a.npz", "a.h5", "a.mat"):
        SAVE[name](tmp_path / name, {"x": x})
    save_folder(tmp_path / "folder", {"x": x})
    names = ("x.npy", "a.npz", "a.h5", "a.mat", "folder")
    found = [predict_file(model, tmp_path / name, tmp_path / "out.npz")["probability"] for name in names]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-6)


def broken(name: str, **changes: Any) -> Callable[[Path], None]:
    """What saves the arrays with some of them replaced, None for none."""

    def save(path: Path) -> None:
        kept = {key: value for key, value in {**arrays(), **changes}.items() if value is not None}
        SAVE[name](path / name, kept)

    return save


def _group(path: Path) -> None:
    save_hdf5(path / "a.h5", arrays())
    with h5py.File(path / "a.h5", "a") as file:
        del file["x_train"]
        file["x_train/part"] = np.zeros(3)


FAULTS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no hdf5": ("a.h5", lambda path: (path / "a.h5").write_bytes(b"CDF"), "is no HDF5 file, or it is damaged"),
    "no file": ("a.h5", lambda path: None, "there is no file"),
    "key": ("a.h5", broken("a.h5", y_train=None), "lacks y_train; it has length_test"),
    "group": ("a.h5", _group, "x_train in .* is a group; expected arrays at the root"),
    "complex": ("a.h5", broken("a.h5", x_train=np.zeros((60, 12), complex)), "holds complex128; expected numbers"),
    "no matlab": ("a.mat", lambda path: (path / "a.mat").write_bytes(b"abc"), "is no MATLAB file, or it is damaged"),
    "text in matlab": ("a.mat", broken("a.mat", x_train=np.array(["a", "b"])), "is of MATLAB's class char"),
    "key of matlab": ("a.mat", broken("a.mat", x_test=None), "lacks x_test; it has"),
    "key of a folder": ("folder", broken("folder", y_test=None), "lacks y_test; it has length_test"),
    "pickle": ("folder", broken("folder", y_test=np.array([{}], object)), "y_test.npy holds pickled objects"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_way_to_break_a_file_has_its_own_message(fault: str, tmp_path: Path) -> None:
    name, save, message = FAULTS[fault]
    save(tmp_path)
    with pytest.raises(InputError, match=message):
        load(tmp_path / name)
