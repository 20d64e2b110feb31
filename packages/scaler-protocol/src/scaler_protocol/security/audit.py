"""The audit log: who did what to a cluster, one JSON object a line.

{"time": "2026-11-27T13:13:15.123456+00:00", "service": "scheduler", "event": "submit", "name": "pricing", "role": "client",
 "address": "10.0.0.7:40112", "client": "5f…", "tasks": 1000, "functions": ["prices.value"], "capabilities": ["linux"]}

| event | when | further keys |
|---|---|---|
| `connect` | a peer was let in | `peer` (its own name), `as` (client, agent, scheduler, monitor) |
| `refusal` | a connection or a message was refused | `reason`, `repeated` (how many more since the last line) |
| `submit` | a batch of tasks, or a graph, arrived | `tasks`, `functions` (at most 20 names), `capabilities` |
| `cancel` | tasks were cancelled | `tasks` |
| `shutdown` | the cluster or the server ends | `reason` |
| `keys` | the allow-list changed | `reason` |

`service` is who writes: `scheduler` or `object_storage`. `name` and `role` are those of the key, empty without keys. JSON
escapes every control character, so no name can forge a line.
Rotation is left to the system: the file is opened again if it was moved, and on `reopen`. A full disk stops no service.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

FUNCTIONS_MAX = 20
"""Most names of functions in one line."""

TEXT_CHARACTERS_MAX = 300
"""Longest text in a line; more is cut."""

CHECK_SECONDS = 1.0
"""How often is looked whether the file was moved."""

_NEW_FILE_MODE = 0o600
_ROOT = 0


class AuditLog:
    """A file that lines are appended to. Not thread-safe. Raises OSError if it cannot be opened at first."""

    def __init__(self, path: Path, service: str) -> None:
        """`service`: who writes, for files that several services write to or that are joined later."""
        self._path = path
        self._service = service
        self._descriptor = self._open()
        self._checked_at = time.monotonic()
        self._lost_lines = 0

    def record(
        self, event: str, *, name: str = "", role: str = "", address: str = "", **details: str | int | list[str]
    ) -> None:
        """Append a line. If that fails, the service's own log says so once, and again when it works."""
        line = {
            "time": datetime.now(UTC).isoformat(),
            "service": self._service,
            "event": event,
            "name": _bounded(name),
            "role": role,
            "address": _bounded(address),
            **{key: _bounded(value) if isinstance(value, str) else value for key, value in details.items()},
        }
        data = json.dumps(line).encode() + b"\n"
        try:
            if time.monotonic() >= self._checked_at + CHECK_SECONDS:
                self._open_again_if_moved()
            if self._lost_lines:
                # What was written of the last line before the disk was full must not swallow this one.
                data = b"\n" + data
            if os.write(self._descriptor, data) < len(data):
                raise OSError("the file takes no more")
        except OSError as error:
            if not self._lost_lines:
                logger.error("cannot write the audit log %s, so lines are lost: %s", self._path, error)
            self._lost_lines += 1
            return
        if self._lost_lines:
            logger.warning("the audit log %s can be written again; %d lines were lost", self._path, self._lost_lines)
            self._lost_lines = 0

    def reopen(self) -> None:
        """Open the file by its name again, after the system has moved it. Keeps the old one if that fails."""
        try:
            descriptor = self._open()
        except OSError as error:
            logger.error("cannot open the audit log %s again: %s", self._path, error)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        """Close the file. Nothing is recorded afterwards."""
        os.close(self._descriptor)

    def _open(self) -> int:
        # Not blocking: nobody may read a pipe, and the start of a service must not wait for somebody who does.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(self._path, flags, _NEW_FILE_MODE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(error.errno, "it is a pipe or a socket", str(self._path)) from None
            raise
        problem = _problem(self._path, os.fstat(descriptor))
        if problem:
            os.close(descriptor)
            raise OSError(errno.EINVAL, problem, str(self._path))
        return descriptor

    def _open_again_if_moved(self) -> None:
        self._checked_at = time.monotonic()
        try:
            at_path = os.stat(self._path)
        except FileNotFoundError:
            self.reopen()
            return
        opened = os.fstat(self._descriptor)
        if (at_path.st_dev, at_path.st_ino) != (opened.st_dev, opened.st_ino):
            self.reopen()


def _problem(path: Path, found: os.stat_result) -> str:
    """Return why an open file cannot be an audit log; empty if it can. Others could forge lines in a file they can write to."""
    mode = found.st_mode
    if stat.S_ISFIFO(mode):
        return "it is a pipe"
    if not stat.S_ISREG(mode) or os.name != "posix":
        return ""
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to it (its mode is {stat.S_IMODE(mode):04o}): chmod go-w {shlex.quote(str(path))}"
    if found.st_uid not in (os.geteuid(), _ROOT):
        return f"it belongs to another user (uid {found.st_uid}), who could change it"
    return ""


def _bounded(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[: TEXT_CHARACTERS_MAX - 1] + "…"


def bounded_names(names: list[str]) -> list[str]:
    """Return the first names, each cut to what a line takes, and how many are left out."""
    shown = [_bounded(name) for name in names[:FUNCTIONS_MAX]]
    return shown if len(names) <= FUNCTIONS_MAX else [*shown, f"and {len(names) - FUNCTIONS_MAX} more"]
