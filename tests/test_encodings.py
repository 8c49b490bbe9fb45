from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from orca.errors import InputError
from orca.tasks.encodings import (
    ENCODING,
    DnaEncoding,
    GridEncoding,
    SequenceEncoding,
    TableEncoding,
    WaveformEncoding,
)

ALL = (
    SequenceEncoding(scale=0.5),
    GridEncoding(channels="last"),
    DnaEncoding(),
    WaveformEncoding(sample_rate=8000, max_seconds=1.0),
    TableEncoding(cardinalities=(0, 3)),
)


@pytest.mark.parametrize("encoding", ALL, ids=lambda e: e.kind)
def test_an_encoding_survives_json(encoding):
    assert ENCODING.validate_json(ENCODING.dump_json(encoding)) == encoding


def test_an_encoding_is_frozen_and_refuses_unknown_keys():
    with pytest.raises(ValidationError, match="frozen"):
        SequenceEncoding().scale = 2.0
    with pytest.raises(ValidationError, match="chanels"):
        ENCODING.validate_python({"kind": "grid", "channels": "none", "chanels": "first"})


def test_signals_get_a_channel_axis_and_their_unit():
    x, length = SequenceEncoding(scale=0.5).encode(np.array([[2, 4, 6]], np.int16))
    assert x.dtype == np.float32
    assert x.tolist() == [[[1.0, 2.0, 3.0]]]
    assert length is None
    assert SequenceEncoding().encode(np.zeros((5, 3, 7)))[0].shape == (5, 3, 7)


