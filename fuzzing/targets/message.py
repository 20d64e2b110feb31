"""Every kind of message: what was decoded can be encoded, and says the same again; so can its rows be read."""

from __future__ import annotations

from fuzzing.frames import frames_of, golden
from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import carried_rows, reported_of
from scaler_protocol.wire.codec import decode, encode


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    return golden()


def run(data: bytes) -> None:
    """See `fuzzing`."""
    try:
        message = decode(frames_of(data)[1:])
    except (MalformedMessageError, MessageTooLargeError):
        return
    once = encode(message)
    again = encode(decode(once))
    assert list(map(bytes, again)) == list(map(bytes, once))
    if isinstance(message, m.ResultBatch):
        reported_of(message)
        message.payloads.split()
    elif isinstance(message, m.TaskBatch):
        carried_rows(message, len(message.numbers))
        message.payloads.split()
