from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orca.errors import InputError
from orca.metrics import DEFAULT_METRIC, METRICS
from orca.report import render, write_report
from orca.report.data import show

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags balance; gathers ids, addresses and images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, tag: str, attrs: dict[str, str | None]) -> None:
        self.ids += [attrs["id"] or ""] if "id" in attrs else []
        self.addresses += [v or "" for k, v in attrs.items() if k in ("src", "href", "xlink:href", "srcset", "action")]
        if tag == "img" or (tag == "svg" and attrs.get("class") == "figure"):
            self.pictures.append(attrs)


def digits(n: int, k: int, rng: np.random.Generator) -> dict[str, Any]:
    y = rng.integers(k, size=n)
    x = np.kron(rng.random((16, 1, 8, 8)), np.ones((1, 1, 2, 2))).astype(np.float32)
    classes = [f"class {i} <b>" for i in range(k)]
    layout = {"input": "grid", "target": "classes", "input_shape": [1, 16, 16], "target_shape": [k], "classes": classes}
    return {"layout": layout, "y": y, "scores": rng.normal(size=(n, k)) + 3 * np.eye(k)[y], "x": x}


def signals(n: int, rng: np.random.Generator) -> dict[str, Any]:
    k = 10
    y = (rng.random((n, k)) < 0.3).astype(np.int64)
    y[:, 3] = 0
    x = np.cumsum(rng.normal(size=(16, 2, 120)), axis=2).astype(np.float32)
    names = [f"label {i}" for i in range(k)]
    layout = {
        "input": "sequence",
        "target": "multilabel",
        "input_shape": [2, 120],
        "target_shape": [k],
        "classes": names,
    }
    length = np.linspace(40, 120, 16).astype(np.int64)
    return {"layout": layout, "y": y, "scores": rng.normal(size=(n, k)) + 1.5 * y, "x": x, "length": length}


def table(n: int, rng: np.random.Generator) -> dict[str, Any]:
    y = rng.normal(size=(n, 1))
    layout = {"input": "table", "target": "scalar", "input_shape": [11], "target_shape": [1]}
    return {"layout": layout, "y": y, "scores": y + 0.3 * rng.normal(size=y.shape), "x": rng.normal(size=(16, 11))}


def field(n: int, space: tuple[int, ...], rng: np.random.Generator) -> dict[str, Any]:
    grids = np.meshgrid(*[np.linspace(0, 1, s) for s in space], indexing="ij")
    waves = [np.prod([np.sin(np.pi * rng.uniform(1, 3) * g) for g in grids], axis=0) for _ in range(n)]
    y = np.stack(waves)[:, None]
    scores = y * rng.normal(1, 0.1, size=(n,) + (1,) * (y.ndim - 1)) + 0.03 * rng.normal(size=y.shape)
    kind = "sequence" if len(space) == 1 else "grid"
    layout = {"input": kind, "target": "field", "input_shape": [1, *space], "target_shape": [1, *space]}
    return {"layout": layout, "y": y, "scores": scores, "x": (y[:16] > 0).astype(np.float32)}


def mask(n: int, rng: np.random.Generator) -> dict[str, Any]:
    x = rng.normal(size=(n, 1, 16, 16))
    y = np.where(x < -2.5, -1, x > 1)
    layout = {"input": "grid", "target": "mask", "input_shape": [1, 16, 16], "target_shape": [1, 16, 16]}
    return {"layout": layout, "y": y.astype(np.float32), "scores": x - 1 + 0.3 * rng.normal(size=x.shape), "x": x[:16]}


def spectra(n: int, rng: np.random.Generator) -> dict[str, Any]:
    run = digits(n, 40, rng)
    run["layout"] |= {"input": "sequence", "input_shape": [24, 50]}
    run["x"] = np.cumsum(rng.normal(size=(16, 24, 50)), axis=2).astype(np.float32)
    return run


def kinds(n: int = 120) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(0)
    return {
        "classes": digits(n, 6, rng),
        "many": spectra(8 * n, rng=rng),
        "multilabel": signals(n, rng),
        "scalar": table(n, rng),
        "field1": field(30, (64,), rng),
        "field2": field(30, (16, 16), rng),
        "mask": mask(30, rng),
    }


