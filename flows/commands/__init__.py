"""The commands of `orca`: options, checks and what is printed; the work is done elsewhere."""
