"""What futures ask of the client that made them: to wait, to be cancelled, to have their answers turned into values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from scaler import errors
from scaler.client.core_owner import CoreOwner
from scaler.client.future import ScalerFuture
from scaler.client.sleepers import Sleepers
from scaler.client.task_intake import TaskIntake
from scaler.client.waiting import Waiting
from scaler.core import effects
from scaler.serialization.results import load_error, load_value
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.wire import messages as m


class Confirmation:
    """Tells whoever waits that cancelled tasks do not run any more."""

    __slots__ = ("is_taken", "left", "sleepers")

    def __init__(self) -> None:
        self.left: set[int] = set()
        self.is_taken = False
        self.sleepers = Sleepers()

    def done(self) -> bool:
        """Whether none of the tasks runs any more."""
        return self.is_taken and not self.left


class FutureRequests:
    """The `FutureOwner` of an engine's futures."""

    __slots__ = ("_confirmations", "_intake", "_owner", "waiting")

    def __init__(self, owner: CoreOwner, intake: TaskIntake, waiting: Waiting) -> None:
        self._owner = owner
        self.waiting = waiting
        """How threads wait for the futures."""
        self._intake = intake
        self._confirmations: dict[int, Confirmation] = {}
        """Who waits for the confirmation that a task does not run any more, by its number."""

    # --- from any thread

    def restore(
        self, status: int, payload: effects.Payload, number: int, serializer: AnySerializer | None
    ) -> tuple[Any, BaseException | None]:
        """Return (value, None) or (None, exception) of an answer. Never raises."""
        if status != m.Status.SUCCESS:
            return None, load_error(status, payload, number)
        try:
            return load_value(payload, serializer), None
        except errors.DeserializeObjectError as error:
            return None, error

    def cancel(self, futures: Sequence[ScalerFuture], timeout: float | None) -> None:
        """Cancel these futures, unless they are done, and stop their tasks; wait up to `timeout` seconds until they have."""
        confirmation = self._cancel(futures, None)
        if timeout is not None:
            self.waiting.wait(confirmation.sleepers, confirmation.done, timeout)

    def end(self, futures: Sequence[ScalerFuture], error: Exception) -> None:
        """Cancel these futures, whose `result` raises `error` then, and stop their tasks."""
        self._cancel(futures, error)

    def withdraw(self, futures: Sequence[ScalerFuture]) -> None:
        """Cancel those of these futures whose tasks no worker has begun; the others end as ever."""
        self._owner.steps.do(partial(self._take_withdrawal, {future.number: future for future in futures}))

    def _cancel(self, futures: Sequence[ScalerFuture], error: Exception | None) -> Confirmation:
        self._owner.check_process()
        confirmation = Confirmation()
        # First the step, which also does what an interrupt keeps this thread from doing.
        self._owner.steps.do(partial(self._take_cancel, tuple(futures), error, confirmation))
        for future in futures:
            future.mark_cancelled(error)
        return confirmation

    # --- the owner's

    def _take_cancel(
        self, futures: Sequence[ScalerFuture], error: Exception | None, confirmation: Confirmation
    ) -> None:
        numbers = [future.number for future in futures]
        self._intake.take_cancel(numbers)
        for number in self._owner.core.unconfirmed_among(numbers):
            confirmation.left.add(number)
            self._confirmations[number] = confirmation
        if not confirmation.left:
            confirmation.sleepers.wake()
        confirmation.is_taken = True
        self._owner.perform_later(partial(_end_cancelled, futures, error))

    def _take_withdrawal(self, futures: Mapping[int, ScalerFuture]) -> None:
        here = self._intake.take_withdrawal(futures)
        self._owner.perform_later(partial(_end_cancelled, [futures[number] for number in here], None))

    def on_confirmed(self, numbers: Iterable[int]) -> None:
        """These cancelled tasks do not run any more."""
        for number in numbers:
            confirmation = self._confirmations.pop(number, None)
            if confirmation is not None:
                confirmation.left.discard(number)
                if not confirmation.left:
                    confirmation.sleepers.wake()


def _end_cancelled(futures: Sequence[ScalerFuture], error: Exception | None) -> None:
    for future in futures:
        future.end_cancelled(error)
