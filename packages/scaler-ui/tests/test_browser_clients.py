"""Who uses the cluster: one look at the page Clients answers it."""

from __future__ import annotations

from browser import Visit
from stage import Stage

USE = "[...document.querySelectorAll('table[aria-label=Use] tbody tr')]"


def test_who_uses_most_comes_first(stage: Stage, visit: Visit) -> None:
    page = visit.open("clients")
    visit.wait(f"{USE}.length === 2")
    first = page.locator("table[aria-label=Use] tbody tr").first
    assert first.locator("td[data-label=client]").inner_text() == "alice"
    # Nine of twelve core seconds in each second, since the first snapshot came.
    assert first.locator("td[data-label='core seconds']").inner_text() == "1,071"
    assert first.locator("td[data-label='of all use']").inner_text() == "75.0 %"
    assert first.locator("td[data-label='workers in use']").inner_text() == "12"
    assert first.locator("td[data-label='objects held']").inner_text() == "3.0 MiB"
    note = page.locator(".card p.note").first.inner_text()
    assert note == "1,428 core seconds used in all; 16 workers could have given 1,904."
    page.get_by_label("Time range").select_option("60")
    visit.wait(f"location.hash === '#clients?range=60' && {USE}[0].textContent.includes('alice')")
    visit.wait("Number(document.querySelector('td[data-label=\"core seconds\"]').textContent) < 700")
    assert not visit.accessibility_findings()
    visit.picture("ui-clients")


def test_who_has_left_stays_in_the_list(stage: Stage, visit: Visit) -> None:
    visit.open("clients")
    visit.wait(f"{USE}.length === 2")
    alice, bob = stage.snapshot().clients
    stage.scheduler.publish(stage.snapshot(clients=(alice,)))
    visit.wait(f"{USE}.length === 2 && {USE}[1].textContent.startsWith('bob left')")
    assert visit.page.locator("table[aria-label=Clients] tbody tr").count() == 1
    stage.scheduler.publish(stage.snapshot(clients=(alice, bob)))
    visit.wait(f"!{USE}[1].textContent.includes('left')")
