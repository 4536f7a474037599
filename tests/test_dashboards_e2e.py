"""Every page in a real browser: drawn, without a complaint, light and dark, on a desk and on a phone; and live.

Screenshots are left in the folder that PALATE_SHOTS names, for a person to look at.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_browser import chromium, faults, photograph, serving, visit
from dashboard_records import judged

from dashboards.views import PAGES
from palate.records import Judgement
from palate.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
if not shutil.which("chromium") or not shutil.which("chromedriver"):
    pytest.skip("there is no Chromium (Debian: apt-get install chromium chromium-driver)", allow_module_level=True)
pytest.importorskip("selenium")

URLS = {title: "/" if title == "Overview" else f"/{title.lower()}" for title in PAGES}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = str(tmp_path_factory.mktemp("record") / "palate.db")
    judged(url, simulated=True)
    return url


@pytest.fixture(scope="module")
def base(store: str) -> Iterator[str]:
    with serving(store) as url:
        yield url


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_every_page_is_drawn_without_a_complaint_and_fits_its_screen(
    base: str, tmp_path: Path, width: int, dark: bool
) -> None:
    shots = Path(os.environ.get("PALATE_SHOTS", tmp_path))
    with chromium(width, dark) as browser:
        for title, url in URLS.items():
            visit(browser, base + url)
            photograph(browser, shots / f"{title}-{width}-{'dark' if dark else 'light'}.png")
            assert not faults(browser), title
            assert browser.find_element("css selector", "h1").text == title
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, f"{title} is {wide} pixels wide"
            background = browser.execute_script(
                "return getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
            )
            assert (sum(map(int, background.strip("rgb()").split(",")[:3])) < 3 * 128) == dark


def test_a_filter_is_in_the_url_and_a_new_vote_on_the_page_without_a_reload(base: str, store: str) -> None:
    with chromium() as browser:
        visit(browser, f"{base}/gsb?candidate=third")
        said = browser.find_element("css selector", "[data-testid=stMain]").text
        assert "May we ship third in place of old?" in said
        browser.execute_script("window.untouched = true")
        with Store(store) as record:
            before = record.count(Judgement)
            one = next(iter(record.select(Judgement)))
            record.add([one.model_copy(update={"source": "while the page is open"})])
        began = time.monotonic()
        while f"{before + 1:,} judgements" not in browser.find_element("css selector", "body").text:
            assert time.monotonic() - began < 60
            time.sleep(0.2)
        assert browser.execute_script("return window.untouched")
        assert "candidate=third" in browser.current_url
