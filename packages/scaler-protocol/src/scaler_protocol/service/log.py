"""One form of log line for every service, as text or as JSON, written to one or several places.

[INFO]2025-06-06 13:13:15+0200: listening on tcp://127.0.0.1:2345
{"time": "2025-06-06T13:13:15.123456+02:00", "level": "INFO", "logger": "scaler_scheduler", "message": "…"}
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from scaler_protocol.service.errors import ConfigurationError

LogFormat = Literal["text", "json"]

# Opening these by name would truncate or fail under a service manager whose standard streams are sockets.
_STANDARD_STREAMS = {"/dev/stdout": "stdout", "/dev/stderr": "stderr"}


class TextFormatter(logging.Formatter):
    """`[LEVEL]YYYY-MM-DD HH:MM:SS+ZZZZ: message`, with a traceback on the following lines where there is one."""

    def __init__(self) -> None:
        super().__init__("[{levelname}]{asctime}: {message}", datefmt="%Y-%m-%d %H:%M:%S%z", style="{")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (ISO 8601 with zone), `level`, `logger`, `message`, and `traceback` if any."""

    def __init__(self) -> None:
        super().__init__()
        # Only who wants JSON pays for it.
        import json
        from datetime import datetime

        self._to_json = json.dumps
        self._time_of = datetime.fromtimestamp

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self._time_of(record.created).astimezone().isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return self._to_json(entry, ensure_ascii=False)


def set_up_logging(
    paths: Sequence[str], level: str = "INFO", config_file: Path | None = None, log_format: LogFormat = "text"
) -> None:
    """Points the root logger at these files and standard streams; a missing folder is created.

    `config_file` is a file for `logging.config.fileConfig` and, when given, decides everything itself. Raises
    `ConfigurationError` when a place cannot be written to or the file cannot be used.
    """
    if config_file is not None:
        _apply_config_file(config_file)
        return
    formatter = JsonFormatter() if log_format == "json" else TextFormatter()
    # Without any handler, Python would write warnings to stderr.
    handlers = [_open_handler(path) for path in paths] or [logging.NullHandler()]
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.getLogger(__name__).info("logging to %s", tuple(paths))


def _open_handler(path: str) -> logging.Handler:
    if path in _STANDARD_STREAMS:
        return logging.StreamHandler(getattr(sys, _STANDARD_STREAMS[path]))
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--logging-paths: cannot write to {path}: {error.strerror}") from None


def _apply_config_file(path: Path) -> None:
    import configparser
    import logging.config

    if not path.is_file():
        raise ConfigurationError(f"--logging-config-file: there is no file {path}")
    try:
        logging.config.fileConfig(path, disable_existing_loggers=False)
    # fileConfig evaluates handler classes and arguments, so that a mistake can surface as nearly any exception.
    except (
        OSError,
        configparser.Error,
        ValueError,
        KeyError,
        TypeError,
        NameError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise ConfigurationError(f"--logging-config-file: {path} cannot be used: {error}") from None
