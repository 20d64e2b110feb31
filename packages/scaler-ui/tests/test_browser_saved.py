"""Saved filters: named addresses that the browser keeps, page by page, or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from browser import Visit
from stage import Stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KEY = "saved-filters"
SHOWN = "[...document.querySelectorAll('#saved .saved a')].map(one => one.textContent).join()"


def rows(label: str) -> str:
    return f"document.querySelectorAll('table[aria-label=\"{label}\"] tbody tr').length"


def save(visit: Visit, name: str) -> None:
    """Save what is shown under a name, and leave the dialog."""
    visit.page.get_by_role("button", name="Saved filters").click()
    visit.page.get_by_label("Name for what is shown now").fill(name)
    visit.page.keyboard.press("Enter")
    visit.wait(f"{SHOWN}.split(',').includes({json.dumps(name)})")
    visit.page.keyboard.press("Escape")


def test_a_filter_is_saved_followed_and_forgotten(visit: Visit) -> None:
    page = visit.open("tasks?state=failed&sort=number&range=300")
    visit.wait(f"{rows('Tasks')} > 0")
    # Where the visitor is in the list is no part of it.
    page.locator("table[aria-label=Tasks] tbody tr td a").first.click()
    visit.wait("document.querySelector('#detail').open")
    page.keyboard.press("Escape")
    save(visit, "what failed")
    visit.open("tasks?search=fit_tree")
    visit.wait("document.querySelector('input[type=search]').value === 'fit_tree'")
    save(visit, "<b>trees</b>")
    page.reload()
    visit.open("tasks")
    visit.wait(f"{rows('Tasks')} === 200")
    page.keyboard.press("s")
    visit.wait(f"{SHOWN} === '<b>trees</b>,what failed'")
    assert "shows everything now" in page.locator("#saved").inner_text()
    assert visit.accessibility_findings() == []
    page.get_by_role("link", name="what failed").click()
    # Also its range, though another one is shown here.
    visit.wait(
        "location.hash === '#tasks?state=failed&sort=number&range=300' && !document.querySelector('#saved').open"
    )
    visit.wait(f"{rows('Tasks')} < 200 && document.querySelector('main select').value === 'failed'")
    page.go_back()
    visit.wait(f"location.hash === '#tasks' && {rows('Tasks')} === 200")
    page.go_forward()
    visit.wait("location.hash.includes('state=failed')")
    page.keyboard.press("s")
    assert page.locator("#saved a[aria-current]").inner_text() == "what failed"
    page.get_by_role("button", name="Forget what failed").click()
    visit.wait(f"{SHOWN} === '<b>trees</b>'")
    assert page.locator("#saved [role=status]").inner_text() == "what failed is forgotten."


def test_each_page_has_its_own_and_a_name_is_there_once(visit: Visit) -> None:
    page = visit.open("errors?range=60")
    visit.wait("document.querySelector('h1')?.textContent === 'Errors'")
    save(visit, "now")
    visit.open("functions?range=300")
    visit.wait("document.querySelector('h1')?.textContent === 'Functions'")
    save(visit, "now")
    visit.open("functions?range=900")
    visit.wait("scaler.page().range?.select.value === '900'")
    save(visit, "now")
    kept = json.loads(page.evaluate(f"localStorage.getItem('{KEY}')"))
    assert kept == {
        "errors": [{"name": "now", "query": "range=60"}],
        "functions": [{"name": "now", "query": "range=900"}],
    }


@pytest.mark.parametrize(
    "kept",
    [
        "nonsense",
        "7",
        "null",
        '{"tasks": 7}',
        '{"tasks": [7, null, {"name": 1}, {"name": "a", "query": "state=failed"}]}',
    ],
)
def test_what_else_stands_in_its_place_breaks_nothing(visit: Visit, kept: str) -> None:
    page = visit.open("tasks?state=submitted")
    visit.wait(f"{rows('Tasks')} === 40")
    page.evaluate("([key, kept]) => localStorage.setItem(key, kept)", [KEY, kept])
    save(visit, "b")
    page.get_by_role("button", name="Saved filters").click()
    visit.wait(f"{SHOWN} === '{'a,b' if 'failed' in kept else 'b'}'")


def test_the_list_ends_somewhere(visit: Visit) -> None:
    page = visit.open("tasks?state=submitted")
    visit.wait(f"{rows('Tasks')} === 40")
    many = [{"name": f"number {number}", "query": f"search={number}"} for number in range(40)]
    page.evaluate("([key, kept]) => localStorage.setItem(key, kept)", [KEY, json.dumps({"tasks": many})])
    page.get_by_role("button", name="Saved filters").click()
    page.get_by_label("Name for what is shown now").fill("one more")
    page.get_by_role("button", name="Save", exact=True).click()
    assert page.locator("#saved [role=status]").inner_text() == "30 filters are kept of a page; forget one first."
    assert page.locator("#saved li").count() == 30


@pytest.mark.parametrize("how", ["no storage", "no room"])
def test_where_the_browser_keeps_nothing_the_dialog_says_so(browser: Browser, stage: Stage, how: str) -> None:
    visit = Visit(browser, stage.base, viewport={"width": 390, "height": 844})
    refusal = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied', 'SecurityError'); } });"
        if how == "no storage"
        else "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"
    )
    visit.context.add_init_script(refusal)
    try:
        page = visit.open("tasks?state=failed")
        visit.wait(f"{rows('Tasks')} > 0")
        page.get_by_role("button", name="Saved filters").click()
        if how == "no room":
            page.get_by_label("Name for what is shown now").fill("a")
            page.get_by_role("button", name="Save", exact=True).click()
        visit.wait(
            "document.querySelector('#saved [role=status]').textContent.startsWith('This browser keeps nothing')"
        )
        assert page.locator("#saved li").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert visit.accessibility_findings() == []
        visit.picture(f"saved-{how.replace(' ', '-')}")
        page.keyboard.press("Escape")
        # All else works as before.
        page.keyboard.press("t")
        visit.wait("document.documentElement.dataset.theme === 'dark'")
        assert visit.complaints == []
    finally:
        visit.close()
