"""What follows CURVE's handshake: each frame travels in a MESSAGE command of its own, sealed under a number.

The number counts up by one and is part of the nonce. The receiver knows which comes next, so a command that was recorded,
reordered or left out ends the connection.

Where the other end has announced the property `TOGETHER_NAME` with its metadata, as ours do and libzmq does not, a short message
of three frames (envelope, header, payload: nearly all) travels in one MESSAGE. Sealing and opening three takes about twice as
long, and a lone task's way has four such messages.

Frames are sealed and opened in place, in the buffers that the socket reads and writes, by PyNaCl's binding of libsodium: its
public functions copy each frame twice more.
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
from scaler_protocol.wire.envelope import Frame

CLIENT_MESSAGE, SERVER_MESSAGE = b"CurveZMQMESSAGEC", b"CurveZMQMESSAGES"
"""The nonce's beginning says who has sealed."""

MORE, COMMAND, TOGETHER = 1, 2, 4
"""Flags inside the box. COMMAND, for heartbeats, is libzmq's. TOGETHER is ours: the sizes of two frames, then three frames."""

TOGETHER_NAME = b"X-Scaler-Together"
"""Property of whoever reads MESSAGEs with the flag TOGETHER."""

TOGETHER_BYTES_MAX = 16 * 1024
"""Largest sum of three frames that are sealed together; beyond it, copying them once more costs more than is saved."""

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
SHORT_HEAD_BYTES, LONG_HEAD_BYTES = 2, 9
"""ZMTP's flags and size before a command. Like libzmq, this sends MESSAGE without the flag for commands."""

_LONG = 2
_SHORT_HEAD = struct.Struct(">BB8sQ16xB")
_LONG_HEAD = struct.Struct(">BQ8sQ16xB")
_MESSAGE_HEAD = struct.Struct(">8sQ")
_SIZES = struct.Struct(">II")
_NO_NUMBERS = "this connection has no numbers left"
_NUMBER_AT = 16
_NUMBER = struct.Struct(">Q")
_NUMBER_MAX = 2**64 - 1

_seal: Any = lib.crypto_box_easy_afternm
_open: Any = lib.crypto_box_open_easy_afternm
_address: Any = ffi.from_buffer

# Chooses the fastest code for this processor. Importing the package does it too; this says that it is needed.
nacl.bindings.sodium_init()


class Sealer:
    """The sending half. Seal in the order of the wire."""

    __slots__ = ("_key", "_nonce", "_nonce_at", "_number", "together")

    def __init__(self, key: bytes, prefix: bytes, last_number: int) -> None:
        """`last_number` is the number of the last command that this end has sent."""
        self.together = False
        """Whether the other end reads MESSAGEs with the flag TOGETHER."""
        self._key = key
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

    def seal_message(self, frames: Sequence[Frame]) -> bytearray:
        """Return a message on the wire: for messages whose frames are copied into one buffer."""
        if self.together and len(frames) == 3:
            plain = b"".join((_SIZES.pack(len(frames[0]), len(frames[1])), *frames))
            if len(plain) <= TOGETHER_BYTES_MAX:
                return self._seal_together(plain)
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

    def _seal_together(self, plain: bytes) -> bytearray:
        self._number = number = self._number + 1
        if number > _NUMBER_MAX:
            raise MalformedMessageError(_NO_NUMBERS)
        body = OVERHEAD_BYTES + len(plain)
        if body > SHORT_FRAME_MAX:
            head = LONG_HEAD_BYTES
            data = bytearray(head + body)
            _LONG_HEAD.pack_into(data, 0, _LONG, body, NAME, number, TOGETHER)
        else:
            head = SHORT_HEAD_BYTES
            data = bytearray(head + body)
            _SHORT_HEAD.pack_into(data, 0, 0, body, NAME, number, TOGETHER)
        data[head + OVERHEAD_BYTES :] = plain
        _NUMBER.pack_into(self._nonce, _NUMBER_AT, number)
        box = _address(data) + (head + BOX_AT)
        _seal(box, box + MAC_BYTES, len(plain) + 1, self._nonce_at, self._key)
        return data


class Opener:
    """The receiving half."""

    __slots__ = ("_key", "_nonce", "_nonce_at", "_number")

    def __init__(self, key: bytes, prefix: bytes, last_number: int) -> None:
        """`last_number` is the number of the last command that has arrived."""
        self._key = key
        self._nonce = bytearray(prefix + bytes(8))
        self._nonce_at = _address(self._nonce)
        self._number = last_number

    def open(self, data: bytes | memoryview, at: int, size: int, address: Any, into: Any) -> None:
        """Open a MESSAGE that begins at `at` and has `size` bytes; put flags and frame `into` an address.

        `address` is that of `data`. Raises MalformedMessageError for a command that was forged, damaged, or is not the next
        one.
        """
        self._number = number = self._number + 1
        box = at + BOX_AT
        if number > _NUMBER_MAX:
            raise MalformedMessageError(_NO_NUMBERS)
        if size < OVERHEAD_BYTES or data[at:box] != _MESSAGE_HEAD.pack(NAME, number):
            raise MalformedMessageError(_why_not(bytes(data[at : min(at + size, box)]), number))
        _NUMBER.pack_into(self._nonce, _NUMBER_AT, number)
        if _open(into, address + box, size - BOX_AT, self._nonce_at, self._key):
            raise MalformedMessageError("a CURVE MESSAGE that was forged or damaged")


def read_together(plain: bytes) -> list[Frame]:
    """Return the three frames that were sealed together. Raises MalformedMessageError."""
    if len(plain) < _SIZES.size:
        raise MalformedMessageError("frames sealed together, without their sizes")
    first, second = _SIZES.unpack_from(plain)
    header_at = _SIZES.size + first
    payload_at = header_at + second
    if payload_at > len(plain):
        raise MalformedMessageError(f"frames sealed together, of {payload_at} bytes or more in {len(plain)}")
    return [plain[_SIZES.size : header_at], plain[header_at:payload_at], plain[payload_at:]]


def address_of(buffer: Any) -> Any:
    """Return a buffer's address. The buffer must outlive it."""
    return _address(buffer)


def new_scratch(size: int) -> tuple[Any, Any]:
    """Return memory for the frames that are opened one after the other: its address, and a buffer that copies slices out."""
    memory = ffi.new("unsigned char[]", size)
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
