"""Prefect flows around the core, and the command line."""
