"""Objects beyond the largest: pages, order, owners, names."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from browser import Visit
from stage import Stage
from synthetic_cluster import ALICE, BOB

from scaler_protocol.wire.messages import StoredObjectStatus

OBJECTS = [
    StoredObjectStatus(
        b"%04d" % number, ALICE if number % 2 else BOB, f"object {number:03}", 1024 * (250 - number), 5.0, "memory"
    )
    for number in range(250)
]
ROWS = "table[aria-label='All objects'] tbody tr"
NAMES = f'[...document.querySelectorAll("{ROWS} td:first-child")].map(cell => cell.textContent)'


@pytest.fixture
def full(stage: Stage) -> Iterator[Stage]:
    """The cluster with 250 objects, which object storage lists for whoever asks."""
    stage.scheduler.publish(stage.snapshot(objects=tuple(OBJECTS[:100]), object_count=250))
    ended = threading.Event()

    def answer() -> None:
        number = 0
        while not ended.wait(0.05):
            number += 1
            stage.scheduler.answer_objects(OBJECTS, number)

    thread = threading.Thread(target=answer, name="object storage")
    thread.start()
    yield stage
    ended.set()
    thread.join()


def test_all_objects_are_reached(full: Stage, visit: Visit) -> None:
    page = visit.open("objects")
    visit.wait(f"{NAMES}.length === 100 && {NAMES}[0] === 'object 000'")
    visit.wait("document.querySelector('main .row .note').textContent === '1 to 100 of 250 objects'")
    page.get_by_role("button", name="Next page").click()
    visit.wait(f"location.hash === '#objects?from=100' && {NAMES}[0] === 'object 100'")
    page.get_by_role("button", name="Next page").click()
    visit.wait(f"{NAMES}.length === 50 && {NAMES}[0] === 'object 200'")
    assert page.get_by_role("button", name="Next page").is_disabled()
    visit.wait("document.querySelector('main .row .note').textContent === '201 to 250 of 250 objects'")
    page.go_back()
    visit.wait(f"location.hash === '#objects?from=100' && {NAMES}[0] === 'object 100'")
    page.locator("table[aria-label='All objects'] th[data-key=size_bytes] button").click()
    visit.wait(f"location.hash === '#objects?sort=size_bytes' && {NAMES}[0] === 'object 249'")
    assert page.locator("th[data-key=tasks] button").count() == 0
    assert not visit.accessibility_findings()


def test_objects_are_found_by_name_and_owner(full: Stage, visit: Visit) -> None:
    page = visit.open("objects")
    page.get_by_label("search names").fill("object 24")
    visit.wait(f"location.hash === '#objects?search=object+24' && {NAMES}.length === 10")
    visit.wait("document.querySelector('main .row .note').textContent === '1 to 10 of 10 of 250 objects'")
    page.goto(f"{visit.base}/#clients?show={ALICE.hex()}")
    page.get_by_role("link", name="its objects").click()
    visit.wait(f"location.hash === '#objects?owner={ALICE.hex()}' && {NAMES}[0] === 'object 001'")
    page.get_by_role("button", name="only alice").click()
    visit.wait(f"location.hash === '#objects' && {NAMES}[0] === 'object 000'")
