"""Generated files: the same for any number of processes, resumed, marked, refused where something else lies."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from orca.errors import InputError
from orca.runtime import read_json
from orca.tasks import TASKS, making
from orca.tasks.making import make
from orca.tasks.pdebench.advection import ADVECTION
from orca.tasks.published import SIDE, Published, Size

SMALL = Size(18, 0, 2, 32)


def with_blocks(block: int) -> Published:
    return dataclasses.replace(ADVECTION, maker=dataclasses.replace(ADVECTION.maker, block=block))


def test_files_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    published = with_blocks(4)
    make(published, tmp_path / "one", SMALL)
    make(published, tmp_path / "two", SMALL, workers=2)
    one, two = (published.read(tmp_path / name) for name in ("one", "two"))
    assert [len(one[part].x) for part in ("train", "test")] == [18, 2]
    for part in one:
        np.testing.assert_array_equal(one[part].x, two[part].x)
    other = tmp_path / "other"
    make(published, other, SMALL, seed=1)
    assert not np.array_equal(published.read(other)["train"].x, one["train"].x)


def test_what_is_written_and_checked_stays_on_disk(tmp_path: Path) -> None:
    seen: list[type] = []
    maker = ADVECTION.maker

    def spy(parts, points: int) -> list:
        seen.extend(type(values) for arrays in parts.values() for values in arrays.values())
        return list(maker.accept(parts, points))

    make(
        dataclasses.replace(ADVECTION, maker=dataclasses.replace(maker, block=4, accept=spy)), tmp_path / "made", SMALL
    )
    assert set(seen) == {np.memmap}
    make(ADVECTION, tmp_path / "whole", SMALL)
    sizes = [(tmp_path / name / ADVECTION.files[0]).stat().st_size for name in ("made", "whole")]
    assert sizes[0] == sizes[1]


def test_a_stopped_generation_does_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published, folder, drawn = with_blocks(4), tmp_path / "made", []
    whole = making._draw

    def stopping(*job) -> None:
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(job[2])
        whole(*job)

    monkeypatch.setattr(making, "_draw", stopping)
    with pytest.raises(KeyboardInterrupt):
        make(published, folder, SMALL)
    assert not (folder / SIDE).exists()
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(making, "_draw", whole)
    make(published, folder, SMALL, progress=lambda done, blocks: told.append((done, blocks)))
    assert told == [(3, 6), (4, 6), (5, 6), (6, 6)]
    make(published, tmp_path / "at once", SMALL)
    np.testing.assert_array_equal(published.read(folder)["train"].x, published.read(tmp_path / "at once")["train"].x)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*ADVECTION.files, SIDE])


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        make(ADVECTION, tmp_path, SMALL)


def test_the_side_file_tells_how_it_was_made(tmp_path: Path) -> None:
    make(ADVECTION, tmp_path / "made", SMALL, seed=3)
    facts = read_json(tmp_path / "made" / SIDE)
    assert (facts["synthetic"], facts["seed"], facts["parameters"]) == (True, 3, dataclasses.asdict(SMALL))
    assert all(check["passed"] for check in facts["checks"])


def test_a_task_reads_what_is_given_and_generates_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS.get("advection")
    monkeypatch.setenv("ORCA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    generated = task.load()
    assert "synthetic: generated" in generated.notes[0]
    before = task.fingerprint()
    make(ADVECTION, tmp_path / "advection", SMALL)
    given = task.load()
    assert (len(given.test), task.fingerprint() == before) == (2, False)
    (tmp_path / "advection" / SIDE).unlink()  # as the published files come
    assert not any("synthetic" in note for note in task.load().notes)
    (tmp_path / "advection" / ADVECTION.files[0]).unlink()
    with pytest.raises(InputError, match=r"advection lacks 1D_Advection_Sols_beta0.4.hdf5; put the published files"):
        task.load()
