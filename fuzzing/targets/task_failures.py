"""Failures of tasks and chunks as clients read them: an exception always comes out, with a text, and nothing is raised.

Reading a pickle may run any code, so that none is made of the input. The input chooses plain values; their pickles are valid.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from typing import Any

from scaler.errors import DeserializeObjectError
from scaler.serialization.results import load_error, load_failure, load_outcomes
from scaler_protocol.failures import failure_payload
from scaler_protocol.payloads.framing import PICKLED
from scaler_protocol.wire.messages import Status
from scaler_ui.model.failures import read_error

KINDS = (
    ValueError,
    OSError,
    KeyError,
    UnicodeDecodeError,
    SyntaxError,
    ExceptionGroup,
    SystemExit,
    int,
    KeyboardInterrupt,
)
NAMES = ("ValueError", "OSError", "MissingObjects", "DeserializeObjectError", "a.b.ValueError")
DEPTH_MAX = 6


class _Input:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def byte(self) -> int:
        at = self._at
        self._at += 1
        return self._data[at] if at < len(self._data) else 0

    def blob(self) -> bytes:
        size = self.byte()
        self._at += size
        return self._data[self._at - size : self._at]

    def value(self, depth: int = 0) -> Any:
        """Return a plain value, or a class of exceptions."""
        what = self.byte() % (12 if depth < DEPTH_MAX else 8)
        if what == 0:
            return None
        if what == 1:
            return self.blob()
        if what == 2:
            return self.blob().decode("utf-8", "surrogatepass" if self.byte() & 1 else "replace")
        if what == 3:
            return int.from_bytes(self.blob(), "little", signed=True)
        if what == 4:
            return NAMES[self.byte() % len(NAMES)]
        if what == 5:
            return KINDS[self.byte() % len(KINDS)]
        if what == 6:
            return bool(self.byte() & 1)
        if what == 7:
            return pickle.dumps(self.value(DEPTH_MAX))
        items = [self.value(depth + 1) for _ in range(self.byte() % 8)]
        if what == 8:
            return tuple(items)
        if what == 9:
            return items
        if what == 10:
            return pickle.dumps(tuple(items))
        return {n if type(item) in (list, dict, tuple) else item: item for n, item in enumerate(items)}


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    text = bytes([2, 5]) + b"hello" + bytes([0])
    made = bytes([10, 5, 5, 0, 8, 1]) + text + bytes([11, 0, 6, 0, 9, 0])
    failure = bytes([8, 4]) + made + bytes([4, 0]) + text + text
    named = bytes([8, 4, 1, 0, 4, 2]) + text + text
    chunk = bytes([8, 2, 9, 1]) + text + bytes([11, 1, 10, 4]) + made + bytes([4, 0]) + text + text
    return [bytes([1]) + one for one in (failure, named, chunk)] + [
        bytes([status]) + b"text\xff" for status in range(14)
    ]


def run(data: bytes) -> None:
    """See `fuzzing`. The first byte is the status of the answer."""
    given = _Input(data)
    status = given.byte()
    rest = data[1:]
    if rest[:1] != PICKLED:
        _show(load_error(status, rest, 7))
        read_error(status, rest)
    try:
        value = given.value()
    except UnicodeDecodeError:
        return
    payload = PICKLED + pickle.dumps(value)
    _show(load_failure(payload, 7))
    read_error(Status.FAILED, payload)
    with contextlib.suppress(DeserializeObjectError):
        for item in load_outcomes(payload)[1].values():
            # As above: texts that the input may hold are no pickles.
            if type(item) is not bytes or item[:1] != PICKLED:
                _show(load_failure(item, 7))


def _show(error: BaseException) -> None:
    assert isinstance(error, BaseException)
    str(error)
    repr(error)
    "".join(traceback.format_exception(error))
    if isinstance(error, Exception):
        # Clients inside tasks pass it on.
        assert failure_payload(error)
