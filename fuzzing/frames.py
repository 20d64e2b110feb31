"""Messages as one piece of bytes, as in the golden files: how many frames, then each with its length before it."""

from __future__ import annotations

import struct
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "packages" / "scaler-protocol" / "tests" / "wire" / "golden"
FRAMES_MAX = 8

_LENGTH = struct.Struct("<I")


def golden() -> list[bytes]:
    """Return an example of every kind of message."""
    return [path.read_bytes() for path in sorted(FOLDER.glob("*.bin"))]


def frames_of(data: bytes) -> list[bytes]:
    """Return the frames in a piece of bytes; of one that is cut off, what is there."""
    frames: list[bytes] = []
    at = _LENGTH.size
    while at + _LENGTH.size <= len(data) and len(frames) < FRAMES_MAX:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        frames.append(data[at : at + length])
        at += length
    return frames


def joined(messages: list[bytes]) -> bytes:
    """Return several messages as one piece of bytes, each with its length before it."""
    return b"".join(_LENGTH.pack(len(message)) + message for message in messages)


def messages_of(data: bytes, limit: int = 64) -> list[bytes]:
    """Return the messages in a piece of bytes."""
    found: list[bytes] = []
    at = 0
    while at + _LENGTH.size <= len(data) and len(found) < limit:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        found.append(data[at : at + length])
        at += length
    return found
