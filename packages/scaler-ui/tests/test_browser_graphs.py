"""Graphs drawn in a real browser, and asked for only while somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from browser import Visit
from stage import Stage
from synthetic_cluster import ALICE, FUNCTIONS, large_graph, small_graph, snapshot

from scaler_protocol.monitoring.topics import graph_topic
from scaler_protocol.testing.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LINKS = "document.querySelectorAll('.graph svg a').length"


def test_a_large_graph_opens_as_blocks_that_lead_to_their_layer(visit: Visit) -> None:
    page = visit.open("graphs")
    visit.wait(f"{LINKS} === 4")
    labels = page.locator(".graph svg a").evaluate_all(
        "links => links.map(link => link.querySelector('title').textContent)"
    )
    assert labels[0].startswith("layer 1: 600 nodes, 515 done, 60 ready")
    assert f"600 {FUNCTIONS[4]}" in labels[0]
    page.locator(".graph svg a").nth(1).focus()
    page.keyboard.press("Enter")
    visit.wait(f"{LINKS} === 160 && location.hash.endsWith('layers=1-1')")
    assert "140 nodes of this layer are left out" in page.locator("section p.note").inner_text()
    page.get_by_role("button", name="All layers").click()
    visit.wait(f"{LINKS} === 4")
    page.go_back()
    visit.wait(f"{LINKS} === 160")
    assert visit.accessibility_findings() == []


def test_an_ended_graph_is_drawn_with_its_failure_and_its_slow_path(visit: Visit) -> None:
    page = visit.open("graphs")
    visit.wait("document.querySelectorAll('table[aria-label=\"Ended graphs\"] tbody tr').length === 2")
    page.locator("table[aria-label='Ended graphs'] tbody tr").first.press("Enter")
    visit.wait(f"{LINKS} === 14 && decodeURIComponent(location.hash) === '#graphs?graph={ALICE.hex()}/4500'")
    assert page.locator(".graph svg .edge").count() == 18
    assert page.locator(".graph svg a.failed").count() == 4
    assert "took 4.75 s" in page.locator("section p.note").inner_text()
    assert page.locator("table[aria-label='Slow path'] tbody tr").count() == page.locator(".graph a.critical").count()
    assert visit.accessibility_findings() == []
    page.locator(".graph svg a").first.click()
    visit.wait("document.querySelector('#detail').open && location.hash.startsWith('#tasks?show=')")
    # The stage has no record of this task.
    visit.complaints = [text for text in visit.complaints if "404" not in text]


def test_a_graph_of_which_no_nodes_are_known_says_so(visit: Visit) -> None:
    page = visit.open(f"graphs?graph={ALICE.hex()}/4000")
    visit.wait("document.querySelector('section p.note')?.textContent.includes('nobody looked at it')")
    assert not page.locator(".graph").is_visible()
    assert visit.accessibility_findings() == []


def test_drawings_fit_any_form(browser: Browser, stage: Stage) -> None:
    for scheme, width in (("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)):
        visit = Visit(browser, stage.base, viewport={"width": width, "height": 900}, color_scheme=scheme)
        for name, address, links in (("blocks", "graphs", 4), ("nodes", f"graphs?graph={ALICE.hex()}/4500", 14)):
            visit.open(address)
            visit.wait(f"{LINKS} === {links}")
            assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            assert visit.accessibility_findings() == []
            visit.picture(f"ui-graph-{name}{'-dark' if scheme == 'dark' else ''}{'-small' if width < 760 else ''}")
        visit.close()


def test_a_graph_that_goes_with_its_scheduler_is_no_error(browser: Browser) -> None:
    stage = Stage()
    try:
        stage.scheduler.publish(snapshot(1))
        visit = Visit(browser, stage.base)
        page = visit.open(f"graphs?graph={ALICE.hex()}/5000")
        visit.wait("document.querySelector('section p.note')?.textContent.includes('its nodes are asked for')")
        stage.scheduler.publish(snapshot(1, graphs=(), ended_graphs=(), incarnation=b"2" * 16))
        visit.wait("document.querySelector('section p.note').textContent.startsWith('it ended long ago')")
        visit.wait("document.querySelector('#status-text').textContent.includes('restarted once')")
        assert page.locator("table[aria-label=Graphs]").is_hidden()
        # Leaving fails if the console has complained.
        visit.close()
    finally:
        stage.close()


def test_rows_are_asked_for_while_somebody_looks_and_no_longer(browser: Browser) -> None:
    stage = Stage()
    topic = graph_topic(ALICE, 5_000)
    try:
        stage.scheduler.publish(snapshot(1))
        visit = Visit(browser, stage.base)
        visit.open("overview")
        visit.wait("document.getElementById('tile-running').textContent !== ''")
        assert topic not in stage.scheduler.topics()
        visit.open("graphs")
        wait_until(lambda: topic in stage.scheduler.topics(), 20)
        stage.scheduler.publish(large_graph())
        visit.wait(f"{LINKS} === 4")
        # It is asked for again and again, and so is another one instead.
        stage.scheduler.publish(snapshot(2), small_graph())
        visit.open("overview")
        wait_until(lambda: topic not in stage.scheduler.topics(), 20)
        visit.close()
    finally:
        stage.close()
