"""What follows CURVE's handshake: each frame travels in a MESSAGE command of its own, sealed under a number.

The number counts up by one and is part of the nonce. The receiver knows which comes next, so a command that was recorded,
reordered or left out ends the connection.

Frames are sealed and opened in place, in the buffers that the socket reads and writes, by PyNaCl's binding of libsodium: its
public functions copy each frame twice more.
"""

from __future__ import annotations

import mmap
import struct
import sys
from typing import Any

import nacl.bindings
from nacl._sodium import ffi, lib  # type: ignore[import-not-found]

from scaler_protocol.errors import MalformedMessageError

CLIENT_MESSAGE, SERVER_MESSAGE = b"CurveZMQMESSAGEC", b"CurveZMQMESSAGES"
"""The nonce's beginning says who has sealed."""

MORE, COMMAND = 1, 2
"""Flags inside the box. COMMAND, for heartbeats, is libzmq's."""

NAME = b"\x07MESSAGE"
BOX_AT = len(NAME) + 8
MAC_BYTES = 16
PLAIN_AT = BOX_AT + MAC_BYTES
"""In a MESSAGE: name, number, authenticator, then what is sealed: flags and the frame."""

OVERHEAD_BYTES = PLAIN_AT + 1
"""By so much a MESSAGE is longer than its frame."""

MAPPED_BYTES = 1024 * 1024
"""Larger buffers get fresh pages from the system, because an ordinary buffer would first be filled with zeros."""

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

    __slots__ = ("_key", "_nonce", "_nonce_at", "_number")

    def __init__(self, key: bytes, prefix: bytes, last_number: int) -> None:
        """`last_number` is the number of the last command that this end has sent."""
        self._key = key
        self._nonce = bytearray(prefix + bytes(8))
        self._nonce_at = _address(self._nonce)
        self._number = last_number

    def seal(self, buffer: bytearray | memoryview, start: int, size: int) -> None:
        """Complete a MESSAGE that begins at `start`: at PLAIN_AT of it are its flags and a frame of `size` bytes."""
        self._number = number = self._number + 1
        if number > _NUMBER_MAX:
            raise MalformedMessageError("this connection has no numbers left")
        nonce = self._nonce
        _NUMBER.pack_into(nonce, _NUMBER_AT, number)
        box = start + BOX_AT
        buffer[start : start + len(NAME)] = NAME
        buffer[start + len(NAME) : box] = nonce[_NUMBER_AT:]
        at = _address(buffer) + box
        _seal(at, at + MAC_BYTES, size + 1, self._nonce_at, self._key)


class Opener:
    """The receiving half."""

    __slots__ = ("_head", "_key", "_nonce", "_nonce_at", "_number")

    def __init__(self, key: bytes, prefix: bytes, last_number: int) -> None:
        """`last_number` is the number of the last command that has arrived."""
        self._key = key
        self._nonce = bytearray(prefix + bytes(8))
        self._nonce_at = _address(self._nonce)
        self._number = last_number
        self._head = bytearray(NAME + bytes(8))

    def open(self, head: bytes, box: Any, size: int, into: Any) -> None:
        """Open a MESSAGE of `size` bytes in all. `head` is its part before the box.

        `box` and `into` are addresses: of the box, and of where flags and frame go. Raises MalformedMessageError for a
        command that was forged, damaged, or is not the next one.
        """
        self._number = number = self._number + 1
        nonce = self._nonce
        expected = self._head
        if number > _NUMBER_MAX:
            raise MalformedMessageError("this connection has no numbers left")
        _NUMBER.pack_into(nonce, _NUMBER_AT, number)
        _NUMBER.pack_into(expected, len(NAME), number)
        if head != expected:
            raise MalformedMessageError(_why_not(head, number))
        if size < OVERHEAD_BYTES or _open(into, box, size - BOX_AT, self._nonce_at, self._key):
            raise MalformedMessageError("a CURVE MESSAGE that was forged or damaged")


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
