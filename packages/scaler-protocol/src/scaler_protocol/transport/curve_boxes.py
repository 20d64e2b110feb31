"""What follows CURVE's handshake: each frame travels in a MESSAGE command of its own, sealed under a number.

The number counts up by one and is part of the nonce. The receiver knows which comes next, so a command that was recorded,
reordered or left out ends the connection.

Where the other end has announced the property `TOGETHER_NAME` with its metadata, as ours do and libzmq does not, a short message
of three frames (envelope, header, payload: nearly all) travels in one MESSAGE. Sealing and opening three takes about twice as
long, and a lone task's way has four such messages.

Frames are sealed and opened in place, in the buffers that the socket reads and writes, by PyNaCl's binding of libsodium: its
public functions copy each frame twice more. Short commands are copied instead: a lone task's messages find cold caches, where
finding an address costs more than to copy a few hundred bytes.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Sequence
from typing import Any

import nacl.bindings
from nacl._sodium import ffi, lib  # type: ignore[import-not-found]

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.transport.zmtp import LARGE_FRAME_BYTES
from scaler_protocol.wire.envelope import Frame

CLIENT_MESSAGE, SERVER_MESSAGE = b"CurveZMQMESSAGEC", b"CurveZMQMESSAGES"
"""The nonce's beginning says who has sealed."""

MORE, COMMAND, TOGETHER = 1, 2, 4
"""Flags inside the box. COMMAND, for heartbeats, is libzmq's. TOGETHER is ours: the sizes of two frames, then three frames."""

TOGETHER_NAME = b"X-Scaler-Together"
"""Property of whoever reads MESSAGEs with the flag TOGETHER."""

SHORT_COMMAND_MAX = 16 * 1024
"""Largest MESSAGE that is copied to be sealed or opened, and so the largest with three frames in it."""

NAME = b"\x07MESSAGE"
BOX_AT = len(NAME) + 8
MAC_BYTES = 16
PLAIN_AT = BOX_AT + MAC_BYTES
"""In a MESSAGE: name, number, authenticator, then what is sealed: flags and the frame."""

OVERHEAD_BYTES = PLAIN_AT + 1
"""By so much a MESSAGE is longer than its frame."""

MAPPED_BYTES = 1024 * 1024
"""Larger buffers get fresh pages from the system, because an ordinary buffer would first be filled with zeros."""

SHORT_FRAME_MAX = 255
"""Largest body whose size takes one byte."""

SHORT_HEAD_BYTES, LONG_HEAD_BYTES = 2, 9
"""ZMTP's flags and size before a command. Like libzmq, this sends MESSAGE without the flag for commands."""

_LONG = 2
_SHORT_HEAD = struct.Struct(">BB8sQ16xB")
_LONG_HEAD = struct.Struct(">BQ8sQ16xB")
_SIZES = struct.Struct(">BII")
_SIZES_BYTES = _SIZES.size
_LONE_HEAD = struct.Struct(">BQ8sQ")
_LONE_HEAD_BYTES = _LONE_HEAD.size
_LONG_HEAD_OF_NAME = struct.Struct(">BQ8s")
_SHORT_HEADS_OF_NAME = [bytes((0, size)) + NAME for size in range(SHORT_FRAME_MAX + 1)]
_PLAIN_MAX = SHORT_COMMAND_MAX - PLAIN_AT
_NO_NUMBERS = "this connection has no numbers left"
_FORGED = "a CURVE MESSAGE that was forged or damaged"
_NUMBER_AT = 16
_NUMBER = struct.Struct(">Q")
_NUMBER_MAX = 2**64 - 1

_seal: Any = lib.crypto_box_easy_afternm
_open: Any = lib.crypto_box_open_easy_afternm
_address: Any = ffi.from_buffer
_new_memory: Any = ffi.new_allocator(should_clear_after_alloc=False)

# Chooses the fastest code for this processor. Importing the package does it too; this says that it is needed.
nacl.bindings.sodium_init()


