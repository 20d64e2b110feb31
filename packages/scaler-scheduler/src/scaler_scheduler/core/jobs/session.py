"""What stands in the place of a client's session for a job: whatever the scheduler sends to the job arrives here at once.

So the tasks of a job are tasks of a client like any other, to all parts of the scheduler. Nothing leaves the process.
"""

from __future__ import annotations

from collections import deque

from scaler_protocol.session import Outgoing, Session
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED
from scaler_scheduler.core.events import RelayedPeer
from scaler_scheduler.core.records import ClientRecord

Arrived = deque[tuple[bytes, m.Message]]
"""Ids of jobs, and what they were sent."""


class _JobSession(Session):
    """Keeps nothing for sending it again: it has arrived."""

    __slots__ = ("_arrived", "_job_id")

    def __init__(self, job_id: bytes, arrived: Arrived) -> None:
        super().__init__()
        self._job_id = job_id
        self._arrived = arrived

    def sequence(self, message: m.Message) -> Outgoing:
        """Take a message in for the job."""
        if isinstance(message, m.ResultBatch | m.Notice):
            self._arrived.append((self._job_id, message))
        return Outgoing(UNSEQUENCED, message)

    def plain(self, message: m.Message) -> Outgoing:
        """As `sequence`, for what may be lost."""
        if isinstance(message, m.TaskProgress):
            self._arrived.append((self._job_id, message))
        return Outgoing(UNSEQUENCED, message)


def client_of_job(job_id: bytes, name: str, group: str, arrived: Arrived, now: float) -> ClientRecord:
    """Return the record that owns the tasks of a job. It is no peer: no agent has an empty name, so nothing is sent to it."""
    hello = m.Hello(m.Role.CLIENT, f"job {name}", job_id, group=group)
    return ClientRecord(RelayedPeer(b"", job_id), hello, _JobSession(job_id, arrived), now)


def is_job(client: ClientRecord) -> bool:
    """Whether this client stands for a job."""
    return isinstance(client.session, _JobSession)
