"""What tasks print and log: to the client that asked for it, to the worker's own streams and log otherwise."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import TextIO

STDOUT, STDERR, LOG = 1, 2, 3
"""As in the schema's `Output.stream`."""

TASK_BYTES_MAX = 1024 * 1024
"""What one task may send; the rest is counted and dropped."""

BUFFER_BYTES = 8 * 1024

SendOutput = Callable[[int, int, bytes, int], None]
"""(task index, stream, data, dropped bytes)"""


class OutputCapture:
    """Collects what the running task prints and logs, and sends it in that order. Any thread of the task may do either."""

    def __init__(self, send: SendOutput) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._index: int | None = None
        self._stream = STDOUT
        self._pending = bytearray()
        self._left = 0
        self._dropped = 0

    @property
    def capturing(self) -> bool:
        return self._index is not None

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def begin(self, index: int) -> None:
        with self._lock:
            self._index = index
            self._left = TASK_BYTES_MAX
            self._dropped = 0

    def end(self) -> None:
        with self._lock:
            self.flush()
            if self._index is not None and self._dropped:
                self._send(self._index, self._stream, b"", self._dropped)
            self._index = None

    def write(self, stream: int, text: str) -> bool:
        """Take `text` for the client; return False where no client wants it."""
        with self._lock:
            if self._index is None:
                return False
            data = text.encode(errors="replace")
            self._add(stream, data, data[: self._left])
            return True

    def write_record(self, record: logging.LogRecord) -> None:
        """Take a log record for the client; where the budget does not allow all of it, none of it is sent."""
        data = record_line(record)
        with self._lock:
            if self._index is not None:
                self._add(LOG, data, data if len(data) <= self._left else b"")

    def _add(self, stream: int, data: bytes, kept: bytes) -> None:
        if stream != self._stream:
            self.flush()
            self._stream = stream
        self._left -= len(kept)
        self._dropped += len(data) - len(kept)
        self._pending += kept
        if len(self._pending) >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            if self._pending and self._index is not None:
                data = bytes(self._pending)
                self._pending.clear()
                self._send(self._index, self._stream, data, 0)


def record_line(record: logging.LogRecord) -> bytes:
    """Return a log record as the schema's `Output` describes it: one line of JSON."""
    entry = {
        "logger": record.name,
        "level": record.levelno,
        "message": record.getMessage(),
        "created": record.created,
        "file": record.pathname,
        "line": record.lineno,
        "function": record.funcName or "",
        "thread": record.threadName or "",
        "pid": record.process or 0,
    }
    if record.exc_info:
        entry["traceback"] = _traceback_formatter.formatException(record.exc_info)
    elif record.exc_text:
        entry["traceback"] = record.exc_text
    return json.dumps(entry).encode() + b"\n"


_traceback_formatter = logging.Formatter()


class TaskLogHandler(logging.Handler):
    """Gives the running task's log records to its client."""

    def __init__(self, capture: OutputCapture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        """Send it, where a client wants it."""
        if self._capture.capturing:
            try:
                self._capture.write_record(record)
            except (TypeError, ValueError):
                # A message that does not fit its arguments: said as every handler of the standard library says it.
                self.handleError(record)


class TaskStream(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr` of a processor."""

    def __init__(self, stream: int, original: TextIO, capture: OutputCapture) -> None:
        self._stream = stream
        self._original = original
        self._capture = capture

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._original.encoding

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._original.fileno()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self._capture.write(self._stream, text):
            self._original.write(text)
        return len(text)

    def flush(self) -> None:
        self._original.flush()


def install(capture: OutputCapture) -> None:
    """Put `TaskStream`s in the place of the standard streams, and a `TaskLogHandler` beside the handlers of the root."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A processor may be killed at any time: nothing must lie in a buffer.
        sys.stdout.reconfigure(line_buffering=True)
    sys.stdout = TaskStream(STDOUT, sys.stdout, capture)
    sys.stderr = TaskStream(STDERR, sys.stderr, capture)
    root = logging.getLogger()
    for handler in root.handlers:
        # As with prints: what goes to a client does not go to the worker's log too.
        handler.addFilter(lambda _record: not capture.capturing)
    root.addHandler(TaskLogHandler(capture))