def write(folder: Path, spec: dict[str, Any], **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    metric = METRICS.get(DEFAULT_METRIC[spec["layout"]["target"]])
    value = metric.fn(spec["scores"], spec["y"])
    result = {"name": metric.name, "value": value, "higher_is_better": metric.higher_is_better, "n": len(spec["y"])}
    result["ci95"] = [0.93 * value, 1.07 * value]
    plain = {"majority": 0.871, "linear": 0.1234, "nearest": 0.21}
    run = {
        "run": "demo-full-s0-1f3a9c2b",
        "task": "demo <script>",
        "body": "minilm",
        "align": "otdd",
        "method": "full",
        "seed": 0,
        "metric": result,
        "validation": {"value": 0.0456, "epoch": 4},
        "shift": {"speaker": 0.31},
        "baselines": plain,
        "parameters": {"total": 10_900_000, "trained": 21_000},
        "stages": [
            {"name": "embed", "seconds": 1.23, "cached": True, "path": "a"},
            {"name": "align", "seconds": 54.3, "cached": False, "path": "b"},
            {"name": "finetune", "seconds": 1234.5, "cached": False, "path": "c"},
        ],
        "created": "2026-01-02T03:04:05+00:00",
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "machine": {"cpu": "a processor", "cores": 2, "gpu": None},
        "commit": "0123456789abcdef",
        "peak_memory_mb": 812.5,
        "notes": ["Twelve items were left out & counted."],
    } | changes
    baselines = {k: {"test": v, "speaker": v + 0.1} for k, v in plain.items()}
    shift = {"speaker": {"value": 0.31, "ci95": [0.28, 0.34], "n": 40}}
    metrics = {"test": run["metric"], "validation": run["validation"], "shift": shift, "baselines": baselines}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics | {"others": {"mcc": 0.777}}))
    (folder / "config.yaml").write_text("task: demo\nfinetune: {epochs: 6}  # <here>\n")
    (folder / "layout.json").write_text(json.dumps(spec["layout"]))
    history = [
        {"stage": "align", "epoch": i, "objective": 9 / i, "seconds": 1.0, "probe": 1 / i if i % 2 else None}
        for i in range(1, 10)
    ]
    history += [{"stage": "align", "kept": "epoch 7", "probe_unaligned": 0.5, "probe_kept": 1 / 7}]
    history += [
        {"stage": "finetune", "epoch": i, "train_loss": 2 / i, "val_metric": 0.3 / i, "lr": 1e-4, "seconds": 2.0}
        for i in range(1, 7)
    ]
    (folder / "history.jsonl").write_text("\n".join(json.dumps(h) for h in history))
    arrays = {"test_scores": spec["scores"], "test_y": spec["y"], "examples_x": spec["x"]}
    if "length" in spec:
        arrays["examples_length"] = spec["length"]
    np.savez(folder / "predictions.npz", **arrays)
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("runs")
    return {name: render(write(root / name, spec)) for name, spec in kinds().items()}


