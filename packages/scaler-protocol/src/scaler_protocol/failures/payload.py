"""The failure payload: an exception with all texts that monitors show (see `Failure` in `payloads.framing`)."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import AsyncGeneratorType, CodeType, GeneratorType

from scaler_protocol.failures.facts import (
    TEXT_MAX,
    Run,
    is_simple,
    run,
    stands_alone,
    text_of,
    traceback_of,
    type_name_of,
)
from scaler_protocol.failures.texts import full_text
from scaler_protocol.failures.tracebacks import stack_of
from scaler_protocol.failures.transport import dump_exception

_PICKLED = b"P"
"""As in `scaler_protocol.payloads.framing`, which does not travel with this module."""


SIMPLE_LINES_MAX = 40_000
"""Characters of a traceback with which the text of a simple exception is certainly no longer than `full_text` permits."""

BRIEF_TEXT_MAX = 200
"""Most characters of the text of an item that is not the first to fail in its chunk."""


def failure_payload(
    error: BaseException, run: Run = run, is_own_code: Callable[[CodeType], bool] = lambda _: False
) -> bytes:
    """Return the failure payload of an exception that a task raised. Never raises.

    `run` calls functions that may be a user's code, and may stop them. Leading frames for which `is_own_code` is true are
    left out.
    """
    stack = stack_of(traceback_of(error), is_own_code)
    if is_simple(error) and stands_alone(error) and len(stack.text) < SIMPLE_LINES_MAX:
        # Most exceptions. What follows comes to the same, and takes four times as long.
        kind, text = type(error), str(error)
        name = kind.__name__
        lines = f"{stack.text}{name}: {text}\n" if text else f"{stack.text}{name}\n"
        return _PICKLED + pickle.dumps((dump_exception(error, text, run, is_own_code, stack), name, text, lines), 5)
    text = text_of(error, run)
    lines = full_text(error, text, run, is_own_code, stack)
    pickled = dump_exception(error, text, run, is_own_code, stack)
    return _PICKLED + pickle.dumps((pickled, type_name_of(type(error)), text, lines), 5)


def named_failure_payload(type_name: str, text: str, cause: BaseException | None = None) -> bytes:
    """Return the failure payload of an error of Scaler's. The reader makes the error again by its name. Never raises."""
    lines = "" if cause is None else full_text(cause, text_of(cause))
    return _PICKLED + pickle.dumps((b"", type_name, text[:TEXT_MAX], lines), 5)


def brief_failure_payload(error: BaseException, run: Run = run) -> bytes:
    """Return the failure payload of an item of a map chunk that is not the first to fail there. Never raises."""
    return named_failure_payload(type_name_of(type(error)), text_of(error, run)[:BRIEF_TEXT_MAX])


def not_restored_payload(what: str, cause: BaseException) -> bytes:
    """Return the failure payload of a task whose function or arguments cannot be made from their bytes. Never raises."""
    text = f"{what} of the task could not be restored on the worker: {named_text_of(cause)}"
    return named_failure_payload("DeserializeObjectError", text, cause)


def result_error(value: object, cause: BaseException) -> pickle.PicklingError:
    """Return the error for a result that cannot be serialized because of `cause`. Never raises."""
    kind = type(value)
    # A hint for functions that return a generator or the like.
    hint = "; return a list of what it yields" if kind in (GeneratorType, AsyncGeneratorType) else ""
    text = f"the task's result, of type {type_name_of(kind)}, cannot be serialized: {named_text_of(cause)}{hint}"
    error = pickle.PicklingError(text)
    error.__cause__ = cause
    return error


def named_text_of(error: BaseException, interrupts: bool = False) -> str:
    """Return an exception's type and text for the end of a sentence. Never raises, except with `interrupts` (see `text_of`)."""
    text = text_of(error, interrupts=interrupts)
    return f"{type_name_of(type(error))}: {text}" if text else type_name_of(type(error))
