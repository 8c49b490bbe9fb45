"""Runs by the clock or by a change of data: deployments, and the process that runs them."""
