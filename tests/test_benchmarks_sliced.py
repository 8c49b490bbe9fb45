"""The benchmark of the sliced distance: finite figures, the same pairs again, correlations that mean what they say."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from benchmarks import sliced
from orca.types import LabeledSet

SMALL = ["--pairs=4", "--projections=20", "--sizes=40,80", "--full-limit=40", "--repeats=1", "--device=cpu"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCA_DATA", raising=False)
    monkeypatch.setattr(sliced, "LABELS", {"gaussian": (40, 80)})


def test_it_prints_finite_json_and_draws_the_same_pairs_again(capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    for _ in range(2):
        assert sliced.main([*SMALL, "--json"]) == 0
        made.append(json.loads(capsys.readouterr().out, parse_constant=pytest.fail))
    cell = made[0]["agreement"]["digits"]["gaussian"]
    assert list(cell["values"]) == ["full", "sliced", "features"]
    assert all(len(values) == 4 and min(values) > 0 for values in cell["values"].values())
    assert all(-1 <= r <= 1 for found in cell["correlation"].values() for r in found.values())
    assert cell["values"] == made[1]["agreement"]["digits"]["gaussian"]["values"]
    assert [set(row) for row in made[0]["seconds"]] == [{"n", "full", "sliced"}, {"n", "sliced"}]
    assert made[0]["million"] is None
    assert {"machine", "versions", "threads", "device", "commit", "seed", "projections", "moments"} <= set(made[0])


def test_it_prints_tables_and_draws_a_figure(
    capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sliced.million
    monkeypatch.setattr(sliced, "million", lambda given, device: one(given, device, n=500))
    figure = tmp_path / "new" / "sliced.svg"
    sliced.main([*SMALL, "--million", "--million-projections=4", "--figure", str(figure)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:6:2] for line in lines[2:4]] == [
        ["digits", "gaussian", "sliced"],
        ["digits", "gaussian", "features"],
    ]
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[8].startswith("| 80 | - | ")
    assert any(line.startswith("500 against 500 samples, 64 dimensions, 100 classes, 4 projections") for line in lines)
    assert ElementTree.parse(figure).getroot().tag.endswith("svg")


def test_correlations_of_a_rising_curve_are_those_of_its_shape() -> None:
    x = np.arange(1.0, 9.0)
    found = sliced.correlations(list(x**2), list(x**4))
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(np.corrcoef(x**2, x**4)[0, 1])
    assert found["pearson_of_roots"] == pytest.approx(np.corrcoef(x, x**2)[0, 1])
    assert sliced.correlations([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])["spearman"] == pytest.approx(-1)
    assert sliced.correlations([0.0, 4.0, 9.0], [-1e-9, 4.0, 9.0])["pearson_of_roots"] == pytest.approx(1)


def test_a_subset_has_samples_of_its_set_without_repeats_and_two_classes_or_more() -> None:
    y = torch.arange(300) % 6
    whole, draw = LabeledSet(torch.arange(300.0)[:, None], y), np.random.default_rng(0)
    sizes, classes = set(), set()
    for _ in range(30):
        part = sliced.subset(whole, draw, (40, 60))
        rows = part.x[:, 0].long()
        assert len(rows.unique()) == len(rows)
        assert torch.equal(part.y, y[rows])
        sizes.add(len(rows))
        classes.add(len(part.y.unique()))
    assert 40 <= min(sizes) < max(sizes) <= 60
    assert 2 <= min(classes) < max(classes) <= 6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--sizes", "10,x"], "whole number"),
        (["--moments", "11"], "at most 10"),
        (["--pairs", "2"], "at least 3"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_bad_input_is_refused(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        sliced.main([*SMALL, *given])
    assert said in capsys.readouterr().err


def test_a_task_without_its_data_is_left_out() -> None:
    found = sliced.real_sets(torch.device("cpu"))
    assert list(found) == ["digits"]
    assert found["digits"].x.shape[1] == 64
