"""Every way in which a task's files can be wrong is found and named with its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from orca.errors import InputError
from orca.runtime import read_json, write_json
from orca.tasks import TASKS, TaskSpec
from orca.tasks.encodings import SequenceEncoding
from orca.tasks.inspection import Inspection, inspect
from orca.tasks.making import make
from orca.tasks.pdebench.advection import ADVECTION, FILE, KEY
from orca.tasks.published import SIDE, Size
from orca.tasks.spec import Archive
from orca.types import Provenance

RNG = np.random.default_rng(0)


def task(target: Any = "classes", classes: tuple[str, ...] = ()) -> TaskSpec:
    """A task that reads signals from ``mine.npz``."""
    return TaskSpec(
        name="mine", title="", input="sequence", target=target, metric="error", provenance=Provenance("", ""),
        encoding=SequenceEncoding(), load=lambda: None, fingerprint=lambda: "", classes=classes,  # pyright: ignore[reportArgumentType]
        archive=Archive("mine", ("x_train", "y_train", "x_test", "y_test")),
    )  # fmt: skip


def arrays(**changes: Any) -> dict[str, Any]:
    good = {
        "x_train": RNG.standard_normal((30, 8)), "y_train": np.arange(30) % 3,
        "x_test": RNG.standard_normal((6, 8)), "y_test": np.arange(6) % 3,
    }  # fmt: skip
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def look(folder: Path, found: dict[str, Any], spec: TaskSpec | None = None) -> Inspection:
    np.savez(folder / "mine.npz", **found)
    return inspect(spec or task(), folder)


def told(found: Inspection, *, wrong: bool = True) -> list[str]:
    return [f"{f.where}: {f.what}" for f in found.findings if f.wrong is wrong]


def test_good_files_have_no_finding_and_their_facts_are_told(tmp_path: Path) -> None:
    found = look(tmp_path, arrays())
    assert (found.passed, found.findings) == (True, ())
    assert [(part.name, part.samples, part.counts) for part in found.parts] == [
        ("train", 30, (10, 10, 10)), ("test", 6, (2, 2, 2)),
    ]  # fmt: skip
    assert found.parts[0].inputs == "float64 (30, 8)"


X, BAD = RNG.standard_normal((6, 8)), RNG.standard_normal((6, 8))
BAD[[2, 4], 1] = np.nan, np.inf
FAULTS = {
    "nan": ({"x_test": BAD}, "x of test: has 2 NaN or infinite values in 2 of 6 rows, first in row 2"),
    "lengths": ({"y_test": np.zeros(5, int)}, "test: x has shape (6, 8) and y (5,); one target per input is needed"),
    "empty": ({"x_test": X[:0], "y_test": np.zeros(0, int)}, "test: is empty; every split needs at least one sample"),
    "half": ({"x_val": X}, "y_val: is missing, its other half is there"),
    "axes": ({"x_test": RNG.standard_normal((6, 2, 8))}, "x of test: is float64 (6, 2, 8); in train it is float64"),
    "text": ({"x_test": np.array(["a"] * 6)}, "x of test: sequence needs numbers of shape (n, L) or (n, C, L)"),
    "negative": ({"y_test": np.arange(6) - 1}, "y of test: has label -1 in row 0; mine has classes 0..2"),
    "new class": ({"y_test": np.array([0, 1, 2, 0, 1, 7])}, "y of test: has classes that train lacks: 7"),
    "gap": ({"y_train": np.arange(30) % 3 * 2, "y_test": np.zeros(6, int)}, "y of train: has no sample of class 1, 3"),
    "fractions": ({"y_test": np.full(6, 0.5)}, "y of test: is float64 (6); classes are integers 0..K-1"),
    "names": ({"y_train": np.array(["a"] * 30)}, "y of train: is <U1 (30); classes are integers 0..K-1"),
    "clips": ({"x_val": np.zeros(9), "y_val": [0], "len_val": np.array([8])}, "len_val: adds up to 8; x_val has 9"),
    "too long": ({"length_test": np.full(6, 9)}, "x of test: lengths must be 1..8; got 9..9"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_own_words_and_place(fault: str, tmp_path: Path) -> None:
    changes, message = FAULTS[fault]
    found = look(tmp_path, arrays(**changes))
    assert not found.passed
    assert [line for line in told(found) if line.startswith(message)], told(found)


def test_labels_are_held_against_the_classes_of_the_task(tmp_path: Path) -> None:
    found = look(tmp_path, arrays(), task(classes=("a", "b")))
    assert "y of train: has label 2 in row 2; mine has classes 0..1" in told(found)
    found = look(tmp_path, arrays(), task(classes=("a", "b", "c", "d")))
    assert told(found) == ["y of train: has no sample of class 3"]


def test_several_labels_are_zeros_and_ones(tmp_path: Path) -> None:
    y = {"y_train": np.zeros((30, 2), int), "y_test": np.array([[0, 1]] * 6)}
    found = look(tmp_path, arrays(**y), task("multilabel"))
    assert (found.passed, found.parts[1].counts) == (True, (0, 6))
    y["y_test"][3, 0] = 2
    assert told(look(tmp_path, arrays(**y), task("multilabel"))) == [
        "y of test: has 2 in row 3, label 0; labels are 0 or 1"
    ]
    y["y_test"] = np.zeros(6, int)
    assert "several labels are (n, K) of 0 and 1" in told(look(tmp_path, arrays(**y), task("multilabel")))[0]


def test_samples_of_two_splits_are_wrong_and_repeated_ones_worth_knowing(tmp_path: Path) -> None:
    x = RNG.standard_normal((30, 8)).astype(np.float32)
    x[7], x[9] = x[3], 0
    test = np.concatenate([RNG.standard_normal((4, 8)), x[[9, 3]]])  # float64 of the same numbers
    test[4] = -0.0
    found = look(tmp_path, arrays(x_train=x, x_test=test))
    assert told(found) == [
        "train and test: 3 of 30 rows of train are also in test (2 of its 6 rows): row 4 of test is row 9 of train"
    ]
    assert told(found, wrong=False) == [
        "train: 1 of 30 rows repeat an earlier one, first row 7; 1 of them have another target"
    ]


def test_only_the_valid_part_of_a_sequence_counts(tmp_path: Path) -> None:
    x = RNG.standard_normal((6, 8))
    other = x.copy()
    other[:, 5:] += 1
    same = {"x_train": np.repeat(x, 5, 0), "x_test": other, "length_test": np.full(6, 5)}
    assert told(look(tmp_path, arrays(**same, length_train=np.full(30, 5))))[0].startswith("train and test: 30 of 30")
    assert look(tmp_path, arrays(**same)).passed


def test_files_that_are_not_there_or_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        inspect(task(), tmp_path / "none")
    with pytest.raises(InputError, match="digits reads no files"):
        inspect(TASKS.get("digits"), tmp_path)
    assert "there is no file" in told(inspect(task(), tmp_path))[0]
    assert "lacks y_train; it has x_train" in told(look(tmp_path, arrays(y_train=None)))[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "advection"
    make(ADVECTION, folder, Size(18, 0, 2, 32))
    return folder


def test_published_files_are_looked_through_by_their_reader(made: Path) -> None:
    spec = TASKS.get("advection")
    found = inspect(spec, made)
    assert (found.passed, found.synthetic, [part.samples for part in found.parts]) == (True, True, [18, 2])
    with h5py.File(made / FILE, "r+") as file:
        tensor: Any = file[KEY]
        tensor[5, 0, 3] = np.nan
        tensor[6] = tensor[0]
    assert told(inspect(spec, made)) == [
        "x of train: has 1 NaN or infinite values in 1 of 18 rows, first in row 3",
        "train and test: 1 of 18 rows of train are also in test (1 of its 2 rows): row 0 of test is row 4 of train",
    ]
    facts = read_json(made / SIDE)
    facts["checks"][0]["passed"] = False
    write_json(made / SIDE, facts)
    assert any("failed when it was made: least norm" in line for line in told(inspect(spec, made)))
    (made / SIDE).write_text("{}")
    assert any("orca.json: is damaged" in line for line in told(inspect(spec, made)))
    with h5py.File(made / FILE, "r+") as file:
        del file[KEY]
    assert "lacks tensor; it has t-coordinate" in told(inspect(spec, made))[0]
    (made / FILE).unlink()
    assert f"lacks {FILE}" in told(inspect(spec, made))[0]


def test_the_leaked_sequences_of_ienhancer_are_found() -> None:
    spec = TASKS.get("ienhancer")
    if why := spec.missing():
        pytest.skip(why)
    found = inspect(spec, Path(os.environ["ORCA_DATA"]))
    assert [line for line in told(found) if "100 of 2968 rows of train are also in test (100 of its 400" in line]
