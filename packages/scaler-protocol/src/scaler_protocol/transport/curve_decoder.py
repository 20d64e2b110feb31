"""The receiving half of a connection whose mechanism is CURVE: bytes in, messages out, no socket."""

from __future__ import annotations

import os
from typing import Any

from scaler_protocol.errors import (
    MalformedMessageError,
    MessageTooLargeError,
    RefusedError,
    UnknownKeyError,
    WrongIdentityError,
    WrongServerKeyError,
    WrongSocketError,
)
from scaler_protocol.ids import FINGERPRINT_BYTES
from scaler_protocol.security.authority import Authority
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import fingerprint, pinned_id, to_text
from scaler_protocol.transport.curve import CurveClient, CurveServer, Entropy
from scaler_protocol.transport.curve_boxes import (
    COMMAND,
    MORE,
    OVERHEAD_BYTES,
    PLAIN_AT,
    SHORT_COMMAND_MAX,
    TOGETHER,
    TOGETHER_NAME,
    Opener,
    Sealer,
    address_of,
    new_buffer,
    new_scratch,
    read_together,
)
from scaler_protocol.transport.zmtp import (
    GREETING_BYTES,
    LARGE_FRAME_BYTES,
    Decoder,
    SocketType,
    command_frame,
    greeting,
    metadata_property,
    no_memory_for,
    ping_context,
    split_command,
)
from scaler_protocol.wire.envelope import FRAMES_MAX, MESSAGE_BYTES_MAX, Frame

ALIGNMENT = 64
_BEFORE = ALIGNMENT - OVERHEAD_BYTES % ALIGNMENT
"""Bytes before a large MESSAGE in its buffer, so that its frame, after it was opened in place, begins where arrays may begin."""

_LONG, _OUTER_COMMAND = 2, 4
_LONG_HEAD_BYTES = 9
_SCRATCH_BYTES = LARGE_FRAME_BYTES + OVERHEAD_BYTES


class CurveDecoder(Decoder):
    """As `Decoder`, but only the first `plain_replies` of the `replies` are bytes for the wire.

    Those that follow are bodies of commands, which must be sealed.
    """

    __slots__ = (
        "_opener",
        "_plain",
        "_reads_together",
        "_scratch",
        "authority",
        "introduced",
        "plain_replies",
        "sealer",
    )

    mechanism = b"CURVE"

    def __init__(self, socket_type: SocketType, identity: bytes) -> None:
        super().__init__(socket_type, identity)
        self.plain_replies = 1
        self.authority: Authority | None = None
        """Whose key the other end of a listener's connection has proven to have."""
        self.introduced = False
        """Whether this end has connected and has told its key and its metadata, after which the other lets it in or not."""
        self.sealer: Sealer | None = None
        """Seals what this end sends; None until `ready`."""
        self._opener: Opener | None = None
        self._reads_together = False
        """Whether the other end reads frames that were sealed together."""
        self._scratch: Any = None
        self._plain: Any = None

    @property
    def unfinished_bytes(self) -> int:
        """Memory that the message takes that has arrived in part. A large frame is among its bytes once it was opened."""
        return self._held_bytes(self._message_bytes)

    def feed(self, data: bytes) -> list[list[Frame]]:
        """Take bytes in; return the messages that are complete now."""
        if (
            (opener := self._opener) is not None
            and not self._rest
            and not self._frames
            and (plain := opener.open_lone(data)) is not None
        ):
            if plain[0] == TOGETHER:
                return [read_together(plain)]
            if (message := self._add(plain[0], plain[1:])) is not None:
                return [message]
            if self._frames:
                self.on_unfinished()
            return []
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
        end = len(data)
        start: Any = None
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
            opener = self._opener
            if stop > end or opener is None or size > _SCRATCH_BYTES or flags & ~(_LONG | _OUTER_COMMAND):
                self._check_outer(flags, size)
                if self.ready and size >= LARGE_FRAME_BYTES:
                    beginning = data[body:stop]
                    self._begin_large_message(size, beginning)
                    if stop > end:
                        self.on_unfinished()
                        return messages
                    position = stop
                    if (message := self.filled(0)) is not None:
                        messages.append(message)
                    continue
                if stop > end:
                    break
                if opener is None:
                    position = stop
                    self._obey(data[body:stop])
                    continue
            position = stop
            assert opener is not None
            if size <= SHORT_COMMAND_MAX:
                plain = opener.open_short(data, body, stop)
                inner = plain[0]
                if inner == TOGETHER and not self._frames:
                    messages.append(read_together(plain))
                    continue
                frame = plain[1:]
            else:
                if start is None:
                    start = address_of(data)
                opener.open(data, body, size, start, self._scratch)
                inner = self._scratch[0]
                frame = self._plain[1 : size - PLAIN_AT]
            if (message := self._add(inner, frame)) is not None:
                messages.append(message)
        if position < end or self._frames:
            self._rest = data[position:]
            self.on_unfinished()
        return messages

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
        assert self._opener is not None
        at = address_of(large)
        self._opener.open(large, 0, len(large), at, at + PLAIN_AT)
        return self._add(large[PLAIN_AT], large[OVERHEAD_BYTES:])

    def _add(self, flags: int, frame: Frame) -> list[Frame] | None:
        """Take a frame that was sealed; return the message, if it is complete now."""
        if flags & ~MORE:
            if flags != COMMAND:
                raise MalformedMessageError(f"a CURVE MESSAGE with flags {flags:#04x}")
            self._heed(bytes(frame))
            return None
        frames = self._frames
        total = self._message_bytes + len(frame)
        if total > MESSAGE_BYTES_MAX:
            raise MessageTooLargeError(f"a message of {total} bytes or more; the limit is {MESSAGE_BYTES_MAX}")
        frames.append(frame)
        if flags:
            if len(frames) >= FRAMES_MAX:
                raise MessageTooLargeError(f"a message of more than {FRAMES_MAX} frames")
            self._message_bytes = total
            return None
        self._frames = []
        self._message_bytes = 0
        return frames

    def _check_outer(self, flags: int, size: int) -> None:
        """Raise for a frame that is not permitted, before any memory is allocated for it."""
        if self.ready:
            # ZeroMQ libraries send MESSAGE without the flag for commands, and accept it with the flag.
            if flags & ~(_LONG | _OUTER_COMMAND):
                raise MalformedMessageError(f"a ZMTP frame with flags {flags:#04x} on a CURVE connection")
            if self._message_bytes + size - OVERHEAD_BYTES > MESSAGE_BYTES_MAX:
                raise MessageTooLargeError(
                    f"a message of {self._message_bytes + size} bytes or more; the limit is {MESSAGE_BYTES_MAX}"
                )
            return
        self._check(flags, size)

    def _begin_large_message(self, size: int, beginning: bytes) -> None:
        try:
            self.large = large = new_buffer(_BEFORE + size)[_BEFORE:]
        except (OSError, MemoryError):
            raise no_memory_for(size) from None
        self._large_at = len(beginning)
        large[: len(beginning)] = beginning

    def _say(self, body: bytes) -> None:
        self.replies.append(command_frame(body))
        self.plain_replies += 1

    def _heed(self, body: bytes) -> None:
        """A command that was sealed."""
        name, data = split_command(body)
        if name == b"PING":
            self.replies.append(b"\x04PONG" + ping_context(data))

    def _metadata(self) -> bytes:
        return super()._metadata() + metadata_property(TOGETHER_NAME, b"1")

    def _note_properties(self, metadata: dict[bytes, bytes]) -> None:
        self._reads_together = TOGETHER_NAME.lower() in metadata

    def _begin_traffic(self, sealer: Sealer | None, opener: Opener | None) -> None:
        assert sealer is not None
        sealer.together = self._reads_together
        self.sealer, self._opener = sealer, opener
        self._scratch, self._plain = new_scratch(_SCRATCH_BYTES)


