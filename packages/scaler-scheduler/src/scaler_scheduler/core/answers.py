"""How tasks end: results that agents report row by row, and answers that the scheduler gives itself."""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import pick_rows
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.graphs import Graph
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.records import AgentRecord, ClientRecord, Task, TaskOptions, TaskState
from scaler_scheduler.core.recovery import NAMED, covers_timeout, is_answer, status_of
from scaler_scheduler.core.row_answers import WAITED_FOR_AGENTS, overdue_text
from scaler_scheduler.core.state import SchedulerState

_OWN_ERRORS = frozenset({m.Status.RETRY, m.Status.TIMED_OUT})
"""After these a task may run again, if it was submitted with retries."""


class Answers:
    """Decides for each ended run: an answer to the client, another attempt, or rows of a graph that may run now."""

    def __init__(self, state: SchedulerState, lifecycle: TaskLifecycle, rows: GraphRows) -> None:
        self._config = state.config
        self._functions = state.functions
        self._recovery = state.recovery
        self._lost_attempts = state.lost_attempts
        self._monitor = state.monitor
        self._outbox = state.outbox
        self._started_at = state.started_at
        self._lifecycle = lifecycle
        self._rows = rows

    def answer(
        self,
        task: Task,
        status: m.Status,
        payload: bytes,
        now: float,
        agent: str = "",
        batch: m.ResultBatch | None = None,
        row: int = 0,
    ) -> None:
        """End an unassigned task with an answer of the scheduler's own.

        `agent`, `batch` and `row` say where it ran last, if it did, and how long: for monitors.
        """
        self._lifecycle.drop(task, status, now, payload, agent, batch, row)
        client = task.options.client
        if task.graph is not None:
            row = task.number - task.graph.first_number
            self._rows.fail(client, task.graph, row, status, payload, task.attempt, now)
        else:
            attempts = [task.attempt & 0xFFFF]
            self._outbox.send(client, m.ResultBatch(client.id, [task.number], attempts, Packed.of([payload]), [status]))

    def withdraw(self, task: Task, status: m.Status, payload: bytes, now: float) -> None:
        """End a task that no agent has with an answer of the scheduler's own."""
        self._lifecycle.withdraw(task)
        self.answer(task, status, payload, now)

    def finish(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch, now: float) -> list[int]:
        """Row by row: failures, cancelled and stale tasks, graph rows, deaths that deserve another attempt.

        Returns the rows whose tasks the agent had.
        """
        with self._rows.answered_together():
            return self._finish(agent, client, batch, now)

    def _finish(self, agent: AgentRecord, client: ClientRecord, batch: m.ResultBatch, now: float) -> list[int]:
        held: list[int] = []
        passed: list[int] = []
        early: list[int] = []
        payloads: list[bytes] | None = None
        objects: dict[int, list[bytes]] = {}
        for row, object_id in zip(batch.object_positions, batch.objects, strict=True):
            objects.setdefault(row, []).append(object_id)
        released: dict[Graph[AgentRecord], tuple[TaskOptions, list[int]]] = {}
        status = m.Status.SUCCESS
        for row, (number, attempt) in enumerate(zip(batch.numbers, batch.attempts, strict=True)):
            task = client.tasks.get(number)
            if len(batch.statuses):
                status = m.Status(batch.statuses[row])
            if (
                task is None
                and self.may_still_announce(client, now)
                and not self._is_refused(agent, client, number, attempt)
            ):
                early.append(row)
                continue
            if task is None or task.agent is not agent or task.attempt != attempt:
                if status is not m.Status.SKIPPED:
                    self._monitor.stale_count += 1
                # Whoever names objects in the result of a task that it never had must not have them deleted.
                if self._lost_attempts.held(agent, client.id, number, attempt):
                    self._rows.free_objects(client, objects.get(row, ()))
                continue
            held.append(row)
            self._lifecycle.unassign(task)
            if payloads is None:
                payloads = batch.payloads.split()
            if task.canceled:
                self._rows.free_objects(client, objects.get(row, ()))
                self.answer_unwanted(task, now, began=bool(len(batch.durations) and batch.durations[row]))
            elif status in _OWN_ERRORS and self._has_retries(task, status):
                self._rows.free_objects(client, objects.get(row, ()))
                self._retry(task, agent, now)
            elif status is m.Status.RETRY:
                # It has failed as often as it may: its last error is its client's.
                ended = _status_of_failure(task)
                self._end_run(task, ended, agent, batch, row, payloads[row], objects.get(row, ()), now)
            elif status is m.Status.SKIPPED:
                if self._monitor.listening:
                    self._monitor.record(m.TaskEvent.RETURNED, (task,), (number,), agent.name, now)
                self.answer_or_requeue(task, "", now)
            elif status in (m.Status.PROCESSOR_DIED, m.Status.CANCELED):
                self._try_again(task, status, payloads[row], agent, batch, row, now)
            elif status in NAMED:
                # The agent's text is completed by what only the scheduler knows: the function's name.
                payload = f"{self._described(task)}: ".encode() + payloads[row]
                self._end_run(task, status, agent, batch, row, payload, objects.get(row, ()), now)
            elif status is m.Status.MISSING_OBJECT and task.graph is not None and self._waits_for_lost(task):
                task.graph.note_lack(task.number - task.graph.first_number)
                self._try_again(task, status, payloads[row], agent, batch, row, now)
            elif task.graph is not None:
                ready = self._rows.finish(task, status, agent, batch, row, payloads[row], objects.get(row, ()), now)
                if ready:
                    released.setdefault(task.graph, (task.options, []))[1].extend(ready)
            else:
                self._lifecycle.drop(task, status, now, payloads[row], agent.name, batch, row)
                passed.append(row)
        for graph, (options, ready) in released.items():
            self._rows.queue(graph, ready, options, now)
        if passed:
            answer = pick_rows(batch, passed)
            if client.recent is not None:
                client.recent.note(answer)
            self._outbox.send(client, answer)
        if early:
            unread = self._recovery.keep_result(agent, pick_rows(batch, early), self.announcement_deadline(client))
            self._rows.free_objects(client, unread)
        return held

    def _is_refused(self, agent: AgentRecord, client: ClientRecord, number: int, attempt: int) -> bool:
        """Whether the agent was told to stop this attempt, which it claimed in vain: its client has announced the task before."""
        return client.refused.get(number) == attempt and self._lost_attempts.held(agent, client.id, number, attempt)

    def _waits_for_lost(self, task: Task) -> bool:
        """Whether a task that lacked an object may get it in another attempt.

        Rows whose results are lost run again. A row that needs one of them may end before this scheduler hears of that.
        """
        graph = task.graph
        return graph is not None and graph.may_lack_objects(task.number - graph.first_number)

    def _try_again(
        self,
        task: Task,
        status: m.Status,
        payload: bytes,
        agent: AgentRecord,
        batch: m.ResultBatch,
        row: int,
        now: float,
    ) -> None:
        """Its processor died, an input was lost, or it was stopped though nobody wanted that: an attempt is used up.

        Only a client decides that its task is cancelled. A stop that was meant for another task may have hit this one while
        it ran, so the attempt counts, and an agent that stops everything it is given comes to an end.
        """
        self._lifecycle.note_failed_attempt(task)
        if task.failures < self._config.max_task_attempts and not task.options.runs_once:
            self._lifecycle.requeue(task)
            return
        if status is m.Status.CANCELED:
            status = m.Status.WORKER_DIED
            payload = f"agent {agent.name} stopped it, though its client had not cancelled it".encode()
        text = self._all_attempts_failed(task).encode() + payload
        self.answer(task, status, text, now, agent.name, batch, row)

    def _has_retries(self, task: Task, status: m.Status) -> bool:
        """Whether a task that has failed by itself is to run once more."""
        asks = task.options.asks
        if asks is None or asks.retries is None:
            return False
        if status is m.Status.TIMED_OUT and not covers_timeout(asks):
            return False
        count = task.options.client.retried.get(task.number, 0)
        return count < asks.retries.times or self._lifecycle.is_counted(task, task.attempt)

    def _retry(self, task: Task, agent: AgentRecord, now: float) -> None:
        """An unassigned task has failed by itself and runs once more. It holds no worker while it waits for that."""
        assert task.options.asks is not None
        assert task.options.asks.retries is not None
        count = self._note_retry(task)
        wait = task.options.asks.retries.wait_before(count)
        if self._monitor.listening:
            pause = max(1, round(wait * 1e6))
            self._monitor.record(m.TaskEvent.RETURNED, (task,), (task.number,), agent.name, now, (pause,))
        if wait > 0.0:
            self._lifecycle.delay(task, now + wait)
        else:
            self._lifecycle.requeue(task)

    def _note_retry(self, task: Task) -> int:
        """Count an error of a task's own. Its client keeps the count, which so outlives this scheduler."""
        count = self._lifecycle.note_retry(task)
        client = task.options.client
        attempts, said = [task.attempt & 0xFFFF], Packed.of([b"%d" % count])
        self._outbox.send(client, m.ResultBatch(client.id, [task.number], attempts, said, [m.Status.RETRY]))
        return count

    def _end_run(
        self,
        task: Task,
        status: m.Status,
        agent: AgentRecord,
        batch: m.ResultBatch,
        row: int,
        payload: bytes,
        objects: Sequence[bytes],
        now: float,
    ) -> None:
        """An unassigned task ends as its row says, but for what only the scheduler knows: this status, and this payload."""
        if task.graph is not None:
            self._rows.finish(task, status, agent, batch, row, payload, objects, now)
            return
        self._lifecycle.drop(task, status, now, payload, agent.name, batch, row)
        result = pick_rows(batch, [row])
        result.statuses = [status]
        result.payloads = Packed.of([payload])
        if task.options.client.recent is not None:
            task.options.client.recent.note(result)
        self._outbox.send(task.options.client, result)

    def answer_or_requeue(self, task: Task, lost: str, now: float) -> None:
        """An unassigned task has lost its agent: `lost` says how."""
        if self._lifecycle.is_unwanted(task):
            self.answer_unwanted(task, now, lost=lost)
        elif task.options.runs_once and lost:
            self.end_once(task, lost, now)
        elif task.failures >= self._config.max_task_attempts:
            self.answer(task, m.Status.WORKER_DIED, (self._all_attempts_failed(task) + lost).encode(), now)
        else:
            self._lifecycle.requeue(task)

    def answer_unwanted(self, task: Task, now: float, *, began: bool = False, lost: str = "") -> None:
        """End an unassigned task that was stopped because its client has cancelled it, or its deadline is over.

        If it was stopped because nobody needed its result, and somebody does by now, it runs again. `lost`: how it has lost its
        agent, if it has; then nobody knows whether it had begun.
        """
        if self._rows.take_stopped(task):
            if self._rows.end_if_unneeded(task, now):
                return
            if task.options.runs_once:
                self.end_once(task, "it was stopped when nobody needed its result", now)
            else:
                self._lifecycle.take_up_again(task)
        elif task.number in task.options.client.overdue:
            state = "was running" if began else "waited"
            text = self.overdue(task, f"was at a worker; {lost}" if lost else state)
            self.answer(task, m.Status.TIMED_OUT, text, now)
        else:
            self.answer(task, m.Status.CANCELED, task.options.client.reasons.get(task.number, b""), now)

    def overdue(self, task: Task, state: str, reason: str = "") -> bytes:
        """Return the error of a task that is not done when its deadline is over; `state` says what it did.

        `reason`: what it waited for that was not there; without one, it waited for a worker as others do.
        """
        asks = task.options.asks
        seconds = 0.0 if asks is None else asks.deadline_seconds
        if task.state is TaskState.DELAYED:
            errors = task.options.client.retried.get(task.number, 0)
            state += f" for its next attempt, after {errors} error{'s' if errors != 1 else ''}"
        elif task.state is TaskState.RECOVERING:
            state = WAITED_FOR_AGENTS
        elif state == "waited":
            state += reason or " for a worker"
        return overdue_text(self._described(task), seconds, state)

    def end_late(self, tasks: Sequence[Task], now: float) -> None:
        """End tasks of one client, none of which an agent has or is queued: their deadline was over when they arrived."""
        if not tasks:
            return
        client = tasks[0].options.client
        texts = [self.overdue(task, "waited") for task in tasks]
        for task, text in zip(tasks, texts, strict=True):
            if task.state is TaskState.RECOVERING:
                self._lifecycle.withdraw(task)
            self._lifecycle.drop(task, m.Status.TIMED_OUT, now, text)
        numbers, attempts = [task.number for task in tasks], [task.attempt & 0xFFFF for task in tasks]
        statuses = [m.Status.TIMED_OUT] * len(tasks)
        self._outbox.send(client, m.ResultBatch(client.id, numbers, attempts, Packed.of(texts), statuses))

    def end_once(self, task: Task, lost: str, now: float) -> None:
        """End an unassigned task that may have begun and must not begin again."""
        text = f"{self._described(task)}: it may have begun, and is not run again (idempotent=False); {lost}"
        self.answer(task, m.Status.WORKER_DIED, text.encode(), now)

    def end_unclaimed(self, tasks: Sequence[Task], now: float) -> None:
        """End tasks that were announced again, that no agent has said to hold, and that must not begin twice, or not any more."""
        for task in tasks:
            self._lifecycle.withdraw(task)
            if task.options.runs_once:
                self.end_once(task, "no worker has it after a restart of the scheduler", now)
            else:
                self.answer_unwanted(task, now)

    def _all_attempts_failed(self, task: Task) -> str:
        """Begin the error of a task that is not tried again."""
        if task.options.runs_once:
            return f"{self._described(task)}: it is not run again (idempotent=False); "
        return f"{self._described(task)}: attempt {task.failures} of {self._config.max_task_attempts} failed; "

    def _described(self, task: Task) -> str:
        """Return a task's number and its function's name, which tells people which of theirs it is."""
        return self._functions.described(task.number, task.function)

    # --- after a restart

    def recover(self, client: ClientRecord, tasks: list[Task], now: float) -> list[Task]:
        """Tasks announced again: answer, attach or hold back those that agents may have; return the rest."""
        rest = []
        waiting = now < self._started_at + self._config.recovery_grace_seconds
        for task in tasks:
            result = self._recovery.take_result(client.id, task.number)
            claim = self._recovery.take_claim(client.id, task.number)
            status = m.Status.SUCCESS if result is None else status_of(result)
            tries_again = result is not None and not is_answer(result, task.options.asks)
            if result is not None and status in _OWN_ERRORS and tries_again and claim is None:
                tries_again = self._count_early(task, status, result.attempts[0])
                if not tries_again and status is m.Status.RETRY:
                    status = _status_of_failure(task)
                    result.statuses = [status]
            if result is not None and not tries_again:
                if status in NAMED:
                    result.payloads = Packed.of([f"{self._described(task)}: ".encode() + bytes(result.payloads.data)])
                self._lifecycle.drop(task, status, now, bytes(result.payloads.data))
                self._outbox.send(client, result)
                if claim is not None:
                    # Another attempt of it.
                    self._rows.stop(client, task.number, claim)
                continue
            if result is not None:
                self._rows.free_objects(client, result.objects)
            if claim is not None:
                self._lifecycle.adopt(task, claim.agent, claim.attempt)
            elif task.options.runs_once and (result is not None or not waiting):
                self.end_once(task, "no worker has it any more", now)
            elif waiting:
                self._lifecycle.hold_back(task)
            else:
                rest.append(task)
        return rest

    def _count_early(self, task: Task, status: m.Status, attempt: int) -> bool:
        """Count an error of a task's own that came before its client. Return whether the task runs once more."""
        if self._lifecycle.is_counted(task, attempt):
            # The agent did not hear that an earlier scheduler had it.
            return True
        self._lifecycle.note_attempt(task, attempt)
        if not self._has_retries(task, status):
            return False
        self._note_retry(task)
        return True

    def announcement_deadline(self, client: ClientRecord) -> float:
        """Return until when the client may announce tasks of an earlier session."""
        return client.connected_at + self._config.recovery_grace_seconds

    def may_still_announce(self, client: ClientRecord, now: float) -> bool:
        """Whether the client came back so recently that announcements of older tasks may be on their way."""
        return bool(client.hello.scheduler_incarnation) and now < self.announcement_deadline(client)


def _status_of_failure(task: Task) -> m.Status:
    """Return the status of a task that has failed for the last time. A map's chunk succeeds, whatever becomes of its items."""
    return m.Status.SUCCESS if task.options.kind == m.TaskKind.MAP_CHUNK else m.Status.FAILED
