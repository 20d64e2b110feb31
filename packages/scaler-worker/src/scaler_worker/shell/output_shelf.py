"""The output of tasks that an agent can show: of the processors that run, and the last of those that have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from scaler_protocol.monitoring.kept_output import KeptPart, write_parts
from scaler_worker.processor.kept_output import KeptBytes, pieces_of

ENDED_PROCESSORS_MAX = 256


class Kept(NamedTuple):
    """What one processor has kept."""

    worker: str
    pid: int
    ended: str
    """How it has ended; empty: it runs."""
    content: KeptBytes


class OutputShelf:
    """Keeps at most `bytes_max` of processors that have ended; the oldest go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._ended: deque[Kept] = deque()

    def keep(self, kept: Kept) -> None:
        """Keep the output of a processor that has ended."""
        self._ended.append(kept)
        self._bytes += len(kept.content.records)
        while self._bytes > self._bytes_max or len(self._ended) > ENDED_PROCESSORS_MAX:
            self._bytes -= len(self._ended.popleft().content.records)

    def find(self, running: Iterable[Kept], number: int, client: bytes) -> bytes:
        """Return what a task has written, as `OutputReply` has it. `running`: of processors that have not ended."""
        parts = []
        for kept in (*self._ended, *running):
            pieces, dropped = pieces_of(kept.content, number, client)
            if pieces:
                parts.append(KeptPart(kept.worker, kept.pid, kept.ended, dropped, tuple(pieces)))
        # Attempts of a task run one after another, wherever.
        parts.sort(key=lambda part: part.pieces[0].at)
        return write_parts(parts)
