"""Results of tasks that are inputs of tasks behind them in the same chain: kept here until the last one has read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class SkippedError(Exception):
    """A link of a chain cannot run: the one before it has failed, or was cancelled."""


class ChainResults:
    """By the index of the task whose result it is. On the main thread."""

    __slots__ = ("_kept", "readers")

    def __init__(self) -> None:
        self.readers: dict[int, int] = {}
        """How many inputs of tasks here are the result of the task with this index, which has not ended."""
        self._kept: dict[int, bytes] = {}

    def expect(self, inputs: Iterable[Sequence[bytes | int]]) -> None:
        """Note which results the inputs of some tasks are. An input is a payload, or the index of a task."""
        readers = self.readers
        for sources in inputs:
            for source in sources:
                if type(source) is int:
                    readers[source] = readers.get(source, 0) + 1

    def keep(self, index: int, payload: bytes) -> None:
        """Keep the result of a task that has succeeded."""
        self._kept[index] = payload

    def payloads(self, inputs: Sequence[bytes | int]) -> list[bytes]:
        """Return the payloads of a task's inputs. Raises `SkippedError` where one has not come about."""
        payloads: list[bytes] = []
        for source in inputs:
            if type(source) is bytes:
                payloads.append(source)
                continue
            assert type(source) is int
            payload = self._kept.get(source)
            if payload is None:
                raise SkippedError
            payloads.append(payload)
            self.readers[source] -= 1
            if not self.readers[source]:
                del self.readers[source], self._kept[source]
        return payloads

    def clear(self) -> None:
        """Forget everything: whoever was to read it was taken back."""
        self.readers.clear()
        self._kept.clear()