class Sealer:
    """The sending half. Seal in the order of the wire."""

    __slots__ = ("_box", "_box_bytes", "_key", "_nonce", "_nonce_at", "_number", "_prefix", "together")

    def __init__(self, key: bytes, prefix: bytes, last_number: int) -> None:
        """`last_number` is the number of the last command that this end has sent."""
        self.together = False
        """Whether the other end reads MESSAGEs with the flag TOGETHER."""
        self._box, self._box_bytes = new_scratch(SHORT_COMMAND_MAX)
        self._key = key
        self._prefix = prefix
        self._nonce = bytearray(prefix + bytes(8))
        self._nonce_at = _address(self._nonce)
        self._number = last_number

    def seal(self, flags: int, frame: Frame) -> memoryview:
        """Return a frame of any size as a MESSAGE on the wire, in a buffer of its own."""
        self._number = number = self._number + 1
        if number > _NUMBER_MAX:
            raise MalformedMessageError(_NO_NUMBERS)
        size = len(frame)
        buffer = new_buffer(LONG_HEAD_BYTES + OVERHEAD_BYTES + size)
        _LONG_HEAD.pack_into(buffer, 0, _LONG, OVERHEAD_BYTES + size, NAME, number, flags)
        buffer[LONG_HEAD_BYTES + OVERHEAD_BYTES :] = frame
        _NUMBER.pack_into(self._nonce, _NUMBER_AT, number)
        box = _address(buffer) + (LONG_HEAD_BYTES + BOX_AT)
        _seal(box, box + MAC_BYTES, size + 1, self._nonce_at, self._key)
        return buffer

    def seal_message(self, frames: Sequence[Frame]) -> bytes | bytearray | None:
        """Return a message on the wire. None if it is large: its frames then need buffers of their own, from `seal`."""
        if self.together and len(frames) == 3 and (short := self._seal_together(*frames)) is not None:
            return short
        if sum(map(len, frames)) > LARGE_FRAME_BYTES:
            return None
        total = 0
        for frame in frames:
            body = OVERHEAD_BYTES + len(frame)
            total += body + (LONG_HEAD_BYTES if body > SHORT_FRAME_MAX else SHORT_HEAD_BYTES)
        data = bytearray(total)
        start = _address(data)
        nonce, nonce_at, key, number = self._nonce, self._nonce_at, self._key, self._number
        left = len(frames)
        self._number = number + left
        if self._number > _NUMBER_MAX:
            raise MalformedMessageError(_NO_NUMBERS)
        position = 0
        for frame in frames:
            left -= 1
            number += 1
            size = len(frame)
            body = OVERHEAD_BYTES + size
            if body > SHORT_FRAME_MAX:
                _LONG_HEAD.pack_into(data, position, _LONG, body, NAME, number, MORE if left else 0)
                position += LONG_HEAD_BYTES
            else:
                _SHORT_HEAD.pack_into(data, position, 0, body, NAME, number, MORE if left else 0)
                position += SHORT_HEAD_BYTES
            box = start + (position + BOX_AT)
            position += body
            data[position - size : position] = frame
            _NUMBER.pack_into(nonce, _NUMBER_AT, number)
            _seal(box, box + MAC_BYTES, size + 1, nonce_at, key)
        return data

    def _seal_together(self, envelope: Frame, header: Frame, payload: Frame) -> bytes | None:
        """Return a short message of three frames as one MESSAGE; None if it is not short."""
        first, second = len(envelope), len(header)
        size = _SIZES_BYTES + first + second + len(payload)
        if size > _PLAIN_MAX:
            return None
        self._number = number = self._number + 1
        if number > _NUMBER_MAX:
            raise MalformedMessageError(_NO_NUMBERS)
        plain = b"".join((_SIZES.pack(TOGETHER, first, second), envelope, header, payload))
        counted = _NUMBER.pack(number)
        _seal(self._box, plain, size, self._prefix + counted, self._key)
        body = PLAIN_AT + size
        head = _SHORT_HEADS_OF_NAME[body] if body <= SHORT_FRAME_MAX else _LONG_HEAD_OF_NAME.pack(_LONG, body, NAME)
        return b"".join((head, counted, self._box_bytes[: MAC_BYTES + size]))


