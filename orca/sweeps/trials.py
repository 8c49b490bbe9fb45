"""The trials of a study: what Optuna draws, what validation says of it, kept in a journal that processes share.

The journal is a file of JSON lines. It is locked by a file beside it, made by an exclusive open, which holds on network
file systems from NFS 3 on; Optuna takes the lock of a process that died away after half a minute.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orca import runtime
from orca.errors import InputError
from orca.sweeps.grid import Span

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution  # pyright: ignore[reportMissingImports] - the extra optuna
    from optuna.trial import FrozenTrial  # pyright: ignore[reportMissingImports]

STUDY = "study"  # each journal has one
State = Literal["started", "completed", "pruned", "failed"]
# Of the median rule: trials that must be complete before it is applied, the first epoch that it looks at, and trials
# that must have come as far. Half of the first epochs is warm-up, and a median of fewer trials is that of their luck.
COMPLETE, FIRST_EPOCH, AS_FAR = 5, 2, 3
EPOCHS = 1_000_000  # more than a seed has: the epochs of one after the other are counted in steps of a trial


def check_optuna() -> None:
    """Whether Optuna is there.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError("`search: optuna` needs the package optuna: pip install 'orca[optuna]'")


@dataclass(frozen=True)
class Trial:
    """One draw of the settings, and how it stands.

    Attributes:
        number: from 0 on, in the order of drawing.
        settings: key and value of each.
        state: started also where its process was stopped; failed where ``reason`` says why.
        value: the mean over seeds of the validation metric; of a pruned one as far as it came.
        epochs: how many have been trained, all seeds together.
        reason: why it failed.
        settled: whether it is over; a failed one that is not may come through another time.
    """

    number: int
    settings: dict[str, Any]
    state: State
    value: float | None
    epochs: int
    reason: str | None
    settled: bool


class Trials:
    """The trials in one journal.

    Args:
        file: the journal; it is made if it is not there.
        higher_is_better: the direction of the validation metric.
        settings: what is drawn from: values, or a span; nothing where trials are only reported of.
        seed: of the draws.
    """

    def __init__(
        self, file: Path, *, higher_is_better: bool, settings: Mapping[str, Span | list[Any]] | None = None,
        seed: int = 0,
    ) -> None:  # fmt: skip
        import optuna  # pyright: ignore[reportMissingImports]
        from optuna.storages.journal import (  # pyright: ignore[reportMissingImports]
            JournalFileBackend,
            JournalFileOpenLock,
        )

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.settings, self.seed, self.direction = settings or {}, seed, "maximize" if higher_is_better else "minimize"
        self._states = optuna.trial.TrialState
        self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(file), JournalFileOpenLock(str(file))))
        pruner = optuna.pruners.MedianPruner(COMPLETE, FIRST_EPOCH, n_min_trials=AS_FAR)
        known = {"study_name": STUDY, "storage": self._storage, "pruner": pruner}
        begun = bool(self._storage.get_all_studies())
        self._study = optuna.load_study(**known) if begun else optuna.create_study(**known, direction=self.direction)
        self._id = self._storage.get_study_id_from_name(STUDY)

    def ask(self) -> Trial:
        """A new trial.

        Its settings follow from the seed, its number and the trials before it, not from when the study was stopped.
        """
        import optuna  # pyright: ignore[reportMissingImports]

        draw = runtime.rng("study", self.seed, len(self._found()))
        self._study.sampler = optuna.samplers.TPESampler(seed=int(draw.integers(2**32)), constant_liar=True)
        asked = self._study.ask({key: _distribution(values) for key, values in self.settings.items()})
        return self.one(asked.number)

    def all(self) -> list[Trial]:
        """All that were drawn, in their order. One that a stop tore while it was drawn is none."""
        return [self._told(trial) for trial in self._found() if trial.params.keys() == self.settings.keys()]

    def one(self, number: int) -> Trial:
        """The trial of that number."""
        return self._told(self._found()[number])

    def best(self) -> Trial | None:
        """The completed trial that validation prefers, the first of equal ones; None if none is completed."""
        completed = [trial for trial in self.all() if trial.state == "completed"]
        sign = -1 if self.direction == "maximize" else 1
        return min(completed, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def report(self, number: int, step: int, value: float) -> None:
        """Takes note of the validation metric after an epoch; what was told before stays."""
        if step not in self._found()[number].intermediate_values:
            self._storage.set_trial_intermediate_value(self._identity(number), step, value)

    def lags(self, number: int) -> bool:
        """Whether the trial's best epoch so far is worse than the median of the completed trials at its last."""
        return self._study.pruner.prune(self._study, self._found()[number])

    def complete(self, number: int, value: float) -> None:
        """Ends a trial with the mean of validation over its seeds."""
        self._study.tell(number, value)

    def prune(self, number: int) -> None:
        """Ends a trial that lags behind."""
        self._study.tell(number, state=self._states.PRUNED)

    def fail(self, number: int, reason: str, *, settled: bool) -> None:
        """Says why a trial failed.

        Args:
            number: the trial's.
            reason: why.
            settled: whether it would fail again, as one whose loss is not finite: it is then over, and for the sampler
                one that was stopped at its last epoch, so that it draws elsewhere.
        """
        self._storage.set_trial_user_attr(self._identity(number), "reason", reason)
        if settled:
            self.prune(number)

    def begin_again(self, number: int) -> None:
        """Takes up a trial that was stopped, or whose failure may pass."""
        if self.one(number).reason is not None:
            self._storage.set_trial_user_attr(self._identity(number), "reason", None)

    def _found(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _identity(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _told(self, trial: FrozenTrial) -> Trial:
        states: dict[Any, State] = {self._states.COMPLETE: "completed", self._states.PRUNED: "pruned"}
        reason = trial.user_attrs.get("reason")
        reported = trial.intermediate_values
        value = trial.value if trial.value is not None else reported[max(reported)] if reported else None
        settings = {
            key: values.named(trial.params[key]) if isinstance(values, Span) else trial.params[key]
            for key, values in self.settings.items()
            if key in trial.params
        }
        state = "failed" if reason else states.get(trial.state, "started")
        return Trial(trial.number, settings, state, value, len(reported), reason, trial.state.is_finished())


def step_of(seed: int, epoch: int) -> int:
    """Where an epoch of the n-th seed stands among the steps of a trial."""
    assert 0 < epoch < EPOCHS
    return seed * EPOCHS + epoch


def _distribution(values: Span | list[Any]) -> BaseDistribution:
    from optuna.distributions import (  # pyright: ignore[reportMissingImports]
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(values, Span):
        return CategoricalDistribution(tuple(values))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
