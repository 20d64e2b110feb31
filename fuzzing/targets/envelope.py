"""The envelope in front of every message."""

from __future__ import annotations

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.wire.envelope import UNSEQUENCED, decode_envelope, encode_envelope


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    return [encode_envelope(UNSEQUENCED), b"", bytes(48)]


def run(data: bytes) -> None:
    """See `fuzzing`."""
    try:
        envelope = decode_envelope(data)
    except MalformedMessageError:
        return
    assert encode_envelope(envelope) == data
