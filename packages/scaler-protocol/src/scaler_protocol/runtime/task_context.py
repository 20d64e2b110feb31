"""What code inside a task can know and ask of the processor it runs in.

Set by the processor before each task and cleared after; `scaler.Client` looks here when it is made without an address,
its futures say here that they block. Neither package imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from scaler_protocol.wire.batch_rows import Carried, carried_value
from scaler_protocol.wire.envelope import Frame

if TYPE_CHECKING:
    from scaler_protocol.transport.dealer import Outlet

RelayReceiver = Callable[[list[Frame]], None]
"""Called on the processor's control thread with the frames of one message (envelope first)."""

RelayAttendant = Callable[[], None]
"""Called on the processor's control thread every now and then while the client has unanswered tasks."""


class TaskContext(Protocol):
    """One processor, as seen from the task code that runs in it."""

    @property
    def scheduler_address(self) -> str:
        """The address of the scheduler, as the agent reaches it."""

    @property
    def object_storage_address(self) -> str:
        """The address of object storage; empty: there is none."""

    @property
    def depth(self) -> int:
        """Nesting depth of the running task: 0 when it was submitted by an application."""

    @property
    def task_number(self) -> int | None:
        """Number of the running task within its client; None between tasks."""

    @property
    def carried(self) -> Carried:
        """What the running task carries; empty between tasks. `carried_by_task` reads it."""

    def open_relay(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        """Let the agent carry messages of a client in this process; answers go to `receiver`.

        `attendant` does what time demands of the client, because nobody may be waiting in it. `module` is what another
        processor has to import before it can have such a client: a tree of tasks needs many.
        """

    def relay(self, client: bytes, frames: Sequence[Frame]) -> None:
        """Send one message (envelope first) to the scheduler through the agent. From any thread."""

    def prepare_relay(self, client: bytes, frames: Sequence[Frame]) -> tuple[Outlet, bytes, int] | None:
        """Prepare to send a message of tasks ahead (see `Ahead`); None where it has to go through `relay`.

        Returns what it leaves through, its bytes, and the flag that goes with them. Only from the task's thread. Until
        `note_unfinished` says otherwise, the client has unanswered tasks from now on.
        """

    def note_prepared(self) -> None:
        """What was prepared has left. Only from the task's thread."""

    def close_relay(self, client: bytes) -> None:
        """The client has ended."""

    def enter_blocked(self) -> None:
        """The running task waits for a task of its own: its slot may be lent. Only from the task's thread."""

    def exit_blocked(self) -> None:
        """The running task goes on."""

    def note_unfinished(self, client: bytes, unfinished: bool) -> None:
        """A client of this process has unanswered tasks, or has none any more. From any thread.

        However the task waits for these: its slot is lent when they cannot start otherwise.
        """


_current: TaskContext | None = None


def current_task_context() -> TaskContext | None:
    """Return the processor this code runs in, or None outside workers."""
    return _current


def set_task_context(context: TaskContext | None) -> None:
    """Called by a processor at its start."""
    global _current
    _current = context


_carried_here: ContextVar[Carried | None] = ContextVar("carried_here", default=None)
"""Where tasks run in threads of one process: what the one in this thread carries."""


@contextmanager
def carrying(carried: Carried) -> Iterator[None]:
    """Within this block, in this thread, a task runs that carries this. For runners without a `TaskContext`."""
    token = _carried_here.set(carried)
    try:
        yield
    finally:
        _carried_here.reset(token)


def carried_by_task(name: str) -> int:
    """Return what the running task has in a column that its client filled in (see `batch_rows.CARRIED`), by its name.

    Where its client has said nothing, and outside tasks, that is what the column's absence means. Raises KeyError where tasks
    carry no such column.
    """
    carried = _carried_here.get()
    if carried is None:
        carried = _current.carried if _current is not None else ()
    return carried_value(carried, name)
