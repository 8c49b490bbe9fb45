"""Heartbeats found in an electrocardiogram, and what they say of its rhythm."""

from __future__ import annotations

import numpy as np

FEATURES = ("beats", "mean RR", "RR variation", "RR differences", "shortest RR", "P power", "QRS width", "fast power",
            "atrial power", "kurtosis")  # fmt: skip
P_SPAN = (0.24, 0.08)  # s before the R peak
REFRACTORY, LEVEL = 0.24, 0.25  # s between beats; height of a beat as a share of the record's high QRS energy


def beats_of(x: np.ndarray, rate: float) -> list[np.ndarray]:
    """Samples of the R peaks of each signal (n, L).

    Peaks of the energy at 5 to 25 Hz, smoothed over 80 ms (as J. Pan, W. J. Tompkins, A real-time QRS detection
    algorithm, IEEE Trans. Biomed. Eng. 32(3), 1985, without their adaptive thresholds).
    """
    from scipy.signal import butter, find_peaks, sosfiltfilt

    fast = sosfiltfilt(butter(2, (5, 25), "band", fs=rate, output="sos"), x)
    width = max(1, round(0.08 * rate))
    kernel = np.hanning(width + 2)[1:-1]
    found = []
    for row in fast:
        energy = np.convolve(row**2, kernel / kernel.sum(), mode="same")
        threshold = LEVEL * np.quantile(energy, 0.98)
        peaks, _ = find_peaks(energy, height=max(threshold, 1e-12), distance=max(1, round(REFRACTORY * rate)))
        found.append(np.array([_highest(row, peak, width // 2) for peak in peaks], dtype=int))
    return found


def _highest(row: np.ndarray, peak: int, reach: int) -> int:
    start = max(0, peak - reach)
    return start + int(np.abs(row[start : peak + reach + 1]).argmax())


def rhythm(x: np.ndarray, rate: float) -> np.ndarray:
    """Features of signals (n, L), by FEATURES, (n, 10); scale and offset of a signal do not matter."""
    from scipy.signal import butter, sosfiltfilt

    x = (x - x.mean(1, keepdims=True)) / np.maximum(x.std(1, keepdims=True), 1e-9)
    bands = {name: sosfiltfilt(butter(2, edges, "band", fs=rate, output="sos"), x).var(1)
             for name, edges in (("fast", (40, 0.45 * rate)), ("atrial", (4, 9)))}  # fmt: skip
    kurtosis = (x**4).mean(1)
    rows = [_of_beats(row, peaks, rate) for row, peaks in zip(x, beats_of(x, rate), strict=True)]
    powers = np.log(np.stack([bands["fast"], bands["atrial"], kurtosis], axis=1) + 1e-6)
    return np.concatenate([np.array(rows).reshape(len(x), -1), powers], axis=1)


def _of_beats(row: np.ndarray, peaks: np.ndarray, rate: float) -> list[float]:
    rr = np.diff(peaks) / rate
    mean = float(rr.mean()) if len(rr) else len(row) / rate
    variation = float(rr.std() / mean) if len(rr) > 1 else 0.0
    differences = float(np.sqrt((np.diff(rr) ** 2).mean()) / mean) if len(rr) > 1 else 0.0
    shortest = float(rr.min() / mean) if len(rr) else 1.0
    before, after = round(0.3 * rate), round(0.12 * rate)
    inside = peaks[(peaks >= before) & (peaks + after < len(row))]
    if not len(inside):
        return [len(peaks), mean, variation, differences, shortest, 0.0, 0.0]
    beat = np.mean([row[p - before : p + after] for p in inside], axis=0)
    span = beat[before - round(P_SPAN[0] * rate) : before - round(P_SPAN[1] * rate)]
    line = np.polynomial.polynomial.polyfit(np.arange(len(span)), span, 1)
    power = float((span - line[0] - line[1] * np.arange(len(span))).var())
    qrs = beat[before - after : before + after] - np.median(beat)
    wide = float((np.abs(qrs) > 0.5 * np.abs(qrs).max()).sum() / rate)
    return [len(peaks), mean, variation, differences, shortest, float(np.log(power + 1e-6)), wide]
