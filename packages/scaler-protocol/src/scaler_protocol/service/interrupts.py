"""Ctrl-C while a command still imports its libraries. This module itself must stay light."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """While this lasts, Ctrl-C ends the process without a word.

    Python would tell where in which library it was. Later `run_command` and `StopSignals` see to it.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        # Ignored, as in a shell's background, or somebody else's business.
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
