"""What rows of tables stand for: a task whose output can be read, or tasks that can be cancelled. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaler_protocol.wire.messages import CancelRequest

NUMBER_MAX = 2**63


@dataclass(frozen=True, slots=True)
class Subject:
    """A task, or the unfinished tasks of a client, of a function or of a label. Only ids count when two are compared."""

    client: bytes = b""
    """Whose; empty: any client's, or it is not known whose."""
    number: int = 0
    """The task's number; 0: this is no single task."""
    function: str = field(default="", compare=False)
    label: str = ""
    client_name: str = field(default="", compare=False)
    agent: str = field(default="", compare=False)
    """The agent that has or had the task, if that is known."""
    unfinished: int | None = field(default=None, compare=False)
    """How many tasks can be cancelled, if that is known."""
    of_function: str = ""
    """All unfinished tasks of this function."""

    @property
    def name(self) -> str:
        """Return what to call it: `task 17, simulate, of alice`, `all unfinished tasks of alice (120)`."""
        if self.number:
            function = f", {self.function}," if self.function else ""
            owner = f" of {self.client_name}" if self.client_name else ""
            return f"task {self.number}{function}{owner}".rstrip(",")
        count = f" ({self.unfinished:,})" if self.unfinished is not None else ""
        if self.of_function:
            return f"all unfinished tasks of the function {self.of_function}{count}"
        if self.label:
            return f"all unfinished tasks with the label {self.label}{count}"
        return f"all unfinished tasks of {self.client_name}{count}"

    def request(self) -> CancelRequest:
        """Return the request that cancels it. A task needs its client."""
        if self.number and not self.client:
            raise ValueError(f"{self.name} has no client, and numbers are a client's own")
        return CancelRequest(0, self.client, (self.number,) if self.number else (), self.of_function, self.label)


def read_task(text: str, clients: Mapping[bytes, str]) -> Subject:
    """Return the task that somebody has typed: its number, and its client's name if that is wanted: `17`, `17 alice`.

    `clients`: the names of connected clients. Raises ValueError with one sentence for people.
    """
    digits, _, name = text.strip().lstrip("#").partition(" ")
    name = name.strip()
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:20]) < NUMBER_MAX):
        raise ValueError(f"{digits[:40]!r} is not the number of a task: type one such as 17, or 17 and a client's name")
    number = int(digits)
    if not name:
        return Subject(number=number)
    found = [(client, called) for client, called in clients.items() if called.lower() == name.lower()]
    if not found:
        known = ", ".join(sorted(set(clients.values()))[:5]) or "none is connected"
        raise ValueError(f"no client is called {name[:40]!r}: {known}")
    if len(found) > 1:
        raise ValueError(f"{len(found)} clients are called {name[:40]!r}: leave the name out")
    (client, called) = found[0]
    return Subject(client, number, client_name=called)
