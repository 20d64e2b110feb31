"""`DependentFuture`: the answer of a call that has other futures among its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from scaler.client.future import ScalerFuture

_SHOWN_MAX = 10


class LinkedCall(Protocol):
    """The call, as long as it is not answered."""

    inputs: Sequence[ScalerFuture]
    """The futures it needs, which it keeps."""

    def send_values_of(self, numbers: Sequence[int]) -> None:
        """The scheduler does not know these tasks any more: submit the call anew with their values, as soon as they are here."""


class DependentFuture(ScalerFuture):
    """See the module. Behaves as any other future."""

    call: LinkedCall | None = None
    """What to submit anew where need be; None once it has ended."""
    needed: tuple[int, ...] = ()
    """Where it failed because a task failed that it needs: the numbers from its own to that task's."""

    def note_failure(self) -> None:
        """It has failed: note the tasks in between, if that is because of what it needs."""
        for future in () if self.call is None else self.call.inputs:
            if future.done() and not future.cancelled() and future.failed:
                before = future.needed if isinstance(future, DependentFuture) else ()
                self.needed = (self.number, *(before or (future.number,)))
                return

    def _restore(self) -> tuple[Any, BaseException | None]:
        outcome = super()._restore()
        needed = self.__dict__.pop("needed", ())
        if needed and outcome[1] is not None:
            shown = [f"task {number}" for number in needed]
            if len(shown) > _SHOWN_MAX:
                shown[5 : 5 - _SHOWN_MAX] = [f"… ({len(shown) - _SHOWN_MAX} tasks)"]
            outcome[1].add_note(f"{', which needs '.join(shown)}: that one failed, so the others did not run")
        return outcome

    def _tell(self) -> None:
        self.call = None
        super()._tell()

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, ScalerFuture.__name__, 1)
