"""What can happen to an object store. The shell makes these and passes them to `StoreCore.handle`."""

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
