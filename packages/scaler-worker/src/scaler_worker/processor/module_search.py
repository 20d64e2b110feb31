"""Where the code of tasks looks for modules in this processor, and what is said when it does not find one.

Tasks of a local cluster find what the client's process finds: they begin with its `sys.path`, and a module that is in none of
those places is looked for again in what the client's path has become since. The processor's own modules are imported already.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from scaler_protocol.failures import named_text_of
from scaler_worker.processor.options import ProcessorOptions

ASK_SECONDS = 1.0
ANSWER_BYTES_MAX = 4 * 1024 * 1024

_worker_name = "?"


def install(options: ProcessorOptions, slot: int) -> None:
    """Have this process look for modules where its tasks are to find them. Once, before any of their code runs."""
    global _worker_name
    if slot < len(options.worker_names):
        _worker_name = options.worker_names[slot]
    if options.task_path:
        _look_in(options.task_path)
    if options.path_source:
        sys.meta_path.append(_LatePath(options.path_source))


def worker_name() -> str:
    """Return the name of the worker whose process this is."""
    return _worker_name


def import_ahead(names: Sequence[str]) -> None:
    """Import modules that no task has asked for yet. One that cannot be imported fails in the task that needs it."""
    for name in names:
        with contextlib.suppress(BaseException):
            importlib.import_module(name)


def explained(what: str, error: BaseException) -> str:
    """Return the sentence for something of a task, "the function" say, that `error` kept from being restored here."""
    text = f"{what} of the task could not be restored on worker {_worker_name}: {named_text_of(error)}"
    if type(error) is ModuleNotFoundError and error.name:
        places = ", ".join(entry or "." for entry in sys.path)
        text += f". The worker looks for modules in: {places}; install {error.name.partition('.')[0]!r} there"
    return text


def _look_in(entries: Sequence[str]) -> None:
    """Make `entries` the path; places of our own that are not among them come behind."""
    sys.path[:] = [*entries, *(entry for entry in sys.path if entry not in entries)]


class _LatePath:
    """The last of the finders: it is asked for what nobody has found, and asks the client where else to look."""

    def __init__(self, source: str) -> None:
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # The path of an ordinary package is a list; one that is spread over several folders looks at `sys.path` again.
        if isinstance(path, list) or not self._source:
            return None
        entries = self._ask()
        if all(entry in sys.path for entry in entries):
            return None
        _look_in(entries)
        return PathFinder.find_spec(fullname, path, target)

    def _ask(self) -> list[str]:
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(ASK_SECONDS)
            asking.connect(f"\0{self._source}")
            answer = b""
            while len(answer) < ANSWER_BYTES_MAX and (part := asking.recv(65_536)):
                answer += part
            return [str(entry) for entry in json.loads(answer)]
        # The client is gone, and will not be back under this name.
        self._source = ""
        return []
