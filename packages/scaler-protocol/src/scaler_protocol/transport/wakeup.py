"""Wakes a thread that sleeps in a poll, from any other thread. However often it is called, it sends one byte."""

from __future__ import annotations

import contextlib

from scaler_protocol.transport.closing_socket import closing_pair


class Wakeup:
    """A socket pair; works with every poller and on Windows. `fileno` becomes readable after `set`."""

    def __init__(self) -> None:
        self._reader, self._writer = closing_pair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._unset = [True]
        """`set` empties this list. `clear` makes a new one, so that a late `set` empties no later list."""

    def fileno(self) -> int:
        """Return the descriptor that is readable after `set`."""
        return self._reader.fileno()

    def set(self) -> None:
        """Wake the sleeper; from any thread. A second call before `clear` costs nothing."""
        unset = self._unset
        if not unset:
            return
        # If the socket is full, the sleeper is awake already. If it is closed, nobody sleeps any more.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")
        # Last: if a thread is interrupted before, the next one just sends as well.
        unset.clear()

    def clear(self) -> None:
        """Clear the flag. The sleeper calls this when it wakes, before it looks for work."""
        with contextlib.suppress(OSError):
            self._reader.recv(64)
        self._unset = [True]

    def close(self) -> None:
        """Close both sockets."""
        self._reader.close()
        self._writer.close()
