"""FSD50K and DeepSEA: files as published and as generated, features, simulators, and a message for each broken file."""

from __future__ import annotations

import csv
import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from transformers.audio_utils import mel_filter_bank

from orca.augment import prepare
from orca.errors import InputError
from orca.metrics import label_aurocs
from orca.tasks import TASKS
from orca.tasks.benchmark import Frame, load_folder
from orca.tasks.encodings import DnaEncoding, WaveformEncoding
from orca.tasks.inspection import inspect
from orca.tasks.kmers import codes, counts, word_regression
from orca.tasks.making import make
from orca.tasks.nb360 import fsd50k
from orca.tasks.nb360.deepsea import DEEPSEA
from orca.tasks.nb360.deepsea import FILE as DNA_FILE
from orca.tasks.nb360.events import FAMILIES, RATE, event, label_names, pink
from orca.tasks.nb360.fsd50k import ENCODING, FSD50K, HISS, MAP, NOISE
from orca.tasks.nb360.regulatory import LABELS, MOTIFS, _near, hits, labels_of, markov
from orca.tasks.published import Size
from orca.tasks.raw import Raw
from orca.tasks.readers.wav import read_wav
from orca.types import Examples

FSD_FRAME = Frame("multilabel", "map", ENCODING)
DNA_FRAME = Frame("multilabel", "macro_auroc", DnaEncoding())


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds") / "fsd50k"
    checks = make(FSD50K, folder, Size(6, 2, 15, 3))
    assert all(check.passed for check in checks), checks
    return folder


@pytest.fixture
def copy(sounds: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sounds, tmp_path / "fsd50k")


def edit(folder: Path, row: int, **changes: str) -> None:
    """Changes one row of the training list."""
    path = folder / "chunks/tr.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[row] |= changes
    with path.open("w", newline="") as stream:
        out = csv.DictWriter(stream, list(rows[0]))
        out.writeheader()
        out.writerows(rows)


