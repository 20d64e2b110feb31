"""Exceptions of tasks as bytes, with their traceback, cause and notes."""

from __future__ import annotations

import os
import pickle
import traceback
from types import TracebackType

from scaler_protocol.payloads import PICKLED

SHOWN_TEXT_MAX, SHOWN_TRACEBACK_MAX = 1_000, 4_000
"""Characters of an item's failure that monitors get."""

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__))

NOT_RESTORED = "DeserializeObjectError"
"""`Failure.type_name` for a function or argument that cannot be restored on the worker; nothing is pickled then."""

OBJECT_MISSING, STORAGE_FAILED = "MissingObjects", "ObjectStorageException"
"""The same for an item of a map chunk that needs an object which is not there, or cannot be had."""


def failure_payload(error: BaseException) -> bytes:
    """Return the failure payload of what a task raised. Never raises: what cannot be pickled goes as text."""
    error.__traceback__ = _without_own_frames(error.__traceback__)
    type_name = type(error).__qualname__
    text = _text(error)
    lines = "".join(traceback.format_exception(error))
    return PICKLED + pickle.dumps((_pickled(error), type_name, text, lines))


def text_failure_payload(type_name: str, text: str, cause: BaseException | None = None) -> bytes:
    """Return a failure payload that carries no exception object."""
    lines = "" if cause is None else "".join(traceback.format_exception(cause))
    return PICKLED + pickle.dumps((b"", type_name, text, lines))


def shown_failure(payload: bytes) -> bytes:
    """Return a failure payload of this process as monitors show it: without the exception itself, long texts cut."""
    _, type_name, text, lines = pickle.loads(payload[len(PICKLED) :])
    return PICKLED + pickle.dumps((b"", type_name, text[:SHOWN_TEXT_MAX], lines[-SHOWN_TRACEBACK_MAX:]))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        # An exception class of the user's whose __str__ fails.
        return f"<{type(error).__qualname__} that cannot be printed>"


def _pickled(error: BaseException) -> bytes:
    try:
        from tblib import pickling_support

        from scaler_protocol import by_value

        pickling_support.install(error)
        return by_value.dumps(error)
    except Exception:
        return b""


def _without_own_frames(frames: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of the processor itself, above the user's."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        frames = frames.tb_next
    return frames
