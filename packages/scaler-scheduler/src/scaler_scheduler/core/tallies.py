"""Counts of tasks by a name that users choose. For metrics: the number of names is bounded, and no count goes back."""

from __future__ import annotations

from collections.abc import Iterable

from scaler_protocol.runtime.names import default_client_name
from scaler_protocol.wire import messages as m
from scaler_scheduler.core.records import ClientRecord

NAMES_MAX = 200
"""Most names that are counted apart. Whatever comes later is counted together, as `OTHER`."""

OTHER = "(other)"

PARENTS_MAX = 100
"""Nested clients of nested clients that are followed. Each has been submitted by another one, so there is no circle."""


class Tallies:
    """A count for each name, in the order in which the names came."""

    def __init__(self) -> None:
        self._by_name: dict[str, m.Tally] = {}

    def of(self, name: str) -> m.Tally:
        """Return the count of this name: the same object for the same name. Names that have no place share one."""
        tally = self._by_name.get(name)
        if tally is None:
            if len(self._by_name) >= NAMES_MAX:
                name = OTHER
            tally = self._by_name.setdefault(name, m.Tally(name))
        return tally

    def all(self) -> tuple[m.Tally, ...]:
        """Return a copy of all counts."""
        return tuple(m.Tally(one.name, one.unfinished, one.succeeded, one.failed) for one in self._by_name.values())


class ClientTallies:
    """Tasks by the name given to their client, those of clients that have left included.

    The name of a nested client changes while it is connected: the client for which it works comes and leaves. So each task
    that has ended is counted once, under the name of that time, and stays there.
    """

    def __init__(self) -> None:
        self._ended = Tallies()
        self._counted: dict[bytes, tuple[int, int]] = {}
        """By connected client: how many of its tasks that succeeded, and that failed, are in there."""

    def drop(self, client: ClientRecord, clients: dict[bytes, ClientRecord]) -> None:
        """A client leaves, and is not among the connected ones any more. What works for it changes its name after this."""
        self._count(given_name(owner_of(client, clients)), client)
        self._counted.pop(client.id, None)
        before: dict[bytes, ClientRecord] | None = None
        leaving = {client.id}
        while leaving:
            inside = [one for one in clients.values() if one.parent in leaving and one.id not in leaving]
            if inside and before is None:
                before = {**clients, client.id: client}
            for one in inside:
                assert before is not None
                self._count(given_name(owner_of(one, before)), one)
            leaving = {one.id for one in inside}

    def with_connected(self, clients: Iterable[tuple[str, ClientRecord, int]]) -> tuple[m.Tally, ...]:
        """Return all counts, with those of the connected clients, each with its name and its unfinished tasks."""
        here = [(self._count(name, client), unfinished) for name, client, unfinished in clients]
        counts = {tally.name: tally for tally in self._ended.all()}
        for name, unfinished in here:
            tally = counts[name]
            tally.unfinished += unfinished
        return tuple(counts.values())

    def _count(self, name: str, client: ClientRecord) -> str:
        """Count what has ended since the last time under this name. Return the name under which that is."""
        tally = self._ended.of(name)
        succeeded, failed = self._counted.get(client.id, (0, 0))
        self._counted[client.id] = client.finished_count, client.failed_count
        tally.succeeded += client.finished_count - succeeded
        tally.failed += client.failed_count - failed
        return tally.name


def owner_of(client: ClientRecord, clients: dict[bytes, ClientRecord]) -> ClientRecord | None:
    """Return the client for which one works: itself, unless it is inside a task. None where that one is not connected."""
    owner: ClientRecord | None = client
    for _ in range(PARENTS_MAX):
        if owner is None or not owner.parent:
            break
        owner = clients.get(owner.parent)
    return owner


def given_name(client: ClientRecord | None) -> str:
    """Return the name that a program gave its client; empty where it gave none."""
    if client is None or not isinstance(client.peer, bytes):
        return ""
    hello = client.hello
    return "" if hello.name == default_client_name(hello.hostname, hello.pid) else hello.name
