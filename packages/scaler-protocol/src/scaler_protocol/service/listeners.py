"""Listening sockets that a service gets from the process that starts it, so that its port is known before it runs."""

from __future__ import annotations

import os
import socket

LISTENER_VARIABLE = "SCALER_LISTENER_FD"
"""The environment variable with the descriptor's number."""


def inherited_listener() -> socket.socket | None:
    """Return the listening socket that this process was started with; None if there is none. Only once."""
    number = os.environ.pop(LISTENER_VARIABLE, None)
    if number is None:
        return None
    os.set_inheritable(int(number), False)
    return socket.socket(fileno=int(number))
