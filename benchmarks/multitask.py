"""What it takes to serve many tasks: one body with the small parts of several runs, against as many models.

``python -m benchmarks.multitask`` makes runs of sequences, grids and tables around the offline body, without training,
and stores their trained parts. Fresh processes then load one of them as a plain model, all of them on one body, and all
of them as models of their own, and answer requests of one sample each, in bursts that mix the tasks. Memory is what is
resident beyond the libraries, after the answers. Rates are by the clock and by processor seconds, which tell more on a
busy machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("head", "prompt", "prefix", "adapter", "lora", "ia3", "bitfit", "layernorm")
SHAPES = {"sequence": (2, 256), "grid": (1, 16, 16), "table": (10,)}
WAYS = ("alone", "shared", "separate")


def make(folder: Path, body: str, methods: Sequence[str], tasks: int) -> list[Path]:
    """Stores the trained parts of models of one body, whose methods and kinds of input take turns."""
    import torch

    from orca.bodies import BodyConfig, load_body, locate_body
    from orca.build import EmbedConfig, training_statistics
    from orca.methods import MethodChoice
    from orca.model import AdaptedModel
    from orca.modelspec import Base
    from orca.tasks.encodings import GridEncoding, SequenceEncoding, TableEncoding
    from orca.types import Examples, Layout

    encodings = {
        "sequence": SequenceEncoding(), "grid": GridEncoding(channels="first"),
        "table": TableEncoding(cardinalities=(0,) * 10),
    }  # fmt: skip
    torch.manual_seed(0)
    files, made = locate_body(BodyConfig(name=body)), []
    for number in range(tasks):
        kind, method = list(SHAPES)[number % len(SHAPES)], methods[number % len(methods)]
        layout = Layout(kind, "classes", SHAPES[kind], (10,), (0,) * 10 if kind == "table" else ())  # type: ignore[arg-type]
        train = Examples(draw(kind, 64, number), np.zeros(64, np.int64))
        model = AdaptedModel.build(
            load_body(BodyConfig(name=body), files=files), training_statistics(train, layout), task=f"task{number}",
            layout=layout, encoding=encodings[kind], config=EmbedConfig(),
        )  # fmt: skip
        model.equip(MethodChoice(name=method), base=Base(name=body, sha256=files.sha256))
        made.append(folder / f"{number}-{kind}-{method}")
        model.save_pretrained(made[-1], trained_only=True)
    return made


def draw(kind: str, count: int, seed: int) -> np.ndarray:
    """Made-up inputs of a kind."""
    return np.random.default_rng(seed).normal(size=(count, *SHAPES[kind])).astype(np.float32)


def resident() -> float:
    """Memory that this process holds now, MiB; where the system does not tell, the most that it has held."""
    from orca.memory import peak_memory_mb

    gc.collect()
    pages = Path("/proc/self/statm")
    return (
        int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages.is_file() else peak_memory_mb()
    )


def answer_with(way: str, folders: Sequence[Path]) -> tuple[list[str], dict[str, Callable[[list[Any]], Any]]]:
    """The names of the tasks, and the ways to answer a burst of requests that these models allow."""
    import orca

    if way == "shared":
        served = orca.MultiTask(folders)
        return served.names, {"mixed": served.predict}
    models = {model.spec.task: model for model in map(orca.load, folders)}

    def by_task(burst: list[Any]) -> None:
        for name, model in models.items():
            if asked := [x for task, x in burst if task == name]:
                model.predict(np.concatenate(asked))

    return list(models), {
        "one by one": lambda burst: [models[name].predict(x) for name, x in burst],
        "by task": by_task,
    }


def serve(way: str, folders: Sequence[Path], bursts: int, burst: int) -> dict[str, Any]:
    """Loads models and answers: MiB beyond the libraries, and requests per second of each way to answer."""
    import peft  # noqa: F401 - what all of it needs is there before the count begins
    import torch
    from transformers import BertModel  # noqa: F401

    import orca.multitask  # noqa: F401
    from orca.memory import peak_memory_mb

    before, begun = resident(), time.perf_counter()
    names, ways = answer_with(way, folders)
    told: dict[str, Any] = {"load_seconds": time.perf_counter() - begun, "loaded_mb": resident() - before}
    told |= {"load_peak_mb": peak_memory_mb() - before, "libraries_mb": before, "threads": torch.get_num_threads()}
    kinds = {name: folder.name.split("-")[1] for name, folder in zip(names, folders, strict=True)}
    order = np.random.default_rng(0)
    asked = [
        [(name, draw(kinds[name], 1, number)) for name in order.choice(names, burst)] for number in range(bursts + 1)
    ]
    told["rates"] = {name: rates(call, asked) for name, call in ways.items()}
    return told | {"held_mb": resident() - before}


def rates(call: Callable[[list[Any]], Any], asked: list[list[Any]]) -> dict[str, float]:
    """Requests per second by the clock and by processor seconds, medians over all bursts but the first, a warm-up."""
    spent: list[tuple[float, float]] = []
    for burst in asked:
        begun = time.perf_counter(), time.process_time()
        call(burst)
        spent.append((len(burst) / (time.perf_counter() - begun[0]), len(burst) / (time.process_time() - begun[1])))
    clock, processor = (statistics.median(values) for values in zip(*spent[1:], strict=True))
    return {"per_second": clock, "per_processor_second": processor}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Every way to serve, each in a process of its own."""
    made: dict[str, Any] = {"tasks": given.tasks, "methods": given.methods, "body": given.body, "burst": given.burst}
    with tempfile.TemporaryDirectory() as work:
        folders = make(Path(work), given.body, given.methods, given.tasks)
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.multitask", "--serve", way]
            command += ["--bursts", str(given.bursts), "--burst", str(given.burst), "--folders"]
            command += map(str, folders[:1] if way == "alone" else folders)
            made[way] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    one, all_ = made["alone"], made["shared"]
    made["memory_times"] = all_["held_mb"] / one["held_mb"]
    made["process_times"] = (all_["held_mb"] + all_["libraries_mb"]) / (one["held_mb"] + one["libraries_mb"])
    return made


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.multitask", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=8, help="how many [8]")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="of the tasks, in turn [all small ones]")
    parser.add_argument("--body", default="minilm", help="a name from orca bodies, or a folder [minilm]")
    parser.add_argument("--burst", type=int, default=32, help="requests that come together [32]")
    parser.add_argument("--bursts", type=int, default=10, help="how many are timed; the median counts [10]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folders", nargs="+", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        print(json.dumps(serve(given.serve, given.folders, given.bursts, given.burst)))
        return
    made = measure(given)
    if given.json:
        print(json.dumps(made, indent=2))
        return
    print(f"{given.tasks} tasks ({', '.join(given.methods)}) on {given.body}, {made['shared']['threads']} threads")
    for way in WAYS:
        told = made[way]
        print(f"{way:9} {told['held_mb']:5.0f} MiB, {told['load_peak_mb']:5.0f} at most while loading")
        for name, rate in told["rates"].items():
            shown = rate["per_second"], rate["per_processor_second"]
            print(f"  {name:11} {shown[0]:7.1f} requests a second, {shown[1]:7.1f} a processor second")
    times = made["memory_times"], made["process_times"]
    print(f"all on one body: {times[0]:.2f} times the memory of one, {times[1]:.2f} with libraries")


if __name__ == "__main__":
    main()
