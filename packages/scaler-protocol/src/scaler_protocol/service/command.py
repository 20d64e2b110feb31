"""From a command line to a running service. All commands use it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field

from scaler_protocol.runtime.log_lines import LogFormat, harmless_cell
from scaler_protocol.service.child import die_with_parent
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.event_loop import EventLoopName
from scaler_protocol.service.log import set_up_logging
from scaler_protocol.service.readiness import Readiness
from scaler_protocol.service.security_settings import SecuritySettings
from scaler_protocol.service.settings import NoEffect, Short, TakesSeveral, TextListSetting

logger = logging.getLogger(__name__)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class CommandSettings(SecuritySettings):
    """The settings of every command: its keys, and where and how to log."""

    logging_paths: Annotated[TextListSetting, Short("lp"), TakesSeveral()] = Field(
        default=("/dev/stdout",),
        min_length=1,
        description="files to log to, as several words or separated by commas; missing folders are created",
    )
    logging_config_file: Annotated[Path | None, Short("lcf")] = Field(
        default=None, description="file for Python's logging.config.fileConfig; it replaces the other logging settings"
    )
    logging_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper), Short("ll")
    ] = Field(default="INFO", description="least severe level that is logged")
    logging_format: Annotated[LogFormat, Short("lf")] = Field(
        default="text", description="form of log lines: text, or one JSON object a line"
    )


class EventLoopSettings(CommandSettings):
    """The further settings of every command with an event loop."""

    event_loop: Annotated[EventLoopName, Short("el")] = Field(
        default="builtin", description="event loop: Python's own (builtin) or uvloop"
    )
    log_hub_address: Annotated[str | None, NoEffect("logs go to --logging-paths; there is no log hub")] = Field(
        default=None, description="accepted for older command lines, without effect: logs go to --logging-paths"
    )


Settings = TypeVar("Settings", bound=CommandSettings)


def run_command(
    settings_class: type[Settings], run: Callable[[Settings], int], arguments: Sequence[str] | None = None
) -> int:
    """Reads the settings, sets up logging, runs the service, and returns the exit status of the process.

    A `ServiceError` from any of these ends the command with its message on stderr, one line each, and its exit status.
    """

    def whole() -> int:
        die_with_parent()
        settings = settings_class.from_command_line(arguments)
        set_up(settings)
        return run(settings)

    return status_of(settings_class.command, whole)


def status_of(command: str, run: Callable[[], int]) -> int:
    """Return the exit status of `run`. Print a ServiceError with the name of `command`; print nothing for an interrupt."""
    try:
        return run()
    except ServiceError as error:
        return tell(command, error)
    except KeyboardInterrupt:
        # Ctrl-C before the service has its own signal handlers: leave quietly, with the shell's status for SIGINT.
        return 130


def set_up(settings: CommandSettings) -> None:
    """Apply the settings that all commands have to this process. Raises ConfigurationError."""
    set_up_logging(
        settings.logging_paths, settings.logging_level, settings.logging_config_file, settings.logging_format
    )
    for line in settings.without_effect():
        logger.warning("%s", line)


def tell(command: str, error: ServiceError) -> int:
    """Print on stderr why a command ends, one line for each reason; return its exit status."""
    # Errors quote what peers, files and command lines said.
    lines = [f"{command}: {harmless_cell(line)}" for line in str(error).splitlines()]
    Readiness.of_process().failed("\n".join(lines))
    for line in lines:
        print(line, file=sys.stderr)
    return error.exit_status