def test_sounds_are_read_as_they_were_written(sounds: Path) -> None:
    splits = load_folder(FSD50K, FSD_FRAME, sounds)
    assert [len(part.firsts()) for part in (splits.train, splits.val, splits.test)] == [6, 2, 15]
    assert splits.train.x.shape[1:] == splits.layout.input_shape == (1, 96, 102)
    assert splits.train.y.sum(1).min() >= 1
    assert splits.background is not None
    assert splits.background().shape == (20, 1, 96, 102)
    with (sounds / "chunks/tr.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["files", "labels", "ext"]
    rate, chunk = wavfile.read(sounds / rows[3]["files"])
    assert (rate, chunk.dtype, chunk.shape) == (22050, np.int16, (22050,))
    np.testing.assert_array_equal(splits.train.x[3], ENCODING.encode(chunk[None])[0][0])
    names = list(json.loads((sounds / MAP).read_text()))
    assert [names[k] for k in np.flatnonzero(splits.train.y[3])] == sorted(
        rows[3]["labels"].split(","), key=names.index
    )
    first = [row["ext"] for row in rows].index(rows[3]["ext"])
    assert splits.train.group is not None
    assert splits.train.group[3] == splits.train.group[first]


def test_noisy_clips_are_test_clips_with_noise_20_db_below_them(sounds: Path) -> None:
    splits = load_folder(FSD50K, FSD_FRAME, sounds)
    noisy, test = splits.shift["noise"], splits.test
    np.testing.assert_array_equal(noisy.y, test.y)
    np.testing.assert_array_equal(noisy.group, test.group)
    assert np.abs(noisy.x[:, :, :, :-1].mean((1, 2, 3))).max() < 1e-3  # relative to their mean, as all are
    with (sounds / "chunks/eval.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    chunks = np.stack([wavfile.read(sounds / row["files"])[1] for row in rows[:100]]).astype(np.float32) / 32768
    hissing = HISS(Raw(chunks, np.zeros(len(chunks)))).x
    np.testing.assert_array_equal(noisy.x[:5], ENCODING.encode(hissing[:5])[0])
    share = (hissing - chunks).std(1) / chunks.std(1)
    np.testing.assert_allclose(share, 0.1, rtol=0.03)


def test_of_many_clips_some_are_made_noisy_whole(sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsd50k, "HISS", replace(fsd50k.HISS, most=12))
    noisy, test = (load_folder(FSD50K, FSD_FRAME, sounds).shift["noise"], load_folder(FSD50K, FSD_FRAME, sounds).test)
    assert noisy.group is not None
    assert test.group is not None
    assert 0 < len(noisy) <= 12
    assert all((noisy.group == clip).sum() == (test.group == clip).sum() for clip in noisy.group)


def test_noise_is_read_where_it_is_asked_for(copy: Path) -> None:
    (copy / NOISE / "pink.wav").write_bytes(b"none")
    splits = load_folder(FSD50K, FSD_FRAME, copy)
    with pytest.raises(InputError, match="pink.wav is no WAV file"):
        prepare(["background"], task="fsd50k", encoding="spectrogram", data=splits)
    found = inspect(TASKS.get("fsd50k"), copy).findings
    assert ["pink.wav is no WAV file" in finding.what for finding in found if finding.wrong] == [True]


def test_files_of_the_authors_folders_short_chunks_and_no_noise_load(copy: Path) -> None:
    with (copy / "chunks/tr.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    edit(copy, 0, files="/abc" + rows[0]["files"])
    edit(copy, 1, files=rows[1]["files"].removeprefix("chunks/"))
    _, chunk = wavfile.read(copy / rows[2]["files"])
    wavfile.write(copy / rows[2]["files"], RATE, chunk[:9000].astype(np.float32) / 32768)
    shutil.rmtree(copy / NOISE)
    splits = load_folder(FSD50K, FSD_FRAME, copy)
    with pytest.raises(InputError, match="the task's data has none; put some where its page says"):
        prepare(["background"], task="fsd50k", encoding="spectrogram", data=splits)
    np.testing.assert_array_equal(splits.train.x[2], ENCODING.encode(np.resize(chunk[:9000], (1, RATE)))[0][0])


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda d: (d / "chunks/val.csv").write_text("files,label\n"), "val.csv lacks the columns labels, ext; it has"),
        (lambda d: (d / "chunks/val.csv").write_text("files,labels,ext\n"), "val.csv lists no chunks"),
        (lambda d: edit(d, 1, ext=""), "tr.csv, row 2: ext is empty; fill it in"),
        (lambda d: edit(d, 1, labels="yodel"), "tr.csv, row 2: chunks/lbl_map.json has no label 'yodel'"),
        (lambda d: edit(d, 0, ext="tr00005"), "clip tr00005 has other labels than in row 1; all chunks of a clip"),
        (lambda d: edit(d, 0, files="/far/a.wav"), "1 of the .* files in .*tr.csv are not there, first /far/a.wav; "),
        (lambda d: (d / MAP).write_text("{"), "lbl_map.json is not JSON"),
        (lambda d: (d / MAP).write_text('{"a": 0, "b": 2}'), "must give each label a number, 0..K-1, each once"),
        (lambda d: wavfile.write(d / "chunks/tr/00000-0.wav", 16000, np.zeros(16000, np.int16)),
         "00000-0.wav has 16000 samples per second, expected 22050; resample it"),
        (lambda d: wavfile.write(d / "chunks/tr/00000-0.wav", RATE, np.zeros(40000, np.int16)),
         "00000-0.wav lasts 1.81 s, expected chunks of 1 s; cut clips into chunks"),
    ],
)  # fmt: skip
def test_each_fault_of_the_sounds_has_its_message(copy: Path, breaking, message: str) -> None:  # noqa: ANN001
    breaking(copy)
    with pytest.raises(InputError, match=message):
        load_folder(FSD50K, FSD_FRAME, copy)


def test_wav_files_of_every_width_hold_the_same_samples(tmp_path: Path) -> None:
    x = np.round(np.sin(np.arange(500) / 9) * 2000) / 32768
    for dtype, scale, middle in (("int16", 2**15, 0), ("int32", 2**31, 0), ("float32", 1, 0), ("float64", 1, 0)):
        wavfile.write(tmp_path / f"{dtype}.wav", 8000, (x * scale + middle).astype(dtype))
        np.testing.assert_allclose(read_wav(tmp_path / f"{dtype}.wav", 8000), x, atol=1e-7)
    wavfile.write(tmp_path / "u8.wav", 8000, np.round(x * 128 + 128).astype(np.uint8))
    np.testing.assert_allclose(read_wav(tmp_path / "u8.wav", 8000), x, atol=1 / 128)
    with wave.open(str(tmp_path / "24.wav"), "wb") as out:
        out.setparams((1, 3, 8000, 0, "NONE", ""))
        out.writeframes(b"".join(int(v).to_bytes(3, "little", signed=True) for v in np.round(x * 2**23)))
    np.testing.assert_allclose(read_wav(tmp_path / "24.wav", 8000), x, atol=1e-7)
    wavfile.write(tmp_path / "two.wav", 8000, np.stack([x, -x / 2], axis=1).astype(np.float32))
    np.testing.assert_allclose(read_wav(tmp_path / "two.wav", 8000), x / 4, atol=1e-7)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file"), (b"RIFX", "is no WAV file"), (b"", "is no WAV file"), ([], "has no samples"),
     ([np.nan], "has samples that are not finite")],
)  # fmt: skip
def test_each_fault_of_a_wav_file_has_its_message(tmp_path: Path, content, message: str) -> None:  # noqa: ANN001
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        wavfile.write(path, 8000, np.array(content, np.float32))
    with pytest.raises(InputError, match=message):
        read_wav(path, 8000)


