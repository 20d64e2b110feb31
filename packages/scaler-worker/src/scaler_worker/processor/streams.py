"""`sys.stdin`, `sys.stdout` and `sys.stderr` of a processor: text streams like any other, which each task finds open.

What is written goes to a client that asked for it.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections import deque
from collections.abc import Callable
from os import write
from threading import RLock
from typing import Any

from scaler_worker.processor.changes import CHANGES
from scaler_worker.processor.kept_output import KeptOutput
from scaler_worker.processor.output import STDERR, STDOUT, OutputCapture

LINE_BYTES_MAX = 8 * 1024
LINE_PIECES_MAX = 128
"""Where a line has no end, so much of it waits for one."""

_Settings = tuple[str, str | None, bool, bool, bool]


class TaskBuffer(io.BufferedIOBase):
    """The binary stream below: takes bytes for the client, or writes them to the process's own descriptor, line by line.

    Writing never raises `OSError`: a task that closes the descriptor makes nobody's `print` fail. The stream cannot be closed
    either, as the next task needs it.
    """

    # Slots are found faster: instances have a dict of their own in C too.
    __slots__ = (
        "_capture",
        "_encoding",
        "_is_utf8",
        "_kept",
        "_line",
        "_lock",
        "_stream",
    )

    mode = "wb"

    def __init__(
        self,
        stream: int,
        name: str,
        encoding: Callable[[], str],
        capture: OutputCapture,
        kept: KeptOutput | None = None,
    ) -> None:
        self._stream = stream
        self.name = name
        self._encoding = encoding
        self._capture = capture
        self._kept = kept
        self._lock = RLock()
        self._line: deque[bytes] = deque()
        """What is left of a line, in pieces. Whoever writes one puts it here without the lock."""
        self._is_utf8: bool | None = None
        """None where it is to be asked: the text stream above flushes before it changes its encoding."""

    @property
    def raw(self) -> io.FileIO:
        """The descriptor itself. What is written here reaches no client."""
        return io.FileIO(self._stream, "w", closefd=False)

    def write(self, data: Any, /) -> int:
        """Send bytes to the client that captures output; otherwise write them to the worker's own stream."""
        if type(data) is bytes:
            content = data
        elif isinstance(data, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        else:
            content = bytes(memoryview(data))
        kept, capture = self._kept, self._capture
        if kept is not None or capture.is_begun:
            text = content
            if not self._is_utf8:
                encoding = self._encoding()
                self._is_utf8 = encoding == "utf-8"
                if not self._is_utf8:
                    text = content.decode(encoding, "replace").encode(errors="replace")
            if kept is not None:
                kept.write(self._stream, text)
            if capture.is_begun and capture.write(self._stream, text):
                return len(content)
        line = self._line
        line.append(content)
        # A processor may be killed at any time: no finished line must lie in a buffer.
        if b"\n" in content or len(content) >= LINE_BYTES_MAX or len(line) >= LINE_PIECES_MAX:
            self.write_out()
        return len(content)

    def flush(self) -> None:
        """Send or write out what is buffered."""
        # The text stream above calls this also where it is detached or reconfigured.
        CHANGES.noted = True
        self._is_utf8 = None
        self._capture.flush()
        self.write_out()

    def write_out(self) -> None:
        """Write what is left of a line."""
        with self._lock:
            pieces = self._line
            # Those that other threads add meanwhile wait for the end of their own line.
            line = b"".join([pieces.popleft() for _ in range(len(pieces))])
            if not line:
                return
            try:
                written = write(self._stream, line)
                while written < len(line):
                    written += write(self._stream, line[written:])
            except OSError:
                # It is closed, or nobody reads it any more.
                pass

    def abandon(self) -> None:
        """In a process forked from this one: what was not written yet is the other's to write."""
        self._lock = RLock()
        self._line = deque()

    def close(self) -> None:
        """Flush. The stream stays open, because later tasks use it too."""
        self.flush()

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the worker's own stream."""
        return self._stream

    def isatty(self) -> bool:
        """Return False."""
        # Also where the worker was started in a terminal: that is shared by all tasks.
        return False


class TaskInput(io.BufferedReader):
    """The binary stream below `sys.stdin`: notes that it is closed or detached."""

    def close(self) -> None:
        """Close it. The descriptor stays open."""
        CHANGES.noted = True
        super().close()

    def detach(self) -> io.RawIOBase:
        """Give away the stream below this one."""
        CHANGES.noted = True
        return super().detach()

    def flush(self) -> None:
        """Do nothing, as there is nothing to write."""
        # The text stream above calls this where it is detached.
        CHANGES.noted = True
        super().flush()


class TaskStreams:
    """Puts streams in the place of the standard ones, and puts them back where a task has replaced or closed them."""

    def __init__(self, capture: OutputCapture, kept: KeptOutput | None = None) -> None:
        self._capture = capture
        self._kept = kept
        self._standard = sys.stdout, sys.stderr
        self.stdout: io.TextIOWrapper
        self.stderr: io.TextIOWrapper
        self._buffers: list[TaskBuffer] = []
        self._settings: tuple[_Settings, _Settings] | None = None
        self._standard_input = self._input = sys.stdin
        self._is_file = (
            isinstance(sys.stdin, io.TextIOWrapper) and not _is_closed(sys.stdin) and sys.stdin.fileno() == 0
        )
        self.install()
        self._install_input()

    def install(self) -> None:
        """Make new ones."""
        self._buffers = []
        self.stdout = self._make(STDOUT, "<stdout>", self._standard[0], "strict")
        self.stderr = self._make(STDERR, "<stderr>", self._standard[1], "backslashreplace")
        sys.stdout, sys.stderr = self.stdout, self.stderr
        self._settings = _settings(self.stdout), _settings(self.stderr)

    def _make(self, stream: int, name: str, standard: object, errors: str) -> io.TextIOWrapper:
        # One spelling for one encoding: it is compared with where things are written.
        encoding = codecs.lookup(getattr(standard, "encoding", None) or "utf-8").name
        buffer = TaskBuffer(stream, name, lambda: text.encoding, self._capture, self._kept)
        self._buffers.append(buffer)
        text = io.TextIOWrapper(buffer, encoding, getattr(standard, "errors", None) or errors, write_through=True)
        text.mode = "w"  # type: ignore[misc]
        return text

    def restore(self) -> None:
        """Undo what a task has left of replacing, detaching or reconfiguring them."""
        try:
            if (
                sys.stdout is self.stdout
                and sys.stderr is self.stderr
                and (_settings(self.stdout), _settings(self.stderr)) == self._settings
            ):
                return
        except ValueError:
            # One was detached.
            pass
        self.flush()
        self.install()

    def _install_input(self) -> None:
        if self._is_file:
            raw = io.FileIO(0, "r", closefd=False)
            raw.name = "<stdin>"
            standard = self._standard_input
            self._input = io.TextIOWrapper(TaskInput(raw), standard.encoding, standard.errors, newline="\n")
            self._input.mode = "r"  # type: ignore[misc]
        sys.stdin = self._input

    def restore_input(self) -> None:
        """Undo what a task has left of replacing, detaching or closing `sys.stdin`."""
        if self._is_file and _is_closed(self._input):
            self._install_input()
        elif sys.stdin is not self._input:
            sys.stdin = self._input

    def flush(self) -> None:
        """Write out what both streams have buffered."""
        for buffer in self._buffers:
            buffer.write_out()

    def abandon(self) -> None:
        """In a process forked from this one; see `TaskBuffer.abandon`."""
        for buffer in self._buffers:
            buffer.abandon()


def _settings(stream: io.TextIOWrapper) -> _Settings:
    # `closed` raises where it was detached.
    return stream.encoding, stream.errors, stream.line_buffering, stream.write_through, stream.closed


def _is_closed(stream: Any) -> bool:
    try:
        return bool(stream.closed)
    except ValueError:
        # It was detached.
        return True
