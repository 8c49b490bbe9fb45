"""Data sets of Hugging Face: classes by name, media as files, saved or as plain files; nothing fetched unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as Picture

from orca.config import load_config
from orca.errors import InputError
from orca.tasks import OwnData, resolve_task
from orca.tasks.readers import hub
from orca.types import Splits

datasets = pytest.importorskip("datasets", reason="the extra datasets is not installed")
KINDS = datasets.ClassLabel(names=["oak", "elm"])


def load(path: Path | str, **settings: Any) -> Splits:
    data = path if isinstance(path, str) else f"hf:{path}"
    return resolve_task(
        OwnData(**{"name": "mine", "data": data, "input": "table", "target": "classes", **settings})
    ).load()


def rows(n: int, start: int = 0) -> Any:
    """Rows with a class, numbers of which some are missing, text, truth values and lists."""
    features = datasets.Features({
        "kind": KINDS, "height": datasets.Value("float32"), "rings": datasets.Value("int64"),
        "bark": datasets.Value("string"), "old": datasets.Value("bool"),
        "signal": datasets.List(datasets.Value("float32")),
    })  # fmt: skip
    number = range(start, start + n)
    return datasets.Dataset.from_dict({
        "kind": [i % 2 for i in number], "height": [None if i % 7 == 0 else i / 4 for i in number],
        "rings": [None if i % 5 == 0 else i for i in number],
        "bark": [None if i % 11 == 0 else "ab"[i % 2] for i in number],
        "old": [i % 3 == 0 for i in number], "signal": [[float(i), i % 2, -1.0] for i in number],
    }, features=features)  # fmt: skip


def saved(path: Path, **parts: Any) -> Path:
    datasets.DatasetDict(parts).save_to_disk(str(path))
    return path


def test_a_saved_set_is_a_table_with_its_splits_and_class_names(tmp_path: Path) -> None:
    path = saved(tmp_path / "trees", train=rows(60), validation=rows(10, 60), test=rows(12, 70), unsupervised=rows(5))
    splits = load(path, targets=["kind"], inputs=["height", "rings", "bark", "old"])
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [60, 10, 12]
    assert splits.layout.classes == ("elm", "oak")
    np.testing.assert_array_equal(splits.test.y, (np.arange(70, 82) + 1) % 2)
    heights, rings = splits.test.x[:, 0], splits.test.x[:, 1]
    np.testing.assert_allclose(heights[1:7], np.arange(71, 77) / 4)
    mean = np.mean([i for i in range(60) if i % 5])
    np.testing.assert_allclose(rings[:3], [mean, 71, 72], rtol=1e-6)  # 70 is missing


def test_lists_of_one_length_are_a_signal(tmp_path: Path) -> None:
    splits = load(
        saved(tmp_path / "a", train=rows(60), test=rows(6, 60)), input="sequence", targets=["kind"],
        inputs=["signal_0", "signal_1", "signal_2"],
    )  # fmt: skip
    assert splits.layout.input_shape == (1, 3)
    np.testing.assert_array_equal(splits.test.x[2, 0], [62, 0, -1])


def test_a_folder_of_plain_files_is_read_as_the_hub_lays_it_out(tmp_path: Path) -> None:
    for part, n in (("train", 50), ("test", 10)):
        rows(n).remove_columns("signal").to_parquet(str(tmp_path / "trees" / f"{part}.parquet"))
    splits = load(tmp_path / "trees", targets=["kind"])
    assert (len(splits.train) + len(splits.val), len(splits.test)) == (50, 10)
    assert splits.layout.classes == ("elm", "oak")


def test_images_become_files(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    made = {"image": [Picture.fromarray(image) for image in pixels], "label": [i % 2 for i in range(40)]}
    whole = datasets.Dataset.from_dict(made, features=features)
    path = saved(tmp_path / "images", train=whole.select(range(30)), test=whole.select(range(30, 40)))
    splits = load(path, input="grid", targets=["label"])
    shown = splits.test.x.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(shown / shown.max(), pixels[30:] / pixels[30:].max(), atol=1e-6)


def test_the_fingerprint_changes_with_the_rows(tmp_path: Path) -> None:
    def found(name: str, start: int) -> str:
        path = saved(tmp_path / name, train=rows(60), test=rows(6, start))
        own = OwnData(
            name="m", data=f"hf:{path}", input="table", target="classes", targets=("kind",), inputs=("rings",)
        )
        return resolve_task(own).fingerprint()

    assert found("a", 60) != found("b", 61)


def test_a_relative_folder_starts_at_the_configuration_and_a_name_stays(tmp_path: Path) -> None:
    saved(tmp_path / "trees", train=rows(60), test=rows(6, 60))
    task = {"name": "m", "input": "table", "target": "classes", "targets": ["kind"]}
    for data, kept in (("hf:trees", f"hf:{tmp_path}/trees"), ("hf:someone/trees", "hf:someone/trees")):
        (tmp_path / "a.yaml").write_text(yaml.safe_dump({"task": {**task, "data": data}}))
        made = load_config(tmp_path / "a.yaml").task
        assert isinstance(made, OwnData)
        assert made.data == kept


def test_the_hub_is_asked_only_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, *, repo_type: str, revision: str | None, local_files_only: bool) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        asked.append((name, repo_type, revision, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("it is not there")
        return "/there"

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(InputError, match="someone/trees is not on this machine; allow the network with --online"):
        hub.locate_dataset("hf:someone/trees@abc")
    assert hub.locate_dataset("hf:someone/trees@abc", online=True) == Path("/there")
    assert asked == [("someone/trees", "dataset", "abc", True), ("someone/trees", "dataset", "abc", False)]


def _ragged(path: Path) -> None:
    made = datasets.Dataset.from_dict({"kind": ["a", "b"] * 9, "signal": [[1.0], [1.0, 2.0]] * 9})
    saved(path, train=made, test=made)


def _nested(path: Path) -> None:
    saved(path, train=datasets.Dataset.from_dict({"kind": ["a", "b"], "more": [{"a": 1}, {"a": 2}]}))


def _script(path: Path) -> None:
    path.mkdir()
    (path / f"{path.name}.py").write_text("raise SystemExit('it ran')")


FAULTS = {
    "lists": (_ragged, "column signal of hf:.* holds lists of 1 to 2 values; they must be of one length"),
    "nested": (_nested, "column more of hf:.* holds dict; expected numbers, text, classes, images or sounds"),
    "script": (_script, "datasets cannot read .*"),
    "other columns": (
        lambda path: saved(path, train=rows(9), test=rows(9).remove_columns("old")), "the column old",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_way_to_break_a_set_has_its_own_message(fault: str, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    make(tmp_path / "set")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "set", targets=["kind"])


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package datasets; install it with pip install 'orca\[datasets\]'"):
        hub.locate_dataset("hf:someone/trees")
