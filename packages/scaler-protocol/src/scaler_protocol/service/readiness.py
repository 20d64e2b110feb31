"""How a service tells whoever started it that it is ready, is stopping, and is still alive.

Two listeners, each optional and found in the environment:

- a parent process of ours (`service.child`) reads lines from the pipe `SCALER_READY_FD`, each a JSON object with one key:
  `status` (what it waits for now), `started` (it needs nothing more of its own machine), `failed` (why it ends), and last
  `ready`, with the addresses really bound, so that a parent can ask for port 0 and learn which port came of it;
- systemd reads datagrams from `NOTIFY_SOCKET` (see sd_notify(3)) and restarts a service that misses its watchdog.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import ClassVar

READY_FD_VARIABLE = "SCALER_READY_FD"

REASON_LINES_MAX = 20
REASON_CHARACTERS_MAX = 2_000
"""Of what a service says of its failure, so much of the end goes to the parent: a pipe nobody reads takes several of these."""

logger = logging.getLogger(__name__)


class Readiness:
    """Reports the life of one service process. Reports never raise: a deaf listener must not stop a service."""

    _of_process: ClassVar[Readiness | None] = None
    """What this process found in its environment."""

    def __init__(self, ready_fd: int | None = None, notify_socket: str | None = None, watchdog_s: float | None = None):
        self._ready_fd = ready_fd
        self._notify_socket = notify_socket
        self.watchdog_s = watchdog_s
        """systemd's time limit between two signs of life, in seconds; None when nobody watches."""

    @classmethod
    def from_environment(cls) -> Readiness:
        """Finds the listeners of this process, and takes their variables out of the environment.

        Children inherit the environment; with these variables they would report in the name of this process.
        """
        ready_fd = os.environ.pop(READY_FD_VARIABLE, None)
        notify_socket = os.environ.pop("NOTIFY_SOCKET", None)
        watchdog_us = os.environ.pop("WATCHDOG_USEC", None)
        watchdog_pid = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        watched = watchdog_us is not None and watchdog_us.isdecimal() and watchdog_pid == str(os.getpid())
        if ready_fd is not None:
            os.set_inheritable(int(ready_fd), False)
            sys.excepthook = _tell_parent_and_print
        found = cls(
            ready_fd=None if ready_fd is None else int(ready_fd),
            notify_socket=notify_socket,
            watchdog_s=int(watchdog_us) / 1e6 if watched and watchdog_us is not None else None,
        )
        cls._of_process = found
        return found

    @classmethod
    def of_process(cls) -> Readiness:
        """Return what this process found in its environment; look there first where something new is."""
        if cls._of_process is None or READY_FD_VARIABLE in os.environ:
            return cls.from_environment()
        return cls._of_process

    def ready(self, addresses: Mapping[str, object] | None = None) -> None:
        """Says, once, that this service answers on these addresses, given by role: `{"scheduler": address, …}`."""
        texts = {role: str(address) for role, address in (addresses or {}).items()}
        self._tell_parent("ready", texts)
        if self._ready_fd is not None:
            ready_fd, self._ready_fd = self._ready_fd, None
            os.close(ready_fd)
        self._notify("READY=1\nSTATUS=" + ", ".join(f"{role} on {text}" for role, text in texts.items()))

    def started(self) -> None:
        """Says that everything of this service runs that does not need another one; it may still wait for others."""
        self._tell_parent("started", True)

    def status(self, text: str) -> None:
        """Says what the service waits for before it is ready."""
        self._tell_parent("status", text)
        self._notify(f"STATUS={text}")

    def failed(self, text: str) -> None:
        """Says why the service is about to end; before it was ready, its parent hears the last lines."""
        lines = text.strip().splitlines()[-REASON_LINES_MAX:]
        self._tell_parent("failed", "\n".join(lines)[-REASON_CHARACTERS_MAX:])

    def stopping(self) -> None:
        """Says that a graceful end has begun."""
        self._notify("STOPPING=1")

    def alive(self) -> None:
        """Gives systemd's watchdog its sign of life. Call it from the loop that would hang if the service hung."""
        self._notify("WATCHDOG=1")

    async def keep_alive(self) -> None:
        """Gives signs of life from the running event loop until cancelled; returns at once when nobody watches."""
        import asyncio

        while self.watchdog_s is not None:
            self.alive()
            # sd_watchdog_enabled(3) recommends half the limit; a third leaves room for one that comes late.
            await asyncio.sleep(self.watchdog_s / 3)

    def _tell_parent(self, kind: str, value: object) -> None:
        if self._ready_fd is None:
            return
        try:
            os.write(self._ready_fd, json.dumps({kind: value}).encode() + b"\n")
        except OSError as error:
            logger.warning("cannot report to the parent process: %s", error)

    def _notify(self, state: str) -> None:
        if not self._notify_socket:
            return
        import socket

        # A leading @ is systemd's spelling of Linux' abstract socket namespace.
        path = "\0" + self._notify_socket[1:] if self._notify_socket.startswith("@") else self._notify_socket
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.setblocking(False)
                notify.sendto(state.encode(), path)
        except OSError as error:
            logger.warning("cannot notify the service manager: %s", error)


def _tell_parent_and_print(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    """An exception that ends the process: on stderr as always, where a notebook does not show it, and to the parent."""
    Readiness.of_process().failed("".join(traceback.format_exception(kind, error, frames)))
    sys.__excepthook__(kind, error, frames)
