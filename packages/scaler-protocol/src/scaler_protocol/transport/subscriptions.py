"""The receiving half of a publisher's connection: what a subscriber sends is small and seldom, and is held to that.

A subscription is the message or command that ZeroMQ's rules name (https://rfc.zeromq.org/spec/29 and /37). Both become messages
of one frame here: `SUBSCRIBE` or `CANCEL`, and the topic.
"""

from __future__ import annotations

import socket
import time

from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError
from scaler_protocol.transport.stream import Stream
from scaler_protocol.transport.zmtp import Decoder, SocketType, split_command
from scaler_protocol.wire.envelope import Frame

READERS = frozenset({"monitor", "operator"})
"""The roles (`KeyRole`) that may read, where keys are used."""

SUBSCRIBE, CANCEL = b"\1", b"\0"

TOPIC_BYTES_MAX = 256
"""Longest topic. Those of Scaler have some twenty bytes."""

COMMANDS_PER_SECOND_MAX = 500
"""Subscriptions, cancellations and PINGs of one subscriber, and most of them that arrive at once."""

_NAMES = {b"SUBSCRIBE": SUBSCRIBE, b"CANCEL": CANCEL}


class SubscriptionDecoder(Decoder):
    """Returns messages of one frame, (SUBSCRIBE or CANCEL) + topic, and refuses everything that a subscriber never sends."""

    commands = 0
    """How many the other end has sent."""
    _commands_max = 0
    _changes: list[list[Frame]]

    def feed(self, data: bytes) -> list[list[Frame]]:
        """Take bytes in; return the subscriptions and cancellations that are complete now."""
        self._changes = []
        self._commands_max = self.commands + COMMANDS_PER_SECOND_MAX
        messages = super().feed(data)
        if self._frames or any(len(frames) > 1 for frames in messages):
            raise MalformedMessageError("a message of several frames from a subscriber")
        for frames in messages:
            frame = frames[0]
            self._count_command()
            # Other messages are for applications, and this publisher is none.
            if frame[:1] in (SUBSCRIBE, CANCEL):
                self._add_change(bytes(frame))
        return self._changes

    def _obey(self, body: bytes) -> None:
        if self.ready:
            self._take_command(body)
        super()._obey(body)

    def _take_command(self, body: bytes) -> None:
        """A command after the handshake."""
        self._count_command()
        name, topic = split_command(body)
        kind = _NAMES.get(name)
        if kind is not None:
            self._add_change(kind + topic)

    def _count_command(self) -> None:
        self.commands += 1
        if self.commands > self._commands_max:
            raise MalformedMessageError(f"more than {COMMANDS_PER_SECOND_MAX} subscriptions and other commands at once")

    def _add_change(self, change: bytes) -> None:
        size = len(change) - 1
        if size > TOPIC_BYTES_MAX:
            raise MessageTooLargeError(f"a topic of {size} bytes; the limit is {TOPIC_BYTES_MAX}")
        self._changes.append([change])

    def _begin_large(self, flags: int, size: int, beginning: bytes) -> None:
        del flags, beginning
        raise too_large(size)


def too_large(size: int) -> MessageTooLargeError:
    """Return the error for a message that no subscriber sends."""
    return MessageTooLargeError(f"a message of {size} bytes from a subscriber; a topic has at most {TOPIC_BYTES_MAX}")


class SubscriberStream(Stream):
    """A publisher's end of a connection. It reads once in a turn, and only so much in a second."""

    _second = 0.0
    """When the second began in which commands are counted, and how many had come until then."""
    _commands_before = 0

    def receive(self) -> list[list[Frame]]:
        """As `Stream.receive`. Raises WireError as well if the subscriber sends too much."""
        decoder = self._decoder
        assert isinstance(decoder, SubscriptionDecoder)
        messages = super().receive()
        commands, now = decoder.commands, time.monotonic()
        if now >= self._second + 1:
            self._second, self._commands_before = now, commands
        elif commands > self._commands_before + COMMANDS_PER_SECOND_MAX:
            raise MalformedMessageError(
                f"more than {COMMANDS_PER_SECOND_MAX} subscriptions and other commands in a second"
            )
        return messages

    def _receive_more(self, messages: list[list[Frame]]) -> list[list[Frame]]:
        self.drained = False
        return messages


def plain_subscriber_stream(connected: socket.socket) -> Stream:
    """Return the stream of a connection that a publisher without keys has accepted."""
    return SubscriberStream(connected, SubscriptionDecoder(SocketType.XPUB))
