"""Whole benchmark families: their tasks, what is published on them, and tables of both that never mix data."""

from orca.bench.families import FAMILIES, Column, Family
from orca.bench.tables import Measured, Table, measured, tables, to_csv, to_markdown

__all__ = ["FAMILIES", "Column", "Family", "Measured", "Table", "measured", "tables", "to_csv", "to_markdown"]
