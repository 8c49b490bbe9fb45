"""The second stage where training decides (``align.keep: trained``): two embedders are rivals, and both are trained."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

from orca.errors import TrainingError
from orca.finishing import read_history, write_history
from orca.keys import documents
from orca.manifest import Cost, verify
from orca.plan import Plan
from orca.runtime import read_json, write_json
from orca.stages import UNALIGNED, Progress, align, finetune
from orca.store import StageRef, Store

log = logging.getLogger(__name__)


def align_by_training(made: Plan, store: Store, before: StageRef, *, progress: Progress) -> StageRef:
    """Stage 2 where training decides: between the embedder that the probe lets pass and the unaligned one.

    Both are trained, and that goes on whose model validation prefers, the unaligned one where it prefers neither. The
    stages after it find their work done.
    """
    fresh, document = "align" in made.fresh, documents(made)["align"]
    if not fresh and (found := store.find("align", document)):
        return found
    rivals = made.with_align(objective="none"), made.with_align(keep="probe")
    unaligned, probed = (align(rival, store, before, progress=progress) for rival in rivals)
    done, in_vain = [unaligned, probed], []
    *steps, report = read_history(probed.path)
    chosen = unaligned if report["kept"] == UNALIGNED else probed
    if chosen is probed:
        (bare, without), (moved, aligned) = (
            _judged(rival, store, before, ref, progress) for rival, ref in zip(rivals, (unaligned, probed), strict=True)
        )
        report |= {"validation_unaligned": without, "validation_aligned": aligned}
        chosen, in_vain = (probed, bare) if made.metric().better(aligned, without) else (unaligned, moved)
        done += [*bare, *moved]
    if chosen is unaligned:
        report |= {"kept": UNALIGNED, "probe_kept": report["probe_unaligned"]}
    report["keep"] = "trained"

    def build(out: Path) -> None:
        shutil.copy(chosen.path / "embedder.safetensors", out / "embedder.safetensors")
        write_json(out / "report.json", {**read_json(probed.path / "report.json"), **report})
        write_history(out, [*steps, report])

    cost = Cost.together(verify(ref.path, ref.name, ref.key).cost for ref in (unaligned, probed, *in_vain))
    found = store.stage("align", document, build, fresh=fresh, cost=cost)
    return replace(found, cached=all(ref.cached for ref in done), seconds=sum(ref.seconds for ref in done))


def _judged(
    rival: Plan, store: Store, before: StageRef, aligned: StageRef, progress: Progress
) -> tuple[list[StageRef], float]:
    """The training of a rival, and its validation; none, and NaN, where it diverged."""
    progress({"stage": "align"})  # what was told of the training before is over
    try:
        tuned = finetune(rival, store, before, aligned, progress=progress)
    except TrainingError as fault:
        log.warning("%s (alignment: %s); the other embedder goes on", fault, rival.config.align.objective)
        return [], math.nan
    value = read_json(tuned.path / "report.json")["validation"]["value"]
    return [tuned], math.nan if value is None else value
