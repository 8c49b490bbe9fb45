"""Cross-modal adaptation: a transformer pretrained on language becomes good at data that is not language.

The names below are imported when they are first used, so that ``import orca`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orca.bodies import BODIES, BodyConfig, load_body
    from orca.config import RunConfig, load_config
    from orca.errors import InputError
    from orca.finishing import RunResult
    from orca.methods import METHODS
    from orca.model import AdaptedModel, load
    from orca.multitask import MultiTask
    from orca.run import adapt
    from orca.tasks import TASKS, OwnData
    from orca.transport import otdd
    from orca.types import LabeledSet

__version__ = "0.1.0"
_PLACES = {
    "BODIES": "bodies", "BodyConfig": "bodies", "load_body": "bodies", "RunConfig": "config", "load_config": "config",
    "METHODS": "methods", "AdaptedModel": "model", "RunResult": "finishing", "adapt": "run", "load": "model",
    "TASKS": "tasks", "OwnData": "tasks", "otdd": "transport", "InputError": "errors", "LabeledSet": "types",
    "MultiTask": "multitask",
}  # fmt: skip
__all__ = [
    "BODIES", "METHODS", "TASKS", "AdaptedModel", "BodyConfig", "InputError", "LabeledSet", "MultiTask", "OwnData",
    "RunConfig", "RunResult", "adapt", "load", "load_body", "load_config", "otdd",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"orca.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'orca' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
