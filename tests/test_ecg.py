"""ECGSYN against its equations, four rhythms that look as they should, and records that stay in one split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orca.errors import InputError
from orca.metrics import METRICS
from orca.tasks import TASKS
from orca.tasks.making import make
from orca.tasks.nb360 import ecg, ecgsyn, rhythms
from orca.tasks.nb360.beats import FEATURES, beats_of, rhythm
from orca.tasks.nb360.ecgsyn import Bumps, P, R
from orca.tasks.published import SIDE, Size
from orca.types import Examples


def steady(seconds: float, rate: float, period: float = 1.0) -> np.ndarray:
    """The phase of one record with beats at equal steps, (1, steps + 1)."""
    return np.arange(round(seconds * rate) + 1)[None] / (rate * period)


def run(turn: np.ndarray, rate: float, state: np.ndarray | None = None, bpm: float = 60) -> np.ndarray:
    kind = np.zeros((len(turn), int(turn.max()) + 2), int)
    return ecgsyn.integrate(turn, kind, Bumps.at_rate(np.full(len(turn), bpm)), rate, state)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.0])
def test_the_radius_follows_its_logistic_solution_to_the_unit_circle(radius: float) -> None:
    rate = 300
    path = run(steady(5, rate), rate, np.array([[radius], [0.0], [0.0]]))[:, :, 0]
    times = np.arange(len(path)) / rate
    exact = 1 / (1 + (1 / radius - 1) * np.exp(-times))  # of r' = r (1 - r)
    np.testing.assert_allclose(np.hypot(path[:, 0], path[:, 1]), exact, atol=1e-7)
    assert abs(np.hypot(*path[-1, :2]) - 1) < 0.02


def test_the_integration_is_of_fourth_order() -> None:
    ends = [run(steady(1, rate), rate, bpm=70)[-1, 2, 0] for rate in (150, 300, 600, 1800)]
    errors = np.abs(np.array(ends[:3]) - ends[3])
    orders = np.log2(errors[:-1] / errors[1:])
    assert ((orders > 3.5) & (orders < 4.6)).all(), orders


def test_a_beat_lasts_its_interval_and_peaks_at_phase_zero() -> None:
    intervals = np.array([[0.8, 1.0, 0.6, 0.9, 0.7, 1.0]])
    turn = ecgsyn.turns(intervals, np.array([-0.4]), np.arange(4 * 300 + 1) / 300)
    path = run(turn, 300)
    peaks = np.array([0.4, 1.4, 2.0, 2.9, 3.6])
    z = path[:, 2, 0]
    for peak in peaks:
        near = slice(round((peak - 0.2) * 300), round((peak + 0.2) * 300))
        assert abs((near.start + z[near].argmax()) / 300 - peak) < 0.02
    found = beats_of(z[None], 300)[0]
    np.testing.assert_allclose(found / 300, peaks, atol=0.03)


def test_rr_intervals_have_their_mean_spread_and_spectrum() -> None:
    mean, sd = np.full(40, 0.9), np.full(40, 0.04)
    series = ecgsyn.rr_process(mean, sd, np.random.default_rng(0))
    np.testing.assert_allclose(series.mean(1), mean)
    np.testing.assert_allclose(series.std(1), sd)
    f = np.fft.rfftfreq(series.shape[1], 1 / ecgsyn.RR_RATE)
    power = (np.abs(np.fft.rfft(series - series.mean(1, keepdims=True))) ** 2).mean(0)
    low, high = (f > 0.03) & (f < 0.17), (f > 0.18) & (f < 0.32)
    assert abs(f[low][power[low].argmax()] - 0.1) < 0.005
    assert abs(f[high][power[high].argmax()] - 0.25) < 0.005
    assert power[low].sum() / power[high].sum() == pytest.approx(0.5, rel=0.02)
    assert power[low | high].sum() > 0.999 * power.sum()


def test_waves_move_and_widen_with_the_heart_rate() -> None:
    slow, fast = (Bumps.at_rate(np.array([rate])) for rate in (60.0, 240.0))  # h = 1, 2
    np.testing.assert_allclose(fast.width, 2 * slow.width)
    factors = (fast.angle / np.where(slow.angle == 0, 1, slow.angle))[0, :, 0]
    np.testing.assert_allclose(factors, [2**0.5, 2, 0, 2, 2**0.5, 2**0.5])
    np.testing.assert_allclose(np.rad2deg(slow.angle[0, [P, R], 0]), [-70, 0])


def test_ectopic_beats_come_early_and_are_followed_by_a_pause() -> None:
    intervals, kind = rhythms.with_ectopics(np.ones((50, 200)), np.random.default_rng(0))
    early = kind[:, 1:-1] == 1
    np.testing.assert_allclose(intervals[:, :-1][early], 0.65)
    np.testing.assert_allclose(intervals[:, 1:][early], 1.35)
    assert not (kind[:, 1:] & kind[:, :-1]).any()
    assert 0.1 < kind.mean() < 0.3


def test_fibrillation_has_independent_intervals_and_waves_of_4_to_9_hertz() -> None:
    generator = np.random.default_rng(0)
    intervals = rhythms.irregular(20, 2000, generator)
    variation = intervals.std(1) / intervals.mean(1)
    assert ((variation > 0.18) & (variation < 0.32)).all()
    assert ((intervals.mean(1) > 0.48) & (intervals.mean(1) < 0.93)).all()
    assert np.abs([np.corrcoef(row[:-1], row[1:])[0, 1] for row in intervals]).max() < 0.1
    waves = rhythms.fibrillation(20, np.arange(6000) / 300, generator)
    f, power = np.fft.rfftfreq(6000, 1 / 300), np.abs(np.fft.rfft(waves)) ** 2
    assert power[:, (f > 3.5) & (f < 9.5)].sum() > 0.99 * power.sum()


def test_noise_is_as_strong_as_its_class_says() -> None:
    clean = np.tile(np.sin(np.arange(3000) / 10), (20, 1))
    drowned = np.arange(20) < 10
    power = rhythms.noise(clean, drowned, np.random.default_rng(0)).var(1) / clean.var(1)
    assert power[drowned].min() > 10**0.5 > 0.5 > power[~drowned].max()


def test_classes_come_in_their_published_shares() -> None:
    generator = np.random.default_rng(0)
    counts = sum(np.bincount(rhythms.letters(30, generator), minlength=4) for _ in range(200))
    np.testing.assert_allclose(counts / 6000, rhythms.SHARES, atol=0.01)


@pytest.fixture(scope="module")
def parts() -> dict[str, dict[str, np.ndarray]]:
    counts = {"train": 54, "test": 6}
    return {name: ecg.draw(3000, n, np.random.default_rng(n), name) for name, n in counts.items()}


def test_generated_records_pass_the_acceptance_checks(parts) -> None:
    checks = ecg.accept(parts, 3000)
    assert len(checks) == 3
    assert all(check.passed for check in checks), checks


def test_a_tiny_set_is_made_though_its_checks_say_nothing(tmp_path: Path) -> None:
    checks = make(ecg.ECG, tmp_path / "ecg", Size(1, 0, 1, 900))
    assert not any(check.passed for check in checks)
    assert sorted(path.name for path in (tmp_path / "ecg").iterdir()) == [ecg.FILE, SIDE]


def test_windows_of_a_record_are_in_one_split_and_test_records_are_those_drawn_for_it(parts, tmp_path: Path) -> None:
    ecg.write(tmp_path, parts, 3000)
    found = ecg.read(tmp_path)
    rows, which = ecg.read_records(tmp_path / ecg.FILE)
    of = {window.tobytes(): i for i, row in enumerate(rows) for window in ecg.windows([row], which[[i]]).x}
    records = {name: {of[window.tobytes()] for window in part.x} for name, part in found.items()}
    assert sum(map(len, records.values())) == len(set.union(*records.values())) == 60
    drawn = ecg.split_up(parts["test"]["data"], parts["test"]["length"])
    assert {row.tobytes() for row in drawn} == {rows[i].tobytes() for i in records["test"]}
    for part in found.values():
        np.testing.assert_allclose(part.x.std(1).mean(), 1, atol=0.3)


def test_the_test_records_are_those_of_the_reference() -> None:
    _, test = ecg.record_split(20)
    np.testing.assert_array_equal(np.sort(test), np.sort(np.random.RandomState(0).permutation(20)[:2]))  # noqa: NPY002


def test_windows_do_not_overlap_unless_asked_to() -> None:
    row, other = np.arange(3500.0), np.arange(999.0)
    plain = ecg.windows([row, other, row], np.array([0, 1, 1]))
    assert (plain.x.shape, plain.y.tolist()) == ((6, 1000), [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(plain.x[:3].ravel(), ecg.standardised(row)[:3000])
    dense = ecg.windows([row, row, row[:1000]], np.array([0, 3, 0]), ecg.as_reference)
    np.testing.assert_array_equal(np.bincount(dense.y), [5, 0, 0, 100])  # range(0, samples - 1000, stride)
    np.testing.assert_array_equal(dense.x[1], ecg.standardised(row)[500:1500])


def test_beat_features_do_not_depend_on_scale_and_offset(parts) -> None:
    rows = ecg.split_up(parts["train"]["data"], parts["train"]["length"])
    x = np.stack([row[:2700] for row in rows[:8]]).astype(float)
    assert rhythm(x, 300).shape == (8, len(FEATURES))
    np.testing.assert_allclose(rhythm(x, 300), rhythm(5 * x - 2, 300), atol=1e-4)
    flat = rhythm(np.zeros((1, 1000)), 300)
    assert np.isfinite(flat).all()
    assert flat[0, 0] == 0


def test_logistic_regression_on_beat_features_knows_the_classes(parts) -> None:
    rows = [row for part in parts.values() for row in ecg.split_up(part["data"], part["length"])]
    which = np.array([ecg.LETTERS.index(k) for part in parts.values() for k in part["label"]])
    even = np.arange(len(rows)) % 2 == 0
    train, test = (ecg.windows([rows[i] for i in np.flatnonzero(m)], which[m]) for m in (even, ~even))
    scores = ecg.beat_features(Examples(train.x[:, None], train.y))(Examples(test.x[:, None], test.y))
    assert METRICS.get("macro_f1").fn(scores, test.y) > 0.5  # of a constant it is under 0.2


GOOD = {"data": np.zeros(30_000, np.float32), "length": np.full(10, 3000), "label": np.array(list("NAO~NAO~NN"))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "lacks data; it has length, label"),
        ({"data": np.zeros((10, 3000))}, r"data in .* has shape \(10, 3000\); expected \(samples,\)"),
        ({"data": np.array(["a"])}, "data in .* holds <U1; expected numbers"),
        ({"data": np.array([None], object)}, "data in .* holds pickled objects"),
        ({"data": np.zeros(29_999)}, "has 29999 samples; by length, its records have 30000"),
        ({"data": np.where(np.arange(30_000) == 6001, np.nan, 0)}, "NaN or infinite samples, first in record 2"),
        ({"length": np.r_[GOOD["length"][:9], 0]}, "length in .* has 0 in row 9; expected the number of samples"),
        ({"label": np.array(["N"])}, r"has 10 records and label of shape \(1,\); expected one label each"),
        ({"label": np.array(list("NAOXNAO~NN"))}, "label in .* has 'X' in row 3; expected one of N, A, O, ~"),
        ({"label": np.arange(10)}, "label in .* has '0' in row 0; expected one of N, A, O, ~"),
    ],
)
def test_a_broken_file_is_told_how(change, message: str, tmp_path: Path) -> None:
    arrays = {key: value for key, value in (GOOD | change).items() if value is not None}
    np.savez(tmp_path / ecg.FILE, **arrays)
    with pytest.raises(InputError, match=message):
        ecg.read(tmp_path)


def test_few_records_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / ecg.FILE, data=np.zeros(3000), length=[3000], label=["N"])
    with pytest.raises(InputError, match="has 1 records; at least 10 are needed"):
        ecg.read(tmp_path)


def test_a_file_made_by_hand_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    length = generator.integers(1500, 4000, 80).astype(np.int32)
    label = np.array([b"N", b"A", b"O", b"~"])[np.arange(80) % 4]
    (folder := tmp_path / "ecg").mkdir()
    np.savez(folder / ecg.FILE, data=generator.integers(-500, 500, length.sum(), np.int16), length=length, label=label)
    monkeypatch.setenv("ORCA_DATA", str(tmp_path))
    plain, dense = (TASKS.get(name).load() for name in ("ecg", "ecg-nb360"))
    assert plain.layout.input_shape == dense.layout.input_shape == (1, 1000)
    assert len(dense.test) > len(plain.test) > 0
    assert plain.layout.classes[1] == "atrial fibrillation"
    assert not any("synthetic" in note for note in plain.notes)
    assert TASKS.get("ecg").fingerprint() != TASKS.get("ecg-nb360").fingerprint()
