"""What an agent whose slots are in Symphony wants done. The shell performs these in order; `Stop` is the last one ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scaler_adapters.symphony.task_runner import RemoteTask
from scaler_protocol.session import Outgoing

Send = Outgoing
"""A message to the scheduler, in the envelope the session gave it."""


class UseStorage(NamedTuple):
    """Objects are at this address from now on."""

    address: str


class OpenSession(NamedTuple):
    """Connect to Symphony and open a session there. Answered by `SessionOpened` or `SessionLost`."""


class RunTask(NamedTuple):
    """Run a task in Symphony. Answered by `TaskEnded`, or by `SessionLost` for all tasks."""

    key: int
    task: RemoteTask


class FetchObject(NamedTuple):
    """Get an object from object storage. Answered by `ObjectFetched`."""

    object_id: bytes


class PutObject(NamedTuple):
    """Put an object into object storage. Answered by `ObjectStored`."""

    object_id: bytes
    owner: bytes
    buffers: Sequence[bytes]


class Log(NamedTuple):
    """Log a line for people, at one of the levels of `logging`."""

    level: int
    text: str


class MoveLink(NamedTuple):
    """The scheduler is sought at another address: what follows is sent there."""

    address: str


class Stop(NamedTuple):
    """The agent has ended. `failed`: not because it was asked to."""

    reason: str
    failed: bool


Effect = Send | UseStorage | OpenSession | RunTask | FetchObject | PutObject | Log | MoveLink | Stop
