"""Electromyograms and satellite series: generators against their laws, files that load or say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orca.errors import InputError
from orca.runtime import read_json
from orca.tasks import TASKS
from orca.tasks.making import make
from orca.tasks.nb360 import emg, ninapro, phenology, satellite
from orca.tasks.published import SIDE, Size
from orca.tasks.readers.arrays import labels, read_npy

PARTS = ("train", "val", "test")


@pytest.mark.parametrize(("name", "size"), [("ninapro", None), ("satellite", Size(2000, 0, 400, 46))])
def test_generated_sets_pass_their_acceptance_checks_and_load(name, size, tmp_path, monkeypatch) -> None:
    task = TASKS.get(name)
    checks = make(task.published, tmp_path / name, size or task.published.maker.small)
    assert len(checks) == 2
    assert all(check.passed for check in checks), checks
    assert read_json(tmp_path / name / SIDE)["synthetic"]
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    splits = task.load()
    assert "synthetic" in splits.notes[0]
    assert len(splits.val) > 0
    seen = [{row.tobytes() for row in part.x} for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, seen)) == len(set.union(*seen))
    np.testing.assert_array_equal(np.unique(splits.train.y), np.arange(splits.layout.target_shape[0]))


def test_the_electromyogram_is_rectified_high_passed_and_as_strong_as_the_activation() -> None:
    gesture = np.repeat([0, 5], 40)
    signal = emg.repetitions(gesture, np.arange(80) % emg.SUBJECTS, np.random.default_rng(0))
    assert signal.shape == (80, 600, 16)
    middle = signal[:, 100:500]
    assert abs(middle.mean()) < 0.05 * middle.std()  # the high-pass takes the mean of what was rectified
    power = np.abs(middle).mean((1, 2))
    assert power[gesture == 0].max() < power[gesture == 5].min()
    np.testing.assert_array_equal(emg.gestures()[emg.REST], 0)


def test_an_electrode_hears_the_muscle_beneath_it_and_the_second_ring_hears_less() -> None:
    mix = emg.mixing(np.arange(emg.SUBJECTS)).mean(0)  # (16, 6)
    near, far = mix[: emg.RING], mix[emg.RING :]
    muscle = np.linspace(0, 2 * np.pi, emg.MUSCLES, endpoint=False) + 0.3
    angle = 2 * np.pi * near.argmax(0) / emg.RING
    assert np.abs(np.angle(np.exp(1j * (angle - muscle)))).max() < 2 * np.pi / emg.RING
    assert far.sum() == pytest.approx(emg.WEAKER * near.sum(), rel=0.15)


def test_the_envelope_rises_holds_and_falls() -> None:
    e = emg.envelope(30, np.random.default_rng(0))
    assert e[..., 0].max() == 0
    assert e[..., -1].max() < 0.05
    assert 0.85 < e[..., 60:500].min() < e.max() < 1.11


def test_the_windows_of_a_repetition_are_in_one_split() -> None:
    drawn = ninapro.draw(52, 36, np.random.default_rng(0), "train")
    assert (drawn["x"].shape, drawn["x"].dtype) == ((36, 52, 16), np.float16)
    np.testing.assert_array_equal(drawn["y"], np.repeat(drawn["y"][:: ninapro.KEPT], ninapro.KEPT))
    with pytest.raises(InputError, match="windows of at most 540 samples; got 600"):
        ninapro.draw(600, 36, np.random.default_rng(0), "train")


def test_the_double_logistic_goes_from_winter_to_maximum_and_back() -> None:
    curve = np.array([0.1, 0.8, 120.0, 250.0, 0.2, 0.15])
    v = phenology.double_logistic(np.array([0.0, 120.0, 185.0, 250.0, 365.0]), curve)
    np.testing.assert_allclose(v, [0.1, 0.45, 0.8, 0.45, 0.1], atol=1e-3)


def test_dates_are_irregular_in_one_year_and_the_same_everywhere() -> None:
    days = phenology.dates(46)
    assert len(days) == 46
    assert 0 < days[0] < days[-1] < 365
    assert np.diff(days).std() > 1
    np.testing.assert_array_equal(days, phenology.dates(46))
    assert phenology.shares().sum() == pytest.approx(1)
    assert len(phenology.COVERS) == 24


def test_series_keep_the_level_and_season_of_their_cover() -> None:
    names, days = list(phenology.COVERS), phenology.dates(46)
    cover = np.repeat([names.index(name) for name in ("water", "conifers", "wheat", "maize")], 200)
    v = phenology.series(cover, days, np.random.default_rng(0)).reshape(4, 200, 46)
    level, season = np.median(v, (1, 2)), days[np.median(v, 1).argmax(1)]
    assert level[0] < 0 < 0.5 < level[1]
    assert season[2] < 180 < season[3]
    pixels = v[2].reshape(50, phenology.FIELD, 46)
    assert pixels.mean(1).var(0).mean() > pixels.var(1).mean() / phenology.FIELD  # fields differ more than pixels


def test_clouds_darken_or_leave_straight_lines_and_touch_few_dates() -> None:
    days = np.arange(46.0)
    value = np.tile(np.sin(days), (200, 1)) + 2
    out = phenology._clouded(value, days, np.random.default_rng(0))
    assert (out != value).sum(1).max() <= phenology.CLOUDS
    assert (out.min(1) < 0.8).any()
    np.testing.assert_array_equal(phenology._clouded(value[:, :2], days[:2], np.random.default_rng(0)), value[:, :2])


def test_noise_has_its_spread_and_memory() -> None:
    noise = phenology._coloured((2000, 46), np.random.default_rng(0))
    np.testing.assert_allclose(noise.std(0), phenology.SIGMA, rtol=0.1)
    assert np.corrcoef(noise[:, 20], noise[:, 21])[0, 1] == pytest.approx(phenology.MEMORY, abs=0.06)


def by_hand(folder: Path, name: str) -> None:
    """Writes the files of a task as someone else would: other numbers, other types."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    if name == "ninapro":
        for part in PARTS:
            np.save(folder / f"ninapro_{part}.npy", generator.normal(size=(90, 52, 16)))
            np.save(folder / f"label_{part}.npy", (np.arange(90) % 18).astype(np.float32))
    else:
        for part in ("train", "test"):
            data = generator.integers(-1000, 9000, (240, 46), np.int16)
            np.savez(folder / f"satellite_{part}.npz", data=data, label=(np.arange(240) % 24 + 1).astype(np.uint8))


