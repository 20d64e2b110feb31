"""The last lines that an agent has logged, and that its processors have written to standard error, for monitors that ask."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque

from scaler_protocol.monitoring.kept_output import KeptPart, Piece, write_parts

LINES_MAX = 1_000
LINE_CHARACTERS_MAX = 2_000

_LEVEL = re.compile(r"\[([A-Z]{4,8})\]")
"""How lines begin that processors log."""

_LEVELS = logging.getLevelNamesMapping()


class AgentLog(logging.Handler):
    """Keeps the last lines. From any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[Piece] = deque(maxlen=LINES_MAX)
        self._total = 0
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._keep(min(record.levelno, 255), record.created, record.getMessage())

    def note_stderr(self, pid: int, data: bytes) -> None:
        """Keep what a processor has written to its standard error."""
        now = time.time()
        for line in data.decode(errors="backslashreplace").splitlines()[-LINES_MAX:]:
            found = _LEVEL.match(line)
            level = _LEVELS.get(found[1], logging.INFO) if found is not None else logging.INFO
            self._keep(level, now, f"processor {pid}: {line}")

    def _keep(self, level: int, at: float, text: str) -> None:
        with self._guard:
            self._lines.append(Piece(level, at, text[:LINE_CHARACTERS_MAX]))
            self._total += 1

    def answer(self) -> bytes:
        """Return the lines, as `OutputReply` has them."""
        with self._guard:
            lines, dropped = tuple(self._lines), self._total > len(self._lines)
        return write_parts([KeptPart("", os.getpid(), "", dropped, lines)])
