"""The search of a sweep: its trials as tasks, each asked for when a worker is free, so that it knows those before it.

Two trials at once that need the same alignment meet in the store, where the second waits for the first.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.sweeps import jobs
from flows.sweeps.pool import Ended, Job, Pool
from flows.sweeps.runners import call, gpus
from flows.sweeps.search_table import OpenStudy, SearchTable
from orca.errors import InputError, TrainingError
from orca.sweeps.trials import Trial


@task(name="trial", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def trial_task(
    label: str,
    configs: list[dict[str, Any]],
    trial: dict[str, Any],
    store: str,
    online: bool,  # noqa: FBT001
) -> State[Any] | dict[str, Any]:
    """The runs of one trial, up to their validation."""
    found = call(jobs.do_trial, configs, trial, store, online)
    return Completed(name="Pruned", message="lagged behind the others", data=found) if found["value"] is None else found


def search(table: SearchTable, pool: Pool, common: dict[str, Any]) -> None:
    """Does the trials of all studies, one of each in turn, and gives the table the runs of the best ones.

    Args:
        table: is told of each trial that ended.
        pool: takes the trials.
        common: parameters of all tasks.
    """
    turns = deque(table.begin())

    def fill() -> None:
        while turns and pool.has_room():
            study = turns.popleft()
            if (trial := study.next()) is None:
                continue
            turns.append(study)
            if (parameters := _parameters(table, study, trial)) is not None:
                asked = gpus(study.planned.cells[0].config)
                pool.submit(Job((study, trial.number), trial_task, {**parameters, **common}, gpus=asked))
                table.begin_trial()

    fill()
    while ended := pool.next():
        _settle(ended)
        table.end_trial(*ended.name)
        fill()
    table.choose(online=common["online"])


def _parameters(table: SearchTable, study: OpenStudy, trial: Trial) -> dict[str, Any] | None:
    """What the task of a trial is given; None, and the trial has failed, if its settings do not go together."""
    try:
        made = study.planned.at(trial.settings)
    except InputError as fault:
        study.trials.fail(trial.number, str(fault), settled=True)
        table.end_trial(study, trial.number)
        return None
    facts = {
        "number": trial.number,
        "journal": str(study.planned.journal.absolute()),
        "prune": study.planned.grid.prune,
    }
    configs = [cell.config.model_dump(mode="json") for cell in made]
    return {"label": f"trial-{study.name}-{trial.number}", "configs": configs, "trial": facts}


def _settle(ended: Ended) -> None:
    """Writes down what came of a trial. Failures that may pass leave it for another time."""
    study, number = ended.name
    if ended.fault is not None:
        study.trials.fail(number, ended.reason, settled=isinstance(ended.fault, TrainingError))
    elif (value := ended.value["value"]) is None:
        study.trials.prune(number)
    else:
        study.trials.complete(number, value)
