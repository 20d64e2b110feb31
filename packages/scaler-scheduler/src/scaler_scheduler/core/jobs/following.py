"""Clients that wait for tasks of jobs, and the answers that go to them: so many at a time as they take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import EMPTY, Packed
from scaler_scheduler.core.jobs.job import Job, RowState
from scaler_scheduler.core.outbox import MessageOutbox
from scaler_scheduler.core.records import ClientRecord

ANSWER_ROWS_MAX = 1000
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""What one message has at most; its last row may exceed it."""

UNACKNOWLEDGED_BYTES_MAX = 64 * 1024 * 1024
"""While so much is on its way to a client, further answers wait."""

RETRY_SECONDS = 0.02
"""How soon is looked again whether a client takes more."""


class Answer:
    """What becomes of a task, for a client that follows it."""

    __slots__ = ("number", "objects", "payload", "status")

    def __init__(self, number: int, status: int, payload: bytes, objects: tuple[bytes, ...] = ()) -> None:
        self.number = number
        self.status = status
        self.payload = payload
        self.objects = objects


class Following:
    """Owns the answers that have not left."""

    def __init__(self, clients: dict[bytes, ClientRecord], outbox: MessageOutbox) -> None:
        self._clients = clients
        self._outbox = outbox
        self.due: dict[bytes, deque[Callable[[], Answer]]] = {}
        """By client. Each is made when it leaves, so that results are not in memory twice."""

    @property
    def can_send(self) -> bool:
        """Whether a client takes one of them now."""
        return any(self._takes(client_id) for client_id in self.due)

    def answer(self, client_id: bytes, make: Callable[[], Answer]) -> None:
        """Answer a client's task, in its turn."""
        self.due.setdefault(client_id, deque()).append(make)

    def tell(self, job: Job, position: int) -> None:
        """A task has ended: answer those who wait for it."""
        for client_id, number in job.followers.pop(position, ()):
            self.answer_with_row(job, position, client_id, number)

    def answer_with_row(self, job: Job, position: int, client_id: bytes, number: int) -> None:
        """Answer one who waits for a task that has ended."""
        row = job.rows[position]

        def make() -> Answer:
            if row.state is RowState.LOST or row.state is RowState.OPEN:
                text = f"the result of task {position} of job {job.name!r} is lost: submit the job again"
                return Answer(number, m.Status.MISSING_OBJECT, text.encode())
            return Answer(number, row.status, row.result, row.objects)

        self.answer(client_id, make)

    def tell_progress(self, job: Job, progress: m.TaskProgress) -> None:
        """A task says how far it is: tell those who wait for it."""
        position = job.position_of(progress.number)
        for client_id, number in () if position is None else job.followers.get(position, ()):
            client = self._clients.get(client_id)
            if client is not None:
                told = m.TaskProgress(client_id, number, progress.done, progress.total, progress.note)
                self._outbox.send_plain(client, told)

    def tell_notice(self, job: Job, notice: m.Notice) -> None:
        """Tasks cannot run: tell those who wait for them."""
        numbers: dict[bytes, list[int]] = {}
        for task_number in notice.numbers:
            position = job.position_of(task_number)
            for client_id, number in () if position is None else job.followers.get(position, ()):
                numbers.setdefault(client_id, []).append(number)
        for client_id, own in numbers.items():
            client = self._clients.get(client_id)
            if client is not None:
                self._outbox.send(client, m.Notice(notice.text, notice.level, own, notice.kind))

    def send(self) -> None:
        """Send what clients take."""
        for client_id in list(self.due):
            while self._takes(client_id):
                client = self._clients.get(client_id)
                if client is None:
                    del self.due[client_id]
                    break
                self._send_some(client, self.due[client_id])
                if not self.due[client_id]:
                    del self.due[client_id]

    def _takes(self, client_id: bytes) -> bool:
        client = self._clients.get(client_id)
        if client_id not in self.due:
            return False
        return client is None or client.session.outbox_bytes < UNACKNOWLEDGED_BYTES_MAX

    def _send_some(self, client: ClientRecord, due: deque[Callable[[], Answer]]) -> None:
        answers: list[Answer] = []
        size = 0
        while due and len(answers) < ANSWER_ROWS_MAX and size < ANSWER_BYTES_MAX:
            one = due.popleft()()
            size += len(one.payload)
            answers.append(one)
        self._outbox.send(client, batch_of(client.id, answers))


def batch_of(client_id: bytes, answers: Iterable[Answer]) -> m.ResultBatch:
    """Return the message of these answers."""
    rows = list(answers)
    statuses = [row.status for row in rows]
    named = [(place, one) for place, row in enumerate(rows) for one in row.objects]
    return m.ResultBatch(
        client_id,
        [row.number for row in rows],
        [1] * len(rows),
        Packed.of([row.payload for row in rows]),
        statuses if any(statuses) else EMPTY,
        object_positions=[place for place, _ in named] if named else EMPTY,
        objects=tuple(one for _, one in named),
    )
