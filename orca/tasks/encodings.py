"""Raw arrays in, model inputs out: one frozen model per form of input, stored as JSON beside a trained model.

Values are not standardised here: the embedder does that with statistics of the training set.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from orca.errors import InputError
from orca.tasks.letters import IUPAC, letter_table
from orca.tasks.records import RecordEncoding
from orca.tasks.waveform import log_mel, mel_decibels
from orca.types import InputKind

Encoded = tuple[np.ndarray, np.ndarray | None]

_LETTERS = letter_table()


class _Encoding(BaseModel):
    """What all encodings share: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: ClassVar[InputKind] = "sequence"


class SequenceEncoding(_Encoding):
    """Signals sampled at equal steps.

    Attributes:
        scale: raw values are multiplied by this, to bring them into their unit.
    """

    kind: Literal["sequence"] = "sequence"
    scale: float = 1.0

    def encode(self, raw: np.ndarray, length: np.ndarray | None = None) -> Encoded:
        """Brings signals (n, L) or (n, C, L) to (n, C, L) float32, zero from ``length`` (n,) on.

        Raises:
            InputError: another number of axes, or numbers that are none.
        """
        raw = _numeric(raw, "sequence", (2, 3), "(n, L) or (n, C, L)")
        x = _scaled(raw[:, None] if raw.ndim == 2 else raw, self.scale)  # (n, C, L)
        length = _checked_length(length, len(x), x.shape[-1])
        if length is not None:
            x = np.where((np.arange(x.shape[-1]) < length[:, None])[:, None], x, np.float32(0))
        return x, length


class GridEncoding(_Encoding):
    """Images and fields on a regular grid.

    Attributes:
        channels: where the channel axis is: ``none`` (n, H, W), ``first`` (n, C, H, W), ``last`` (n, H, W, C).
        scale: raw values are multiplied by this, such as 1/255 for 8-bit images.
        stretch: None, or the value up to which asinh(raw / stretch) is about linear, for light of any brightness.
    """

    input: ClassVar[InputKind] = "grid"
    kind: Literal["grid"] = "grid"
    channels: Literal["first", "last", "none"]
    scale: float = 1.0
    stretch: float | None = Field(default=None, gt=0)

    def encode(self, raw: np.ndarray, length: np.ndarray | None = None) -> Encoded:
        """Brings images to (n, C, H, W) float32. Grids have no ``length``.

        Raises:
            InputError: another number of axes than ``channels`` says, or a length.
        """
        _no_length(length, "grid")
        axes, form = (3, "(n, H, W)") if self.channels == "none" else (4, f"(n, C, H, W), channels {self.channels}")
        raw = _numeric(raw, "grid", (axes,), form)
        if self.channels == "none":
            raw = raw[:, None]
        elif self.channels == "last":
            raw = np.moveaxis(raw, -1, 1)
        x = _scaled(raw, self.scale)
        return x if self.stretch is None else np.arcsinh(x / np.float32(self.stretch)), None


class DnaEncoding(_Encoding):
    """DNA or RNA as one-hot columns in the order A, C, G, T; an ambiguity code is spread evenly over its bases.

    What comes one-hot keeps its order of bases; models do not mind, and reversed complements need only that bases stand
    opposite their complements, as they do in A, C, G, T and in A, G, C, T.
    """

    kind: Literal["dna"] = "dna"

    def encode(self, raw: np.ndarray, length: np.ndarray | None = None) -> Encoded:
        """Brings strings (n,), bytes or text of any length and case, to (n, 4, L) float32 and their lengths.

        One-hot rows (n, L, 4) of values in [0, 1] are taken as they are.

        Raises:
            InputError: not strings, or a letter that stands for no base; the message names it.
        """
        raw = np.asarray(raw)
        if raw.ndim == 3:
            return SequenceEncoding().encode(_one_hot(raw).transpose(0, 2, 1), length)
        if raw.ndim != 1 or raw.dtype.kind not in "SU":
            raise InputError(
                f"dna needs strings (n,); got {raw.dtype} of shape {raw.shape}; save them with np.array(list_of_str)"
            )
        raw = np.ascontiguousarray(raw, dtype=raw.dtype.newbyteorder("="))
        unit = np.dtype(np.uint8 if raw.dtype.kind == "S" else np.uint32)
        width = raw.dtype.itemsize // unit.itemsize
        letters = raw.view(unit).reshape(len(raw), width)  # (n, L) codes, 0 where a string has ended
        given = np.char.str_len(raw).astype(np.int64)
        known = np.isin(letters, np.flatnonzero(_LETTERS.any(1)))
        inside = np.arange(letters.shape[1]) < given[:, None]
        if (wrong := inside & ~known).any():
            row, column = np.argwhere(wrong)[0]
            raise InputError(
                f"dna: letter {chr(letters[row, column])!r} at position {column} of sequence {row} stands for no base; "
                f"expected {''.join(sorted(IUPAC))} in either case"
            )
        x = _LETTERS[np.where(inside, letters, 0)].transpose(0, 2, 1)  # (n, 4, L)
        length = given if length is None else np.minimum(given, np.asarray(length))
        return SequenceEncoding().encode(x, None if (length == x.shape[-1]).all() else length)


