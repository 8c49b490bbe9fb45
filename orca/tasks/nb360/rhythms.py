"""Single-lead records of four classes: ECGSYN with the rhythm, the waves and the noise of each.

N is sinus rhythm. A, atrial fibrillation, has no P wave, independent intervals and fibrillatory waves of 4 to 9 Hz. O
is one of: ventricular ectopic beats, a shifted ST segment, wide QRS, a rate under 45 or over 115. ``~`` is drowned in
noise. The rules of A, O and ``~`` are Orca's, made to be plausible, not fitted to patients.
"""

from __future__ import annotations

import numpy as np

from orca.tasks.nb360.ecgsyn import SHORTEST, ST, Bumps, P, Q, S, T, integrate, rr_process, sinus_intervals, turns

RATE = 300  # Hz
LETTERS = ("N", "A", "O", "~")
SHARES = (0.59, 0.09, 0.29, 0.03)  # of the published set, nearly
SHORT, USUAL = 9.0, 30.0  # s: shortest record, and most of them
QRS = slice(Q, S + 1)
ECTOPIC, ST_SHIFT, WIDE, SLOW, FAST = range(5)  # what makes a record O
RANGE = (-0.4, 1.2)  # mV
MORPHOLOGY, ANGLES = 0.15, 0.05  # spread between people: of heights (log), of angles (rad)


def letters(count: int, generator: np.random.Generator) -> np.ndarray:
    """Class indices (count,), in the published shares as nearly as whole numbers allow, in random order.

    What is left over by rounding down is drawn by the remainders, so that shares hold over many small blocks.
    """
    wanted = count * np.array(SHARES)
    given = np.floor(wanted).astype(int)
    rest = wanted - given
    left = count - given.sum()
    extra = generator.choice(len(SHARES), left, replace=False, p=rest / rest.sum()) if left else []
    return generator.permutation(np.concatenate([np.repeat(np.arange(len(SHARES)), given), extra]).astype(int))


def durations(count: int, longest: int, generator: np.random.Generator) -> np.ndarray:
    """Samples of each record, (count,): 30 s for seven of ten, 9 s to the longest for the others."""
    most = longest / RATE
    seconds = np.where(generator.random(count) < 0.7, USUAL, generator.uniform(min(SHORT, most), most, count))
    return np.minimum(np.round(seconds * RATE).astype(int), longest)


def records(which: np.ndarray, longest: int, generator: np.random.Generator) -> np.ndarray:
    """Records (n, longest) in mV, of classes ``which`` (n,), indices of LETTERS."""
    n, seconds = len(which), longest / RATE
    fault = np.where(which == 2, generator.integers(0, 5, n), -1)
    rate = generator.uniform(50, 100, n)
    rate = np.where(fault == SLOW, generator.uniform(35, 45, n), rate)
    rate = np.where(fault == FAST, generator.uniform(115, 140, n), rate)
    beats = int(np.ceil(seconds / SHORTEST)) + 2
    spread = generator.uniform(1, 3, n)  # bpm
    intervals = sinus_intervals(rr_process(60 / rate, 60 * spread / rate**2, generator), beats)
    fibrillating = which == 1
    intervals[fibrillating] = irregular(int(fibrillating.sum()), beats, generator)
    rate = np.where(fibrillating, 60 / intervals.mean(1), rate)
    kind = np.zeros((n, beats + 1), int)
    ectopic = fault == ECTOPIC
    intervals[ectopic], kind[ectopic] = with_ectopics(intervals[ectopic], generator)
    bumps = _bumps(rate, fibrillating, fault, generator)
    intervals = np.maximum(intervals, SHORTEST)
    times = np.arange(longest + 1) / RATE
    turn = turns(intervals, -generator.random(n) * intervals[:, 0], times)
    z = integrate(turn, kind, bumps, RATE)[1:, 2].T  # (n, longest)
    low, high = z.min(1, keepdims=True), z.max(1, keepdims=True)
    clean = RANGE[0] + (RANGE[1] - RANGE[0]) * (z - low) / (high - low)
    clean[fibrillating] += fibrillation(int(fibrillating.sum()), times[1:], generator)
    return clean + noise(clean, which == 3, generator)


def irregular(n: int, beats: int, generator: np.random.Generator) -> np.ndarray:
    """RR intervals of fibrillation, (n, beats): independent, log-normal, mean 0.5 to 0.9 s, variation 0.2 to 0.3."""
    mean, variation = generator.uniform(0.5, 0.9, (n, 1)), generator.uniform(0.2, 0.3, (n, 1))
    sigma = np.sqrt(np.log1p(variation**2))
    return mean * np.exp(sigma * generator.standard_normal((n, beats)) - sigma**2 / 2)


