"""Pages of the list of objects are asked for while somebody wants them, and each answer goes to who asked."""

from __future__ import annotations

from scaler_protocol.monitoring.topics import ObjectsTopic
from scaler_protocol.wire import messages as m
from scaler_scheduler.object_pages import AGAIN_SECONDS, PAGES_AT_ONCE, ObjectPages

FIRST, SECOND = ObjectsTopic(0, 1), ObjectsTopic(100, 1, True, b"c" * 16, "quotes")


def test_a_page_is_asked_for_at_once_and_then_again_and_again() -> None:
    pages = ObjectPages()
    assert pages.requests([], 0.0) == []
    assert pages.requests([FIRST], 10.0) == [m.ObjectListRequest(1, 0, 1)]
    assert pages.requests([FIRST, SECOND], 10.5) == [m.ObjectListRequest(2, 100, 1, True, b"c" * 16, "quotes")]
    assert pages.requests([FIRST, SECOND], 10.0 + AGAIN_SECONDS) == [m.ObjectListRequest(3, 0, 1)]


def test_answers_go_to_who_asked() -> None:
    pages = ObjectPages()
    pages.requests([FIRST, SECOND], 0.0)
    assert pages.take(m.ObjectList(2)) == SECOND
    assert pages.take(m.ObjectList(2)) is None
    pages.requests([FIRST, SECOND], AGAIN_SECONDS)
    # The first question for it, which was answered too late.
    assert pages.take(m.ObjectList(1)) is None
    assert pages.take(m.ObjectList(3)) == FIRST
    pages.requests([FIRST], 2 * AGAIN_SECONDS)
    assert pages.take(m.ObjectList(4)) is None


def test_there_is_a_bound() -> None:
    pages = ObjectPages()
    assert len(pages.requests([ObjectsTopic(number) for number in range(20)], 0.0)) == PAGES_AT_ONCE
    assert pages.requests([ObjectsTopic(number) for number in range(20)], 0.5) == []
