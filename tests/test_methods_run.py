"""Whole runs of every method that came later, and the table of what each trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orca
from benchmarks.methods import table
from orca.methods import METHODS
from orca.model import AdaptedModel
from tests.test_run import settings
from tests.tiny import save_tiny_body

CHOSEN: dict[str, dict[str, Any]] = {"partial": {"last": 1}, "prompt": {"start": "words", "tokens": 4}}
LATER = [name for name in METHODS.names() if name not in ("full", "layernorm", "head", "scratch")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a body and a store, which all methods share."""
    folder = tmp_path_factory.mktemp("methods")
    save_tiny_body(folder / "body")
    return folder


@pytest.mark.parametrize("name", LATER)
def test_a_whole_run_by_the_plain_api(name: str, place: Path, tmp_path: Path) -> None:
    chosen = {"method": name, "options": CHOSEN.get(name, {})}
    config = settings(place, place / "body", align={"objective": "none"}, finetune=chosen)
    result = orca.adapt(config, store=place / "store")
    counts, x = result.record["parameters"], np.load(place / "data.npz")["x_test"]
    assert result.record["run"].startswith(f"tiny-{name}-s0-")
    assert (counts["trained"] < counts["total"]) == (name not in ("lp-ft", "peft-ft"))
    assert result.record["metric"]["value"] <= 0.5
    assert (result.path / "report.html").is_file()
    model = orca.load(result.path)
    model.save_pretrained(tmp_path / "part", trained_only=True)
    assert np.array_equal(AdaptedModel.from_pretrained(tmp_path / "part").scores(x), model.scores(x))
    model.save_pretrained(tmp_path / "part")  # in place of the part
    assert {path.name for path in (tmp_path / "part").iterdir()} == {"config.json", "model.safetensors"}
    assert orca.adapt(config, store=place / "store").unchanged


def test_the_table_of_what_methods_train_is_what_the_code_makes() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "methods.md").read_text()
    assert table() in page  # python -m benchmarks.methods --write docs/methods.md
