"""The flame graph in a real browser: by mouse, by keyboard, by search, as a table, on a phone; axe finds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browser import Visit
from profiled_cluster import ProfiledPages
from test_colours import AA, contrast

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def stage() -> Iterator[ProfiledPages]:
    """Pages over a scheduler that answers requests for profiles: `visit` shows them."""
    stage = ProfiledPages(answered=1)
    yield stage
    stage.close()


def calls(visit: Visit) -> list[str]:
    found: list[str] = visit.page.evaluate(
        "[...document.querySelectorAll('.flame button')].map(one => one.textContent)"
    )
    return found


def show_profile(visit: Visit) -> Page:
    page = visit.open("functions")
    page.get_by_role("button", name="Profile…").click()
    page.get_by_label("Length of the profile").select_option("5")
    page.get_by_role("button", name="Start").click()
    visit.wait("document.querySelectorAll('.flame button').length === 7")
    visit.wait("document.querySelector('.card [role=status]').textContent.startsWith('5 s · 1,000 samples')")
    return page


def test_a_profile_is_a_flame_graph_and_a_table(visit: Visit) -> None:
    page = show_profile(visit)
    told = page.locator(".card [role=status]").inner_text()
    assert "from 4 processors · sampling took 20.0 ms · 1 of 2 worker agents have sent none" in told
    assert calls(visit) == ["all", "price", "other", "slow", "quick", "line 9 of model.py", "line 8 of model.py"]
    widths = page.evaluate("[...document.querySelectorAll('.flame button')].map(one => parseFloat(one.style.width))")
    assert widths == pytest.approx([100, 88.9, 11.1, 66.7, 22.2, 66.7, 22.2], abs=0.1)
    table = page.get_by_role("table", name="Calls")
    assert table.locator("tbody tr").first.inner_text().split("\t") == [
        "slow",
        "model.py:3",
        "3.00 s (66.7 %)",
        "3.00 s (66.7 %)",
    ]
    assert page.locator("a[download]").get_attribute("href") == "/api/profiles/1/collapsed?function="
    assert visit.accessibility_findings() == []
    visit.picture("flame")


def test_zoom_and_find_by_mouse(visit: Visit) -> None:
    page = show_profile(visit)
    page.locator(".flame button", has_text="quick").hover()
    assert "quick · model.py:7 · total 1.00 s (22.2 %) · self 0 s" in page.locator(".flame-told").inner_text()
    page.locator(".flame button", has_text="quick").click()
    assert calls(visit) == ["all", "price", "quick", "line 8 of model.py"]
    page.get_by_role("button", name="Zoom out").click()
    assert len(calls(visit)) == 7
    page.get_by_label("find calls").fill("SLOW")
    found = page.evaluate("[...document.querySelectorAll('.flame button.found')].map(one => one.textContent)")
    assert found == ["slow"]
    page.get_by_label("Function of the task").select_option("other")
    assert calls(visit) == ["all", "other"]
    # Shares are of what is shown now, also in rows that were there before.
    (row,) = page.get_by_role("table", name="Calls").locator("tbody tr").all_inner_texts()
    assert row.split("\t")[-1] == "500 ms (100 %)"
    assert page.locator("a[download]").get_attribute("href").endswith("?function=other")  # type: ignore[union-attr]


def test_keys_go_from_call_to_call(visit: Visit) -> None:
    page = show_profile(visit)
    page.locator(".flame button", has_text="all").focus()
    for key, name in (
        ("ArrowDown", "price"),
        ("ArrowRight", "other"),
        ("ArrowLeft", "price"),
        ("ArrowDown", "slow"),
        ("ArrowRight", "quick"),
        ("ArrowRight", "quick"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == name
    page.keyboard.press("Enter")
    assert calls(visit) == ["all", "price", "quick", "line 8 of model.py"]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("quick, total 1.00 s")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "price"
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.textContent") == "all"


def test_a_link_leads_to_the_same_profile(visit: Visit) -> None:
    page = show_profile(visit)
    page.reload()
    visit.wait("document.querySelectorAll('.flame button').length === 7")
    visit.page.goto(f"{visit.base}/#functions?profile=999")
    page.reload()
    visit.wait("document.querySelector('.card [role=status]')?.textContent === 'This profile is not kept any more.'")
    visit.complaints = [text for text in visit.complaints if "404" not in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_both_themes(browser: Browser, stage: ProfiledPages, scheme: str) -> None:
    visit = Visit(browser, stage.base, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    show_profile(visit)
    assert visit.page.evaluate("document.documentElement.scrollWidth <= 360")
    assert visit.accessibility_findings() == []
    visit.close()


def test_names_can_be_read_on_all_colours(visit: Visit) -> None:
    visit.open("functions")
    palette = visit.page.evaluate("import('/static/format.js').then(module => module.PALETTE)")
    assert min(contrast(colour, "#0b0f14") for colour in [*palette, "#c3cad4"]) >= AA