@pytest.mark.parametrize("kind", list(kinds()))
def test_page_is_well_formed_and_asks_nothing_of_the_network(pages, kind):
    page = Page(pages[kind])
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in page.addresses)
    assert len(page.ids) == len(set(page.ids))
    references = {a[1:] for a in page.addresses if a.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", pages[kind]))
    assert references <= set(page.ids)
    assert not re.search(r"@import|<script|<link|url\(\s*['\"]?(?!#)|https?:", pages[kind])


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_picture_has_words(pages, kind):
    pictures = Page(pages[kind]).pictures
    assert len(pictures) >= 4
    assert all(p.get("alt") or p.get("aria-label") for p in pictures)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "Kept: epoch 7. It is the last that a ridge probe of frozen features lets pass on validation data."),
        ({"kept": "unaligned"}, "Kept: unaligned. A ridge probe of frozen features let no other pass on validation"),
        ({"keep": "last"}, "Kept: epoch 7. It is the last, as align.keep says, whatever the probe of frozen features"),
        (
            {"keep": "trained", "validation_aligned": 0.125, "validation_unaligned": 0.25},
            "Kept: epoch 7. Both were trained: validation is 0.125 with the aligned one, 0.250 with the unaligned one.",
        ),
    ],
)
def test_the_figure_of_alignment_says_what_chose_the_embedder(told, words, tmp_path):
    folder = write(tmp_path / "run", kinds()["classes"])
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    lines = [{**line, **told} if "kept" in line else line for line in lines]
    (folder / "history.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert words in render(folder)


def test_page_holds_the_numbers_of_the_run(pages):
    page = pages["classes"]
    for text in (
        "0.871",
        "0.123",
        "0.310",
        "[0.280, 0.340]",
        "0.777",
        "0.0456",
        "54.3",
        "1\u202f234",
        "10\u202f900\u202f000",
    ):
        assert text in page
    for text in ("demo-full-s0-1f3a9c2b", "minilm", "epoch 7", "store (cached)", "2.13.0", "0123456789abcdef", "812"):
        assert text in page
    assert "Twelve items were left out &amp; counted." in page
    assert "2026-01-02 03:04:05" in page


def test_text_of_the_run_cannot_become_markup(pages):
    assert "demo &lt;script&gt;" in pages["classes"]
    assert "# &lt;here&gt;" in pages["classes"]
    assert "class 1 &lt;b&gt;" in pages["classes"]
    assert '<b>"' not in pages["classes"]


def test_each_kind_of_target_has_its_figure(pages):
    words = {
        "classes": "Numbers are samples",
        "many": "Most frequent confusions",
        "multilabel": "Left out, as always or never present: 1.",
        "scalar": "Predicted against true values",
        "field1": "best, the median and the worst",
        "field2": "one colour scale",
        "mask": "blank ones do not count",
    }
    assert all(text in pages[kind] for kind, text in words.items())


def test_figures_take_their_colours_from_the_page(pages):
    assert "prefers-color-scheme: dark" in pages["classes"]
    assert "var(--one)" in pages["classes"].split("</style>")[1]
    assert "#0102" not in pages["classes"]


def test_same_files_give_the_same_page(pages, tmp_path):
    assert render(write(tmp_path / "a", kinds()["scalar"])) == pages["scalar"]


def test_values_that_are_nan_or_missing_are_shown_as_a_dash(tmp_path):
    spec = kinds()["classes"]
    metric = {"name": "error", "value": float("nan"), "higher_is_better": False, "ci95": [None, None], "n": 3}
    folder = write(tmp_path / "a", spec, metric=metric, baselines={"majority": None}, validation=None, notes=[])
    (folder / "metrics.json").unlink()
    (folder / "history.jsonl").write_text(
        '{"stage": "finetune", "epoch": 1, "train_loss": NaN, "val_metric": null, "lr": 1, "seconds": 1}\n'
    )
    page = render(folder)
    Page(page)
    assert '<p class="big">–</p>' in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()


def test_run_json_alone_is_enough(tmp_path):
    folder = write(tmp_path / "a", kinds()["classes"], align="none")
    for name in ("metrics.json", "config.yaml", "layout.json", "history.jsonl", "predictions.npz"):
        (folder / name).unlink()
    page = render(folder)
    Page(page)
    assert "0.123" in page
    assert "No embedder was aligned" in page


def test_report_is_written_into_the_run(tmp_path):
    folder = write(tmp_path / "a", kinds()["scalar"])
    (folder / "predictions.npz").unlink()
    path = write_report(folder)
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert not list(folder.glob("*tmp*"))


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a finished run: it has no run.json"):
        render(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.03149, "0.0315"),
        (0.5, "0.500"),
        (123.4, "123"),
        (12345.6, "12\u202f346"),
        (7, "7"),
        (None, "–"),
        (0.0, "0.00"),
    ],
)
def test_numbers_are_shown_with_three_digits(value, text):
    assert show(value) == text
