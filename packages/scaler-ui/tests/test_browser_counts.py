"""Counts above the table of tasks, in a real browser: what they say, and where they lead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from browser import Visit
from stage import Stage
from synthetic_cluster import FUNCTIONS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COUNTS = ".facets a"


def counts(visit: Visit) -> dict[str, int]:
    """The numbers above the table, by state."""
    texts = visit.page.locator(COUNTS).all_inner_texts()
    found = [re.fullmatch(r"([a-z ]+?)\s*([\d,]+)", text) for text in texts]
    return {match[1]: int(match[2].replace(",", "")) for match in found if match is not None}


def rows(label: str) -> str:
    return f"document.querySelectorAll('table[aria-label=\"{label}\"] tbody tr').length"


def test_states_are_counted_and_lead_to_their_tasks(visit: Visit, stage: Stage) -> None:
    page = visit.open("tasks")
    visit.wait(f"{rows('Tasks')} === 200")
    states = httpx.get(f"{stage.base}/api/tasks", timeout=20).json()["states"]
    told = {
        "all": 2_040,
        "waiting": 40,
        "assigned": 0,
        "succeeded": states["success"],
        "failed": states["failed"],
        "canceled": 0,
    }
    assert counts(visit) == told
    assert page.locator(f"{COUNTS}[aria-current]").all_inner_texts() == ["all 2,040"]
    page.get_by_role("link", name=re.compile("^failed")).click()
    visit.wait(f"location.hash === '#tasks?state=failed' && {rows('Tasks')} === {states['failed']}")
    visit.wait("document.querySelector('.facets a[aria-current]').textContent.startsWith('failed')")
    assert page.get_by_label("State").input_value() == "failed"
    # They count what could be chosen, not only what is.
    assert counts(visit) == told
    page.get_by_role("link", name=re.compile("^waiting")).click()
    visit.wait(f"location.hash === '#tasks?state=submitted' && {rows('Tasks')} === 40")
    page.go_back()
    visit.wait(f"location.hash === '#tasks?state=failed' && {rows('Tasks')} === {states['failed']}")
    page.go_back()
    visit.wait(f"location.hash === '#tasks' && {rows('Tasks')} === 200")


def test_counts_are_of_what_else_is_asked_for_and_keep_it(visit: Visit) -> None:
    page = visit.open(f"tasks?function={FUNCTIONS[0]}&sort=number")
    visit.wait(f"{rows('Tasks')} === 200")
    of_function = counts(visit)
    assert of_function["waiting"] == 8
    asked = httpx.get(f"{visit.base}/api/tasks", params={"function": FUNCTIONS[0]}, timeout=20).json()
    assert of_function["all"] == asked["matching"] < 2_040
    page.locator("input[type=search]").fill("alice")
    visit.wait("location.hash.includes('search=alice')")
    # At once, and not only when the answer is there.
    page.get_by_role("link", name=re.compile("^waiting")).click()
    visit.wait(f"{rows('Tasks')} === 8")
    assert page.evaluate("location.hash") == f"#tasks?function={FUNCTIONS[0]}&sort=number&search=alice&state=submitted"
    page.get_by_role("button", name=f"Show not only {FUNCTIONS[0]}").click()
    visit.wait(f"{rows('Tasks')} === 40")
    visit.wait("document.querySelector('.facets a').textContent === 'all 2,040'")


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_counts_are_read_on_phones_and_in_the_dark(browser: Browser, stage: Stage, width: int, scheme: str) -> None:
    visit = Visit(browser, stage.base, viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        visit.open("tasks?state=failed")
        visit.wait(
            f"{rows('Tasks')} > 0 && document.querySelector('.facets a[aria-current]').innerText.startsWith('failed')"
        )
        assert visit.accessibility_findings() == []
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.picture(f"tasks-counts-{width}-{scheme}")
    finally:
        visit.close()
