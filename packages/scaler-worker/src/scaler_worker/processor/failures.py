"""Failure payloads of a processor: of what tasks raise, and of what is wrong with their functions, arguments and results."""

from __future__ import annotations

import os
import pickle
from types import CodeType

import scaler_protocol
from scaler_protocol.failures import (
    failure_payload,
    named_failure_payload,
    result_error,
    text_of,
    type_name_of,
)
from scaler_protocol.payloads.framing import PICKLED
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.module_search import explained
from scaler_worker.processor.time_limit import TimeLimit
from scaler_worker.processor.values import ObjectUnavailableError

SHOWN_TEXT_MAX, SHOWN_TRACEBACK_MAX = 1_000, 4_000
"""Characters of an item's failure that monitors get."""

BRIEF_TEXT_MAX = 200
"""Characters of the text of an item that is not the first to fail in its chunk."""

_NAMES: dict[int, str] = {Status.MISSING_OBJECT: "MissingObjects", Status.STORAGE_FAILED: "ObjectStorageException"}
"""The error's name where an item of a map chunk needs an object that is not there, or that cannot be had."""

_OWN_FOLDERS = (os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.abspath(scaler_protocol.__file__)))


class NotRestoredError(Exception):
    """The function or its arguments cannot be made from their bytes."""

    def __init__(self, what: str, cause: Exception) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause


class NotSerializableError(Exception):
    """What the task returned cannot be serialized; `payload` is the failure."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.payload = payload


class FailureWriter:
    """Makes failure payloads. None of its methods raises because of what an exception is or does."""

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit

    def payload(self, error: BaseException) -> bytes:
        """Return the failure payload of what a task, or an item of a map chunk, ended with."""
        unavailable = unavailable_object(error)
        if unavailable is not None:
            return named_failure_payload(_NAMES[unavailable.status], text_of(unavailable))
        if type(error) is NotRestoredError:
            return named_failure_payload("DeserializeObjectError", explained(error.what, error.cause), error.cause)
        if type(error) is NotSerializableError:
            return error.payload
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
        self._limit.begin()
        try:
            text = text_of(error, self._limit.run)[:BRIEF_TEXT_MAX]
        finally:
            self._limit.end()
        return named_failure_payload(type_name_of(type(error)), text)


def unavailable_object(error: BaseException) -> ObjectUnavailableError | None:
    """Return why a task could not even begin, where that is an object it needs."""
    cause = error.cause if type(error) is NotRestoredError else None
    return cause if type(cause) is ObjectUnavailableError else None


def shown_failure(payload: bytes) -> bytes:
    """Return a failure payload of this process as monitors show it: without the exception itself, long texts cut."""
    _, type_name, text, lines = pickle.loads(payload[len(PICKLED) :])
    return PICKLED + pickle.dumps((b"", type_name, text[:SHOWN_TEXT_MAX], lines[-SHOWN_TRACEBACK_MAX:]))


def _is_own_code(code: CodeType) -> bool:
    """Whether a frame is one of the processor itself, above the user's."""
    return code.co_filename.startswith(_OWN_FOLDERS)
