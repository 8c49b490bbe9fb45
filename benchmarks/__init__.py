"""Measurements of Orca: each command prints a table, or JSON with ``--json``, and says what it was measured on."""

from orca.runtime import sleeping_threads

sleeping_threads()
