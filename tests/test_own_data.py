from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

import orca
from embedders import KmerEmbedder
from orca.baselines import fit_baselines
from orca.config import RunConfig
from orca.errors import InputError
from orca.metrics import METRICS
from orca.plan import plan
from orca.tasks import OwnData, resolve_task
from orca.tasks.own import infer_channels
from orca.types import Examples, Splits
from tests.tiny import save_tiny_body

RNG = np.random.default_rng(0)
Arrays = dict[str, np.ndarray]


def _arrays(n: int = 60, **changes: np.ndarray | None) -> Arrays:
    """Signals (n, 2, 12) of three classes; ``changes`` replace arrays, None removes one."""
    arrays = {
        "x_train": RNG.standard_normal((n, 2, 12)),
        "y_train": np.arange(n) % 3,
        "x_test": RNG.standard_normal((9, 2, 12)),
        "y_test": np.arange(9) % 3,
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


@pytest.fixture
def load(tmp_path):
    def run(arrays: Arrays, **settings) -> Splits:
        path = tmp_path / "own.npz"
        np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
        return resolve_task(_own(path, **settings)).load()

    return run


def _own(path, **settings) -> OwnData:
    return OwnData(**{"name": "my-emg", "data": str(path), "input": "sequence", "target": "classes", **settings})


def test_signals_and_classes_load_with_validation_taken_from_train(load):
    splits = load(_arrays())
    assert len(splits.train) + len(splits.val) == 60
    assert np.bincount(splits.val.y).tolist() == [2, 2, 2]
    assert splits.layout.input_shape == (2, 12)
    assert splits.layout.target_shape == (3,)
    assert splits.train.x.dtype == np.float32
    assert splits.train.y.dtype == np.int64
    assert "12 % of train" in splits.notes[0]


def test_validation_and_shift_sets_are_used_as_given(load):
    x = RNG.standard_normal((4, 2, 12))
    more = {
        "x_val": x,
        "y_val": np.array([0, 1, 2, 0]),
        "x_shift_noise": x + 1,
        "y_shift_noise": np.array([2, 1, 0, 0]),
    }
    splits = load(_arrays(**more))
    assert len(splits.train) == 60
    np.testing.assert_allclose(splits.val.x, x, rtol=1e-6)
    assert list(splits.shift) == ["noise"]
    assert splits.notes == ("validation: as given",)


def test_equal_inputs_stay_on_one_side_of_the_validation_split(load):
    x = np.repeat(RNG.standard_normal((30, 2, 12)), 2, axis=0)
    splits = load(_arrays(x_train=x, y_train=np.repeat(np.arange(30) % 3, 2)))
    train = {row.tobytes() for row in splits.train.x}
    assert not any(row.tobytes() in train for row in splits.val.x)


def test_the_validation_split_is_the_same_every_time(load):
    arrays = _arrays()
    assert (load(arrays).val.x == load(arrays).val.x).all()


def test_lengths_go_with_their_rows(load):
    arrays = _arrays(length_train=RNG.integers(3, 13, 60))
    splits = load(arrays)
    assert splits.train.length is not None
    assert ((splits.train.x[:, 0] != 0).sum(1) == splits.train.length).all()
    assert splits.test.length is not None  # where one split tells its lengths all do
    assert (splits.test.length == 12).all()


def test_shorter_splits_are_padded_to_the_longest_of_train_and_validation(load):
    given = {"x_val": RNG.standard_normal((6, 2, 15)), "y_val": np.arange(6) % 3}
    splits = load(_arrays(**given, x_test=RNG.standard_normal((9, 2, 10))))
    assert splits.layout.input_shape == (2, 15)
    for name, length in (("train", 12), ("val", 15), ("test", 10)):
        part: Examples = getattr(splits, name)
        assert part.x.shape[1:] == (2, 15)
        assert part.length is not None
        assert (part.length == length).all()
        assert not part.x[..., length:].any()


def test_a_longer_test_set_does_not_change_what_a_model_is_built_for(load):
    """Test and shift sets keep their length; the baselines' features have one width all the same."""
    more = {"x_shift_long": RNG.standard_normal((9, 2, 40)), "y_shift_long": np.arange(9) % 3}
    splits = load(_arrays(x_test=RNG.standard_normal((9, 2, 15)), **more))
    assert splits.train.x.shape[1:] == splits.layout.input_shape == (2, 12)
    assert (splits.test.x.shape[-1], splits.shift["long"].x.shape[-1]) == (15, 40)
    for part, length in ((splits.train, 12), (splits.test, 15), (splits.shift["long"], 40)):
        assert part.length is not None
        assert (part.length == length).all()
    assert set(fit_baselines(splits, METRICS.get("accuracy"), seed=0)["linear"]) == {"test", "long"}


def test_a_run_scores_sets_longer_than_those_it_trained_on(tmp_path):
    more = {"x_shift_long": RNG.standard_normal((9, 2, 40)), "y_shift_long": np.arange(9) % 3}
    np.savez(tmp_path / "own.npz", **_arrays(**more, x_test=RNG.standard_normal((9, 2, 15))))  # pyright: ignore[reportArgumentType]
    config = {
        "task": _own(tmp_path / "own.npz").model_dump(), "body": str(save_tiny_body(tmp_path / "body")),
        "device": "cpu", "align": {"objective": "none"}, "finetune": {"epochs": 1},
    }  # fmt: skip
    made = orca.adapt(config, store=tmp_path / "store")
    assert set(made.record["shift"]) == {"long"}


def test_dna_waveforms_grids_and_tables_load(load):
    y = {"y_train": np.arange(40) % 2, "y_test": np.arange(6) % 2}
    strings = np.array(["".join(RNG.choice(list("ACGT"), 20)) for _ in range(46)])
    assert load({"x_train": strings[:40], "x_test": strings[40:], **y}, input="dna").layout.input_shape == (4, 20)
    sound = RNG.integers(-9000, 9000, (46, 800)).astype(np.int16)
    audio = load({"x_train": sound[:40], "x_test": sound[40:], **y}, input="waveform", sample_rate=8000)
    assert audio.layout.input_shape == (64, 11)
    image = RNG.integers(0, 255, (46, 6, 7, 3))
    assert load({"x_train": image[:40], "x_test": image[40:], **y}, input="grid").layout.input_shape == (3, 6, 7)
    table = np.column_stack([RNG.standard_normal(46), np.arange(46) % 5])
    rows = load({"x_train": table[:40], "x_test": table[40:], **y}, input="table", categorical=(1,))
    assert rows.layout.cardinalities == (0, 5)


def test_every_kind_of_target_gets_its_layout(load):
    x = {"x_train": RNG.standard_normal((40, 6, 7)), "x_test": RNG.standard_normal((8, 6, 7))}
    field = load({**x, "y_train": x["x_train"], "y_test": x["x_test"]}, input="grid", target="field")
    assert field.layout.target_shape == (1, 6, 7)
    scalar = load({**x, "y_train": np.arange(40.0), "y_test": np.arange(8.0)}, target="scalar")
    assert scalar.train.y.shape[1:] == scalar.layout.target_shape == (1,)
    many = {"y_train": RNG.integers(0, 2, (40, 5)), "y_test": RNG.integers(0, 2, (8, 5))}
    assert load({**x, **many}, target="multilabel").layout.target_shape == (5,)


def test_a_field_with_channels_last_follows_its_input(load):
    x = RNG.standard_normal((40, 6, 7, 3))
    y = RNG.standard_normal((40, 6, 7, 2))
    splits = load(
        {"x_train": x, "y_train": y, "x_test": x[:5], "y_test": y[:5]}, input="grid", target="field", channels="last"
    )
    np.testing.assert_allclose(splits.test.y[:, 1], y[:5, ..., 1], rtol=1e-6)


def test_whole_numbers_stored_as_floats_are_labels(load):
    assert load(_arrays(y_train=(np.arange(60) % 3).astype(float))).train.y.dtype == np.int64


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 8, 8), "none"),
        ((9, 8, 8, 3), "last"),
        ((9, 3, 8, 8), "first"),
        ((9, 8, 8, 1), "last"),
        ((9, 4, 5, 6), "first"),
    ],
)
def test_the_channel_axis_is_told_from_the_shape(shape, expected):
    assert infer_channels(shape) == expected


