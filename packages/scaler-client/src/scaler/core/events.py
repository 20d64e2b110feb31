"""What a `ClientCore` is told of what happens. Values without behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scaler_protocol.runtime.values import value
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope, Frame


class Incoming(NamedTuple):
    """A message from the scheduler."""

    envelope: Envelope
    message: m.Message


@value
class Tick:
    """`next_deadline()` has come."""


@value
class LinkRefused:
    """The scheduler lets no connection of this client in, because of its key: it never will again."""

    reason: str


@value
class ObjectFetched:
    """Answer to `FetchObject`: the object's buffers, header first."""

    number: int
    buffers: Sequence[Frame]


@value
class ObjectFetchFailed:
    """Answer to `FetchObject`: there will be no buffers. `status` is MISSING_OBJECT or STORAGE_FAILED."""

    number: int
    status: m.Status
    text: str


@value
class ObjectRefused:
    """An object that was to be stored could not be: every task that names it must fail."""

    object_id: bytes
    text: str


Event = Incoming | Tick | LinkRefused | ObjectFetched | ObjectFetchFailed | ObjectRefused
