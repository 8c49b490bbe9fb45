"""Which Prefect server a command speaks to: that of the environment, else that of ``orca ui``, else of a profile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from flows.servers.ui import client_settings


def prepare_environment() -> None:
    """Local and private unless the environment says otherwise; names the server of ``orca ui`` if that runs.

    Must come before Prefect is imported.
    """
    private = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    shown = {"PREFECT_RESULTS_DEFAULT_SERIALIZER": "json", "PREFECT_LOGGING_EXTRA_LOGGERS": "orca"}
    shown["PREFECT_LOGGING_INTERNAL_LEVEL"] = "CRITICAL"  # else each event that a lost server misses, in full
    for name, value in {**private, **shown, **client_settings(os.environ)}.items():
        os.environ.setdefault(name, value)


def server_address() -> str:
    """The address of the API of the server that commands use which need one; it may not answer.

    Raises:
        InputError: there is none.
    """
    prepare_environment()
    from prefect.settings import get_current_settings

    api = os.environ.get("PREFECT_API_URL") or get_current_settings().api.url
    if not api:
        from orca.types import InputError

        raise InputError(
            "schedules are kept by a Prefect server, and none runs here; start one in another terminal with `orca ui`, "
            "or name one with PREFECT_API_URL"
        )
    return api


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """A client of that server, which answers. Within the block all of Prefect speaks to it.

    Raises:
        InputError: there is none, or it does not answer.
    """
    api = server_address()
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        if (fault := client.api_healthcheck()) is not None:
            from orca.types import InputError

            raise InputError(
                f"the Prefect server at {api} does not answer ({fault}); start it, or unset PREFECT_API_URL and start "
                "one in another terminal with `orca ui`"
            )
        yield client
