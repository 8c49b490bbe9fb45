"""What an epoch of training costs where nothing but the predictor trains: features computed once, and the plain loop.

``python -m benchmarks.train --task digits --epochs 10`` trains the predictor on the offline body both ways.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def measure(task: str, epochs: int, samples: int | None, *, once: bool) -> dict[str, Any]:
    """Seconds of an epoch (median), of all before the first of them, and losses and validation of each."""
    import torch

    import orca.train
    from orca.bodies import load_body
    from orca.build import EmbedConfig, training_statistics
    from orca.finetuning import FinetuneConfig
    from orca.metrics import METRICS
    from orca.model import AdaptedModel
    from orca.runtime import resolve_device, seed_everything
    from orca.tasks import TASKS

    spec, device = TASKS.get(task), resolve_device("auto")
    data = spec.load()
    train, val = (part.subset(np.arange(min(samples or len(part), len(part)))) for part in (data.train, data.val))
    seed_everything(0)
    model = AdaptedModel.build(
        load_body(), training_statistics(train, data.layout), task=task, layout=data.layout,
        encoding=spec.encoding, config=EmbedConfig(),
    ).to(device)  # fmt: skip
    config = FinetuneConfig(method="head", epochs=epochs, patience=epochs)
    model.equip(config.choice)
    plain, orca.train.pays = orca.train.pays, lambda *given, **more: once
    try:
        with tempfile.TemporaryDirectory() as work:
            fit = orca.train.Fit(
                model, config, metric=METRICS.get(spec.metric), seed=0, dtype=None, work=Path(work)
            )  # fmt: skip
            begun = time.perf_counter()
            report = fit.run(train, val, progress=lambda facts: None)
            whole = time.perf_counter() - begun
    finally:
        orca.train.pays = plain
    seconds = [record["seconds"] for record in report.history]
    told = {"epoch_seconds": statistics.median(seconds), "before_seconds": whole - sum(seconds)}
    facts = {"device": torch.device(device).type, "threads": torch.get_num_threads(), "train": len(train)}
    curves = {name: [record[name] for record in report.history] for name in ("train_loss", "val_metric")}
    return {**told, **facts, **curves}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits", help="from orca tasks [digits]")
    parser.add_argument("--epochs", type=int, default=10, help="of the probe [10]")
    parser.add_argument("--plain-epochs", type=int, default=2, help="of the plain loop [2]")
    parser.add_argument("--samples", type=int, help="of training and validation set, each [all]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    once = measure(given.task, given.epochs, given.samples, once=True)
    plain, same = (measure(given.task, given.plain_epochs, given.samples, once=way) for way in (False, True))
    gap = {name: float(np.abs(np.subtract(same[name], plain[name])).max()) for name in ("train_loss", "val_metric")}
    made = {"once": once, "plain": plain, "times": plain["epoch_seconds"] / once["epoch_seconds"], "gap": gap}
    if given.json:
        print(json.dumps(made, indent=2))
        return
    print(f"{given.task}, {once['train']} samples, {once['device']}, {once['threads']} threads")
    for name in ("once", "plain"):
        print(
            f"{name:6} {made[name]['epoch_seconds']:9.4f} s an epoch, {made[name]['before_seconds']:7.2f} s beside them"
        )
    print(f"{made['times']:.0f} times as fast an epoch")
    print(
        f"over {given.plain_epochs} epochs both ways: losses differ by {gap['train_loss']:.1e} at most, validation by "
        f"{gap['val_metric']:.1e}"
    )


if __name__ == "__main__":
    main()
