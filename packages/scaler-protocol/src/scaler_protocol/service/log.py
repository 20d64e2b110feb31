"""The log of a service: files and standard streams, with lines of `runtime.log_lines`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from scaler_protocol.runtime.log_lines import LogFormat, formatter
from scaler_protocol.service.errors import ConfigurationError

# Opening these by name would truncate or fail under a service manager whose standard streams are sockets.
_STANDARD_STREAMS = {"/dev/stdout": "stdout", "/dev/stderr": "stderr"}


def set_up_logging(
    paths: Sequence[str], level: str = "INFO", config_file: Path | None = None, log_format: LogFormat = "text"
) -> None:
    """Have the root logger write to these files and standard streams. Missing folders are created.

    `config_file` is a file for `logging.config.fileConfig`; if it is given, it alone decides. Raises `ConfigurationError` if
    a file cannot be written, or if `config_file` cannot be used.
    """
    if config_file is not None:
        _apply_config_file(config_file)
        return
    # Without any handler, Python would write warnings to stderr.
    handlers = [_open_handler(path) for path in paths] or [logging.NullHandler()]
    for handler in handlers:
        handler.setFormatter(formatter(log_format))
    logging.basicConfig(level=level, handlers=handlers, force=True)
    if not _STANDARD_STREAMS.keys() >= set(paths):
        # Whoever reads a standard stream knows that it has the log.
        logging.getLogger(__name__).info("logging to %s", ", ".join(paths))


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
    # fileConfig evaluates handler classes and arguments, so a mistake can raise nearly any exception.
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
