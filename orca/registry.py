"""One registry for everything that is chosen by name: bodies, sources, tasks, methods, discrepancies, metrics."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from orca.errors import InputError


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


@dataclass(frozen=True)
class Choices:
    """Annotates a text in a configuration: lists what there is in the JSON schema, and so in forms made from it.

    Validation stays with those who look the name up, whose message has the near names.

    Attributes:
        names: gives the names whenever a schema is made, so that what is registered later is among them.
        other: what else the text may be, in words for a form; None where it must be one of the names.
    """

    names: Callable[[], Iterable[str]]
    other: str | None = None

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """The schema of the annotated type with its text branch as an enumeration."""
        schema = handler(core)
        if "anyOf" not in schema and self.other is None:
            return {**schema, "enum": list(self.names())}
        return {"anyOf": [made for branch in schema.get("anyOf", [schema]) for made in self._listed(branch)]}

    def _listed(self, branch: dict[str, Any]) -> list[dict[str, Any]]:
        """One branch of a union; a text becomes a list, and what else it may be stays beside it."""
        listed = {"title": "List", "enum": list(self.names())}
        if branch.get("type") != "string":
            return [branch]
        if self.other is None:
            return [{**branch, **listed}]
        # A list without a type: Prefect's form moves to the first branch of a value's type, here that of free text.
        return [listed, {**branch, "title": self.other}]
