"""A real browser for the tests: headless Chromium, used as a person would, and what it says went wrong."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

SECONDS = 20.0
"""Whatever the page does is seen sooner, however busy the machine."""
DESKTOP = (1280, 900)
PHONE = (390, 844)
PROGRAMS = ("chromium", "chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
T = TypeVar("T")
_WATCH = """
globalThis.violations = [];
document.addEventListener('securitypolicyviolation', (event) =>
  violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""


class Site(NamedTuple):
    """The page of one node: where it is, an administrator's token, and the API beside it, with that token."""

    url: str
    token: str
    api: httpx.Client


def missing() -> list[str]:
    """The programs that these tests need and this machine lacks."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def browser(home: Path) -> Iterator[Browser]:
    """A browser with a profile of its own in `home`; what it downloads goes to `home/downloads`."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(flag)
    options.accept_insecure_certs = True  # the cluster has its own authority
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(home / "downloads")})
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield Browser(driver, home / "downloads")
    finally:
        driver.quit()


class Browser:
    """What a person sees and does. Whatever is looked for is waited for."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads
        self.command("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        self.resize(DESKTOP)

    def command(self, name: str, **arguments: Any) -> Any:
        """One of the browser's own commands (DevTools protocol)."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def resize(self, size: tuple[int, int]) -> None:
        width, height = size
        phone = width < 600
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    def prefer(self, **features: str) -> None:
        """What the system says a person prefers: `prefers_color_scheme="dark"`."""
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=told)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def run_async(self, body: str, *arguments: Any) -> Any:
        """What the body of an async function returns."""
        wrapped = f"(async (...given) => {{ {body} }})(...arguments).then(arguments[arguments.length - 1])"
        self.driver.set_script_timeout(SECONDS)
        return self.driver.execute_async_script(wrapped, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def see(self, selector: str, text: str = "") -> WebElement:
        """The first visible element of `selector` that holds `text`."""

        def found() -> WebElement | None:
            return next((each for each in self.all(selector) if each.is_displayed() and text in each.text), None)

        return self.until(found, f"{selector} with {text!r}")

    def gone(self, selector: str, text: str = "") -> None:
        """Wait until nothing visible of `selector` holds `text`."""
        self.until(
            lambda: not any(each.is_displayed() and text in each.text for each in self.all(selector)),
            f"the end of {selector} with {text!r}",
        )

    def button(self, name: str, within: str = "body") -> WebElement:
        """The visible button or link of that accessible name, in the topmost dialog if `within` says so."""

        def found() -> WebElement | None:
            for each in self.all(f"{within} button, {within} a"):
                if each.is_displayed() and each.accessible_name == name:
                    return each
            return None

        return self.until(found, f"the button {name!r}")

    def press(self, name: str, within: str = "body") -> None:
        """Press the button or link of that name."""

        def pressed() -> bool:
            self.button(name, within).click()
            return True

        self.until(pressed, f"a press of {name!r}")

    def answer(self, name: str, **fields: str) -> None:
        """Fill the question that is asked, its fields by their labels, and press `name`."""
        for label, value in fields.items():
            wanted = label.replace("_", " ")
            field = next(each for each in self.all("dialog.question input") if each.accessible_name == wanted)
            field.clear()
            field.send_keys(value)
        self.press(name, "dialog.question")
        self.gone("dialog.question")

    def keys(self, *keys: str) -> None:
        """Type, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """The accessible name of what has the focus."""
        return self.driver.switch_to.active_element.accessible_name

    def until(self, holds: Callable[[], T], what: str) -> T:
        """What `holds` gives once that is something."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                if found := holds():
                    return found
            except (NoSuchElementException, StaleElementReferenceException):
                pass  # drawn anew meanwhile: look again
            assert time.monotonic() < deadline, f"no {what} in: {self.driver.find_element(By.TAG_NAME, 'body').text}"
            time.sleep(0.03)

    def violations(self) -> list[str]:
        """What the page's policy had to forbid since it was loaded."""
        return list(self.run("return globalThis.violations ?? []"))

    def complaints(self) -> list[str]:
        """Errors on the console, but for answers that are no success: those are the page's to show."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "Failed to load resource" not in entry["message"]
        ]

    def drop(self, selector: str, files: dict[str, bytes]) -> None:
        """Drop files on an element, as from the desktop."""
        given = {name: base64.b64encode(content).decode() for name, content in files.items()}
        self.run(
            """
            const [selector, given] = arguments;
            const transfer = new DataTransfer();
            for (const [name, content] of Object.entries(JSON.parse(given))) {
              const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
              transfer.items.add(new File([bytes], name, { lastModified: 1700000000000 }));
            }
            const place = document.querySelector(selector);
            for (const type of ['dragenter', 'dragover', 'drop'])
              place.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
            """,
            selector,
            json.dumps(given),
        )

    def screenshot(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))
