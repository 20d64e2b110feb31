"""`epoll`, and a substitute with `select` for systems without it."""

from __future__ import annotations

import select
import time

if hasattr(select, "epoll"):
    Epoll = select.epoll
    IN, OUT = select.EPOLLIN, select.EPOLLOUT
else:
    IN, OUT = 1, 4

    class Epoll:  # type: ignore[no-redef]
        """For a few sockets, as in tests of applications. It has no descriptor that stands for all of them."""

        def __init__(self) -> None:
            self._events: dict[int, int] = {}

        def register(self, fd: int, events: int) -> None:
            """Watch a descriptor for these events."""
            self._events[fd] = events

        def modify(self, fd: int, events: int) -> None:
            """Change the events that a descriptor is watched for."""
            self._events[fd] = events

        def unregister(self, fd: int) -> None:
            """Stop watching a descriptor."""
            del self._events[fd]

        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
            """Return at most `maxevents` of (descriptor, events) after up to `timeout` seconds."""
            readers = list(self._events)
            writers = [fd for fd, events in self._events.items() if events & OUT]
            if not readers:
                # Windows refuses to select among nothing.
                time.sleep(timeout)
                return []
            readable, writable, failed = select.select(readers, writers, writers, timeout)
            found = dict.fromkeys((*readable, *failed), IN)
            for fd in writable:
                found[fd] = found.get(fd, 0) | OUT
            return list(found.items())[:maxevents]

        def fileno(self) -> int:
            """Raise OSError: there is no descriptor that stands for all watched ones."""
            raise OSError("this system has no epoll: use wait")

        def close(self) -> None:
            """Watch nothing any more."""
            self._events.clear()