def test_the_spectrogram_is_that_of_torch_with_the_published_constants() -> None:
    x = np.random.default_rng(0).normal(scale=0.1, size=(3, RATE)).astype(np.float32)
    found, _ = ENCODING.encode(x)
    assert found.shape == (3, 1, 96, 102)
    assert np.abs(found[..., :-1].mean((1, 2, 3), dtype=np.float64)).max() < 1e-5
    assert not found[..., -1].any()
    wave_, window = torch.from_numpy(x), torch.hann_window(661)
    power = torch.stft(wave_, 1920, 220, 661, window, pad_mode="reflect", return_complex=True).abs() ** 2
    mel = np.einsum("nft,fm->nmt", power.numpy(), mel_filter_bank(961, 96, 0.0, RATE / 2, RATE))
    level = 10 * np.log10(np.maximum(mel, 1e-10))
    level = np.maximum(level, level.max((1, 2), keepdims=True) - 80)
    np.testing.assert_allclose(found[:, 0, :, :-1], level - level.mean((1, 2), keepdims=True), atol=1e-3)
    whole, _ = ENCODING.encode(np.round(x * 32768).astype(np.int16))
    np.testing.assert_allclose(whole, found, atol=0.3)  # sixteen bits are nearly enough
    assert ENCODING.encode(found[:, 0])[0].base is not None  # spectrograms are taken as they are
    with pytest.raises(InputError, match="needs clips of 22050 samples at 22050 Hz"):
        ENCODING.encode(x[:, :-1])


def test_log_mel_of_the_older_tasks_keeps_its_numbers() -> None:
    x = np.sin(np.arange(4000)[None] ** 1.3).astype(np.float32)
    found, _ = WaveformEncoding(sample_rate=8000).encode(x)
    assert found.shape == (1, 64, 51)
    assert float(found.sum(dtype=np.float64)) == pytest.approx(-10898.055, rel=1e-6)  # another FFT may round otherwise


@pytest.mark.parametrize("label", range(25))
def test_every_family_of_events_sounds_and_stays_in_its_range(label: int) -> None:
    x = event(label, RATE // 2, np.random.default_rng(label))
    assert np.isfinite(x).all()
    assert np.sqrt(np.square(x).mean()) == pytest.approx(1)


def test_there_are_two_hundred_classes_and_pink_noise_falls_by_three_decibels_per_octave() -> None:
    assert len(FAMILIES) == 25
    assert len(set(label_names(200))) == 200
    power = np.abs(np.fft.rfft(pink(2**16, np.random.default_rng(0)))) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].mean() for k in range(6, 14)]
    assert 10 * np.log10(octaves[0] / octaves[-1]) / 7 == pytest.approx(3.01, abs=0.2)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genome") / "deepsea"
    checks = make(DEEPSEA, folder, Size(1000, 60, 500, 200))
    assert all(check.passed for check in checks), checks
    return folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / DNA_FILE, allow_pickle=False))


def test_sequences_are_read_as_they_were_written(genome: Path) -> None:
    made, splits = arrays(genome), load_folder(DEEPSEA, DNA_FRAME, genome)
    assert (made["x_test"].dtype, made["x_test"].shape, made["y_test"].shape) == (np.uint8, (500, 200, 4), (500, 8))
    np.testing.assert_array_equal(splits.test.x, made["x_test"].transpose(0, 2, 1))
    np.testing.assert_array_equal(splits.val.y, made["y_val"])


