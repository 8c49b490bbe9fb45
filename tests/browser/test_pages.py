"""Prefect's pages as a user meets them, in a real browser at two widths: what they show, and whom they ask."""

from __future__ import annotations

import time

import pytest

from orca.bodies import BODIES
from orca.methods import METHODS
from tests.browser.conftest import Site
from tests.browser.pages import CHROMIUM, DRIVER, Pages
from tests.browser.served import NAME, SCHEDULED

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver: apt-get install chromium chromium-driver"
    ),
]

AGAIN = 20  # seconds after which a user submits a form again that is still there
GREEN = 500  # least number of green pixels of a graph whose tasks have completed


def is_green(colour: tuple[int, ...]) -> bool:
    red, green, blue = colour
    return green > 120 and green > 2 * red and green > 1.5 * blue


def test_the_list_of_runs_shows_each_with_its_state(site: Site, pages: Pages) -> None:
    pages.open("/runs", "tiny-tiny-body-full-s0", "Completed", "tiny-no-such-body-full-s0", "Failed")
    assert pages.overflow() <= 0
    pages.keep("runs")


def test_a_run_shows_its_graph_and_its_log(site: Site, pages: Pages) -> None:
    pages.open(f"/runs/flow-run/{site.completed}", "tiny-tiny-body-full-s0", "Completed", "finetune")
    pages.until(
        lambda: sum(n for colour, n in pages.colours("canvas").items() if is_green(colour)) > GREEN,
        "expected a graph with green tasks",
    )
    assert pages.overflow() <= 0
    pages.keep("run")


def test_a_failed_run_says_what_was_wrong_and_what_there_is(site: Site, pages: Pages) -> None:
    pages.open(f"/runs/flow-run/{site.failed}", "Failed", "InputError", "body: there is no '", *BODIES.names())
    assert pages.overflow() <= 0
    pages.keep("failed")


def test_an_artifact_is_found_and_its_picture_is_drawn(site: Site, pages: Pages) -> None:
    pages.open("/artifacts", "learning-curve")
    pages.keep("artifacts")
    pages.open(f"/artifacts/artifact/{site.artifact}", "Error 0.03", "this run", "0.12")
    image = pages.find("img")
    pages.until(lambda: image.get_property("complete"), "expected the picture to be loaded")
    assert image.get_property("naturalWidth") == 280
    assert len(pages.colours("img")) > 10
    assert pages.overflow() <= 0
    pages.keep("artifact")


def test_a_deployment_shows_its_schedule(site: Site, pages: Pages) -> None:
    pages.open(f"/deployments/deployment/{site.deployment}", NAME, "adapt", SCHEDULED, "Ready")
    assert pages.overflow() <= 0
    pages.keep("deployment")


def test_a_custom_run_is_filled_in_and_completes(site: Site, pages: Pages) -> None:
    method, epochs = ("head", 2) if pages.width > 1000 else ("layernorm", 1)
    before = site.runs()
    pages.open(f"/deployments/deployment/{site.deployment}/run", "Run Name", "Submit")
    assert pages.choose(method, "Finetune", "Method") == METHODS.names()
    pages.fill(str(epochs), "Finetune", "Epochs")
    pages.keep("form")

    body = ("Body", "Name")  # a list, and text for a folder
    pages.press("List", pages.field(*body))
    assert pages.choose("gpt2", *body) == BODIES.names()
    pages.until(lambda: pages.value(*body) == "gpt2", "expected the chosen name beside the list")
    pages.fill(site.config["body"]["name"], *body)

    pressed = -AGAIN

    def submitted() -> set[str]:
        """The new run. On a busy machine SQLite may refuse a write; then the form stays, and a user submits again."""
        nonlocal pressed
        new = site.runs() - before
        if not new and pages.driver.current_url.endswith("/run") and time.monotonic() - pressed > AGAIN:
            pages.press("Submit")
            pressed = time.monotonic()
        return new

    made = pages.until(submitted, "expected a new run").pop()
    run = site.ended(made)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    changed = {**site.config["finetune"], "method": method, "epochs": epochs}
    assert run["parameters"]["config"] == {**site.config, "finetune": changed}
    pages.open(f"/runs/flow-run/{made}", f"tiny-tiny-body-{method}-s0", "Completed")
    pages.keep("custom-run")


def test_no_page_has_asked_an_outside_address(site: Site, pages: Pages) -> None:
    if "/artifacts" not in pages.opened:
        pytest.skip("looks back over what the other tests have opened")
    asked = pages.requested()
    assert any(url.startswith(f"{site.origin}/api/flow_runs/") for url in asked)
    assert [url for url in asked if not url.startswith(f"{site.origin}/")] == []
