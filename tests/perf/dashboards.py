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

from dashboard_browser import READY, chromium, serving
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
# Runs in every page from its first moment and notes, in milliseconds of the page's own clock, when its title and first
# element are there, when a text that is waited for is, and when what is seen changed last. Asking from outside as often
# would itself take most of the browser's time: the driver needs longer to read a page's text than the page to be drawn.
WATCH = """
window.seen = {painted: null, said: null, changed: 0, clicked: null, text: null}
const kept = '[data-testid=stMain]'
new MutationObserver(changes => {
  const now = performance.now()
  if (!changes.some(one => one.target.parentElement?.closest(kept) || one.target.closest?.(kept))) return
  seen.changed = now
  const main = document.querySelector(kept)
  if (seen.painted === null && main?.querySelector('h1')
      && main.querySelector('[data-testid=stSelectbox],h3,code')) seen.painted = now
  if (seen.text !== null && seen.said === null && main?.textContent.includes(seen.text)) seen.said = now
}).observe(document, {subtree: true, childList: true, attributes: true, characterData: true})
addEventListener('click', () => { seen.clicked = performance.now() }, true)
"""
QUIET = 0.5  # seconds in which nothing changes before a page counts as drawn; they are not counted


def drawn(browser: Any, *wanted: str) -> dict[str, float]:
    """What was seen of a page, once these are and it is drawn; in seconds of its own clock."""
    began = time.monotonic()
    while True:
        time.sleep(QUIET / 2)
        seen, now, ready = browser.execute_script(f"return [seen, performance.now(), (() => {{{READY}}})()]")
        if ready and all(seen[one] is not None for one in wanted) and now - seen["changed"] > 1000 * QUIET:
            return {name: seen[name] / 1000 for name in (*wanted, "changed")}
        assert time.monotonic() - began < 180, f"{browser.current_url} is not drawn: {seen}"


def opened(browser: Any, url: str) -> tuple[float, float]:
    """Seconds until the page shows its title and first element, and until all of it is drawn."""
    browser.get("about:blank")
    browser.get(url)
    seen = drawn(browser, "painted")
    return seen["painted"], seen["changed"]


def changed(browser: Any, label: str, option: str, said: str) -> float:
    """Seconds from the choice of an option to a page that is drawn again."""
    browser.find_element("css selector", f"input[aria-label*='{label}']").click()
    time.sleep(QUIET)
    chosen = next(one for one in browser.find_elements("css selector", "[role=option]") if one.text == option)
    browser.execute_script("seen.text = arguments[0]; seen.said = null", said)
    chosen.click()
    seen = drawn(browser, "clicked", "said")
    return seen["changed"] - seen["clicked"]


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
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
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
