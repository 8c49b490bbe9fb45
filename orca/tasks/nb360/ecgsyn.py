"""ECGSYN: an electrocardiogram as the height of a point that circles the origin, one turn for each beat.

P. E. McSharry, G. D. Clifford, L. Tarassenko, L. A. Smith, A dynamical model for generating synthetic electrocardiogram
signals, IEEE Transactions on Biomedical Engineering 50(3), 2003. Implemented from the equations. Angles are in radians,
0 at the R peak; times in seconds; ``n`` records are integrated at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WAVES = ("P", "Q", "R", "S", "ST", "T")  # ST is not in the paper: a slow bump between S and T, of height 0 in health
P, Q, R, S, ST, T = range(len(WAVES))
ANGLE = np.deg2rad([-70.0, -15.0, 0.0, 15.0, 50.0, 100.0])  # the paper's table has -60, -15, 0, 15, -, 90
HEIGHT = np.array([1.2, -5.0, 30.0, -7.5, 0.0, 0.75])
WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.35, 0.4])
ANGLE_POWER = np.array([0.5, 1.0, 0.0, 1.0, 0.5, 0.5])  # how angles stretch with the heart rate's factor h
BREATH, BREATH_HEIGHT = 0.25, 0.005  # Hz, and the amplitude of the released code (the paper has 0.15 mV)
LOW, HIGH, SPREAD, LOW_TO_HIGH = 0.1, 0.25, 0.01, 0.5  # Hz, Hz, Hz; ratio of powers (Mayer waves, breathing)
RR_RATE, RR_STEPS = 2.0, 512  # Hz and steps of the RR process: 256 s resolve peaks of 0.01 Hz
SHORTEST = 0.25  # s between two beats


@dataclass(frozen=True)
class Bumps:
    """Gaussian events on the circle, for each kind of beat: arrays (kinds, waves, n).

    Attributes:
        angle: where they stand, theta_i.
        height: a_i.
        width: b_i.
    """

    angle: np.ndarray
    height: np.ndarray
    width: np.ndarray

    @classmethod
    def at_rate(cls, rate: np.ndarray, kinds: int = 1) -> Bumps:
        """The paper's table at heart rates (n,) in beats per minute.

        With h = sqrt(rate / 60), widths and the angles of Q and S grow by h, the angles of P and T by sqrt(h), as in
        the released code.
        """
        h = np.sqrt(rate / 60)
        angle, width = ANGLE[:, None] * h ** ANGLE_POWER[:, None], WIDTH[:, None] * h  # (waves, n)
        height = np.broadcast_to(HEIGHT[:, None], angle.shape)
        return cls(*(np.repeat(values[None], kinds, axis=0) for values in (angle, height, width)))


def rr_process(mean: np.ndarray, sd: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """RR intervals as a function of time, (n, RR_STEPS) at RR_RATE.

    The power spectrum is the sum of two Gaussians at 0.1 and 0.25 Hz (equation 3), phases are random, and each series
    is scaled to its mean and standard deviation.

    Args:
        mean: in seconds, (n,).
        sd: in seconds, (n,).
        generator: of the phases.
    """
    f = np.fft.rfftfreq(RR_STEPS, 1 / RR_RATE)
    low, high = (np.exp(-((f - centre) ** 2) / (2 * SPREAD**2)) for centre in (LOW, HIGH))
    phase = generator.uniform(0, 2 * np.pi, (len(mean), len(f)))
    series = np.fft.irfft(np.sqrt(LOW_TO_HIGH * low + high) * np.exp(1j * phase), RR_STEPS)
    series -= series.mean(1, keepdims=True)
    return mean[:, None] + sd[:, None] * series / series.std(1, keepdims=True)


def sinus_intervals(process: np.ndarray, beats: int) -> np.ndarray:
    """RR intervals beat by beat, (n, beats): each is the process (n, steps) at the time of its first beat."""
    rows, now = np.arange(len(process)), np.zeros(len(process))
    intervals = np.empty((len(process), beats))
    for beat in range(beats):
        intervals[:, beat] = process[rows, np.round(now * RR_RATE).astype(int) % process.shape[1]]
        now += intervals[:, beat]
    return intervals


def turns(intervals: np.ndarray, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The phase in turns at each time, (n, times): whole at R peaks, linear between them.

    Args:
        intervals: RR intervals, (n, beats).
        start: of the first peak, (n,), not after ``times[0]``.
        times: in seconds, (times,); up to the last peak.
    """
    peaks = start[:, None] + np.concatenate([np.zeros((len(start), 1)), np.cumsum(intervals, axis=1)], axis=1)
    assert (peaks[:, -1] >= times[-1]).all()
    number = np.arange(peaks.shape[1], dtype=float)
    return np.stack([np.interp(times, row, number) for row in peaks])


