"""What became of tasks, until the scheduler is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scaler_adapters.symphony.core.tasks import Task
from scaler_adapters.symphony.task_runner import RemoteResult
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import report
from scaler_protocol.wire.columns import Packed


class Answer(NamedTuple):
    """What became of one task."""

    task: Task
    status: int
    payload: bytes
    result: RemoteResult | None
    """What Symphony measured, if it ran the task to its end."""
    object_id: bytes
    """The object that the payload names, if it names one."""


class Answers:
    """Answers that the scheduler has not been sent."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []

    def __len__(self) -> int:
        return len(self._answers)

    def add(
        self, task: Task, status: int, payload: bytes, result: RemoteResult | None = None, object_id: bytes = b""
    ) -> None:
        """From now on nobody waits for `task` any more."""
        task.answered = True
        self._answers.append(Answer(task, status, payload, result, object_id))

    def drop_client(self, client: bytes) -> None:
        """Forget the answers to a client that has ended."""
        self._answers = [answer for answer in self._answers if answer.task.client != client]

    def take_batches(self, capacity: int) -> list[m.ResultBatch]:
        """Return all answers, one batch per client, and forget them."""
        by_client: dict[bytes, list[Answer]] = {}
        for answer in self._answers:
            by_client.setdefault(answer.task.client, []).append(answer)
        self._answers = []
        return [_result_batch(client, answers, capacity) for client, answers in by_client.items()]


def _result_batch(client: bytes, answers: Sequence[Answer], capacity: int) -> m.ResultBatch:
    with_objects = [position for position, answer in enumerate(answers) if answer.object_id]
    return m.ResultBatch(
        client=client,
        numbers=[answer.task.number for answer in answers],
        attempts=[answer.task.attempt for answer in answers],
        payloads=Packed.of([answer.payload for answer in answers]),
        object_positions=with_objects,
        objects=tuple(answers[position].object_id for position in with_objects),
        capacity=capacity,
        **report(list(map(_reported, answers)))._asdict(),
    )


def _reported(answer: Answer) -> dict[str, int]:
    """Return what is reported of a task, by the names of columns."""
    reported = {"statuses": answer.status}
    if answer.result is not None:
        if answer.task.batch.flags & m.TaskFlag.PROFILE:
            reported |= answer.result.figures
        reported["durations"] = answer.result.duration
    return reported
