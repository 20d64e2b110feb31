"""What becomes of answers: they complete tasks, or they are objects that must be fetched first, or nobody wants them."""

from __future__ import annotations

from collections.abc import Sequence

from scaler.core import effects
from scaler.core.endings import Endings
from scaler.core.holdings import ObjectUses
from scaler.core.tasks import Graph, Task, TaskGroup, TaskTable
from scaler_protocol.payloads.framing import OBJECT
from scaler_protocol.runtime.core import Outbox
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import reported_of

UNREADABLE = int(m.Status.UNREADABLE)
RETRY = int(m.Status.RETRY)
SKIPPED = int(m.Status.SKIPPED)


class Answers:
    """Takes answers in. Owns the tasks whose answer is being fetched from object storage, or stays there."""

    def __init__(self, table: TaskTable, endings: Endings, uses: ObjectUses, outbox: Outbox[effects.Effect]) -> None:
        self.fetching: dict[int, tuple[Task, effects.Completed]] = {}
        """Answered tasks whose answer is an object: what `Completed` will say of them, without the payload."""
        self.left: dict[int, tuple[Task, effects.Completed]] = {}
        """The same of those whose answer stays in storage until somebody asks for it."""
        self.ended_of_jobs: set[int] = set()
        """Numbers of tasks of jobs that have left and that nobody waits for: an object that is their result is the job's."""
        self._sent_again: set[int] = set()
        """Numbers of tasks that left once more because a worker could not read their payloads; unanswered, or not long ago."""
        self._table = table
        self._endings = endings
        self._uses = uses
        self._outbox = outbox

    def on_results(self, batch: m.ResultBatch) -> None:
        """Tasks have ended, cancelled ones among them. Or some are tried again, and this says how often they have failed."""
        if len(batch.statuses) and RETRY in batch.statuses:
            self._table.history.note_failures(batch)
            return
        numbers = list(batch.numbers)
        if self._sent_again and not (len(batch.statuses) and UNREADABLE in batch.statuses):
            self._sent_again.difference_update(numbers)
        if self._table.large:
            self._table.large.forget(numbers)
        pop = self._table.tasks.pop
        tasks = [pop(number, None) for number in numbers]
        if len(batch.statuses) and self._table.history:
            self._note_returned(batch, tasks)
        payloads = batch.payloads.split()
        object_rows = set(batch.object_positions) if len(batch.object_positions) else None
        if object_rows is None and all(tasks) and not (len(batch.statuses) and UNREADABLE in batch.statuses):
            done: list[Task | None] = tasks
            completed = effects.Completed(numbers, [], payloads, reported_of(batch))
        else:
            known = self._sort_out(batch, numbers, tasks, payloads, object_rows or set())
            done = [tasks[row] for row in known]
            completed = _rows(batch, numbers, payloads, known)
        completed.tokens = [task.token for task in done if task is not None]
        if self._endings.free_something:
            for task in done:
                if task is not None:
                    self._endings.finish(task)
        if completed.tokens:
            self._outbox.add(completed)

    def _note_returned(self, batch: m.ResultBatch, tasks: list[Task | None]) -> None:
        """Rows of graphs that cannot run as they were submitted are submitted anew: what is known of them is kept until then."""
        graphs: dict[Graph, None] = {}
        for task, status in zip(tasks, batch.statuses, strict=True):
            if status in (SKIPPED, UNREADABLE) and task is not None and isinstance(task.source, Graph):
                graphs[task.source] = None
        for graph in graphs:
            self._table.history.note_returned(range(graph.first_number, graph.first_number + graph.rows))

    def _sort_out(
        self,
        batch: m.ResultBatch,
        numbers: list[int],
        tasks: list[Task | None],
        payloads: list[bytes],
        object_rows: set[int],
    ) -> list[int]:
        """Return the rows that complete now: not those of cancelled tasks, nor those whose answer must be fetched."""
        known = []
        statuses = batch.statuses
        confirmed = []
        unwanted: list[bytes] = []
        for row, task in enumerate(tasks):
            number = numbers[row]
            payload = payloads[row]
            is_object = row in object_rows and payload[:1] == OBJECT
            if task is None:
                if number in self._endings.unconfirmed:
                    confirmed.append(number)
                is_value = not statuses or statuses[row] == m.Status.SUCCESS
                if number in self.ended_of_jobs:
                    self.ended_of_jobs.remove(number)
                elif is_object and not (is_value and self._endings.keep_for_others(number, payload[1:])):
                    unwanted.append(payload[1:])
            elif len(statuses) and statuses[row] == UNREADABLE and self._send_again(number, task):
                continue
            elif is_object and not (_keeps(task) and (not statuses or statuses[row] == m.Status.SUCCESS)):
                self.fetching[number] = (task, _rows(batch, numbers, payloads, [row]))
                is_value = not statuses or statuses[row] == m.Status.SUCCESS
                is_of_job = isinstance(task.source, TaskGroup) and bool(task.source.flags & m.TaskFlag.DETACHED)
                if is_of_job:
                    self._uses.foreign.add(payload[1:])
                if is_value:
                    self._endings.keep_answer(task, payload[1:])
                self._endings.finish(task)
                self._outbox.add(
                    effects.FetchObject(number, payload[1:], task.token if is_value and not is_of_job else None)
                )
            else:
                if is_object:
                    self._endings.keep_answer(task, payload[1:])
                known.append(row)
        self._endings.confirm(confirmed)
        if len(batch.statuses) and unwanted:
            wanted = {bytes(completed.payloads[0][1:]) for _, completed in self.fetching.values()}  # type: ignore[arg-type]
            unwanted = [object_id for object_id in unwanted if object_id not in wanted]
        if unwanted:
            self._outbox.add(effects.DeleteObjects(tuple(unwanted)))
        return known

    def note_ended(self, number: int, task: Task) -> None:
        """A task that has left ends here before it is answered."""
        if isinstance(task.source, TaskGroup) and task.source.flags & m.TaskFlag.DETACHED:
            self.ended_of_jobs.add(number)

    def _send_again(self, number: int, task: Task) -> bool:
        """A worker cannot read the payload of a task where it lies: let it leave once more. False where that has not helped."""
        if isinstance(task.source, Graph) or number in self._sent_again:
            return False
        self._sent_again.add(number)
        self._table.tasks[number] = task
        task.source.pending.insert(number)
        return True

    def on_fetched(self, number: int, payload: effects.Payload, failure: m.Status | None) -> None:
        """The object that answers a task has come; or, with `failure`, a text that says why it has not."""
        entry = self.fetching.pop(number, None)
        if entry is None:
            # Cancelled while it was fetched.
            return
        task, completed = entry
        stored = completed.payloads[0]
        assert isinstance(stored, bytes)
        completed.tokens.append(task.token)
        completed.payloads = [payload]
        if failure is not None:
            completed.reported = completed.reported._replace(statuses=[failure])
        self._outbox.add(completed)
        self._uses.awaited.discard(stored[1:])
        if failure is None and not self._is_needed(completed, stored):
            self._outbox.add(effects.DeleteObjects((stored[1:],)))

    def leave(self, number: int, token: object) -> bool:
        """An answer that was to be fetched stays in storage; `token` is the task's from now on. False: it is not wanted."""
        entry = self.fetching.pop(number, None)
        if entry is None:
            return False
        task, completed = entry
        self.left[number] = (task._replace(token=token), completed)
        return True

    def fetch_left(self, number: int, token: object) -> None:
        """An answer that stays in storage is asked for: fetch it; `token` is the task's from now on."""
        entry = self.left.pop(number, None)
        if entry is not None:
            task, completed = entry
            self.fetching[number] = (task._replace(token=token), completed)
            stored = completed.payloads[0]
            assert isinstance(stored, bytes)
            self._outbox.add(effects.FetchObject(number, stored[1:]))

    def stored_value(self, number: int) -> tuple[object, bytes] | None:
        """Return the token of a task whose answer is being fetched, and the object; None where that is no value."""
        entry = self.fetching.get(number)
        if entry is None:
            return None
        task, completed = entry
        stored = completed.payloads[0]
        assert isinstance(stored, bytes)
        statuses = completed.reported.statuses
        return (task.token, stored[1:]) if not statuses or statuses[0] == m.Status.SUCCESS else None

    def drop_fetched(self, numbers: Sequence[int]) -> None:
        """Nobody wants these answers any more, which are objects."""
        dropped = [(self.fetching.pop(number, None) or self.left.pop(number))[1] for number in numbers]
        for one in dropped if self._uses.awaited else ():
            self._uses.awaited.discard(bytes(one.payloads[0][1:]))  # type: ignore[arg-type]
        stored = dict.fromkeys(
            bytes(one.payloads[0][1:])  # type: ignore[arg-type]
            for one in dropped
            if not self._is_needed(one, one.payloads[0])
        )
        if stored:
            self._outbox.add(effects.DeleteObjects(tuple(stored)))

    def _is_needed(self, completed: effects.Completed, stored: effects.Payload) -> bool:
        if stored[1:] in self._uses.counts:
            # Tasks name it, or may: it is deleted with its last use.
            return True
        return bool(len(completed.reported.statuses)) and self._is_awaited(stored)

    def _is_awaited(self, stored: effects.Payload) -> bool:
        """Whether other rows of a graph, which failed for the same reason, wait for the same object."""
        return any(other.payloads[0] == stored for _, other in self.fetching.values())


def _keeps(task: Task) -> bool:
    return type(task.source) is Graph and task.source.keeps


def _rows(batch: m.ResultBatch, numbers: list[int], payloads: list[bytes], rows: Sequence[int]) -> effects.Completed:
    """Return what these rows of a batch say, without tokens."""
    return effects.Completed(
        [numbers[row] for row in rows], [], [payloads[row] for row in rows], reported_of(batch).pick(rows)
    )
