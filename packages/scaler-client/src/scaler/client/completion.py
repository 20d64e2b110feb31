"""Tells futures, and whoever else waits for a task, what became of it. Called without any lock."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Protocol

from scaler import errors
from scaler.client.current_task import TaskProgress
from scaler.client.dependent_future import DependentFuture
from scaler.client.future import ScalerFuture, answer_futures
from scaler.core import effects
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import FIGURES_START, NO_FIGURES
from scaler_protocol.wire.task_lists import read_numbers


class AnswerReceiver(Protocol):
    """What is given to `submit` in place of a future, and told the answer itself."""

    number: int
    """The task's, set by `submit`."""

    def on_answer(self, status: int, payload: effects.Payload, duration: int) -> None:
        """The task ended with this; `duration` in microseconds, 0 where unknown."""

    def on_abandoned(self, error: errors.ScalerError) -> None:
        """The task will not be answered."""


def complete(completed: effects.Completed) -> None:
    """Give tasks their answers: their tokens are futures, or receivers."""
    tokens = completed.tokens
    reported = completed.reported
    statuses, durations = reported.statuses, reported.durations
    if type(tokens[0]) is ScalerFuture and (len(tokens) == 1 or all(type(token) is ScalerFuture for token in tokens)):
        profiles = None
        figures = reported[FIGURES_START:]
        # Nearly always these are the empty tuples themselves, which takes less time to see than lengths.
        if figures != NO_FIGURES and any(map(len, figures)):
            profiles = reported.profiles(len(tokens))
        answer_futures(tokens, completed.payloads, statuses, profiles)  # type: ignore[arg-type]
        return
    for position, token in enumerate(tokens):
        if isinstance(token, DependentFuture):
            _complete_dependent(token, completed, position)
            continue
        if type(token) is ScalerFuture:
            one = effects.Completed(
                [completed.numbers[position]],
                [token],
                [completed.payloads[position]],
                reported.cut(position, position + 1),
            )
            complete(one)
            continue
        duration = durations[position] if len(durations) else 0
        status = statuses[position] if len(statuses) else m.Status.SUCCESS
        token.on_answer(status, completed.payloads[position], duration)  # type: ignore[attr-defined]


def _complete_dependent(future: DependentFuture, completed: effects.Completed, position: int) -> None:
    reported = completed.reported.cut(position, position + 1)
    payload = completed.payloads[position]
    status = reported.statuses[0] if len(reported.statuses) else m.Status.SUCCESS
    call = future.call
    if status == m.Status.SKIPPED and call is not None:
        if future.number != completed.numbers[position]:
            # It is submitted anew already, with others of its graph.
            return
        call.send_values_of(read_numbers(bytes(payload)))  # type: ignore[arg-type]
        return
    if status == m.Status.UNREADABLE and call is not None:
        # A worker could not read a value where it lies: the client has, or gets, all of them.
        if future.number == completed.numbers[position]:
            call.send_values_of([one.number for one in call.inputs])
        return
    if status != m.Status.SUCCESS:
        future.note_failure()
    figures = reported[FIGURES_START:]
    profiles = reported.profiles(1) if any(map(len, figures)) else None
    answer_futures([future], [payload], reported.statuses, profiles)
    future.call = None


def take_progress(said: effects.Progressed) -> None:
    """A task says how far it is. Of tasks without a future, such as chunks of maps, nobody can ask."""
    if isinstance(said.token, ScalerFuture):
        said.token.note_progress(TaskProgress(said.done, None if said.total < 0 else said.total, said.note))


def abandon(abandoned: effects.Abandoned) -> None:
    """End tasks that will not be answered."""
    for token in abandoned.tokens:
        fail(token, _ABANDONED[abandoned.cause](abandoned.text))


def fail(token: object, error: errors.ScalerError) -> None:
    """End what will not be answered. Where that is because somebody left or cleared it, it is cancelled."""
    if not isinstance(token, ScalerFuture):
        token.on_abandoned(error)  # type: ignore[attr-defined]
    elif isinstance(error, CancelledError):
        token.end_cancelled(error)
    else:
        token.end_failed(error)


_ABANDONED: dict[effects.Cause, type[errors.ScalerError]] = {
    effects.Cause.DISCONNECTED: errors.DisconnectedError,
    effects.Cause.REFUSED: errors.ConnectionRefusedByScheduler,
    effects.Cause.CLEARED: errors.ClientCancelledException,
    effects.Cause.CLOSED: errors.ClientQuitException,
    effects.Cause.SHUT_DOWN: errors.ClientShutdownException,
}