def test_what_lies_after_the_end_of_a_sequence_becomes_zero():
    raw = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 5.0]])
    x, length = SequenceEncoding().encode(raw, np.array([2, 3]))
    assert x[:, 0].tolist() == [[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]
    assert length is not None
    assert length.tolist() == [2, 3]


def test_lengths_that_are_all_full_are_dropped():
    assert SequenceEncoding().encode(np.ones((2, 4)), np.array([4, 4]))[1] is None


def test_encoding_does_not_change_its_input():
    raw = np.ones((2, 4), np.float32)
    SequenceEncoding().encode(raw, np.array([1, 2]))[0][:] = 7
    assert (raw == 1).all()


@pytest.mark.parametrize("length", [[0, 3], [1, 5], [1], [1.0, 2.0]])
def test_impossible_lengths_are_refused(length):
    with pytest.raises(InputError, match="length"):
        SequenceEncoding().encode(np.ones((2, 4)), np.array(length))


def test_grids_end_with_the_channel_axis_second():
    image = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    x, _ = GridEncoding(channels="last").encode(image)
    assert x.shape == (2, 3, 4, 5)
    assert (x[:, 1] == image[..., 1]).all()
    assert GridEncoding(channels="first").encode(image)[0].shape == (2, 4, 5, 3)
    assert GridEncoding(channels="none", scale=0.1).encode(image[..., 0])[0].shape == (2, 1, 4, 5)


def test_a_grid_with_other_axes_is_refused():
    with pytest.raises(InputError, match=r"\(n, H, W\).*shape \(2, 3, 4, 5\)"):
        GridEncoding(channels="none").encode(np.zeros((2, 3, 4, 5)))
    with pytest.raises(InputError, match="length"):
        GridEncoding(channels="none").encode(np.zeros((2, 3, 4)), np.ones(2, int))


@pytest.mark.parametrize("dtype", ["S", "U", ">U4"])
def test_dna_becomes_one_hot_columns_in_either_case(dtype):
    x, length = DnaEncoding().encode(np.array(["ACGT", "tgca"]).astype(dtype))
    assert length is None
    assert (x[0] == np.eye(4)).all()
    assert (x[1] == np.eye(4)[::-1]).all()


def test_ambiguity_codes_are_spread_over_their_bases():
    x, _ = DnaEncoding().encode(np.array([b"NDSRU"]))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(x[0, :, 0], [0.25] * 4)  # N: any
    np.testing.assert_allclose(x[0, :, 1], [1 / 3, 0, 1 / 3, 1 / 3])  # D: not C
    np.testing.assert_allclose(x[0, :, 2], [0, 0.5, 0.5, 0])  # S: C or G
    np.testing.assert_allclose(x[0, :, 3], [0.5, 0, 0.5, 0])  # R: A or G
    np.testing.assert_allclose(x[0, :, 4], [0, 0, 0, 1])  # U: T in RNA


def test_dna_of_different_lengths_is_padded_with_zeros():
    x, length = DnaEncoding().encode(np.array(["ACG", "A"]))
    assert length is not None
    assert length.tolist() == [3, 1]
    assert x.shape == (2, 4, 3)
    assert not x[1, :, 1:].any()


@pytest.mark.parametrize("letter", ["X", "-", "J", "é"])
def test_a_letter_that_is_no_base_is_named_with_its_place(letter):
    with pytest.raises(InputError, match=f"'{letter}' at position 2 of sequence 1"):
        DnaEncoding().encode(np.array(["ACGT", f"AC{letter}T"]))


def test_dna_refuses_numbers_and_empty_strings():
    with pytest.raises(InputError, match="strings"):
        DnaEncoding().encode(np.zeros((3, 4)))
    with pytest.raises(InputError, match="lengths must be"):
        DnaEncoding().encode(np.array(["ACGT", ""]))


def _tone(hertz: float, samples: int = 8000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / 8000)


def test_a_higher_tone_is_in_a_higher_band_in_every_frame():
    x, length = WaveformEncoding(sample_rate=8000).encode(np.stack([_tone(300), _tone(1000), _tone(3000)]))
    assert x.shape == (3, 64, 101)
    assert length is None
    bands = x.argmax(1)  # (3, frames)
    assert (bands[:, 5:-5] == bands[:, 50:51]).all()
    assert bands[0, 50] < bands[1, 50] < bands[2, 50]


def test_int16_and_its_fraction_of_full_scale_are_the_same_sound():
    samples = (_tone(440) * 32768).astype(np.int16)[None]
    encoding = WaveformEncoding(sample_rate=8000)
    np.testing.assert_allclose(encoding.encode(samples)[0], encoding.encode(samples / 32768)[0], atol=1e-5)


def test_a_short_clip_gives_what_it_gives_alone_then_zeros():
    encoding = WaveformEncoding(sample_rate=8000)
    rows = np.zeros((2, 8000))
    rows[0], rows[1, :4000] = _tone(440), _tone(440, 4000)
    rows[1, 4000:] = 0.3  # not part of the clip
    x, length = encoding.encode(rows, np.array([8000, 4000]))
    assert length is not None
    assert length.tolist() == [101, 51]
    alone, _ = encoding.encode(rows[1:, :4000])
    np.testing.assert_allclose(x[1, :, :51], alone[0], atol=1e-6)
    assert not x[1, :, 51:].any()


def test_silence_and_one_sample_stay_finite():
    encoding = WaveformEncoding(sample_rate=8000)
    assert np.isfinite(encoding.encode(np.zeros((1, 800)))[0]).all()
    assert np.isfinite(encoding.encode(np.ones((1, 1)))[0]).all()


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_common_rates_have_frames_of_ten_milliseconds(rate):
    x, length = WaveformEncoding(sample_rate=rate, max_seconds=0.5).encode(np.ones((1, rate)))
    assert length is None
    assert abs(x.shape[-1] - 51) <= 1


def test_too_many_bands_are_refused():
    with pytest.raises(InputError, match="200 mel bands are too many"):
        WaveformEncoding(sample_rate=8000, n_mels=200).encode(np.ones((1, 800)))


def test_unsigned_samples_are_refused():
    with pytest.raises(InputError, match="uint8"):
        WaveformEncoding(sample_rate=8000).encode(np.ones((1, 800), np.uint8))


def test_a_table_keeps_numbers_and_codes():
    x, _ = TableEncoding(cardinalities=(0, 3)).encode(np.array([[-1.5, 2], [4.0, 0]]))
    assert x.tolist() == [[-1.5, 2.0], [4.0, 0.0]]


@pytest.mark.parametrize("code", [3.0, -1.0, 0.5, np.nan])
def test_a_category_that_is_no_code_is_refused(code):
    with pytest.raises(InputError, match=r"column 1 is categorical with codes 0\.\.2; got .* in row 1"):
        TableEncoding(cardinalities=(0, 3)).encode(np.array([[0.0, 1.0], [0.0, code]]))


def test_a_table_of_another_width_is_refused():
    with pytest.raises(InputError, match="needs 2 columns; got 3"):
        TableEncoding(cardinalities=(0, 3)).encode(np.zeros((1, 3)))


def test_no_rows_are_no_fault_of_the_encoding():
    assert DnaEncoding().encode(np.array([], dtype="S5"))[0].shape == (0, 4, 5)
    assert SequenceEncoding().encode(np.zeros((0, 9)))[0].shape == (0, 1, 9)


def test_numbers_that_need_no_change_are_not_copied() -> None:
    raw = np.ones((4, 2, 8, 8), np.float32)
    assert np.shares_memory(GridEncoding(channels="first").encode(raw)[0], raw)
    assert not np.shares_memory(GridEncoding(channels="first", scale=2).encode(raw)[0], raw)
