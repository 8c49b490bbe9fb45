"""What ends a command with a message instead of a traceback. Imports nothing, so that a fault is told at once."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input of the user: says what was expected, what came and how to mend it. The command line exits with 2."""


class TrainingError(RuntimeError):
    """Training cannot go on: says at which step and what to change. The command line exits with 1."""
