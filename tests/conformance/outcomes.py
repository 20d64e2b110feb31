"""What a call came to, as a description: of the value it returned, or of the exception it raised."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from tests.conformance.describing import Description, describe, raw_field

ANSWER_SECONDS = 30.0
"""How long the calls of one road may take together, for one kind of items."""

AGAIN_SECONDS = 3.0
"""The same after one of them has not been answered: the table is to end, and to say so."""

_gave_up = False


def value_outcome(value: Any) -> Description:
    return "value", describe(value)


def error_outcome(error: BaseException) -> Description:
    return "raised", describe(without_local_marks(error))


def outcome_of(call: Callable[[], Any]) -> Description:
    """Make a call and describe what it came to."""
    try:
        value = call()
    except BaseException as error:
        return error_outcome(error)
    return value_outcome(value)


def settled(futures: Sequence[Future[Any]]) -> list[Description]:
    """Wait for futures, all within one time, and describe what each came to."""
    global _gave_up
    deadline = time.monotonic() + (AGAIN_SECONDS if _gave_up else ANSWER_SECONDS)

    def settle(future: Future[Any]) -> Description:
        return outcome_of(lambda: future.result(max(0.0, deadline - time.monotonic())))

    outcomes = [settle(future) for future in futures]
    _gave_up = _gave_up or not all(future.done() for future in futures)
    return outcomes


def without_local_marks(error: BaseException) -> BaseException:
    """Take away what `ProcessPoolExecutor` itself adds: a cause that carries the remote traceback as text."""
    cause = raw_field(error, "__cause__")
    if type(cause).__name__ == "_RemoteTraceback":
        fields: Any = vars(BaseException)
        with contextlib.suppress(Exception):
            fields["__cause__"].__set__(error, None)
            fields["__suppress_context__"].__set__(error, False)
    return error


def raised_text(outcome: Description) -> str:
    """Return "Type: text" of an exception, empty for a value."""
    if outcome[0] != "raised" or outcome[1][0] != "exception":
        return ""
    _, kind, (_, text), *_ = outcome[1]
    return f"{kind[2]}: {text if isinstance(text, str) else ' '.join(map(str, text))}"
