"""The effects of a scheduler core: what its shell should do, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scaler_protocol.runtime.values import value
from scaler_protocol.wire.envelope import Envelope
from scaler_protocol.wire.messages import Message, SchedulerStatus
from scaler_scheduler.core.events import Peer


class Send(NamedTuple):
    """Send a message to a peer. Sends to one peer keep their order."""

    peer: Peer
    envelope: Envelope
    message: Message
    around: Envelope | None = None
    """For a client inside a task: the envelope of the `Relay` message to its agent."""


@value
class Disconnect:
    """Close the connection of a peer that broke the rules. It may connect again."""

    peer: bytes
    reason: str


@value
class ToStore:
    """Send a message to the object storage server, and repeat it until it arrives."""

    message: Message


@value
class AskStore:
    """Ask the object storage server how much it holds. `StoreReported` has the answer, if there is one."""


@value
class KeepOwner:
    """A client is connected. If the object storage server is still being told that this client has ended, stop telling it."""

    client: bytes


@value
class Publish:
    """Publish a message to monitors."""

    message: Message


@value
class Stop:
    """End the scheduler process."""

    reason: str
    exit_status: int = 0


@value
class Log:
    """Write a line to the log. `level` is a name of the logging module, in lower case."""

    level: str
    text: str


@value
class CallWebhook:
    """Call a worker adapter. The event `WebhookAnswered` or `WebhookFailed` with this number says what became of it."""

    call: int
    url: str
    body: Mapping[str, object] | None
    """Posted as JSON; None: a GET request, which asks for the groups that exist."""
    timeout_s: float


@value
class PeerAsked:
    """A peer said hello to a scheduler that is not first, or that is first with a lower term than the peer has obeyed."""

    term: int


@value
class StatusHeard:
    """Another scheduler, which connects as this peer, says what it is, and waits for an answer."""

    peer: bytes
    status: SchedulerStatus


@value
class AppendJournal:
    """Append a record to the journal of a job, which is made with its first record."""

    job: bytes
    record: bytes


@value
class SyncJournal:
    """Have a job's journal on its disk before anything is sent that comes after this, unless the disk does not take it.

    With `wait` it is for all jobs: `JournalsStored` is to say once all is there that was appended or dropped before.
    """

    job: bytes
    wait: int = 0


@value
class DropJournal:
    """A job is forgotten, and its journal with it."""

    job: bytes


Effect = (
    PeerAsked
    | StatusHeard
    | Send
    | Disconnect
    | ToStore
    | AskStore
    | KeepOwner
    | Publish
    | Stop
    | Log
    | CallWebhook
    | AppendJournal
    | SyncJournal
    | DropJournal
)
