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


def measure(task: str, epochs: int, *, once: bool) -> dict[str, Any]:
    """Seconds of an epoch (median), of all before the first of them, and the losses."""
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
    seed_everything(0)
    model = AdaptedModel.build(
        load_body(), training_statistics(data.train, data.layout), task=task, layout=data.layout,
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
            report = fit.run(data.train, data.val, progress=lambda facts: None)
            whole = time.perf_counter() - begun
    finally:
        orca.train.pays = plain
    seconds = [record["seconds"] for record in report.history]
    told = {"epoch_seconds": statistics.median(seconds), "before_seconds": whole - sum(seconds)}
    facts = {"device": torch.device(device).type, "threads": torch.get_num_threads(), "train": len(data.train)}
    return {**told, **facts, "losses": [record["train_loss"] for record in report.history]}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits", help="from orca tasks [digits]")
    parser.add_argument("--epochs", type=int, default=10, help="of the probe [10]")
    parser.add_argument("--plain-epochs", type=int, default=2, help="of the plain loop [2]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    once, plain = measure(given.task, given.epochs, once=True), measure(given.task, given.plain_epochs, once=False)
    first = slice(0, 1)  # the schedules of later epochs differ where their number does
    gap = float(np.abs(np.subtract(once["losses"][first], plain["losses"][first])).max())
    made = {"once": once, "plain": plain, "times": plain["epoch_seconds"] / once["epoch_seconds"], "loss_gap": gap}
    if given.json:
        print(json.dumps(made, indent=2))
        return
    print(f"{given.task}, {once['train']} samples, {once['device']}, {once['threads']} threads")
    for name in ("once", "plain"):
        print(
            f"{name:6} {made[name]['epoch_seconds']:9.4f} s an epoch, {made[name]['before_seconds']:7.2f} s beside them"
        )
    print(f"{made['times']:.0f} times as fast an epoch")


if __name__ == "__main__":
    main()
