"""Where services look for modules, and where the tasks of a local cluster do.

A service must find its own modules and the standard library. With a user's `secrets.py` in the working directory or in
`PYTHONPATH`, a plain `python -m` would import that one. Tasks, however, must find the modules that the user's program finds.
So services are started without the working directory in their path, with `PYTHONPATH` after everything else, and get the
`sys.path` of their tasks separately.

This module must stay light: services import it first.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PYTHON_PATH_VARIABLE = "SCALER_PYTHONPATH"
"""In a service's environment: the `PYTHONPATH` of the process that started it; empty for none."""

TASK_PATH_VARIABLE = "SCALER_TASK_PATH"
"""In a service's environment: a `TaskPath` as JSON."""

TASK_PATH_BYTES_MAX = 64 * 1024
"""Half of what an environment variable may hold. Services ask for longer paths when they need them."""

IMPORT_AHEAD_VARIABLE = "SCALER_IMPORT_AHEAD"
"""In a program's environment: names of modules in place of `IMPORTED_AHEAD`, separated by commas; empty for none."""

IMPORTED_AHEAD = "numpy"
"""What processors of a local cluster import while they wait for their first task, where the program that started the cluster has
loaded it. Each costs every processor memory, so that only what many tasks read their arguments with is among them."""

_PACKAGES = ("scaler_protocol", "scaler_scheduler", "scaler_objstore", "scaler_worker", "scaler_adapters", "scaler_ui")
"""The packages of Scaler that services import."""


@dataclass(frozen=True, slots=True)
class TaskPath:
    """Where tasks look for modules."""

    entries: tuple[str, ...] = ()
    """Their `sys.path`; empty for Python's own."""
    source: str = ""
    """The name of a local socket that returns the present path; empty if there is none."""
    modules: tuple[str, ...] = ()
    """What the tasks will most likely import: the `IMPORTED_AHEAD` that the program has loaded."""

    def to_variable(self) -> str:
        """Return the text for `TASK_PATH_VARIABLE`."""
        text = json.dumps([self.entries, self.source, self.modules])
        return text if len(text) <= TASK_PATH_BYTES_MAX else json.dumps([[], self.source, self.modules])


_task_path = TaskPath()


def service_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a module of Scaler with this interpreter. Use it with `service_environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def service_environment(module: str, added: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for the `service_command` of this module: that of this process and `added`."""
    environment = {**os.environ, **(added or {})}
    python_path = environment.pop("PYTHONPATH", "")
    environment[PYTHON_PATH_VARIABLE] = python_path
    own = _own_folders(module, [*_absolute(python_path), *sys.path])
    if own:
        environment["PYTHONPATH"] = os.pathsep.join(own)
    return environment


def _own_folders(module: str, path: Sequence[str]) -> list[str]:
    """Return the folders of `path` with Scaler's packages or this module that another interpreter would not search."""
    import site

    known = {*site.getsitepackages(), site.getusersitepackages(), os.path.dirname(os.__file__)}
    top = module.partition(".")[0]
    # Scaler's packages are folders, so a file with such a name is the user's.
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
    """Restore the environment that `service_environment` changed, but keep the search order. Services call this first.

    A service that was started by hand (`python -m …`) removes the working directory from its path.
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
        entries, source, modules = json.loads(text)
        _task_path = TaskPath(tuple(entries), source, tuple(modules))


def task_path() -> TaskPath:
    """Return where the tasks of this service look for modules."""
    if _task_path.entries:
        return _task_path
    # The path that `python -m` would have.
    first = [entry for entry in (working_directory(), *_python_path()) if entry]
    entries = (*first, *(entry for entry in sys.path if entry not in first))
    return TaskPath(entries, _task_path.source, _task_path.modules)


def program_path() -> list[str]:
    """Return `sys.path` of this process with absolute paths, for processes with another working directory."""
    entries = []
    for entry in list(sys.path):
        # Python ignores entries that are not text, too. Entries that are no files belong to import hooks.
        if not isinstance(entry, str):
            continue
        if entry == "" or (not os.path.isabs(entry) and os.path.exists(entry)):
            folder = working_directory()
            if not folder:
                continue
            entry = os.path.join(folder, entry) if entry else folder
        entries.append(entry)
    return entries


def program_modules() -> tuple[str, ...]:
    """Return those of the modules to import ahead that this process has loaded."""
    names = os.environ.get(IMPORT_AHEAD_VARIABLE, IMPORTED_AHEAD).split(",")
    return tuple(name for name in map(str.strip, names) if name and name in sys.modules)


def working_directory() -> str:
    """Return the working directory; empty if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _python_path() -> list[str]:
    return _absolute(os.environ.get("PYTHONPATH", ""))


def _absolute(python_path: str) -> list[str]:
    folder = working_directory()
    return [os.path.join(folder, entry) for entry in python_path.split(os.pathsep) if entry]
