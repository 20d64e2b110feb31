"""Where services look for modules, and where the tasks of a local cluster do.

A service must find its own modules and the standard library, whatever lies beside the user's script: with a `secrets.py` in the
working directory or in `PYTHONPATH`, a plain `python -m` would import that one. Tasks, on the other hand, must find what the
user's program finds. So services are started without the working directory in their path and with `PYTHONPATH` behind
everything else, and are told separately what `sys.path` their tasks are to have.

This module must stay light: services import it first.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PYTHON_PATH_VARIABLE = "SCALER_PYTHONPATH"
"""In a service's environment: the `PYTHONPATH` of whoever started it; empty for none."""

TASK_PATH_VARIABLE = "SCALER_TASK_PATH"
"""In a service's environment: a `TaskPath` as JSON."""

TASK_PATH_BYTES_MAX = 64 * 1024
"""A variable of the environment may be twice as long; longer paths are asked for when they are needed."""

_PACKAGES = ("scaler_protocol", "scaler_scheduler", "scaler_objstore", "scaler_worker", "scaler_adapters", "scaler_ui")
"""Ours, as far as services are made of them."""


@dataclass(frozen=True, slots=True)
class TaskPath:
    """Where tasks look for modules."""

    entries: tuple[str, ...] = ()
    """The `sys.path` they are to have; empty for what Python would have by itself."""
    source: str = ""
    """The name of a local socket that tells what it has become since; empty where nobody does."""

    def to_variable(self) -> str:
        """Return the text for `TASK_PATH_VARIABLE`."""
        text = json.dumps([self.entries, self.source])
        return text if len(text) <= TASK_PATH_BYTES_MAX else json.dumps([[], self.source])


_task_path = TaskPath()


def service_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a module of ours with this interpreter. It goes with `service_environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def service_environment(module: str, added: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for the `service_command` of this module: that of this process, with `added`."""
    environment = {**os.environ, **(added or {})}
    python_path = environment.pop("PYTHONPATH", "")
    environment[PYTHON_PATH_VARIABLE] = python_path
    own = _own_folders(module, [*_absolute(python_path), *sys.path])
    if own:
        environment["PYTHONPATH"] = os.pathsep.join(own)
    return environment


def _own_folders(module: str, path: Sequence[str]) -> list[str]:
    """Return the folders of `path` that hold our packages, or this module, and that another interpreter would not look in."""
    import site

    known = {*site.getsitepackages(), site.getusersitepackages(), os.path.dirname(os.__file__)}
    top = module.partition(".")[0]
    # Ours are folders: a file of such a name is the user's.
    file_name = "" if top in _PACKAGES else f"{top}.py"
    return [
        os.path.abspath(entry)
        for entry in dict.fromkeys(path)
        if entry not in known
        and (
            _holds_ours(entry)
            or os.path.isdir(os.path.join(entry, top))
            or os.path.isfile(os.path.join(entry, file_name))
        )
    ]


def _holds_ours(folder: str) -> bool:
    return any(os.path.isdir(os.path.join(folder, package)) for package in _PACKAGES)


def separate_modules() -> None:
    """In a service, first of all: undo what `service_environment` did, but for the order in which modules are looked for.

    One that was started by hand (`python -m …`) forgets the working directory.
    """
    global _task_path
    python_path = os.environ.pop(PYTHON_PATH_VARIABLE, None)
    if python_path is not None:
        os.environ.pop("PYTHONPATH", None)
        if python_path:
            os.environ["PYTHONPATH"] = python_path
            sys.path.extend(entry for entry in _python_path() if entry not in sys.path)
    elif not sys.flags.safe_path and sys.path[:1] == [working_directory()] and not _holds_ours(sys.path[0]):
        del sys.path[0]
    text = os.environ.pop(TASK_PATH_VARIABLE, None)
    if text is not None:
        entries, source = json.loads(text)
        _task_path = TaskPath(tuple(entries), source)


def task_path() -> TaskPath:
    """Return where the tasks of this service look for modules."""
    if _task_path.entries:
        return _task_path
    # What `python -m` would have had.
    first = [entry for entry in (working_directory(), *_python_path()) if entry]
    entries = (*first, *(entry for entry in sys.path if entry not in first))
    return TaskPath(entries, _task_path.source)


def program_path() -> list[str]:
    """Return `sys.path` of this process, as another process that may have another working directory would have to write it."""
    entries = []
    for entry in list(sys.path):
        # Paths that are no texts are passed over by Python too; hooks put things there that are no files.
        if not isinstance(entry, str):
            continue
        if entry == "" or (not os.path.isabs(entry) and os.path.exists(entry)):
            folder = working_directory()
            if not folder:
                continue
            entry = os.path.join(folder, entry) if entry else folder
        entries.append(entry)
    return entries


def working_directory() -> str:
    """Return the working directory; empty where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _python_path() -> list[str]:
    return _absolute(os.environ.get("PYTHONPATH", ""))


def _absolute(python_path: str) -> list[str]:
    folder = working_directory()
    return [os.path.join(folder, entry) for entry in python_path.split(os.pathsep) if entry]