def test_other_types_transposed_and_without_validation_load(genome: Path, tmp_path: Path) -> None:
    made = arrays(genome)
    imitation = {
        "x_train": made["x_train"].astype(bool),
        "x_test": made["x_test"].transpose(0, 2, 1).astype(np.float64),
    }
    np.savez(
        tmp_path / DNA_FILE, y_train=made["y_train"].astype(bool), y_test=made["y_test"].astype(float), **imitation
    )
    splits = load_folder(DEEPSEA, DNA_FRAME, tmp_path)
    np.testing.assert_array_equal(splits.test.x, made["x_test"].transpose(0, 2, 1))
    assert (len(splits.train), len(splits.val)) == (880, 120)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "deepsea_filtered.npz lacks x_train; it has"),
        ({"y_val": None}, "lacks y_val, which belongs to x_val"),
        (
            {"x_test": np.zeros((9, 200), np.uint8)},
            r"x_test in .* is uint8 of shape \(9, 200\); expected one-hot numbers",
        ),
        ({"x_test": np.ones((500, 200, 4))}, "x_test in .* is not one-hot in row 0: the four values"),
        ({"y_test": np.zeros((3, 8))}, r"y_test in .* is float64 of shape \(3, 8\); expected 0 and 1, \(500, labels\)"),
        ({"y_test": np.full((500, 8), 2)}, "y_test has values other than 0 and 1, such as 2"),
        ({"y_test": np.zeros((500, 7))}, "y_test has 7 columns or channels; y_train has 8"),
        ({"y_train": np.array([None] * 1000)}, "y_train in .* holds pickled objects"),
    ],
)
def test_each_fault_of_the_sequences_has_its_message(genome: Path, tmp_path: Path, changes, message: str) -> None:  # noqa: ANN001
    broken = {key: value for key, value in (arrays(genome) | changes).items() if value is not None}
    np.savez(tmp_path / DNA_FILE, **broken)
    with pytest.raises(InputError, match=message):
        load_folder(DEEPSEA, DNA_FRAME, tmp_path)


def test_motifs_are_found_on_either_strand_and_chance_hits_are_rare() -> None:
    x = markov(1000, 300, np.random.default_rng(0))
    chance = (hits(x, "SP1").max(1) >= 0).mean()
    assert chance < 0.04
    site = np.array(["ACGT".index(b) for b in MOTIFS["SP1"]])
    for bases in (site, 3 - site[::-1]):
        x[:, 450 : 450 + len(site)] = bases
        score = hits(x, "SP1")
        assert (score.argmax(1) == 150).mean() > 0.9
        assert (score[:, 150] >= 0).all()


def test_a_pair_counts_from_ten_to_sixty_bases_on_either_side() -> None:
    for gap, near in ((9, False), (10, True), (60, True), (61, False), (-9, False), (-10, True), (-60, True)):
        a, b = np.full((1, 200), -1.0), np.full((1, 200), -1.0)
        a[0, 100], b[0, 100 + gap] = 1, 1
        assert bool(_near(a, b)[0]) == near, gap


def test_the_published_shape_has_36_labels_of_every_kind() -> None:
    kinds = [kind for kind, *_ in LABELS]
    assert {kind: kinds.count(kind) for kind in kinds} == {"one": 12, "and": 8, "or": 6, "not": 4, "gc": 4, "open": 2}
    assert {kind for kind, *_ in labels_of(200)} == set(kinds)


def test_words_are_counted_on_both_strands() -> None:
    onehot, _ = DnaEncoding().encode(np.array(["AACGTT", "AACGTA", "TACGTT", "AANGTT"]))
    two = counts(codes(onehot), 2)  # AA/TT, AC/GT, AG/CT, AT, CA/TG, CC/GG, CG, GA/TC, GC, TA
    np.testing.assert_array_equal(two[0], [2, 2, 0, 0, 0, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(two[1], two[2])  # reverse complements
    assert two[3].sum() == 3  # words with an unknown base do not count


def test_word_regression_finds_a_planted_word() -> None:
    draw = np.random.default_rng(0)
    bases = draw.integers(0, 4, (400, 60))
    y = (np.arange(400) % 2).astype(np.float32)
    bases[y == 1, 20:26] = [0, 0, 1, 2, 3, 1]
    data = Examples(np.eye(4, dtype=np.float32)[bases].transpose(0, 2, 1), np.stack([y, 0 * y], axis=1))
    scores = word_regression(data.subset(np.arange(300)))(data.subset(np.arange(300, 400)))
    assert label_aurocs(scores[:, :1], y[300:, None])[0] > 0.85
    assert not scores[:, 1].any()
