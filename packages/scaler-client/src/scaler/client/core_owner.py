"""What the parts of a client's engine share: its core, the queue of steps to it, and who may touch it when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from scaler.client.steps import OwnersLock, Steps
from scaler.core import events
from scaler.core.client_core import ClientCore
from scaler_protocol.wire import messages as m

T = TypeVar("T")


class CoreOwner(Protocol):
    """The engine, as its parts see it.

    A thread of the application changes nothing in the core: it appends a step to the queue, and the owner's thread takes it. What
    a part does in a step, it does with the lock held, alone.
    """

    core: ClientCore
    lock: OwnersLock
    steps: Steps
    client_id: bytes
    timeout_seconds: float
    """How long a caller waits for what only the scheduler or storage can give."""
    forked: bool
    """Whether this process is a child, made by fork, of the one the client belongs to."""

    welcome: m.Welcome | None
    """What the scheduler last said of itself; None before it has answered."""

    def wait_connected(self, timeout: float) -> None:
        """Wait for the session to begin. Raises what ended it, or DisconnectedError after `timeout` seconds."""

    def check_process(self) -> None:
        """Raise ClientForkedError in a child made by fork."""

    def must_not_wait(self) -> bool:
        """Whether the current thread is one that completes futures, so that its waiting would never end."""

    def ask(self, step: Callable[[], T]) -> T:
        """Have the owner's thread call `step`, with the lock held, and return what it returns."""

    def handle(self, event: events.Event) -> None:
        """Give an event to the core, and perform what follows. From any thread of the client; takes the lock."""

    def perform_later(self, call: Callable[[], object]) -> None:
        """Have `call` made without the lock, after what was decided before. With the lock held."""
