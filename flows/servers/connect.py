"""Which Prefect server a command speaks to: that of the environment, else that of ``orca ui``, else of a profile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from flows.servers.ui import client_settings
from orca.errors import InputError

if TYPE_CHECKING:
    from flows.servers.temporary import TemporaryServer

RETRIES = 3  # of a request to a server that is away: 14 seconds, in which one that is started anew is back
# Whether the server outlives this run: else nobody will look at its pages, and nobody shares its slots.
recorded: ContextVar[bool] = ContextVar("recorded", default=True)


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
        _check_answers(client, api, "and start one in another terminal with `orca ui`")
        yield client


def _check_answers(client: Any, api: str, otherwise: str) -> None:
    if (fault := client.api_healthcheck()) is not None:
        raise InputError(
            f"the Prefect server at {api} does not answer ({fault}); start it, or unset PREFECT_API_URL (`prefect "
            f"config unset PREFECT_API_URL` if a profile sets it) {otherwise}"
        )


@contextlib.contextmanager
def recording(temporary: TemporaryServer | None) -> Iterator[None]:
    """Within the block flows are recorded by the server that the user has configured, else by a temporary one.

    Raises:
        InputError: the configured one does not answer.
    """
    from prefect.settings import temporary_settings

    with temporary_settings(_flow_settings(temporary)):
        token = recorded.set(temporary is None)
        try:
            yield
        finally:
            recorded.reset(token)


def _flow_settings(temporary: TemporaryServer | None) -> dict[Any, Any]:
    from prefect.client.orchestration import get_client
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        get_current_settings,
    )

    if configured := get_current_settings().api.url:
        with get_client(sync_client=True) as client:
            _check_answers(client, configured, "to run without one")
        return {PREFECT_CLIENT_MAX_RETRIES: min(RETRIES, PREFECT_CLIENT_MAX_RETRIES.value())}
    # A server that ends with the command has no use for a heartbeat, for which the end of a flow waits up to a second,
    # nor for logs, which may still be on their way when it stops.
    settings: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    return settings if temporary is None else {**settings, PREFECT_API_URL: temporary.wait()}
