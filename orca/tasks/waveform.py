"""Log-mel spectrograms of many clips, through the audio functions of transformers."""

from __future__ import annotations

import warnings

import numpy as np

from orca.errors import InputError

QUIETEST, RANGE = 1e-10, 80.0  # least power; decibels kept below a clip's loudest
CHUNK = 128  # clips at a time; of a second each at 8 kHz they take about 60 MB
FLOOR = 1e-6  # power below this is silence; the noise of 16-bit samples lies under it


def log_mel(
    raw: np.ndarray, length: np.ndarray | None, *, rate: int, bands: int, window: int, hop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log10 of the mel power of each frame; frames are centred on every ``hop``-th sample.

    Args:
        raw: clips, (n, T), signed integers (scaled by their range) or floats in [-1, 1].
        length: valid samples, (n,), or None where all are valid.
        rate: samples per second.
        bands: number of mel bands, M.
        window: samples of the Hann window; an odd number is raised by one, so that frames are centred.
        hop: samples between frames.

    Returns:
        The spectrograms, (n, M, 1 + T // hop) float32, zero after the last frame of a clip, and the frames, (n,) int64.

    Raises:
        InputError: the bands are too narrow for the window.
    """
    from transformers.audio_utils import mel_filter_bank, spectrogram_batch, window_function

    window += window % 2
    points = 1 << (2 * window - 1).bit_length()  # at least twice the window: the lowest bands are narrow
    filters = _filters(mel_filter_bank, points, rate, bands)
    valid = np.full(len(raw), raw.shape[1]) if length is None else np.asarray(length)
    frames = (1 + valid // hop).astype(np.int64)
    out = np.zeros((len(raw), bands, 1 + raw.shape[1] // hop), np.float32)
    unit = float(np.iinfo(raw.dtype).max) + 1 if raw.dtype.kind == "i" else 1.0
    taper = window_function(window, "hann")
    order = np.argsort(valid, kind="stable")  # clips of about one length together: less to pad
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        clips = [raw[i, : valid[i]].astype(np.float32) / np.float32(unit) for i in rows]
        spectra = spectrogram_batch(
            clips, taper, window, hop, points, power=2.0, mel_filters=filters, mel_floor=FLOOR, log_mel="log10"
        )
        for i, spectrum in zip(rows, spectra, strict=True):
            out[i, :, : frames[i]] = spectrum[:, : frames[i]]
    return out, frames


def mel_decibels(raw: np.ndarray, *, rate: int, bands: int, window: int, hop: int, points: int) -> np.ndarray:
    """Mel power of each frame in decibels, 80 dB deep, minus the clip's mean: the features of FSD50K's baseline.

    Hann window, reflected ends, triangles of unit height on the HTK scale from 0 to half the rate (Fonseca et al. 2022,
    arXiv 2010.00475, section V.B). The published code adds 75 dB before it takes the mean off, which changes nothing.

    Args:
        raw: clips, (n, T), signed integers (scaled by their range) or floats in [-1, 1].
        rate: samples per second.
        bands: number of mel bands, M.
        window: samples of the window.
        hop: samples between frames, which are centred on every ``hop``-th sample.
        points: of the Fourier transform.

    Returns:
        (n, M, 1 + T // hop) float32, each clip with mean 0.
    """
    import scipy.fft
    from transformers.audio_utils import mel_filter_bank, window_function

    filters = mel_filter_bank(points // 2 + 1, bands, 0.0, rate / 2, rate).astype(np.float32)  # (points // 2 + 1, M)
    taper = window_function(window, "hann").astype(np.float32)
    before = points // 2 - (points - window) // 2  # of the window's samples, those before the frame's centre
    unit = np.float32(np.iinfo(raw.dtype).max + 1.0 if raw.dtype.kind == "i" else 1.0)
    out = np.zeros((len(raw), bands, 1 + raw.shape[1] // hop), np.float32)
    for i, clip in enumerate(raw):
        padded = np.pad(clip.astype(np.float32) / unit, (before, window - before), mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: out.shape[2]] * taper
        wave = np.asarray(scipy.fft.rfft(frames, points), np.complex64)  # (F, points // 2 + 1)
        power = (wave.real**2 + wave.imag**2) @ filters  # (F, M)
        level = 10 * np.log10(np.maximum(power, QUIETEST))
        level = np.maximum(level, level.max() - RANGE)
        out[i] = (level - level.mean(dtype=np.float64)).T
    return out


def _filters(mel_filter_bank, points: int, rate: int, bands: int) -> np.ndarray:
    """The filters, (points // 2 + 1, M), none of them empty."""
    lowest = 2 * rate / points  # keeps the constant offset of a recording out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about empty filters, which are an error here
        filters = mel_filter_bank(points // 2 + 1, bands, lowest, rate / 2, rate)
    if not filters.any(axis=0).all():
        raise InputError(f"{bands} mel bands are too many for this window at {rate} Hz; take fewer, or a longer window")
    return filters
