"""A checked configuration with all that it names found: data, body, device. No work starts before it is whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from embedders import calibrate
from orca import augment, runtime
from orca.batches import batches
from orca.bodies import Body, BodyFiles, VisionBody, body_fingerprint, load_body, locate_body
from orca.build import Statistics, embedding_law
from orca.config import RunConfig, wrong_names
from orca.errors import InputError
from orca.methods import Origin
from orca.metrics import Metric, check_metric
from orca.model import AdaptedModel, Base
from orca.sources import SOURCES, wrong_source
from orca.subsets import fewer
from orca.tasks import TaskSpec, resolve_task
from orca.types import DENSE, Examples, Splits

STAGES = ("embed", "align", "finetune", "evaluate")
_data: dict[str, Splits] = {}  # the last task's data in this process, by its fingerprint


@dataclass(frozen=True)
class Plan:
    """What a run needs, checked.

    Attributes:
        config: the configuration.
        task: the task.
        files: the body's files.
        data_key: fingerprint of the data.
        body_key: fingerprint of the body's weights, or of its architecture where they are random.
        device: where to compute.
        dtype: precision of autocast, None for float32.
        fresh: stages to do again even if they are there, with all that follow.
    """

    config: RunConfig
    task: TaskSpec
    files: BodyFiles
    data_key: str
    body_key: str
    device: torch.device
    dtype: torch.dtype | None
    fresh: frozenset[str] = field(default_factory=frozenset)

    def data(self) -> Splits:
        """The task's data, checked; read once in a process."""
        if self.data_key not in _data:
            _data.clear()
            _data[self.data_key] = fewer(self.task.load(), self.config.train_size)
        return _data[self.data_key]

    def metric(self) -> Metric:
        """What selects and reports.

        Raises:
            InputError: it does not go with the task's targets.
        """
        return check_metric(self.config.metric or self.task.metric, self.data().layout)

    def augment(self) -> dict[str, augment.Transform]:
        """What varies the training inputs, by name.

        Raises:
            InputError: it is not for the task's inputs.
        """
        names = self.config.finetune.augment
        return augment.prepare(names, task=self.task.name, encoding=self.task.encoding.kind, data=self.data())

    def load_body(self) -> Body | VisionBody:
        """The run's body, with the weights that it is to have."""
        return load_body(self.config.body, files=self.files, random_seed=self.config.random_seed)

    def build_model(self, statistics: Statistics, *, calibrate_on: Examples | None = None) -> AdaptedModel:
        """A new model on the device: the body with a fresh embedder and predictor, drawn from the run's seed.

        Args:
            statistics: of the training set.
            calibrate_on: training data to bring the embedder into the law of the body's embeddings, if given.
        """
        body = self.load_body()
        runtime.seed_everything(self.config.seed)
        model = AdaptedModel.build(
            body, statistics, task=self.task.name, layout=self.data().layout, encoding=self.task.encoding,
            config=self.config.embed,
        )  # fmt: skip
        if calibrate_on is not None:
            pairs = ((x, length) for _, x, length in batches(calibrate_on, 64, torch.device("cpu")))
            calibrate(model.embedder, pairs, embedding_law(body))
        return model.to(self.device)

    def with_align(self, **changes: Any) -> Plan:
        """The plan of the same run with other settings of alignment."""
        align = self.config.align.model_copy(update=changes)
        return replace(self, config=self.config.model_copy(update={"align": align}))

    def equip(self, model: AdaptedModel) -> None:
        """Puts what the method inserts into a model, drawn from the run's seed."""
        config, files = self.config, self.files
        base = Base(name=config.body.name, revision=config.body.revision, sha256=files.sha256)
        runtime.seed_everything(config.seed)
        origin = Origin(self.load_body, self.data().layout.classes)
        rows, kept = len(self.data().train), base if config.random_seed is None else None
        model.equip(config.finetune.choice, origin, base=kept, rows=rows)


def _data_key(task: TaskSpec, train_size: float | None) -> str:
    """The fingerprint of the data that a run learns from."""
    whole = task.fingerprint()
    return whole if train_size is None else runtime.digest({"task": whole, "train_size": train_size})


def check_stage(name: str | None) -> None:
    """Whether there is a stage of this name; None passes.

    Raises:
        InputError: there is none.
    """
    if name is not None and name not in STAGES:
        raise InputError(f"there is no stage '{name}'; there are {', '.join(STAGES)}")


