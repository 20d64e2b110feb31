"""ZMTP 3.1, ZeroMQ's wire protocol, over a connected byte stream: bytes in, messages out, no socket.

Source: https://rfc.zeromq.org/spec/23 (ZMTP 3.0) and /37 (3.1, which adds PING and PONG). The mechanism is NULL;
`curve_decoder` has the other one. Every ZeroMQ library in any language can be the other end.

Why not libzmq: its I/O threads double the wake-ups of every hop, and a call for each frame costs more than a whole message
does here. Measured, for the hops of one task there and back: 220 to 450 µs through libzmq, 70 to 160 µs through this.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from enum import Enum

from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError, WrongMechanismError, WrongSocketError
from scaler_protocol.transport.frame_buffers import FRAME_BUFFERS
from scaler_protocol.wire.envelope import FRAMES_MAX, MESSAGE_BYTES_MAX, Frame

LARGE_FRAME_BYTES = 64 * 1024
"""Larger frames are received into a buffer of their own, and sent without being copied."""

MAPPED_FRAME_BYTES = 256 * 1024
"""Larger frames get pages from the system, or used ones: an ordinary buffer would first be filled with zeros."""

GREETING_BYTES = 64
VERSION_KNOWN_BYTES = 11
"""From so many bytes on, a ZeroMQ library sends all of its own greeting."""

_SIGNATURE_BYTES = 10
_VERSION = (3, 1)
HANDSHAKE_BYTES_MAX = 4096
"""Longest command before READY."""

COMMANDS_MAX = 3000
"""Most commands among the bytes of one read."""

IDENTITY_BYTES_MAX = 255
PROPERTIES_MAX = 32
"""ZeroMQ's longest identity, and most properties of a peer."""

_MORE, _LONG, _COMMAND = 1, 2, 4
_SHORT_FRAME_MAX = 255
_LONG_HEAD_BYTES = 9
_HUGE_PAGE_BYTES = 2 * 1024 * 1024
_FRAME_OVERHEAD_BYTES = 64
"""What an object of bytes takes beside its content, about."""

_SHORT_MORE = tuple(bytes((_MORE, size)) for size in range(_SHORT_FRAME_MAX + 1))
_SHORT_LAST = tuple(bytes((0, size)) for size in range(_SHORT_FRAME_MAX + 1))
_LONG_HEAD = struct.Struct(">BQ")
_PING_HEAD = b"\x04PING"
_PING_TTL_BYTES = 2
_PING_CONTEXT_MAX = 16


def greeting(mechanism: bytes, *, as_server: bool = False) -> bytes:
    """Return the first bytes of a connection."""
    return b"\xff" + bytes(8) + b"\x7f" + bytes(_VERSION) + mechanism.ljust(20, b"\0") + bytes((as_server,)) + bytes(31)


class SocketType(Enum):
    """Which end of a connection this is, and which ones it talks to."""

    DEALER = b"DEALER"
    ROUTER = b"ROUTER"
    SUB = b"SUB"
    XPUB = b"XPUB"

    @property
    def peers(self) -> tuple[bytes, ...]:
        """The types of socket that may be at the other end."""
        return _PEERS[self]


_PEERS = {
    SocketType.DEALER: (b"ROUTER",),
    SocketType.ROUTER: (b"DEALER",),
    SocketType.SUB: (b"XPUB", b"PUB"),
    SocketType.XPUB: (b"SUB", b"XSUB"),
}


def frame_short_message(frames: Sequence[Frame]) -> bytes | None:
    """Return the bytes of an envelope, a header and a payload on the wire; None if one of them is not short.

    An idle system sends such messages.
    """
    if len(frames) != 3:
        return None
    envelope, header, payload = frames
    if len(header) > _SHORT_FRAME_MAX or len(payload) > _SHORT_FRAME_MAX or len(envelope) > _SHORT_FRAME_MAX:
        return None
    return b"".join(
        (
            _SHORT_MORE[len(envelope)],
            envelope,
            _SHORT_MORE[len(header)],
            header,
            _SHORT_LAST[len(payload)],
            payload,
        )
    )


