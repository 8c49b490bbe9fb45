"""Generating a task's files: block by block in parallel, resumed where it was stopped, checked before it counts."""

from __future__ import annotations

import io
import math
import multiprocessing
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np

from orca.errors import InputError
from orca.runtime import atomic_write, read_json, rng, write_json
from orca.tasks.files import read_npz
from orca.tasks.published import SIDE, Arrays, Check, Draw, Maker, Published, Size
from orca.tasks.readers.arrays import npy_header

Told = Callable[[int, int], None]  # blocks done, blocks in all
Block = tuple[str, int, int]  # split, number, samples


def make(
    published: Published,
    folder: Path,
    size: Size,
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Told = lambda done, whole: None,
) -> list[Check]:
    """Generates the files of a task in their published format, with a side file that says how.

    Each block has a random stream of its own, so the numbers do not depend on ``workers``. Stopped and called again, it
    does the blocks that are missing.

    Args:
        published: the task's files.
        folder: where they go; new, empty, or begun with the same settings.
        size: samples per split and points of one.
        seed: of all random numbers.
        workers: processes.
        progress: is told how many blocks are done.

    Returns:
        The acceptance checks, which the side file holds as well; none of them stops the files from being written.

    Raises:
        InputError: the folder holds something else.
    """
    work = folder / f".making-{published.key(size, seed)[:12]}"
    if folder.exists() and not work.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose a new folder")
    work.mkdir(parents=True, exist_ok=True)
    maker, blocks = published.maker, list(_blocks(published.maker, size))
    _draw_all(published, blocks, size.points, seed, work, workers, progress)
    parts = {part: _joined(part, blocks, work) for part in size.parts()}
    checks = list(maker.accept(parts, size.points))
    maker.write(folder, parts, size.points)
    facts = {"generator": published.name, "version": maker.version, "seed": seed, "synthetic": True}
    told = [asdict(check) | {"passed": check.passed} for check in checks]
    write_json(folder / SIDE, {**facts, "parameters": asdict(size), "checks": told})
    shutil.rmtree(work)
    return checks


def scaled(size: Size, *, samples: int | None = None, points: int | None = None) -> Size:
    """A size with another number of samples in all, each split in its share and at least one, or of other points.

    Raises:
        InputError: fewer samples than splits.
    """
    parts = size.parts()
    if samples is not None:
        if samples < len(parts):
            raise InputError(f"{samples} samples are too few for {', '.join(parts)}; give at least {len(parts)}")
        whole = sum(parts.values())
        counts = {name: max(1, round(samples * count / whole)) for name, count in parts.items() if name != "train"}
        parts = {**counts, "train": max(1, samples - sum(counts.values()))}
    return Size(parts.get("train", 0), parts.get("val", 0), parts.get("test", 0), points or size.points)


def bytes_on_disk(published: Published, size: Size) -> int:
    """About how many bytes a generated set takes, by one sample of it; while it is made, three times that."""
    maker = published.maker
    one = maker.draw(size.points, 1, rng(published.name, "size"), next(iter(size.parts())))
    return sum(array.nbytes for array in one.values()) * sum(size.parts().values())


def made_before(published: Published, folder: Path, size: Size, seed: int) -> list[Check] | None:
    """The checks of a set that was made with just these settings, None where the folder holds no such set."""
    if not (folder / SIDE).is_file():
        return None
    facts = read_json(folder / SIDE)
    wanted = {"generator": published.name, "version": published.maker.version, "seed": seed, "parameters": asdict(size)}
    if any(facts.get(key) != value for key, value in wanted.items()):
        return None
    limits = {"low": -math.inf, "high": math.inf}  # JSON has null for the infinities and NaN
    given = ({key: value for key, value in check.items() if value is not None} for check in facts["checks"])
    return [Check(**{"value": math.nan, **limits, **{k: v for k, v in c.items() if k != "passed"}}) for c in given]


def _blocks(maker: Maker, size: Size) -> Iterator[Block]:
    for part, count in size.parts().items():
        for number, start in enumerate(range(0, count, maker.block)):
            yield part, number, min(maker.block, count - start)


def _draw_all(
    published: Published, blocks: list[Block], points: int, seed: int, work: Path, workers: int, progress: Told
) -> None:
    missing = [block for block in blocks if not _file(work, block).is_file()]
    progress(len(blocks) - len(missing), len(blocks))
    names = (published.name, published.maker.version, seed)
    jobs = [(published.maker.draw, names, block, points, _file(work, block)) for block in missing]
    if workers == 1 or len(jobs) < 2:
        for done, job in enumerate(jobs, len(blocks) - len(jobs) + 1):
            _draw(*job)
            progress(done, len(blocks))
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of numpy and torch
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_quiet) as pool:
        try:
            ended = as_completed([pool.submit(_draw, *job) for job in jobs])
            for done, future in enumerate(ended, len(blocks) - len(jobs) + 1):
                future.result()
                progress(done, len(blocks))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _quiet() -> None:
    """Ctrl-C is for the process that has begun these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw(draw: Draw, names: tuple[str, int, int], block: Block, points: int, file: Path) -> None:
    part, number, count = block
    arrays = draw(points, count, rng(*names, part, number), part)
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
    atomic_write(file, stream.getvalue())


def _file(work: Path, block: Block) -> Path:
    return work / f"{block[0]}-{block[1]:05d}.npz"


def _joined(part: str, blocks: list[Block], work: Path) -> Arrays:
    """The arrays of a split, its blocks one after the other: on disk, with a block in memory at a time."""
    files = [_file(work, block) for block in blocks if block[0] == part]
    drawn = [_headers(file) for file in files]
    out = {
        name: np.lib.format.open_memmap(
            work / f"{part}-{name}.npy",
            "w+",
            np.result_type(*(found[name].dtype for found in drawn)),
            (sum(found[name].shape[0] for found in drawn), *first.shape[1:]),
        )
        for name, first in drawn[0].items()
    }
    starts = dict.fromkeys(out, 0)
    for file in files:
        for name, values in read_npz(file).items():
            out[name][starts[name] : starts[name] + len(values)] = values
            starts[name] += len(values)
    return out


def _headers(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a block as such of its shapes and types, without their values."""
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as stream:
                shape, dtype = npy_header(stream)
            found[name.removesuffix(".npy")] = np.broadcast_to(np.empty((), dtype), shape)
    return found
