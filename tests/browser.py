"""A real browser for the tests of pages: Debian's chromium with its driver, without a window."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = (
    "selenium is not installed"
    if importlib.util.find_spec("selenium") is None
    else "chromium or chromedriver is not installed"
    if CHROMIUM is None or DRIVER is None
    else ""
)


@contextlib.contextmanager
def browser() -> Iterator["Browser"]:
    """A browser inside a `with`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """What the tests do with a page."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, script: bool = True):
        """Open a file at a size, in the light or the dark, with or without scripts."""
        do = self.driver.execute_cdp_cmd
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        do("Emulation.setDeviceMetricsOverride", size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        do("Emulation.setEmulatedMedia", {"features": [theme]})
        do("Emulation.setScriptExecutionDisabled", {"value": not script})
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(path.as_uri())

    def run(self, code: str, *arguments):
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(code, *arguments)

    def pixels(self):
        """What the window shows, (height, width, 4) from 0 to 1."""
        import io

        from matplotlib.image import imread

        return imread(io.BytesIO(self.driver.get_screenshot_as_png()), format="png")

    def complaints(self) -> list[str]:
        """What the console said since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        import json

        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]
