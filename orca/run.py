"""One run: the stages, chained without Prefect by :func:`adapt`; ``flows`` does it with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orca import stages
from orca.config import RunConfig, check_config, load_config
from orca.finishing import RunResult, finish
from orca.plan import Plan, plan
from orca.rivals import align_by_training
from orca.runs import track
from orca.stages import Progress, baselines, embed, evaluate, finetune, silent, source
from orca.store import StageRef, Store, default_root

__all__ = ["adapt", "align", "baselines", "embed", "evaluate", "finetune", "source"]


def align(made: Plan, store: Store, before: StageRef, *, progress: Progress = silent) -> StageRef:
    """Stage 2, by the probe or by training, as ``align.keep`` says."""
    by_training = made.config.aligned and made.config.align.keep == "trained"
    return (align_by_training if by_training else stages.align)(made, store, before, progress=progress)


def adapt(
    config: RunConfig | Mapping[str, Any] | str, *, seed: int | None = None, store: str | Path | None = None,
    online: bool = False, fresh: tuple[str, ...] = (), progress: Progress = silent,
) -> RunResult:  # fmt: skip
    """Adapts a body to a task, through all stages, without Prefect.

    Args:
        config: the name of a configuration, the path of one, a nested dict, or a :class:`RunConfig`.
        seed: replaces the configuration's.
        store: folder of stages and runs; ``ORCA_STORE`` or ``./runs`` if None.
        online: whether the hub may be asked for weights.
        fresh: stages to do again, each with those that follow it.
        progress: is called with facts of the work as it goes on.

    Raises:
        InputError: something is wrong with configuration, data or body; nothing has been done then.
    """
    if isinstance(config, str):
        config = load_config(config, seed=seed)
    elif isinstance(config, Mapping):
        config = check_config(config if seed is None else {**config, "seed": seed})
    elif seed is not None:
        config = config.model_copy(update={"seed": seed})
    made, place = plan(config, online=online, fresh=fresh), Store(Path(store) if store else default_root()).make()
    with track(made, place):
        embedded = embed(made, place, progress=progress)
        aligned = align(made, place, embedded, progress=progress)
        tuned = finetune(made, place, embedded, aligned, progress=progress)
        return finish(made, place, [embedded, aligned, tuned, evaluate(made, place, aligned, tuned, progress=progress)])
