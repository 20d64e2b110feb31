"""Wake a thread that sleeps in a poll, from any other thread, at the cost of one byte however often it is asked."""

from __future__ import annotations

import contextlib
import socket


class Wakeup:
    """A socket pair; works with every poller and on Windows. `fileno` becomes readable after `set`."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._unset = [True]
        """Emptied by whoever has set it. A new one for each time, so that a late one empties none of a later time."""

    def fileno(self) -> int:
        """Return the descriptor that is readable after `set`."""
        return self._reader.fileno()

    def set(self) -> None:
        """Wake the sleeper; from any thread. A second call before `clear` costs nothing."""
        unset = self._unset
        if not unset:
            return
        # Full means it is awake already; closed means nobody sleeps any more.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")
        # Last: whoever is interrupted before has only made the next one send as well.
        unset.clear()

    def clear(self) -> None:
        """Called by the sleeper when it is awake, before it looks at what there is to do."""
        with contextlib.suppress(OSError):
            self._reader.recv(64)
        self._unset = [True]

    def close(self) -> None:
        """Close both sockets."""
        self._reader.close()
        self._writer.close()
