"""Tells the processors of a local cluster what `sys.path` of this process is now.

They begin with the path that was in force when their cluster was made. Programs, and notebooks above all, extend `sys.path`
later: a processor that does not find a module asks here before it gives up.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading

from scaler_protocol.service.module_path import program_path
from scaler_protocol.transport.closing_socket import ClosingSocket

_CREDENTIALS = struct.Struct("3i")
"""SO_PEERCRED: pid, uid, gid."""

SEND_SECONDS = 1.0


class PathSource:
    """Answers on a local socket, in a thread of its own, which sleeps until somebody asks."""

    def __init__(self) -> None:
        self.name = f"scaler-path-{os.getpid()}-{os.urandom(8).hex()}"
        """Of the socket, in the kernel's abstract namespace: there is no file, and nothing to clean up."""
        self._owner_pid = os.getpid()
        self._listener = ClosingSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"\0{self.name}")
        self._listener.listen(64)
        threading.Thread(target=_serve, args=(self._listener,), name="scaler-path", daemon=True).start()

    def close(self) -> None:
        """Answer no more. Idempotent."""
        if os.getpid() == self._owner_pid:
            # Wakes the thread; closing alone would not.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _, user, _ = _CREDENTIALS.unpack(credentials)
            if user in (0, os.geteuid()):
                connection.settimeout(SEND_SECONDS)
                connection.sendall(json.dumps(program_path()).encode())
