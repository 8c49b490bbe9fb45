"""One registry for everything that is chosen by name: bodies, sources, tasks, methods, discrepancies, metrics."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from orca.types import InputError


class Named(Protocol):
    """Anything with a name can be registered."""

    @property
    def name(self) -> str:
        """The name."""
        ...


Spec = TypeVar("Spec", bound=Named)


class Registry(Generic[Spec]):
    """Specs by name; adding a name twice is an error, and so is asking for one that is not there."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._specs: dict[str, Spec] = {}

    def add(self, spec: Spec) -> Spec:
        """Registers ``spec`` and returns it.

        Raises:
            ValueError: the name is taken.
        """
        if spec.name in self._specs:
            raise ValueError(f"{self.kind} '{spec.name}' is registered twice")
        self._specs[spec.name] = spec
        return spec

    def get(self, name: str) -> Spec:
        """The spec of that name.

        Raises:
            InputError: there is none; the message lists the near names, or all.
        """
        if name in self._specs:
            return self._specs[name]
        near = difflib.get_close_matches(name, self._specs, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(self._specs)}"
        raise InputError(f"there is no {self.kind} '{name}'; {hint}")

    def names(self) -> list[str]:
        """All names, in the order of registration."""
        return list(self._specs)

    def __iter__(self) -> Iterator[Spec]:
        return iter(self._specs.values())

    def __contains__(self, name: object) -> bool:
        return name in self._specs
