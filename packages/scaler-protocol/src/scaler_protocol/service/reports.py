"""The parent's end of a service's reports while it starts; `service.readiness` is the service's end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from typing import Literal

REPORT_BYTES_MAX = 65_536
"""A child that writes more than this before it is ready is no service of Scaler."""


class Reports:
    """Reads the pipe with a service's reports."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._unread = b""
        self._read_bytes = 0
        self.ended = False
        """Whether the service has closed its end before it was ready."""
        self.started = False
        self.addresses: dict[str, str] | None = None
        """Its addresses by role, once it is ready."""
        self.status = ""
        """What it waits for, as last reported."""
        self.failure = ""
        """Why it ends: the last lines of its reports."""

    def wait(self, kind: Literal["started", "ready"], timeout_s: float) -> bool:
        """Wait until the service is started or ready, as `kind` says; return whether it is."""
        deadline = time.monotonic() + timeout_s
        while not (self.addresses is not None or (kind == "started" and self.started)):
            if self._descriptor < 0 or not self._read(deadline):
                return False
        return True

    def close(self) -> None:
        """Stop reading. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, deadline: float) -> bool:
        """Read the next reports. Return False if there are no more, or none in time."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLIN)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return False
        chunk = os.read(self._descriptor, 4096)
        self._read_bytes += len(chunk)
        if not chunk or self._read_bytes > REPORT_BYTES_MAX:
            self.ended = True
            self.close()
            return False
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            # Other lines are ignored.
            with contextlib.suppress(ValueError, AttributeError):
                for kind, value in json.loads(line).items():
                    self._note(kind, value)
        return True

    def _note(self, kind: str, value: object) -> None:
        if kind == "ready" and isinstance(value, dict):
            self.addresses = value
            self.close()
        elif kind == "started":
            self.started = True
        elif kind == "status":
            self.status = str(value)
        elif kind == "failed":
            self.failure = f"{self.failure}\n{value}".strip()
