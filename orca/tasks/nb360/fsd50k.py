"""FSD50K: which of 200 sounds are heard in a clip; clips of any length, in chunks of a second."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np

from orca.errors import InputError
from orca.runtime import digest, rng, user_cache, write_json
from orca.tasks.benchmark import Frame, published_task
from orca.tasks.encodings import SpectrogramEncoding
from orca.tasks.nb360.events import RATE, event, label_names, pink
from orca.tasks.published import Arrays, Check, Maker, Published, Size
from orca.tasks.raw import SHIFT, Raw
from orca.tasks.readers.wav import read_wav
from orca.tasks.shifts import Shift, drawn, noisy
from orca.types import Provenance

ENCODING = SpectrogramEncoding(sample_rate=RATE, samples=RATE, n_mels=96, window=661, hop=220, points=1920, pad=1)
LISTS = {"train": "tr", "val": "val", "test": "eval"}
COLUMNS = ("files", "labels", "ext")
MAP, NOISE = "chunks/lbl_map.json", "noise_22050"
PREFIX = 4  # characters of the published paths that stand for a folder of their authors
HOP = RATE // 2  # from chunk to chunk
LONGEST = 4  # seconds of a generated clip
BLOCK = 100  # chunks that are read together; each has the same noise, so the version of shifts goes with it
# 20 dB below each chunk, of so many: about 1,200 published clips, so that most labels are heard.
HISS = replace(noisy(0.1, each=True), most=20_000)
OF_EACH, NOISES = 20, 2000  # seconds of noise read of a file, and in all


def draw(points: int, count: int, generator: np.random.Generator, part: str) -> dict[str, np.ndarray]:
    """Clips of one to four seconds with one to three of ``points`` classes at 0 to -10 dB over pink noise.

    Returns:
        ``wave`` (count, 4 s) int16, ``seconds`` (count,), ``labels`` (count, points) uint8.
    """
    seconds = generator.choice(np.arange(1, LONGEST + 0.5, 0.5), count, p=np.arange(7, 0, -1) / 28)
    first = np.concatenate([generator.permutation(points) for _ in range(count // points + 1)])[:count]  # all in turn
    labels, wave = np.zeros((count, points), np.uint8), np.zeros((count, LONGEST * RATE), np.int16)
    for i in range(count):
        samples = round(seconds[i] * RATE)
        more = generator.permutation(points)[: generator.choice(3, p=(0.5, 0.3, 0.2))]
        x = pink(samples, generator) * 10 ** (generator.uniform(-30, -18) / 20)
        for label in {int(first[i]), *map(int, more)}:
            labels[i, label] = 1
            long = round(samples * generator.uniform(0.5, 1))
            start = generator.integers(samples - long + 1)
            x[start : start + long] += event(label, long, generator) * 10 ** (generator.uniform(-10, 0) / 20)
        wave[i, :samples] = np.round(x / np.abs(x).max() * 0.9 * 32767)
    return {"wave": wave, "seconds": seconds, "labels": labels}


def write(folder: Path, parts: Mapping[str, Arrays], points: int) -> None:
    """Writes lists, chunks of a second in steps of half a second, and two recordings of noise."""
    from scipy.io import wavfile

    names = label_names(points)
    (folder / "chunks").mkdir(exist_ok=True)
    write_json(folder / MAP, {name: k for k, name in enumerate(names)})
    for part, arrays in parts.items():
        (folder / "chunks" / LISTS[part]).mkdir(exist_ok=True)
        with (folder / _list(part)).open("w", newline="", encoding="utf-8") as stream:
            out = csv.writer(stream)
            out.writerow(COLUMNS)
            for i, (wave, seconds, labels) in enumerate(
                zip(arrays["wave"], arrays["seconds"], arrays["labels"], strict=True)
            ):
                heard = ",".join(names[k] for k in np.flatnonzero(labels))
                for k in range(round((seconds - 1) * 2) + 1):
                    file = f"chunks/{LISTS[part]}/{i:05d}-{k}.wav"
                    wavfile.write(folder / file, RATE, wave[k * HOP : k * HOP + RATE])
                    out.writerow((file, heard, f"{LISTS[part]}{i:05d}"))
    (folder / NOISE).mkdir(exist_ok=True)
    for power, name in ((1.0, "pink"), (2.0, "brown")):
        noise = pink(10 * RATE, rng("fsd50k", name), power)
        wavfile.write(folder / NOISE / f"{name}.wav", RATE, np.round(noise / np.abs(noise).max() * 20000).astype("<i2"))


def _list(part: str) -> str:
    return f"chunks/{LISTS[part]}.csv"


def read(folder: Path) -> dict[str, Raw]:
    """The chunks of each split and of noisy test clips as spectrograms, those of a clip in one group."""
    labels = _label_map(folder / MAP)
    listed = {part: _listed(folder, part, labels) for part in LISTS}
    parts = {part: replace(raw, x=_spectrograms(raw.x)) for part, raw in listed.items()}
    some = listed["test"].subset(drawn(listed["test"], HISS.most))
    return parts | {f"{SHIFT}noise": replace(some, x=_spectrograms(some.x, HISS))}


def _label_map(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as fault:
        raise InputError(f"{path} is not JSON ({fault}); get or make it again") from fault
    if not isinstance(found, dict) or sorted(map(str, found.values())) != sorted(map(str, range(len(found)))):
        raise InputError(f"{path} must give each label a number, 0..K-1, each once, as {{label: number}}")
    return {name: int(number) for name, number in found.items()}


def _listed(folder: Path, part: str, labels: Mapping[str, int]) -> Raw:
    """The chunks of a split as paths of their files."""
    path = folder / _list(part)
    rows = _rows(path)
    y = np.zeros((len(rows), len(labels)), np.float32)
    for i, row in enumerate(rows):
        for name in row["labels"].split(","):
            if name.strip() not in labels:
                raise InputError(
                    f"{path}, row {i + 1}: {MAP} has no label '{name.strip()}'; add it there, or mend the row"
                )
            y[i, labels[name.strip()]] = 1
    _, first, group = np.unique([row["ext"] for row in rows], return_index=True, return_inverse=True)
    if (differ := np.flatnonzero((y != y[first[group]]).any(1))).size:
        raise InputError(
            f"{path}, row {differ[0] + 1}: clip {rows[differ[0]]['ext']} has other labels than in row "
            f"{first[group[differ[0]]] + 1}; all chunks of a clip have its labels"
        )
    files = np.array(_files(folder, path, [row["files"] for row in rows]), dtype=object)
    return Raw(files, y, None, group.astype(np.int64))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        table = csv.DictReader(stream)
        if lacking := [name for name in COLUMNS if name not in (table.fieldnames or ())]:
            raise InputError(
                f"{path} lacks the columns {', '.join(lacking)}; it has {', '.join(table.fieldnames or ()) or 'none'}"
            )
        rows = list(table)
    if not rows:
        raise InputError(f"{path} lists no chunks; get or make it again")
    for i, row in enumerate(rows):
        if empty := [name for name in COLUMNS if not row[name]]:
            raise InputError(f"{path}, row {i + 1}: {', '.join(empty)} is empty; fill it in, or leave the row out")
    return rows


def _files(folder: Path, path: Path, listed: Sequence[str]) -> list[Path]:
    """Where the listed files are: relative to the folder or its chunks, as they are or without the published prefix."""
    places = (folder, folder / "chunks")

    def found(name: str) -> Path | None:
        tried = (place / short.lstrip("/") for short in (name, name[PREFIX:]) for place in places)
        return next((file for file in tried if file.is_file()), None)

    files = [found(name) for name in listed]
    if missing := [name for name, file in zip(listed, files, strict=True) if file is None]:
        raise InputError(
            f"{len(missing)} of the {len(listed)} files in {path} are not there, first {missing[0]}; expected under "
            f"{folder}, as listed or without the first {PREFIX} characters"
        )
    return [file for file in files if file is not None]


def _spectrograms(files: np.ndarray, shift: Shift | None = None) -> np.ndarray:
    """Those of chunks, (n, 96, 102) float32: computed once, kept in the cache, mapped from there.

    A shift changes the sounds, of blocks of chunks: those in one place of their blocks have the same noise.
    """
    facts = [(file.as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in ((f, f.stat()) for f in files)]
    told = {"files": facts, "encoding": ENCODING} | ({} if shift is None else {"shift": shift.facts})
    kept = user_cache() / "spectrograms" / f"{digest(told)[:24]}.npy"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        work = kept.with_name(f"{uuid4().hex}.part")
        out = np.lib.format.open_memmap(work, "w+", np.float32, (len(files), *ENCODING.shape))
        try:
            for at in range(0, len(files), BLOCK):
                sounds = np.stack([_second(file) for file in files[at : at + BLOCK]])
                if shift is not None:
                    sounds = shift(Raw(sounds, np.zeros(len(sounds)))).x
                out[at : at + BLOCK] = ENCODING.image(sounds)
            out.flush()
            os.replace(work, kept)
        finally:
            work.unlink(missing_ok=True)
    return np.load(kept, mmap_mode="r", allow_pickle=False)


def _second(file: Path) -> np.ndarray:
    """A chunk of a second, (22050,); shorter ones are repeated."""
    x = read_wav(file, RATE)
    if len(x) > RATE + ENCODING.hop:
        raise InputError(
            f"{file} lasts {len(x) / RATE:.2f} s, expected chunks of 1 s; cut clips into chunks in steps of 0.5 s, "
            "each a row with the clip's name as ext"
        )
    return np.resize(x, RATE)


def recorded_noise(folder: Path) -> np.ndarray:
    """Seconds of recordings of noise of any length, (m, 96, 102), as many of each; none where there are none."""
    seconds: list[np.ndarray] = []
    files = sorted((folder / NOISE).glob("*.wav"))
    for file in files[:: max(1, len(files) * OF_EACH // NOISES)]:
        x = read_wav(file, RATE)
        x = np.resize(x, max(1, len(x) // RATE) * RATE).reshape(-1, RATE)
        seconds.extend(x[np.linspace(0, len(x) - 1, min(OF_EACH, len(x))).round().astype(int)])
    return ENCODING.image(np.stack(seconds)) if seconds else np.zeros((0, *ENCODING.shape), np.float32)


def accept(parts: Mapping[str, Arrays], points: int) -> list[Check]:
    """Each class can be scored, and the features are as published."""
    x = ENCODING.image(parts["train"]["wave"][:50, :RATE])
    means = np.abs(x[:, :, :-1].mean((1, 2), dtype=np.float64))
    return [
        Check("test clips of the rarest class", float(parts["test"]["labels"].sum(0).min()), low=5),
        Check("greatest mean of a spectrogram, dB", float(means.max()), high=1e-3),
        Check("greatest value in the last column, dB", float(np.abs(x[:, :, -1]).max()), 0, 0),
    ]  # fmt: skip


FSD50K = Published(
    name="fsd50k",
    files=(*map(_list, LISTS), MAP),
    read=read,
    maker=Maker(
        version=1, small=Size(260, 36, 104, 20), published=Size(36_796, 4_170, 10_231, 200), draw=draw, write=write,
        accept=accept,
    ),
    background=recorded_noise,
)  # fmt: skip


def _with_noise(fingerprint: str) -> str:
    """Of files that are no lists, the noise counts by name and size; chunks count by their lists alone."""
    folder = FSD50K.found()
    files = [] if folder is None else sorted((folder / NOISE).glob("*.wav"))
    noise = {file.name: file.stat().st_size for file in files}
    return digest({"lists": fingerprint, "noise": noise})


_SPEC = published_task(
    FSD50K,
    Frame(
        "multilabel", "map", ENCODING,
        notes=(
            "validation: as published",
            "the answer to a clip is the mean of its chunks' logits; training takes a chunk of each clip, another each "
            "epoch, where the reference takes the same ones throughout",
            "published numbers are 1 - mAP, selected on the test set",
            "shift sets: noise alone, as spectrograms are relative to their mean and no gain changes them",
        ),
    ),
    title="sound events in clips of any length, 96 mel bands (FSD50K)",
    provenance=Provenance(
        "https://zenodo.org/records/4060432", "CC BY 4.0 (the collection; each clip has its own)",
        "E. Fonseca et al., FSD50K: an Open Dataset of Human-Labeled Sound Events, IEEE/ACM TASLP 30, 2022",
    ),
)  # fmt: skip
SPECS = (replace(_SPEC, fingerprint=lambda: _with_noise(_SPEC.fingerprint()), shifts={"noise": HISS}),)