class WaveformEncoding(_Encoding):
    """Sound as a log-mel spectrogram: a sequence of frames with one channel per mel band.

    Attributes:
        sample_rate: in Hz.
        n_mels: number of mel bands.
        window_seconds: length of the analysis window.
        hop_seconds: step between frames.
        max_seconds: clips are cut to this length, or None to keep them whole.
    """

    kind: Literal["waveform"] = "waveform"
    sample_rate: int = Field(gt=0)
    n_mels: int = Field(default=64, gt=0)
    window_seconds: float = Field(default=0.032, gt=0)
    hop_seconds: float = Field(default=0.01, gt=0)
    max_seconds: float | None = Field(default=None, gt=0)

    def encode(self, raw: np.ndarray, length: np.ndarray | None = None) -> Encoded:
        """Brings clips (n, T), signed integers or in [-1, 1], valid up to ``length`` (n,), to (n, n_mels, frames).

        Raises:
            InputError: another number of axes, unsigned samples, or an empty clip.
        """
        raw = _numeric(raw, "waveform", (2,), "(n, T)")
        if raw.dtype.kind in "ub":
            raise InputError(
                f"waveform needs signed integers or floats in [-1, 1]; got {raw.dtype}; subtract its middle"
            )
        length = _checked_length(length, len(raw), raw.shape[1])
        if self.max_seconds is not None:
            limit = max(1, round(self.max_seconds * self.sample_rate))
            raw, length = raw[:, :limit], None if length is None else np.minimum(length, limit)
        window, hop = (max(1, round(s * self.sample_rate)) for s in (self.window_seconds, self.hop_seconds))
        x, frames = log_mel(raw, length, rate=self.sample_rate, bands=self.n_mels, window=window, hop=hop)
        return x, None if (frames == x.shape[-1]).all() else frames


class SpectrogramEncoding(_Encoding):
    """Sound of one length as an image of mel bands and frames, in decibels, minus its mean.

    Attributes:
        sample_rate: in Hz.
        samples: of each clip.
        n_mels: number of mel bands.
        window: samples of the analysis window.
        hop: samples between frames.
        points: of the Fourier transform.
        pad: columns of zeros after the last frame.
    """

    input: ClassVar[InputKind] = "grid"
    kind: Literal["spectrogram"] = "spectrogram"
    sample_rate: int = Field(gt=0)
    samples: int = Field(gt=0)
    n_mels: int = Field(gt=0)
    window: int = Field(gt=0)
    hop: int = Field(gt=0)
    points: int = Field(gt=0)
    pad: int = Field(default=0, ge=0)

    @property
    def shape(self) -> tuple[int, int]:
        """Bands and columns."""
        return self.n_mels, 1 + self.samples // self.hop + self.pad

    def encode(self, raw: np.ndarray, length: np.ndarray | None = None) -> Encoded:
        """Brings clips (n, samples), signed integers or in [-1, 1], to (n, 1, n_mels, frames + pad) float32.

        What comes as spectrograms (n, n_mels, frames + pad) is taken as it is.

        Raises:
            InputError: clips of another length, unsigned samples, or a length array.
        """
        _no_length(length, "spectrogram")
        raw = _numeric(raw, "spectrogram", (2, 3), f"(n, {self.samples}), or {self.shape} each")
        if raw.ndim == 3 and raw.shape[1:] == self.shape and raw.dtype == np.float32:
            return raw[:, None], None
        if raw.shape[1:] != (self.samples,) or raw.dtype.kind in "ub":
            raise InputError(
                f"spectrogram needs clips of {self.samples} samples at {self.sample_rate} Hz, signed integers or in "
                f"[-1, 1]; got {raw.dtype} of shape {raw.shape}"
            )
        return self.image(raw)[:, None], None

    def image(self, raw: np.ndarray) -> np.ndarray:
        """Clips (n, samples) to (n, n_mels, frames + pad) float32."""
        x = mel_decibels(
            raw, rate=self.sample_rate, bands=self.n_mels, window=self.window, hop=self.hop, points=self.points
        )
        return np.pad(x, ((0, 0), (0, 0), (0, self.pad)))


