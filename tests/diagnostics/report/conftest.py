"""A gain file with its analyses, and one Chromium for every test that needs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fixed_context.commands import budget, gain, measures, q3, replay, support, topn
from fixed_context.report.page import write_page

from .report_files import MASKS, metrics_frame, write_metrics, write_runs


@pytest.fixture(scope="session")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """root/after/a/fixed_context_metrics.parquet, and the output of every analysis command in root/NAME for NAMES."""
    root = tmp_path_factory.mktemp("analysed")
    metrics = write_metrics(root / "after/a/fixed_context_metrics.parquet", metrics_frame())
    few = ["--bootstrap", "30"]
    calls = (
        (gain.main, ["--input", metrics, *few, "--output-dir", root / "gain"]),
        (topn.main, ["--input-root", root / "after", "--ratios", "0.1,0.2", *few, "--out-dir", root / "topn"]),
        (support.main, ["--dataset", f"a={metrics}", "--n-boot", "30", "--output-dir", root / "support"]),
        (measures.main, ["--input", f"after={metrics}", *few, "--output-dir", root / "measures"]),
        (replay.main, ["--input", metrics, "--methods", MASKS, "--output-dir", root / "replay"]),
        (q3.main_within, ["--input", f"16:{metrics}", *few, "--output-dir", root / "within"]),
        (q3.main_reachability, ["--input", metrics, *few, "--output-dir", root / "reach"]),
        (budget.main, ["--input", write_runs(root / "runs.csv"), "--output-dir", root / "budget"]),
    )
    for main, arguments in calls:
        assert main([str(word) for word in arguments]) == 0
    return root


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
def page(browser, tmp_path: Path):
    """Open a page, or a file, at a given width and without a network; fail on any error that the browser logged."""

    def open_page(made, width: int = 1280, height: int = 900, fragment: str = ""):
        path = made if isinstance(made, Path) else write_page(made, tmp_path / "report.html")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(path.as_uri() + fragment)
        return browser

    yield open_page
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe
