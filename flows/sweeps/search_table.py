"""The table of a search by Optuna: how each trial stands, and beside them the runs of the best trial of each study."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from flows.sweeps.table import Row, SweepTable
from orca.runtime import finite
from orca.store import Store
from orca.sweeps.cells import Cell, cells
from orca.sweeps.grid import Grid
from orca.sweeps.sharing import Sharing, share
from orca.sweeps.study import Search, Study, plan_search
from orca.sweeps.trials import Trial


class OpenStudy:
    """A study at work."""

    def __init__(self, study: Study) -> None:
        """Opens its journal, where those trials that were stopped or failed for a passing reason are taken up first."""
        self.planned, self.trials = study, study.trials()
        self.name = f"{study.place['task']}-{study.place['align']}-{study.place['method']}"
        self.best: Trial | None = None  # when the study has ended
        self.chosen: list[Cell] = []  # its runs
        self._again = [trial for trial in self.trials.all() if not trial.settled]

    def next(self) -> Trial | None:
        """The next trial to do, None when all have been drawn."""
        if self._again:
            trial = self._again.pop(0)
            self.trials.begin_again(trial.number)
            return trial
        return self.trials.ask() if len(self.trials.all()) < (self.planned.grid.samples or 0) else None


class SearchTable(SweepTable):
    """The trials of a search at work, and the runs that it has chosen."""

    def __init__(self, store: Store, name: str, search: Search, **options: Any) -> None:
        """As of a sweep that has no run yet."""
        super().__init__(store, name, Sharing((), {}, frozenset(), 0), **options)
        self._facts |= {"plan": search.summary(), "axes": search.axes}
        self._search = search
        self.studies: list[OpenStudy] = []

    def begin(self) -> list[OpenStudy]:
        """Opens the journals; to be called while no other process is at work on this sweep."""
        self.studies = [OpenStudy(study) for study in self._search.able]
        return self.studies

    def begin_trial(self) -> None:
        """Takes note of a trial that was given out, as its journal tells."""
        self._write()

    def end_trial(self, study: OpenStudy, number: int) -> None:
        """Takes note of a trial that ended, as its journal tells."""
        self._watcher(self, self._trial_row(study, study.trials.one(number)))
        self._write()

    def choose(self, *, online: bool) -> None:
        """Makes the runs of the best trial of each study those of the sweep; they are evaluated as any others."""
        for study in self.studies:
            study.best = study.trials.best()
            study.chosen = study.planned.at(study.best.settings) if study.best else []
        if chosen := [cell for study in self.studies for cell in study.chosen]:
            tested = self._search.studies[0].grid.tested
            self.take(share(chosen, self.store, online=online, tested=tested))
        self._write()

    def trial_rows(self) -> list[Row]:
        """Each trial that was drawn, and each study that cannot start."""
        rows = [self._trial_row(study, trial) for study in self.studies for trial in study.trials.all()]
        for study in self._search.studies:
            if study.fault is not None:
                none = dict.fromkeys(study.grid.settings)
                rows.append({**_point(study), "trial": None, **none, "state": "failed", "reason": study.fault})
        return rows

    def progress(self, row: Row) -> tuple[int, int]:
        """How many trials have ended, and of how many; of a run as in every sweep."""
        if "trial" not in row:
            return super().progress(row)
        states = [trial.state for study in self.studies for trial in study.trials.all()]
        samples = sum(study.planned.grid.samples or 0 for study in self.studies)
        return len(states) - states.count("started"), max(samples, len(states))

    def count(self, state: str) -> int:
        """How many trials and runs are in this state."""
        return super().count(state) + sum(row["state"] == state for row in self.trial_rows())

    def outcome(self) -> str:
        """What came of the search, in one line."""
        states = [row["state"] for row in self.trial_rows()]
        told = ", ".join(f"{states.count(state)} {state}" for state in ("completed", "pruned", "failed"))
        runs = f"{super().count('completed')} of {len(self.rows)} runs of the best"
        return f"{len(states)} trials: {told}; {runs} completed"

    def document(self) -> dict[str, Any]:
        """What the file holds."""
        return {**super().document(), "trials": finite(self.trial_rows())}

    def _trial_row(self, study: OpenStudy, trial: Trial) -> Row:
        metric = study.planned.metric
        assert metric is not None
        row = {
            **_point(study.planned), "trial": trial.number, **trial.settings, "state": trial.state,
            "metric": metric.name, "higher_is_better": metric.higher_is_better, "validation": trial.value,
            "epochs": trial.epochs,
        }  # fmt: skip
        if trial.reason:
            row["reason"] = trial.reason
        if study.best is not None and study.best.number == trial.number:
            row |= self._tested(study)
        return row

    def _tested(self, study: OpenStudy) -> Row:
        """What the test set says of the best trial of a study: a mean over its seeds, when all are there."""
        pairs = zip(self.sharing.members, self.rows, strict=True)
        rows = [row for member, row in pairs if member.cell in study.chosen]
        values = [row["test"] for row in rows if row["state"] == "completed" and row["test"] is not None]
        whole = len(values) == len(study.chosen)
        return {"runs": [row["run"] for row in rows], "test": statistics.fmean(values) if whole else None}


def _point(study: Study) -> Row:
    return {**study.place, "body": Path(study.place["body"]).name}


def plan_table(grid: Grid, store: Store, name: str, *, online: bool = False, **options: Any) -> SweepTable:
    """The table of a sweep that is to be, of any kind of grid; nothing is written.

    Args:
        grid: the grid.
        store: where it is written.
        name: the sweep's.
        online: whether the hub may be asked for weights.
        options: ``kind`` and ``watcher`` of the table.

    Raises:
        InputError: lists what is wrong with the grid, or says why no run of it can start.
    """
    if grid.search == "optuna":
        return SearchTable(store, name, plan_search(grid, store, name, online=online), **options)
    return SweepTable(store, name, share(cells(grid), store, online=online, tested=grid.tested), **options)
