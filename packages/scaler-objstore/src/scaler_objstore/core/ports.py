"""Events and effects of the core, as values."""

from __future__ import annotations

from dataclasses import dataclass

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
class Tick:
    """Time has passed."""


Event = Incoming | PeerGone | Tick


@dataclass(slots=True, frozen=True)
class Send:
    """Send `message` to `peer`. If it is lost, the peer asks again."""

    peer: bytes
    message: m.Message


@dataclass(slots=True, frozen=True)
class Stop:
    """Stop the server in an orderly way."""

    reason: str


@dataclass(slots=True, frozen=True)
class Warn:
    """Log that a peer sent a request that it is not allowed to send."""

    text: str


Effect = Send | Stop | Warn