def integrate(
    turn: np.ndarray, kind: np.ndarray, bumps: Bumps, rate: float, state: np.ndarray | None = None
) -> np.ndarray:
    """The trajectory (steps + 1, 3, n) of x, y, z by the classical Runge-Kutta method (equations 1 and 2).

    ``x' = alpha x - omega y``, ``y' = alpha y + omega x``, ``alpha = 1 - sqrt(x^2 + y^2)``,
    ``z' = -sum_i a_i d_i exp(-d_i^2 / (2 b_i^2)) - (z - z_0)``, ``d_i = (theta - theta_i) mod 2 pi`` in [-pi, pi).
    The angular velocity of a step is the phase's advance in it, so that beats fall where ``turn`` has them.

    Args:
        turn: phase in turns, (n, steps + 1).
        kind: of the beat that is nearest in phase, (n, beats), an index of ``bumps``.
        bumps: the events of each kind.
        rate: steps per second.
        state: at the start, (3, n); on the unit circle by default.
    """
    first, step, rows = 2 * np.pi * turn[:, 0], 1 / rate, np.arange(len(turn))
    omega = 2 * np.pi * rate * np.diff(turn, axis=1).T  # (steps, n)
    nearest = np.rint(turn).astype(int).T  # (steps + 1, n), so a beat's kind holds from P to T
    now = np.stack([np.cos(first), np.sin(first), np.zeros(len(turn))]) if state is None else state
    path = np.empty((turn.shape[1], *now.shape))
    path[0] = now
    for i, speed in enumerate(omega):
        chosen = kind[rows, nearest[i]]
        angle, height, width = (v[chosen, :, rows].T for v in (bumps.angle, bumps.height, bumps.width))  # (waves, n)
        slope = _Slope(speed, angle, -height, -0.5 / width**2)
        t = i * step
        k1 = slope(now, t)
        k2 = slope(now + step / 2 * k1, t + step / 2)
        k3 = slope(now + step / 2 * k2, t + step / 2)
        k4 = slope(now + step * k3, t + step)
        now = now + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path[i + 1] = now
    return path


@dataclass(frozen=True)
class _Slope:
    """The right-hand side within one step: ``height`` is -a_i, ``narrow`` is -1 / (2 b_i^2)."""

    omega: np.ndarray
    angle: np.ndarray
    height: np.ndarray
    narrow: np.ndarray

    def __call__(self, state: np.ndarray, t: float) -> np.ndarray:
        x, y, z = state
        alpha = 1 - np.hypot(x, y)
        d = np.arctan2(y, x) - self.angle  # (waves, n)
        d -= 2 * np.pi * np.rint(d / (2 * np.pi))
        pull = (self.height * d * np.exp(self.narrow * d * d)).sum(0)
        breath = BREATH_HEIGHT * np.sin(2 * np.pi * BREATH * t)
        return np.stack([alpha * x - self.omega * y, alpha * y + self.omega * x, pull - z + breath])
