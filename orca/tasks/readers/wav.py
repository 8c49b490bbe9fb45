"""WAV files: PCM of 8 to 32 bits or floats, one channel, at the rate that a task needs."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from orca.errors import InputError


def read_sounds(files: Sequence[Path], rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips of WAV files as rows (n, T) float32 in [-1, 1], zero after their end, and the length of each.

    Args:
        files: paths.
        rate: in Hz, of every one of them.

    Raises:
        InputError: as ``read_wav``.
    """
    clips = [read_wav(file, rate) for file in files]
    length = np.array([len(clip) for clip in clips], dtype=np.int64)
    rows = np.zeros((len(clips), int(length.max())), np.float32)
    for row, clip in zip(rows, clips, strict=True):
        row[: len(clip)] = clip
    return rows, length


def read_wav(path: Path, rate: int) -> np.ndarray:
    """The samples of a file in [-1, 1], (T,) float32; several channels are averaged.

    Args:
        path: the file.
        rate: samples per second that are needed.

    Raises:
        InputError: it is not there, no WAV file, empty, of another rate, or has samples that are not finite.
    """
    from scipy.io import wavfile

    if not path.is_file():
        raise InputError(f"there is no file {path}; expected a WAV file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # about tags and the like that are passed over
            found, samples = wavfile.read(path)
    except (ValueError, EOFError, OSError, struct.error) as fault:
        raise InputError(f"{path} is no WAV file, or it is damaged ({fault}); get or make it again") from fault
    if found != rate:
        raise InputError(
            f"{path} has {found} samples per second, expected {rate}; resample it, as with `sox -r {rate}`"
        )
    if samples.size == 0:
        raise InputError(f"{path} has no samples; leave it out of the list, or get it again")
    x = _scaled(samples)
    if x.ndim == 2:
        x = x.mean(1)
    if not np.isfinite(x).all():
        raise InputError(f"{path} has samples that are not finite; get or make it again")
    return x


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Integers of any width brought to [-1, 1]; those of 24 bits come in the upper part of 32."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    middle = 128 if samples.dtype == np.uint8 else 0
    return (samples.astype(np.float32) - middle) / (middle or float(np.iinfo(samples.dtype).max) + 1)
