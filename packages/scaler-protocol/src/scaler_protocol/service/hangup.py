"""SIGHUP, which asks a service to read files again. Several parts of one process may want to know.

The system sends it also when the terminal of a service is closed. Then the service stops, as everybody expects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_callbacks: list[Callable[[], None]] = []
_is_heeded = False


@contextlib.contextmanager
def heeding_hangup() -> Iterator[None]:
    """While this is entered, in a running event loop, SIGHUP does not end this process. Only in the main thread."""
    global _is_heeded
    if _is_heeded or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = signal.getsignal(signal.SIGHUP)
    # `nohup` has it ignored, so that a service outlives its terminal.
    ends_with_terminal = previous is not signal.SIG_IGN and _has_terminal()
    loop.add_signal_handler(signal.SIGHUP, _on_signal, ends_with_terminal)
    _is_heeded = True
    try:
        yield
    finally:
        _is_heeded = False
        loop.remove_signal_handler(signal.SIGHUP)
        # None: Python cannot restore a handler that was not installed from Python.
        signal.signal(signal.SIGHUP, signal.SIG_DFL if previous is None else previous)


@contextlib.contextmanager
def on_hangup(callback: Callable[[], None]) -> Iterator[None]:
    """Call back in the running event loop whenever SIGHUP comes, while this is entered. Only in the main thread."""
    with heeding_hangup():
        _callbacks.append(callback)
        try:
            yield
        finally:
            _callbacks.remove(callback)


def _on_signal(ends_with_terminal: bool) -> None:
    if ends_with_terminal and not _has_terminal():
        logger.info("SIGHUP: the terminal was closed")
        os.kill(os.getpid(), signal.SIGTERM)
        return
    if not _callbacks:
        logger.info("SIGHUP: this service has nothing to read again")
    for callback in tuple(_callbacks):
        callback()


def _has_terminal() -> bool:
    """Whether this process has a terminal that may send signals to it."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
