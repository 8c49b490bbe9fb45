"""What runs share: the stage executions that a set of runs leads to, each once, and which of them are done already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orca.config import RunConfig
from orca.errors import InputError
from orca.keys import documents, run_name
from orca.plan import STAGES, plan
from orca.runs import is_finished
from orca.store import Store
from orca.sweeps.cells import Cell

# What each stage takes from those before it, and what must be there beside. Source features are for aligned runs alone.
TAKES = {"embed": (), "align": ("embed",), "finetune": ("embed", "align"), "evaluate": ("align", "finetune")}
BESIDE = {"align": "source", "evaluate": "baselines"}
TESTING = ("baselines", "evaluate")  # the stages that open the test set


@dataclass(frozen=True)
class Job:
    """One stage execution.

    Attributes:
        stage: the stage's name.
        key: its key in the store.
        config: of the first run that needs it; the others lead to the same key.
        needs: names of the jobs whose results it reads.
        label: what it is called where people read it; those that share it may have other methods.
    """

    stage: str
    key: str
    config: RunConfig
    needs: tuple[str, ...]
    label: str

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.stage}-{self.key}"


@dataclass(frozen=True)
class Member:
    """One run among those that share stages.

    Attributes:
        cell: its place and configuration.
        run: its name in the store; empty if it cannot start.
        jobs: names of its stage executions, in their order.
        finished: whether it lies finished in the store.
        tested: whether its test set is opened.
        fault: why it cannot start.
    """

    cell: Cell
    run: str = ""
    jobs: tuple[str, ...] = ()
    finished: bool = False
    tested: bool = True
    fault: str | None = None

    @property
    def report(self) -> str:
        """The name of the work of gathering its folder."""
        return f"report-{self.run}"


@dataclass(frozen=True)
class Sharing:
    """The runs, and what there is to do for them.

    Attributes:
        members: the runs, each once.
        jobs: all stage executions by name, those before that others need.
        there: names of the jobs that the store has already.
        twice: how many cells of the grid were left out since they are runs that others are, too.
    """

    members: tuple[Member, ...]
    jobs: dict[str, Job]
    there: frozenset[str]
    twice: int

    def graph(self) -> dict[str, set[str]]:
        """What is to do, each with what must be done before it: jobs by name, then the reports of the runs."""
        todo = {name: set(job.needs) - self.there for name, job in self.jobs.items() if name not in self.there}
        reports = {
            member.report: set(member.jobs) - self.there
            for member in self.members
            if member.fault is None and not member.finished
        }
        return {**todo, **reports}

    def summary(self) -> str:
        """What is to be done, in one line."""
        able = [member for member in self.members if member.fault is None]
        runs = f"{len(self.members)} run{'s' if len(self.members) > 1 else ''}"
        parts = [
            f"{runs}, {sum(len(member.jobs) for member in able)} stages: {len(self.jobs)} after sharing",
            f"{len(self.there)} in the store already",
            f"{len(self.jobs) - len(self.there)} to do",
        ]
        lost = len(self.members) - len(able)
        parts += [f"{lost} run{'s' if lost > 1 else ''} cannot start"] if lost else []
        parts += [f"{self.twice} left out as the same run as another"] if self.twice else []
        return ", ".join(parts)


def share(cells: Sequence[Cell], store: Store, *, online: bool = False, tested: bool = True) -> Sharing:
    """Plans all runs and finds what they share. Nothing is built.

    A run that cannot start, since its data is missing for example, is a member with a fault. Those that are not to be
    tested end with training.

    Raises:
        InputError: no run can start.
    """
    members: list[Member] = []
    jobs: dict[str, Job] = {}
    there: set[str] = set()
    runs: set[str] = set()
    for cell in cells:
        try:
            made = plan(cell.config, online=online)
            found, run = documents(made), run_name(made)
        except InputError as fault:
            members.append(Member(cell, fault=str(fault)))
            continue
        if run in runs:  # a method that is not aligned is one run for every alignment
            continue
        runs.add(run)
        names: dict[str, str] = {}
        for stage in ("source", "baselines", *STAGES):
            if stage not in found or (stage in TESTING and not tested):
                continue
            before = (*TAKES.get(stage, ()), BESIDE.get(stage))
            needs = tuple(names[stage] for stage in before if stage in names)
            job = Job(stage, store.key(stage, found[stage]), cell.config, needs, f"{stage}-{label(cell)}")
            names[stage] = job.name
            if job.name not in jobs and store.find(stage, found[stage]):
                there.add(job.name)
            jobs.setdefault(job.name, job)
        finished = there.issuperset(names.values()) and is_finished(store, run, tested=tested)
        members.append(Member(cell, run, tuple(names.values()), finished, tested))
    if not runs:
        reasons = dict.fromkeys(member.fault for member in members)
        raise InputError("no run can start:\n" + "\n".join(f"  - {reason}" for reason in reasons))
    return Sharing(tuple(members), jobs, frozenset(there), len(cells) - len(members))


def label(cell: Cell) -> str:
    """Task, method and seed, as in the name of a run."""
    return f"{cell.place['task']}-{cell.config.finetune.method}-s{cell.config.seed}"
