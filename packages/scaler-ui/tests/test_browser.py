"""The pages in a real browser, fed by a scheduler that does not exist, so that every figure is known."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest
from browser import Visit
from stage import PAGES, Stage
from synthetic_cluster import (
    ALICE,
    FUNCTIONS,
    UNIX,
    SyntheticScheduler,
    events,
    failures,
    finished_tasks,
    log,
    snapshot,
)

from scaler_protocol.service.child import ChildService
from scaler_protocol.wire.messages import Counter, TaskEvent

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def text(visit: Visit, selector: str) -> str:
    return visit.page.locator(selector).first.inner_text()


def column(visit: Visit, label: str, index: int) -> list[str]:
    """The texts of one column of the table with this label."""
    return visit.page.locator(f"table[aria-label='{label}'] tbody tr td:nth-child({index})").all_inner_texts()


def test_a_wait_is_for_what_is_not_there_yet_too(visit: Visit) -> None:
    from playwright.sync_api import Error

    page = visit.open("overview")
    page.evaluate(
        """void setTimeout(() => {
            const late = document.body.appendChild(document.createElement('p'));
            late.id = 'late';
            late.textContent = 'here';
        }, 300)"""
    )
    visit.wait("document.querySelector('#late').textContent === 'here'")
    with pytest.raises(AssertionError, match=r"not in time: .*#never.*reading 'textContent'"):
        visit.wait("document.querySelector('#never').textContent === 'here'", 0.1)
    # What can never become true is told at once.
    with pytest.raises(Error, match="nonsense is not defined"):
        visit.wait("nonsense === 1")


def test_the_overview_shows_the_figures(visit: Visit) -> None:
    visit.open("overview")
    visit.wait("document.getElementById('tile-running').textContent === '16'")
    assert text(visit, "#tile-utilisation") == "100 %"
    assert text(visit, "#tile-queued") == "48"
    assert text(visit, "#tile-waiting") == "120"
    assert text(visit, "#tile-success") == "18,040"
    assert text(visit, "#tile-failed") == "3"
    assert text(visit, "#tile-workers") == "16"
    assert text(visit, "#tile-objects") == "3.0 MiB"
    assert visit.page.locator(".uplot canvas").count() == 6
    visit.wait("document.querySelectorAll('table[aria-label=\"Progress of functions\"] tbody tr').length === 2")
    assert column(visit, "Progress of functions", 1) == [FUNCTIONS[0], FUNCTIONS[1]]
    assert column(visit, "Progress of clients", 1) == ["alice"]
    assert column(visit, "Waiting tasks", 1) == ["120"]
    assert column(visit, "Waiting tasks", 2) == ["other nodes of their graph come first"]
    visit.picture("ui-overview")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)])
def test_every_page_is_whole_in_any_form(browser: Browser, stage: Stage, scheme: str, width: int) -> None:
    viewport = {"width": width, "height": 900}
    visit = Visit(browser, stage.base, viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    for page in PAGES:
        visit.open(page)
        visit.wait(f"document.querySelector('nav a[aria-current=page]')?.hash === '#{page}'")
        visit.wait("document.querySelector('.status.live') && document.querySelector('h1')")
        visit.wait("[...document.querySelectorAll('main table.data')].every(table => table.tBodies[0].rows.length)")
        if page == "stream":
            visit.wait("scaler.frameTimes().length > 0")
        # No page scrolls sideways, on a phone no table does, and every control and picture says what it is.
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page
        if width < 760:
            assert visit.page.evaluate(
                "[...document.querySelectorAll('main .scroll')].every(e => e.scrollWidth <= e.clientWidth)"
            ), page
        nameless = visit.page.evaluate(
            "[...document.querySelectorAll('button, a, input, select, canvas:not(.uplot canvas), [role=img]')]"
            ".filter(e => !(e.innerText ?? e.textContent).trim() && !e.getAttribute('aria-label')).map(e => e.outerHTML)"
        )
        assert nameless == [], page
        assert visit.accessibility_findings() == [], page
        visit.picture(f"ui-{page}{'-dark' if scheme == 'dark' else ''}{'-small' if width < 760 else ''}")
    visit.close()


def test_columns_sort_both_ways(visit: Visit) -> None:
    visit.open("workers?view=all")
    visit.wait("document.querySelectorAll('table[aria-label=Workers] tbody tr').length === 16")
    assert column(visit, "Workers", 1) == [f"node{agent:02}-{slot}" for agent in range(4) for slot in range(4)]
    visit.page.get_by_role("button", name="memory", exact=True).click()
    sizes = [float(size.split()[0]) for size in column(visit, "Workers", 4)]
    assert sizes == sorted(sizes, reverse=True)
    assert visit.page.locator("th[aria-sort=descending]").last.inner_text().startswith("memory")
    visit.page.get_by_role("button", name="memory", exact=True).click()
    sizes = [float(size.split()[0]) for size in column(visit, "Workers", 4)]
    assert sizes == sorted(sizes)


def test_workers_are_searched_and_opened(visit: Visit) -> None:
    visit.open("workers")
    visit.wait("document.querySelector('main input[type=search]')")
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("node02")
    visit.wait("document.querySelectorAll('table[aria-label=Workers] tbody tr').length === 4")
    visit.page.locator("table[aria-label=Workers] tbody tr").first.press("Enter")
    visit.wait("document.getElementById('detail').open")
    assert "node02-0" in text(visit, "#detail-title")
    assert "features.extract, task 200, for" in text(visit, "#detail-body")
    visit.page.keyboard.press("Escape")
    visit.wait("!document.getElementById('detail').open")


def test_tasks_are_searched_filtered_and_opened(visit: Visit) -> None:
    visit.open("tasks")
    visit.wait("document.querySelector('main .note').textContent.startsWith('2,040 of the last 2,040')")
    visit.page.get_by_label("State").select_option("submitted")
    visit.wait("document.querySelector('main .note').textContent.startsWith('40 of')")
    # The reason stands below the state.
    assert {state.split()[0] for state in column(visit, "Tasks", 3)} == {"waiting"}
    visit.page.get_by_label("State").select_option("")
    visit.page.locator("input[type=search]").fill("fit_tree node03")
    functions = "[...document.querySelectorAll('table[aria-label=Tasks] tbody td:nth-child(2)')]"
    visit.wait(f"{functions}.every(e => e.textContent === 'models.fit_tree')")
    assert {worker.rpartition("-")[0] for worker in column(visit, "Tasks", 6)} == {"node03"}
    visit.page.locator("table[aria-label=Tasks] tbody tr").first.click()
    visit.wait("document.getElementById('detail').open")
    assert "models.fit_tree" in text(visit, "#detail-title")


def test_a_search_without_a_match_does_not_deny_what_there_is(visit: Visit) -> None:
    for page, told in (("workers", "no worker matches"), ("tasks", "no task matches"), ("errors", "no error matches")):
        visit.open(page)
        visit.wait("[...document.querySelectorAll('main table.data')].every(table => table.tBodies[0].rows.length)")
        visit.page.locator("input[type=search]").fill("nothing is called so")
        visit.wait(f"[...document.querySelectorAll('main .empty')].some(e => !e.hidden && e.textContent === '{told}')")


def test_an_empty_cluster_says_so_and_its_axes_count_in_whole_steps(browser: Browser) -> None:
    stage = Stage()
    try:
        for second in (1, 2):
            stage.scheduler.publish(snapshot(second, agents=0, clients=(), functions=(), graphs=(), task_states=()))
        visit = Visit(browser, stage.base)
        for page, told in (
            ("tasks", "no task was submitted since scaler_ui started"),
            ("errors", "no task has failed"),
            ("workers", "no worker is connected"),
        ):
            visit.open(page)
            visit.wait(f"[...document.querySelectorAll('main .empty')].some(e => e.textContent === {told!r})")
        visit.open("overview")
        visit.wait("document.getElementById('tile-workers').textContent === '0'")
        # Throughput has fractions.
        ticks = visit.page.evaluate("scaler.page().charts.slice(1).map(chart => chart.plot.axes[1]._values)")
        assert ticks
        assert all(len(values) == len(set(values)) for values in ticks)
        visit.close()
    finally:
        stage.close()


def test_an_error_is_shown_with_its_traceback(visit: Visit) -> None:
    visit.open("errors")
    visit.wait("document.querySelectorAll('table[aria-label=Errors] tbody tr').length === 1")
    assert column(visit, "Errors", 3) == ["3"]
    visit.page.locator("table[aria-label=Errors] tbody tr").first.press("Enter")
    visit.wait("document.getElementById('detail').open")
    assert text(visit, "#detail-title") == "ValueError in pricing.simulate"
    assert column(visit, "Failures", 2) == ["903", "902", "901"]
    assert text(visit, ".error-text") == "no such instrument: 'XYZ'"
    assert 'File "pricing.py", line 41, in simulate' in text(visit, ".traceback")
    visit.picture("ui-error-details")


def test_the_task_stream_zooms_moves_and_tells_what_is_under_the_pointer(visit: Visit) -> None:
    visit.open("stream")
    visit.wait("document.querySelector('main .note').textContent.startsWith('2,000 tasks on 16 workers')")
    canvas = visit.page.locator("canvas")
    view = "(() => { const s = scaler.page().stream; return [s.span, s.end, s.following]; })()"
    span, end, following = visit.page.evaluate(view)
    assert following
    visit.page.get_by_role("button", name="Show all").click()
    whole, _, _ = visit.page.evaluate(view)
    assert whole > span
    box = canvas.bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40)
    visit.page.mouse.wheel(0, -600)
    visit.wait(f"scaler.page().stream.span < {whole}")
    closer, moved_end, following = visit.page.evaluate(view)
    assert closer < whole
    assert moved_end < end
    assert not following
    canvas.focus()
    visit.page.keyboard.press("ArrowLeft")
    assert visit.page.evaluate(view)[1] == pytest.approx(moved_end - closer / 5)
    visit.page.keyboard.press("+")
    assert visit.page.evaluate(view)[0] == pytest.approx(closer * 0.6)
    visit.page.keyboard.press("0")
    # It grows with the tasks that run.
    assert whole <= visit.page.evaluate(view)[0] < whole + 10
    for step in range(40):
        visit.page.mouse.move(box["x"] + 400 + step * 4, box["y"] + 90)
        if visit.page.locator(".tooltip").is_visible():
            break
    hovered = text(visit, ".tooltip")
    assert "node0" in hovered
    assert "task " in hovered
    assert "succeeded" in hovered or "failed" in hovered
    for colour in ("state", "capability", "client", "function"):
        visit.page.get_by_label("Colour by").select_option(colour)
        visit.wait(f"scaler.page().stream.colourBy === '{colour}'")
    assert FUNCTIONS[0] in text(visit, ".legend")


def test_the_keyboard_reaches_every_page(visit: Visit) -> None:
    visit.open("overview")
    for key, page in zip("1234567890", PAGES[:10], strict=True):
        visit.page.keyboard.press(key)
        visit.wait(f"document.querySelector('nav a[aria-current=page]').hash === '#{page}'")
    visit.page.keyboard.press("?")
    assert visit.page.locator("#help").is_visible()
    visit.page.keyboard.press("Escape")
    theme = "document.documentElement.dataset.theme"
    visit.page.keyboard.press("t")
    assert visit.page.evaluate(theme) == "dark"
    visit.page.reload()
    assert visit.page.evaluate(theme) == "dark"


def test_a_second_viewer_and_a_reload_see_the_same_history(browser: Browser, visit: Visit, stage: Stage) -> None:
    def seen(one: Visit) -> object:
        one.open("overview")
        one.wait("document.getElementById('tile-success').textContent === '18,040'")
        one.wait("scaler.page().charts[0].plot.data[0].length === 120")
        return one.page.evaluate("scaler.page().charts.map(chart => chart.plot.data.map(column => [...column]))")

    first = seen(visit)
    visit.page.reload()
    assert seen(visit) == first
    other = Visit(browser, stage.base)
    assert seen(other) == first
    other.close()


def test_what_tasks_and_errors_say_is_never_markup(browser: Browser) -> None:
    stage = Stage()
    hostile = "<img src=x onerror=alert(1)>"
    try:
        stage.scheduler.publish(
            snapshot(1, functions=(Counter(hostile, 1),)),
            failures(1, 1, functions=(hostile,), workers=(hostile,)),
            events(1, [(UNIX, ALICE, 1, TaskEvent.SUCCESS, hostile, hostile, 9, 0)]),
            log(1, (40, hostile)),
        )
        visit = Visit(browser, stage.base)
        for page in ("overview", "tasks", "errors", "logs", "stream"):
            visit.open(page)
            visit.wait(f"document.body.innerText.includes({hostile!r})")
            assert visit.page.locator("main img").count() == 0
        visit.close()
    finally:
        stage.close()


def test_live_updates_silence_and_a_restarted_scheduler(browser: Browser) -> None:
    with SyntheticScheduler() as first:
        address = first.address
        child = ChildService.start("scaler_ui.web", [address, "--port=0", "--timeout=5"])
        try:
            base = str(child.wait_ready(30)["webui"]).replace("tcp", "http")
            visit = Visit(browser, base)
            visit.open("overview")
            visit.wait("document.getElementById('status-text').textContent.startsWith('waiting for a scheduler')")
            first.wait_for_monitor()
            for count in (10, 11):
                first.publish(snapshot(count, success=count))
                visit.wait(f"document.getElementById('tile-success').textContent === '{count}'")
            visit.wait("document.querySelector('.status.silent')")
            assert "no message from the scheduler for" in text(visit, "#status-text")
            assert text(visit, "#tile-success") == "11"
            first.__exit__()
            with SyntheticScheduler(address) as second:
                second.wait_for_monitor()
                second.publish(snapshot(1, success=3, incarnation=b"2" * 16))
                visit.wait("document.querySelector('.status.live')")
                visit.wait("document.getElementById('tile-success').textContent === '3'")
                assert "the scheduler was restarted once" in text(visit, "#status-text")
            visit.close()
        finally:
            assert child.terminate(40) == 0


def test_five_hundred_workers_and_a_hundred_thousand_bars_are_smooth(browser: Browser) -> None:
    stage = Stage()
    try:
        stage.scheduler.publish(snapshot(1, agents=50, slots=10))
        for part in range(5):
            stage.scheduler.publish(
                finished_tasks(
                    20_000, agents=50, slots=10, seed=part, first_number=1 + 20_000 * part, began=UNIX + 22 * part
                )
            )
        visit = Visit(browser, stage.base)
        visit.open("stream")
        # Taking in what is told of so many tasks needs some seconds of the processor, which others may have.
        visit.wait("document.querySelector('main .note').textContent.startsWith('100,000 tasks on 500 workers')", 150)
        visit.page.get_by_role("button", name="Show all").click()
        visit.page.evaluate(
            """() => new Promise(done => {
                const stream = scaler.page().stream;
                stream.frameTimes.length = 0;
                let left = 60;
                const step = () => {
                    stream.zoom(left % 12 < 6 ? 0.8 : 1.25);
                    left -= 1;
                    left ? requestAnimationFrame(step) : done();
                };
                step();
            })"""
        )
        times = visit.page.evaluate("scaler.frameTimes()")
        print(f"task stream, 100,000 bars: median frame {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
        # Measured 10 to 20 ms without a graphics processor; far above means the drawing changed its nature. In the slower frames
        # others may have had the processor.
        assert statistics.quantiles(times, n=4)[0] < 100
        visit.picture("ui-stream-large")
        visit.open("workers?view=all")
        visit.wait("document.querySelectorAll('table[aria-label=Workers] tbody tr').length === 500")
        # The median: others may have had the processor meanwhile.
        took = statistics.median(
            visit.page.evaluate(
                """Array.from({length: 11}, () => {
                    const begun = performance.now();
                    scaler.page().show();
                    return performance.now() - begun;
                })"""
            )
        )
        print(f"500 workers: {took:.1f} ms for one update")
        assert took < 100
        visit.close()
    finally:
        stage.close()