def frame_message(frames: Sequence[Frame]) -> tuple[list[Frame], int]:
    """Return the pieces of a message on the wire, and how many bytes they have in all."""
    pieces: list[Frame] = []
    total = 0
    last = len(frames) - 1
    for position, frame in enumerate(frames):
        size = len(frame)
        if size <= _SHORT_FRAME_MAX:
            pieces.append(_SHORT_LAST[size] if position == last else _SHORT_MORE[size])
            total += size + 2
        else:
            pieces.append(_LONG_HEAD.pack(_LONG if position == last else _LONG | _MORE, size))
            total += size + _LONG_HEAD_BYTES
        pieces.append(frame)
    return pieces, total


class Decoder:
    """The receiving half of one connection, from the first byte on.

    `feed` takes bytes that have arrived. While a `large` frame arrives, put its next bytes where `room` says, and then call
    `filled`. Answers that must leave at once (greeting, PING) collect in `replies`.

    All errors are MalformedMessageError or MessageTooLargeError. After one the connection cannot be used any more; `replies`
    may have an answer for the other end.
    """

    mechanism = b"NULL"

    __slots__ = (
        "_frames",
        "_greeted",
        "_identity",
        "_large_at",
        "_large_more",
        "_message_bytes",
        "_rest",
        "_socket_type",
        "large",
        "on_unfinished",
        "peer_identity",
        "ready",
        "replies",
    )

    def __init__(self, socket_type: SocketType, identity: bytes = b"") -> None:
        self.ready = False
        """Whether the handshake is over: messages may be sent."""
        self.peer_identity = b""
        self.replies: list[bytes] = [self._greeting()]
        self._socket_type = socket_type
        self._identity = identity
        self._greeted = False
        self._rest = b""
        self._frames: list[Frame] = []
        self._message_bytes = 0
        self.large: memoryview | None = None
        """A large frame that is arriving: see `room`."""
        self._large_at = 0
        self._large_more = False
        self.on_unfinished: Callable[[], None] = ignore
        """Called when bytes that were taken in end within a message. A listener counts these, a connecting end does not."""

    @property
    def arriving_bytes(self) -> int:
        """Bytes of the message that has arrived in part: of its frames until now, the one that is arriving in full."""
        return self._message_bytes

    @property
    def unfinished_bytes(self) -> int:
        """Memory that the message takes that has arrived in part."""
        missing = len(self.large) if self.large is not None else 0
        return self._held_bytes(self._message_bytes - missing)

    def _held_bytes(self, frame_bytes: int) -> int:
        """Memory of so many bytes in complete frames, and of what has arrived beside them."""
        held = frame_bytes + _FRAME_OVERHEAD_BYTES * len(self._frames) + len(self._rest)
        large = self.large
        if large is None:
            return held
        size = len(large)
        if size < MAPPED_FRAME_BYTES:
            return held + size
        # The system gives memory by pages, when their first byte arrives.
        return held + min(size, self._large_at + _HUGE_PAGE_BYTES)

    def room(self) -> memoryview:
        """Return where to put the next bytes of a `large` frame. Without one, pass bytes to `feed`."""
        assert self.large is not None
        return self.large[self._large_at :]

    def forget(self) -> None:
        """The connection has ended: free the memory of the message that has arrived in part."""
        self.large = None
        self._frames = []
        self._rest = b""

    def filled(self, count: int) -> list[Frame] | None:
        """`count` bytes were put where `room` said. Returns the message, if it is complete now."""
        self._large_at += count
        large = self.large
        assert large is not None
        if self._large_at < len(large):
            # What is raised here keeps this frame of the interpreter, and must not keep the bytes.
            del large
            self.on_unfinished()
            return None
        self.large = None
        self._frames.append(large)
        if self._large_more:
            self.on_unfinished()
            return None
        message, self._frames = self._frames, []
        self._message_bytes = 0
        return message

    def feed(self, data: bytes) -> list[list[Frame]]:
        """Take bytes in; return the messages that are complete now."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        if not self._greeted:
            if not self._greet(data):
                self._rest = data
                return []
            position = GREETING_BYTES
        messages: list[list[Frame]] = []
        frames = self._frames
        end = len(data)
        commands = 0
        while position + 2 <= end:
            flags = data[position]
            if flags & _LONG:
                body = position + _LONG_HEAD_BYTES
                if body > end:
                    break
                size = int.from_bytes(data[position + 1 : body], "big")
            else:
                size = data[position + 1]
                body = position + 2
            stop = body + size
            if stop > end:
                self._check(flags, size)
                if size >= LARGE_FRAME_BYTES:
                    self._begin_large(flags, size, data[body:])
                    self.on_unfinished()
                    return messages
                break
            position = stop
            if flags & ~(_MORE | _LONG) or not self.ready:
                self._check(flags, size)
                self._obey(data[body:stop])
                commands += 1
                if commands > COMMANDS_MAX:
                    raise MalformedMessageError("a flood of ZMTP commands")
                continue
            frames.append(data[body:stop])
            if flags & _MORE:
                if len(frames) >= FRAMES_MAX:
                    raise MessageTooLargeError(f"a message of more than {FRAMES_MAX} frames")
                self._message_bytes += size
            else:
                messages.append(frames)
                frames = self._frames = []
                self._message_bytes = 0
        if position < end or frames:
            self._rest = data[position:]
            self.on_unfinished()
        return messages

    def _check(self, flags: int, size: int) -> None:
        """Raise for a frame that is not permitted, before any memory is allocated for it."""
        command = flags & _COMMAND
        if flags & ~(_MORE | _LONG | _COMMAND) or (command and flags & _MORE):
            raise MalformedMessageError(f"a ZMTP frame with flags {flags:#04x}")
        if not self.ready and not command:
            raise MalformedMessageError("a message before the ZMTP handshake was over")
        if command and size > (LARGE_FRAME_BYTES if self.ready else HANDSHAKE_BYTES_MAX):
            raise MessageTooLargeError(f"a ZMTP command of {size} bytes")
        if self._message_bytes + size > MESSAGE_BYTES_MAX:
            raise MessageTooLargeError(
                f"a message of {self._message_bytes + size} bytes or more; the limit is {MESSAGE_BYTES_MAX}"
            )

    def _begin_large(self, flags: int, size: int, beginning: bytes) -> None:
        if len(self._frames) >= FRAMES_MAX:
            raise MessageTooLargeError(f"a message of more than {FRAMES_MAX} frames")
        self._message_bytes += size
        try:
            self.large = large = _large_buffer(size)
        except (OSError, MemoryError):
            raise no_memory_for(size) from None
        self._large_more = bool(flags & _MORE)
        self._large_at = len(beginning)
        large[: len(beginning)] = beginning

    # --- handshake and commands

    def _greet(self, data: bytes) -> bool:
        """Check the peer's greeting; return whether all of it has arrived."""
        if data[:1] != b"\xff"[: len(data)] or (len(data) >= _SIGNATURE_BYTES and not data[9] & 1):
            raise MalformedMessageError("the other end does not speak ZMTP")
        if len(data) < GREETING_BYTES:
            return False
        if data[10] < _VERSION[0]:
            raise MalformedMessageError(f"the other end speaks ZMTP {data[10]}, version {_VERSION[0]} is needed")
        mechanism = data[12:32].rstrip(b"\0")
        if mechanism != self.mechanism:
            raise WrongMechanismError(
                mechanism.decode("ascii", "replace"),
                self.mechanism.decode(),
                listening=self._socket_type in (SocketType.ROUTER, SocketType.XPUB),
            )
        self._greeted = True
        self._begin_handshake()
        return True

    def _greeting(self) -> bytes:
        return greeting(self.mechanism)

    def _begin_handshake(self) -> None:
        self.replies.append(_command(b"READY", self._metadata()))

    def _metadata(self) -> bytes:
        return metadata_property(b"Socket-Type", self._socket_type.value) + metadata_property(
            b"Identity", self._identity
        )

    def _obey(self, body: bytes) -> None:
        name, data = split_command(body)
        if name == b"READY" and not self.ready:
            self._get_ready(data)
        elif name == b"ERROR":
            raise MalformedMessageError(f"the other end refuses the connection: {data[1:].decode('ascii', 'replace')}")
        elif not self.ready:
            raise MalformedMessageError(f"the ZMTP command {name[:20]!r} before READY")
        elif name == b"PING":
            self.replies.append(_command(b"PONG", ping_context(data)))

    def _get_ready(self, data: bytes) -> None:
        metadata = _read_properties(data)
        wanted = self._socket_type.peers
        found = metadata.get(b"socket-type", b"")
        if found not in wanted:
            raise WrongSocketError(found[:20].decode("ascii", "replace"), wanted[0].decode())
        identity = metadata.get(b"identity", b"")
        if len(identity) > IDENTITY_BYTES_MAX:
            raise MalformedMessageError(f"an identity of {len(identity)} bytes; the limit is {IDENTITY_BYTES_MAX}")
        self.peer_identity = identity
        self._note_properties(metadata)
        self.ready = True

    def _note_properties(self, metadata: dict[bytes, bytes]) -> None:
        """The other end's metadata, by name in lower case."""


