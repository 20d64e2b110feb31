"""Task transitions: every way a task becomes ready, assigned, answered. Nobody else changes a task's state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import pick_rows, reported_of
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.agents import AgentRecord
from scaler_scheduler.core.clients import ClientRecord
from scaler_scheduler.core.graphs import Graph, RowResult, RowState
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.core.tasks import Task, TaskState

_READY, _ASSIGNED = TaskState.READY, TaskState.ASSIGNED
_RECOVERING, _FORGOTTEN = TaskState.RECOVERING, TaskState.FORGOTTEN

ATTEMPT_MAX = 0xFFFF


class TaskLifecycle:
    """Moves tasks between the tables of `SchedulerState`."""

    def __init__(self, state: SchedulerState) -> None:
        self.state = state
        self.config = state.config
        self.started_at = state.started_at
        self.agents = state.agents
        self.ready = state.ready
        self.functions = state.functions
        self.recovery = state.recovery
        self.recovering = state.recovering
        self.monitor = state.monitor
        self.outbox = state.outbox
        self.marks = state.marks
        self.durations = state.durations

    def queue_new(self, client: ClientRecord, tasks: list[Task], now: float) -> None:
        """Queue tasks that graph rows became."""
        if not tasks:
            return
        self.state.enter_rows(client, tasks, now)
        self.ready.add_all(tasks)
        self.marks.placement_due = True

    def recover(self, client: ClientRecord, tasks: list[Task], now: float) -> list[Task]:
        """Tasks announced again: answer, attach or hold back those that agents may have; return the rest."""
        rest = []
        waiting = now < self.started_at + self.config.recovery_grace
        for task in tasks:
            result = self.recovery.take_result(client.id, task.number)
            claim = self.recovery.take_claim(client.id, task.number)
            if result is not None and not (len(result.statuses) and result.statuses[0] == m.Status.PROCESSOR_DIED):
                status = m.Status(result.statuses[0]) if len(result.statuses) else m.Status.SUCCESS
                self.forget(task, status, now, bytes(result.payloads.data))
                self.outbox.send(client, result)
            elif claim is not None:
                self.adopt(task, claim.agent, claim.attempt)
            elif waiting:
                task.state = _RECOVERING
                self.recovering[task] = None
            else:
                rest.append(task)
        return rest

    def adopt(self, task: Task, agent: AgentRecord, attempt: int) -> None:
        """An agent holds this task already."""
        task.state = _ASSIGNED
        task.agent = agent
        task.attempt = attempt
        agent.tasks[task] = None
        task.options.client.assigned_count += 1
        agent.functions.setdefault(task.options.client.id, set())
        self.agents.changed(agent)

    def unassign(self, task: Task) -> None:
        """The task leaves its agent; the caller says where it goes in the same step."""
        agent = task.agent
        assert agent is not None
        agent.tasks.pop(task, None)
        if task.chain is not None:
            agent.leave_chain(task)
        task.agent = None
        task.options.client.assigned_count -= 1
        self.agents.changed(agent)

    def requeue(self, task: Task) -> None:
        """A task comes back unanswered: it is queued in front, or waits again for what it was handed over behind."""
        graph = task.graph
        if graph is not None and graph.take_back(task):
            del task.options.client.tasks[task.number]
            self.functions.unfinished[task.function] -= 1
            return
        task.state = _READY
        if task.attempt >= ATTEMPT_MAX:
            # It travels in two bytes. Results of that long ago are not on their way any more.
            task.attempt = 0
        self.ready.add_first(task)
        self.marks.placement_due = True

    def withdraw(self, task: Task) -> None:
        """A waiting task leaves its queue; the caller says where it goes in the same step."""
        if task.state is _READY:
            self.ready.withdraw(task)
        else:
            del self.recovering[task]

    def finish_plain(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch) -> list[Task] | None:
        """The common case: every row is a success that is expected. Forget the tasks and return them, or do nothing."""
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
        forget, unassign = client.tasks.pop, agent.tasks.pop
        unfinished = self.functions.unfinished
        for task in tasks:
            unassign(task, None)
            if forget(task.number, None) is None:
                # The same number twice in one batch: only a faulty agent does that, and the first row has been counted.
                continue
            task.state = _FORGOTTEN
            task.agent = None
            unfinished[task.function] -= 1
        client.assigned_count -= len(tasks)
        return tasks

    def finish_mixed(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch, now: float) -> None:
        """Row by row: failures, cancelled and stale tasks, graph rows, deaths that deserve another attempt."""
        passed: list[int] = []
        early: list[int] = []
        payloads: list[bytes] | None = None
        objects: dict[int, list[bytes]] = {}
        for row, object_id in zip(batch.object_positions, batch.objects, strict=True):
            objects.setdefault(row, []).append(object_id)
        released: dict[Graph, list[Task]] = {}
        status = m.Status.SUCCESS
        for row, (number, attempt) in enumerate(zip(batch.numbers, batch.attempts, strict=True)):
            task = client.tasks.get(number)
            if len(batch.statuses):
                status = m.Status(batch.statuses[row])
            if task is None and self.may_still_announce(client, now):
                early.append(row)
                continue
            if task is None or task.agent is not agent or task.attempt != attempt:
                if status is not m.Status.SKIPPED:
                    self.monitor.stale_count += 1
                self.free_objects(client, objects.get(row, ()))
                continue
            self.unassign(task)
            if payloads is None:
                payloads = batch.payloads.split()
            if task.canceled:
                self.free_objects(client, objects.get(row, ()))
                self.answer(task, m.Status.CANCELED, b"", now)
            elif status is m.Status.SKIPPED:
                if self.monitor.listening:
                    self.monitor.record(m.TaskEvent.RETURNED, (task,), (number,), agent.name, now)
                self.requeue(task)
            elif status in (m.Status.PROCESSOR_DIED, m.Status.CANCELED):
                self.try_again(task, status, payloads[row], agent, now)
            elif task.graph is not None:
                ready = self.finish_row(task, status, agent, batch, row, payloads[row], objects.get(row, ()), now)
                if ready:
                    released.setdefault(task.graph, []).extend(ready)
            else:
                self.forget(task, status, now, payloads[row], agent.name, batch, row)
                passed.append(row)
        for tasks in released.values():
            self.queue_new(client, tasks, now)
        if passed:
            self.outbox.send(client, pick_rows(batch, passed))
        if early:
            self.recovery.keep_result(pick_rows(batch, early), self.announcement_deadline(client))

    def try_again(self, task: Task, status: m.Status, payload: bytes, agent: AgentRecord, now: float) -> None:
        """Its processor died, or it was stopped though nobody wanted that: an attempt is used up either way.

        Only a client decides that its task is cancelled. A stop that was meant for another task may have hit this one while
        it ran, so the attempt counts, and an agent that stops everything it is given comes to an end.
        """
        task.failures += 1
        if task.failures < self.config.attempts_max:
            self.requeue(task)
            return
        if status is m.Status.CANCELED:
            status = m.Status.WORKER_DIED
            payload = f"agent {agent.name} stopped it, though its client had not cancelled it".encode()
        self.answer(task, status, self.all_attempts_failed(task).encode() + payload, now)

    def all_attempts_failed(self, task: Task) -> str:
        """Begin the error of a task that is not tried again. The function's name tells people which of theirs it is."""
        name = self.functions.name(task.function)
        return f"task {task.number} ({name}): attempt {task.failures} of {self.config.attempts_max} failed; "

    def forget(
        self,
        task: Task,
        status: m.Status,
        now: float,
        payload: bytes,
        agent: str = "",
        batch: m.ResultBatch | None = None,
        row: int = 0,
    ) -> None:
        """The task is answered with `payload`: drop it and count how it ended, where a row of a batch says so."""
        duration = batch.durations[row] if batch is not None and len(batch.durations) else 0
        client = task.options.client
        client.tasks.pop(task.number, None)
        self.functions.unfinished[task.function] -= 1
        task.state = _FORGOTTEN
        monitor = self.monitor
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
            monitor.note_failure(task, status, payload, agent, duration, self.functions.name(task.function), now)
        if duration and self.config.scaling is not None:
            self.durations.observe((task.function, task.options.kind), duration / 1e6)
        if monitor.listening:
            slots = (batch.slots[row],) if batch is not None and len(batch.slots) else ()
            monitor.record(event, (task,), (task.number,), agent, now, (duration,), slots)

    def answer(self, task: Task, status: m.Status, payload: bytes, now: float) -> None:
        """End an unassigned task with an answer of the scheduler's own."""
        if task.graph is not None:
            row = task.number - task.graph.first_number
            self.forget(task, status, now, payload)
            self.fail_row(task.options.client, task.graph, row, status, payload, task.attempt, now)
        else:
            self.forget(task, status, now, payload)
            self.outbox.send(task.options.client, _single_result(task, status, payload))

    def cancel_row(self, client: ClientRecord, number: int, now: float) -> None:
        graph = client.graph_of(number)
        if graph is not None and graph.states[number - graph.first_number] == RowState.WAITING:
            self.fail_row(client, graph, number - graph.first_number, m.Status.CANCELED, b"", 0, now)

    def finish_row(
        self,
        task: Task,
        status: m.Status,
        agent: AgentRecord,
        batch: m.ResultBatch,
        row_in_batch: int,
        payload: bytes,
        objects: Sequence[bytes],
        now: float,
    ) -> list[Task]:
        """A row of a graph has come to its end. Return the tasks this sets free: the caller queues them, all at once."""
        graph, client = task.graph, task.options.client
        assert graph is not None
        row = task.number - graph.first_number
        self.forget(task, status, now, payload, agent.name, batch, row_in_batch)
        if status is not m.Status.SUCCESS:
            self.fail_row(client, graph, row, status, payload, task.attempt, now, objects)
            return []
        reported = reported_of(batch).pick([row_in_batch])
        result = RowResult(payload, tuple(objects), reported, task.attempt)
        released, freed = graph.complete(row, result, agent)
        if freed:
            self.free_objects(client, freed)
        if graph.wanted[row] or graph.holders or not graph.unfinished:
            # Objects its inputs consist of may have waited for this one to read them.
            self.deliver_rows(client, graph, (row, *graph.dependencies_of(row)))
        return released

    def fail_row(
        self,
        client: ClientRecord,
        graph: Graph,
        row: int,
        status: m.Status,
        payload: bytes,
        attempt: int,
        now: float,
        objects: Sequence[bytes] = (),
    ) -> None:
        """A row failed: the client hears it for every wanted row that needed it.

        `objects` are those its payload names, at most one, where the failure is large: the client's to delete.
        """
        failed, freed = graph.fail(row)
        self.free_objects(client, freed)
        for r in failed[1:]:
            behind = client.tasks.get(graph.first_number + r)
            if behind is not None:
                # Its agent skips it, or runs it in vain where what failed is only the storing of this row's result.
                if behind.agent is not None:
                    self.unassign(behind)
                self.forget(behind, m.Status.CANCELED, now, b"")
        numbers = [graph.first_number + r for r in failed if graph.wanted[r]]
        inputs: set[int] = set()
        for r in failed:
            graph.wanted[r] = 0
            inputs.update(graph.dependencies_of(r))
        if numbers:
            count = len(numbers)
            self.outbox.send(
                client,
                m.ResultBatch(
                    client.id,
                    numbers,
                    [attempt] * count,
                    Packed.of([payload] * count),
                    [status] * count,
                    object_positions=list(range(count)) if objects else (),
                    objects=(objects[0],) * count if objects else (),
                ),
            )
        else:
            self.free_objects(client, objects)
        self.deliver_rows(client, graph, sorted(inputs))

    def deliver_rows(self, client: ClientRecord, graph: Graph, rows: Iterable[int]) -> None:
        """Send wanted results that may go now, and forget the graph when it is done."""
        for row in rows:
            result = graph.read_by_client(row)
            if result is None:
                continue
            self.outbox.send(
                client,
                m.ResultBatch(
                    client.id,
                    [graph.first_number + row],
                    [result.attempt],
                    Packed.of([result.payload]),
                    object_positions=[0] * len(result.objects),
                    objects=result.objects,
                    **result.reported._asdict(),
                ),
            )
        if graph.finished and graph in client.graphs:
            client.graphs.remove(graph)

    def free_objects(self, client: ClientRecord, objects: Sequence[bytes]) -> None:
        if objects:
            self.outbox.to_store(m.ObjectDelete(0, client.id, tuple(objects)))

    def announcement_deadline(self, client: ClientRecord) -> float:
        return client.connected_at + self.config.recovery_grace

    def may_still_announce(self, client: ClientRecord, now: float) -> bool:
        """Whether the client came back so recently that announcements of older tasks may be on their way."""
        return bool(client.hello.scheduler_incarnation) and now < self.announcement_deadline(client)


def _single_result(task: Task, status: m.Status, payload: bytes) -> m.ResultBatch:
    return m.ResultBatch(task.options.client.id, [task.number], [task.attempt & 0xFFFF], Packed.of([payload]), [status])
