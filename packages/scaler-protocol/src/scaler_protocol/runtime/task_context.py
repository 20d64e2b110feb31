"""What code inside a task can ask of the processor that runs it.

The processor sets it before each task and clears it afterwards. `scaler.Client` reads it if it is made without an address,
and its futures report here that they block. Neither package imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from scaler_protocol.wire.batch_rows import Carried, carried_value
from scaler_protocol.wire.envelope import Frame

RelayReceiver = Callable[[list[Frame]], None]
"""Called on the processor's control thread with the frames of one message (envelope first)."""

RelayAttendant = Callable[[], None]
"""Called on the processor's control thread at intervals while the client has unanswered tasks, and after `put_off`."""


class Outlet(Protocol):
    """A stream to which one operation sends a message."""

    @property
    def write(self) -> Callable[..., int]:
        """The operation: a function that is not written in Python. Takes the data, and flags if it needs any.

        Returns how many bytes have left. Never waits, but raises OSError instead.
        """

    @property
    def pending(self) -> object:
        """True while a part of a message has been sent, so that no other message may be sent."""


class TaskContext(Protocol):
    """One processor, as seen from the task code that runs in it."""

    @property
    def scheduler_address(self) -> str:
        """The address of the scheduler, as the agent reaches it."""

    @property
    def object_storage_address(self) -> str:
        """The address of object storage; empty if there is none."""

    @property
    def identity_prefix(self) -> bytes:
        """How the ids of clients in this process begin: with keys, the fingerprint of the worker's."""

    @property
    def security_dir(self) -> str:
        """Where the worker's key is; empty without keys, and where tasks may not read it."""

    @property
    def storage_gate(self) -> str:
        """The address at which the agent carries large values to and from object storage, without keys.

        For clients in processes that may not read the worker's key; empty elsewhere.
        """

    @property
    def depth(self) -> int:
        """Nesting depth of the running task: 0 when it was submitted by an application."""

    @property
    def client(self) -> bytes:
        """The id of the client that submitted the running task; empty between tasks."""

    @property
    def task_number(self) -> int | None:
        """Number of the running task within its client; None between tasks."""

    @property
    def task_index(self) -> int:
        """Tells the running task from those that ran here before; -1 between tasks."""

    @property
    def carried(self) -> Carried:
        """What the running task carries; empty between tasks. `carried_by_task` reads it."""

    @property
    def options(self) -> bytes:
        """What the running task asks for (see `call_options.asked_of`); empty for nothing, and between tasks."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The GPUs that the running task has been granted."""

    @property
    def environment(self) -> bytes:
        """The body of the running task's environment (see `payloads.environments`), which its clients inherit; empty: none."""

    def report_progress(self, done: float, total: float, note: str) -> None:
        """Tell the client and monitors how far the running task is; -1 as `total` where it is not known.

        From any thread. Cheap: what comes faster than it is sent replaces what has not been sent. Between tasks nothing happens.
        """

    def open_relay(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        """Let the agent carry messages of a client in this process; answers go to `receiver`.

        `attendant` does what is due at certain times, because no thread of the task may be waiting in the client. `module`
        is the module that other processors import before they have such a client, because a tree of tasks needs many.
        """

    def on_canceled(self, client: bytes, receiver: Callable[[], None]) -> None:
        """Have `receiver` called when a task ends here because it was cancelled, or has had its time.

        On the task's thread, while it counts as running. It must not wait.
        """

    def relay(self, client: bytes, frames: Sequence[Frame]) -> None:
        """Send one message (envelope first) to the scheduler through the agent. From any thread."""

    def prepare_relay(self, client: bytes, messages: Sequence[Sequence[Frame]]) -> tuple[Outlet, bytes, int] | None:
        """Prepare to send messages of tasks from the task's own thread (see `Outlet`); None if they must go through `relay`.

        Returns the stream, the bytes, and the flag for the call that sends them. Only from the task's thread. From now on
        the client has unanswered tasks, until `note_unfinished` says otherwise.
        """

    def note_prepared(self) -> None:
        """What was prepared has left. Only from the task's thread."""

    def put_off(self) -> bool:
        """Have all attendants called within a few milliseconds, unless the task waits before; return whether that is done.

        Only for the task's own thread: elsewhere False, and where nobody would call them. What is put off then travels together.
        """

    def close_relay(self, client: bytes) -> None:
        """The client has ended."""

    def enter_blocked(self) -> None:
        """The running task waits for a task that it submitted, so its slot may be lent. Only from the task's thread."""

    def exit_blocked(self) -> None:
        """The running task goes on."""

    def note_unfinished(self, client: bytes, unfinished: bool) -> None:
        """A client of this process has unanswered tasks, or has none any more. From any thread.

        In whichever way the task waits for them, its slot is lent if they cannot start otherwise.
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
