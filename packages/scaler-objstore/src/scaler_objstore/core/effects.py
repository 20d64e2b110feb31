"""What an object store wants done. The shell performs these in order."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_objstore.core.storage import Buffers
from scaler_protocol.wire import messages as m


@dataclass(slots=True, frozen=True)
class Send:
    """Send `message` to `peer`. If it is lost, the peer asks again."""

    peer: bytes
    message: m.Message


@dataclass(slots=True, frozen=True)
class Stop:
    """Stop the server in an orderly way, after everything asked for before."""

    reason: str


@dataclass(slots=True, frozen=True)
class Warn:
    """Log that a peer sent a request that it is not allowed to send."""

    text: str


@dataclass(slots=True, frozen=True)
class Log:
    """Log what became of the tier below memory."""

    text: str
    is_error: bool = True


@dataclass(slots=True, frozen=True)
class Spill:
    """Write a content to the tier below, outside the loop. The answer is `events.Spilled` or `events.SpillFailed`."""

    name: str
    header: bytes
    buffers: Buffers


@dataclass(slots=True, frozen=True)
class Load:
    """Read a content from the tier below, outside the loop. The answer is `events.Loaded` or `events.LoadFailed`."""

    name: str


@dataclass(slots=True, frozen=True)
class Discard:
    """Delete contents from the tier below, outside the loop. Nothing answers."""

    names: tuple[str, ...]


Effect = Send | Stop | Warn | Log | Spill | Load | Discard
