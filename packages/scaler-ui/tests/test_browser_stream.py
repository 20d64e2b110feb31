"""The task stream in a real browser, against an independent count of what was told."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from browser import Visit
from stage import Stage
from synthetic_cluster import ALICE, UNIX, events, finished_tasks, snapshot, worker

from scaler_protocol.wire.messages import TaskEvent

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VIEW = "(() => { const s = scaler.page().stream; return [s.span, s.end, s.following]; })()"
READY = "scaler.page().stream?.bars.length === 2000 && scaler.frameTimes().length > 0"


def summary(visit: Visit) -> dict[str, tuple[int, int]]:
    """What the page says is in view: tasks and failed ones by function."""
    rows = visit.page.evaluate("scaler.page().stream.summary()")
    return {row["name"]: (row["tasks"], row["failed"]) for row in rows}


def test_the_table_counts_what_was_told(visit: Visit) -> None:
    visit.open("stream")
    visit.wait(READY)
    visit.page.get_by_role("button", name="Show all").click()
    visit.page.get_by_role("button", name="What is in view, as a table").click()
    visit.wait("document.querySelectorAll('table[aria-label=\"Tasks in view\"] tbody tr').length === 5")
    told = finished_tasks(2_000, agents=4, began=UNIX + 58)
    names = [told.function_table[index] for index in told.functions]
    failures = Counter(name for name, state in zip(names, told.states, strict=True) if state == TaskEvent.FAILED)
    assert summary(visit) == {name: (count, failures[name]) for name, count in Counter(names).items()}
    note = visit.page.locator("#stream-note").inner_text()
    assert note.startswith("2,000 tasks on 16 workers")
    assert f"{sum(failures.values())} failed" in note
    assert visit.accessibility_findings() == []


def test_ticks_are_round(visit: Visit) -> None:
    visit.open("stream")
    visit.wait(READY)
    steps = {0.003: 0.0005, 2: 0.5, 60: 10, 400: 60, 7000: 900}
    for span, step in steps.items():
        made = visit.page.evaluate(
            f"import('/static/axis.js').then(axis => axis.roundTicks({UNIX + 0.3}, {UNIX + 0.3 + span}, 8))"
        )
        assert made["step"] == pytest.approx(step)
        assert all(abs(tick["at"] / step - round(tick["at"] / step)) < 1e-2 for tick in made["ticks"])
        assert 2 <= len(made["ticks"]) <= 9
        texts = [tick["text"] for tick in made["ticks"]]
        # Fractions of a second come again in the next one.
        assert all(text != after for text, after in pairwise(texts))
        assert all(texts)


def test_running_tasks_grow_and_become_bars(browser: Browser) -> None:
    stage = Stage()
    try:
        stage.scheduler.publish(
            events(1, [(UNIX, ALICE, 7, TaskEvent.ASSIGNED, "node00", "slow", 0, -1)]),
            snapshot(1, workers=(worker(0, 0, task=7, function="slow", task_seconds=0.5),)),
        )
        visit = Visit(browser, stage.base)
        visit.open("stream")
        visit.wait("scaler.page().stream?.bars.running.length === 1 && scaler.frameTimes().length > 0")
        length = "(() => { const s = scaler.page().stream; return s.bars.clock() - s.bars.running[0].start; })()"
        first = visit.page.evaluate(length)
        visit.wait(f"{length} > {first} + 0.3")
        assert "1 running" in visit.page.locator("#stream-note").inner_text()
        assert "still running" in visit.page.locator(".legend").inner_text()
        stage.scheduler.publish(
            events(2, [(UNIX + 2, ALICE, 7, TaskEvent.SUCCESS, "node00", "slow", 1_500_000, 0)]),
            snapshot(2, workers=(worker(0, 0, function=""),)),
        )
        visit.wait("scaler.page().stream.bars.length === 1 && scaler.page().stream.bars.running.length === 0")
        visit.close()
    finally:
        stage.close()


def test_workers_that_wait_in_nested_tasks_count_once(browser: Browser) -> None:
    stage = Stage()
    try:
        # One worker of two is busy for ten seconds: a task, and within it two that it waits for.
        rows = [
            (UNIX + 3, ALICE, 2, TaskEvent.SUCCESS, "node00", "inner", 2_000_000, 0),
            (UNIX + 9, ALICE, 3, TaskEvent.SUCCESS, "node00", "inner", 4_000_000, 0),
            (UNIX + 10, ALICE, 1, TaskEvent.SUCCESS, "node00", "outer", 10_000_000, 0),
            (UNIX + 10, ALICE, 4, TaskEvent.SUCCESS, "node00", "other", 1_000, 1),
        ]
        stage.scheduler.publish(events(1, rows))
        idle = (worker(0, 0, function=""), worker(0, 1, function=""))
        stage.scheduler.publish(*(snapshot(second, agents=1, slots=2, workers=idle) for second in range(1, 11)))
        visit = Visit(browser, stage.base)
        visit.open("stream")
        visit.wait("scaler.page().stream?.bars.length === 4 && scaler.frameTimes().length > 0")
        assert visit.page.evaluate("[...scaler.page().stream.bars.columns.inside.subarray(0, 4)]") == [1, 1, 0, 0]
        # The first picture may be older than the bars.
        visit.wait("scaler.page().stream.utilisation() > 0")
        assert visit.page.evaluate("scaler.page().stream.utilisation()") == pytest.approx(0.5, abs=0.02)
        visit.close()
    finally:
        stage.close()


def test_hosts_fold_and_one_may_be_shown_alone(visit: Visit) -> None:
    visit.open("stream")
    visit.wait(READY)
    folded = "scaler.page().stream.lanes.rows.map(row => row.folded)"
    visit.wait(f"JSON.stringify({folded}) === '[false,false,false,false]'")
    box = visit.page.locator("canvas").bounding_box()
    assert box is not None
    visit.page.mouse.click(box["x"] + 40, box["y"] + 55)
    visit.wait(f"JSON.stringify({folded}) === '[true,false,false,false]'")
    visit.page.get_by_role("button", name="Fold hosts").click()
    visit.wait(f"{folded}.every(Boolean)")
    visit.picture("ui-stream-folded")
    visit.page.get_by_label("Host", exact=True).select_option("node02.example.org")
    visit.wait("scaler.page().stream.lanes.rows.length === 1 && location.hash === '#stream?host=node02.example.org'")
    assert sum(tasks for tasks, _ in summary(visit).values()) < 1_000
    visit.page.reload()
    visit.wait(f"{READY} && scaler.page().stream.lanes.rows.length === 1")
    visit.page.go_back()
    visit.wait("scaler.page().stream.lanes.rows.length === 4")


def test_failures_are_reached_one_after_the_other(visit: Visit) -> None:
    visit.open("stream")
    visit.wait(READY)
    visit.page.locator("canvas").focus()
    for number in (1, 2):
        visit.page.keyboard.press("n")
        visit.wait(
            f"document.querySelector('[aria-live=polite].note').textContent.startsWith('Failure {number} of 24')"
        )
    visit.wait("scaler.page().stream.failures.length > 0")
    visit.picture("ui-stream-failure")
    visit.page.keyboard.press("Enter")
    visit.wait("document.getElementById('detail').open")
    assert "failed" in visit.page.locator("#detail-body").inner_text()
    visit.page.locator("#detail-body a", has_text=".").first.click()
    visit.wait("location.hash.startsWith('#functions?show=')")


def test_the_legend_leaves_one_function(visit: Visit) -> None:
    visit.open("stream")
    visit.wait(READY)
    entry = visit.page.locator(".legend button").first
    entry.click()
    visit.wait("scaler.page().stream.only === 0")
    assert entry.get_attribute("aria-pressed") == "true"
    assert visit.accessibility_findings() == []
    entry.click()
    visit.wait("scaler.page().stream.only === null")


def test_only_new_bars_are_sent(visit: Visit) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url) if "/api/bars" in request.url else None)
    visit.open("stream")
    visit.wait(READY)
    first = len(asked)
    with visit.page.expect_response(lambda response: "/api/bars" in response.url) as answer:
        pass
    assert f"seen={2_000}&" in answer.value.url
    data = answer.value.json()
    assert (data["columns"]["start"], data["functions"], data["lanes"]) == ([], [], [])
    assert first <= 2


def test_a_drag_moves_through_time(visit: Visit) -> None:
    visit.open("stream")
    visit.wait(READY)
    box = visit.page.locator("canvas").bounding_box()
    assert box is not None
    _, end, following = visit.page.evaluate(VIEW)
    assert following
    visit.page.mouse.move(box["x"] + 500, box["y"] + 200)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 800, box["y"] + 200, steps=4)
    visit.page.mouse.up()
    _, moved, following = visit.page.evaluate(VIEW)
    assert moved < end
    assert not following
    assert not visit.page.locator("#detail").is_visible()
