"""The events that a scheduler core is told."""

from __future__ import annotations

from typing import Any, NamedTuple

from scaler_protocol.monitoring.topics import OutputTopic, ProfileWanted
from scaler_protocol.runtime.values import value
from scaler_protocol.wire.envelope import Envelope
from scaler_protocol.wire.messages import Message, StoreStatus


class RelayedPeer(NamedTuple):
    """A client inside a task. Its messages go through the agent."""

    agent: bytes
    client: bytes


Peer = bytes | RelayedPeer
"""Where messages come from and go to: an identity of the transport, or a client behind one."""


class Incoming(NamedTuple):
    """A decoded message from a peer."""

    peer: Peer
    envelope: Envelope
    message: Message


@value
class PeerUnreachable:
    """The transport has no connection to this peer, or the queue to it is full. Messages to it are lost."""

    peer: bytes
    reason: str


@value
class StoreLost:
    """The object storage server has ended, and the objects that it held are lost."""

    reason: str


@value
class StoreReplaced:
    """Another object storage server answers than before: what that one had in memory only is lost."""


@value
class StoreReported:
    """The object storage server said how much it holds."""

    status: StoreStatus


@value
class ObjectsLost:
    """No object store has these objects any more. `host` is the worker host whose store had them last, for people."""

    host: str
    ids: tuple[bytes, ...]


@value
class StopAnnounced:
    """`StopRequested` will follow when the workers in this process have ended."""

    reason: str


@value
class StopRequested:
    """A signal has told the scheduler to end."""

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
    """Whether a monitor wants events of single tasks."""
    joined: bool = False
    """Whether a monitor has connected since the last tick. It knows nothing yet."""
    store_asked: bool = False
    """Whether the object storage server has just been asked how much it holds. `StoreReported` follows soon."""
    outputs: tuple[OutputTopic, ...] = ()
    """What monitors want to read of the output of tasks and the logs of agents."""
    profiles: tuple[ProfileWanted, ...] = ()
    """The profiles that monitors subscribe to."""


@value
class WebhookAnswered:
    """A worker adapter answered the call of this number. `body` is its parsed JSON, or None if it is not JSON."""

    call: int
    status: int
    body: Any


@value
class WebhookFailed:
    """No answer to this call came, or none that can be read."""

    call: int
    reason: str


@value
class JournalsStored:
    """All that was appended or dropped before the `SyncJournal` with this number is on the disk, or in the store of journals."""

    wait: int


@value
class JournalsBehind:
    """So much waits for the disk or store of journals that no further tasks may come, and why; without text: they may again."""

    text: str


Event = (
    Incoming
    | PeerUnreachable
    | StoreLost
    | StoreReplaced
    | StoreReported
    | ObjectsLost
    | StopAnnounced
    | StopRequested
    | Tick
    | WebhookAnswered
    | WebhookFailed
    | JournalsStored
    | JournalsBehind
)
