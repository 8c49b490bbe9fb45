"""The options that several commands take, and what these commands do first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.servers.connect import prepare_environment

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="The name of a configuration that comes with Orca, or a YAML file.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, or the beginning of it; see orca runs.")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Such as finetune.lr=1e-4; repeatable.")
]
SeedOption = Annotated[int | None, typer.Option(metavar="N", help="Replaces the configuration's seed.")]
MethodsOption = Annotated[str | None, typer.Option("--methods", metavar="A,B", help="From orca methods.")]
AlignsOption = Annotated[str | None, typer.Option("--aligns", metavar="A,B", help="Such as otdd,none.")]
SeedsOption = Annotated[str | None, typer.Option("--seeds", metavar="N,N", help="Or a range, 0..4.")]
RunnerOption = Annotated[str, typer.Option("--runner", metavar="NAME", help="local, dask or ray.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=1,
        help="Jobs, or trials of a search, at once. [as many as cores, or as the cluster takes]",
    ),
]  # fmt: skip
AddressOption = Annotated[
    str | None, typer.Option("--address", metavar="URL", help="Of a running Dask or Ray cluster.")
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", metavar="FOLDER", help="Where stages and runs are [ORCA_STORE, or ./runs].")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OnlineOption = Annotated[bool, typer.Option("--online", help="Allow the hub for weights that are not here.")]


def open_store(path: Path | None) -> Any:
    """The store of a command."""
    from orca.store import Store, default_root

    return Store(path or default_root())


def prepare_prefect() -> Any:
    """Settings of Prefect in the environment, and the temporary server, where they name none.

    Must come before Prefect is imported.
    """
    from flows.servers.temporary import TemporaryServer

    prepare_environment()
    return None if os.environ.get("PREFECT_API_URL") else TemporaryServer()
