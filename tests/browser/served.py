"""Serves a deployment of the flow until it is stopped: ``python -m tests.browser.served PARAMETERS``, in JSON."""

from __future__ import annotations

import json
import sys

from prefect import serve

from flows.adapt import adapt_flow

NAME, CRON, SCHEDULED = "tiny", "0 3 * * *", "At 03:00 AM"

if __name__ == "__main__":
    serve(
        adapt_flow.to_deployment(
            NAME,
            cron=CRON,
            parameters=json.loads(sys.argv[1]),
            description="Signals of two classes and a body of two blocks: a run takes seconds.",
        ),
        limit=2,
        print_starting_message=False,
    )
