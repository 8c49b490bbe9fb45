"""The benchmark of files larger than memory, on a small one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory
from orca.tasks.pdebench.advection import FILE, read


def test_a_sparse_file_has_its_whole_length_and_the_frames_that_are_read(tmp_path: Path) -> None:
    memory.write(tmp_path / FILE, 60)
    found = (tmp_path / FILE).stat()
    assert found.st_size > 60 * memory.FRAMES * memory.POINTS * 4
    assert found.st_blocks * 512 < 0.5 * found.st_size
    parts = read(tmp_path)
    norms = np.linalg.norm(np.concatenate([parts["train"].x, parts["train"].y], 1), axis=2)
    np.testing.assert_allclose(norms[:, 0], norms[:, 1], rtol=0.05)  # the last frame is the first one, moved
    assert norms.min() > 0


def test_it_trains_in_a_process_of_its_own_and_tells_the_peak(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--samples", "20", "--steps", "1", "--folder", str(tmp_path / "made"), "--chunked"]
    assert memory.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert 1e8 < told["imports_peak"] <= told["load_peak"] <= told["peak"] < memory.LIMIT  # bytes: torch alone has more
    assert (told["samples"], told["steps"]) == (20, 1)
    assert not (tmp_path / "made").exists()


def test_it_fails_where_the_peak_is_too_high(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LIMIT", 1e6)
    assert memory.main(["--samples", "20", "--steps", "1", "--folder", str(tmp_path / "made")]) == 1
    assert json.loads(capsys.readouterr().out)["peak"] > 1e6
