from __future__ import annotations

from scaler_protocol.runtime.core import Core, Outbox


class Counting:
    """The smallest core there is."""

    def __init__(self) -> None:
        self._outbox = Outbox[int]()

    def handle(self, event: str, now: float) -> None:
        self._outbox.add(len(event))

    def take_effects(self) -> list[int]:
        return self._outbox.take()

    def next_deadline(self) -> float:
        return float("inf")

    def check_invariants(self) -> None:
        return


def test_effects_come_in_the_order_they_were_added_and_once() -> None:
    core: Core[str, int] = Counting()
    for word in ("a", "bcd", "ef"):
        core.handle(word, 0.0)
    assert core.take_effects() == [1, 3, 2]
    assert core.take_effects() == []


def test_what_was_taken_is_not_changed_by_what_comes_later() -> None:
    outbox = Outbox[int]()
    outbox.add(1)
    taken = outbox.take()
    outbox.add(2)
    assert taken == [1]
    assert len(outbox) == 1
