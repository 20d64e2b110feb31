"""Sockets that close themselves when nobody holds them any more.

An interrupt (Ctrl-C, or an exception that another thread sends) may come right after a socket was made, before anything could
note that it is to be closed. Python then closes it when it is collected, and warns of it in Python code: whatever is raised
meanwhile, CPython discards without a word (`sock_finalize` in Modules/socketmodule.c). So a later interrupt could vanish, and its
program go on as if nobody had pressed Ctrl-C. Where a `__del__` closes it, there is nothing to warn of, and Python says what
it could not raise.
"""

from __future__ import annotations

import socket

_close = socket.SocketType.close
"""Closes the descriptor, also of a socket that was never opened or was closed. `socket.socket.close` needs a whole one."""


class ClosingSocket(socket.socket):
    """A socket that is closed, without a warning, when it is collected."""

    __slots__ = ()

    def __del__(self) -> None:
        _close(self)


def closing_pair() -> tuple[ClosingSocket, ClosingSocket]:
    """Return two sockets that are connected with each other."""
    first, second = socket.socketpair()
    return _adopted(first), _adopted(second)


def _adopted(pair: socket.socket) -> ClosingSocket:
    return ClosingSocket(pair.family, pair.type, pair.proto, pair.detach())
