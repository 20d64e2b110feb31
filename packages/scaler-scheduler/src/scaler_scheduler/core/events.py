"""What can happen to a scheduler."""

from __future__ import annotations

from typing import Any, NamedTuple

from scaler_protocol.runtime.values import value
from scaler_protocol.wire.envelope import Envelope
from scaler_protocol.wire.messages import Message, StoreStatus


class RelayedPeer(NamedTuple):
    """A client that lives inside a task: reached through its agent."""

    agent: bytes
    client: bytes


Peer = bytes | RelayedPeer
"""Where messages come from and go to: a transport identity, or a client behind one."""


class Incoming(NamedTuple):
    """A decoded message from a peer."""

    peer: Peer
    envelope: Envelope
    message: Message


@value
class PeerUnreachable:
    """The transport has no connection to this peer, or its queue is full: it is given up."""

    peer: bytes
    reason: str


@value
class StoreLost:
    """The object storage server is gone and was replaced or not: objects it held are lost."""

    reason: str


@value
class StoreReported:
    """The object storage server said how much it holds."""

    status: StoreStatus


@value
class StopAnnounced:
    """`StopRequested` will come, when the workers of this process have ended."""

    reason: str


@value
class StopRequested:
    """Somebody outside (a signal, the service manager) wants the scheduler to end."""

    reason: str


@value
class Tick:
    """Time has passed. `cpu_percent` and `rss_bytes` are the scheduler process's own."""

    cpu_percent: float = 0.0
    rss_bytes: int = 0
    monitors: int = 0
    """How many subscriptions there are."""
    unix_time: float = 0.0
    events: bool = False
    """Whether anybody wants to know of single tasks."""
    joined: bool = False
    """Whether a monitor has come since the last tick: it knows nothing yet."""
    store_asked: bool = False
    """Whether the object storage server was asked just now how much it holds: `StoreReported` follows soon."""


@value
class WebhookAnswered:
    """A worker adapter answered the call of this number. `body` is what its JSON says, None where it is no JSON."""

    call: int
    status: int
    body: Any


@value
class WebhookFailed:
    """No answer came, or none that can be read."""

    call: int
    reason: str


Event = (
    Incoming
    | PeerUnreachable
    | StoreLost
    | StoreReported
    | StopAnnounced
    | StopRequested
    | Tick
    | WebhookAnswered
    | WebhookFailed
)
