"""The commands ``orca data make``, ``check`` and ``convert``: what they print where, and how they end."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.commands import data
from orca.errors import InputError
from orca.tasks import making
from orca.tasks.making import scaled
from orca.tasks.pdebench.advection import ADVECTION
from orca.tasks.published import Check, Size

SMALL = ("--n", "20", "--size", "32", "--workers", "1")


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.mark.parametrize("command", ["make", "check", "convert"])
def test_every_command_has_help(command: str) -> None:
    assert "Usage" in call(command, "--help").stdout
    assert command in call("--help").stdout


def test_data_is_made_told_and_checked(tmp_path: Path) -> None:
    folder = tmp_path / "advection"
    made = call("make", "advection", folder, *SMALL)
    assert made.exit_code == 0, made.output
    assert "least norm of the end over that of the beginning" in made.stdout
    assert "passed" in made.stdout
    assert made.stderr.startswith("about ")
    again = call("make", "advection", folder, *SMALL)
    assert (again.exit_code, again.stdout, again.stderr) == (0, made.stdout, "")
    other = call("make", "advection", folder, *SMALL, "--seed", 1)
    assert (other.exit_code, "is not empty; choose a new folder" in other.stderr) == (2, True)
    checked = call("check", "advection", folder)
    assert checked.exit_code == 0, checked.output
    assert "nothing is wrong\n(generated data)" in checked.stdout
    found = json.loads(call("check", "advection", folder, "--json").stdout)
    assert (found["passed"], found["synthetic"], found["parts"][0]["samples"]) == (True, True, 18)
    (folder / ADVECTION.files[0]).unlink()
    broken = call("check", "advection", folder)
    assert (broken.exit_code, broken.stdout[:5]) == (1, "wrong")


def test_a_check_that_fails_leaves_the_files_and_ends_with_code_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [Check("speed", 3.0, 0.0, 1.0), Check("mass", float("nan"), 0.0)]
    monkeypatch.setattr(making, "make", lambda *a, **k: checks)
    made = call("make", "advection", tmp_path / "a", *SMALL)
    assert made.exit_code == 1
    assert "speed  3      0      1     FAILED" in made.stdout
    assert "mass   -      0      -     FAILED" in made.stdout
    document = json.loads(call("make", "advection", tmp_path / "a", *SMALL, "--json").stdout)
    assert document["checks"][0] == {"name": "speed", "value": 3.0, "low": 0.0, "high": 1.0, "passed": False}
    assert document["parameters"] == {"train": 18, "val": 0, "test": 2, "points": 32}


def test_checks_come_back_from_the_side_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, size = tmp_path / "a", Size(4, 0, 1, 16)
    making.make(ADVECTION, folder, size)
    first, *others = making.made_before(ADVECTION, folder, size, 0) or []
    assert (first.passed, first.low, first.high) == (True, 0.98, 1.02)
    assert len(others) == 1
    assert making.made_before(ADVECTION, folder, size, 1) is None
    assert making.made_before(ADVECTION, folder, Size(5, 0, 1, 16), 0) is None
    facts = making.read_json(folder / "orca.json")
    gone = {"name": "gone", "value": None, "low": 1.0, "high": None, "passed": False}
    monkeypatch.setattr(making, "read_json", lambda path: facts | {"checks": [gone]})
    (found,) = making.made_before(ADVECTION, folder, size, 0) or []
    assert (found.passed, found.low, found.high) == (False, 1.0, float("inf"))


def test_too_little_room_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.shutil, "disk_usage", lambda path: SimpleNamespace(free=5e6))
    made = call("make", "advection", tmp_path / "a" / "b")
    assert made.exit_code == 2
    assert "about 8.2 GB and, while they are made, twice as much again are needed" in made.stderr
    assert "the disk has 5 MB free; give fewer samples by --n" in made.stderr
    assert not (tmp_path / "a").exists()


def test_progress_is_one_line_with_the_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    data._make(ADVECTION, tmp_path / "a", Size(120, 0, 20, 16), seed=0, workers=1)
    assert "step 2/4  0:0" in shown.getvalue()
    assert shown.getvalue().rstrip().endswith("s")


@pytest.mark.parametrize(
    ("samples", "points", "expected"),
    [
        (None, None, Size(900, 50, 50, 64)),
        (100, None, Size(90, 5, 5, 64)),
        (3, 8, Size(1, 1, 1, 8)),
        (2000, None, Size(1800, 100, 100, 64)),
    ],
)
def test_splits_are_scaled_in_proportion(samples: int | None, points: int | None, expected: Size) -> None:
    assert scaled(Size(900, 50, 50, 64), samples=samples, points=points) == expected


def test_fewer_samples_than_splits_are_refused() -> None:
    with pytest.raises(InputError, match="1 samples are too few for train, test; give at least 2"):
        scaled(ADVECTION.maker.published, samples=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("make", "digits", "x"), "digits has no generator; there are: "),
        (("make", "advektion", "x"), "did you mean advection"),
        (("check", "digits", "."), "digits reads no files"),
        (("convert", "digits", "."), "digits has no pickles to convert"),
        (("convert", "ecg", "none"), "there is no folder none"),
    ],
)
def test_bad_input_ends_with_code_two_and_a_message(arguments: tuple[str, ...], message: str) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_pickles_are_converted_and_hostile_ones_named(tmp_path: Path) -> None:
    file = tmp_path / "challenge2017.pkl"
    file.write_bytes(pickle.dumps({"data": [np.arange(3.0)], "label": ["N"]}))
    done = call("convert", "ecg", tmp_path)
    assert (done.exit_code, done.stdout.strip()) == (0, str(tmp_path / "challenge2017.npz"))
    (tmp_path / "challenge2017.npz").unlink()
    file.write_bytes(pickle.dumps({"data": len, "label": ["N"]}))
    refused = call("convert", "ecg", tmp_path)
    assert (refused.exit_code, "is refused: it asks for builtins.len" in refused.stderr) == (2, True)
    assert not (tmp_path / "challenge2017.npz").exists()


def test_many_classes_are_told_in_short() -> None:
    few = [{"name": "train", "counts": (5, 6)}, {"name": "test", "counts": (1,)}]
    assert data._counts(few) == "class  0  1\ntrain  5  6\ntest   1"
    many = [{"name": "train", "counts": tuple(range(1, 101))}]
    assert data._counts(many).splitlines()[1].split() == ["train", "100", "1", "100"]
