"""Ctrl-C and SIGTERM stop a service: the first one in an orderly way, the second one at once.

After the first signal the service finishes its work, informs its peers, and closes. If that hangs, a person or a service
manager sends another signal, and the process ends without cleaning up. Its children end with it, because they watch their
parent (`service.child`). SIGHUP is heeded meanwhile: it ends no service (`service.hangup`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from scaler_protocol.service.hangup import heeding_hangup

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

logger = logging.getLogger(__name__)


def exit_at_once(signal_number: signal.Signals) -> None:
    """End this process without any clean-up, with the exit status that a shell shows for this signal."""
    os._exit(128 + signal_number)


class StopSignals:
    """While this is entered, the first stop signal calls `on_stop` and later ones `on_force`, on the running event loop.

        with StopSignals(lambda _signal: server.begin_shutdown()):
            await server.finished()

    Leaving restores the earlier handlers.
    """

    def __init__(
        self,
        on_stop: Callable[[signal.Signals], None],
        on_force: Callable[[signal.Signals], None] = exit_at_once,
    ) -> None:
        self._on_stop = on_stop
        self._on_force = on_force
        self._asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hangup = contextlib.ExitStack()
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for signal_number in STOP_SIGNALS:
            self._previous[signal_number] = signal.getsignal(signal_number)
            self._loop.add_signal_handler(signal_number, self._on_signal, signal_number)
        self._hangup.enter_context(heeding_hangup())
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._loop is not None
        self._hangup.close()
        for signal_number, previous in self._previous.items():
            self._loop.remove_signal_handler(signal_number)
            # None: Python cannot restore a handler that was not installed from Python.
            signal.signal(signal_number, signal.SIG_DFL if previous is None else previous)

    def _on_signal(self, signal_number: signal.Signals) -> None:
        if self._asked:
            logger.warning("%s again: leaving at once", signal_number.name)
            self._on_force(signal_number)
            return
        self._asked = True
        logger.info("%s: stopping; send it again to leave at once", signal_number.name)
        self._on_stop(signal_number)
