"""What goes into the core (events) and what comes out (effects), as values."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.wire import messages as m


@dataclass(slots=True, frozen=True)
class Incoming:
    """A message from a peer; `peer` is the address to answer to, chosen by the transport.

    An `ObjectPut` that names a place comes with what is there: the shell holds the segment for as long as anybody
    references `buffers`, and `place` is where others find it with this server. No `buffers`: it could not be held.
    """

    peer: bytes
    message: m.Message


@dataclass(slots=True, frozen=True)
class PeerGone:
    """The transport has no connection to this peer any more."""

    peer: bytes


@dataclass(slots=True, frozen=True)
class Tick:
    """Time has passed."""


Event = Incoming | PeerGone | Tick


@dataclass(slots=True, frozen=True)
class Send:
    """Send `message` to `peer`. It may get lost: the peer will ask again."""

    peer: bytes
    message: m.Message


@dataclass(slots=True, frozen=True)
class Stop:
    """Stop the server in an orderly way."""

    reason: str


@dataclass(slots=True, frozen=True)
class Warn:
    """Tell the operator: a peer did what it may not do."""

    text: str


Effect = Send | Stop | Warn
