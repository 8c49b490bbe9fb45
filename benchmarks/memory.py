"""Memory that a file larger than it takes: a PDEBench file of 8 GB is read and trained on, and the peak is measured.

``python -m benchmarks.memory`` writes the advection file in its published shape, 10,000 x 201 x 1,024 float32, as a
sparse file: it has its full length, but only the frames that the task reads are written, and what HDF5 writes around
them; the others are holes, which take no disk and read as zeros. The reader takes the same path either way, and a hole
that it touches passes through memory like any other bytes, so the peak is that of a dense file. ``--dense`` writes
every byte (8.2 GB of disk), ``--chunked`` does so in compressed chunks of all frames.

A fresh process then loads the task and trains a tiny body for some steps, and tells its peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SAMPLES, FRAMES, POINTS = 10_000, 201, 1024
ROWS = 100  # samples that are made and written at once
LIMIT = 1.5e9  # bytes that a run may take


def write(path: Path, samples: int, *, dense: bool = False, chunked: bool = False) -> None:
    """Writes an advection file of the published shape.

    Args:
        path: the file.
        samples: how many.
        dense: also the frames that no task reads.
        chunked: in compressed chunks of many frames, so that reading one frame means reading them all; implies dense.
    """
    import h5py

    from orca.tasks.pdebench.advection import END, KEY, SPEED, shifted
    from orca.tasks.pdebench.initial import random_waves

    shape, times = (samples, FRAMES, POINTS), np.linspace(0, END, FRAMES)
    frames = np.arange(FRAMES) if dense or chunked else np.array([0, FRAMES - 1])
    draw = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["t-coordinate"], file["x-coordinate"] = (
            times.astype("f4"),
            ((np.arange(POINTS) + 0.5) / POINTS).astype("f4"),
        )
        if chunked:
            field = file.create_dataset(KEY, shape, "f4", chunks=(16, FRAMES, 64), compression="lzf")
        else:
            plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # what is not written stays a hole
            space = h5py.h5s.create_simple(shape)
            field = h5py.Dataset(h5py.h5d.create(file.id, KEY.encode(), h5py.h5t.IEEE_F32LE, space, plan))
        for start in range(0, samples, ROWS):
            first = random_waves(POINTS, min(ROWS, samples - start), draw)
            field[start : start + len(first), frames] = shifted(first[:, None], SPEED * times[frames]).astype("f4")


def peak() -> int:
    """Greatest resident memory of this program so far, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts what the process was before it became this program, a copy of the writer
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def train(steps: int, work: Path) -> dict[str, float]:
    """Loads the task and trains a tiny body on it: seconds, and the peak resident memory after each part."""
    from transformers import BertConfig, BertModel

    from orca.bodies import Body
    from orca.build import EmbedConfig, training_statistics
    from orca.metrics import METRICS
    from orca.model import AdaptedModel
    from orca.tasks import TASKS
    from orca.train import FinetuneConfig, Fit

    task, told = TASKS.get("advection"), {"imports_peak": peak()}
    begun = time.perf_counter()
    splits = task.load()
    told |= {"load_seconds": time.perf_counter() - begun, "load_peak": peak()}
    begun = time.perf_counter()
    tiny = BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = AdaptedModel.build(
        Body(BertModel(tiny, add_pooling_layer=False)), training_statistics(splits.train, splits.layout),
        task=task.name, layout=splits.layout, encoding=task.encoding, config=EmbedConfig(tokens=32),
    )  # fmt: skip
    config = FinetuneConfig(epochs=1, batch_size=32, epoch_samples=32 * steps, validation_samples=100)
    fit = Fit(model, config, metric=METRICS.get(task.metric), seed=0, dtype=None, work=work)
    fit.run(splits.train, splits.val, progress=lambda facts: None)
    return told | {"train_seconds": time.perf_counter() - begun, "peak": peak(), "steps": steps}


def measure(folder: Path, samples: int, steps: int, *, dense: bool, chunked: bool) -> dict[str, float]:
    """Writes the file, trains in a fresh process, returns what that told, with the sizes of the file in bytes."""
    from orca.tasks.pdebench.advection import ADVECTION, FILE

    path = folder / ADVECTION.name / FILE
    path.parent.mkdir(parents=True)
    write(path, samples, dense=dense, chunked=chunked)
    command = [sys.executable, "-m", "benchmarks.memory", "--train", str(folder), "--steps", str(steps)]
    done = subprocess.run(command, env=os.environ | {"ORCA_DATA": str(folder)}, stdout=subprocess.PIPE, check=True)
    found = path.stat()
    return json.loads(done.stdout) | {"samples": samples, "length": found.st_size, "disk": found.st_blocks * 512}


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the numbers, and ends with 1 where the peak is beyond the limit."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"samples of the file [{SAMPLES}]")
    parser.add_argument("--steps", type=int, default=20, help="training steps of 32 samples [20]")
    parser.add_argument("--dense", action="store_true", help="write every byte")
    parser.add_argument("--chunked", action="store_true", help="write every byte, in compressed chunks of all frames")
    parser.add_argument("--folder", type=Path, help="where the file may lie for a while; one that does not exist")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.train:
        print(json.dumps(train(given.steps, given.train)))
        return 0
    folder = given.folder or Path(tempfile.mkdtemp())
    try:
        told = measure(folder, given.samples, given.steps, dense=given.dense, chunked=given.chunked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(told, indent=2))
    return int(told["peak"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
