"""`DependentFuture`: the answer of a call that has other futures among its arguments."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
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
            if future.has_ended and not future.cancelled() and future.failed:
                before = future.needed if isinstance(future, DependentFuture) else ()
                self.needed = (self.number, *(before or (future.number,)))
                return

    def end_failed_by(self, needed: ScalerFuture) -> None:
        """It is not run, because this future, which it needs, has failed."""
        error = needed.exception()
        assert error is not None
        if self.number:
            self.note_failure()
        if self.needed:
            error = _copy_with_notes(error, needed._note if isinstance(needed, DependentFuture) else "", self._note)
        self.end_failed(error)

    def leave_in_storage(self, stored: bytes, fetch: Callable[[ScalerFuture], object]) -> None:
        """See `ScalerFuture`. It has been run, so it keeps nothing that it needed."""
        self.call = None
        super().leave_in_storage(stored, fetch)

    def _restore(self) -> tuple[Any, BaseException | None]:
        outcome = super()._restore()
        if self.needed and outcome[1] is not None:
            outcome[1].add_note(self._note)
        return outcome

    @property
    def _note(self) -> str:
        """What its error says of the tasks in between."""
        shown = [f"task {number}" for number in self.needed]
        if len(shown) > _SHOWN_MAX:
            shown[5 : 5 - _SHOWN_MAX] = [f"… ({len(shown) - _SHOWN_MAX} tasks)"]
        return f"{', which needs '.join(shown)}: that one failed, so the others did not run" if shown else ""

    def _tell(self) -> None:
        self.call = None
        super()._tell()

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, ScalerFuture.__name__, 1)


def _copy_with_notes(error: BaseException, without: str, note: str) -> BaseException:
    """Return a copy of an error that another future raises, with another note; the error itself where it cannot be copied."""
    try:
        copied = copy.copy(error)
        if type(copied) is not type(error):
            return error
        copied.__traceback__ = error.__traceback__
        copied.__cause__, copied.__context__ = error.__cause__, error.__context__
        copied.__suppress_context__ = error.__suppress_context__
        copied.__notes__ = [one for one in getattr(error, "__notes__", ()) if one != without]
        copied.add_note(note)
    except Exception:
        # It is of the user's making.
        return error
    return copied
