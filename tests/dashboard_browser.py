"""The dashboards' own server, and a headless Chromium that looks at it. As a program: the README's screenshots.

python tests/dashboard_browser.py demo/palate.db docs
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
READY = """
const app = document.querySelector('[data-testid=stApp]');
return !!app && app.getAttribute('data-test-script-state') === 'notRunning' && !!document.querySelector('h1')
  && !document.querySelector('[data-testid=stSkeleton]')
"""
# Streamlit asks the page's own address for these first, and is told where they are by the 404.
EXPECTED = ("_stcore/health", "_stcore/host-config")


@contextmanager
def serving(store: str, *more: str) -> Iterator[str]:
    """The base URL of `palate dash` on a store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from dashboards.cli import dash; dash()",
        "--store",
        store,
        "--port",
        str(port),
        *more,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            assert server.poll() is None, "the server ended"
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/_stcore/health").is_success:
                    break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def chromium(width: int = 1280, dark: bool = False) -> Iterator[Any]:
    """A browser, `width` pixels wide; below 500 it is a phone."""
    from selenium import webdriver

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        raise FileNotFoundError("there is no Chromium (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1600"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_page_load_timeout(240)
    phone = width < 500
    size = {"width": width, "height": 1600, "deviceScaleFactor": 1, "mobile": phone}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        yield opened
    finally:
        opened.quit()


def visit(browser: Any, url: str, seconds: float = 180) -> float:
    """Opens a page and waits until it is drawn; returns the seconds it took."""
    began = time.monotonic()
    browser.get(url)
    return until_drawn(browser, began, seconds)


def until_drawn(browser: Any, began: float, seconds: float = 180) -> float:
    while not browser.execute_script(READY):
        if time.monotonic() - began > seconds:
            raise AssertionError(f"{browser.current_url} is not drawn after {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - began


def faults(browser: Any) -> list[str]:
    """What the console and the page itself complain of."""
    boxes = browser.find_elements("css selector", "[data-testid=stException], [data-testid=stAlertContentError]")
    errors = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    return [box.text for box in boxes] + [line for line in errors if not any(known in line for known in EXPECTED)]


def photograph(browser: Any, file: Path, settle: float = 2.0, highest: int = 4000) -> None:
    """The whole page, as far as `highest` pixels."""
    width = browser.execute_script("return window.innerWidth")
    height = browser.execute_script("return document.querySelector('[data-testid=stMain]').scrollHeight")
    size = {"width": width, "height": min(height, highest), "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    time.sleep(settle)  # charts are drawn anew at their new place
    file.write_bytes(browser.get_screenshot_as_png())
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": 1600})


def main(store: str, folder: Path) -> None:
    with serving(store) as base, chromium(1100) as browser:
        for page in ("gsb", "samples"):
            visit(browser, f"{base}/{page}?candidate=aligned&baseline=base")
            photograph(browser, folder / f"dashboard-{page}.png", settle=4.0, highest=1500)
            print(folder / f"dashboard-{page}.png", (folder / f"dashboard-{page}.png").stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
