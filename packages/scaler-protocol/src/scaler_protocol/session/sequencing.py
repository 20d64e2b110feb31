"""Exactly once and in order, between two living incarnations, over a link that may lose messages.

ZeroMQ delivers messages of one connection in order. If a connection breaks, messages in transit are lost, and nobody
is told. So each end numbers the messages that must not be lost, and keeps them until the other end acknowledges them:

1.  A *sequenced* message has the next number. Every other message carries the number of the last sequenced one.
2.  If a number is higher than the next one expected, messages are missing. The receiver drops this one and asks for all
    after the last it has (an envelope with the resend flag). Heartbeats have numbers too, so a lost last message is seen.
3.  Acknowledgements are cumulative and travel in the envelope of the next message. A message is sent only to acknowledge
    if the owner's heartbeat is due, or if `acknowledge_due` says that many bytes have arrived.
4.  A session has an *epoch*, the number of the hello that began it. Messages of other epochs are dropped.
5.  Without progress, an end asks again once per `RESEND_INTERVAL_SECONDS` at most.

This module knows no clock, socket or peer: the owner passes the time and sends what it is given, in order.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from scaler_protocol.errors import SessionError
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import RESEND, SEQUENCED, Envelope

RESEND_INTERVAL_SECONDS = 1.0
ACKNOWLEDGE_MESSAGES = 64
ACKNOWLEDGE_BYTES = 4 * 1024 * 1024
MESSAGE_OVERHEAD_BYTES = 200

OUTBOX_BYTES_MAX = 2 * 1024**3
"""Most unacknowledged bytes that one end keeps. If there are more, it gives the other end up."""


class Outgoing(NamedTuple):
    """A message and the envelope to send it in."""

    envelope: Envelope
    message: m.Message


def message_bytes(message: m.Message) -> int:
    """Return about how much memory `message` holds, for bounds."""
    if isinstance(message, m.TaskBatch):
        return (
            MESSAGE_OVERHEAD_BYTES + 16 * len(message.numbers) + message.payloads.size_bytes + len(message.inputs.data)
        )
    if isinstance(message, m.ResultBatch):
        return MESSAGE_OVERHEAD_BYTES + 20 * len(message.numbers) + message.payloads.size_bytes
    if isinstance(message, m.GraphSubmit):
        columns = 8 * len(message.payloads) + 4 * len(message.dependencies) + 8 * len(message.earlier)
        return MESSAGE_OVERHEAD_BYTES + columns + len(message.payloads.data)
    if isinstance(message, m.TaskCancel | m.TaskReturn | m.Inventory | m.Notice):
        return MESSAGE_OVERHEAD_BYTES + 16 * len(message.numbers)
    if isinstance(message, m.FunctionDefine):
        return MESSAGE_OVERHEAD_BYTES + len(message.bodies.data)
    if isinstance(message, m.Output):
        return MESSAGE_OVERHEAD_BYTES + len(message.data)
    return MESSAGE_OVERHEAD_BYTES


class Session:
    """One end's counters and unacknowledged messages.

    `acknowledge_due` becomes true if many bytes have arrived since the last envelope left. `gap` becomes true if a message
    to this end was lost: the owner then sends an envelope from `request_resend`. `resend_wanted` becomes true if the
    other end lost one: the owner then sends what `resend` returns.
    """

    __slots__ = (
        "_received_bytes",
        "_received_since_stamp",
        "_requested_at",
        "_requested_for",
        "_unacknowledged",
        "acknowledge_due",
        "epoch",
        "gap",
        "outbox_bytes",
        "outbox_bytes_max",
        "received",
        "resend_wanted",
        "sent",
    )

    def __init__(self, epoch: int = 0, outbox_bytes_max: int = OUTBOX_BYTES_MAX) -> None:
        self.epoch = epoch
        self.sent = 0
        self.received = 0
        self.outbox_bytes = 0
        self.outbox_bytes_max = outbox_bytes_max
        self.gap = False
        self.resend_wanted = False
        self.acknowledge_due = False
        self._unacknowledged: deque[tuple[int, int, m.Message]] = deque()
        self._received_since_stamp = 0
        self._received_bytes = 0
        self._requested_at = 0.0
        self._requested_for = -1

    # --- sending

    def sequence(self, message: m.Message) -> Outgoing:
        """Number `message` and keep it until it is acknowledged. Raises SessionError if too many bytes are unacknowledged."""
        size = message_bytes(message)
        if self.outbox_bytes + size > self.outbox_bytes_max and self._unacknowledged:
            raise SessionError(
                f"{self.outbox_bytes} bytes in {len(self._unacknowledged)} messages are not acknowledged by the peer"
            )
        self.sent += 1
        self.outbox_bytes += size
        self._unacknowledged.append((self.sent, size, message))
        self._received_since_stamp = self._received_bytes = 0
        self.acknowledge_due = False
        # Not by the classes' constructors, which are slower: this happens for every message.
        return new_tuple(Outgoing, (new_tuple(Envelope, (self.sent, self.received, SEQUENCED, self.epoch)), message))

    def replace(self, number: int, message: m.Message) -> None:
        """Replace a message that cannot be sent by a smaller one with the same number."""
        for position, (sequence, size, _) in enumerate(self._unacknowledged):
            if sequence == number:
                self.outbox_bytes += message_bytes(message) - size
                self._unacknowledged[position] = (sequence, message_bytes(message), message)
                return

    def next_envelope(self, position: int = 0) -> Envelope:
        """Return the envelope of the next sequenced message, or of the one `position` messages later. Changes nothing."""
        return new_tuple(Envelope, (self.sent + 1 + position, self.received, SEQUENCED, self.epoch))

    def plain(self, message: m.Message) -> Outgoing:
        """Return a message that may be lost, with its envelope."""
        return Outgoing(self._stamp(0), message)

    def request_resend(self, now: float) -> Envelope:
        """Return a plain envelope that asks for everything after what was received."""
        self.gap = False
        self._requested_at = now
        self._requested_for = self.received
        return self._stamp(RESEND)

    def resend(self) -> list[Outgoing]:
        """Return all unacknowledged messages, to be sent again in this order."""
        self.resend_wanted = False
        self._received_since_stamp = self._received_bytes = 0
        self.acknowledge_due = False
        return [
            Outgoing(Envelope(number, self.received, SEQUENCED, self.epoch), message)
            for number, _, message in self._unacknowledged
        ]

    @property
    def unacknowledged_count(self) -> int:
        """How many sent messages the other end has not acknowledged."""
        return len(self._unacknowledged)

    def unacknowledged(self) -> list[m.Message]:
        """Return the sent messages that the other end has not acknowledged, in order."""
        return [message for _, _, message in self._unacknowledged]

    # --- receiving

    def accept(self, envelope: Envelope, now: float, size: int = 0) -> bool:
        """Record an envelope; return whether its message is of this epoch, new and in order."""
        if envelope.epoch != self.epoch:
            return False
        sequence, acknowledged, flags, _ = envelope
        if acknowledged > self.sent:
            raise SessionError(f"the peer acknowledges message {acknowledged}, only {self.sent} were sent")
        unacknowledged = self._unacknowledged
        while unacknowledged and unacknowledged[0][0] <= acknowledged:
            self.outbox_bytes -= unacknowledged.popleft()[1]
        if flags & RESEND:
            self.resend_wanted = True
        if flags & SEQUENCED:
            if sequence > self.received + 1:
                self._note_gap(now)
                return False
            new = sequence > self.received
            if new:
                self.received = sequence
                # Everything that was missing before this message has arrived meanwhile.
                self.gap = False
                self._received_bytes += size
            # Also for a repeated message: the other end has not received the acknowledgement.
            self._received_since_stamp += 1
            if self._received_since_stamp >= ACKNOWLEDGE_MESSAGES or self._received_bytes >= ACKNOWLEDGE_BYTES:
                # Stored, because both ends read it for every message.
                self.acknowledge_due = True
            return new
        if sequence > self.received:
            self._note_gap(now)
        return True

    @property
    def acknowledge_pending(self) -> bool:
        """Whether anything was received that no envelope has acknowledged yet."""
        return self._received_since_stamp > 0

    # --- inside

    def _stamp(self, flags: int) -> Envelope:
        self._received_since_stamp = self._received_bytes = 0
        self.acknowledge_due = False
        return Envelope(self.sent, self.received, flags, self.epoch)

    def _note_gap(self, now: float) -> None:
        if self._requested_for != self.received or now - self._requested_at >= RESEND_INTERVAL_SECONDS:
            self.gap = True
