"""What is seen of the overview without scrolling, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import Visit
from stage import Stage
from synthetic_cluster import FUNCTIONS

from scaler_protocol.wire.messages import Counter

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BOTTOM = "(label) => document.querySelector(`[aria-label='${label}']`).closest('.card').getBoundingClientRect().bottom"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("waits", [True, False])
def test_progress_is_seen_without_scrolling_before_the_curves(
    browser: Browser, stage: Stage, scheme: str, waits: bool
) -> None:
    many = (*(Counter(name, 90) for name in FUNCTIONS), *(Counter(f"module.part{n}", 9) for n in range(20)))
    told = stage.snapshot(functions=many) if waits else stage.snapshot(functions=many, task_states=())
    stage.scheduler.publish(told)
    visit = Visit(browser, stage.base, color_scheme=scheme)
    try:
        page = visit.open("overview")
        visit.wait("document.querySelectorAll('table[aria-label=\"Progress of functions\"] tbody tr').length === 25")
        labels = ["Progress of clients", "Progress of functions", *(["Waiting tasks"] if waits else [])]
        visit.wait(f"document.querySelector('.now > .card:last-child').hidden === {str(not waits).lower()}")
        curves = page.locator(".uplot").first.bounding_box()
        assert curves is not None
        for label in labels:
            assert page.evaluate(BOTTOM, label) < curves["y"]
        # The first curves too: 900 pixels hold them.
        assert curves["y"] + curves["height"] <= 900
        # All functions are reached: their box scrolls, and no name is cut off.
        box = page.locator(".now .scroll[aria-label='Progress of functions']")
        assert box.evaluate("(box) => box.scrollHeight > box.clientHeight && box.scrollWidth <= box.clientWidth")
        assert visit.accessibility_findings() == []
        visit.picture(f"overview-{scheme}-{'waits' if waits else 'runs'}")
    finally:
        visit.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_progress_is_compact_on_a_phone(browser: Browser, stage: Stage, scheme: str) -> None:
    stage.scheduler.publish(stage.snapshot(functions=tuple(Counter(f"module.part{n}", 9) for n in range(20))))
    visit = Visit(browser, stage.base, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    try:
        page = visit.open("overview")
        rows = "document.querySelectorAll('table[aria-label=\"Progress of functions\"] tbody tr')"
        visit.wait(f"{rows}.length === 20")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # A name, and its figures side by side below it; many of them do not move all else away.
        assert page.evaluate(f"[...{rows}].every(row => row.clientHeight < 90)")
        assert (
            page.locator(".now .scroll[aria-label='Progress of functions']").evaluate("(box) => box.clientHeight") < 400
        )
        assert visit.accessibility_findings() == []
        visit.picture(f"overview-phone-{scheme}")
    finally:
        visit.close()
