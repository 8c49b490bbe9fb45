"""Signs of life: how often a flow gives one, and the automation that calls a run crashed which gives none.

Without it a run whose process was killed would stay "Running" for ever. Prefect is imported only where used.
"""

from __future__ import annotations

from typing import Any

HEARTBEAT = 30  # seconds between two signs of life of a flow, the least that Prefect takes
SILENCE = 3 * HEARTBEAT  # seconds without one after which a run counts as crashed
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def crash_automation(silence: int = SILENCE) -> Any:
    """The automation that calls runs crashed which have not shown a sign of life for so many seconds."""
    from datetime import timedelta

    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    beat = "prefect.flow-run.heartbeat"
    trigger = EventTrigger(
        after={beat}, expect={beat, *(f"prefect.flow-run.{end}" for end in ENDS)},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},  # pyright: ignore[reportArgumentType] - as in its docs
        for_each={"prefect.resource.id"}, posture=Posture.Proactive, threshold=1, within=timedelta(seconds=silence),
    )  # fmt: skip
    mark: Any = ChangeFlowRunState.model_validate(
        {"state": StateType.CRASHED, "message": f"no sign of life for {silence} s"}
    )
    return Automation(
        name="orca: crashed runs",
        description=f"A run without a sign of life for {silence} s has crashed.",
        trigger=trigger,
        actions=[mark],
    )


def make_crash_automation(api: str) -> None:
    """Makes the automation on the server at this address, unless it is there."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    wanted = crash_automation()
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        if not client.read_automations_by_name(wanted.name):
            wanted.create()
