"""To which processor a connection at a local socket belongs, as far as the kernel can tell."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable

_CREDENTIALS = struct.Struct("=iII")
"""Process, user, group."""

NO_PROCESSOR = 0


def processor_of(connected: socket.socket, is_processor: Callable[[int], bool]) -> int:
    """Return the process id of the processor that has connected, or in whose process group who has connected is.

    `NO_PROCESSOR` for processes that have left the group of theirs, or have ended. A task can do so to get another share than
    its processor's, but all that do have one share together.
    """
    pid, _, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        group = os.getpgid(pid)
    except OSError:
        return NO_PROCESSOR
    return group if is_processor(group) else NO_PROCESSOR
