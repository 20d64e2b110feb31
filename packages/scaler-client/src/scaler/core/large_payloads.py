"""How many bytes the large payloads of unanswered tasks have: of those that wait here to leave, and of those under way."""

from __future__ import annotations

from collections.abc import Collection


class LargePayloads:
    """Sizes by the numbers of tasks. All is empty, and the object false, while no payload is large."""

    def __init__(self) -> None:
        self.waiting: dict[int, int] = {}
        self.waiting_bytes = 0
        self.under_way: dict[int, int] = {}
        self.under_way_bytes = 0

    def __bool__(self) -> bool:
        return bool(self.under_way or self.waiting)

    def note_waiting(self, number: int, size: int) -> None:
        """A task was taken in that has not left."""
        self.waiting[number] = size
        self.waiting_bytes += size

    def note_left(self, number: int, size: int) -> None:
        """A task has left."""
        self.waiting_bytes -= self.waiting.pop(number, 0)
        self.under_way[number] = size
        self.under_way_bytes += size

    def wait_again(self) -> None:
        """Those that have left leave once more."""
        for number, size in self.under_way.items():
            self.note_waiting(number, size)
        self.under_way.clear()
        self.under_way_bytes = 0

    def forget(self, numbers: Collection[int]) -> None:
        """These tasks have ended. Worth calling only while there are large payloads."""
        for number in numbers:
            self.under_way_bytes -= self.under_way.pop(number, 0)
            self.waiting_bytes -= self.waiting.pop(number, 0)

    def clear(self) -> None:
        """Forget all."""
        self.waiting.clear()
        self.under_way.clear()
        self.waiting_bytes = self.under_way_bytes = 0

    def adds_up(self, numbers: Collection[int]) -> bool:
        """Whether only tasks with these numbers are counted, and the sums are right. For tests and the simulation."""
        return (
            self.waiting.keys() | self.under_way.keys() <= set(numbers)
            and self.waiting.keys().isdisjoint(self.under_way)
            and self.waiting_bytes == sum(self.waiting.values())
            and self.under_way_bytes == sum(self.under_way.values())
        )
