"""The second stage: the input embedder is trained until the embedded target data resembles labelled source data.

Shen et al. 2023 (arXiv 2302.05738), section 3.2, with three changes: the dataset distance is taken over all classes
jointly unless ``otdd-classwise`` is chosen; it ends where the distance settles, or where a ridge probe of the frozen
features, judged on validation data, is surely worse than before alignment; and the last embedder before that goes on,
where the classes are pseudo-labels the unaligned one unless the end is surely better, so that alignment cannot do harm
unnoticed. ``keep: last`` is without that guard, for comparison; with ``keep: trained`` training chooses: ``rivals``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from orca.batches import to_batch
from orca.checkpoint import Checkpoint, load_tensors, save_tensors
from orca.discrepancies import DISCREPANCIES, DiscrepancyConfig, Objective
from orca.errors import InputError, TrainingError
from orca.model import AdaptedModel
from orca.probe import probe, surely_less
from orca.pseudo_labels import pseudo_labels
from orca.registry import Choices
from orca.runtime import generator, rng
from orca.sources import SourceConfig
from orca.types import Examples, LabeledSet

log = logging.getLogger(__name__)
Progress = Callable[[dict[str, Any]], None]


def _own_first(schema: dict[str, Any], model: type[AlignConfig]) -> None:
    """A form asks for the objective and its schedule, then for the settings that come from the distance."""
    order = sorted(schema["properties"], key=lambda name: name not in model.__annotations__)
    schema["properties"] = {name: schema["properties"][name] for name in order}


class AlignConfig(DiscrepancyConfig):
    """The second stage; the distance's own settings stand beside its schedule."""

    model_config = ConfigDict(title="Align", json_schema_extra=_own_first)

    objective: Annotated[str, Choices(lambda: ["none", *DISCREPANCIES.names()])] = Field(
        default="otdd", description="What alignment minimises; none leaves the stage out."
    )
    epochs: int = Field(
        default=60, ge=1, description="Steps over the target classes; each is one step of the optimiser."
    )
    samples_per_class: int = Field(
        default=64, ge=2, title="Samples per Class", description="Target samples of each class per step."
    )
    max_samples: int = Field(
        default=640,
        ge=4,
        title="Most Samples",
        description="Cap on the target features per step, all classes together; each class has two at least.",
    )
    features: Literal["mean", "token"] | None = Field(
        default=None,
        description="Feature of a target sample: the mean of its tokens, or one of them drawn at each step; unset is "
        "as the source has it, a token against words, the mean against sentences and images.",
    )
    lr: float = Field(default=1e-3, gt=0, title="Learning Rate", description="Of the embedder, per step.")
    pseudo_labels: int = Field(default=10, ge=2, description="k-means classes for targets that are not classes.")
    min_improvement: float = Field(
        default=1e-3,
        ge=0,
        title="Least Improvement",
        description="Stop when ten steps lower the distance by a smaller share of it.",
    )
    probe_every: int = Field(default=10, ge=1, description="Steps between probes of the embedder on validation data.")
    probe_samples: int = Field(default=512, ge=8, description="Training and validation samples of a probe, each.")
    keep: Literal["probe", "trained", "last"] = Field(
        default="probe",
        description="Which embedder goes on: the last that the probe does not find surely worse than the unaligned "
        "one, or, with pseudo-labels, finds surely better at the end; that one only if validation prefers it after "
        "both are trained, which takes two trainings; or always the last.",
    )

    def resolved(self, source: SourceConfig) -> AlignConfig:
        """These settings with all of them set: target features are such as the source's unless said otherwise."""
        features = self.features or ("token" if source.by_token else "mean")
        return self.model_copy(update={"features": features})


@dataclass
class AlignState:
    """What the loop has reached; goes into the checkpoint as JSON."""

    epoch: int = 0
    stopped: bool = False
    diverged: bool = False
    kept_epoch: int = 0
    kept_probe: float = float("inf")
    first_probe: float = float("inf")
    unaligned: list[float] = field(default_factory=list)  # the first probe, by sample
    history: list[dict[str, Any]] = field(default_factory=list)


