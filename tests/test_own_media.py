"""Sounds, images and sequences of your own: from folders by class, from tables that name files, from FASTA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile

from orca.errors import InputError
from orca.tasks import OwnData, resolve_task
from orca.tasks.readers.images import read_images
from orca.tasks.readers.tables import read_table
from orca.tasks.readers.wav import read_sounds

RNG = np.random.default_rng(0)


def own(path: Path, **settings: Any) -> OwnData:
    return OwnData(**{"name": "mine", "data": str(path), "target": "classes", **settings})


def save_sound(path: Path, samples: int = 800, rate: int = 8000, dtype: Any = np.int16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, RNG.integers(0, 200, samples).astype(dtype))
    return path


def save_image(path: Path, size: tuple[int, int] = (9, 8), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (*size, 3)).astype(np.uint8)).convert(mode).save(path)
    return path


def test_sounds_in_folders_by_class_load(tmp_path: Path) -> None:
    for i in range(30):
        save_sound(tmp_path / ("dog" if i % 2 else "cat") / f"{i}.wav", samples=700 + 10 * i)
    task = resolve_task(own(tmp_path, input="waveform", sample_rate=8000))
    splits = task.load()
    assert splits.layout.classes == ("cat", "dog")
    assert (len(splits.train) + len(splits.val), len(splits.test)) == (24, 6)
    assert splits.train.length is not None
    before = task.fingerprint()
    save_sound(tmp_path / "cat" / "0.wav")
    assert task.fingerprint() != before


def test_another_label_of_a_file_is_another_fingerprint(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for i in range(8):
            save_image(tmp_path / "folder" / part / ("a" if i < 4 else "b") / f"{i}.png")
    task = resolve_task(own(tmp_path / "folder", input="grid"))
    before = task.fingerprint()
    (tmp_path / "folder/train/a/3.png").rename(tmp_path / "folder/train/b/3.png")  # the order of the files stays
    assert resolve_task(own(tmp_path / "folder", input="grid")).fingerprint() != before
    (tmp_path / "folder").rename(tmp_path / "moved")
    (tmp_path / "moved/train/b/3.png").rename(tmp_path / "moved/train/a/3.png")
    assert resolve_task(own(tmp_path / "moved", input="grid")).fingerprint() == before


@pytest.mark.parametrize("kind", ["grid", "waveform"])
def test_a_file_that_lies_twice_under_two_names_stays_on_one_side(kind: str, tmp_path: Path) -> None:
    for i in range(40):
        if kind == "grid":
            first = save_image(tmp_path / "ab"[i % 2] / f"{i}.png")
        else:
            first = save_sound(tmp_path / "ab"[i % 2] / f"{i}.wav")
        first.with_stem(f"{99 - i}").write_bytes(first.read_bytes())
    rate = {"sample_rate": 8000} if kind == "waveform" else {}
    splits = resolve_task(own(tmp_path, input=kind, **rate)).load()
    parts = [{x.tobytes() for x in part.x} for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40


def test_letters_of_either_case_are_one_sequence_and_test_does_not_shape_the_model(tmp_path: Path) -> None:
    texts = ["".join(RNG.choice(list("ACGT"), 20)) for _ in range(40)]
    lines = [f">{i}|{i % 2}\n{text.lower() if again else text}" for again in (0, 1) for i, text in enumerate(texts)]
    (tmp_path / "a.fasta").write_text("\n".join(lines))
    splits = resolve_task(own(tmp_path / "a.fasta", input="dna")).load()
    parts = [{x.tobytes() for x in part.x} for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    longer = [f">{i}|{i % 2}|test\n{text * 3}" for i, text in enumerate(texts[:8])]
    (tmp_path / "b.fasta").write_text("\n".join([*(f"{line}".replace("\n", "|train\n") for line in lines), *longer]))
    splits = resolve_task(own(tmp_path / "b.fasta", input="dna")).load()
    assert splits.layout.input_shape == (4, 20)
    assert splits.test.x.shape[2] == 60


def test_which_of_two_files_is_test_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    for name in "ab":
        texts = ["".join(RNG.choice(list("ACGT"), 20)) for _ in range(30)]
        (tmp_path / f"{name}.fasta").write_text("\n".join(f">{i}|{i % 2}\n{text}" for i, text in enumerate(texts)))
    one, other = (
        resolve_task(own(tmp_path / f"{train}.fasta", test=str(tmp_path / f"{test}.fasta"), input="dna")).fingerprint()
        for train, test in ("ab", "ba")
    )
    assert one != other


def test_a_grey_image_among_coloured_ones_is_coloured_in_every_part(tmp_path: Path) -> None:
    for i in range(30):
        save_image(tmp_path / "ab"[i % 2] / f"{i:02}.png", mode="RGB" if i == 20 else "L")
    splits = resolve_task(own(tmp_path, input="grid")).load()
    assert {part.x.shape[1:] for part in (splits.train, splits.val, splits.test)} == {(3, 9, 8)}


@pytest.mark.parametrize("mode", ["F", "I"])
def test_images_of_32_bits_are_refused_and_those_of_16_are_kept(mode: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32 if mode == "F" else np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"^\S+a\.tif has pixels of 32 bits; expected 8 or 16 bits a channel"):
        read_images([tmp_path / "a.tif"])
    values = np.array([[0, 60000], [300, 7]], np.uint16)
    Image.frombytes("I;16B", (2, 2), values.astype(">u2").tobytes()).save(tmp_path / "b.tif")
    assert read_images([tmp_path / "b.tif"]).tolist() == [values.tolist()]
    with pytest.raises(InputError, match="uint8 pixels, and .* uint16; bring all to one depth"):
        read_images([tmp_path / "b.tif", save_image(tmp_path / "c.png", (2, 2), "L")])


def test_images_of_train_and_test_folders_load(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 4)):
        for i in range(count):
            save_image(tmp_path / part / f"class{i % 2}" / f"{i}.png")
    splits = resolve_task(own(tmp_path, input="grid")).load()
    assert (splits.layout.input_shape, len(splits.test)) == ((3, 9, 8), 4)
    assert "test: as given" in splits.notes


def test_a_table_that_names_files_loads(tmp_path: Path) -> None:
    names = [save_image(tmp_path / "pictures" / f"{i}.png", mode="L").name for i in range(20)]
    table = pd.DataFrame({"name": [f"pictures/{name}" for name in names], "size": np.arange(20.0), "more": 1})
    table.to_csv(tmp_path / "a.csv", index=False)
    settings = {"input": "grid", "target": "scalar", "targets": ["size"], "inputs": ["name"]}
    assert resolve_task(own(tmp_path / "a.csv", **settings)).load().layout.input_shape == (1, 9, 8)
    (tmp_path / "pictures" / "7.png").unlink()
    task = resolve_task(own(tmp_path / "a.csv", **settings))
    assert task.missing() == f"there is no file {tmp_path / 'pictures' / '7.png'}"
    with pytest.raises(InputError, match=r"7.png, which the table names"):
        task.load()
    with pytest.raises(InputError, match="grid is one column of paths of files; inputs are name, more"):
        resolve_task(own(tmp_path / "a.csv", input="grid", target="scalar", targets=["size"]))


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (">s{i}|{y}|{part}", ["id", "label", "split", "sequence"]),
        (">s{i} label={y} split={part} and more", ["id", "label", "split", "sequence"]),
        (">s{i}|{y}", ["id", "label", "sequence"]),
    ],
)
def test_sequences_with_labels_in_their_headers_load(header: str, columns: list[str], tmp_path: Path) -> None:
    text = "; a comment\n"
    for i in range(40):
        part = ("training" if "|" in header else "train") if i < 32 else "testing" if "|" in header else "test"
        letters = "".join(RNG.choice(list("ACGT"), 30 + i))
        text += header.format(i=i, y=("no", "yes")[i % 2], part=part) + f"\n{letters[:20]}\n{letters[20:]}\n\n"
    (tmp_path / "a.fasta").write_text(text)
    assert list(read_table(tmp_path / "a.fasta").dtype.names or ()) == columns
    splits = resolve_task(own(tmp_path / "a.fasta", input="dna")).load()
    assert (splits.layout.classes, len(splits.test)) == (("no", "yes"), 8)
    assert splits.train.length is not None


def test_a_long_sequence_of_a_fasta_file_is_no_category(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">x|1\n" + "ACGT" * 600 + "\n")
    assert len(read_table(tmp_path / "a.fa")["sequence"][0]) == 2400


FASTA = {
    "no header": ("ACGT\n", "is no FASTA file: line 1 comes before a header"),
    "empty": ("", "is no FASTA file: it has no header line"),
    "no letters": (">a\n>b\nAC\n", "the sequence before line 2 of .* has no letters"),
    "no letters at the end": (">a\nAC\n>b\n", "the sequence before line 4 of .* has no letters"),
    "headers": (">a|1\nAC\n>b\nAC\n", "line 3 of .* tells id, sequence, the first header id, label, sequence"),
    "bytes": (b"\x1f\x8b\xff", "is no text in UTF-8"),
}


@pytest.mark.parametrize("fault", FASTA)
def test_each_way_to_break_a_fasta_file_has_its_own_message(fault: str, tmp_path: Path) -> None:
    content, message = FASTA[fault]
    (tmp_path / "a.fasta").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "a.fasta")


def test_folders_that_tell_no_classes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder .*none; expected a table"):
        read_table(tmp_path / "none")
    with pytest.raises(InputError, match="has no folders with .wav, .png"):
        read_table(tmp_path)
    save_image(tmp_path / "train" / "a.png")
    with pytest.raises(InputError, match="a.png lies in no folder of a class"):
        read_table(tmp_path)
    save_image(tmp_path / "cat" / "b.png")
    with pytest.raises(InputError, match="b.png beside folders train, val or test"):
        read_table(tmp_path)


def test_sounds_of_every_kind_come_to_one_form(tmp_path: Path) -> None:
    stereo = tmp_path / "stereo.wav"
    wavfile.write(stereo, 8000, np.array([[100, 300], [-2, 4]], np.int16))
    assert (read_sounds([stereo], 8000)[0] * 2**15).tolist() == [[200, 1]]
    wavfile.write(tmp_path / "eight.wav", 8000, np.array([128, 0, 255], np.uint8))
    rows, length = read_sounds([tmp_path / "eight.wav", stereo], 8000)
    assert (rows * 2**15).tolist() == [[0, -32768, 32512], [200, 1, 0]]
    assert length.tolist() == [3, 2]
    wavfile.write(tmp_path / "none.wav", 8000, np.zeros(0, np.int16))
    (tmp_path / "text.wav").write_text("RIFF")
    for file, message in (
        ("none.wav", "has no samples"), ("text.wav", "is no WAV file, or it is damaged"), ("x.wav", "there is no file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_sounds([tmp_path / file], 8000)
    with pytest.raises(InputError, match="has 8000 samples per second, expected 16000; resample it"):
        read_sounds([stereo], 16000)


def test_sounds_of_different_depth_come_to_one_scale(tmp_path: Path) -> None:
    half = [("16.wav", np.int16, 2**14), ("32.wav", np.int32, 2**30), ("f.wav", np.float32, 0.5)]
    for name, dtype, value in half:
        wavfile.write(tmp_path / name, 8000, np.full(3, value, dtype))
    assert read_sounds([tmp_path / name for name, *_ in half], 8000)[0].tolist() == [[0.5] * 3] * 3


def test_images_of_every_kind_come_to_one_form(tmp_path: Path) -> None:
    color, grey = save_image(tmp_path / "a.png"), save_image(tmp_path / "b.png", mode="L")
    flat = save_image(tmp_path / "c.png", mode="RGBA")
    assert read_images([grey]).shape == (1, 9, 8)
    assert read_images([color, grey, flat]).shape == (3, 9, 8, 3)
    with pytest.raises(InputError, match=r"d.png is 5 x 4, and .*a.png 8 x 9; bring all images to one size"):
        read_images([color, save_image(tmp_path / "d.png", size=(4, 5))])
    (tmp_path / "e.png").write_text("no")
    with pytest.raises(InputError, match="e.png is no image, or it is damaged"):
        read_images([tmp_path / "e.png"])