def plan(config: RunConfig, *, online: bool = False, fresh: tuple[str, ...] = ()) -> Plan:
    """Checks that all a run needs is here and fits together, before any work.

    Args:
        config: the configuration.
        online: whether the hub may be asked for weights and data.
        fresh: stages to do again, each with those that follow it; ``all`` for every one.

    Raises:
        InputError: data or weights are missing, the data is faulty, or settings do not go together.
    """
    for stage in fresh:
        if stage != "all":
            check_stage(stage)
    if faults := wrong_names(config.model_dump()):  # a configuration made in Python has not been through check_config
        raise InputError("; ".join(faults))
    device = runtime.resolve_device(config.device)
    task = resolve_task(config.task, online=online)
    missing = task.missing() or (SOURCES.get(config.source.name).missing(config.source) if config.aligned else None)
    if missing:
        raise InputError(missing)
    files = locate_body(config.body, online=online)
    made = Plan(
        config=config, task=task, files=files, data_key=_data_key(task, config.train_size),
        body_key=body_fingerprint(files, random=config.random_seed is not None), device=device,
        dtype=runtime.autocast_dtype(device, config.precision),
        fresh=frozenset(s for i, s in enumerate(STAGES) if {"all", *STAGES[: i + 1]} & set(fresh)),
    )  # fmt: skip
    _check_fit(made)
    return made


def _check_vision(made: Plan) -> None:
    """Whether body, source and inputs are of the same kind: vision bodies take grids and images, others take text."""
    config, layout, patch = made.config, made.data().layout, made.files.patch
    if config.aligned and (fault := wrong_source(config.source.name, vision=patch is not None)):
        raise InputError(fault)
    if patch is not None and layout.input != "grid":
        raise InputError(
            f"the body {config.body.name} takes grids, but the input of {made.task.name} is a {layout.input}; choose a "
            "body of language, from `orca bodies`"
        )
    if config.embed.resize is not None and layout.input != "grid":
        raise InputError(f"embed.resize stretches grids, but the input is a {layout.input}; leave it out")
    if config.embed.pretrained and (patch is None or (config.embed.patch, config.embed.overlap) != (patch, 1)):
        have = f"embed.patch: {patch} and embed.overlap: 1" if patch else "a vision body such as swin-base"
        raise InputError(f"embed.pretrained copies the patches of a body, for which it needs {have}")


def _check_fit(made: Plan) -> None:
    """Whether data, metric and settings go together."""
    config, layout = made.config, made.data().layout
    made.metric()
    made.augment()
    _check_vision(made)
    config.finetune.choice.check_task(layout)
    if config.method.demanding:
        config.finetune.choice.try_on(runtime.read_json(made.files.path / "config.json"))
    if config.finetune.positive_weight is not None and layout.target != "multilabel":
        raise InputError(
            f"finetune.positive_weight weighs labels that are there, but the target is {layout.target}; leave it out"
        )
    if config.finetune.balanced and layout.target != "classes":
        raise InputError(
            f"finetune.balanced draws classes equally often, but the target is a {layout.target}; leave it out"
        )
    if layout.input == "table" and layout.input_shape[0] > config.embed.tokens:
        raise InputError(
            f"the table has {layout.input_shape[0]} columns and each is one token, but embed.tokens is "
            f"{config.embed.tokens}; raise embed.tokens or leave columns out"
        )
    if layout.target in DENSE and len(layout.target_shape) != len(layout.input_shape):
        raise InputError(
            f"a {layout.target} of shape {layout.target_shape} cannot be predicted from an input of shape "
            f"{layout.input_shape}: both need the same number of axes behind the channels"
        )
    if (kmer := config.embed.kmer) is not None and (made.task.encoding.kind != "dna" or layout.target in DENSE):
        raise InputError(
            f"embed.kmer reads words of DNA; the input of {made.task.name} is {made.task.encoding.kind}, its target "
            f"{layout.target}; leave it out"
        )
    if kmer is not None and kmer > layout.input_shape[1]:
        raise InputError(f"embed.kmer is {kmer}, but the sequences have {layout.input_shape[1]} bases; choose fewer")
    smallest = min(layout.input_shape[1:], default=math.inf)
    if config.embed.patch is not None and config.embed.patch > smallest:
        raise InputError(
            f"embed.patch is {config.embed.patch}, but the inputs of shape {layout.input_shape} have an axis of "
            f"{smallest}; choose a smaller patch, or leave it out and give embed.tokens"
        )
