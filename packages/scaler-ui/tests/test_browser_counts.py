"""Counts above the table of tasks, in a real browser: what they say, and where they lead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from browser import Visit
from stage import Stage
from synthetic_cluster import ALICE, FUNCTIONS, UNIX, events, snapshot

from scaler_protocol.wire.messages import ResourceWait, TaskEvent

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COUNTS = ".states a"


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
    visit.wait("document.querySelector('.states a[aria-current]').textContent.startsWith('failed')")
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
    visit.wait("document.querySelector('.states a').textContent === 'all 2,040'")


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_counts_are_read_on_phones_and_in_the_dark(browser: Browser, stage: Stage, width: int, scheme: str) -> None:
    visit = Visit(browser, stage.base, viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        visit.open("tasks?state=failed")
        visit.wait(
            f"{rows('Tasks')} > 0 && document.querySelector('.states a[aria-current]').innerText.startsWith('failed')"
        )
        assert visit.accessibility_findings() == []
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.picture(f"tasks-counts-{width}-{scheme}")
    finally:
        visit.close()


def test_waiting_tasks_say_why_and_are_chosen_by_it(browser: Browser) -> None:
    stage = Stage()
    visit = Visit(browser, stage.base)
    try:
        clients = snapshot(1).clients
        clients[1].waiting_for_tasks = 1_234
        waits = (ResourceWait("licence=1", 3, True),)
        stage.scheduler.publish(stage.snapshot(clients=clients, resource_waits=waits, groups=()))
        rows_told = [(UNIX + 100, ALICE, 1 + n, TaskEvent.SUBMITTED, "", FUNCTIONS[0], 0, -1) for n in range(8)]
        rows_told.append((UNIX + 101, ALICE, 9, TaskEvent.SUBMITTED, "", FUNCTIONS[0], 0, -1))
        rows_told.append((UNIX + 120, ALICE, 9, TaskEvent.RETURNED, "node00", FUNCTIONS[0], 600_000_000, -1))
        table = {"resource_table": ("", "licence=1"), "resources": [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]}
        stage.scheduler.publish(events(1, rows_told, **table))
        page = visit.open("tasks")
        visit.wait(f"{rows('Tasks')} === 9")
        shown = "[...document.querySelectorAll('.whys a')].filter(one => !one.hidden).map(one => one.textContent).join('; ')"
        visit.wait(f"{shown} === 'for a free worker 5; for resources 3; for another attempt 1'")
        assert page.locator(".whys .unlisted").inner_text().startswith("1,234 more for results of other tasks")
        visit.picture("tasks-waiting")
        page.get_by_role("link", name="for resources").click()
        visit.wait(f"location.hash === '#tasks?state=submitted&why=resources' && {rows('Tasks')} === 3")
        whys = set(page.locator("table[aria-label=Tasks] .why").all_inner_texts())
        assert whys == {"other tasks use the resources that it asks for: licence=1"}
        page.get_by_role("link", name="for another attempt").click()
        visit.wait(f"location.hash.endsWith('why=pause') && {rows('Tasks')} === 1")
        assert page.locator("table[aria-label=Tasks] .why").inner_text() == "failed, runs again in 10 min"
        page.go_back()
        visit.wait(f"location.hash.endsWith('why=resources') && {rows('Tasks')} === 3")
        page.locator("table[aria-label=Tasks] tbody tr").first.click()
        visit.wait("document.querySelector('#detail').open")
        assert "wait, or offer more with --resources" in page.locator("#detail").inner_text()
        page.keyboard.press("Escape")
        visit.wait("!document.querySelector('#detail').open")
        # A reason says nothing of tasks that do not wait.
        page.get_by_label("State").select_option("failed")
        visit.wait("location.hash === '#tasks?state=failed' && document.querySelector('.whys').hidden")
        page.set_viewport_size({"width": 390, "height": 844})
        visit.open("tasks?state=submitted")
        visit.wait(f"{rows('Tasks')} === 9")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.accessibility_findings() == []
        visit.picture("tasks-waiting-390")
    finally:
        visit.close()
        stage.close()
