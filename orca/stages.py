"""The stages embed, align, finetune, evaluate, each a plain function that leaves one directory in the store.

A stage takes the plan, the store and the stage before it. What its result depends on is its key, so nothing is done
twice: ten methods share one alignment.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from orca import runtime
from orca.align import Align
from orca.baselines import fit_baselines
from orca.build import training_statistics
from orca.checkpoint import load_into, load_tensors, save_tensors
from orca.evaluate import score
from orca.finishing import write_history
from orca.keys import documents
from orca.model import AdaptedModel
from orca.plan import Plan
from orca.runtime import read_json, write_json
from orca.sources import source_features
from orca.store import StageRef, Store
from orca.train import Fit
from orca.turns import device_turn
from orca.types import LabeledSet

Progress = Callable[[dict[str, Any]], None]
CALIBRATION_SAMPLES = 512
UNALIGNED = "unaligned"  # what alignment kept, where the probe found all others surely worse
HUNGRY = ("align", "finetune", "evaluate")  # the stages that need a GPU's memory


def silent(facts: dict[str, Any]) -> None:
    """Progress that nobody watches."""


def _stage(made: Plan, store: Store, name: str, build: Callable[[Path], None]) -> StageRef:
    """Runs or finds a stage of this plan; those that compute on a GPU take turns there, which is no time of theirs."""
    waited = 0.0

    def build_in_turn(out: Path) -> float:
        nonlocal waited
        asked = time.perf_counter()
        with device_turn(made.device):
            waited = time.perf_counter() - asked
            build(out)
        return waited

    alone = name in HUNGRY and not made.config.share_device
    begun = time.perf_counter()
    ref = store.stage(name, documents(made)[name], build_in_turn if alone else build, fresh=name in made.fresh)
    return replace(ref, seconds=time.perf_counter() - begun - waited)


def _after(aligned: StageRef, made: Plan, store: Store, name: str, build: Callable[[Path], None]) -> StageRef:
    """As ``_stage``, for what follows alignment.

    Where that changed nothing, it is the work of an unaligned run; where two were trained, of the one that goes on.
    """
    fresh, document = name in made.fresh, documents(made)[name]
    report, same = read_json(aligned.path / "report.json"), made
    if report.get("kept") == UNALIGNED:
        same = made.with_align(objective="none")
    elif report.get("keep") == "trained":
        same = made.with_align(keep="probe")
    if "validation_aligned" in report and "align" in made.fresh:  # it was trained anew just now, to be chosen
        same = replace(same, fresh=same.fresh - {"finetune"})
    if same is made or (not fresh and store.find(name, document)):
        return _stage(made, store, name, build)
    return store.alias(_stage(same, store, name, build), document, fresh=fresh)


def embed(made: Plan, store: Store, *, progress: Progress = silent) -> StageRef:
    """Stage 1: embedder and predictor around the body, the embedder calibrated on training data."""

    def build(out: Path) -> None:
        data, config = made.data(), made.config
        progress({"stage": "embed"})
        statistics = training_statistics(data.train, data.layout, config.embed)
        some = runtime.rng("calibrate", config.seed).permutation(len(data.train))[:CALIBRATION_SAMPLES]
        model = made.build_model(statistics, calibrate_on=data.train.subset(some) if config.embed.calibrated else None)
        save_tensors(out / "embedder.safetensors", model.embedder.state_dict())
        save_tensors(out / "predictor.safetensors", model.predictor.state_dict())
        write_json(out / "report.json", {"grid": model.embedder.tail.grid, "layout": asdict(data.layout)})

    return _stage(made, store, "embed", build)


def source(made: Plan, store: Store) -> StageRef:
    """The source features of a body, computed once and stored."""
    config = made.config.source

    def build(out: Path) -> None:
        features = source_features(config, made.load_body())
        save_tensors(out / "features.safetensors", {"x": features.x, "y": features.y}, {"names": features.names})

    return _stage(made, store, "source", build)


def _source_set(made: Plan, store: Store) -> LabeledSet:
    tensors, facts = load_tensors(source(made, store).path / "features.safetensors")
    return LabeledSet(tensors["x"], tensors["y"], tuple(facts["names"]))


def align(made: Plan, store: Store, before: StageRef, *, progress: Progress = silent) -> StageRef:
    """Stage 2: trains the embedder towards the source features; where it has nothing to do, passes it on."""
    config = made.config
    assert not (config.aligned and config.align.keep == "trained"), "that is for orca.rivals"

    def build(out: Path) -> None:
        if not config.aligned:
            shutil.copy(before.path / "embedder.safetensors", out / "embedder.safetensors")
            write_json(out / "report.json", {"objective": "none"})
            return
        model, data = _model(made, before.path, before.path), made.data()
        settings = config.align.resolved(config.source)
        state = Align(model, _source_set(made, store), settings, seed=config.seed, dtype=made.dtype, work=out).run(
            data.train, data.val, progress=progress
        )
        save_tensors(out / "embedder.safetensors", model.embedder.state_dict())
        kept = f"epoch {state.kept_epoch}" if state.kept_epoch else UNALIGNED
        report: dict[str, Any] = {"kept": kept, "probe_unaligned": state.first_probe, "probe_kept": state.kept_probe}
        report |= {"diverged": True} if state.diverged else {}
        report |= {"keep": "last"} if config.align.keep == "last" else {}
        write_json(out / "report.json", {"objective": config.align.objective, "epochs": state.epoch, **report})
        write_history(out, [*state.history, report])

    return _stage(made, store, "align", build)


def finetune(made: Plan, store: Store, before: StageRef, aligned: StageRef, *, progress: Progress = silent) -> StageRef:
    """Stage 3: trains what the method says on the task; keeps the weights that validation prefers."""
    config, metric = made.config, made.metric()

    def build(out: Path) -> None:
        data, model = made.data(), _model(made, before.path, aligned.path)
        made.equip(model)
        model.average(config.finetune.augment)
        fit = Fit(
            model, config.finetune, metric=metric, seed=config.seed, dtype=made.dtype, work=out,
            augment=made.augment(),
        )  # fmt: skip
        report = fit.run(data.train, data.val, progress=progress)
        model.save_pretrained(out / "model")
        validation = {"value": report.best_value, "epoch": report.best_epoch}
        write_json(
            out / "report.json",
            {"validation": validation, "parameters": {"total": report.total, "trained": report.trained}},
        )
        write_history(out, report.history)

    return _after(aligned, made, store, "finetune", build)


def baselines(made: Plan, store: Store, *, progress: Progress = silent) -> StageRef:
    """What models that need no transformer reach, computed once for a task and a metric, and stored."""

    def build(out: Path) -> None:
        progress({"stage": "baselines"})
        found = fit_baselines(made.data(), made.metric(), seed=0, predictors=made.task.predictors)
        write_json(out / "baselines.json", found)

    return _stage(made, store, "baselines", build)


def evaluate(made: Plan, store: Store, aligned: StageRef, tuned: StageRef, *, progress: Progress = silent) -> StageRef:
    """The end: opens the test set once, beside shift sets and baselines."""
    metric = made.metric()

    def build(out: Path) -> None:
        beside = baselines(made, store, progress=progress)
        progress({"stage": "evaluate"})
        model = AdaptedModel.from_pretrained(tuned.path / "model").to(made.device)
        scores = score(model, made.data(), metric, dtype=made.dtype, out=out)
        validation = read_json(tuned.path / "report.json")["validation"]
        rivals = read_json(beside.path / "baselines.json")
        write_json(out / "metrics.json", {**scores, "validation": validation, "baselines": rivals})

    return _after(aligned, made, store, "evaluate", build)


def _model(made: Plan, built: Path, embedder: Path) -> AdaptedModel:
    """The model of stage 1, with the embedder of the given stage."""
    data = made.data()
    model = made.build_model(training_statistics(data.train, data.layout, made.config.embed))
    load_into(model.embedder, load_tensors(embedder / "embedder.safetensors")[0], str(embedder))
    load_into(model.predictor, load_tensors(built / "predictor.safetensors")[0], str(built))
    return model
