"""Many descriptors behind one: what is ready at the same moment is read in one go, so that one turn can handle all of it.

With a reader of its own each, an event loop would call them one by one, and a turn for all would cost a further pass
through the loop, on the way of every single task.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

READY_MAX = 1024


class ReadHub:
    """Calls `on_readable` when any descriptor is ready; that calls `read_ready`."""

    def __init__(self, on_readable: Callable[[], None]) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), on_readable)

    def add(self, descriptor: int, read: Callable[[], None]) -> None:
        self._readers[descriptor] = read
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Forget a descriptor, before it is closed. One that is not known is ignored."""
        if self._readers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def read_ready(self, seconds: float = 0.0) -> bool:
        """Call the readers of everything that is ready now, or becomes so within `seconds`. Returns whether any is."""
        ready = self._epoll.poll(seconds, READY_MAX)
        for descriptor, _ in ready:
            read = self._readers.get(descriptor)
            # One reader may remove another.
            if read is not None:
                read()
        return bool(ready)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
