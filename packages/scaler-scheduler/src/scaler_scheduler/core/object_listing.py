"""Who needs the objects that monitors list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.records import ClientRecord

SHOWN_BYTES = 4
"""How much of an object's id monitors see."""

COUNTED_TASKS_MAX = 20_000
"""Unfinished tasks, and rows of graphs, that are looked at for this. Those of clients beyond that are not counted."""


def with_tasks(
    objects: Sequence[m.StoredObjectStatus], clients: Iterable[ClientRecord]
) -> tuple[m.StoredObjectStatus, ...]:
    """Return what monitors may know of objects, with the number of their owners' unfinished tasks that name them.

    Whoever has an object's id can read it, so they get its beginning.
    """
    if not objects:
        return ()
    owners = {one.owner for one in objects}
    counts: dict[bytes, Counter[bytes]] = {}
    left = COUNTED_TASKS_MAX
    for client in clients:
        if client.id in owners:
            size = len(client.tasks) + sum(graph.row_count for graph in client.graphs)
            if size <= left:
                left -= size
                counts[client.id] = _named_by(client)
    return tuple(
        [replace(one, id=one.id[:SHOWN_BYTES], tasks=_count_in(counts.get(one.owner), one.id)) for one in objects]
    )


def _count_in(named: Counter[bytes] | None, object_id: bytes) -> int:
    return -1 if named is None else named[object_id]


def _named_by(client: ClientRecord) -> Counter[bytes]:
    """Count how many tasks of a client name each object."""
    named: Counter[bytes] = Counter()
    for task in client.tasks.values():
        if task.graph is None:
            named.update(set(task.objects))
    for graph in client.all_graphs():
        named.update(graph.objects_needed())
    return named