@pytest.mark.parametrize("shape", [(9, 3, 8, 3), (9, 8, 8, 8), (9, 1, 4, 4), (9, 8)])
def test_an_open_channel_axis_is_asked_for(shape):
    with pytest.raises(InputError, match="set channels: first, last or none"):
        infer_channels(shape)


X = RNG.standard_normal((60, 2, 12))
BAD = X.copy()
BAD[[7, 9], 1, 3] = np.nan, np.inf
FAULTS = {
    "nan": ({"x_train": BAD}, r"x_(train|val) has . NaN or infinite values in . of \d+ rows, first in row"),
    "nan in test": ({"x_test": np.full((9, 2, 12), np.nan)}, "x_test has 216 NaN or infinite values in 9 of 9 rows"),
    "lengths": ({"y_train": np.zeros(59, int)}, r"x_train has shape \(60, 2, 12\) and y_train \(59,\)"),
    "same inputs": ({"x_train": np.zeros((60, 2, 12))}, "too few different ones to take validation from"),
    "no target axis": ({"y_train": np.array(3)}, "one target per input"),
    "from one": (
        {"y_train": np.arange(60) % 3 + 1},
        r"labels 1\.\.3 of 0\.\.3 and lacks 0; .*number the classes from 0",
    ),
    "negative": ({"y_train": np.arange(60) % 3 - 1}, r"labels -1\.\.1; they must be 0\.\.K-1"),
    "gap": ({"y_train": np.arange(60) % 3 * 2, "y_test": np.zeros(9, int)}, r"3 classes in labels 0\.\.4 .* lacks 1"),
    "huge": ({"y_train": np.arange(60) % 3 * 10**12, "y_test": np.zeros(9, int)}, "lacks 1"),
    "fractions": ({"y_train": np.arange(60) / 7}, r"y_train has labels that are not integers"),
    "strings": (
        {"y_train": np.array(["cat", "dog"] * 30)},
        "y_train has labels that are not integers 0..K-1, such as .*cat",
    ),
    "new class": ({"y_test": np.full(9, 5)}, "y_test has classes that train lacks: 5"),
    "one class": ({"y_train": np.zeros(60, int), "y_test": np.zeros(9, int)}, r"y_train has one class only \(0\)"),
    "empty": ({"x_test": np.zeros((0, 2, 12)), "y_test": np.zeros(0, int)}, "split test is empty"),
    "channels": (
        {"x_test": np.zeros((9, 3, 12))},
        r"x_test has shape \(9, 3, 12\); sequence like x_train is \(n, 2, 12\)",
    ),
    "target axes": ({"y_test": np.zeros((9, 2), int)}, r"y_test has shape \(9, 2\); target classes"),
    "axes": (
        {"x_train": RNG.standard_normal((60, 2, 3, 4))},
        r"sequence needs numbers of shape \(n, L\) or \(n, C, L\)",
    ),
    "half a shift": ({"x_shift_a": X}, "y_shift_a is missing"),
    "half a validation": ({"y_val": np.zeros(3)}, "x_val is missing"),
    "no test": ({"y_test": None}, "own.npz lacks y_test; it has x_train, y_train, x_test"),
    "length": ({"length_train": np.full(60, 13)}, r"lengths must be 1\.\.12; got 13\.\.13"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_data_is_named_before_work_starts(load, fault):
    changes, message = FAULTS[fault]
    with pytest.raises(InputError, match=message):
        load(_arrays(**changes))


def test_several_faults_come_in_one_message(load):
    with pytest.raises(InputError, match="3 faults") as error:
        load(_arrays(x_test=np.full((9, 3, 12), np.inf), y_test=np.full(9, 7)))
    assert all(part in str(error.value) for part in ("infinite", "(9, 3, 12)", "train lacks: 7"))


@pytest.mark.parametrize(
    ("y", "target", "message"),
    [
        (np.full((60, 3), 2), "multilabel", "y_(train|val) has values other than 0 and 1, such as 2"),
        (np.zeros((60, 2, 11)), "field", "covers 11 points and x_train 12"),
        (np.zeros(60), "field", "field needs 3 axes"),
        (np.zeros((60, 2)), "scalar", "y_test has 1 columns or channels; y_train has 2"),
        (np.array([1.0] * 59 + [np.nan]), "scalar", "y_(train|val) has 1 NaN or infinite values"),
    ],
)
def test_faults_of_other_targets_are_named(load, y, target, message):
    test = {"multilabel": np.zeros((9, 3)), "field": np.zeros((9, 2, 12)), "scalar": np.zeros(9)}
    with pytest.raises(InputError, match=message):
        load(_arrays(y_train=y, y_test=test[target]), target=target)


def test_lengths_beside_a_field_or_mask_are_refused(load):
    lengths = {"length_train": np.full(60, 9), "length_test": np.full(9, 12)}
    with pytest.raises(InputError, match=r"length_train is given, but a field .* resample or cut the inputs$"):
        load(_arrays(y_train=X, y_test=X[:9], **lengths), target="field")
    with pytest.raises(InputError, match="a mask .* or set y to -1 behind their end"):
        load(_arrays(y_train=1 * (X > 0), y_test=1 * (X[:9] > 0), **lengths), target="mask")


def test_validation_of_a_field_has_the_grid_of_train_and_test_may_have_another(load):
    fine = RNG.standard_normal((9, 2, 24))
    test = {"x_test": fine, "y_test": fine}
    assert load(_arrays(y_train=X, **test), target="field").test.x.shape == (9, 2, 24)
    with pytest.raises(InputError, match="x_val covers 24 points and x_train 12; validation needs the grid of train"):
        load(_arrays(y_train=X, **test, x_val=fine, y_val=fine), target="field")


def test_pickled_arrays_are_refused(load):
    ragged = np.empty(60, dtype=object)
    ragged[:] = [np.zeros(i + 1) for i in range(60)]
    with pytest.raises(InputError, match="x_train in .* pickled objects"):
        load(_arrays(x_train=ragged))


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no .npz file"):
        resolve_task(_own(path))


def test_a_damaged_array_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **_arrays())  # pyright: ignore[reportArgumentType]
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(InputError, match="x_train in .* is damaged"):
        resolve_task(_own(path))


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "own.npy", np.zeros(3))
    with pytest.raises(InputError, match="holds a single array"):
        resolve_task(_own(tmp_path / "own.npy"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no file .*nowhere.npz"):
        resolve_task(_own(tmp_path / "nowhere.npz"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "waveform"}, "sample_rate"),
        ({"sample_rate": 8000}, "sample_rate belongs to input waveform"),
        ({"channels": "last"}, "channels belongs to input grid"),
        ({"categorical": [1]}, "categorical belongs to input table"),
        ({"input": "table", "target": "field"}, "target field needs input sequence or grid"),
        ({"target": "class"}, "classes"),
        ({"name": "../up"}, "pattern"),
        ({"metrics": "error"}, "metrics"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        _own("own.npz", **settings)


def test_a_metric_of_another_target_is_refused(load):
    with pytest.raises(InputError, match="metric rmse is for target scalar, not classes; there are: error"):
        load(_arrays(), metric="rmse")


@pytest.mark.parametrize(
    ("categorical", "column", "message"),
    [((5,), 0.0, r"the table has columns 0\.\.1"), ((1,), 0.5, "column 1 is categorical"), ((1,), np.nan, "column 1")],
)
def test_categories_that_are_none_are_refused(load, categorical, column, message):
    x = np.column_stack([np.arange(60.0), np.full(60, column)])
    with pytest.raises(InputError, match=message):
        load(_arrays(x_train=x, x_test=x[:9]), input="table", categorical=categorical)


def test_the_fingerprint_follows_the_content_and_not_the_path(tmp_path):
    arrays = _arrays()
    for name, y in (("a", arrays["y_train"]), ("b", arrays["y_train"]), ("c", arrays["y_train"][::-1])):
        np.savez(tmp_path / f"{name}.npz", **{**arrays, "y_train": y})  # pyright: ignore[reportArgumentType]
    prints = [resolve_task(_own(tmp_path / f"{name}.npz")).fingerprint() for name in "abc"]
    assert prints[0] == prints[1] != prints[2]


def test_arrays_that_are_not_used_are_noted(load):
    assert "not used: speaker" in load(_arrays(speaker=np.zeros(60))).notes[1]


def test_dna_is_embedded_by_words_where_that_is_asked(tmp_path):
    draw = np.random.default_rng(0)
    y = np.arange(90) % 2
    x = np.array(["".join(draw.choice(list("ACGT"), 20)) + ("GATTACA" if label else "GACATTA") for label in y])
    np.savez(tmp_path / "own.npz", x_train=x[:70], y_train=y[:70], x_test=x[70:], y_test=y[70:])
    config = {
        "task": _own(tmp_path / "own.npz", input="dna").model_dump(), "body": str(save_tiny_body(tmp_path / "body")),
        "device": "cpu", "align": {"objective": "none"}, "embed": {"kmer": 3}, "finetune": {"epochs": 2},
    }  # fmt: skip
    made = orca.adapt(config, store=tmp_path / "store")
    model = orca.load(made.path)
    assert isinstance(model.embedder, KmerEmbedder)
    assert model.predict(x[70:]).shape == (20,)
    np.savez(tmp_path / "own.npz", x_train=[row[:2] for row in x], y_train=y, x_test=["AC"] * 4, y_test=y[:4])
    with pytest.raises(InputError, match="embed.kmer is 3, but the sequences have 2 bases"):
        plan(RunConfig.model_validate(config))
    with pytest.raises(InputError, match="words of DNA; the input of digits is grid, its target classes"):
        plan(RunConfig.model_validate({**config, "task": "digits"}))
