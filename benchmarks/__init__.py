"""Measurements of Orca: each command prints a table, or JSON with ``--json``, and says what it was measured on."""
