"""What an object store wants done. The shell performs these in order."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_protocol.wire import messages as m


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
