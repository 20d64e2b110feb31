"""How a service reports to the process that started it that it is ready, is stopping, and is alive.

There may be two listeners, which the environment names:

- a parent process of Scaler (`service.child`) reads lines from the pipe `SCALER_READY_FD`, each a JSON object with one key:
  `status` (what it waits for now), `started` (it needs nothing more of its own machine), `failed` (why it ends), and last
  `ready`, with the bound addresses, so that a parent that asked for port 0 learns the port;
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
"""Most characters of a failure's text for the parent; the end of the text is kept. An unread pipe holds several of these."""

logger = logging.getLogger(__name__)


class Readiness:
    """Reports the state of one service process. Reports never raise, because a broken listener must not stop a service."""

    _of_process: ClassVar[Readiness | None] = None
    """The listeners that this process found in its environment."""

    def __init__(self, ready_fd: int | None = None, notify_socket: str | None = None, watchdog_s: float | None = None):
        self._ready_fd = ready_fd
        self._notify_socket = notify_socket
        self.watchdog_s = watchdog_s
        """systemd's time limit between two signs of life, in seconds; None without a watchdog."""

    @classmethod
    def from_environment(cls) -> Readiness:
        """Find the listeners of this process, and remove their variables from the environment.

        Otherwise child processes would inherit them and report in the name of this process.
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
        """Return the listeners of this process; read the environment first if it names new ones."""
        if cls._of_process is None or READY_FD_VARIABLE in os.environ:
            return cls.from_environment()
        return cls._of_process

    def ready(self, addresses: Mapping[str, object] | None = None) -> None:
        """Report once that this service answers on these addresses, given by role: `{"scheduler": address, …}`."""
        texts = {role: str(address) for role, address in (addresses or {}).items()}
        self._tell_parent("ready", texts)
        if self._ready_fd is not None:
            ready_fd, self._ready_fd = self._ready_fd, None
            os.close(ready_fd)
        self._notify("READY=1\nSTATUS=" + ", ".join(f"{role} on {text}" for role, text in texts.items()))

    def started(self) -> None:
        """Report that all parts of this service run that need no other service. It may still wait for others."""
        self._tell_parent("started", True)

    def status(self, text: str) -> None:
        """Report what the service waits for before it is ready."""
        self._tell_parent("status", text)
        self._notify(f"STATUS={text}")

    def failed(self, text: str) -> None:
        """Report why the service ends. If it was not ready yet, its parent gets the last lines."""
        lines = text.strip().splitlines()[-REASON_LINES_MAX:]
        self._tell_parent("failed", "\n".join(lines)[-REASON_CHARACTERS_MAX:])

    def stopping(self) -> None:
        """Report that an orderly stop has begun."""
        self._notify("STOPPING=1")

    def alive(self) -> None:
        """Send systemd's watchdog a sign of life. Call it from the loop that would hang if the service hung."""
        self._notify("WATCHDOG=1")

    async def keep_alive(self) -> None:
        """Send signs of life from the running event loop until cancelled; return at once without a watchdog."""
        import asyncio

        while self.watchdog_s is not None:
            self.alive()
            # sd_watchdog_enabled(3) recommends half the limit. With a third of it, one may be late.
            await asyncio.sleep(self.watchdog_s / 3)

    def _tell_parent(self, kind: str, value: object) -> None:
        if self._ready_fd is None:
            return
        try:
            os.write(self._ready_fd, json.dumps({kind: value}).encode() + b"\n")
        except BrokenPipeError:
            # The parent has ended, or stops this process before it was ready: nobody wants to know.
            return
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
    """Handle an exception that ends the process: print it on stderr as always, and report it to the parent."""
    Readiness.of_process().failed("".join(traceback.format_exception(kind, error, frames)))
    sys.__excepthook__(kind, error, frames)
