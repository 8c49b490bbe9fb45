"""State of a training run in one safetensors file, written whole or not at all. No pickles."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from orca.errors import InputError
from orca.runtime import atomic_write


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any] | None = None) -> None:
    """Writes tensors and JSON facts atomically."""
    data = save(
        {k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}, {"facts": json.dumps(facts or {})}
    )
    atomic_write(path, data)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what :func:`save_tensors` wrote."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(metadata.get("facts", "{}"))  # noqa: SIM118


def load_facts(path: Path) -> dict[str, Any]:
    """The facts that :func:`save_tensors` wrote beside the tensors, without reading these."""
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("facts", "{}"))


def load_into(module: nn.Module, tensors: dict[str, Tensor], origin: str, *, left_out: Collection[str] = ()) -> None:
    """Loads a state dict; everything must fit, as :func:`check_fit` says."""
    check_fit(module, tensors, origin, left_out=left_out)
    module.load_state_dict(tensors, strict=False)


def check_fit(module: nn.Module, tensors: dict[str, Tensor], origin: str, *, left_out: Collection[str] = ()) -> None:
    """Whether tensors are the whole state of a module.

    Args:
        module: the module.
        tensors: its state.
        origin: where that comes from, for the message.
        left_out: names that are not in it, and stay as they are.

    Raises:
        InputError: the tensors are another model's.
    """
    own = {name: value for name, value in module.state_dict().items() if name not in left_out}
    faults = [f"{k} is missing" for k in own if k not in tensors]
    faults += [f"{k} is not known" for k in tensors if k not in own]
    faults += [
        f"{k} is {tuple(tensors[k].shape)}, expected {tuple(v.shape)}"
        for k, v in own.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    if faults:
        raise InputError(f"{origin} holds another model: {len(faults)} tensors do not fit, first: {faults[0]}")


def load_part(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Loads a part of a state dict; the rest of the module stays as it is.

    Raises:
        InputError: the module has no such tensor.
    """
    if unknown := module.load_state_dict(tensors, strict=False).unexpected_keys:
        raise InputError(f"the tensors belong to another model: {len(unknown)} are not known, first: {unknown[0]}")


class Checkpoint:
    """The whole state of a training loop in one file: weights, optimiser, random states and what the loop counts.

    Args:
        file: where it is.
        module: whose weights.
        optimizer: whose moments; may be given later, and be another in time.
        state: a dataclass of JSON values, whose fields are written and put back.
        generators: named random generators; the global ones of CPU and CUDA are kept beside them.

    Attributes:
        left_out: names of parameters that stay as they are and need not be written.
    """

    def __init__(
        self, file: Path, module: nn.Module, optimizer: torch.optim.Optimizer | None = None, *, state: Any,
        **generators: torch.Generator,
    ) -> None:  # fmt: skip
        self.file, self.module, self.optimizer, self.state, self.generators = file, module, optimizer, state, generators
        self.left_out: set[str] = set()

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        assert self.optimizer is not None
        return self.optimizer

    def part(self) -> dict[str, Tensor]:
        """The module's state without what is left out."""
        return {name: value for name, value in self.module.state_dict().items() if name not in self.left_out}

    def facts(self) -> dict[str, Any]:
        """The fields of the state as they were written; empty where there is no checkpoint."""
        return load_facts(self.file) if self.file.is_file() else {}

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        moments = {f"{i}.{k}": v for i, p in enumerate(self._parameters) for k, v in self._optimizer.state[p].items()}
        random = {"cpu": torch.get_rng_state(), **{name: g.get_state() for name, g in self.generators.items()}}
        if torch.cuda.is_available():
            random |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
        parts = {"module": self.part(), "optimizer": moments, "random": random}
        tensors = {f"{part}/{k}": v for part, named in parts.items() for k, v in named.items()}
        save_tensors(self.file, tensors, vars(self.state))

    def restore(self) -> bool:
        """Puts everything back; False where there is no checkpoint."""
        if not self.file.is_file():
            return False
        tensors, facts = load_tensors(self.file)
        parts: dict[str, dict[str, Tensor]] = {"module": {}, "optimizer": {}, "random": {}}
        for name, value in tensors.items():
            part, key = name.split("/", 1)
            parts[part][key] = value
        load_part(self.module, parts["module"])
        parameters = self._parameters
        for name, value in parts["optimizer"].items():
            place, key = name.split(".", 1)
            parameter = parameters[int(place)]
            self._optimizer.state[parameter][key] = value.to(parameter.device)  # a fused optimiser counts there, too
        random = parts["random"]
        torch.set_rng_state(random["cpu"])
        for name, draw in self.generators.items():
            draw.set_state(random[name])
        cuda = [random[key] for key in sorted(random) if key.startswith("cuda")]
        if cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(cuda)
        for name, value in facts.items():
            setattr(self.state, name, value)
        return True
