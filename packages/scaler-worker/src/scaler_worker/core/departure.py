"""Whether an agent leaves or has stopped, and why."""

from __future__ import annotations

from math import inf

from scaler_protocol.runtime.core import Outbox
from scaler_protocol.session import Connection
from scaler_worker.core import effects


class Departure:
    """First an agent *leaves*: it takes no more tasks and waits for those that run. Then it is *stopped*, for good."""

    __slots__ = ("_connection", "_outbox", "deadline", "leaving", "reason", "stopped")

    def __init__(self, connection: Connection, outbox: Outbox[effects.Effect]) -> None:
        self._connection = connection
        self._outbox = outbox
        self.leaving = False
        self.stopped = False
        self.deadline = inf
        """When the agent stops although tasks still run; `inf` unless it leaves, and there for as long as they need."""
        self.reason = ""

    def begin(self, reason: str, deadline: float) -> None:
        """Leave, for this reason; stop at `deadline` at the latest."""
        self.leaving = True
        self.reason = reason
        self.deadline = deadline

    def hasten(self, deadline: float) -> None:
        """Leave no later than `deadline`."""
        self.deadline = min(self.deadline, deadline)

    def stop(self, reason: str, status: int) -> None:
        """Say goodbye to the scheduler; `Stop` is the last effect. `status` is the exit status of the agent's process."""
        self._connection.close(reason)
        self.send_outgoing()
        self.stopped = True
        self._outbox.add(effects.Stop(reason, status))

    def send_outgoing(self) -> None:
        """Move the session's messages into the outbox, behind everything that is in it."""
        outgoing = self._connection.outgoing
        for message in outgoing:
            self._outbox.add(message)
        outgoing.clear()
