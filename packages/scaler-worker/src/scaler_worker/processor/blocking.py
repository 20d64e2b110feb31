"""Tasks that wait for tasks of their own: others use the processor's slot then."""

from __future__ import annotations

from time import perf_counter

from scaler_worker.processor.inbox import Inbox
from scaler_worker.processor.nested_clients import NestedClients
from scaler_worker.processor.output import OutputCapture
from scaler_worker.processor.result_buffer import ResultBuffer
from scaler_worker.processor.running_task import RunningTask


class Blocking:
    """Tells the agent when the running task begins and ends to wait. On the main thread."""

    __slots__ = ("_blocked_at", "_capture", "_clients", "_inbox", "_results", "_running", "depth", "seconds")

    def __init__(
        self, running: RunningTask, inbox: Inbox, results: ResultBuffer, clients: NestedClients, capture: OutputCapture
    ) -> None:
        self._running = running
        self._inbox = inbox
        self._results = results
        self._clients = clients
        self._capture = capture
        self._blocked_at = 0.0
        self.depth = 0
        """Waits that the task is in, one inside another; 0 while it runs."""
        self.seconds = 0.0
        """How long the running task, or the last one, has waited for tasks of its own."""

    def enter(self) -> None:
        """The running task begins to wait. Ignored on other threads: these may wait without the task standing still."""
        running = self._running
        row = running.row
        if row is None or not running.is_current_thread():
            return
        self.depth += 1
        if self.depth > 1:
            return
        self._blocked_at = perf_counter()
        was_in_code = running.leave_code()
        try:
            self._capture.flush()
            self._results.flush()
            if self._clients.enter_blocked():
                self._inbox.give_back_blocked(row.task_index)
        finally:
            running.return_to_code(was_in_code)

    def exit(self) -> None:
        """The running task goes on."""
        if not self.depth or not self._running.is_current_thread():
            return
        self.depth -= 1
        if not self.depth:
            self.seconds += perf_counter() - self._blocked_at
            self._clients.exit_blocked()

    def end(self) -> None:
        """The task has ended, in a wait that was interrupted from outside."""
        self.depth = 1
        self.exit()
