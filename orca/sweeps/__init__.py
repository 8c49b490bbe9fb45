"""Grids of runs: reading them, the runs they stand for, and the work that those share."""
