"""The settings of every command: a TOML file and a command line make settings, or one error with a line for each mistake."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

from scaler_adapters.ecs.settings import EcsAdapterSettings
from scaler_adapters.native.settings import NativeAdapterSettings
from scaler_adapters.slurm.settings import SlurmAdapterSettings
from scaler_adapters.symphony.settings import SymphonyAdapterSettings
from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings import ServiceSettings
from scaler_scheduler.settings import SchedulerSettings
from scaler_ui.dump.settings import DumpSettings
from scaler_ui.top.settings import TopSettings
from scaler_ui.trace.settings import TraceSettings
from scaler_ui.web.settings import WebSettings
from scaler_worker.settings import ClusterSettings

COMMANDS: list[type[ServiceSettings]] = [
    SchedulerSettings,
    ObjectStorageSettings,
    ClusterSettings,
    NativeAdapterSettings,
    SymphonyAdapterSettings,
    SlurmAdapterSettings,
    EcsAdapterSettings,
    TopSettings,
    TraceSettings,
    DumpSettings,
    WebSettings,
]
WORDS_MAX = 32

_folder = tempfile.TemporaryDirectory()
_path = Path(_folder.name) / "settings.toml"


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    found = []
    for number, command in enumerate(COMMANDS):
        flags = [f"--{name.replace('_', '-')}" for name in command.model_fields]
        keys = "".join(f"{name} = 1\n" for name in command.model_fields)
        found.append(_input(number, f"[{command.section}]\n{keys}", "tcp://127.0.0.1:2345", "-ll", "DEBUG"))
        found.append(_input(number, f'[{command.section}]\nlogging_level = "info"\n', *(f"{flag}=1" for flag in flags)))
        found.append(_input(number, "", "tcp://127.0.0.1:2345", *(word for flag in flags for word in (flag, "a,b=2"))))
    return found


def _input(number: int, file: str, *words: str) -> bytes:
    return bytes([number]) + "\0".join((file, *words)).encode()


def run(data: bytes) -> None:
    """See `fuzzing`. The first byte says which command; then the file and the words of the command line, NUL between them."""
    if not data:
        return
    command = COMMANDS[data[0] % len(COMMANDS)]
    file, *words = data[1:].split(b"\0")
    _path.write_bytes(file)
    os.chmod(_path, 0o600)
    # As the interpreter decodes the words of a command line.
    arguments = [os.fsdecode(word) for word in words[:WORDS_MAX]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            settings = command.from_command_line([*arguments, "--config", str(_path)])
        except ConfigurationError as error:
            said = str(error)
        except SystemExit as end:
            # After the help or the version.
            said = "" if end.code else "help"
        else:
            command.from_command_line(settings.to_command_line())
            return
    if not said.strip():
        raise AssertionError("a command ends without a word")
