"""One form of log line for every process, as text or as JSON. Light enough for processors.

[INFO]2025-06-06 13:13:15+0200: listening on tcp://127.0.0.1:2345
{"time": "2025-06-06T13:13:15.123456+02:00", "level": "INFO", "logger": "scaler_scheduler", "message": "…"}
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

LINE_CHARACTERS_MAX = 100_000
"""Longest text of a message; the rest is cut."""

CONTINUATION = "\n    "
"""What begins a further line of a message: no line that begins with a bracket is part of another one."""


class TextFormatter(logging.Formatter):
    """`[LEVEL]YYYY-MM-DD HH:MM:SS+ZZZZ: message`, with the traceback, if any, on further indented lines."""

    def __init__(self) -> None:
        super().__init__("[{levelname}]{asctime}: {message}", datefmt="%Y-%m-%d %H:%M:%S%z", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line. Names and texts of peers in it can neither begin another line nor control a terminal."""
        record.message = harmless(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback, whose errors may quote peers too."""
        return harmless(super().formatException(ei))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (ISO 8601 with zone), `level`, `logger`, `message`, and `traceback` if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        entry = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:
            entry["traceback"] = record.exc_text
        text = json.dumps(entry, ensure_ascii=False)
        # JSON leaves control characters beyond ASCII, and those that turn the direction of text, as they are.
        return text if text.isprintable() else "".join(map(_json_character, text))


def harmless(text: str) -> str:
    """Return text with its control characters escaped, further lines indented, and no longer than a line may be."""
    if len(text) > LINE_CHARACTERS_MAX:
        text = f"{text[:LINE_CHARACTERS_MAX]}… ({len(text)} characters)"
    if text.isprintable():
        return text
    return CONTINUATION.join(
        "".join(character if _is_harmless(character) else _escaped(character) for character in line)
        for line in text.split("\n")
    )


def harmless_cell(text: str) -> str:
    """Return text for one line of a terminal: control characters and line breaks escaped."""
    if text.isprintable():
        return text
    return "".join(character if _is_harmless(character) else _escaped(character) for character in text)


def _is_harmless(character: str) -> bool:
    # Texts may be in any language: what else is not printable is space of some kind.
    return character.isprintable() or character == "\t" or character == "\u00a0"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_character(character: str) -> str:
    return character if _is_harmless(character) else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def formatter(log_format: LogFormat) -> logging.Formatter:
    """Return the formatter of that name."""
    return JsonFormatter() if log_format == "json" else TextFormatter()
