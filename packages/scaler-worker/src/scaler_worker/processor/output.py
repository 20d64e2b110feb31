"""What tasks print and log: to the client that asked for it, to the worker's own streams (`streams`) and log otherwise."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from time import perf_counter

from scaler_worker.processor.kept_output import KeptLogHandler, KeptOutput, is_printed
from scaler_worker.processor.result_buffer import LATEST_FLUSH_SECONDS

STDOUT, STDERR, LOG = 1, 2, 3
"""As in the schema's `Output.stream`."""

TASK_BYTES_MAX = 1024 * 1024
"""What one task may send; the rest is counted and dropped."""

BUFFER_BYTES = 8 * 1024

SendOutput = Callable[[int, int, bytes, int], None]
"""(task index, stream, data, dropped bytes)"""


class OutputCapture:
    """Collects what the running task prints and logs, and sends it in that order. Any thread of the task may do either."""

    def __init__(
        self,
        send: SendOutput,
        works_for: Callable[[int], bool] = lambda _index: True,
        look_soon: Callable[[], None] = lambda: None,
    ) -> None:
        """`works_for` says whether the calling thread is one of the task with this index, and not of an earlier one.

        `look_soon` has the control thread look after output that waits.
        """
        self._send = send
        self._works_for = works_for
        self._look_soon = look_soon
        self._lock = threading.RLock()
        self._index: int | None = None
        self.is_begun = False
        """Whether a client wants the output of the running task. The first glance: `capturing` has the rest."""
        self._stream = STDOUT
        self._pending = bytearray()
        self._waits_since = 0.0
        """Since when there is output that waits."""
        self._left = 0
        self._dropped = 0

    @property
    def capturing(self) -> bool:
        """Whether what the calling thread prints goes to the client of the running task."""
        index = self._index
        return index is not None and self._works_for(index)

    @property
    def has_pending(self) -> bool:
        """Whether output waits to be sent."""
        return bool(self._pending)

    def begin(self, index: int) -> None:
        """Send what the task with this index prints from now on."""
        with self._lock:
            self._index = index
            self.is_begun = True
            self._left = TASK_BYTES_MAX
            self._dropped = 0

    def end(self) -> None:
        """Send the rest of the task's output, and how much was dropped."""
        with self._lock:
            self.flush()
            if self._index is not None and self._dropped:
                self._send(self._index, self._stream, b"", self._dropped)
            self._index = None
            self.is_begun = False

    def abandon(self) -> None:
        """In a process forked from this one: nobody listens, and a thread that is not here may hold the lock."""
        self._lock = threading.RLock()
        self._index = None
        self.is_begun = False
        self._pending = bytearray()

    def write(self, stream: int, data: bytes) -> bool:
        """Take what was written, in UTF-8, for the client; return False where no client wants it."""
        if not self.capturing:
            return False
        with self._lock:
            if self._index is None:
                return False
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
        begins_to_wait = not self._pending
        self._pending += kept
        # The task may end its process at any time: what programs write at once anywhere else must not lie in a buffer.
        if stream == LOG or (stream == STDERR and b"\n" in kept) or len(self._pending) >= BUFFER_BYTES:
            self.flush()
        elif kept and begins_to_wait:
            self._waits_since = perf_counter()
            # In this order: the control thread looks whether something waits before it sleeps.
            self._look_soon()

    def flush(self) -> None:
        """Send the output that waits."""
        with self._lock:
            self._send_first(len(self._pending))

    def flush_late(self) -> None:
        """Send output that has waited for too long: whole lines; what has no end only where no line is before it.

        A line is often written in several pieces, and between them others' output would come into it.
        """
        with self._lock:
            now = perf_counter()
            if now - self._waits_since >= LATEST_FLUSH_SECONDS:
                self._waits_since = now
                self._send_first(self._pending.rfind(b"\n") + 1 or len(self._pending))

    def _send_first(self, count: int) -> None:
        if count and self._index is not None:
            data = bytes(self._pending[:count])
            del self._pending[:count]
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
            except RecursionError:
                raise
            except Exception:
                # Arguments that do not fit, or that raise when they are printed: said as the standard library's handlers say it.
                self.handleError(record)


def install_logging(capture: OutputCapture, kept: KeptOutput | None = None) -> None:
    """Give records to the clients that want them, and what no handler of the task's takes to the worker's log.

    The root logger keeps no handler of ours: with one, `logging.basicConfig` in a task would do nothing. The worker's own handler
    becomes the one of last resort, and clients' records are taken where they are handed to handlers.
    """
    root = logging.getLogger()
    for handler in root.handlers:
        # As with prints: what goes to a client does not go to the worker's log too.
        handler.addFilter(lambda _record: not capture.capturing)
        logging.lastResort = handler
    root.handlers.clear()
    to_client = TaskLogHandler(capture)
    to_keep = KeptLogHandler(kept) if kept is not None else None
    call_handlers = logging.Logger.callHandlers

    def call_all_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if capture.capturing and _reaches_root(logger):
            to_client.handle(record)
        if to_keep is not None and _reaches_root(logger) and not is_printed(logger):
            to_keep.handle(record)
        call_handlers(logger, record)

    logging.Logger.callHandlers = call_all_handlers  # type: ignore[method-assign, assignment]


def _reaches_root(logger: logging.Logger) -> bool:
    while logger.parent is not None:
        if not logger.propagate:
            return False
        logger = logger.parent
    return True
