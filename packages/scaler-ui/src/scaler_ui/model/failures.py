"""Failed tasks with the error that their client received, made readable without running code of users."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any, NoReturn

from scaler_protocol.payloads.framing import OBJECT, PICKLED, PLAIN
from scaler_protocol.payloads.plain import NotPlainDataError, load_plain_failure
from scaler_protocol.wire.messages import Status

NOT_KEPT = "the error was too large for the scheduler to keep; the client has it"
IN_STORAGE = "the error is in object storage; the client has it"
UNREADABLE = "the error cannot be shown here; the client has it"


@dataclass(frozen=True, slots=True)
class ErrorText:
    """An error as shown to people. `kind` is the exception's type or the status; `text` has one or more lines; `traceback` may be
    empty."""

    kind: str
    text: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class FailedTask:
    """One failure. `number` counts the failures of one scheduler. Times are Unix times."""

    number: int
    at: float
    client: bytes
    task: int
    attempt: int
    status: str
    function: str
    agent: str
    duration_s: float
    error: ErrorText
    items: int = 0
    """How many items of a map chunk failed; `error` is the first one's. 0: the task itself failed."""
    label: str = ""
    tags: str = ""


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles texts, bytes, numbers and containers of them only. Payloads come from tasks, so everything else is refused."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is not plain data")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("a reference is not plain data")


def status_name(status: int) -> str:
    """Return the name of a task's status: `failed`, `processor_died`, …"""
    try:
        return Status(status).name.lower()
    except ValueError:
        return f"status {status}"


def read_error(status: int, payload: bytes) -> ErrorText:
    """Return the error in a payload. It never raises: if the payload cannot be read, the text says so."""
    name = status_name(status)
    if status != Status.FAILED:
        return ErrorText(name, payload.decode("utf-8", "replace") or NOT_KEPT)
    if not payload:
        return ErrorText(name, NOT_KEPT)
    if payload[:1] == OBJECT:
        return ErrorText(name, IN_STORAGE)
    if payload[:1] == PLAIN:
        try:
            return ErrorText(*load_plain_failure(payload))
        except NotPlainDataError:
            return ErrorText(name, UNREADABLE)
    if payload[:1] != PICKLED:
        return ErrorText(name, UNREADABLE)
    try:
        _, kind, text, traceback = _PlainUnpickler(io.BytesIO(payload[1:])).load()
    # A pickle is a program, and a broken one can fail in nearly any way.
    except Exception:
        return ErrorText(name, UNREADABLE)
    return ErrorText(str(kind), str(text), str(traceback))