class Align:
    """One alignment of one embedder; :meth:`run` is the loop.

    Args:
        model: the model, on its device; only its embedder changes.
        source: labelled source features.
        config: the stage's configuration, resolved.
        seed: of the samples drawn.
        dtype: precision of autocast for the probe.
        work: folder for ``checkpoint/``.
    """

    def __init__(  # noqa: PLR0913
        self, model: AdaptedModel, source: LabeledSet, config: AlignConfig, *, seed: int,
        dtype: torch.dtype | None, work: Path,
    ) -> None:  # fmt: skip
        self.model, self.config, self.seed, self.dtype = model, config, seed, dtype
        self.device = next(model.parameters()).device
        self.source = LabeledSet(source.x.to(self.device), source.y.to(self.device), source.names)
        self.optimizer = torch.optim.Adam(model.embedder.parameters(), lr=config.lr, fused=True)
        self.draw = generator("align", seed)
        self.kept_file = work / "checkpoint" / "kept.safetensors"
        self.state = AlignState()
        self.checkpoint = Checkpoint(
            work / "checkpoint" / "state.safetensors", model.embedder, self.optimizer, state=self.state, align=self.draw
        )

    def run(self, train: Examples, val: Examples, *, progress: Progress) -> AlignState:
        """Aligns to the end, from the checkpoint if there is one; the model then holds the kept embedder.

        Raises:
            TrainingError: it diverged, and ``keep: last`` leaves no embedder to go on with.
        """
        config, state = self.config, self.state
        labels = pseudo_labels(train.y, self.model.layout.target, classes=config.pseudo_labels, seed=self.seed)
        frequencies = torch.from_numpy(np.bincount(labels) / len(labels))
        objective = DISCREPANCIES.get(config.objective).prepare(self.source, config, frequencies)
        choose = rng("probe", self.seed)
        small = [part.subset(choose.permutation(len(part))[: config.probe_samples]) for part in (train, val)]
        if not self.checkpoint.restore():
            errors = probe(self.model, *small, dtype=self.dtype)
            state.first_probe = state.kept_probe = float(errors.mean())
            state.unaligned = errors.tolist()
            save_tensors(self.kept_file, self.model.embedder.state_dict())
            self.checkpoint.save()
        started, first = time.perf_counter(), state.epoch
        while state.epoch < config.epochs and not state.stopped:
            begun = time.perf_counter()
            value = self._step(objective, train, labels)
            state.epoch += 1
            state.diverged = not math.isfinite(value)
            state.stopped = state.diverged or self._settled(value)
            record: dict[str, Any] = {"epoch": state.epoch, "objective": value, "probe": None}
            if state.epoch % config.probe_every == 0 or state.epoch == config.epochs or state.stopped:
                record["probe"] = self._probe(small)
                state.diverged = state.diverged or not math.isfinite(record["probe"])
                state.stopped = state.stopped or state.diverged
            record["seconds"] = time.perf_counter() - begun
            state.history.append(record)
            self.checkpoint.save()
            left = (time.perf_counter() - started) / (state.epoch - first) * (config.epochs - state.epoch)
            progress({"stage": "align", "epochs": config.epochs, "left": left, **record})
        if state.diverged:
            self._tell_of_divergence()
        if config.keep == "last":
            state.kept_epoch, state.kept_probe = state.epoch, state.history[-1]["probe"]
            return state
        kept, _ = load_tensors(self.kept_file)
        self.model.embedder.load_state_dict(kept)
        return state

    def _step(self, objective: Objective, train: Examples, labels: np.ndarray) -> float:
        """One step of the optimiser over samples of every class; returns the discrepancy, NaN where it has none."""
        index = self._sample(labels)
        x, _, length = to_batch(train, index, self.device)
        self.model.embedder.train()
        tokens = self.model.embedder(x, length)
        features = self._features(tokens.x, tokens.mask)
        try:
            value = objective(features, torch.from_numpy(labels[index]).to(self.device))
        except InputError:
            if not self.state.epoch:
                raise
            return math.nan  # features, or their squares or cubes, are not finite: the step before was too long
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        self.optimizer.step()
        return float(value.detach())

    def _tell_of_divergence(self) -> None:
        said = (
            f"alignment diverged in step {self.state.epoch}: the embedded data is not finite; "
            f"lower align.lr (now {self.config.lr:g})"
        )
        if self.config.keep == "last":
            raise TrainingError(said)
        log.warning("%s; it ends there, and the last embedder that the probe let pass goes on", said)

    def _sample(self, labels: np.ndarray) -> np.ndarray:
        """Rows of the training set: equally many of each class, as far as it has them."""
        count = int(labels.max()) + 1
        each = max(2, min(self.config.samples_per_class, self.config.max_samples // count))
        order = torch.randperm(len(labels), generator=self.draw).numpy()
        return np.concatenate([order[labels[order] == c][:each] for c in range(count)])

    def _features(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens (B, T, D) to one feature per sample, (B, D): the mean, or a random valid token."""
        weight = torch.ones(tokens.shape[:2]) if mask is None else mask.cpu().float()
        if self.config.features == "mean":
            share = (weight / weight.sum(1, keepdim=True)).to(tokens)
            return torch.einsum("btd,bt->bd", tokens, share)
        place = torch.multinomial(weight, 1, generator=self.draw).to(tokens.device)  # (B, 1)
        return tokens.gather(1, place.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])).squeeze(1)

    def _settled(self, value: float) -> bool:
        """Whether the mean of the last ten steps is hardly lower than that of the ten before."""
        values = [record["objective"] for record in self.state.history] + [value]
        if len(values) < 20 or self.config.min_improvement == 0:
            return False
        before, now = float(np.mean(values[-20:-10])), float(np.mean(values[-10:]))
        return before - now < self.config.min_improvement * abs(before)

    def _probe(self, small: list[Examples]) -> float:
        """The probe's error of the embedder as it is; remembers the embedder if it passes, stops if it does harm."""
        errors, state = probe(self.model, *small, dtype=self.dtype), self.state
        error, unaligned = float(errors.mean()), np.array(state.unaligned)
        if state.diverged or not np.isfinite(errors).all():
            return error
        better, worse = surely_less(errors, unaligned), surely_less(unaligned, errors)
        if worse and self.config.keep != "last":
            log.info("alignment ends with step %d: its probe, %.3g, is surely worse than %.3g, unaligned", state.epoch,
                     error, state.first_probe)  # fmt: skip
            state.stopped = True
        at_the_end = state.stopped or state.epoch == self.config.epochs
        passes = not worse if self.model.layout.target == "classes" else better and at_the_end
        if passes:
            state.kept_probe, state.kept_epoch = error, state.epoch
            save_tensors(self.kept_file, self.model.embedder.state_dict())
        return error
