"""Made-up data, and one Chromium for every test that needs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from local_engine.report import build_report

from .synthetic import make_data, make_hostile


@pytest.fixture(scope="session")
def data() -> dict:
    """Report data of the usual size."""
    return make_data()


@pytest.fixture(scope="session")
def hostile() -> dict:
    """Small report data with awkward token texts and missing values."""
    return make_hostile()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """A headless Chromium that keeps its browser log."""
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        pytest.skip("chromium and chromedriver are not both on PATH")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, request: pytest.FixtureRequest, tmp_path: Path):
    """Open a report at a given width and fail on any error that the browser logged."""

    def open_page(made: dict, width: int = 1280, height: int = 900, fragment: str = ""):
        path = tmp_path / "report.html"
        build_report(made, path)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(path.as_uri() + fragment)
        return browser

    yield open_page
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe
