"""Ends tasks before they are answered.

Somebody cancels them, what they need cannot be stored, they cannot be sent, or there is no hope of an answer any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from scaler.core import effects
from scaler.core.admission import Admission
from scaler.core.answers import Answers
from scaler.core.endings import Endings
from scaler.core.holdings import ObjectUses
from scaler.core.task_history import Before
from scaler.core.task_sender import TaskSender
from scaler.core.tasks import Graph, Task, TaskTable
from scaler.errors import DisconnectedError, ScalerError
from scaler_protocol.runtime.core import Outbox
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.task_lists import pack_numbers


class Cancellation:
    """See the module. The parts of a client core that it works on stay their own owners."""

    def __init__(
        self,
        table: TaskTable,
        uses: ObjectUses,
        admission: Admission,
        sender: TaskSender,
        answers: Answers,
        endings: Endings,
        outbox: Outbox[effects.Effect],
        stop: Callable[[list[int], bool], None],
    ) -> None:
        """`stop` tells the scheduler to stop tasks, while a session stands; with True, only those that wait."""
        self._table = table
        self._uses = uses
        self._admission = admission
        self._sender = sender
        self._answers = answers
        self._endings = endings
        self._outbox = outbox
        self._stop = stop

    def cancel(self, numbers: Collection[int]) -> list[int]:
        """See `ClientCore.cancel`."""
        if self._table.large:
            self._table.large.forget(numbers)
        cancelled = []
        remote: list[int] = []
        confirmed: list[int] = []
        for number in numbers:
            task = self._table.tasks.pop(number, None)
            if task is None:
                if number in self._answers.fetching or number in self._answers.left:
                    self._answers.drop_fetched([number])
                    cancelled.append(number)
                    confirmed.append(number)
                continue
            cancelled.append(number)
            source = task.source
            if isinstance(source, Graph):
                source.canceled.append(number)
                self._endings.canceled_rows.add(number)
                self._endings.finish_graph_row(source, stop=remote)
            if self._sender.waits_again(number, task):
                # This session's scheduler does not know it, and would confirm nothing.
                confirmed.append(number)
                self._endings.release(task.objects)
            elif self._sender.has_left(number, task):
                remote.append(number)
                self._endings.unconfirmed[number] = task.objects
                self._answers.note_ended(number, task)
            else:
                if not isinstance(source, Graph) or source.submit.earlier:
                    self._admission.give_back(1)
                confirmed.append(number)
                self._endings.release(task.objects)
        if remote:
            self._stop(sorted(set(remote)), False)
        if confirmed:
            self._outbox.add(effects.CancelConfirmed(tuple(confirmed)))
        return cancelled

    def withdraw(self, numbers: Sequence[int]) -> None:
        """See `ClientCore.withdraw`."""
        remote: list[int] = []
        here: dict[int, object] = {}
        for number in numbers:
            task = self._table.tasks.get(number)
            if task is None or isinstance(task.source, Graph):
                continue
            if self._sender.has_left(number, task):
                remote.append(number)
            else:
                here[number] = task.token
        if remote:
            self._sender.note_withdrawn(remote)
            self._stop(remote, True)
        if here:
            self._tell_cancelled(here)

    def fail_tasks_of_refused_objects(self) -> None:
        """Fail the tasks that need an object that could not be stored; those that have left are stopped."""
        refused = self._uses.refused
        if not refused:
            return
        victims: dict[int, tuple[Task, str]] = {}
        for number, task in self._table.tasks.items():
            named = task.source.objects if isinstance(task.source, Graph) else task.objects
            reason = next((refused[object_id] for object_id in named if object_id in refused), None)
            if reason is not None:
                victims[number] = (task, reason)
        self._end(victims, m.Status.STORAGE_FAILED)

    def end_overdue(self, overdue: Iterable[tuple[int, float]], waited_for: str) -> None:
        """End unanswered tasks, and graphs by the number of their first row, whose deadlines of so many seconds are over.

        Whoever waits for them is told what they `waited_for`; the scheduler that answers next, that they are cancelled.
        Tasks of jobs are left to it.
        """
        victims: dict[int, tuple[Task, str]] = {}
        for number, seconds in overdue:
            graph = self._table.graphs.get(number)
            numbers = [number] if graph is None else [graph.first_number + row for row in graph.wanted]
            for one in numbers:
                task = self._table.tasks.get(one)
                if task is None or (graph is None and task.source.flags & m.TaskFlag.DETACHED):  # type: ignore[union-attr]
                    continue
                victims[one] = (
                    task,
                    f"task {one}: it was not done {seconds:g} s after it was submitted (deadline_seconds); {waited_for}",
                )
        self._end(victims, m.Status.TIMED_OUT)

    def _end(self, victims: dict[int, tuple[Task, str]], status: m.Status) -> None:
        """End these tasks for these reasons, and those that need their results; those that have left are stopped."""
        if not victims:
            return
        self._add_dependents(victims)
        self._outbox.add(
            effects.Completed(
                list(victims),
                [task.token for task, _ in victims.values()],
                [reason.encode() for _, reason in victims.values()],
                Reported([status] * len(victims)),
            )
        )
        self.cancel(list(victims))

    def _add_dependents(self, victims: dict[int, tuple[Task, str]]) -> None:
        """Add the tasks that need results of these: they fail for the same reason. To the scheduler all are cancelled."""
        for first in sorted(self._table.graphs):
            graph = self._table.graphs[first]
            submit = graph.submit
            rows = graph.rows
            reasons = {rows + k: victims[number][1] for k, number in enumerate(submit.earlier) if number in victims}
            found = len(reasons)
            while found:
                found = 0
                start = 0
                for row, count in enumerate(submit.dependency_counts):
                    needs = submit.dependencies[start : start + count]
                    start += count
                    if (
                        row not in reasons
                        and (needed := next((one for one in needs if one in reasons), None)) is not None
                    ):
                        reasons[row] = reasons[needed]
                        found += 1
            for row in graph.wanted if reasons else ():
                task = self._table.tasks.get(first + row)
                if task is not None and row in reasons:
                    victims.setdefault(first + row, (task, reasons[row]))

    def cancel_from(self, first: int) -> None:
        """See `ClientCore.cancel_from`."""
        victims = {number: task.token for number, task in self._table.tasks.items() if number >= first}
        if victims:
            self._tell_cancelled(victims)

    def _tell_cancelled(self, victims: dict[int, object]) -> None:
        """Cancel these tasks, whose tokens are given, and tell whoever waits for them."""
        nothing: list[effects.Payload] = [b""] * len(victims)
        reported = Reported([m.Status.CANCELED] * len(victims))
        self._outbox.add(effects.Completed(list(victims), list(victims.values()), nothing, reported))
        self.cancel(list(victims))

    def fail_if_refused(self, number: int, task: Task) -> bool:
        """Fail a task that is about to be submitted, if it needs an object that could not be stored; return whether it does."""
        refused = self._uses.refused
        reason = next((refused[object_id] for object_id in task.objects if object_id in refused), None)
        if reason is None:
            return False
        reported = Reported([m.Status.STORAGE_FAILED])
        self._outbox.add(effects.Completed([number], [task.token], [reason.encode()], reported))
        self._endings.release(task.objects)
        return True

    def return_graph(
        self, submit: m.GraphSubmit, tokens: Sequence[object], ended: Sequence[int], before: Before | None
    ) -> None:
        """Give back a graph, its numbers taken, that needs tasks which have `ended` here: as if the scheduler did not know them.

        It would take them for cancelled, whatever they have ended with. Whoever submits knows that, and submits the rest.
        """
        first = submit.first_number
        history = self._table.history
        if before is not None and submit.options:
            history.move(before, first, submit.options)
        history.note_returned(range(first, first + len(submit.payloads)))
        named: effects.Payload = pack_numbers(ended)
        numbers = [first + row for row in submit.wanted]
        reported = Reported([m.Status.SKIPPED] * len(numbers))
        self._outbox.add(effects.Completed(numbers, list(tokens), [named] * len(numbers), reported))
        self._endings.release(submit.objects)

    def fail(self, numbers: Sequence[int], reason: str) -> None:
        """Fail tasks that will not be sent, and that the scheduler does not know."""
        self._table.large.forget(numbers)
        tasks = [self._table.tasks.pop(number) for number in numbers]
        if tasks:
            reasons: list[effects.Payload] = [reason.encode("utf-8", "replace")] * len(tasks)
            reported = Reported([m.Status.NOT_RUN] * len(tasks))
            self._outbox.add(effects.Completed(list(numbers), [task.token for task in tasks], reasons, reported))
        for task in tasks:
            self._endings.finish(task)

    def disconnect(self, text: str, *, stop_tasks: bool = True) -> None:
        """Give up what is unanswered, and go on trying: the client is usable again when a session stands."""
        left = []
        permitted = 0
        for number, task in self._table.tasks.items():
            if self._sender.has_left(number, task):
                left.append(number)
                self._answers.note_ended(number, task)
            elif not isinstance(task.source, Graph) or task.source.submit.earlier:
                permitted += 1
        # Should the session resume, the scheduler still counts on what it has permitted and never seen.
        self._admission.give_back(permitted)
        self.give_up(effects.Cause.DISCONNECTED, text, final=False, error=DisconnectedError(text))
        if stop_tasks and left:
            # Should the session resume after all, nobody waits for these any more.
            self._stop(left, False)

    def abandon(self, submissions: Iterable[tuple[int, object, Task]]) -> None:
        """End tasks that were about to be submitted when the session ended for good."""
        numbers: list[int] = []
        tokens: list[object] = []
        for number, _, task in submissions:
            numbers.append(number)
            tokens.append(task.token)
            self._endings.release(task.objects)
        if numbers:
            text = str(self._admission.unusable)
            self._outbox.add(effects.Abandoned(numbers, tokens, effects.Cause.DISCONNECTED, text))

    def give_up(self, cause: effects.Cause, text: str, *, final: bool, error: ScalerError) -> None:
        """Abandon all unanswered tasks, and take none until a session stands, or never again (`final`)."""
        table, answers, endings = self._table, self._answers, self._endings
        self._admission.close(error)
        entries = [(number, task.token) for number, task in table.tasks.items()]
        for waiting in (answers.fetching, answers.left):
            entries += [(number, task.token) for number, (task, _) in waiting.items()]
        for task in table.tasks.values():
            endings.release(task.objects)
        for graph in table.graphs.values():
            endings.release((*graph.objects, *graph.answers))
        table.clear()
        endings.canceled_rows.clear()
        answers.drop_fetched([*answers.fetching, *answers.left])
        endings.confirm(list(endings.unconfirmed))
        self._outbox.add(effects.Unusable(cause, text, final))
        self._outbox.add(effects.CreditArrived())
        if entries:
            self._outbox.add(effects.Abandoned([n for n, _ in entries], [t for _, t in entries], cause, text))
