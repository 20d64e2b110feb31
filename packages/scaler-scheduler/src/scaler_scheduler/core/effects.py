"""What a scheduler core wants done, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scaler_protocol.runtime.values import value
from scaler_protocol.wire.envelope import Envelope
from scaler_protocol.wire.messages import Message
from scaler_scheduler.core.events import Peer


class Send(NamedTuple):
    """Send a message to a peer. Sends to one peer keep their order."""

    peer: Peer
    envelope: Envelope
    message: Message
    around: Envelope | None = None
    """For a relayed peer: the envelope of the `Relay` message to its agent."""


@value
class ToStore:
    """Send a message to the object storage server, with retries until it arrives."""

    message: Message


@value
class KeepOwner:
    """A client that was given up is back: if its end is still being told to the object storage server, that is over."""

    client: bytes


@value
class Publish:
    """Give a message to whoever monitors."""

    message: Message


@value
class Stop:
    """End the scheduler process."""

    reason: str
    exit_status: int = 0


@value
class Log:
    """A line for the log. `level` is a name of the logging module."""

    level: str
    text: str


@value
class CallWebhook:
    """Ask a worker adapter something; what comes of it is the event `WebhookAnswered` or `WebhookFailed`, with this number."""

    call: int
    url: str
    body: Mapping[str, object] | None
    """Posted as JSON; None asks with GET for what exists."""
    timeout_s: float


Effect = Send | ToStore | KeepOwner | Publish | Stop | Log | CallWebhook
