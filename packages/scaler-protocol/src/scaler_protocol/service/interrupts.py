"""Ctrl-C while a command still imports its libraries. This module itself must stay light."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """While this is entered, Ctrl-C ends the process without a message.

    Otherwise Python would print a traceback from inside some library. Later, `run_command` and `StopSignals` handle Ctrl-C.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        # The signal is ignored, as for background jobs of a shell, or somebody else handles it.
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
