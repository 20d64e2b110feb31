"""What the check of an installation and a cluster has found, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from scaler_protocol.runtime.counted import counted


@dataclass
class Here:
    """This side."""

    scaler: str
    protocol: int
    python: str
    system: str
    packages: dict[str, str]
    """Versions of the distributions that are installed here, by name."""


@dataclass
class SchedulerFound:
    """The scheduler that answered."""

    address: str
    scaler: str
    protocol: int
    connect_seconds: float
    """Until the scheduler had accepted the session."""
    object_storage: str
    monitor: str


@dataclass
class WorkersFound:
    """The cluster's workers, and the one that ran tasks for the check."""

    count: int | None = None
    """None: not known, because the monitor address did not answer."""
    hosts: int | None = None
    python: str = ""
    """That of the worker which ran the check's tasks; empty if none did."""
    scaler: str = ""
    round_trip_seconds: float | None = None
    """The median time of one small task, from its submission to its result."""


@dataclass
class Findings:
    """All of it. `problems` has a sentence for each thing that has to be mended, `notes` for what is worth knowing."""

    here: Here
    scheduler: SchedulerFound | None = None
    workers: WorkersFound | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return all of it for `json.dumps`."""
        return {"ok": not self.problems, **asdict(self)}

    def as_lines(self) -> list[str]:
        """Return the lines that people read."""
        here = self.here
        lines = [f"here       Scaler {here.scaler}, protocol {here.protocol}, Python {here.python}, {here.system}"]
        lines.append(f"installed  {', '.join(here.packages) or 'no distribution of Scaler'}")
        if self.scheduler is not None:
            found = self.scheduler
            lines.append(f"scheduler  {found.address}: Scaler {found.scaler}, protocol {found.protocol}")
            lines.append(f"connected  in {_milliseconds(found.connect_seconds)}")
            lines.append(f"storage    {found.object_storage or 'none'}")
            lines.append(f"monitor    {found.monitor or 'none'}")
        if self.workers is not None:
            lines.append(f"workers    {_counted(self.workers)}")
            if self.workers.round_trip_seconds is not None:
                lines.append(f"one task   {_milliseconds(self.workers.round_trip_seconds)} there and back (median)")
        lines += [f"note       {note}" for note in self.notes]
        lines += [f"problem    {problem}" for problem in self.problems]
        if self.scheduler is not None and not self.problems:
            lines.append("all is well")
        return lines


def _counted(workers: WorkersFound) -> str:
    found = "not known" if workers.count is None else f"{workers.count} on {counted(workers.hosts or 0, 'host')}"
    return f"{found}; Scaler {workers.scaler}, Python {workers.python}" if workers.python else found


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
