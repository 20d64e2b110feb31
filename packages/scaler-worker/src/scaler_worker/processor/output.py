"""What tasks print: to the client that asked for it, to the worker's own streams otherwise."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from typing import TextIO

STDOUT, STDERR = 1, 2

TASK_BYTES_MAX = 1024 * 1024
"""What one task may send; the rest is counted and dropped."""

BUFFER_BYTES = 8 * 1024

SendOutput = Callable[[int, int, bytes, int], None]
"""(task index, stream, data, dropped bytes)"""


class OutputCapture:
    """Collects what the running task prints and sends it in the order it was printed. Any thread of the task may print."""

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
            if stream != self._stream:
                self.flush()
                self._stream = stream
            data = text.encode(errors="replace")
            kept = data[: self._left]
            self._left -= len(kept)
            self._dropped += len(data) - len(kept)
            self._pending += kept
            if len(self._pending) >= BUFFER_BYTES:
                self.flush()
            return True

    def flush(self) -> None:
        with self._lock:
            if self._pending and self._index is not None:
                data = bytes(self._pending)
                self._pending.clear()
                self._send(self._index, self._stream, data, 0)


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
    """Put `TaskStream`s in the place of the standard streams."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A processor may be killed at any time: nothing must lie in a buffer.
        sys.stdout.reconfigure(line_buffering=True)
    sys.stdout = TaskStream(STDOUT, sys.stdout, capture)
    sys.stderr = TaskStream(STDERR, sys.stderr, capture)
