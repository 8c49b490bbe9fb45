"""The page of dataset distances: self-contained, well-formed, true to its record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from orca.errors import InputError
from orca.report.alone import alone
from orca.report.distances import draw, nearest_labels, render_distances, report_paths, write_distances


def record(k: int = 3, m: int = 4, **changes: Any) -> dict[str, Any]:
    draw = np.random.default_rng(k * m)
    side = {"samples": 50, "available": None, "dimension": 8, "classes": k, "space": "here", "labels": "classes",
            "spread": 2.0}  # fmt: skip
    base = {
        "a": "first", "b": "second", "value": 12.5, "relative": 6.25, "between_means": 2.5,
        "label_distances": (1 + draw.random((k, m))).tolist(),
        "label_mass": draw.dirichlet(np.ones(k * m)).reshape(k, m).tolist(),
        "source_labels": [f"s{i}" for i in range(k)], "target_labels": [f"t{i}" for i in range(m)],
        "converged": True, "marginal_error": 1e-4, "iterations": 12, "samples": {"a": 50, "b": 50},
        "sets": {"a": side, "b": {**side, "classes": m, "available": 1234}}, "notes": ["a note"],
        "settings": {"method": "sinkhorn", "label_distance": "gaussian", "seed": 0, "p": 2, "debias": True,
                     "spread": 2.0, "body": None},
        "versions": {"python": "3"},
    }  # fmt: skip
    return {**base, **changes}


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_asks_nothing_of_the_network_and_is_the_same_each_time() -> None:
    page = render_distances([record()])
    assert page == render_distances([record()])
    assert not re.search(r"<script|<link|src=|url\((?!#)|https?://(?!www\.w3\.org)", page)
    assert len(re.findall(r"<svg", page)) == 2
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_page_tells_value_convergence_sets_notes_and_settings() -> None:
    shown = text(render_distances([record()]))
    for part in ("12.5", "6.25 spreads of first", "2.50 of it lies between the means", "converged in 12 iterations",
                 "drawn from 1 234", "a note", "method sinkhorn", "no promise"):  # fmt: skip
        assert part in shown, part
    assert "not converged in 12" in text(render_distances([record(converged=False)]))
    assert "body" not in shown.partition("Settings")[2]


def test_names_cannot_break_the_page_or_a_figure() -> None:
    odd = record(a="<b>&", b='"x$y$', source_labels=["<i>", "$a$", "z" * 40])
    page = render_distances([odd])
    assert "<b>&" not in page
    assert "<i>" not in page
    for drawn in draw([odd]).values():
        ElementTree.fromstring(alone(drawn.figure))


@pytest.mark.parametrize("shape", [(1, 1), (2, 30), (60, 3), (50, 50)])
def test_tables_of_any_size_are_drawn_as_files_of_their_own(shape: tuple[int, int]) -> None:
    for name, drawn in draw([record(*shape)]).items():
        root = ElementTree.fromstring(alone(drawn.figure))
        assert root.attrib["aria-label"]
        assert "prefers-color-scheme: dark" in "".join(root.itertext()), name
        assert drawn.caption


def test_several_sets_are_ranked_in_a_figure_and_a_table() -> None:
    records = [record(b=f"/data/set{i}.npz", value=float(i)) for i in range(3)]
    page = render_distances(records)
    assert len(re.findall(r"<svg", page)) == 7
    assert "set0.npz" in text(page)
    assert "the part that lies between the means" in page
    unknown = [{**r, "between_means": None} for r in records]
    assert "the part that lies between the means" not in render_distances(unknown)


def test_values_below_zero_and_sets_without_plan_or_labels_are_shown() -> None:
    bare = {"label_distances": None, "label_mass": None, "converged": None, "marginal_error": None, "iterations": None,
            "between_means": None, "standard_error": 0.1}  # fmt: skip
    page = render_distances([record(value=-0.5, **bare), record(value=2.0, label_distances=[[0.0] * 4] * 3)])
    assert "± 0.100" in text(page)
    assert len(re.findall(r"<svg", page)) == 2  # ranking, and the mass of the second
    assert nearest_labels(record(label_distances=[[0.0] * 4] * 3)) == []


def test_the_nearest_labels_come_first_with_their_mass() -> None:
    made = record(2, 2, label_distances=[[3.0, 1.0], [2.0, 4.0]], label_mass=[[0.1, 0.2], [0.3, 0.4]])
    found = nearest_labels(made, 2)
    assert [(r["source"], r["target"], r["distance"], r["mass"]) for r in found] == [
        ("s0", "t1", 1.0, 0.2),
        ("s1", "t0", 2.0, 0.3),
    ]


def test_a_folder_gets_page_data_and_figures_and_a_file_the_page_alone(tmp_path) -> None:
    assert write_distances(tmp_path / "x.html", [record()]) == tmp_path / "x.html"
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]
    (tmp_path / "v1.0").mkdir()
    assert write_distances(tmp_path / "v1.0", [record()]).name == "otdd.html"
    assert {p.name for p in (tmp_path / "v1.0").iterdir()} == {
        "otdd.html",
        "otdd.json",
        "distances-1.svg",
        "mass-1.svg",
    }
    for wrong in (tmp_path / "x.json", tmp_path / "x.html" / "y"):
        with pytest.raises(InputError, match="folder or a file .html|cannot be written"):
            write_distances(wrong, [record()])
    assert report_paths(tmp_path / "new") == (tmp_path / "new" / "otdd.html", True)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "docs").glob("otdd-*.svg")), ids=lambda p: p.name)
def test_the_pictures_of_the_documents_stand_alone_and_describe_themselves(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    assert root.attrib["aria-label"]
    assert "prefers-color-scheme: dark" in "".join(root.itertext())
