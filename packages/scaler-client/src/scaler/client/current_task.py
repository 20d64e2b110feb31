"""`current_task()`: what code inside a task can ask about that task, and say about it; what its future shows of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from scaler_protocol.runtime.names import shown

if TYPE_CHECKING:
    from scaler_protocol.runtime.task_context import TaskContext

NOTE_CHARACTERS_MAX = 200
"""Longer notes are cut."""

AMOUNT_MAX = 2**53
"""The largest amount: the pages and JSON have whole numbers up to this."""

_PLAIN = frozenset((int, float))

_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class TaskProgress(NamedTuple):
    """How far a task says that it is."""

    done: float
    """How much is done."""
    total: float | None = None
    """Of how much; None where the task has not said."""
    note: str = ""
    """What the task says about it."""


class WithProgress:
    """What futures have of this."""

    _progress: TaskProgress | None = None

    def progress(self) -> TaskProgress | None:
        """Return how far the task says that it is, or None where it has said nothing (yet).

        It is some tenths of a second old, and what a task says just before its end may not arrive.
        """
        return self._progress

    def note_progress(self, progress: TaskProgress) -> None:
        """The task has said this last."""
        self.__dict__["_progress"] = progress


class CurrentTask:
    """The task that this code runs in, see `current_task`."""

    __slots__ = ()

    def report_progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far the task is: `done` of `total`, in whatever is counted, with a note for people.

        Seen on the pages, in `scaler_top`, and by `future.progress()`. Cheap enough for inner loops: it is sent twice a second
        at most, the newest values. Raises TypeError or ValueError for what is no amount. Outside tasks it does nothing.
        """
        if (
            type(done) not in _PLAIN
            or (total is not None and type(total) not in _PLAIN)
            or type(note) is not str
            or not 0 <= done <= AMOUNT_MAX
            or not (total is None or 0 <= total <= AMOUNT_MAX)
        ):
            done, total = _checked("done", done), None if total is None else _checked("total", total)
            if not isinstance(note, str):
                raise TypeError(f"note must be a str, not {shown(note)}")
        context = _context()
        if context is not None:
            context.report_progress(done, -1.0 if total is None else total, note[:NOTE_CHARACTERS_MAX])

    @property
    def resources(self) -> Mapping[str, float]:
        """The amounts that the task asked for, by name: memory in bytes. Empty where it asked for none, and outside tasks."""
        from scaler_protocol.runtime.resources import ONE
        from scaler_protocol.wire.call_options import asked_of

        context = _context()
        options = context.options if context is not None else b""
        return MappingProxyType(
            {
                name: amount / ONE if amount % ONE else amount // ONE
                for name, amount in (asked_of(options).resources if options else ())
            }
        )

    @property
    def devices(self) -> Mapping[str, tuple[str, ...]]:
        """The devices that the task has been granted, by the name of the resource: `{"gpu": ("0", "1")}`.

        By number or UUID, as `--gpu-devices` has them. Empty where it asked for none, and outside tasks.
        """
        from scaler_protocol.runtime.resources import GPU

        context = _context()
        devices = context.devices if context is not None else ()
        return MappingProxyType({GPU: devices}) if devices else _NOTHING


_TASK = CurrentTask()


def current_task() -> CurrentTask:
    """Return the task that this code runs in. Outside tasks too: so functions can be called everywhere."""
    return _TASK


def _first_context() -> TaskContext | None:
    """Find out where to ask from now on. Not before, so that `import scaler` stays light."""
    global _context
    from scaler_protocol.runtime.task_context import current_task_context

    _context = current_task_context
    return current_task_context()


_context: Callable[[], TaskContext | None] = _first_context


def _checked(name: str, value: Any) -> float:
    """Return an amount that is no plain number as one. Raises TypeError, ValueError."""
    if isinstance(value, bool | str | bytes | bytearray):
        raise TypeError(f"{name} must be a number, not {shown(value)}")
    try:
        amount = float(value)
    except OverflowError:
        amount = float("inf")
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {shown(value)}") from None
    # Written so that it also refuses what is not a number.
    if not 0 <= amount <= AMOUNT_MAX:
        raise ValueError(f"{name} must be from 0 to 2**53, not {shown(value)}")
    return amount
