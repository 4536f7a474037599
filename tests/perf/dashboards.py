"""How long the pages take in a browser, on a record of a million votes, 200 systems and 50,000 samples.

python tests/perf/dashboards.py --out docs/dashboards.md
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from dashboard_browser import chromium, serving, until_drawn
from dashboard_records import vast

from dashboards.views import PAGES

# page -> a filter, what it is set to, and what the page says once it is
FILTERS = {
    "GSB": ("Decide on axis", "motion_quality", "on motion_quality"),
    "Leaderboard": ("Axis", "motion_quality", "Ratings on motion_quality"),
    "Samples": ("Order", "best first", "Cases, best first"),
    "Annotators": ("Axis", "motion_quality", "Annotators on motion_quality"),
    "Rewards": ("Axis", "motion_quality", "on motion_quality"),
    "Benchmarks": ("Slice by", "subject", "by subject"),
}
_HEAD = """# How long the dashboards take

Written by `make perf` (tests/perf/dashboards.py) in headless Chromium, on a record of 1,000,000 verdicts (250,000
judgements on four axes), 200 systems and 50,000 samples, on {machine} with {cores} cores that server and browser share
(load average {load:.1f} at the end). `palate dash` itself was ready in {ready:.1f} s: that is when the votes are read.

Seconds, the very first visit beside medians of {repeats} later ones. A filter change is one, to a value that nobody had
looked at yet. The goals are 2 s to the first paint and 1 s for a filter.

| page | first visit: paint | all drawn | later visits: paint | all drawn | a filter change |
|---|---|---|---|---|---|
"""
PAINTED = "return !!document.querySelector('h1') && !!document.querySelector('[data-testid=stSelectbox],h3,code')"


def opened(browser: Any, url: str) -> tuple[float, float]:
    """Seconds until the page shows its title and first element, and until all of it is drawn."""
    browser.get("about:blank")
    began = time.monotonic()
    browser.get(url)
    while not browser.execute_script(PAINTED):
        time.sleep(0.02)
    painted = time.monotonic() - began
    return painted, until_drawn(browser, began)


def changed(browser: Any, label: str, option: str, said: str) -> float:
    """Seconds from the choice of an option to a page that is drawn again."""
    box = browser.find_element("css selector", f"input[aria-label*='{label}']")
    box.click()
    time.sleep(0.5)
    found = browser.find_elements("css selector", "[role=option]")
    began = time.monotonic()
    next(one for one in found if one.text == option).click()
    while said not in browser.find_element("css selector", "[data-testid=stMain]").text:
        time.sleep(0.02)
        assert time.monotonic() - began < 120, f"{said!r} never came"
    return until_drawn(browser, began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="made where it is not there")
    parser.add_argument("--repeats", type=int, default=3)
    told = parser.parse_args()
    store = told.store or Path(tempfile.mkdtemp(prefix="palate-perf-")) / "palate.db"
    if not store.exists():
        vast(store)
    rows = []
    began = time.monotonic()
    with serving(str(store)) as base, chromium() as browser:
        ready = time.monotonic() - began
        for title in PAGES:
            url = f"{base}/{'' if title == 'Overview' else title.lower()}"
            first = opened(browser, url)
            again = [opened(browser, url) for _ in range(told.repeats)]
            change = f"{changed(browser, *FILTERS[title]):.2f}" if title in FILTERS else "–"
            painted, drawn = (median(one[at] for one in again) for at in (0, 1))
            cells = (f"{first[0]:.2f}", f"{first[1]:.2f}", f"{painted:.2f}", f"{drawn:.2f}", change)
            rows.append(f"| {title} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    head = _HEAD.format(
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        ready=ready,
        repeats=told.repeats,
    )
    told.out.write_text(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
