"""Made-up sound events: 25 families, each in eight steps of one parameter, which make 200 classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RATE = 22_050  # samples per second
STEPS = 8  # of each family's parameter
Synth = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # (times (T,), value, generator) -> (T,)


def pink(samples: int, generator: np.random.Generator, power: float = 1.0) -> np.ndarray:
    """Noise whose power falls as 1 / f to ``power`` (1 pink, 2 brown), (samples,), of standard deviation 1."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** (power / 2)
    spectrum[0] = 0
    x = np.fft.irfft(spectrum, samples)
    return x / x.std()


def _phase(frequency: np.ndarray) -> np.ndarray:
    return 2 * np.pi * np.cumsum(frequency) / RATE


def _partials(t: np.ndarray, f: float | np.ndarray, ratios: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Sines at multiples of f, amplitudes 1 / multiple, those below the Nyquist frequency."""
    kept = ratios[ratios * np.max(f) < 0.45 * RATE]
    phase = _phase(np.broadcast_to(f, t.shape))
    start = generator.uniform(0, 2 * np.pi, len(kept))
    return sum((np.sin(r * phase + s) / r for r, s in zip(kept, start, strict=True)), np.zeros_like(t))


def _band(t: np.ndarray, centres: tuple[float, ...], width: float, source: np.ndarray) -> np.ndarray:
    """A signal through Gaussian pass bands, each ``width`` of its centre wide."""
    f = np.fft.rfftfreq(len(t), 1 / RATE)
    gain = sum(np.exp(-0.5 * ((f - c) / (width * c)) ** 2) for c in centres)
    return np.fft.irfft(np.fft.rfft(source) * gain, len(t))


def _white(t: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return generator.standard_normal(len(t))


def _strikes(t: np.ndarray, rate: float, decay: float, generator: np.random.Generator) -> np.ndarray:
    """Seconds since the last of regular strikes, as an envelope that falls by e in ``decay``."""
    return np.exp(-np.mod(t + generator.uniform(0, 1 / rate), 1 / rate) / decay)


def _pulses(t: np.ndarray, rate: float, generator: np.random.Generator, *, regular: bool) -> np.ndarray:
    """Clicks of some milliseconds."""
    count = max(1, round(rate * len(t) / RATE))
    at = (np.arange(count) + generator.random()) / count if regular else generator.random(count)
    train = np.zeros_like(t)
    train[(at * len(t)).astype(int) % len(t)] = 1
    click = np.exp(-np.arange(200) / 40) * np.sin(2 * np.pi * 3000 / RATE * np.arange(200))
    return np.convolve(train, click)[: len(t)]


def _ramp(t: np.ndarray) -> np.ndarray:
    return np.linspace(0, 1, len(t))


def _sweeping(t: np.ndarray, f: float, path: np.ndarray) -> np.ndarray:
    """A sine that goes from f to three times f, along a path in [0, 1]."""
    return np.sin(_phase(f * 3**path))


ALL, ODD = np.arange(1.0, 30), np.arange(1.0, 30, 2)
BAR, BELL = np.array([1, 2.756, 5.404]), np.array([0.5, 1, 1.2, 1.5, 2, 2.5])

FAMILIES: dict[str, tuple[float, float, Synth]] = {  # least and greatest value of the parameter, Hz
    "sine": (150, 4000, lambda t, v, g: np.sin(2 * np.pi * v * t)),
    "harmonic": (80, 1200, lambda t, v, g: _partials(t, v, ALL, g)),
    "reed": (80, 1200, lambda t, v, g: _partials(t, v, ODD, g)),
    "tremolo": (2, 24, lambda t, v, g: np.sin(2 * np.pi * 700 * t) * (1 + np.sin(2 * np.pi * v * t))),
    "vibrato": (120, 1200, lambda t, v, g: _partials(t, v * (1 + 0.04 * np.sin(2 * np.pi * 6 * t)), ALL, g)),
    "rise": (150, 2500, lambda t, v, g: _sweeping(t, v, _ramp(t))),
    "fall": (150, 2500, lambda t, v, g: _sweeping(t, v, 1 - _ramp(t))),
    "arch": (150, 2500, lambda t, v, g: _sweeping(t, v, np.sin(np.pi * _ramp(t)))),
    "chirps": (1, 14, lambda t, v, g: _sweeping(t, 700, np.mod(v * t, 1))),
    "pulsed noise": (2, 30, lambda t, v, g: _white(t, g) * (1 + np.sin(2 * np.pi * v * t))),
    "gated noise": (1.5, 14, lambda t, v, g: _white(t, g) * (np.mod(v * t, 1) < 0.3)),
    "hiss": (300, 7000, lambda t, v, g: _band(t, (v,), 0.05, _white(t, g))),
    "rush": (300, 6000, lambda t, v, g: _band(t, (v,), 0.4, _white(t, g))),
    "two bands": (300, 2500, lambda t, v, g: _band(t, (v, 3 * v), 0.06, _white(t, g))),
    "clicks": (3, 40, lambda t, v, g: _pulses(t, v, g, regular=True)),
    "crackle": (3, 60, lambda t, v, g: _pulses(t, v, g, regular=False)),
    "rattle": (2, 14, lambda t, v, g: _white(t, g) * _strikes(t, v, 0.015, g)),
    "siren": (0.5, 9, lambda t, v, g: np.sin(_phase(900 + 450 * np.sin(2 * np.pi * v * t)))),
    "two tones": (250, 3000, lambda t, v, g: np.sin(_phase(v * np.where(np.mod(3 * t, 1) < 0.5, 1, 1.5)))),
    "bar": (150, 2000, lambda t, v, g: _partials(t, v, BAR, g) * _strikes(t, 2.5, 0.12, g)),
    "bell": (200, 3000, lambda t, v, g: _partials(t, v, BELL, g) * _strikes(t, 1.2, 0.5, g)),
    "drum": (45, 500, lambda t, v, g: np.sin(2 * np.pi * v * t) * _strikes(t, 3, 0.06, g)),
    "vowel": (900, 3500, lambda t, v, g: _band(t, (500, v), 0.1, _partials(t, 120, ALL, g))),
    "whisper": (900, 3500, lambda t, v, g: _band(t, (500, v), 0.1, _white(t, g))),
    "beats": (2, 20, lambda t, v, g: np.sin(2 * np.pi * 1000 * t) + np.sin(2 * np.pi * (1000 + v) * t)),
}


def label_names(count: int) -> list[str]:
    """Names of the first classes, of at most 200; the first 25 are of different families."""
    return [f"{list(FAMILIES)[_family(k)]} {_step(k) + 1}" for k in range(count)]


def _family(label: int) -> int:
    return label % len(FAMILIES)


def _step(label: int) -> int:
    return (label // len(FAMILIES) + 3 * _family(label)) % STEPS


def event(label: int, samples: int, generator: np.random.Generator) -> np.ndarray:
    """One event of a class, (samples,), of root mean square 1, faded in and out."""
    low, high, synth = list(FAMILIES.values())[_family(label)]
    place = (_step(label) + generator.uniform(0.2, 0.8)) / STEPS
    x = synth(np.arange(samples) / RATE, low * (high / low) ** place, generator)
    fade = np.minimum(1, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / 400)
    return x * fade / max(np.sqrt(np.square(x * fade).mean()), 1e-9)
