"""What a client says of tasks that it announces again: how long ago they were submitted, and how often they have failed.

It stands in `options` beside the records (see `call_options`), only for tasks that ask for a deadline or for retries. So a
scheduler that was started anew lets deadlines end when they would have ended, and counts on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from scaler_protocol.runtime.names import shown
from scaler_protocol.wire.call_options import RETRIES_MAX, SECONDS_MAX

ATTEMPT_MAX = 0xFFFF


class Failures(NamedTuple):
    """How often a task has been tried again after an error of its own."""

    times: int
    attempt: int
    """The last attempt that is counted."""


class History(NamedTuple):
    """What has become of the tasks of a message before."""

    waited: Sequence[float] = ()
    """One per row: how many seconds ago it was submitted. For a graph one for all rows. Empty: just now."""
    failures: Mapping[int, Failures] = {}
    """By number of the task."""


NO_HISTORY: Final = History()


def with_history(options: bytes, history: History) -> bytes:
    """Return the `options` of a batch with this history, which must have none yet."""
    import json

    added = b""
    if any(history.waited):
        added += b',"waited":' + json.dumps([round(seconds, 6) for seconds in history.waited]).encode()
    if history.failures:
        added += b',"failures":' + json.dumps(dict(history.failures)).encode()
    return options[:-1] + added + b"}" if added else options


def read_history(options: bytes, rows: int) -> History:
    """Return the history in the `options` of a batch of so many rows. Raises ValueError for one that cannot be read."""
    if b'"waited":[' not in options and b'"failures":{' not in options:
        return NO_HISTORY
    import json

    try:
        data = json.loads(options)
        waited = tuple([float(seconds) for seconds in data.get("waited", ())])
        failures = {int(number): Failures(*map(int, both)) for number, both in data.get("failures", {}).items()}
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"history of tasks that cannot be read: {shown(error)}") from None
    if len(waited) not in (0, rows) or not all(0.0 <= seconds <= SECONDS_MAX for seconds in waited):
        raise ValueError("history of tasks: impossible times")
    if not all(0 <= one.times <= RETRIES_MAX and 0 <= one.attempt <= ATTEMPT_MAX for one in failures.values()):
        raise ValueError("history of tasks: impossible counts")
    return History(waited, failures)
