"""A real ``orca ui``, a process that serves a deployment of the flow, what has been run there, and a browser."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from orca.config import check_config
from tests.browser.pages import Pages, chromium
from tests.browser.served import NAME
from tests.patience import PATIENCE
from tests.records import prepared_home
from tests.served import Server, started, wait_for
from tests.test_run import settings
from tests.tiny import save_tiny_body

ROOT = Path(__file__).resolve().parents[2]
ENDS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Site:
    """A server with a served deployment, a run that has completed and left an artifact, and one that has failed."""

    server: Server
    deployment: str
    config: dict[str, Any]
    completed: str = ""
    failed: str = ""
    artifact: str = ""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def start(self, **changes: Any) -> str:
        """Starts a run of the deployment, and gives its id."""
        asked = {"parameters": {"config": {**self.config, **changes}}, "state": {"type": "SCHEDULED"}}
        status, run = self.server.ask(f"/api/deployments/{self.deployment}/create_flow_run", asked)
        assert status == 201
        return run["id"]

    def ended(self, run: str) -> dict[str, Any]:
        """A flow run when it has ended and its server has heard all of it."""

        def final() -> dict[str, Any] | None:
            found = self.server.ask(f"/api/flow_runs/{run}")[1]
            return found if found["state"]["type"] in ENDS else None

        return wait_for(final, f"the end of flow run {run}")

    def runs(self) -> set[str]:
        """The ids of all flow runs that no schedule has made."""
        return {run["id"] for run in self.server.ask("/api/flow_runs/filter", {})[1] if not run["auto_scheduled"]}


def picture() -> str:
    """A small learning curve as the data URL of a PNG."""
    figure = Figure(figsize=(4, 2.5), layout="constrained")
    figure.add_subplot(xlabel="epoch", ylabel="loss").plot([1, 2, 3, 4], [0.7, 0.4, 0.25, 0.2])
    figure.savefig(file := io.BytesIO(), dpi=70, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@contextlib.contextmanager
def serving(server: Server, config: dict[str, Any], folder: Path) -> Iterator[str]:
    """A process that serves the deployment; gives the deployment's id, and ends the process with the block."""
    environment = {
        **server.environment, "PREFECT_API_URL": f"http://127.0.0.1:{server.port}/api",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1", "PYTHONPATH": str(ROOT), "ORCA_STORE": str(folder / "store"),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.browser.served", json.dumps({"config": config})]
    with (folder / "served.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def deployment() -> str | None:
        assert process.poll() is None, (folder / "served.log").read_text()
        status, found = server.ask(f"/api/deployments/name/adapt/{NAME}")
        return found["id"] if status == 200 else None

    try:
        yield wait_for(deployment, "the deployment")
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    config = check_config(settings(folder, save_tiny_body(folder / "tiny-body"))).model_dump(mode="json")
    with started(prepared_home(folder / "home")) as server, serving(server, config, folder) as deployment:
        site = Site(server, deployment, config)
        site.completed, site.failed = site.start(), site.start(body={"name": str(folder / "no-such-body")})
        text = f"## Error 0.03\n\n| this run | linear |\n|---|---|\n| 0.03 | 0.12 |\n\n![learning curve]({picture()})"
        artifact = {"key": "learning-curve", "type": "markdown", "data": text, "flow_run_id": site.completed}
        site.artifact = server.ask("/api/artifacts/", artifact)[1]["id"]
        assert site.ended(site.completed)["state"]["type"] == "COMPLETED", (folder / "served.log").read_text()
        assert site.ended(site.failed)["state"]["type"] == "FAILED"
        yield site


@pytest.fixture(scope="module")  # an open browser draws on, and takes a core from all other tests
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture(scope="module", params=[1280, 420])
def pages(request: pytest.FixtureRequest, site: Site, browser: Any) -> Pages:
    return Pages(browser, site.origin, request.param)
