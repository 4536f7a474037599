"""Every page by keyboard alone and to a screen reader: all controls are reached, in the order in which they stand, one
sees where one is, and what is reached or shown has a name."""

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dashboard_browser import chromium, serving, visit
from dashboard_records import judged

from dashboards.views import PAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
if not shutil.which("chromium") or not shutil.which("chromedriver"):
    pytest.skip("there is no Chromium (Debian: apt-get install chromium chromium-driver)", allow_module_level=True)
pytest.importorskip("selenium")

MOST = 150  # presses of Tab a page
LOOK = """
window.look = (one) => {
  const said = [];
  for (let at = one, up = 0; at && up < 5; at = at.parentElement, up++) {
    const style = getComputedStyle(at);
    said.push(style.outline, style.boxShadow, style.borderColor, style.backgroundColor, style.color);
  }
  return said.join('|');
};
const wanted = 'input:not([type=file]), textarea, button, a[href], summary, video[controls]';
window.controls = [...document.querySelectorAll('[data-testid=stMain] :is(' + wanted + ')')].filter(
  (one) => !one.disabled && one.tabIndex >= 0 && one.checkVisibility({checkVisibilityCSS: true}));
window.before = window.controls.map(window.look);
return window.controls.map((one) => one.outerHTML.slice(0, 160));
"""
# Where the focus is: the control's number, or -1; and whether it looks different from how it was.
WHERE = """
const at = window.controls.indexOf(document.activeElement);
return [at, at < 0 || window.look(document.activeElement) !== window.before[at],
        document.activeElement === document.body];
"""
NAMED = {"button", "combobox", "textbox", "spinbutton", "switch", "checkbox", "link", "img", "image", "Video", "figure"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = str(tmp_path_factory.mktemp("record") / "palate.db")
    judged(url, simulated=False)
    with serving(url) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.mark.parametrize("title", PAGES)
def test_tab_reaches_every_control_in_order_and_one_sees_where(base: str, browser: Any, title: str) -> None:
    from selenium.webdriver import ActionChains, Keys

    visit(browser, base + ("/" if title == "Overview" else f"/{title.lower()}"))
    controls = browser.execute_script(LOOK)
    assert controls
    reached: list[int] = []
    for _ in range(MOST):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        at, visible, left = browser.execute_script(WHERE)
        began = time.monotonic()
        while not visible and time.monotonic() - began < 3:  # what it looks like with the focus is faded in
            at, visible, left = browser.execute_script(WHERE)
        if left and reached:
            break
        if at >= 0:
            assert visible, f"nothing shows that the focus is on {controls[at]}"
            reached.append(at)
        if len(set(reached)) == len(controls):
            break
    missed = [controls[at] for at in range(len(controls)) if at not in reached]
    assert not missed, f"Tab never reaches {missed}"
    assert reached == sorted(reached)


@pytest.mark.parametrize("title", PAGES)
def test_a_screen_reader_has_a_name_for_every_control_chart_and_player(base: str, browser: Any, title: str) -> None:
    visit(browser, base + ("/" if title == "Overview" else f"/{title.lower()}"))
    browser.execute_cdp_cmd("Accessibility.enable", {})
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [
        (one["role"]["value"], one.get("name", {}).get("value", ""))
        for one in tree
        if not one.get("ignored") and one.get("role", {}).get("value") in NAMED
    ]
    assert len(told) > 5
    assert not [role for role, name in told if not name.strip()]
    charts = browser.find_elements("css selector", "[data-testid=stVegaLiteChart]")
    described = [name for _, name in told if "The table under it has the numbers" in name]
    assert len(described) >= len(charts)
