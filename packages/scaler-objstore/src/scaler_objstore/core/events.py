"""What can happen to an object store. The shell makes these and passes them to `StoreCore.handle`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaler_objstore.core.storage import Buffers
from scaler_protocol.wire import messages as m


@dataclass(slots=True, frozen=True)
class Incoming:
    """A message from a peer; `peer` is the address to answer to, chosen by the transport.

    An `ObjectPut` that names a place comes with the buffers found there. The shell holds the segment while anything
    references `buffers`, and `place` is then where readers find it in this server. Without `buffers` it could not be mapped.
    """

    peer: bytes
    message: m.Message


@dataclass(slots=True, frozen=True)
class PeerGone:
    """The transport has no connection to this peer any more."""

    peer: bytes


@dataclass(slots=True, frozen=True)
class ConnectionChanged:
    """A connection of this peer has begun or ended. One that has none may come back and go on, without another hello."""

    peer: bytes
    is_connected: bool


@dataclass(slots=True, frozen=True)
class Arriving:
    """Bytes of messages that are not whole yet have come from these peers."""

    peers: Sequence[bytes]


@dataclass(slots=True, frozen=True)
class Tick:
    """Time has passed."""


@dataclass(slots=True, frozen=True)
class Spilled:
    """A content was written."""

    name: str


@dataclass(slots=True, frozen=True)
class SpillFailed:
    """A content was not written. It is still in memory. `text` says why."""

    name: str
    text: str


@dataclass(slots=True, frozen=True)
class Loaded:
    """A content was read. `place` says where peers on this machine can map it while `buffers` exist; empty: nowhere."""

    name: str
    buffers: Buffers
    place: bytes = b""


@dataclass(slots=True, frozen=True)
class LoadFailed:
    """A content was not read. `text` says why."""

    name: str
    text: str
    is_lost: bool
    """Whether it is not there, or damaged. Otherwise a later attempt may succeed."""


@dataclass(slots=True, frozen=True)
class StoredContent:
    """A content that the tier below has from an earlier process; `header` is what that process wrote with it."""

    name: str
    header: bytes


@dataclass(slots=True, frozen=True)
class Restored:
    """What the tier below has from earlier processes. It comes before the first message."""

    contents: Sequence[StoredContent]


TierEvent = Spilled | SpillFailed | Loaded | LoadFailed | Restored
Event = Incoming | PeerGone | ConnectionChanged | Arriving | Tick | TierEvent
