"""Every way in which a task becomes ready, assigned or dropped. No other module changes a task's state.

What a task's state depends on changes in the same step: the tables of its client, its agent and its chain.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby, islice

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.task_history import Failures
from scaler_scheduler.core.graph_arrival import ATTEMPT_MAX
from scaler_scheduler.core.graphs import Graph
from scaler_scheduler.core.monitor import NO_OVERHEADS
from scaler_scheduler.core.records import AgentRecord, Chain, ClientRecord, Task, TaskOptions, TaskState
from scaler_scheduler.core.state import SchedulerState

_READY, _ASSIGNED = TaskState.READY, TaskState.ASSIGNED
_RECOVERING, _DROPPED, _DELAYED = TaskState.RECOVERING, TaskState.DROPPED, TaskState.DELAYED

COMPACT_ABOVE_BYTES = 1024 * 1024

RECOVERED_MAX = 500
"""How many tasks that no agent has claimed are queued at once."""

REFUSED_MAX = 10_000
"""Of how many tasks of a client refused attempts are remembered, the latest ones."""


class TaskLifecycle:
    """Moves tasks between the tables of `SchedulerState`."""

    def __init__(self, state: SchedulerState) -> None:
        self._config = state.config
        self._agents = state.agents
        self._resources = state.resources
        self._ready = state.ready
        self._functions = state.functions
        self._recovering = state.recovering
        self._timers = state.timers
        self._monitor = state.monitor
        self._marks = state.marks
        self._durations = state.durations

    # --- in

    def enter(self, client: ClientRecord, tasks: Sequence[Task]) -> None:
        """File new tasks of a client; the caller says where they go in the same step."""
        known = client.tasks
        unfinished = self._functions.unfinished
        for task in tasks:
            known[task.number] = task
            unfinished[task.function] += 1
        if client.has_notes:
            _count_by_label(tasks, unfinished=1)
        if client.retried_before:
            for task in tasks:
                before = client.retried_before.get(task.number)
                if before is not None:
                    client.retried[task.number] = max(before.times, client.retried.get(task.number, 0))
                    # Attempts are told apart by their numbers: those that are counted, and those to come.
                    task.attempt = max(task.attempt, before.attempt)

    def note_failures_before(
        self, client: ClientRecord, failures: Mapping[int, Failures], numbers: Collection[int]
    ) -> None:
        """The client says how often tasks of these numbers had failed that it is about to announce again."""
        for number, before in failures.items():
            # There may be very many `numbers`.
            if number in numbers:
                client.retried_before[number] = before

    def enter_rows(
        self, graph: Graph[AgentRecord], rows: Sequence[int], options: TaskOptions, now: float
    ) -> list[Task]:
        """File tasks for released rows of a graph; the caller queues or assigns them in the same step."""
        first = graph.first_number
        # What came back from an agent and waited again was reported before.
        new_rows = [row for row in rows if row not in graph.returned] if self._monitor.listening else []
        tasks = []
        for row in rows:
            function, payload, objects, carried, attempt, failures = graph.content(row)
            tasks.append(Task(first + row, function, payload, options, objects, carried, graph, attempt, failures))
        self.enter(options.client, tasks)
        if new_rows:
            known = options.client.tasks
            new = [known[first + row] for row in new_rows]
            self._monitor.record(m.TaskEvent.SUBMITTED, new, [task.number for task in new], "", now)
        return tasks

    def join(self, task: Task, graph: Graph[AgentRecord]) -> None:
        """A task that was none is a row of a graph from now on, wherever it is."""
        task.graph = graph

    def queue(self, tasks: list[Task]) -> None:
        """Queue new tasks of one client, depth and signature in the order of their numbers. Their amounts may differ."""
        if tasks:
            if tasks[0].options.client.has_asks:
                for _, group in groupby(tasks, lambda task: task.options.line):
                    self._ready.add_all(list(group))
            else:
                self._ready.add_all(tasks)
            self._marks.placement_due = True

    def hold_back(self, task: Task) -> None:
        """A new task waits for an agent to claim it, until `end_recovery`."""
        task.state = _RECOVERING
        self._recovering[task] = None

    def end_recovery(self) -> list[Task]:
        """No agent has claimed the tasks that were held back: queue them. Of very many, the next ones with each call.

        Returns those that stay, as they may not run a second time, or are not to begin any more.
        """
        stay = []
        for task in list(islice(self._recovering, RECOVERED_MAX)):
            if task.options.runs_once or self.is_unwanted(task):
                stay.append(task)
                continue
            del self._recovering[task]
            task.state = _READY
            self._ready.add(task)
        self._marks.placement_due = True
        return stay

    # --- at an agent

    def assign(self, agent: AgentRecord, tasks: Iterable[Task]) -> dict[TaskOptions, list[Task]]:
        """Ready tasks go to an agent. Return them by their options, as they are sent (`TaskOptions.bare`)."""
        held = agent.tasks
        groups: dict[TaskOptions, list[Task]] = {}
        options: TaskOptions | None = None
        for task in tasks:
            # Nearly always those of the task before.
            if task.options is not options:
                options = task.options
                group = groups.setdefault(options.bare, [])
                refused = options.client.refused
            group.append(task)
            if refused:
                # Not before: an agent that comes back with the last attempt goes on with it as long as no other one has the task.
                task.attempt = max(task.attempt, refused.get(task.number, 0))
            task.state = _ASSIGNED
            task.agent = agent
            task.attempt += 1
            held[task] = None
        for options, group in groups.items():
            options.client.assigned_count += len(group)
        return groups

    def link(self, agent: AgentRecord, tasks: Sequence[Task]) -> None:
        """These tasks are about to be assigned to the agent as a chain."""
        chain = Chain(len(tasks))
        for task in tasks:
            task.chain = chain
        agent.followers += len(tasks) - 1

    def adopt(self, task: Task, agent: AgentRecord, attempt: int) -> None:
        """An agent holds this task already, under this attempt."""
        task.state = _ASSIGNED
        task.agent = agent
        task.attempt = attempt
        agent.tasks[task] = None
        task.options.client.assigned_count += 1
        agent.note_functions(task.options.client.id)
        self._agents.changed(agent)

    def claim(self, task: Task, agent: AgentRecord, attempt: int) -> None:
        """An agent holds this task already, which waits for one."""
        self.withdraw(task)
        if task.state is _READY:
            # Its entry stays in the queue. Should it come back, only one entry may count, so another record stands for it.
            task.state = _DROPPED
            task = Task(
                task.number,
                task.function,
                task.payload,
                task.options,
                task.objects,
                task.carried,
                task.graph,
                task.attempt,
                task.failures,
            )
            task.options.client.tasks[task.number] = task
        self.adopt(task, agent, attempt)

    def note_failed_attempt(self, task: Task) -> None:
        """Whoever ran the task died: that attempt is used up."""
        task.failures += 1

    def note_cancellation(
        self, task: Task, *, waiting_only: bool = False, overdue: bool = False, reason: bytes = b""
    ) -> None:
        """The client of an assigned task wants no result; the caller tells the agent.

        `waiting_only`: unless it was begun. `overdue`: because its deadline is over. `reason`: what the client is told.
        """
        if reason:
            task.options.client.reasons[task.number] = reason
        if waiting_only:
            task.options.client.withdrawn.add(task.number)
        else:
            task.canceled = True
        if overdue:
            task.options.client.overdue.add(task.number)

    def take_up_again(self, task: Task) -> None:
        """An unassigned task was stopped, and is needed after all."""
        task.canceled = False
        self.requeue(task)

    def is_unwanted(self, task: Task) -> bool:
        """Whether a task that was not run is not to be run any more."""
        return task.canceled or task.number in task.options.client.withdrawn

    def note_retry(self, task: Task) -> int:
        """A task has failed by itself. Return how often it has, while it was tried again."""
        retried = task.options.client.retried
        if self.is_counted(task, task.attempt):
            return retried[task.number]
        count = retried[task.number] = retried.get(task.number, 0) + 1
        return count

    def note_attempt(self, task: Task, attempt: int) -> None:
        """An earlier scheduler has assigned the task, which no agent has, under this number."""
        task.attempt = max(task.attempt, attempt)

    def note_refused_attempt(self, client: ClientRecord, number: int, attempt: int) -> None:
        """An agent is told to stop an attempt that it came back with in vain: those that follow are numbered after it."""
        if attempt < ATTEMPT_MAX:
            refused = client.refused
            refused[number] = max(attempt, refused.pop(number, 0))
            if len(refused) > REFUSED_MAX:
                refused.popitem(last=False)

    def is_counted(self, task: Task, attempt: int) -> bool:
        """Whether an earlier scheduler has counted the failure of this attempt already."""
        before = task.options.client.retried_before.get(task.number)
        return before is not None and attempt <= before.attempt

    def forget_failures(self, client: ClientRecord, numbers: Iterable[int]) -> None:
        """Tasks of these numbers have ended, or are not announced again after all. There need be no record of them."""
        if client.retried or client.retried_before:
            for number in numbers:
                client.retried.pop(number, None)
                client.retried_before.pop(number, None)

    def delay(self, task: Task, due: float) -> None:
        """An unassigned task waits for its next attempt until it is `due`. A row looks then whether its inputs are there."""
        self._go_on(task)
        task.state = _DELAYED
        self._timers.delay(task, due)

    def end_delay(self, task: Task) -> None:
        """A task has waited long enough for its next attempt."""
        del self._timers.delayed[task]
        self.requeue(task)

    def unassign(self, task: Task) -> None:
        """The task leaves its agent; the caller says where it goes in the same step."""
        agent = task.agent
        assert agent is not None
        self._leave(agent, task)
        task.agent = None
        task.options.client.assigned_count -= 1
        self._agents.changed(agent)

    def _leave(self, agent: AgentRecord, task: Task) -> None:
        agent.tasks.pop(task, None)
        chain, task.chain = task.chain, None
        if chain is not None:
            chain.length -= 1
            if chain.length:
                agent.followers -= 1

    def requeue(self, task: Task) -> None:
        """An unassigned task is unanswered: queue it in front, or let its row wait again for its predecessors."""
        self._go_on(task)
        if task.attempt >= ATTEMPT_MAX:
            # It travels in two bytes. Results of that long ago are not on their way any more.
            task.attempt = 0
            task.options.client.refused.pop(task.number, None)
        graph = task.graph
        if graph is not None and graph.take_back(task.number - graph.first_number, task.attempt, task.failures):
            del task.options.client.tasks[task.number]
            self._functions.unfinished[task.function] -= 1
            if task.options.note is not None:
                _count_by_label((task,), unfinished=-1)
            task.state = _DROPPED
            return
        task.state = _READY
        self._ready.add_first(task)
        self._marks.placement_due = True

    def _go_on(self, task: Task) -> None:
        """It had begun when its client wanted no result of those that had not, so it is run again like any other."""
        withdrawn = task.options.client.withdrawn
        if withdrawn:
            withdrawn.discard(task.number)

    def withdraw(self, task: Task) -> None:
        """A task that no agent has leaves its queue for good; the caller says where it goes in the same step."""
        # It counted against its client's limit, and nothing is placed where it simply ends.
        self._marks.credit_due = True
        if task.options.amounts:
            # What was reserved for it may be free for others.
            self._resources.note_change()
            self._marks.placement_due = True
        if task.state is _READY:
            self._ready.withdraw(task)
        elif task.state is _DELAYED:
            del self._timers.delayed[task]
        else:
            del self._recovering[task]

    # --- out

    def finish_successes(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch) -> list[Task] | None:
        """The common case: every row is a success that is expected. Drop the tasks and return them, or do nothing."""
        if len(batch.statuses):
            return None
        get = client.tasks.get
        tasks: list[Task] = []
        for number, attempt in zip(batch.numbers, batch.attempts, strict=True):
            task = get(number)
            if (
                task is None
                or task.agent is not agent
                or task.attempt != attempt
                or task.canceled
                or task.graph is not None
            ):
                return None
            tasks.append(task)
        if client.has_notes:
            _count_by_label(dict.fromkeys(tasks), unfinished=-1, succeeded=1)
        if client.retried:
            self.forget_failures(client, batch.numbers)
        forget, unassign = client.tasks.pop, agent.tasks.pop
        unfinished = self._functions.unfinished
        before = len(client.tasks)
        for task in tasks:
            unassign(task, None)
            if forget(task.number, None) is None:
                # The same number twice in one batch: only a faulty agent does that.
                continue
            task.state = _DROPPED
            task.agent = None
            unfinished[task.function] -= 1
        count = before - len(client.tasks)
        client.assigned_count -= count
        client.finished_count += count
        self._monitor.success_count += count
        return tasks

    def drop(
        self,
        task: Task,
        status: m.Status,
        now: float,
        payload: bytes,
        agent: str = "",
        batch: m.ResultBatch | None = None,
        row: int = 0,
    ) -> None:
        """An unassigned task is answered with `payload`. Drop it and count how it ended; a row of a batch may say more."""
        duration = batch.durations[row] if batch is not None and len(batch.durations) else 0
        client = task.options.client
        client.tasks.pop(task.number, None)
        if client.has_asks:
            self.forget_failures(client, (task.number,))
            client.overdue.discard(task.number)
        if client.reasons:
            client.reasons.pop(task.number, None)
        if client.withdrawn:
            # The number is that of a row, perhaps, which may run again.
            client.withdrawn.discard(task.number)
        self._functions.unfinished[task.function] -= 1
        task.state = _DROPPED
        monitor = self._monitor
        if task.options.note is not None:
            failed = status not in (m.Status.SUCCESS, m.Status.CANCELED)
            _count_by_label((task,), unfinished=-1, succeeded=int(status is m.Status.SUCCESS), failed=int(failed))
        if status is m.Status.SUCCESS:
            monitor.success_count += 1
            client.finished_count += 1
            event = m.TaskEvent.SUCCESS
        elif status is m.Status.CANCELED:
            monitor.canceled_count += 1
            event = m.TaskEvent.CANCELED
        else:
            monitor.failed_count += 1
            client.failed_count += 1
            event = m.TaskEvent.FAILED
            monitor.note_failure(task, status, payload, agent, duration, self._functions.name(task.function), now)
        if duration and self._config.scaling is not None:
            self._durations.observe((task.function, task.options.kind), duration / 1e6)
        if monitor.listening:
            slots = (batch.slots[row],) if batch is not None and len(batch.slots) else ()
            overheads = (
                NO_OVERHEADS if batch is None else (batch.read_times[row : row + 1], batch.write_times[row : row + 1])
            )
            monitor.record(event, (task,), (task.number,), agent, now, (duration,), slots, overheads)

    def drop_all(self, client: ClientRecord) -> None:
        """The client is gone: drop its tasks, wherever they are."""
        self._ready.drop_client(client.id)
        self._resources.note_change()
        self._functions.unfinished.subtract(Counter(task.function for task in client.tasks.values()))
        if client.has_notes:
            _count_by_label(client.tasks.values(), unfinished=-1)
        for task in client.tasks.values():
            agent = task.agent
            if agent is not None:
                self._leave(agent, task)
                self._agents.changed(agent)
            elif task.state is _RECOVERING:
                del self._recovering[task]
            elif task.state is _DELAYED:
                del self._timers.delayed[task]
            task.state = _DROPPED
            task.agent = None
        self._timers.drop_client(client.id)
        self._monitor.canceled_count += len(client.tasks)
        client.tasks.clear()

    def compact(self, client: ClientRecord) -> None:
        """Give the client's task table the size it needs: a dictionary keeps room for as many entries as it ever had."""
        if client.withdrawn:
            client.withdrawn.intersection_update(client.tasks)
        if sys.getsizeof(client.tasks) > COMPACT_ABOVE_BYTES + 500 * len(client.tasks):
            client.tasks = dict(client.tasks)


def _count_by_label(tasks: Iterable[Task], *, unfinished: int, succeeded: int = 0, failed: int = 0) -> None:
    """Add so much to the count of each task's label, if it has one."""
    for task in tasks:
        note = task.options.note
        if note is not None and note.tally is not None:
            note.tally.unfinished += unfinished
            note.tally.succeeded += succeeded
            note.tally.failed += failed
