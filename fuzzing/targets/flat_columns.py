"""The two readers of batches and relayed messages, by hand and with the library, accept the same and read the same fields."""

from __future__ import annotations

import dataclasses
from typing import Any

from fuzzing.frames import frames_of, golden
from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, decode_with_library, encode, encode_with_library
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Frame

BY_HAND = (m.TaskBatch, m.ResultBatch, m.Relay)


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    found = [one for one in golden() if isinstance(decode(frames_of(one)[1:]), BY_HAND)]
    client, function = b"c" * 16, b"f" * 16
    # Those of a single row, as an idle system sends them.
    task = m.TaskBatch(client, [7], (function,), Packed.of([b"payload"]))
    result = m.ResultBatch(client, [7], [1], Packed.of([b"payload"]), slots=[3], durations=[40])
    again = dataclasses.replace(task, attempts=[2])
    return [*found, *(_piece(encode(batch)) for batch in (task, again, result))]


def _piece(frames: list[Frame]) -> bytes:
    # The first frame of a message is its envelope, which this target leaves out.
    whole = [b"", *map(bytes, frames)]
    return b"".join([len(whole).to_bytes(4, "little"), *(len(frame).to_bytes(4, "little") + frame for frame in whole)])


def _fields(message: Any) -> dict[str, Any]:
    """Return what a message says, whatever form of array or buffer holds it."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if not field.compare:
            continue
        if isinstance(value, Packed):
            found[field.name] = (list(value.lengths), bytes(value.data))
        elif isinstance(value, str | bytes) or not hasattr(value, "__len__"):
            found[field.name] = value
        else:
            found[field.name] = list(value)
    return found


def _read(read: Any, frames: list[bytes]) -> Any:
    try:
        return read(frames)
    except (MalformedMessageError, MessageTooLargeError) as error:
        return type(error)


def run(data: bytes) -> None:
    """See `fuzzing`."""
    frames = frames_of(data)[1:]
    ours, theirs = _read(decode, frames), _read(decode_with_library, frames)
    if isinstance(ours, type) or isinstance(theirs, type):
        assert ours is theirs
        return
    assert type(ours) is type(theirs)
    if isinstance(ours, BY_HAND):
        assert _fields(ours) == _fields(theirs)
        # A message that was received is passed on as it came; a new one with the same fields is written anew.
        written, by_library = (
            [bytes(frame) for frame in write(dataclasses.replace(ours, **_unsent(ours)))]
            for write in (encode, encode_with_library)
        )
        assert _fields(decode_with_library(written)) == _fields(decode(by_library)) == _fields(ours)


def _unsent(batch: Any) -> dict[str, Any]:
    return {"frames": None} if any(field.name == "frames" for field in dataclasses.fields(batch)) else {}
