"""The framing of payloads, which processors and clients read."""

from __future__ import annotations

import contextlib

from scaler_protocol.errors import MalformedMessageError
from scaler_protocol.ids import ObjectId
from scaler_protocol.payloads.framing import (
    Argument,
    Source,
    frame_arguments,
    frame_object,
    frame_payloads,
    unframe_arguments,
    unframe_function,
    unframe_object,
    unframe_payloads,
)


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    arguments = [Argument(source, bytes([source])) for source in Source]
    return [
        frame_payloads([b"one", b"", b"three"]),
        frame_arguments(arguments, {"name": arguments[Source.SHARED]}),
        frame_object(ObjectId(b"o" * 16)),
        b"P",
        b"",
    ]


def run(data: bytes) -> None:
    """See `fuzzing`."""
    with contextlib.suppress(MalformedMessageError):
        payloads = unframe_payloads(data)
        assert unframe_payloads(frame_payloads(payloads)) == payloads
    with contextlib.suppress(MalformedMessageError):
        positional, keyword = unframe_arguments(data)
        assert unframe_arguments(frame_arguments(positional, keyword)) == (positional, keyword)
    for read in (unframe_function, unframe_object):
        with contextlib.suppress(MalformedMessageError):
            read(data)
