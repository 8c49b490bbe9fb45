from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest

from orca.errors import InputError
from orca.metrics import METRICS
from orca.tasks import TASKS, TaskSpec, resolve_task
from orca.tasks.assemble import hold_out, same_rows
from orca.tasks.audio import pad_ragged
from orca.tasks.biosignals import against_record
from orca.tasks.encodings import ENCODING
from orca.tasks.files import read_data
from orca.tasks.shifts import Shift
from orca.tasks.tables import check_columns
from orca.types import Examples, Splits
from tests.made import made, shifts_of

FROM_FILES = ("fsdd", "fsdd-speakers", "splice", "ienhancer", "darcy2d", "mitbih_aami", "signdigits", "adult")
SHARED_ROWS = {"adult"}  # people with equal answers, in the official files
# Half a minute to generate, and so few records in the small sets of the tests that not each split has each class.
LARGE = {"darcy85", "ecg", "ecg-nb360"}


@functools.cache
def _load(name: str) -> Splits:
    return TASKS.get(name).load()


@pytest.fixture(params=[name for name in TASKS.names() if name not in LARGE])
def task(request, tmp_path_factory, monkeypatch) -> TaskSpec:
    monkeypatch.setenv("ORCA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    spec = TASKS.get(request.param)
    if spec.published is not None:
        monkeypatch.setenv("ORCA_DATA", str(made(spec, tmp_path_factory).parent))
    elif why := spec.missing():
        pytest.skip(why)
    return spec


def _needs(name: str) -> Splits:
    if why := TASKS.get(name).missing():
        pytest.skip(why)
    return _load(name)


def _parts(splits: Splits) -> dict[str, Examples]:
    return {"train": splits.train, "val": splits.val, "test": splits.test, **splits.shift}


def _rows(examples: Examples) -> set[bytes]:
    return {row.tobytes() for row in examples.x}


@pytest.mark.parametrize("spec", list(TASKS), ids=lambda spec: spec.name)
def test_a_spec_is_consistent(spec):
    assert METRICS.get(spec.metric).target == spec.target
    assert spec.encoding.input == spec.input
    assert ENCODING.validate_json(ENCODING.dump_json(spec.encoding)) == spec.encoding
    assert spec.provenance.source
    assert spec.provenance.licence
    assert spec.title


def test_the_sets_of_the_issue_are_there():
    assert {"digits", "darcy", *FROM_FILES} <= set(TASKS.names())


def test_layout_and_arrays_agree(task):
    splits = _load(task.name)
    layout = splits.layout
    assert (layout.input, layout.target) == (task.input, task.target)
    assert splits.train.x.shape[1:] == layout.input_shape
    if layout.target != "classes":
        assert splits.train.y.shape[1:] == layout.target_shape
    for examples in _parts(splits).values():
        assert examples.x.dtype == np.float32
        assert np.isfinite(examples.x).all()
        assert examples.y.dtype == (np.int64 if layout.target == "classes" else np.float32)
        assert len(examples.x) == len(examples.y)


def test_every_task_has_the_shift_sets_of_its_family(task):
    splits = _load(task.name)
    assert set(splits.shift) == shifts_of(task)
    assert set(task.shifts) <= set(splits.shift)


def test_a_third_of_the_test_set_is_some_of_its_rows(task):
    splits = _load(task.name)
    for name, examples in splits.shift.items():
        if name.endswith(("-low", "-high")):
            assert _rows(examples) <= _rows(splits.test)
            assert len(examples) < len(splits.test) / 2


def test_shift_sets_are_made_of_test_rows_alone(task, monkeypatch, tmp_path):
    """Shifts that change nothing leave rows of test."""
    monkeypatch.setenv("ORCA_CACHE", str(tmp_path))  # noisy sounds are kept there
    monkeypatch.setattr(Shift, "__call__", lambda shift, raw: raw)
    splits = task.load()
    for name in task.shifts:
        assert _rows(splits.shift[name]) <= _rows(splits.test)
        assert len(splits.shift[name]) <= len(splits.test)


def test_every_class_is_in_every_split(task):
    splits = _load(task.name)
    if splits.layout.target == "classes":
        assert len(splits.layout.classes) == splits.layout.target_shape[0]
        for examples in _parts(splits).values():
            assert np.unique(examples.y).tolist() == list(range(len(splits.layout.classes)))


def test_what_lies_after_the_end_is_zero(task):
    for examples in _parts(_load(task.name)).values():
        if examples.length is not None:
            after = np.arange(examples.x.shape[-1]) >= examples.length[:, None]
            assert not examples.x.transpose(0, 2, 1)[after].any()
            assert (examples.length >= 1).all()


def test_no_input_is_in_two_splits(task):
    splits = _load(task.name)
    if not task.repeats and task.name not in SHARED_ROWS:
        assert not _rows(splits.test) & (_rows(splits.train) | _rows(splits.val))
        assert not _rows(splits.train) & _rows(splits.val)


def test_validation_is_a_tenth_to_a_seventh_of_train_and_said_to_be(task):
    if task.published is not None and task.published.maker.published.val:
        pytest.skip("its validation is as published")
    splits = _load(task.name)
    whole = len(splits.train) + len(splits.val)
    assert 0.09 <= len(splits.val) / whole <= 0.15
    assert any("validation" in note for note in splits.notes)


@pytest.mark.parametrize("name", ["digits", "splice", "signdigits", "mitbih_aami", "darcy2d"])
def test_loading_twice_gives_the_same_data(name):
    first, again = _needs(name), TASKS.get(name).load()
    for part, examples in _parts(first).items():
        assert (examples.x == _parts(again)[part].x).all()
        assert (examples.y == _parts(again)[part].y).all()


def test_fingerprints_are_stable_and_differ(monkeypatch):
    here = [spec for spec in TASKS if spec.missing() is None]
    prints = [spec.fingerprint() for spec in here]
    assert prints == [spec.fingerprint() for spec in here]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("name", FROM_FILES)
@pytest.mark.parametrize("folder", [None, "", "elsewhere"])
def test_missing_data_is_said_with_the_way_to_get_it(name, folder, monkeypatch, tmp_path):
    monkeypatch.delenv("ORCA_DATA", raising=False)
    if folder is not None:
        monkeypatch.setenv("ORCA_DATA", folder and str(tmp_path))
    message = TASKS.get(name).missing()
    assert message is not None
    assert f"set ORCA_DATA to the folder that holds {name.removesuffix('-speakers')}.npz" in message
    with pytest.raises(InputError) as error:
        TASKS.get(name).load()
    assert str(error.value) == message


def test_a_file_of_that_name_without_its_arrays_is_refused(monkeypatch, tmp_path):
    np.savez(tmp_path / "splice.npz", x_train=np.zeros(3))
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    with pytest.raises(InputError, match="lacks y_train, x_test, y_test; it has x_train"):
        TASKS.get("splice").load()


def test_a_wrong_name_lists_the_near_ones():
    with pytest.raises(InputError, match="did you mean splice"):
        resolve_task("slpice")


def test_sizes_are_those_of_the_published_splits():
    sizes = {"fsdd": (2700, 300), "splice": (2553, 637), "signdigits": (1665, 397), "adult": (32561, 16281)}
    for name, (train, test) in sizes.items():
        splits = _needs(name)
        assert (len(splits.train) + len(splits.val), len(splits.test)) == (train, test)


def test_ienhancer_has_no_leaked_sequence():
    splits = _needs("ienhancer")
    arrays = read_data("ienhancer", ("in_test_train",))
    assert len(splits.train) + len(splits.val) == int((~arrays["in_test_train"]).sum()) == 2868
    assert len(splits.test) == 400
    assert any("100 sequences" in note for note in splits.notes)


def test_mitbih_drops_q_and_validates_on_other_patients():
    splits = _needs("mitbih_aami")
    arrays = read_data("mitbih_aami", ("y_train", "record_train"))
    assert splits.layout.classes == ("N", "S", "V", "F")
    assert len(splits.train) + len(splits.val) == 51001 - 8
    assert len(splits.test) == 49692 - 7
    records = arrays["record_train"][arrays["y_train"] < 4]
    val = np.isin(records, (114, 124, 223))
    assert len(splits.val) == val.sum()
    assert not set(records[val]) & set(records[~val])
    assert splits.layout.input_shape == (3, 96)


def test_beats_are_told_against_those_of_their_record():
    wave, record = np.arange(12.0).reshape(6, 2), np.array([1, 1, 1, 2, 2, 2])
    interval = np.array([[-1, 100], [100, 50], [50, 400], [300, 300], [300, 150], [3000, -1]])
    found = against_record(wave, interval, record)
    assert found.shape == (6, 3, 2)
    np.testing.assert_array_equal(found[:, 0], np.repeat([-2, 0, 2, -2, 0, 2], 2).reshape(6, 2))
    np.testing.assert_array_equal(found[..., 0], found[..., 1])
    ratio = 2 ** (found[:, 1:, 0] / 200)  # medians: 75 and 300
    wanted = [[1, 4 / 3], [4 / 3, 2 / 3], [2 / 3, 4], [1, 1], [1, 0.5], [4, 1]]
    np.testing.assert_allclose(ratio, wanted, rtol=1e-6)


def test_signdigits_validates_on_other_hands():
    splits = _needs("signdigits")
    arrays = read_data("signdigits", ("x_train", "run_train"))
    images = np.moveaxis(arrays["x_train"], -1, 1).astype(np.float32) * np.float32(1 / 255)
    run_of = {image.tobytes(): run for image, run in zip(images, arrays["run_train"], strict=True)}
    runs = [{run_of[row] for row in _rows(part)} for part in (splits.train, splits.val)]
    assert not runs[0] & runs[1]
    assert splits.train.x.max() <= 1


def test_speakers_of_the_shift_set_are_in_no_other_set():
    every, four = _needs("fsdd"), _needs("fsdd-speakers")
    assert (len(four.train) + len(four.val), len(four.test), len(four.shift["speaker"])) == (1800, 200, 100)
    assert _rows(four.test) | _rows(four.shift["speaker"]) == _rows(every.test)
    assert not _rows(four.shift["speaker"]) & (_rows(four.train) | _rows(four.val) | _rows(four.test))


def test_the_fine_grid_of_darcy2d_is_a_shift_set():
    splits = _needs("darcy2d")
    assert splits.shift["grid32"].x.shape == (50, 1, 32, 32)
    np.testing.assert_array_equal(splits.shift["grid32"].x[:, :, ::2, ::2], splits.test.x)


def test_columns_of_adult_are_those_of_its_file():
    with pytest.raises(InputError, match="another version"):
        check_columns({"columns": ["age"], "category_labels": {}})


def test_clips_end_to_end_become_rows():
    rows = pad_ragged(np.arange(1, 7, dtype=np.int16), np.array([1, 3, 2]))
    assert rows.tolist() == [[1, 0, 0], [2, 3, 4], [5, 6, 0]]


def test_hold_out_keeps_groups_whole_and_classes_in_proportion():
    labels = np.repeat([0, 1], [100, 50])
    groups = np.arange(150) // 2
    held = hold_out(labels, groups=groups, fraction=0.2)
    assert (held[::2] == held[1::2]).all()
    assert held[:100].sum() == 20
    assert held[100:].sum() == 10
    assert (held == hold_out(labels, groups=groups, fraction=0.2)).all()


def test_hold_out_never_takes_the_only_group_of_a_class():
    held = hold_out(np.array([0, 0, 1]), groups=np.array([0, 1, 2]))
    assert held.tolist().count(True) == 1
    assert not held[2]


def test_equal_rows_share_a_group():
    assert same_rows(np.array(["AC", "GT", "AC"])).tolist() == [0, 1, 0]


def test_a_list_of_tasks_needs_no_scipy() -> None:
    """They are slow to import, and every command imports the tasks."""
    code = (
        "import sys, orca.tasks; print([m for m in sys.modules if m.split('.')[0] in ('scipy', 'sklearn', 'pandas')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