@pytest.mark.parametrize(("name", "shape"), [("ninapro", (1, 16, 52)), ("satellite", (1, 46))])
def test_files_made_by_hand_load(name: str, shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(tmp_path / name, name)
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    splits = TASKS.get(name).load()
    assert splits.layout.input_shape == shape
    assert splits.train.y.min() == 0
    assert not any("synthetic" in note for note in splits.notes)


def test_fortran_order_and_electrodes_come_out_in_place(tmp_path: Path) -> None:
    by_hand(tmp_path, "ninapro")
    x = np.arange(90 * 52 * 16, dtype=np.float32).reshape(90, 52, 16)
    np.save(tmp_path / "ninapro_test.npy", np.asfortranarray(x))
    np.testing.assert_array_equal(ninapro.read(tmp_path)["test"].x[7, 3], x[7, :, 3])


def save(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


def save_npz(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / "satellite_train.npz", **arrays)


def pickled(folder: Path) -> None:
    np.save(folder / "ninapro_train.npy", np.array([{"x": 1}], object))  # written, never read


def cut(folder: Path) -> None:
    whole = (folder / "ninapro_train.npy").read_bytes()
    (folder / "ninapro_train.npy").write_bytes(whole[: len(whole) // 2])


X, Y, NAN = np.zeros((9, 52, 16)), np.zeros(9, int), np.full((9, 52, 16), np.nan)
S, L = np.zeros((9, 46)), np.ones(9, int)


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("ninapro", lambda d: (d / "label_val.npy").unlink(), "there is no file .*label_val.npy; expected an .npy"),
        ("ninapro", pickled, "ninapro_train.npy holds pickled objects, which may run code"),
        ("ninapro", cut, "ninapro_train.npy is no .npy file, or it is damaged"),
        ("ninapro", lambda d: (d / "ninapro_test.npy").write_text("x"), "ninapro_test.npy is no .npy file"),
        ("ninapro", save("ninapro_val.npy", X[:, :, :8]), r"shape \(9, 52, 8\); expected \(windows, samples, 16\)"),
        ("ninapro", save("ninapro_val.npy", X[..., 0]), r"shape \(9, 52\); expected \(windows, samples, 16\)"),
        ("ninapro", save("ninapro_val.npy", X.astype("U3")), "ninapro_val.npy holds <U3; expected numbers"),
        ("ninapro", save("ninapro_val.npy", X), "split val in .* has 9 inputs and 90 labels"),
        ("ninapro", save("ninapro_val.npy", np.repeat(NAN, 10, 0)), "NaN or infinite values in 90 of 90 inputs"),
        ("ninapro", save("ninapro_val.npy", np.zeros((90, 40, 16))), "samples: train 52, val 40, test 52"),
        ("ninapro", save("label_val.npy", np.full(90, 18)), r"label_val.npy has label 18 in row 0; .* 0\.\.17"),
        ("ninapro", save("label_val.npy", np.full(90, 0.5)), "label_val.npy has label 0.5 in row 0"),
        ("satellite", save_npz(data=S), "satellite_train.npz lacks label; it has data"),
        ("satellite", save_npz(data=np.array({"data": 1}), label=L), "data in .* holds pickled objects"),
        ("satellite", save_npz(data=S[0], label=L), r"data in .* has shape \(46,\); expected \(series, dates\)"),
        ("satellite", save_npz(data=S, label=L - 1), r"label in .* has label 0 in row 0; expected .* 1\.\.24"),
        ("satellite", save_npz(data=S, label=L[:5]), "has 9 inputs and 5 labels"),
        ("satellite", save_npz(data=S[:, :40], label=L), "40 dates in train and 46 in test; they must agree"),
    ],
)
def test_a_broken_file_is_told_how(name: str, harm: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    by_hand(tmp_path, name)
    harm(tmp_path)
    with pytest.raises(InputError, match=message):
        {"ninapro": ninapro, "satellite": satellite}[name].read(tmp_path)


def test_arrays_of_newer_npy_formats_and_odd_labels(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array(stream, np.arange(3), version=(2, 0))
    np.testing.assert_array_equal(read_npy(tmp_path / "x.npy", ("n",)), [0, 1, 2])
    np.testing.assert_array_equal(labels(np.array([1.0, 2.0]), 1, 2, "y"), [1, 2])
    with pytest.raises(InputError, match="y has label nan in row 1"):
        labels(np.array([1.0, np.nan]), 1, 2, "y")
