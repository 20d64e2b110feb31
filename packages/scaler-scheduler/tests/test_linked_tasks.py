"""Tasks that have each other's results as arguments, as the scheduler keeps them."""

from __future__ import annotations

from scaler_scheduler.core.graphs import ReleasedRow
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
