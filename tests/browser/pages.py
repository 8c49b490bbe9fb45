"""A headless Chromium that is shown Prefect's pages, and what a test may ask of what it shows."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.patience import PATIENCE

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # what is asked outside is asked in vain, and logged
)  # fmt: skip
HEIGHT = 900
INSIDE = {"blob", "chrome", "data"}  # schemes of addresses that do not leave the browser


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a profile in this folder, ended with the block."""
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER, log_output=str(folder / "chromedriver.log")))
    try:
        yield driver
    finally:
        driver.quit()


@dataclass
class Pages:
    """The pages of one server, in a window of one width."""

    driver: webdriver.Chrome
    origin: str
    width: int
    opened: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        size = {"width": self.width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # a window has a least width
        self.requested()  # what came before is not of these pages

    def open(self, path: str, *texts: str) -> None:
        """Goes to a page, and waits until it shows these texts."""
        self.driver.get(self.origin + path)
        self.opened.add(path)
        self.see(*texts)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Waits until a condition holds, and gives its value; elements may come and go meanwhile."""
        passing = (NoSuchElementException, StaleElementReferenceException, ElementClickInterceptedException)
        try:
            wait = WebDriverWait(self.driver, PATIENCE, 0.2, ignored_exceptions=passing)
            return wait.until(lambda driver: condition())
        except TimeoutException as fault:
            raise AssertionError(f"{what}, at {self.driver.current_url}; it shows:\n{self.text()}") from fault

    def text(self) -> str:
        """All text that is shown."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def see(self, *texts: str) -> None:
        """Waits until all these texts are shown."""
        self.until(lambda: all(text in self.text() for text in texts), f"expected to see {texts}")

    def find(self, selector: str) -> WebElement:
        """The first element of a CSS selector, when it is there and shown."""

        def shown() -> WebElement | None:
            return next((e for e in self.driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()), None)

        return self.until(shown, f"expected an element {selector}")

    def field(self, *labels: str) -> WebElement:
        """A field of a form, by the labels of the boxes that it is in and its own."""
        box = (
            "//div[contains(concat(' ', @class, ' '), ' schema-form-property ') and ./div[1]"
            "//span[contains(@class, 'schema-form-property__label') and "
            "(normalize-space() = '{0}' or normalize-space() = '{0} (Optional)')]]"
        )
        path = "".join(box.format(label) for label in labels)
        return self.until(lambda: self.driver.find_element(By.XPATH, path), f"expected a field {labels}")

    def choose(self, name: str, *labels: str) -> list[str]:
        """Chooses from the list of a field, and gives the names in it."""

        def listed() -> Select:
            return Select(self.field(*labels).find_element(By.TAG_NAME, "select"))

        self.until(lambda: [o for o in listed().options if o.text == name], f"expected {name} in the list of {labels}")
        names = [option.text for option in listed().options]
        listed().select_by_visible_text(name)
        return names

    def fill(self, value: str, *labels: str) -> None:
        """Writes into a field in place of what is there."""
        place = self.field(*labels).find_element(By.CSS_SELECTOR, "input, textarea")
        place.send_keys(Keys.CONTROL, "a")
        place.send_keys(value, Keys.TAB)  # leaving the field may move what is below it
        self.until(lambda: self.value(*labels) == value, f"expected {value} in {labels}")

    def value(self, *labels: str) -> str | None:
        """What stands in a field."""
        return self.field(*labels).find_element(By.CSS_SELECTOR, "input, textarea").get_attribute("value")

    def press(self, name: str, within: WebElement | None = None) -> None:
        """Clicks a button by its text, when nothing covers it; messages of the page are closed before."""
        path = f".//button[normalize-space() = '{name}']"

        def clicked() -> bool:
            for button in self.driver.find_elements(By.XPATH, "//button[normalize-space() = 'Close']"):
                self.driver.execute_script("arguments[0].click()", button)
            button = (within or self.driver).find_element(By.XPATH, path)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
            return True

        self.until(clicked, f"expected a button {name}")

    def colours(self, selector: str) -> dict[tuple[int, ...], int]:
        """The colours of an element as it is drawn, each with its number of pixels."""
        image = Image.open(io.BytesIO(self.find(selector).screenshot_as_png)).convert("RGB")
        return {colour: count for count, colour in image.getcolors(image.width * image.height) or []}

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")

    def keep(self, name: str) -> None:
        """Leaves a picture of what is shown in the folder ``ORCA_SCREENSHOTS``, if the environment names one."""
        if folder := os.environ.get("ORCA_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}-{self.width}.png"))

    def requested(self) -> list[str]:
        """All addresses that the pages have asked since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        sockets = [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]
        return [url for url in asked + sockets if urlsplit(url).scheme not in INSIDE]
