"""Modules of the program that are edited while it submits functions of them.

A worker that has imported a module goes on with what it has imported, and so does this process. Nobody would notice that an edit
has no effect, or only on some workers. So the modules that submitted functions need are looked at now and then, never while a
task is submitted, and an edit is told once.
"""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from scaler.serialization.code_effects import global_names
from scaler_protocol.runtime.origins import Stamp, is_users_source, origin_of, source_of, stamp_of

logger = logging.getLogger("scaler")

_MODULES_MAX = 1_000


class EditedModules:
    """Files by which functions of this process were imported, and what they were like when the first was submitted."""

    def __init__(self) -> None:
        self._stamps: dict[str, Stamp] = {}
        self._uploaded: set[str] = set()
        self._names: set[str] = set()

    def note(self, function: Any) -> None:
        """A function is sent for the first time: look after the modules that it needs, as far as they can be told."""
        if len(self._names) >= _MODULES_MAX:
            return
        ahead = list(_origins(function))
        while ahead:
            name = ahead.pop()
            if name in self._names:
                continue
            self._names.add(name)
            path = source_of(name)
            if is_users_source(path):
                stamp = stamp_of(path)
                if stamp is not None:
                    self._stamps.setdefault(path, stamp)
                ahead += map(origin_of, list(vars(sys.modules[name]).values()))

    def note_upload(self, stamps: Iterable[tuple[str, Stamp]]) -> None:
        """Modules are uploaded from these files, which were like this before they were read."""
        for path, stamp in stamps:
            self._stamps[path] = stamp
            self._uploaded.add(path)

    def look(self) -> None:
        """Log which files were edited since the last look."""
        for path, before in list(self._stamps.items()):
            stamp = stamp_of(path)
            if stamp in (before, None):
                continue
            self._stamps[path] = stamp or before
            if path in self._uploaded:
                logger.warning(
                    "%s was edited after it was uploaded: tasks run what was uploaded. "
                    "Call client.upload_modules again to have further tasks run what it is now",
                    path,
                )
            else:
                logger.warning(
                    "%s was edited after functions that need it were submitted: workers that have imported it go on with the "
                    "old code, and others run the new one. client.upload_modules([%r]) has all further tasks run the new one",
                    path,
                    path,
                )


EDITED_MODULES = EditedModules()
"""Those of this process."""


def stamps_of(paths: Iterable[str]) -> Iterator[tuple[str, Stamp]]:
    """Yield each file that is there, with what changes when it is written."""
    for path in paths:
        stamp = stamp_of(path)
        if stamp is not None:
            yield path, stamp


def _origins(function: Any) -> Iterator[str]:
    """Yield the names of the modules that a function is of, or names."""
    yield origin_of(function)
    if type(function) is types.FunctionType:
        names = function.__globals__
        for name in global_names(function.__code__):
            yield origin_of(names.get(name))