def with_ectopics(intervals: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Premature beats among others: their intervals (n, beats), and the kind (n, beats + 1) of each beat, 1 if ectopic.

    A tenth to three tenths of beats, never two in a row, come after 0.65 of the interval and then 1.35 of it follow.
    """
    n, beats = intervals.shape
    share = generator.uniform(0.1, 0.3, (n, 1))
    kind = (generator.random((n, beats + 1)) < share / (1 - share)).astype(int)
    kind[:, 0] = kind[:, -1] = 0
    for beat in range(1, beats):
        kind[:, beat] &= 1 - kind[:, beat - 1]
    return intervals * np.where(kind[:, 1:] == 1, 0.65, np.where(kind[:, :-1] == 1, 1.35, 1.0)), kind


def _bumps(rate: np.ndarray, fibrillating: np.ndarray, fault: np.ndarray, generator: np.random.Generator) -> Bumps:
    """The waves of each person, (2 kinds, waves, n): sinus beats, and ectopic ones, which are wide with T inverted."""
    bumps = Bumps.at_rate(rate, kinds=2)
    shape = bumps.angle.shape[1:]
    angle = bumps.angle + ANGLES * generator.standard_normal(shape)
    height = bumps.height * np.exp(MORPHOLOGY * generator.standard_normal(shape))
    width = bumps.width.copy()
    shifted = fault == ST_SHIFT
    size = generator.choice([-1.0, 1.0], len(rate)) * generator.uniform(0.6, 1.2, len(rate))
    height[:, ST] = np.where(shifted, size, 0)
    height[:, P] = np.where(fibrillating, 0, height[:, P])
    _widen(width, height, slice(None), np.where(fault == WIDE, generator.uniform(1.8, 2.5, len(rate)), 1.0))
    height[1, P] = 0
    height[1, T] *= -generator.uniform(1.0, 1.8, len(rate))
    _widen(width, height, slice(1, 2), np.full(len(rate), 2.5))
    height[1, QRS] *= generator.uniform(1.0, 1.4, len(rate))
    return Bumps(angle, height, width)


def _widen(width: np.ndarray, height: np.ndarray, kinds: slice, factor: np.ndarray) -> None:
    """Makes Q, R and S wider in place; as a wave is a_i b_i^2 / omega high, a_i falls with the square."""
    width[kinds, QRS] *= factor
    height[kinds, QRS] /= factor**2


def fibrillation(n: int, times: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Fibrillatory waves (n, times) in mV: one to three sinusoids of 4 to 9 Hz, .03 to .15 mV, of drifting height."""

    def draw(low: float, high: float) -> np.ndarray:
        return generator.uniform(low, high, (n, 3, 1))

    there = np.arange(3)[:, None] < generator.integers(1, 4, (n, 1, 1))
    wave = np.sin(2 * np.pi * (draw(4, 9) * times + draw(0, 1)))
    drift = 1 + 0.3 * np.sin(2 * np.pi * (draw(0.05, 0.3) * times + draw(0, 1)))
    return (there * draw(0.03, 0.15) * drift * wave).sum(1)


def noise(clean: np.ndarray, drowned: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What the electrodes add, (n, samples) in mV.

    Muscles, 20 to 100 Hz: 12 to 25 dB under the signal, of drowned records 5 to 12 dB over it. Wander of the baseline:
    sinusoids of .05 to .5 Hz. Drowned records have steps and mains hum besides.
    """
    from scipy.signal import butter, sosfilt

    n, samples = clean.shape
    times = np.arange(samples) / RATE
    ratio = np.where(drowned, generator.uniform(-12, -5, n), generator.uniform(12, 25, n))  # dB
    band = butter(2, (20, 100), "band", fs=RATE, output="sos")
    muscle = np.asarray(sosfilt(band, generator.standard_normal((n, samples))))
    muscle *= (clean.std(1) / muscle.std(1) * 10 ** (-ratio / 20))[:, None]
    height = np.where(drowned, 0.6, 0.05)[:, None, None] * generator.random((n, 3, 1))
    turn = generator.uniform(0.05, 0.5, (n, 3, 1)) * times + generator.random((n, 3, 1))
    wander = (height * np.sin(2 * np.pi * turn)).sum(1)
    steps = 0.8 * generator.standard_normal((n, samples)) * (generator.random((n, samples)) < 0.1 / RATE)
    hum = np.sin(2 * np.pi * 50 * times) * generator.uniform(0.05, 0.3, (n, 1))
    return muscle + wander + drowned[:, None] * (np.cumsum(steps, axis=1) + hum)
