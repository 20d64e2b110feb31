"""Telling the processor that the task in which a client waits does so."""

from __future__ import annotations

import threading

from scaler_protocol.runtime.task_context import current_task_context


class TaskBlocks:
    """While this is entered, the task this code runs in waits; outside of tasks, and on their other threads, it does nothing.

    A class of its own: `contextlib.contextmanager` assigns to the exceptions that pass through, which those of tasks may
    not allow (a frozen dataclass, for one), and the caller would get that error instead.
    """

    __slots__ = ("_context",)

    def __enter__(self) -> None:
        context = current_task_context()
        # Only the task's own thread blocks the task; threads it started do not.
        self._context = context if threading.current_thread() is threading.main_thread() else None
        if self._context is not None:
            self._context.enter_blocked()

    def __exit__(self, *_: object) -> None:
        if self._context is not None:
            self._context.exit_blocked()
