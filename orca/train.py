"""The one training loop: AdamW over layer groups, warm-up and decay, selection by validation, resumable by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orca.augment import Transform, drawn
from orca.batches import answers, autocast, to_batch
from orca.checkpoint import Checkpoint, load_part, load_tensors, save_tensors
from orca.errors import TrainingError
from orca.finetuning import FinetuneConfig, make_optimizer, rate_factor
from orca.frozen import FrozenFeatures, pays
from orca.methods import Neighbours
from orca.metrics import Metric
from orca.model import AdaptedModel
from orca.runtime import generator, rng, seed_everything
from orca.types import DENSE, Examples, TargetKind

Progress = Callable[[dict[str, Any]], None]
Tell = Callable[[float, dict[str, Any]], None]
LEAST_NORM = 0.01  # of a channel of a field, in standard deviations of the training set


@dataclass
class FitState:
    """What the loop has reached; goes into the checkpoint as JSON."""

    epoch: int = 0
    best_epoch: int = -1
    best_value: float = math.nan
    history: list[dict[str, float]] = field(default_factory=list)
    phase: int = 0
    start: int = 0  # epochs before this phase


@dataclass(frozen=True)
class FitReport:
    """What came out: the model holds the best weights by validation."""

    best_epoch: int
    best_value: float
    history: list[dict[str, float]]
    trained: int
    total: int


def loss_of(
    output: Tensor, target: Tensor, kind: TargetKind, scale: Tensor | None = None, *, positive: float | None = None
) -> Tensor:
    """The training loss, a mean over samples.

    Classes: cross-entropy. Multi-label: binary cross-entropy, in which a label that is there weighs ``positive``.
    Scalars: squared error in units of the training set's standard deviation. Fields: relative L2 error over the cells
    of a channel that are not NaN (Li et al. 2021, arXiv 2010.08895), mean over the channels, which may differ in unit;
    a channel smaller than a hundredth of the training set's standard deviation counts as if it were of that size.
    Masks: binary cross-entropy, mean over the cells that are not -1.
    """
    output = output.float()
    if kind == "classes":
        return F.cross_entropy(output, target)
    if kind == "multilabel":
        weight = None if positive is None else output.new_tensor(positive)
        return F.binary_cross_entropy_with_logits(output, target.float(), pos_weight=weight)
    if kind == "scalar":
        return ((output - target) / (1.0 if scale is None else scale)).square().mean()
    if kind == "mask":
        counts = (target >= 0).float()
        cells = F.binary_cross_entropy_with_logits(output, target.clamp(min=0), weight=counts, reduction="none")
        return (cells.flatten(1).sum(1) / counts.flatten(1).sum(1).clamp(min=1)).mean()
    there = ~target.isnan()
    output, target = output.where(there, 0.0), target.where(there, 0.0)
    error, norm = (output - target).flatten(2).norm(dim=2), target.flatten(2).norm(dim=2)  # (B, C)
    if scale is not None:  # of a channel that is all zero no error is small against it
        norm = norm.maximum(LEAST_NORM * scale.flatten() * there.flatten(2).sum(2).sqrt())
    return (error / norm.clamp(min=1e-12)).mean()


def epoch_order(data: Examples, config: FinetuneConfig, draw: torch.Generator) -> np.ndarray:
    """The rows of one epoch: a permutation, or draws with equal class frequency; of grouped rows, one of each group."""
    rows = np.arange(len(data)) if data.group is None else _one_of_each(data.group, draw)
    if not config.balanced:
        return rows[torch.randperm(len(rows), generator=draw)[: config.epoch_samples].numpy()]
    labels = data.y[rows]
    weight, count = torch.from_numpy(1.0 / np.bincount(labels)[labels]), config.epoch_samples or len(rows)
    return rows[torch.multinomial(weight, count, replacement=True, generator=draw).numpy()]


def _one_of_each(group: np.ndarray, draw: torch.Generator) -> np.ndarray:
    """A random row of each group (n,), (G,)."""
    order = np.lexsort((torch.rand(len(group), generator=draw, dtype=torch.float64).numpy(), group))
    return order[np.unique(group[order], return_index=True)[1]]


def _some(data: Examples, count: int) -> Examples:
    """A fixed random choice of so many answers, all their rows; the whole set where it has no more."""
    rows = data.firsts()
    if count >= len(rows):
        return data
    chosen = rng("validation", 0).permutation(len(rows))[:count]
    return data.subset(chosen if data.group is None else np.flatnonzero(np.isin(data.group, data.group[rows[chosen]])))


class Fit:
    """One training run of one model; :meth:`run` is the loop, everything before it is set-up.

    Args:
        model: the model, on its device, with all that the method inserts.
        config: the stage's configuration.
        metric: what validation is measured by.
        seed: of the data order, dropout and augmentation.
        dtype: precision of autocast, None for float32.
        work: folder for ``checkpoint/``.
        augment: what varies the inputs of training, by name.
    """

    def __init__(  # noqa: PLR0913
        self, model: AdaptedModel, config: FinetuneConfig, *, metric: Metric, seed: int, dtype: torch.dtype | None,
        work: Path, augment: Mapping[str, Transform] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.config, self.metric, self.dtype, self.augment = model, config, metric, dtype, augment or {}
        self.device = next(model.parameters()).device
        self.draw = generator("order", seed)
        self.seed = seed
        self.scale = getattr(model.predictor, "std", None) if model.layout.target in ("scalar", "field") else None
        self.best_file = work / "checkpoint" / "best.safetensors"
        self.features = FrozenFeatures(model, work / "checkpoint" / "features", device=self.device, dtype=dtype)
        self.forward: Callable[..., Tensor] = model
        self.answer: Callable[..., Tensor] = model.answer
        self.state = FitState()
        self.lengths = config.choice.lengths(config.epochs)
        self.trained: dict[int, nn.Parameter] = {}  # in this phase and those before it
        self.checkpoint = Checkpoint(
            work / "checkpoint" / "state.safetensors", model, state=self.state, order=self.draw
        )

    def run(self, train: Examples, val: Examples, *, progress: Progress) -> FitReport:
        """Trains to the end, from the checkpoint if there is one.

        Raises:
            TrainingError: the loss is not finite.
        """
        config, state = self.config, self.state
        seed_everything(self.seed)
        if config.validation_samples:
            val = _some(val, config.validation_samples)
        if not self.lengths:
            return self._remember(train, val)
        for phase in range(self.checkpoint.facts().get("phase", 0) + 1):
            self._enter(phase)
        self.checkpoint.restore()
        started, first = time.perf_counter(), state.epoch

        def tell(done: float, facts: dict[str, Any]) -> None:
            """Adds the time left to the facts, after so many epochs in all."""
            left = (time.perf_counter() - started) / (done - first) * (config.epochs - done)
            progress({"stage": "finetune", "epochs": config.epochs, "left": left, **facts})

        self._phase(train, val, tell)
        while state.phase + 1 < len(self.lengths):
            self._next()
            self._phase(train, val, tell)
        load_part(self.model, load_tensors(self.best_file)[0])
        trained = sum(p.numel() for p in self.trained.values())
        total = sum(p.numel() for p in self.model.parameters())
        return FitReport(state.best_epoch + 1, state.best_value, state.history, trained, total)

    def _enter(self, phase: int) -> None:
        """Makes the parameters of a phase train, with an optimiser of their own."""
        chosen = self.config.choice.apply(self.model.layer_groups(), phase)
        self.trained |= {id(p): p for part in chosen.values() for p in part}
        self.frozen = set(chosen) <= {"head"}
        self.checkpoint.optimizer = self.optimizer = make_optimizer(chosen, self.config)
        self.checkpoint.left_out = {name for name, p in self.model.named_parameters() if id(p) not in self.trained}

    def _next(self) -> None:
        """Goes on to the next phase from the best weights; the file of these then holds what trains from now on."""
        load_part(self.model, load_tensors(self.best_file)[0])
        self.state.phase, self.state.start = self.state.phase + 1, self.state.epoch
        self._enter(self.state.phase)
        save_tensors(self.best_file, self.checkpoint.part())

    def _remember(self, train: Examples, val: Examples) -> FitReport:
        """In place of epochs, where nothing trains: the predictor keeps the training set."""
        assert isinstance(self.model.predictor, Neighbours)
        with self.features as features:
            known = features.of("train", train)
            self.model.predictor.remember(*to_batch(known, np.arange(len(known)), self.device)[:2])
        scores = answers(self.model, val, device=self.device, dtype=self.dtype, call=self.model.answer)
        total = sum(p.numel() for p in self.model.parameters())
        return FitReport(0, self.metric.fn(scores, val.truth()), [], 0, total)

    def _phase(self, train: Examples, val: Examples, tell: Tell) -> None:
        """The epochs of the phase that are left, on features computed once where these stay as they are."""
        each = self.config.epoch_samples or len(train)
        dense = self.model.layout.target in DENSE
        rows = each * self.lengths[self.state.phase]
        if not self.frozen or self.augment or self._ended() or not pays(train, rows, dense=dense):
            self.forward, self.answer = self.model, self.model.answer
            self._epochs(train, val, tell)
            return
        with self.features as features:
            self.forward = self.answer = features.answer
            self._epochs(features.of("train", train), features.of("val", val), tell)

    def _ended(self) -> bool:
        """Whether the phase has had its epochs, or validation no longer improves."""
        state = self.state
        late = state.epoch - max(state.best_epoch, state.start) > self.config.patience
        return late or state.epoch >= state.start + self.lengths[state.phase]

    def _epochs(self, train: Examples, val: Examples, tell: Tell) -> None:
        """The epochs of the phase that are left."""
        while not self._ended():
            begun = time.perf_counter()
            loss = self._epoch(train, tell)
            scores = answers(self.model, val, device=self.device, dtype=self.dtype, call=self.answer)
            value = self.metric.fn(scores, val.truth())
            record = {"epoch": self.state.epoch + 1, "train_loss": loss, "val_metric": value}
            record |= {"lr": self.optimizer.param_groups[0]["lr"], "seconds": time.perf_counter() - begun}
            self._keep(value, record)
            tell(self.state.epoch, record)

    def _epoch(self, train: Examples, tell: Tell) -> float:
        """One pass; returns the mean loss per sample."""
        config, total_loss, told = self.config, 0.0, time.perf_counter()
        order = epoch_order(train, config, self.draw)
        starts = range(0, len(order), config.batch_size)
        before, steps = self.state.start * len(starts), self.lengths[self.state.phase] * len(starts)
        self.model.train()
        if self.frozen:  # nothing is dropped out of features that stay as they are
            self.model.eval()
            self.model.predictor.train()
        for i, start in enumerate(starts):
            step = self.state.epoch * len(starts) + i
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * rate_factor(step - before, steps, config.warmup)
            total_loss += self._step(train, order[start : start + config.batch_size], step)
            if time.perf_counter() - told > 1:
                told = time.perf_counter()
                facts = {"epoch": self.state.epoch + 1, "step": i + 1, "steps": len(starts)}
                seen = min(start + config.batch_size, len(order))
                tell(self.state.epoch + (i + 1) / len(starts), {**facts, "train_loss": total_loss / seen})
        return total_loss / len(order)

    def _step(self, train: Examples, index: np.ndarray, step: int) -> float:
        """One optimiser step; micro-batches are weighted by their share, so that accumulation changes nothing."""
        vary, alike = (drawn(self.augment, self.seed, step) for _ in range(2))
        summed, dense = 0.0, self.model.layout.target in DENSE
        for part in np.array_split(index, min(self.config.accumulate, len(index))):
            x, y, length = to_batch(train, part, self.device)
            with autocast(self.device, self.dtype):
                output = self.forward(vary(x, length), length)
            y = alike(y, None) if dense else y
            loss = loss_of(output, y, self.model.layout.target, self.scale, positive=self.config.positive_weight)
            (loss * (len(part) / len(index))).backward()
            summed += loss.item() * len(part)
        if not math.isfinite(summed):
            raise TrainingError(
                f"the training loss became {summed} in epoch {self.state.epoch + 1}; lower finetune.lr (now "
                f"{self.config.lr:g}), finetune.embedder_lr ({self.config.embedder_lr:g}), finetune.head_lr "
                f"({self.config.head_lr:g}) or finetune.inserted_lr ({self.config.inserted_lr:g})"
            )
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return summed

    def _keep(self, value: float, record: dict[str, float]) -> None:
        """Counts the epoch, keeps the weights if they are the best so far, writes the checkpoint."""
        state = self.state
        if state.best_epoch < 0 or self.metric.better(value, state.best_value):
            state.best_epoch, state.best_value = state.epoch, value
            save_tensors(self.best_file, self.checkpoint.part())
        state.epoch += 1
        state.history.append(record)
        self.checkpoint.save()
