"""Tasks by name. Each module of this folder that has ``SPECS`` adds its tasks: a new task is one new file."""

from __future__ import annotations

import importlib
import pkgutil

from orca.registry import Registry
from orca.tasks.checks import check_splits
from orca.tasks.own import OwnData, own_task
from orca.tasks.spec import TaskSpec

__all__ = ["TASKS", "OwnData", "TaskSpec", "check_splits", "resolve_task"]

TASKS: Registry[TaskSpec] = Registry("task")
for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    for _spec in getattr(importlib.import_module(f"{__name__}.{_module}"), "SPECS", ()):
        TASKS.add(_spec)


def resolve_task(task: str | OwnData, *, online: bool = False) -> TaskSpec:
    """The task of that name, or the task that a description of your own data makes.

    Args:
        task: the name or the description.
        online: whether the hub may be asked for your own data.

    Raises:
        InputError: there is no such task, or the file of your own data is not there or not usable.
    """
    return TASKS.get(task) if isinstance(task, str) else own_task(task, online=online)
