"""Surface electromyograms of gestures: six muscles of a forearm under two rings of eight electrodes.

``EMG_c(t) = sum_m A_cm e_m(t) w_m(t)``: muscle m is band-limited noise w_m whose amplitude e_m follows the gesture; A
is how near electrode c lies to it. Muscles, gestures and people are the same in every set; repetitions are drawn anew.
"""

from __future__ import annotations

import numpy as np

from orca.runtime import rng

RATE = 200  # Hz
RING, MUSCLES, GESTURES, SUBJECTS = 8, 6, 18, 10
CHANNELS = 2 * RING
SECONDS, ONSET, OFFSET = 3.0, 0.2, 0.3  # of a repetition
BAND = (20, 95)  # Hz, of muscles
SPREAD, SHIFT, WEAKER = 0.45, 0.35, 0.7  # rad and rad of the bumps of A; gain of the second ring
GAIN = 0.2  # spread of a person's electrodes (log)
EFFORT = 0.3  # spread of each muscle's activation between repetitions (log)
FLOOR, SCALE = 0.05, 40.0  # measurement noise, as a share of full activation; units of the armband
REST = 0  # the label with no activation


def gestures() -> np.ndarray:
    """Activations m_g (GESTURES, MUSCLES) in [0, 1]: none at rest, else two to four muscles; the same in every set."""
    generator = rng("sEMG gestures", 1)
    active = generator.random((GESTURES, MUSCLES)).argsort(1) < generator.integers(2, 5, (GESTURES, 1))
    level = active * generator.uniform(0.2, 1.0, (GESTURES, MUSCLES))
    level[REST] = 0
    return level


def mixing(subject: np.ndarray) -> np.ndarray:
    """A of people (n,), (n, CHANNELS, MUSCLES): bumps around the arm, turned by up to half an electrode, with gains."""
    muscle = np.linspace(0, 2 * np.pi, MUSCLES, endpoint=False) + 0.3
    electrode = 2 * np.pi * np.arange(RING) / RING
    people = np.empty((SUBJECTS, CHANNELS, MUSCLES))
    for person in range(SUBJECTS):
        generator = rng("sEMG subject", person)
        at = electrode + generator.uniform(-0.5, 0.5) * 2 * np.pi / RING
        rings = [_bumps(at, muscle), WEAKER * _bumps(at + SHIFT, muscle)]
        people[person] = np.concatenate(rings) * np.exp(GAIN * generator.standard_normal((CHANNELS, 1)))
    return people[subject]


def _bumps(electrode: np.ndarray, muscle: np.ndarray) -> np.ndarray:
    """Gaussians in the angle between electrodes (RING,) and muscles (MUSCLES,), (RING, MUSCLES)."""
    apart = np.angle(np.exp(1j * (electrode[:, None] - muscle)))
    return np.exp(-(apart**2) / (2 * SPREAD**2))


def envelope(count: int, generator: np.random.Generator) -> np.ndarray:
    """Activation over a repetition, (count, MUSCLES, T): raised-cosine rise, plateau that sways by 5 to 10 %, fall."""
    t = np.arange(round(SECONDS * RATE)) / RATE
    rise, fall = np.clip(t / ONSET, 0, 1), np.clip((SECONDS - t) / OFFSET, 0, 1)
    shape = (1 - np.cos(np.pi * rise)) / 2 * (1 - np.cos(np.pi * fall)) / 2
    size, rate, turn = (generator.uniform(*ends, (count, MUSCLES, 1)) for ends in ((0.05, 0.1), (0.3, 1.5), (0, 1)))
    return shape * (1 + size * np.sin(2 * np.pi * (rate * t + turn)))


def repetitions(gesture: np.ndarray, subject: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Rectified, high-passed signals of repetitions, (n, T, CHANNELS) in units of the armband.

    As published: absolute value, then a causal Butterworth high-pass of third order at 2 Hz.

    Args:
        gesture: (n,), 0 is rest.
        subject: (n,).
        generator: of the repetitions.
    """
    from scipy.signal import butter, sosfilt

    n, length = len(gesture), round(SECONDS * RATE)
    effort = np.exp(EFFORT * generator.standard_normal((n, MUSCLES)))
    level = (gestures()[gesture] * effort)[:, :, None] * envelope(n, generator)  # (n, MUSCLES, T)
    warm = RATE // 4  # samples for the filter to settle
    white = generator.standard_normal((n, MUSCLES, length + warm))
    band = butter(4, BAND, "band", fs=RATE, output="sos")
    muscle = np.asarray(sosfilt(band, white))[:, :, warm:]
    muscle /= muscle.std()
    signal = mixing(subject) @ (level * muscle)  # (n, CHANNELS, T)
    signal += FLOOR * generator.standard_normal(signal.shape)
    high = butter(3, 2, "high", fs=RATE, output="sos")
    return SCALE * np.asarray(sosfilt(high, np.abs(signal))).transpose(0, 2, 1)
