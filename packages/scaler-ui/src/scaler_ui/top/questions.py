"""What `scaler_top` asks a scheduler for while somebody looks: single tasks, their output, and to cancel some."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.wire.messages import MonitorSnapshot
from scaler_ui.cancellation import NO_KEYS, CancellationRefusedError, NoAnswerError, Operator
from scaler_ui.feed import EVERYTHING, MonitorFeed
from scaler_ui.model import ClusterModel
from scaler_ui.model.cluster import Limits
from scaler_ui.outputs import OutputFeed
from scaler_ui.owners import Owner, owners_of
from scaler_ui.top.subjects import Subject

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

TASKS_MAX = 2_000
"""Single tasks that are remembered, the last ones."""

KEPT_SECONDS = 60.0
"""How long tasks are followed after somebody has looked at them last."""

Value = TypeVar("Value")


class Pending(Generic[Value]):
    """Work in a thread of its own, which asks whether anybody still waits for it."""

    def __init__(self, work: Callable[[Callable[[], bool]], Value]) -> None:
        self.value: Value | None = None
        self.error = ""
        """Why there is no value."""
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._do, args=(work,), name="a question of scaler_top", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Return whether there is a value or an error."""
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Have it end soon."""
        self._given_up.set()

    def join(self) -> None:
        """Give it up, and wait for its end."""
        self.give_up()
        self._thread.join()

    def _do(self, work: Callable[[Callable[[], bool]], Value]) -> None:
        try:
            self.value = work(self._given_up.is_set)
        except (CancellationRefusedError, NoAnswerError, ServiceError) as error:
            self.error = str(error)


class Questions:
    """Connections that are there only while they are needed. Use it as a context manager."""

    def __init__(
        self,
        monitor_address: Address,
        *,
        security: PeerSecurity | None = None,
        operator: Operator = NO_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.operator = operator
        self.outputs = OutputFeed(monitor_address, security=security)
        self._address = monitor_address
        self._security = security
        self._clock = clock
        self._tasks: MonitorFeed | None = None
        self._looked_at = 0.0
        self._ended: list[MonitorFeed] = []
        self._pending: list[Pending[list[Owner]] | Pending[int]] = []

    def __enter__(self) -> Questions:
        self.outputs.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._tasks is not None:
            self._end_following(self._tasks)
        for feed in self._ended:
            feed.__exit__()
        for one in self._pending:
            one.join()
        self.outputs.__exit__()

    def follow_tasks(self) -> MonitorFeed:
        """Return a feed of single tasks. It begins with the first call, and goes on while it is called now and then."""
        self._looked_at = self._clock()
        if self._tasks is None:
            # A model of its own: what has ended while nobody looked would stay unfinished for good in an older one.
            model = ClusterModel(Limits(samples=2, tasks=TASKS_MAX, bars=1, log_lines=1))
            self._tasks = MonitorFeed(self._address, EVERYTHING, model=model, security=self._security)
            self._tasks.__enter__()
        return self._tasks

    def tidy(self) -> None:
        """Stop following tasks when nobody has looked at them for a while, and forget what has been answered."""
        if self._tasks is not None and self._clock() >= self._looked_at + KEPT_SECONDS:
            self._end_following(self._tasks)
        self._pending = [one for one in self._pending if not one.done]

    def _end_following(self, feed: MonitorFeed) -> None:
        # Only told: its thread ends by itself, and nobody who draws has to wait for it.
        feed.stop()
        self._ended = [*(one for one in self._ended if not one.ended), feed]
        self._tasks = None

    def owners(self, number: int) -> Pending[list[Owner]]:
        """Ask whose task this is."""
        found: Pending[list[Owner]] = Pending(
            lambda given_up: owners_of(self._address, number, security=self._security, given_up=given_up)
        )
        self._pending.append(found)
        return found

    def cancel(self, snapshot: MonitorSnapshot | None, subject: Subject) -> Pending[int]:
        """Have tasks cancelled; the value is how many."""
        request = subject.request()
        counted: Pending[int] = Pending(
            lambda given_up: self.operator.cancel(snapshot, str(self._address), request, given_up)
        )
        self._pending.append(counted)
        return counted
