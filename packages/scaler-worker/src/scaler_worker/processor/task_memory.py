"""Notes how much memory the process has when a task begins that is held to what it asks for: the agent measures from there.

Only tasks that ask for memory are concerned, and only where that is enforced: otherwise nothing here is called.
"""

from __future__ import annotations

import os
from os import pread

from scaler_protocol.runtime.resources import memory_bytes
from scaler_protocol.service.memory import trim
from scaler_protocol.wire.call_options import asked_of
from scaler_worker.processor.functions import Function
from scaler_worker.processor.inbox import Row
from scaler_worker.processor.memory import OwnFile
from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.process_state import ProcessState
from scaler_worker.processor.result_records import Result
from scaler_worker.processor.task_loop import RunTask

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_sizes = OwnFile("statm", os.O_RDONLY)


def measured(run: RunTask, page: RunningPage) -> RunTask:
    """Return what runs tasks as `run` does, and notes in the page what those are measured from that ask for memory."""

    def run_measured(row: Row, function: Function | None, state: ProcessState) -> tuple[Result, float]:
        if row.tasks.options and memory_bytes(asked_of(row.tasks.options).resources):
            _note(page, row.task_index)
        return run(row, function, state)

    return run_measured


def _note(page: RunningPage, index: int) -> None:
    # What tasks before it have freed would be this one's for nothing.
    trim()
    try:
        _sizes.open()
        fields = pread(_sizes.descriptor, 256, 0).split(None, 3)
    except OSError:
        # Tasks have left no descriptor for it: this one cannot be measured.
        return
    page.note_memory(index, (int(fields[1]) - int(fields[2])) * _PAGE_BYTES)
