"""Which results of another user's processors an agent copies at once: copies are in its own memory, which no fence counts."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

COPIED_BYTES_MAX = 512 * 1024 * 1024
"""Bytes of results that are copied and not stored yet. A larger one is copied alone."""


class CopyTurns:
    """Clients take turns, so that one whose tasks have many large results does not keep those of others waiting for long."""

    def __init__(self, bytes_max: int = COPIED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._waiting: OrderedDict[bytes, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()
        """By client; the first one is next."""

    async def take(self, client: bytes, size: int) -> None:
        """Wait until `size` bytes may be copied for a client. Who has waited gives them back with `give_back`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append((size, turn))
        self._settle()
        await turn

    def give_back(self, size: int) -> None:
        """A copy of so many bytes is gone."""
        self._bytes -= size
        self._settle()

    def _settle(self) -> None:
        while self._waiting:
            client, queue = next(iter(self._waiting.items()))
            size, turn = queue[0]
            if self._bytes and self._bytes + size > self._bytes_max:
                return
            queue.popleft()
            del self._waiting[client]
            if queue:
                # At the end.
                self._waiting[client] = queue
            if not turn.cancelled():
                self._bytes += size
                turn.set_result(None)
