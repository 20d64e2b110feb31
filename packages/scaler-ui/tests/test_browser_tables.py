"""Tables of tasks in a real browser: pages, order, and the question before anything is cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from browser import Visit
from stage import Stage
from synthetic_cluster import ALICE, FUNCTIONS, UNIX, events, snapshot

from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.messages import Counter, ScalingEvent, TaskEvent

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def column(visit: Visit, label: str, index: int) -> list[str]:
    return visit.page.locator(f"table[aria-label='{label}'] tbody tr td:nth-child({index})").all_inner_texts()


def rows(label: str) -> str:
    return f"document.querySelectorAll('table[aria-label=\"{label}\"] tbody tr').length"


def test_all_tasks_are_on_some_page_and_columns_sort_all_of_them(visit: Visit) -> None:
    page = visit.open("tasks?sort=number")
    visit.wait(f"{rows('Tasks')} === 200")
    seen: list[str] = []
    while True:
        seen += column(visit, "Tasks", 1)
        older = page.get_by_role("button", name="Next page")
        if older.is_disabled():
            break
        first = seen[-200]
        older.click()
        visit.wait(f"document.querySelector('table[aria-label=Tasks] tbody td').textContent !== '{first}'")
    assert len(seen) == len(set(seen)) == 2_040
    assert [int(number) for number in seen] == sorted(map(int, seen))
    page.get_by_role("button", name="Previous page").click()
    visit.wait("document.querySelector('main .note').textContent.endsWith('1,801 to 2,000')")
    # Another order begins at its beginning.
    page.get_by_role("button", name="ran for", exact=True).click()
    visit.wait("location.hash === '#tasks?sort=-duration_seconds'")
    visit.wait("document.querySelector('main .note').textContent.endsWith(', 1 to 200')")
    assert page.locator("th[aria-sort=descending]").inner_text() == "ran for"


def test_names_lead_to_what_is_named(visit: Visit) -> None:
    page = visit.open(f"tasks?function={FUNCTIONS[0]}&search=node01")
    visit.wait(f"{rows('Tasks')} > 0")
    assert all(worker.startswith("node01-") for worker in column(visit, "Tasks", 6))
    page.locator("table[aria-label=Tasks] tbody td:nth-child(6) a").first.click()
    visit.wait("document.getElementById('detail').open")
    assert page.locator("#detail-title").inner_text().startswith("Worker node01-")


def test_tasks_that_wait_say_how_long_so_far(visit: Visit, stage: Stage) -> None:
    visit.open("tasks?state=submitted")
    visit.wait(f"{rows('Tasks')} === 40")
    waits = "[...document.querySelectorAll('td[data-label=waited]')].map(cell => cell.textContent)"
    before = set(visit.page.evaluate(waits))
    assert "" not in before

    def later() -> bool:
        # How many seconds the cluster is behind its own tasks depends on the tests before.
        stage.scheduler.publish(stage.snapshot())
        return bool(visit.page.evaluate(f"!{waits}.some(text => {sorted(before)}.includes(text))"))

    wait_until(later, 20, pause_seconds=0.5)


def test_the_tasks_of_a_function_are_cancelled_from_its_details(visit: Visit, stage: Stage) -> None:
    stage.scheduler.publish(stage.snapshot(scheduler_address="tcp://127.0.0.1:2345"))
    visit.open("overview")
    visit.wait("document.querySelector('.status.live')")
    page = visit.open(f"functions?show={FUNCTIONS[0]}")
    page.get_by_role("button", name="Cancel its tasks").wait_for()
    asked: list[Any] = []

    def answer(route: Any) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(json={"canceled": 2})

    page.route("**/api/cancel", answer)
    page.get_by_role("button", name="Cancel its tasks").click()
    assert page.locator("dialog.ask h2").inner_text() == f"Cancel all unfinished tasks of {FUNCTIONS[0]}?"
    page.get_by_role("button", name="Cancel the tasks").click()
    visit.wait("document.querySelector('dialog.ask').innerText.includes('2 tasks were cancelled')")
    assert asked == [{"function": FUNCTIONS[0]}]
    # Nothing of this one is left to cancel.
    page.goto(f"{visit.base}/#functions?show={FUNCTIONS[4]}")
    visit.wait(f"document.querySelector('#detail-title').textContent === '{FUNCTIONS[4]}'")
    assert page.get_by_role("button", name="Cancel its tasks").count() == 0


@pytest.mark.parametrize("width", [1440, 390])
def test_long_names_are_read_whole(browser: Browser, width: int) -> None:
    stage = Stage()
    name = "package.module." + "a_function_with_a_very_long_name_" * 6
    long = "a client with a long name " * 4 + "x" * 120
    visit = Visit(browser, stage.base, viewport={"width": width, "height": 900})
    try:
        made = snapshot(1, agents=1, functions=(Counter(name, 3),))
        for worker in made.workers:
            worker.function, worker.name = name, f"{worker.name}-{'w' * 100}"
        made.clients[0].name = long
        stage.scheduler.publish(made)
        done = [(UNIX, ALICE, n, TaskEvent.SUCCESS, "node00", name, 9_000, 0) for n in range(3)]
        stage.scheduler.publish(events(1, done))
        for page, label in (
            ("tasks", "Tasks"),
            ("functions", "Functions"),
            ("workers?view=all", "Workers"),
            ("clients", "Clients"),
            ("clients", "Use"),
        ):
            visit.open(page)
            visit.wait(f"{rows(label)} > 0")
            table = f"document.querySelector('table[aria-label=\"{label}\"]')"
            assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page
            # Nothing is cut off: a cell holds all of its text, and the box of the table scrolls where that is wide.
            cells = f"[...{table}.querySelectorAll('td')]"
            assert visit.page.evaluate(f"{cells}.every(cell => cell.scrollWidth <= cell.clientWidth + 1)"), page
            box = f"{table}.closest('.scroll')"
            assert visit.page.evaluate(f"{table}.scrollWidth <= {box}.scrollWidth + 1"), page
            # Where it scrolls, no name alone is the reason.
            fits = visit.page.evaluate(f"{table}.scrollWidth <= {box}.clientWidth + 1")
            widest = visit.page.evaluate(f"Math.max(...{cells}.map(cell => cell.clientWidth))")
            assert fits or widest < 520, f"{page}: {widest}"
            assert name in visit.page.content() or long in visit.page.content()
        assert not visit.accessibility_findings()
        visit.close()
    finally:
        stage.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_cancelled_without_a_second_yes(browser: Browser, stage: Stage, width: int) -> None:
    visit = Visit(browser, stage.base, viewport={"width": width, "height": 900})
    sent: list[str] = []
    # What is beyond the pages is tried with a real cluster.

    def answer(route: Any) -> None:
        sent.append(route.request.post_data)
        route.fulfill(json={"canceled": 40})

    visit.page.route("**/api/cancel", answer)
    stage.scheduler.publish(stage.snapshot(scheduler_address="tcp://127.0.0.1:2345"))
    visit.open("overview")
    visit.wait("document.querySelector('.status.live')")
    page = visit.open(f"tasks?client={ALICE.hex()}")
    page.get_by_role("button", name="Cancel them").click()
    visit.wait("document.querySelector('dialog.ask').open")
    assert page.locator("dialog.ask h2").inner_text() == "Cancel all unfinished tasks of alice?"
    # The harmless answer has the focus: a key pressed too often does nothing.
    assert page.evaluate("document.activeElement.textContent") == "Keep them"
    assert visit.accessibility_findings() == []
    page.keyboard.press("Enter")
    visit.wait("!document.querySelector('dialog.ask')")
    assert sent == []
    page.get_by_role("button", name="Cancel them").click()
    page.get_by_role("button", name="Cancel the tasks").click()
    visit.wait("document.querySelector('dialog.ask').innerText.includes('40 tasks were cancelled, or told to stop.')")
    assert sent == [f'{{"client":"{ALICE.hex()}"}}']
    page.keyboard.press("Escape")
    visit.wait("!document.querySelector('dialog.ask')")
    visit.open(f"tasks?show={ALICE.hex()}/9001")
    page.get_by_role("button", name="Cancel this task").click()
    page.get_by_role("button", name="Cancel the tasks").click()
    visit.wait("document.querySelector('dialog.ask').innerText.includes('40 tasks')")
    assert sent[1] == f'{{"client":"{ALICE.hex()}","number":9001}}'
    visit.close()


def test_where_it_is_not_allowed_the_page_says_why(browser: Browser, stage: Stage) -> None:
    stage.scheduler.publish(stage.snapshot(scheduler_address="tcp://127.0.0.1:2345", protected=True))
    visit = Visit(browser, stage.base)
    page = visit.open("overview")
    visit.wait("document.querySelector('.status.live')")
    visit.open(f"tasks?client={ALICE.hex()}")
    visit.wait("document.querySelector('.refusal')?.textContent.includes('protected')")
    assert page.get_by_role("button", name="Cancel them").count() == 0
    visit.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_workers_are_folded_under_their_hosts_and_a_sick_one_says_why(
    browser: Browser, stage: Stage, width: int
) -> None:
    for second in range(5):
        told = stage.snapshot()
        told.workers[5].pid = 9_000 + second
        told.workers[6].last_seen_seconds = 42.0
        told.agents[2].memory_bytes, told.agents[2].rss_free_bytes = 64 * 1024**3, 1024**3
        told.agents[3].processor_limit_bytes = told.workers[12].rss_bytes + 1024**2
        told.agents[0].devices, told.agents[0].software_version = ("GPU-a", "GPU-b"), "0.1.0"
        told.agents[0].python_version = "3.11"
        stage.scheduler.publish(told)
    visit = Visit(browser, stage.base, viewport={"width": width, "height": 900})
    page = visit.open("workers")
    visit.wait(f"{rows('Hosts')} === 4")
    shown = "document.querySelector('main').innerText"
    visit.wait(f"/node01-1: its process was replaced [0-9]+ times in 10 minutes/.test({shown})")
    visit.wait(f"{shown}.includes('node01-2: nothing was heard of it for 42 s')")
    visit.wait(f"{shown}.includes('1.6 % of its memory is free')")
    visit.wait(f"/node03-0: it has 99 % of the memory that it may have/.test({shown})")
    for text in ("GPU-a, GPU-b", "0.1.0, Python 3.11", "4 of 4 run", "cores=4,gpu=2,mem=64GiB"):
        assert text in page.locator("main").inner_text()
    assert page.locator("table[aria-label=Hosts] svg.trend").count() == 8
    # By keyboard: the button unfolds, and keeps the focus.
    fold = page.get_by_role("button", name="node01.example.org, workers")
    fold.focus()
    page.keyboard.press("Enter")
    visit.wait("document.querySelectorAll('table[aria-label=\"Workers of node01.example.org\"] tbody tr').length === 4")
    assert page.evaluate("location.hash") == "#workers?open=node01.example.org"
    assert page.locator("table[aria-label='Workers of node01.example.org'] .chip.sick").count() == 2
    assert visit.accessibility_findings() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.picture(f"tables-workers-{width}")
    page.get_by_role("button", name="node01.example.org, workers").click()
    visit.wait("!document.querySelector('table[aria-label=\"Workers of node01.example.org\"]')")
    # What is looked for is found among all workers, folded or not.
    page.locator("input[type=search]").fill("node02")
    visit.wait(f"{rows('Workers')} === 4")
    visit.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_clients_are_folded_and_objects_and_scaling_tell_more(browser: Browser, stage: Stage, width: int) -> None:
    told = stage.snapshot(
        scaling_events=(
            ScalingEvent(
                1, UNIX, "requested", "http://127.0.0.1:8080/", 2, "40 tasks, about 80.0 s of work need 2 groups"
            ),
            ScalingEvent(
                2, UNIX + 3, "connected", "http://127.0.0.1:8080/", 1, "g1: 4 workers, 3 s after it was asked for"
            ),
        )
    )
    told.clients[0].user, told.clients[1].parent, told.clients[1].parent_name = "ada", ALICE, "alice"
    told.clients[1].name = "nested|desk|977"
    told.objects[0].homes = ("node00", "node01")
    stage.scheduler.publish(told)
    visit = Visit(browser, stage.base, viewport={"width": width, "height": 900})
    page = visit.open("clients")
    visit.wait(f"{rows('Clients')} === 1")
    assert "ada" in page.locator("table[aria-label=Clients]").inner_text()
    page.get_by_role("button", name="1 clients inside tasks of alice").click()
    inside = 'table[aria-label="Clients inside tasks of alice"]'
    visit.wait(f"document.querySelector('{inside}').innerText.includes('alice (nested)')")
    assert "|" not in page.locator("main").inner_text()
    assert visit.accessibility_findings() == []
    visit.open("objects")
    visit.wait("document.querySelector('main').innerText.includes('node00, node01')")
    visit.open("scaling")
    visit.wait(f"{rows('Scaling events')} === 2")
    assert column(visit, "Scaling events", 2) == ["connected", "requested"]
    assert "4 workers, 3 s after it was asked for" in column(visit, "Scaling events", 4)[0]
    assert visit.accessibility_findings() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.close()
