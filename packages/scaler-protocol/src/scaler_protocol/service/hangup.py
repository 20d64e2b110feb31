"""SIGHUP, which asks a service to read files again. Several parts of one process may want to know."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

_callbacks: list[Callable[[], None]] = []


@contextlib.contextmanager
def on_hangup(callback: Callable[[], None]) -> Iterator[None]:
    """Call back in the running event loop whenever SIGHUP comes, while this is entered. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    if not _callbacks:
        loop.add_signal_handler(signal.SIGHUP, _call_back)
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)
        if not _callbacks:
            loop.remove_signal_handler(signal.SIGHUP)


def _call_back() -> None:
    for callback in tuple(_callbacks):
        callback()