class Opener:
    """The receiving half."""

    __slots__ = ("_key", "_number", "_plain", "_plain_bytes", "_prefix")

    def __init__(self, key: bytes, prefix: bytes, last_number: int) -> None:
        """`last_number` is the number of the last command that has arrived."""
        self._plain, self._plain_bytes = new_scratch(SHORT_COMMAND_MAX)
        self._key = key
        self._prefix = prefix
        self._number = last_number

    def open_lone(self, data: bytes) -> bytes | None:
        """Return flags and frame of the MESSAGE that comes next, if these bytes are it, with a long head, and nothing else.

        Nearly all that arrives in an idle system is. Everything else, and all that is wrong, is left to `open_short` and `open`.
        """
        end, number = len(data), self._number + 1
        if not LONG_HEAD_BYTES + OVERHEAD_BYTES <= end <= SHORT_COMMAND_MAX or number > _NUMBER_MAX:
            return None
        head = _LONE_HEAD.pack(_LONG, end - LONG_HEAD_BYTES, NAME, number)
        if not data.startswith(head):
            return None
        self._number = number
        size = end - _LONE_HEAD_BYTES
        if _open(self._plain, data[_LONE_HEAD_BYTES:], size, self._prefix + head[-8:], self._key):
            raise MalformedMessageError(_FORGED)
        plain: bytes = self._plain_bytes[: size - MAC_BYTES]
        return plain

    def open_short(self, data: bytes, at: int, end: int) -> bytes:
        """Return flags and frame of a MESSAGE of at most SHORT_COMMAND_MAX bytes. Raises as `open`."""
        self._number = number = self._number + 1
        if number > _NUMBER_MAX:
            raise MalformedMessageError(_NO_NUMBERS)
        counted = _NUMBER.pack(number)
        size = end - at - PLAIN_AT
        if size < 1 or not data.startswith(NAME + counted, at):
            raise MalformedMessageError(_why_not(data[at : min(at + BOX_AT, end)], number))
        if _open(self._plain, data[at + BOX_AT : end], size + MAC_BYTES, self._prefix + counted, self._key):
            raise MalformedMessageError(_FORGED)
        plain: bytes = self._plain_bytes[:size]
        return plain

    def open(self, data: bytes | memoryview, at: int, size: int, address: Any, into: Any) -> None:
        """Open a MESSAGE that begins at `at` and has `size` bytes; put flags and frame `into` an address.

        `address` is that of `data`. Raises MalformedMessageError for a command that was forged, damaged, or is not the next
        one.
        """
        self._number = number = self._number + 1
        if number > _NUMBER_MAX:
            raise MalformedMessageError(_NO_NUMBERS)
        box = at + BOX_AT
        counted = _NUMBER.pack(number)
        if size < OVERHEAD_BYTES or data[at:box] != NAME + counted:
            raise MalformedMessageError(_why_not(bytes(data[at : min(at + size, box)]), number))
        if _open(into, address + box, size - BOX_AT, self._prefix + counted, self._key):
            raise MalformedMessageError(_FORGED)


def read_together(plain: bytes) -> list[Frame]:
    """Return the three frames that were sealed together, from what a MESSAGE holds. Raises MalformedMessageError."""
    if len(plain) < _SIZES_BYTES:
        raise MalformedMessageError("frames sealed together, without their sizes")
    _, first, second = _SIZES.unpack_from(plain)
    header_at = _SIZES_BYTES + first
    payload_at = header_at + second
    if payload_at > len(plain):
        raise MalformedMessageError(f"frames sealed together, of {payload_at} bytes or more in {len(plain)}")
    return [plain[_SIZES_BYTES:header_at], plain[header_at:payload_at], plain[payload_at:]]


def address_of(buffer: Any) -> Any:
    """Return a buffer's address. The buffer must outlive it."""
    return _address(buffer)


def new_scratch(size: int) -> tuple[Any, Any]:
    """Return memory for the frames that are opened one after the other: its address, and a buffer that copies slices out."""
    memory = _new_memory("unsigned char[]", size)
    return memory, ffi.buffer(memory)


def _why_not(head: bytes, number: int) -> str:
    if head[: len(NAME)] != NAME:
        return f"the command {head[1:8]!r} where a CURVE MESSAGE is needed"
    if len(head) < BOX_AT:
        return "a CURVE MESSAGE that is too short"
    found = int.from_bytes(head[len(NAME) :], "big")
    return f"the CURVE MESSAGE with number {found} where {number} comes next: it was recorded, reordered or left out"


def new_buffer(size: int) -> memoryview:
    """Return a buffer for a large frame."""
    if size < MAPPED_BYTES:
        return memoryview(bytearray(size))
    pages = mmap.mmap(-1, size)
    if sys.platform == "linux":
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)