class TableEncoding(_Encoding):
    """Rows of a table; categories are codes 0..k-1, numbers are as they are.

    Attributes:
        cardinalities: number of categories of each column, 0 for a numeric one.
    """

    input: ClassVar[InputKind] = "table"
    kind: Literal["table"] = "table"
    cardinalities: tuple[int, ...] = Field(min_length=1)

    def encode(self, raw: np.ndarray, length: np.ndarray | None = None) -> Encoded:
        """Brings rows (n, F) to float32.

        Raises:
            InputError: another number of columns, or a category that is no code of its column.
        """
        _no_length(length, "table")
        raw = _numeric(raw, "table", (2,), "(n, F)")
        if raw.shape[1] != len(self.cardinalities):
            raise InputError(f"table needs {len(self.cardinalities)} columns; got {raw.shape[1]}")
        for column, count in enumerate(self.cardinalities):
            values = raw[:, column]
            if count and (wrong := ~((values >= 0) & (values < count) & (values == np.floor(values)))).any():
                row = int(wrong.argmax())
                raise InputError(
                    f"table: column {column} is categorical with codes 0..{count - 1}; got {values[row]} in row {row}"
                )
        return raw.astype(np.float32), None


Encoding = Annotated[
    SequenceEncoding
    | GridEncoding
    | DnaEncoding
    | WaveformEncoding
    | SpectrogramEncoding
    | TableEncoding
    | RecordEncoding,
    Field(discriminator="kind"),
]
ENCODING: TypeAdapter[Encoding] = TypeAdapter(Encoding)


def _numeric(raw: np.ndarray, kind: str, axes: tuple[int, ...], form: str) -> np.ndarray:
    raw = np.asarray(raw)
    if raw.ndim not in axes or raw.dtype.kind not in "iufb":
        raise InputError(f"{kind} needs numbers of shape {form}; got {raw.dtype} of shape {raw.shape}")
    return raw


def _one_hot(raw: np.ndarray) -> np.ndarray:
    if raw.shape[2] != 4 or raw.dtype.kind not in "iufb":
        raise InputError(f"dna needs strings (n,), or one-hot rows (n, L, 4); got {raw.dtype} of shape {raw.shape}")
    if raw.size and not (raw.min() >= 0 and raw.max() <= 1):
        raise InputError(f"one-hot dna has values in [0, 1]; got {raw.min()}..{raw.max()}")
    return raw


def _scaled(raw: np.ndarray, scale: float) -> np.ndarray:
    x = np.ascontiguousarray(raw, dtype=np.float32)  # raw itself where it is that already
    return x if scale == 1.0 else x * np.float32(scale)


def _no_length(length: np.ndarray | None, kind: str) -> None:
    if length is not None:
        raise InputError(f"a {kind} has no valid length; leave the length array out")


def _checked_length(length: np.ndarray | None, n: int, longest: int) -> np.ndarray | None:
    """The lengths as int64, or None where all are full."""
    if length is None:
        return None
    length = np.asarray(length)
    if length.shape != (n,) or length.dtype.kind not in "iu":
        raise InputError(f"length needs {n} integers; got {length.dtype} of shape {length.shape}")
    if n and (length.min() < 1 or length.max() > longest):
        raise InputError(f"lengths must be 1..{longest}; got {length.min()}..{length.max()}")
    return None if (length == longest).all() else length.astype(np.int64)
