"""What tasks printed and logged, written and logged again by the client's process."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from typing import Any

from scaler.core.effects import WriteOutput

logger = logging.getLogger("scaler")

_STDERR, _LOG = 2, 3


def show_output(output: WriteOutput) -> None:
    """Write output to the standard stream it was meant for, and give log records to the loggers they were meant for.

    Never raises: streams may be closed, and handlers and filters are the user's.
    """
    if output.dropped_bytes:
        _write(
            output.stream,
            f"[task {output.number}: {output.dropped_bytes:,} bytes of output were dropped: the task wrote too much]\n",
        )
    if output.stream == _LOG:
        for line in output.data.splitlines():
            _log(output.number, line)
    elif output.data:
        _write(output.stream, output.data.decode("utf-8", "replace"))


def _write(stream_number: int, text: str) -> None:
    stream = sys.stdout if stream_number not in (_STDERR, _LOG) else sys.stderr
    # A closed or broken stream of this process is no reason to lose tasks.
    with contextlib.suppress(OSError, ValueError, AttributeError), _beside_bars(stream):
        stream.write(text)
        stream.flush()


def _beside_bars(stream: Any) -> contextlib.AbstractContextManager[Any]:
    """While this is entered, progress bars on that terminal, ours or the user's, are out of the way."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return contextlib.nullcontext() if tqdm is None else tqdm.external_write_mode(stream)


def _log(number: int, line: bytes) -> None:
    try:
        entry = json.loads(line)
        target = logging.getLogger(str(entry["logger"]))
        level = int(entry["level"])
        if not target.isEnabledFor(level):
            return
        record = _record(number, target.name, level, entry)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("a log record of task %d cannot be read: %r", number, error)
        return
    try:
        target.handle(record)
    except Exception as error:
        # A filter of the user's; what calls us must go on.
        sys.excepthook(type(error), error, error.__traceback__)


def _record(number: int, name: str, level: int, entry: dict[str, Any]) -> logging.LogRecord:
    """Return the record as it was on the worker, and with `task_id`."""
    created = float(entry["created"])
    return logging.makeLogRecord(
        {
            "name": name,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": str(entry["message"]),
            "created": created,
            "msecs": created % 1 * 1000,
            "pathname": str(entry["file"]),
            "filename": str(entry["file"]).replace("\\", "/").rpartition("/")[2],
            "module": str(entry["file"]).replace("\\", "/").rpartition("/")[2].partition(".")[0],
            "lineno": int(entry["line"]),
            "funcName": str(entry["function"]),
            "threadName": str(entry["thread"]),
            "process": int(entry["pid"]),
            "exc_text": entry.get("traceback"),
            "task_id": number,
        }
    )
