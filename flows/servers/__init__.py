"""Which Prefect server there is, and those that Orca starts."""
