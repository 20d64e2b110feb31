"""Tasks that have each other's results as arguments, as the scheduler keeps them."""

from __future__ import annotations

from scaler_protocol.wire.batch_rows import NOTHING_REPORTED
from scaler_scheduler.core.graphs import ReleasedRow, RowResult
from scaler_scheduler.core.linked_tasks import LOOK_AT_MIN, LinkedTasks

CONTENT = ReleasedRow(b"", b"", (), (), 0, 0)


def test_cancelled_dependants_of_a_long_task_are_forgotten() -> None:
    links: LinkedTasks[object, str] = LinkedTasks()
    links.join(1, "shared", CONTENT)
    kept = []
    for number in range(2, 10_000):
        assert not links.add(number, "shared", CONTENT, (1,), wanted=True)
        if number % 1000 == 0:
            kept.append(number)
            continue
        # As a cancelled row whose answer was sent: nobody reads it.
        failed = links.fail(number)
        while not failed.is_over:
            links.fail_more(failed, 100)
        links.wanted[number] = links._readers[number] = 0
        links.forget([number])
    assert len(links.dependents_of(1)) <= 2 * len(kept) + 2 * LOOK_AT_MIN
    assert set(kept) <= set(links.dependents_of(1))
    failed = links.fail(1)
    while not failed.is_over:
        links.fail_more(failed, 100)
    assert links.waiting == 0


def test_what_needs_a_lost_result_and_has_not_begun_waits_for_it() -> None:
    links: LinkedTasks[object, str] = LinkedTasks()
    result = RowResult(b"", (b"object",), NOTHING_REPORTED, 1)
    links.revive(1, result, "shared", ["agent"])
    links.revive(2, result, "shared", ["agent"])
    assert links.add(3, "shared", CONTENT, (1, 2), wanted=True)
    assert list(links.dependents_of(1)) == [3]
    links.lose_stand_in(1)
    assert links.is_behind(3)
    assert links.take_back(3, 0, 0)
    released, _ = links.complete(1, result, "agent", 0)
    assert released == [3]
    assert not links.is_behind(3)
