"""The profiles that visitors of the pages have asked for. One at a time, so that many visitors cost no more than one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from scaler_protocol.service.errors import ServiceError
from scaler_protocol.wire.messages import MonitorProfile

KEPT_MAX = 4
"""Profiles that are kept for the pages; the oldest is forgotten first."""

Take = Callable[[int, Callable[[MonitorProfile], None]], MonitorProfile]
"""Takes a profile of so many seconds, and tells how far it is."""


class Run:
    """One profile, from the moment it was asked for."""

    def __init__(self, number: int, seconds: int) -> None:
        self.number = number
        self.seconds = seconds
        self.started = time.time()
        self.profile: MonitorProfile | None = None
        self.error = ""
        self.is_over = False

    def data(self) -> dict[str, Any]:
        """Return what pages show of it."""
        told: dict[str, Any] = {
            "id": self.number,
            "seconds": self.seconds,
            "started": self.started,
            "done": self.is_over,
            "error": self.error,
        }
        profile = self.profile
        if profile is None:
            return told
        return {
            **told,
            "elapsed_seconds": profile.elapsed_seconds,
            "rate": profile.rate,
            "agents": profile.agents,
            "answered": profile.answered,
            "processors": profile.processors,
            "samples": profile.samples,
            "cost_seconds": profile.cost_microseconds / 1e6,
            "parents": list(profile.parents),
            "names": list(profile.names),
            "files": list(profile.files),
            "lines": list(profile.lines),
            "microseconds": list(profile.microseconds),
            "texts": list(profile.texts),
        }


class ProfileRuns:
    """May be called from any thread."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._guard = threading.Lock()
        self._runs: OrderedDict[int, Run] = OrderedDict()
        self._count = 0

    def start(self, seconds: int) -> Run:
        """Begin a profile; return the one that is being taken, if there is one."""
        with self._guard:
            for run in self._runs.values():
                if not run.is_over:
                    return run
            self._count += 1
            run = self._runs[self._count] = Run(self._count, seconds)
            while len(self._runs) > KEPT_MAX:
                self._runs.popitem(last=False)
        threading.Thread(target=self._run, args=(run,), name="profile", daemon=True).start()
        return run

    def find(self, number: int) -> Run | None:
        """Return a profile, or None if it is not known (any more)."""
        with self._guard:
            return self._runs.get(number)

    def _run(self, run: Run) -> None:
        def note(profile: MonitorProfile) -> None:
            run.profile = profile

        try:
            self._take(run.seconds, note)
        except ServiceError as error:
            run.error = str(error)
        except Exception as error:
            # Otherwise it would never be over, and no other one could begin.
            run.error = f"the profile failed: {error!r}"
        finally:
            run.is_over = True
