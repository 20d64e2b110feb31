"""Tasks that are to end before they have: cancelled by their client, given up with it, or at their time limit."""

from __future__ import annotations

from math import inf

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_protocol.wire.messages import Status
from scaler_worker.core import effects
from scaler_worker.core.lifecycle import ProcessorLifecycle
from scaler_worker.core.processors import Ending, Processor
from scaler_worker.core.returns import TaskReturns
from scaler_worker.core.state import AgentState

CANCEL_GRACE_SECONDS = 1.0
"""A running task that is to end and has not after this long ends with its processor."""

TAKE_BACK_SECONDS = 0.05
"""A task that runs for so long loses what was handed over behind it."""


class TaskEndings:
    """Alone adds to the `endings` of a processor; watches how long tasks run."""

    def __init__(self, state: AgentState, returns: TaskReturns, lifecycle: ProcessorLifecycle) -> None:
        self._state = state
        self._processors = state.processors.by_number
        self._returns = returns
        self._lifecycle = lifecycle
        self._timeout_seconds = state.options.task_timeout_seconds

    def cancel(self, message: m.TaskCancel, now: float) -> None:
        """End tasks that their client has cancelled, wherever they are, or where they wait."""
        state = self._state
        attempts = message.attempts if len(message.attempts) else [0] * len(message.numbers)
        wanted = dict(zip(message.numbers, attempts, strict=True))
        removed, orphaned = state.queue.remove(message.client, wanted)
        if state.pinned.count:
            removed += state.pinned.remove(message.client, wanted)
        if message.waiting_only:
            # The scheduler knows that nobody wants them.
            self._returns.give_back([*removed, *orphaned])
            return
        for tasks in removed:
            state.results.add_ended(message.client, tasks.numbers, tasks.attempts, Status.CANCELED)
        self._returns.give_back(orphaned)
        for result in state.transfers.drop_results(message.client, wanted):
            state.results.add_ended(message.client, [result.number], [result.attempt], Status.CANCELED)
        for processor in self._processors.values():
            for tasks in processor.pipe:
                if tasks.client == message.client and not tasks.abandoned:
                    for row in tasks.find(wanted):
                        self._end(processor, tasks.index + row - tasks.start, Status.CANCELED, "", now)

    def drop_client(self, client: bytes, now: float) -> None:
        """End all tasks of a client that is gone. Nobody is told what became of them."""
        state = self._state
        state.queue.remove(client, None)
        state.pinned.remove(client, None)
        state.results.drop_client(client)
        state.transfers.drop_results(client, None)
        for processor in self._processors.values():
            for tasks in processor.pipe:
                if tasks.client == client and not tasks.abandoned:
                    tasks.abandoned = True
                    for index in range(tasks.index, tasks.index + len(tasks)):
                        self._end(processor, index, Status.CANCELED, "", now)

    # --- time

    def tick(self, now: float) -> None:
        """End tasks at their time limit, kill processors whose task ignores that, and take back what waits behind long ones."""
        for processor in list(self._processors.values()):
            if not processor.rows or processor.state is State.STOPPING:
                continue
            timeout = self._timeout_of(processor)
            if timeout and now >= processor.begun_at + timeout:
                whose = "task timeout" if timeout == self._timeout_seconds else "timeout_seconds"
                text = f"the task ran for more than {timeout:g} s and was ended ({whose})"
                self._end(processor, processor.front_index, Status.TIMED_OUT, text, now)
            if now >= _kill_due(processor):
                self._lifecycle.kill(processor)
            elif (
                processor.rows > 1
                and not processor.taking_back
                and now >= processor.front_since + TAKE_BACK_SECONDS
                and processor.state is State.RUNNING
            ):
                front = processor.pipe[0]
                if not front.abandoned:
                    self._state.durations.observe_running(front, (now - processor.front_since) * 1e6)
                self._returns.take_back_behind(processor)

    def next_deadline(self) -> float:
        """When `tick` has something to do next."""
        deadline = inf
        for processor in self._processors.values():
            if processor.rows and processor.state is not State.STOPPING:
                timeout = self._timeout_of(processor)
                if timeout and processor.front_index not in processor.endings:
                    deadline = min(deadline, processor.begun_at + timeout)
                if processor.rows > 1 and not processor.taking_back:
                    deadline = min(deadline, processor.front_since + TAKE_BACK_SECONDS)
                if processor.endings:
                    deadline = min(deadline, _kill_due(processor))
        return deadline

    def end_at_once(self, processor: Processor, index: int, status: Status, text: str, now: float) -> None:
        """End a running task together with its processor, which has no time to be polite."""
        processor.endings.setdefault(index, Ending(now, status, text))
        self._lifecycle.kill(processor)

    def _timeout_of(self, processor: Processor) -> float:
        """Return how long the task may run that is first in a processor's pipe; 0: no limit."""
        front, timeout = processor.pipe[0], self._timeout_seconds
        if front.batch.options:
            own = front.asked.timeout_seconds
            return min(own, timeout) if own and timeout else own or timeout
        return timeout

    def _end(self, processor: Processor, index: int, status: Status, text: str, now: float) -> None:
        """Have a task that was handed over ended: first politely, then with its processor."""
        if index not in processor.endings:
            processor.endings[index] = Ending(now, status, text)
            if processor.state is not State.STOPPING:
                self._state.outbox.add(effects.CancelTask(processor.number, index, status, text))


def _kill_due(processor: Processor) -> float:
    """When the running task's politeness ends: infinite unless it is being ended."""
    ending = processor.endings.get(processor.front_index) if processor.endings else None
    return inf if ending is None else max(ending.since, processor.begun_at) + CANCEL_GRACE_SECONDS
