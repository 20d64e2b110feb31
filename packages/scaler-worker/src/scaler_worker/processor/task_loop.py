"""The processor's main loop: runs the tasks that wait, decides when their results are sent, and looks after the process.

Results are buffered, because a packet costs as much as several tasks. They are sent when there is nothing more to do, when they
are `FLUSH_RESULTS_MAX`, when others were sent `FLUSH_SECONDS` ago (so the first one after a pause leaves at once), before a
function that is known to be slow or not known, and at the latest after `LATEST_FLUSH_SECONDS`, by the control thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import _getframe
from types import FrameType

from scaler_worker.processor.blocking import Blocking
from scaler_worker.processor.chain_results import ChainResults
from scaler_worker.processor.channel import Channel
from scaler_worker.processor.control_thread import Awakening
from scaler_worker.processor.failed_arguments import FailedArguments
from scaler_worker.processor.functions import Function, FunctionTable
from scaler_worker.processor.imported_sources import ImportedSources
from scaler_worker.processor.inbox import Inbox, Row
from scaler_worker.processor.process_state import ProcessState
from scaler_worker.processor.result_buffer import ResultBuffer
from scaler_worker.processor.result_records import Result
from scaler_worker.processor.retirement import RetiredError
from scaler_worker.processor.task_records import Tasks
from scaler_worker.processor.visible_devices import VisibleDevices

FLUSH_SECONDS = 0.004
FLUSH_AHEAD_SECONDS = 0.010
"""How long results wait for others: the second where the work that lies ahead lasts longer than they have waited."""

FLUSH_RESULTS_MAX = 256
SLOW_SECONDS = 0.002
"""Functions that take longer have earlier results sent before they run."""

QUICK_MICROSECONDS = 500
LOOK_AFTER_SECONDS = 0.01
"""What a task has left of its process is looked for at once where it was seen to change something (`changes`), was the first of
its function, was the first of it to raise, was stopped, or took longer. What was not seen of a quick one is looked for after so
long, as looking costs as much as such a task. The time in which a task waits for tasks of its own does not count: others use the
processor then."""


RunTask = Callable[[Row, Function | None, ProcessState], tuple[Result, float]]


class TaskLoop:
    """On the main thread. `run_task` runs one task; `look_after` restores the process after it, or raises."""

    def __init__(
        self,
        channel: Channel,
        inbox: Inbox,
        functions: FunctionTable,
        chain_results: ChainResults,
        results: ResultBuffer,
        blocking: Blocking,
        awakening: Awakening,
        look_after: Callable[[ProcessState], None],
        sources: ImportedSources,
        run_task: RunTask,
        failed_arguments: FailedArguments | None,
    ) -> None:
        self._failed_arguments = failed_arguments
        self._arguments_due: Sequence[object] = failed_arguments.due if failed_arguments is not None else ()
        self._sources = sources
        self._channel = channel
        self._inbox = inbox
        self._functions = functions
        self._chain_results = chain_results
        self._run_task = run_task
        self._results = results
        self._blocking = blocking
        self._awakening = awakening
        self._look_after = look_after
        self._looked_after_at = 0.0
        self._visible = VisibleDevices()

    def run(self, state: ProcessState) -> None:
        """Run all tasks that wait, and those that come meanwhile while one waits for an object."""
        rows, functions, blocking = self._inbox.rows, self._functions, self._blocking
        results, chain_results, sources = self._results, self._chain_results, self._sources
        buffer, awakening, run = results.results, self._awakening, self._run_task
        visible, arguments_due = self._visible, self._arguments_due
        tasks: Tasks | None = None
        is_due = False
        ended_at = 0.0
        while True:
            try:
                row = rows.popleft()
            except IndexError:
                break
            function = functions.loaded.get(row.function)
            if row.tasks is not tasks:
                if row.tasks.client not in sources.clients:
                    edited = sources.edited_before(row.tasks.client)
                    if edited:
                        # This task has not begun: another processor runs it.
                        raise RetiredError(f"{edited} was edited after a task had imported it here")
                if buffer and tasks is not None and row.tasks.client != tasks.client:
                    # Its client has nothing more here for now, and may be waiting.
                    results.flush()
                tasks = row.tasks
                if tasks.devices or visible.shown:
                    # Also where they are shown already: what a task has changed is restored.
                    visible.show(tasks.devices)
            if buffer and (function is None or function.seconds > SLOW_SECONDS):
                results.flush()
            result, ended_at = run(row, function, state)
            buffer.append(result)
            readers = chain_results.readers
            if readers and row.task_index in readers and (result[3] is None or not result[3].status):
                chain_results.keep(row.task_index, result[1])
            waited = ended_at - results.flushed_at
            if len(buffer) >= FLUSH_RESULTS_MAX or (
                waited >= FLUSH_SECONDS
                and (waited >= FLUSH_AHEAD_SECONDS or len(rows) * functions.seconds_of(row.function) < waited)
            ):
                results.flush()
            elif not awakening.is_awake:
                awakening.keep_awake()
            if arguments_due:
                self._keep_arguments()
            took = result[2]
            if blocking.seconds:
                took -= int(blocking.seconds * 1e6)
                blocking.seconds = 0.0
            extra = result[3]
            if (
                function is None
                or took >= QUICK_MICROSECONDS
                or (extra is not None and extra.status and not function.has_raised_before(extra.status))
                or state.may_have_changed()
            ):
                is_due = True
                if rows:
                    # Before the next task can feel what this one has left.
                    self._look_after(state)
                    is_due = False
                    if function is None:
                        # Not before: with what the task has left of the interpreter, nothing here may work.
                        sources.note()
        chain_results.clear()
        # What is here already is more work for certain; what may come is not. A task that came alone is not kept waiting.
        if buffer and (self._inbox.came_alone or not self._channel.has_waiting()):
            results.flush()
        # Behind the answer, which so need not wait for it.
        if is_due or ended_at >= self._looked_after_at + LOOK_AFTER_SECONDS:
            self._looked_after_at = ended_at
            self._look_after(state)
            if is_due:
                sources.note()

    def _keep_arguments(self) -> None:
        """Show the arguments of a task that failed. If that ends the process, its answer is under way."""
        failed_arguments = self._failed_arguments
        if failed_arguments is not None:
            if failed_arguments.may_end_the_process:
                self._results.flush()
            failed_arguments.keep_due()


def row_just_ended() -> Row | None:
    """Return the task that has ended last, where its frames are being left on this thread: what dies with them may print."""
    frame: FrameType | None = _getframe()
    while frame is not None:
        if frame.f_code is TaskLoop.run.__code__:
            row = frame.f_locals.get("row")
            return row if type(row) is Row else None
        frame = frame.f_back
    return None