def ignore() -> None:
    """Do nothing."""


def no_memory_for(size: int) -> MessageTooLargeError:
    """Return the error for a frame that the system has no memory for."""
    return MessageTooLargeError(f"a frame of {size} bytes, which is more memory than this host has")


def _large_buffer(size: int) -> memoryview:
    if size < MAPPED_FRAME_BYTES:
        return memoryview(bytearray(size))
    return FRAME_BUFFERS.take(size)


def split_command(body: bytes) -> tuple[bytes, bytes]:
    """Return the name and the data of a command."""
    if not body or 1 + body[0] > len(body):
        raise MalformedMessageError("a ZMTP command without a name")
    return body[1 : 1 + body[0]], body[1 + body[0] :]


def ping_context(data: bytes) -> bytes:
    """Return what PONG repeats of a PING."""
    return data[_PING_TTL_BYTES : _PING_TTL_BYTES + _PING_CONTEXT_MAX]


def command_frame(body: bytes) -> bytes:
    """Return a command, with its name, on the wire."""
    if len(body) <= _SHORT_FRAME_MAX:
        return bytes((_COMMAND, len(body))) + body
    return _LONG_HEAD.pack(_COMMAND | _LONG, len(body)) + body


def _command(name: bytes, data: bytes) -> bytes:
    return command_frame(bytes((len(name),)) + name + data)


def metadata_property(name: bytes, value: bytes) -> bytes:
    """Return a property of this end's metadata on the wire."""
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


def _read_properties(data: bytes) -> dict[bytes, bytes]:
    """Return metadata by name, in lower case because names are not case-sensitive."""
    properties: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        name_end = position + 1 + data[position]
        value_at = name_end + 4
        value_end = value_at + int.from_bytes(data[name_end:value_at], "big")
        if value_end > len(data) or value_at > len(data):
            raise MalformedMessageError("ZMTP metadata that ends too early")
        properties[data[position + 1 : name_end].lower()] = data[value_at:value_end]
        if len(properties) > PROPERTIES_MAX:
            raise MalformedMessageError(f"more than {PROPERTIES_MAX} properties in ZMTP metadata")
        position = value_end
    return properties
