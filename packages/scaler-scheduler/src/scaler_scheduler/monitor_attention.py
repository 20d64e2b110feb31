"""Attends to the connections of monitors when they have sent something, but with pauses, because they may send all the time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from scaler_protocol.transport.publisher import PAUSE_SECONDS, Publisher

if TYPE_CHECKING:
    from scaler_protocol.service.reactor import Reactor


class MonitorAttention:
    """Lasts until `close`."""

    def __init__(self, publisher: Publisher, reactor: Reactor) -> None:
        self._publisher = publisher
        self._reactor = reactor
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._attend()

    def close(self) -> None:
        """Before the publisher is closed."""
        self._reactor.remove_reader(self._publisher.fd)
        if self._pause is not None:
            self._pause.cancel()

    def _attend(self) -> None:
        self._reactor.add_reader(self._publisher.fd, self._on_readable)

    def _on_readable(self) -> None:
        self._reactor.remove_reader(self._publisher.fd)
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._attend)
        self._publisher.update_subscribers()
