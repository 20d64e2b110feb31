"""What groups may not exceed: tasks beyond `max_waiting` are refused, and clients are told why tasks wait for `max_running`."""

from __future__ import annotations

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.group_lifecycle import GroupLifecycle
from scaler_scheduler.core.group_queues import GroupReadyQueues
from scaler_scheduler.core.groups import Group, Groups
from scaler_scheduler.core.outbox import MessageOutbox
from scaler_scheduler.core.records import ClientRecord, Task

HELD_BACK = "group_limit"
"""The kind of the notice to clients whose tasks wait because as many tasks of their group run as may."""


class GroupLimits:
    """Looks at what clients submit, and at what waits."""

    def __init__(
        self,
        groups: Groups,
        ready: GroupReadyQueues,
        outbox: MessageOutbox,
        clients: dict[bytes, ClientRecord],
        lifecycle: GroupLifecycle,
        grace_seconds: float,
    ) -> None:
        """`grace_seconds`: how long tasks must have waited for the limit before their client is told."""
        self._groups = groups
        self._ready = ready
        self._outbox = outbox
        self._clients = clients
        self._lifecycle = lifecycle
        self._grace_seconds = grace_seconds
        self._told: dict[ClientRecord, None] = {}

    def admit(self, client: ClientRecord, tasks: list[Task], now: float) -> list[Task]:
        """Return those of a client's new tasks that may wait. The others are refused, which the client is told."""
        group = self._groups.of[client.id]
        limit = group.share.max_waiting
        if not limit:
            return tasks
        free = max(0, limit - group.waiting_count)
        if len(tasks) <= free:
            return tasks
        refused = tasks[free:]
        text = self._refusal(group, group.waiting_count + free)
        self._lifecycle.refuse(client, refused, text, now)
        self._answer(client, [task.number for task in refused], text)
        return tasks[:free]

    def refusal_of_graph(self, client: ClientRecord, rows: int) -> bytes:
        """Return why a graph with so many rows is refused; empty: it is not."""
        group = self._groups.of[client.id]
        limit = group.share.max_waiting
        waiting = group.waiting_count
        if not limit or waiting + rows <= limit:
            return b""
        group.note_refused(rows)
        return self._refusal(group, waiting, f"a graph of {rows:,} tasks is refused: ")

    def refuses_linked(self, client: ClientRecord, message: m.GraphSubmit) -> bool:
        """Refuse tasks that have results of others as arguments, where there are too many; return whether they are."""
        refusal = self.refusal_of_graph(client, len(message.payloads))
        if refusal:
            self._answer(client, [message.first_number + row for row in message.wanted], refusal)
        return bool(refusal)

    def report(self, now: float) -> None:
        """Tell clients, once each, that their tasks wait because as many of their group run as may."""
        held = self._ready.held_groups()
        for group in self._groups.by_name.values():
            group.note_held(now if group in held else None)
        for group, client_ids in held.items():
            if group.held_since is None or now - group.held_since < self._grace_seconds:
                continue
            for client_id in client_ids:
                client = self._clients[client_id]
                if client not in self._told:
                    self._told[client] = None
                    self._outbox.send(client, m.Notice(held_text(group), level=0, kind=HELD_BACK))

    def forget(self) -> None:
        """Forget which clients were told that are not connected any more."""
        for client in [one for one in self._told if self._clients.get(one.id) is not one]:
            del self._told[client]

    def _answer(self, client: ClientRecord, numbers: list[int], text: bytes) -> None:
        count = len(numbers)
        if count:
            self._outbox.send(
                client,
                m.ResultBatch(
                    client.id, numbers, [0] * count, Packed.of([text] * count), [m.Status.GROUP_LIMIT] * count
                ),
            )

    def _refusal(self, group: Group, waiting: int, what: str = "") -> bytes:
        limit = group.share.max_waiting
        return f"{what}{waiting:,} tasks of group {group.name!r} wait, at most {limit:,} may (max_waiting)".encode()


def held_text(group: Group) -> str:
    """Return why tasks of a group wait whose limit is reached."""
    limit = group.share.max_running
    return (
        f"tasks wait because {group.running_count:,} tasks of group {group.name!r} run, at most {limit:,} may at once "
        "(max_running)"
    )
