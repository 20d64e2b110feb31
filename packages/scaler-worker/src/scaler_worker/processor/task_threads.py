"""Which task a thread works for: what it prints, and how far it says that it is, is that task's, also after its end.

The interpreter tells nobody that a thread starts. So the functions by which `threading` starts one note it, as those do that
change the process (`changes`). It is the task's that the starting thread works for. Threads of C libraries, and those from before
the first task, work for whichever task runs.
"""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable
from sys import _current_frames
from threading import main_thread
from typing import NamedTuple

from scaler_worker.processor.inbox import Row
from scaler_worker.processor.kept_output import Writer
from scaler_worker.processor.running_task import RunningTask

OWNERS_MAX = 1_000
"""Threads that have ended are forgotten when so many are known. Others take the place of one with the same id."""


class _Owner(NamedTuple):
    task_index: int
    writer: Writer


class TaskThreads:
    """Of one processor. Called from any thread."""

    def __init__(self, running: RunningTask, row_just_ended: Callable[[], Row | None]) -> None:
        """`row_just_ended` is asked on the main thread, between two tasks."""
        self._running = running
        self._row_just_ended = row_just_ended
        self._main = main_thread().ident
        self._owners: dict[int, _Owner] = {}
        """By the id of a thread that a task has started. An id is used again only for a thread that is noted anew."""
        self._newest = _Owner(-1, (0, b""))

    def works_for(self, task_index: int) -> bool:
        """Whether the caller works for this task, and not for an earlier one that has left it behind."""
        ident = get_ident()
        if ident == self._main:
            return True
        owner = self._owners.get(ident)
        return owner is None or owner.task_index == task_index

    def row(self) -> Row | None:
        """Return the running task, if the caller works for it."""
        row = self._running.row
        return row if row is not None and self.works_for(row.task_index) else None

    def writer(self) -> Writer | None:
        """Return the task that the caller works for, which may have ended; None: no task. The same object for the same task."""
        ident = get_ident()
        row = self._running.row
        if ident != self._main:
            owner = self._owners.get(ident)
            if owner is not None:
                return owner.writer
        elif row is None:
            row = self._row_just_ended()
        if row is None:
            return None
        newest = self._newest
        return (newest if newest[0] == row.task_index else self._owner_of(row))[1]

    def note(self, ident: int) -> None:
        """The caller has started a thread."""
        own = get_ident()
        owner = self._owners.get(own) if own != self._main else None
        if owner is None:
            row = self._running.row
            if row is None:
                self._owners.pop(ident, None)
                return
            owner = self._owner_of(row)
        if len(self._owners) >= OWNERS_MAX:
            alive = _current_frames()
            self._owners = {known: of for known, of in self._owners.items() if known in alive}
        self._owners[ident] = owner

    def _owner_of(self, row: Row) -> _Owner:
        newest = self._newest
        if newest.task_index != row.task_index:
            newest = self._newest = _Owner(row.task_index, (row.tasks.numbers[row.position], row.tasks.client))
        return newest
