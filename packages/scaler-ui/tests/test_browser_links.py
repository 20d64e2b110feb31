"""What is shown is in the address: links, Back, reload; and pages say what they do not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from browser import Visit
from stage import PAGES, Stage
from synthetic_cluster import ALICE, FUNCTIONS, SyntheticScheduler, snapshot

from scaler_protocol.service.child import ChildService

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def rows(label: str) -> str:
    return f"document.querySelectorAll('table[aria-label=\"{label}\"] tbody tr').length"


def test_filter_and_order_are_in_the_address_and_back_restores_them(visit: Visit) -> None:
    page = visit.open("tasks")
    visit.wait(f"{rows('Tasks')} === 200")
    page.get_by_label("State").select_option("submitted")
    visit.wait(f"{rows('Tasks')} === 40 && location.hash === '#tasks?state=submitted'")
    page.locator("input[type=search]").fill("fit_tree")
    visit.wait(f"{rows('Tasks')} === 8 && location.hash.includes('search=fit_tree')")
    page.reload()
    visit.wait(f"{rows('Tasks')} === 8")
    assert page.locator("input[type=search]").input_value() == "fit_tree"
    page.go_back()
    visit.wait(f"{rows('Tasks')} === 200")
    assert page.get_by_label("State").input_value() == ""
    page.get_by_role("button", name="Next page").click()
    visit.wait("location.hash.startsWith('#tasks?after=')")
    visit.wait("document.querySelector('main .note').textContent.endsWith('201 to 400')")
    page.go_back()
    visit.wait("document.querySelector('main .note').textContent.endsWith(', 1 to 200')")


def test_the_filter_stays_while_a_task_is_open(visit: Visit) -> None:
    page = visit.open("tasks?state=failed")
    visit.wait(f"{rows('Tasks')} > 0 && document.querySelectorAll('.chip.failed').length === {rows('Tasks')}")
    page.locator("table[aria-label=Tasks] tbody tr td a").first.click()
    visit.wait("document.querySelector('#detail').open && location.hash.startsWith('#tasks?state=failed&show=')")
    page.keyboard.press("Escape")
    visit.wait("!document.querySelector('#detail').open && location.hash === '#tasks?state=failed'")
    assert page.get_by_label("State").input_value() == "failed"


def test_the_order_of_a_table_survives_a_reload(visit: Visit) -> None:
    page = visit.open("workers?view=all")
    visit.wait(f"{rows('Workers')} === 16")
    page.get_by_role("button", name="memory", exact=True).click()
    assert page.evaluate("location.hash") == "#workers?view=all&sort=-rss_bytes"
    page.reload()
    visit.wait(f"{rows('Workers')} === 16")
    assert page.locator("th[data-key=rss_bytes]").first.get_attribute("aria-sort") == "descending"
    page.go_back()
    visit.wait("document.querySelector('th[data-key=name]').getAttribute('aria-sort') === 'ascending'")


def test_the_time_range_is_in_the_address(visit: Visit) -> None:
    page = visit.open("overview")
    visit.wait("scaler.page().charts?.length === 6")
    page.get_by_label("Time range").select_option("60")
    assert page.evaluate("location.hash") == "#overview?range=60"
    visit.wait("(([low, high]) => high - low === 60)(scaler.page().charts[0].range())")
    page.go_back()
    visit.wait("(([low, high]) => high - low === 119)(scaler.page().charts[0].range())")
    assert page.get_by_label("Time range").input_value() == ""


def test_the_time_range_goes_along_from_page_to_page(visit: Visit) -> None:
    page = visit.open("overview")
    visit.wait("document.querySelector('.range .known').textContent === '1 min are kept'")
    page.get_by_label("Time range").select_option("300")
    visit.wait("document.querySelector('.range .known').textContent === 'only the last 1 min are known'")
    for name in ("Functions", "Workers", "Task stream", "Errors", "Objects", "Scaling", "Scheduler"):
        page.locator("#navigation").get_by_role("link", name=name).click()
        visit.wait("location.hash.endsWith('?range=300')")
        visit.wait(f"document.querySelector('main h1').textContent === '{name}'")
        assert page.get_by_label("Time range").input_value() == "300"
        assert page.locator("#navigation [aria-current=page]").inner_text().startswith(name)
    page.go_back()
    visit.wait("location.hash === '#scaling?range=300'")
    page.get_by_label("Time range").select_option("60")
    page.keyboard.press("Escape")
    page.locator("main h1").click()
    page.keyboard.press("1")
    visit.wait("location.hash === '#overview?range=60'")
    page.go_back()
    page.go_back()
    visit.wait("location.hash === '#scaling?range=300'")
    assert page.get_by_label("Time range").input_value() == "300"


def test_pages_show_what_is_in_the_range(visit: Visit) -> None:
    page = visit.open("errors?range=60")
    visit.wait("document.querySelector('main .empty').textContent === 'no task has failed in the last 1 min'")
    page.get_by_label("Time range").select_option("300")
    visit.wait(f"{rows('Errors')} === 1")
    page.locator("#navigation").get_by_role("link", name="Task stream").click()
    visit.wait("scaler.page().stream?.bars.length === 2000")
    page.get_by_label("Time range").select_option("60")
    visit.wait("scaler.page().stream.span === 60")
    page.get_by_role("button", name="Zoom in").click()
    visit.wait("scaler.page().stream.span === 30")
    page.get_by_role("button", name="Show all").click()
    visit.wait("scaler.page().stream.span === 60")
    page.locator("#navigation").get_by_role("link", name="Workers").click()
    page.get_by_role("button", name="node00.example.org, workers").click()
    visit.wait("document.querySelector('.trend').getAttribute('viewBox') === '0 0 5 20'")
    page.locator("#navigation").get_by_role("link", name="Functions").click()
    visit.wait("document.querySelector('main p.note').textContent.startsWith('Tasks that ended in the last 1 min.')")
    ended = "document.querySelector('table[aria-label=Functions] td[data-label=ended]').textContent.replace(',', '')"
    visit.wait(f"Number({ended}) > 0 && Number({ended}) < 995")


def test_names_lead_to_what_they_name(visit: Visit) -> None:
    page = visit.open("overview")
    page.locator("a.tile.waiting").click()
    visit.wait(f"location.hash === '#tasks?state=submitted' && {rows('Tasks')} === 40")
    page.locator("table[aria-label=Tasks] tbody tr a", has_text=FUNCTIONS[0]).first.click()
    visit.wait(f"document.querySelector('#detail').open && location.hash === '#functions?show={FUNCTIONS[0]}'")
    page.get_by_role("link", name="its tasks").click()
    visit.wait(f"location.hash === '#tasks?function={FUNCTIONS[0]}' && !document.querySelector('#detail').open")
    visit.wait("document.querySelector('main .note').textContent.startsWith('995 of')")
    page.get_by_role("button", name=f"Show not only {FUNCTIONS[0]}").click()
    visit.wait("location.hash === '#tasks'")
    page.locator("table[aria-label=Tasks] tbody tr a", has_text="alice").first.click()
    visit.wait("document.querySelector('#detail-title').textContent === 'Client alice'")
    page.get_by_role("link", name="its failed tasks").click()
    visit.wait(f"location.hash === '#tasks?client={ALICE.hex()}&state=failed' && {rows('Tasks')} > 3")
    page.locator("table[aria-label=Tasks] tbody tr a", has_text="node0").first.click()
    visit.wait("document.querySelector('#detail-title').textContent.startsWith('Worker node0')")
    page.go_back()
    visit.wait("location.hash.startsWith('#tasks?client') && !document.querySelector('#detail').open")


def test_functions_lead_to_their_tasks(visit: Visit) -> None:
    page = visit.open("functions")
    visit.wait(f"{rows('Functions')} === 5")
    page.locator("table[aria-label=Functions] a", has_text=FUNCTIONS[3]).first.click()
    visit.wait(f"location.hash === '#tasks?function={FUNCTIONS[3]}'")
    names = "[...document.querySelectorAll('table[aria-label=Tasks] tbody td:nth-child(2)')].map(e => e.textContent)"
    visit.wait(f"{names}.length > 100 && {names}.every(name => name === '{FUNCTIONS[3]}')")


def test_what_is_open_can_be_passed_on_and_is_closed_by_escape(browser: Browser, visit: Visit, stage: Stage) -> None:
    page = visit.open("errors")
    page.locator("table[aria-label=Errors] tbody tr").first.click()
    visit.wait("document.querySelector('#detail').open")
    passed_on = page.evaluate("location.hash.slice(1)")
    assert passed_on == "errors?show=1"
    page.keyboard.press("Escape")
    visit.wait("location.hash === '#errors'")
    for link, heading in (
        (passed_on, "ValueError in pricing.simulate"),
        (f"tasks?show={ALICE.hex()}/901", "Task 901: "),
        ("workers?show=node02/node02-1", "Worker node02-1"),
        ("workers?show=node99/node99-1", "Worker node99-1"),
        (f"clients?show={ALICE.hex()}", "Client alice"),
        ("functions?show=unheard.of", "unheard.of"),
        ("errors?show=77", "Error"),
    ):
        other = Visit(browser, stage.base)
        other.open(link)
        other.wait("document.querySelector('#detail').open")
        other.wait(f"document.querySelector('#detail-title').textContent.startsWith('{heading}')")
        other.complaints = [text for text in other.complaints if "404" not in text]
        other.close()


def test_an_unknown_page_says_so(visit: Visit) -> None:
    page = visit.open("wrokers?sort=name")
    visit.wait("document.querySelector('h1').textContent === 'There is no such page'")
    assert "wrokers" in page.locator("main").inner_text()
    page.get_by_role("link", name="Go to the overview").click()
    visit.wait("document.querySelector('h1').textContent === 'Overview'")


def test_loading_waiting_silent_and_lost_look_different(browser: Browser) -> None:
    colour = "getComputedStyle(document.querySelector('#tile-success')).color"
    with SyntheticScheduler() as scheduler:
        child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", "--timeout=5"])
        visit = Visit(browser, str(child.wait_ready(30)["webui"]).replace("tcp", "http"))
        page = visit.open("overview")
        visit.wait("document.body.dataset.connection === 'waiting'")
        assert "No scheduler has answered" in page.locator("#notice").inner_text()
        visit.wait("document.querySelector('main .empty.loading')")
        scheduler.wait_for_monitor()
        scheduler.publish(snapshot(1, success=7), snapshot(2, success=7), snapshot(90, success=7))
        visit.wait("document.body.dataset.connection === 'live' && !document.querySelector('main .empty.loading')")
        assert not page.locator("#notice").is_visible()
        live = page.evaluate(colour)
        # A gap in the figures is a gap in the lines.
        visit.wait("scaler.page().charts[2].plot.data[1].includes(null)")
        assert page.evaluate("scaler.page().charts[2].plot.data[1]") == [120, 120, None, 120]
        visit.wait("document.body.dataset.connection === 'silent'")
        assert page.evaluate(colour) != live
        assert "Old figures" in page.locator("#notice").inner_text()
        visit.picture("ui-silent")
        assert child.terminate(40) == 0
        visit.wait("document.body.dataset.connection === 'lost'")
        assert "lost its connection" in page.locator("#notice").inner_text()
        # The browser reports each attempt to connect again.
        visit.complaints = [text for text in visit.complaints if "ERR_" not in text]
        visit.close()


def test_every_page_opens_by_its_link(visit: Visit) -> None:
    for page in PAGES:
        visit.open(page)
        visit.wait(f"document.querySelector('nav a[aria-current=page]')?.hash === '#{page}'")


def test_eight_tabs_share_one_stream(browser: Browser) -> None:
    stage = Stage()
    try:
        stage.scheduler.publish(snapshot(1, success=1))
        visit = Visit(browser, stage.base)
        tabs = [visit.page, *(visit.context.new_page() for _ in range(7))]
        for tab in tabs:
            tab.goto(f"{stage.base}/#overview")
        for success in (2, 3):
            stage.scheduler.publish(snapshot(success, success=success))
            for tab in tabs:
                tab.bring_to_front()
                tab.locator("#tile-success", has_text=str(success)).wait_for(timeout=40_000)
        # Each can still ask for other pages.
        for tab, page in zip(tabs, PAGES, strict=False):
            tab.bring_to_front()
            tab.goto(f"{stage.base}/#{page}")
            tab.locator(f"nav a[aria-current=page][href='#{page}']").wait_for(timeout=40_000)
        tabs[0].close()
        stage.scheduler.publish(snapshot(4, success=4))
        tabs[1].goto(f"{stage.base}/#overview")
        tabs[1].bring_to_front()
        tabs[1].locator("#tile-success", has_text="4").wait_for(timeout=40_000)
        visit.close()
    finally:
        stage.close()


def test_a_browser_without_shared_workers_asks_by_itself(browser: Browser, stage: Stage) -> None:
    visit = Visit(browser, stage.base)
    visit.page.add_init_script("delete window.SharedWorker")
    visit.open("overview")
    visit.wait("document.getElementById('tile-success').textContent === '18,040'")
    assert visit.page.evaluate("typeof SharedWorker") == "undefined"
    visit.close()
