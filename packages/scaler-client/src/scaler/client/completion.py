"""Tells futures, and whoever else waits for a task, what became of it. Called without any lock."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Protocol

from scaler import errors
from scaler.client.future import ScalerFuture, answer_futures
from scaler.core import effects
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import FIGURES_START, NO_FIGURES


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
            profiles = list(map(reported.profile, range(len(tokens))))
        answer_futures(tokens, completed.payloads, statuses, profiles)  # type: ignore[arg-type]
        return
    for position, token in enumerate(tokens):
        if isinstance(token, ScalerFuture):
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
