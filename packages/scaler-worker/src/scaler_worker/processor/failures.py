"""Failure payloads of a processor: of what tasks raise, and of what is wrong with their functions, arguments and results."""

from __future__ import annotations

import os
import pickle
from types import CodeType

import scaler_protocol
from scaler_protocol.failures import (
    brief_failure_payload,
    failure_payload,
    named_failure_payload,
    named_text_of,
    result_error,
)
from scaler_protocol.payloads.environments import PluginFailedError
from scaler_protocol.payloads.framing import PICKLED
from scaler_protocol.payloads.values import NotRestoredError, unavailable_object
from scaler_worker.processor.module_search import explained, worker_name
from scaler_worker.processor.time_limit import TimeLimit

SHOWN_TEXT_MAX, SHOWN_TRACEBACK_MAX = 1_000, 4_000
"""Characters of a failure that monitors get, where it is an item's or too large to be kept as it is."""

_OWN_FOLDERS = (os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.abspath(scaler_protocol.__file__)))


class NotSerializableError(Exception):
    """What the task returned cannot be serialized; `payload` is the failure."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.payload = payload


class FailureWriter:
    """Makes failure payloads. None of its methods raises because of what an exception is or does."""

    def __init__(self, limit: TimeLimit, memory_note: str = "") -> None:
        self._limit = limit
        self._memory_note = memory_note
        """Said with a MemoryError; empty: nothing."""

    def payload(self, error: BaseException) -> bytes:
        """Return the failure payload of what a task, or an item of a map chunk, ended with."""
        unavailable = unavailable_object(error)
        if unavailable is not None:
            return unavailable.failure_payload()
        if type(error) is NotRestoredError:
            return named_failure_payload("DeserializeObjectError", explained(error.what, error.cause), error.cause)
        if type(error) is PluginFailedError:
            text = error.text(worker_name(), named_text_of(error.cause))
            return named_failure_payload("WorkerPluginError", text, error.cause)
        if type(error) is NotSerializableError:
            return error.payload
        if self._memory_note and isinstance(error, MemoryError):
            _explain(error, self._memory_note)
        self._limit.begin()
        try:
            return failure_payload(error, self._limit.run, _is_own_code)
        finally:
            self._limit.end()

    def not_serializable(self, value: object, cause: BaseException) -> bytes:
        """Return the failure payload of a result that cannot be pickled, because of `cause`."""
        return self.payload(result_error(value, cause))

    def item(self, error: BaseException, is_first: bool) -> bytes:
        """Return the failure payload of an item of a map chunk.

        Whoever called `map` gets the first failure. Of the others it only counts that there were some.
        """
        return self.payload(error) if is_first else self._brief(error)

    def _brief(self, error: BaseException) -> bytes:
        if type(error) is NotRestoredError:
            return self.payload(error)
        self._limit.begin()
        try:
            return brief_failure_payload(error, self._limit.run)
        finally:
            self._limit.end()


def shown_failure(payload: bytes) -> bytes:
    """Return a failure payload of this process as monitors show it: without the exception itself, long texts cut."""
    _, type_name, text, lines = pickle.loads(payload[len(PICKLED) :])
    if len(text) > SHOWN_TEXT_MAX:
        text = f"{text[:SHOWN_TEXT_MAX]} … [{len(text):,} characters, cut]"
    if len(lines) > SHOWN_TRACEBACK_MAX:
        lines = f"[{len(lines):,} characters, cut] … {lines[-SHOWN_TRACEBACK_MAX:]}"
    return PICKLED + pickle.dumps((b"", type_name, text, lines))


def _explain(error: MemoryError, note: str) -> None:
    """Say what limits the memory. Python's own error is without a text, those of libraries are not."""
    if type(error) is MemoryError and not error.args:
        error.args = (note,)
    else:
        error.add_note(note)


def _is_own_code(code: CodeType) -> bool:
    """Whether a frame is one of the processor itself, above the user's."""
    return code.co_filename.startswith(_OWN_FOLDERS)
