"""A labelled set by its name: a task, a configuration, a source of language data, or an ``.npz`` file.

Tasks and configurations give their **training split**; no number here comes from validation or test data. Their samples
become features by a fresh embedder, calibrated to the body as in the embed stage: the mean over a sample's tokens.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orca import runtime
from orca.align import AlignConfig
from orca.bodies import BodyConfig, load_body
from orca.config import RunConfig, configs_folder, load_config
from orca.errors import InputError
from orca.labelled.features import FEATURES, Encoded, task_features
from orca.plan import plan
from orca.pseudo_labels import pseudo_labels
from orca.sources import SOURCES, SourceConfig, source_features
from orca.subsets import fewer, stratified
from orca.tasks import TASKS, TaskSpec, resolve_task
from orca.tasks.files import read_npz
from orca.types import LabeledSet, Splits

CONFIGS = (".yaml", ".yml")


@dataclass(frozen=True)
class SetOptions:
    """How a name becomes features.

    Attributes:
        body: the body whose space tasks and sources are put into; None is the default body, or none where ``raw``.
        features: ``embedder``: the mean over the embedded tokens; ``body``: over the frozen encoder's output.
        raw: a task's encoded input, flattened, instead.
        samples: at most so many of each set.
        seed: of the fresh embedder, the corpus of ``ner``, the pseudo-labels and the samples drawn.
        online: whether the hub may be asked for weights.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    body: str | None = None
    features: str = "embedder"
    raw: bool = False
    samples: int = 1000
    seed: int = 0
    online: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raises one InputError that lists all faults."""
        rules = (
            (self.features in FEATURES, f"features: expected {' or '.join(FEATURES)}, got '{self.features}'"),
            (
                not self.raw or (self.body is None and self.features == "embedder"),
                "raw takes the data as it is; leave out body and features, or leave out raw",
            ),
            (self.samples >= 4, f"samples: expected at least 4, got {self.samples}"),
            (self.seed >= 0, f"seed: expected at least 0, got {self.seed}"),
        )
        if faults := [text for kept, text in rules if not kept]:
            raise InputError("; ".join(faults))

    @property
    def body_config(self) -> BodyConfig:
        """The body."""
        return BodyConfig() if self.body is None else BodyConfig(name=self.body)

    @property
    def space(self) -> str:
        """What features of tasks and sources are, in words."""
        return "encoded inputs, flattened" if self.raw else f"{FEATURES[self.features]} of {self.body_config.name}"


@dataclass(frozen=True)
class ComparedSet:
    """A labelled set to be compared.

    Attributes:
        name: as it was asked for.
        data: features, labels 0..K-1 and their names.
        available: samples that it was drawn from, None where they were not counted.
        space: what the features are, in words; sets with different words may have nothing in common.
        labels: what the labels are, in words.
    """

    name: str
    data: LabeledSet
    available: int | None
    space: str
    labels: str


def load_set(name: str, options: SetOptions | None = None) -> ComparedSet:
    """The labelled set of that name.

    Args:
        name: a task, the name or path of a configuration, ``ner`` or ``conll:PATH``, or the path of an ``.npz`` file.
        options: how it becomes features.

    Raises:
        InputError: there is no such set, its data or the body's weights are not here, or the data is faulty.
    """
    options = options or SetOptions()
    if name.partition(":")[0] in SOURCES:
        return _from_source(name, options)
    if Path(name).suffix == ".npz":
        return _from_file(name, options)
    return _from_task(name, _config(name, options), options)


def _config(name: str, options: SetOptions) -> RunConfig:
    """The configuration of that name, or the task's with default settings; body, seed and device are the options'."""
    shipped = [p.relative_to(configs_folder()).with_suffix("").as_posix() for p in configs_folder().rglob("*.yaml")]
    if Path(name).suffix in CONFIGS or name in shipped:
        given = load_config(name)
        kept = {key: getattr(given, key) for key in ("task", "embed", "align", "train_size")}
        return _with(kept, options)
    if name in TASKS:
        return _with({"task": name}, options)
    known = sorted({*shipped, *TASKS.names(), *SOURCES.names()})
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}."
    raise InputError(
        f"there is no task, configuration or source '{name}'; {hint} Or give a .yaml file, an .npz file, or conll:PATH"
    )


def _with(kept: dict[str, Any], options: SetOptions) -> RunConfig:
    """The settings that count here; without an alignment no source has to be there."""
    align = kept.get("align", AlignConfig()).model_copy(update={"objective": "none"})
    changed = {"body": options.body_config, "seed": options.seed, "device": options.device, "precision": "float32"}
    return RunConfig(**{**kept, **changed, "align": align})


def _from_task(name: str, config: RunConfig, options: SetOptions) -> ComparedSet:
    made = None if options.raw else plan(config, online=options.online)
    splits = fewer(_raw_splits(resolve_task(config.task)), config.train_size) if made is None else made.data()
    layout, train = splits.layout, splits.train
    labels = pseudo_labels(train.y, layout.target, classes=config.align.pseudo_labels, seed=options.seed)
    rows = stratified(labels, options.samples, seed=options.seed)
    chosen = train.subset(rows)
    if made is None:
        x = torch.from_numpy(chosen.x.reshape(len(rows), -1)).float().to(runtime.resolve_device(options.device))
    else:
        x = task_features(made, chosen, kind=options.features)
    classes = layout.target == "classes"
    names = layout.classes if classes and layout.classes else [str(k) for k in range(int(labels.max()) + 1)]
    described = "classes" if classes else f"k-means groups of the targets ({layout.target})"
    return _compared(name, x, torch.from_numpy(labels[rows]), names, (len(train), options.space, described))


def _raw_splits(task: TaskSpec) -> Splits:
    if missing := task.missing():
        raise InputError(missing)
    return task.load()


def _compared(
    name: str, x: Tensor, y: Tensor, names: list[str] | tuple[str, ...], facts: tuple[int | None, str, str]
) -> ComparedSet:
    return ComparedSet(name, LabeledSet(x, y.to(x.device), tuple(names)), *facts)


def _from_source(name: str, options: SetOptions) -> ComparedSet:
    kind, _, path = name.partition(":")
    if options.raw:
        raise InputError(f"'{name}' is text and has no raw features; leave out raw, or compare data with data")
    spec = SOURCES.get(kind)
    if path and not spec.takes:
        raise InputError(f"source '{kind}' takes no file, got '{path}'; write {kind}, or conll:FILE")
    columns: dict[str, Any] = {}
    if ".conllu" in Path(path).suffixes:  # words and universal parts of speech
        columns = {"token_column": 1, "tag_column": 3}
    config = SourceConfig(name=kind, path=path or None, n=options.samples, seed=options.seed, **columns)
    if missing := spec.missing(config):
        raise InputError(f"{missing}; in the name of a set: {kind}:{spec.takes}" if spec.takes else missing)
    device = runtime.resolve_device(options.device)
    body = load_body(options.body_config, online=options.online).to(device)
    found = source_features(config, body if options.features == "embedder" else Encoded(body))
    facts = None, options.space, "classes of images" if spec.images else "tags of single words"
    return _compared(name, found.x, found.y, found.names, facts)


def _from_file(name: str, options: SetOptions) -> ComparedSet:
    """Features that were made elsewhere; they are taken as they are, whatever the body."""
    path = Path(name).expanduser()
    arrays = read_npz(path)
    keys = next((k for k in (("x", "y"), ("x_train", "y_train")) if set(k) <= set(arrays)), None)
    if keys is None:
        raise InputError(f"{path}: expected x and y, or x_train and y_train; it has {', '.join(arrays) or 'nothing'}")
    x, y = (arrays[key] for key in keys)
    if x.ndim < 2 or x.dtype.kind not in "iufb" or not x.size:
        raise InputError(
            f"{keys[0]} in {path}: expected numbers (n, d), not empty; got {x.dtype} {x.shape}. Other inputs, such as "
            "DNA or sound, need a configuration with task: {data: ..., input: ...}"
        )
    if y.shape != x.shape[:1] or y.dtype.kind not in "iubU":
        raise InputError(
            f"{keys[1]} in {path}: expected one label per row ({len(x)},), integers or strings; got {y.dtype} "
            f"{y.shape}. Other targets need a configuration with task: {{data: ..., target: ...}}"
        )
    flat = x.reshape(len(x), -1)
    bad = ~np.isfinite(flat).all(1)
    if bad.any():
        raise InputError(
            f"{keys[0]} in {path}: expected finite numbers; {int(bad.sum())} of {len(x)} rows have NaN or infinity, "
            f"the first is row {int(np.flatnonzero(bad)[0])}; drop or impute them"
        )
    names, labels = np.unique(y, return_inverse=True)
    rows = stratified(labels, options.samples, seed=options.seed)
    device = runtime.resolve_device(options.device)
    exact = np.can_cast(x.dtype, np.float32)  # whole numbers of 32 bits and more are not
    wide = not exact and device.type != "mps"  # which has no float64
    features = torch.from_numpy(flat[rows].astype(np.float64 if wide else np.float32)).to(device)
    facts = len(x), "features of a file", f"{keys[1]} of the file"
    return _compared(name, features, torch.from_numpy(labels[rows].astype(np.int64)), [str(v) for v in names], facts)