class CurveClientDecoder(CurveDecoder):
    """The connecting end's."""

    __slots__ = ("_handshake",)

    def __init__(
        self, socket_type: SocketType, identity: bytes, security: PeerSecurity, entropy: Entropy = os.urandom
    ) -> None:
        super().__init__(socket_type, identity)
        self._handshake = CurveClient(security.own, security.server, entropy)

    def _begin_handshake(self) -> None:
        self._say(self._handshake.hello())

    def _obey(self, body: bytes) -> None:
        name, data = split_command(body)
        handshake = self._handshake
        if name == b"ERROR":
            raise _refusal(data[1 : 1 + data[0]] if data else b"")
        if name == b"WELCOME":
            self._say(handshake.take_welcome(body, self._metadata()))
            self.introduced = True
        else:
            self._get_ready(handshake.take_ready(body))
            self._begin_traffic(handshake.sealer, handshake.opener)


class CurveServerDecoder(CurveDecoder):
    """The listening end's."""

    __slots__ = ("_handshake", "_security")

    def __init__(self, socket_type: SocketType, security: ServerSecurity, entropy: Entropy = os.urandom) -> None:
        self._security = security
        super().__init__(socket_type, b"")
        self._handshake = CurveServer(security.own, entropy)

    def _greeting(self) -> bytes:
        return greeting(self.mechanism, as_server=True)

    def _begin_handshake(self) -> None:
        """The client begins."""

    def _obey(self, body: bytes) -> None:
        name, _ = split_command(body)
        try:
            if name == b"HELLO":
                self._say(self._handshake.take_hello(body))
            else:
                self._let_in(self._handshake.take_initiate(body))
        except RefusedError as error:
            self._say_refused(error)
            raise

    def _say_refused(self, error: RefusedError) -> None:
        self._say(b"\x05ERROR" + bytes((len(error.told),)) + error.told)

    def _let_in(self, metadata: bytes) -> None:
        public = self._handshake.client
        authority = self._security.authority(public)
        if authority is None:
            raise UnknownKeyError(f"the peer's key is not allowed: {to_text(public)}")
        try:
            self._get_ready(metadata)
        except WrongSocketError:
            # It learns from this what listens here.
            self._say(self._handshake.ready(self._metadata()))
            raise
        own = fingerprint(public)
        if not self.peer_identity:
            self.peer_identity = pinned_id(public)
        elif self.peer_identity[:FINGERPRINT_BYTES] != own:
            self.ready = False
            raise WrongIdentityError
        self.authority = authority
        self._say(self._handshake.ready(self._metadata()))
        self._begin_traffic(self._handshake.sealer, self._handshake.opener)


def _refusal(told: bytes) -> MalformedMessageError:
    for error in (UnknownKeyError, WrongServerKeyError, WrongIdentityError):
        if told == error.told:
            return error()
    return RefusedError(f"the other end refuses the connection: {told.decode('ascii', 'replace')}")
