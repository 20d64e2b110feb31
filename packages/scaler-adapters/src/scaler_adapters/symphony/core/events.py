"""What can happen to an agent whose slots are in Symphony. The shell makes these and passes them to `SymphonyCore.handle`.

Tasks are known by a key that the core chose in `effects.RunTask`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scaler_adapters.symphony.task_runner import RemoteResult
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope


class Start(NamedTuple):
    """The agent begins: it says hello to the scheduler and opens a session in Symphony. This is the first event."""


class Tick(NamedTuple):
    """Time has passed: `next_deadline` is reached."""


class Incoming(NamedTuple):
    """A message from the scheduler, decoded."""

    envelope: Envelope
    message: m.Message


class SessionOpened(NamedTuple):
    """Symphony takes tasks."""


class SessionLost(NamedTuple):
    """Symphony's session or connection has ended, or could not be made. Nothing more is heard of the tasks that ran there."""

    reason: str


class TaskEnded(NamedTuple):
    """A task has come back from Symphony: with a result, or with the error that kept it from having one."""

    key: int
    result: RemoteResult | None
    error: str


class ObjectFetched(NamedTuple):
    """An answer to `effects.FetchObject`: the object's buffers, or None and the reason."""

    object_id: bytes
    buffers: Sequence[bytes] | None
    error: str


class ObjectStored(NamedTuple):
    """An answer to `effects.PutObject`. `error` is empty if the object is stored."""

    object_id: bytes
    error: str


class LinkRefused(NamedTuple):
    """The scheduler does not let a connection of this agent in. Reported each time."""

    reason: str


class StopRequested(NamedTuple):
    """Finish what runs, then stop, and after `grace_s` seconds at the latest."""

    reason: str
    grace_s: float


Event = (
    Start
    | Tick
    | Incoming
    | SessionOpened
    | SessionLost
    | TaskEnded
    | ObjectFetched
    | ObjectStored
    | LinkRefused
    | StopRequested
)
