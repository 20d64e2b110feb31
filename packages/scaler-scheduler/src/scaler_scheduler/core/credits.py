"""Permission to submit, where the number of waiting tasks is limited."""

from __future__ import annotations

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.records import ClientRecord
from scaler_scheduler.core.state import SchedulerState

CREDIT_LAPSE_SECONDS = 2.0
"""Permissions that nobody has used for so long no longer keep others waiting."""


class Credits:
    """Who may submit how many tasks."""

    def __init__(self, state: SchedulerState) -> None:
        self._limit = max(1, state.config.max_number_of_tasks_waiting)
        self._clients = state.clients
        self._ready = state.ready
        self._outbox = state.outbox
        self._marks = state.marks

    def request(self, client: ClientRecord, count: int) -> None:
        """The client asks for so many, instead of what it asked for before."""
        client.credit_wanted = count
        self._marks.credit_due = True

    def use(self, client: ClientRecord, count: int, now: float) -> None:
        """The client has submitted so many tasks."""
        client.credit_granted = max(0, client.credit_granted - count)
        client.credit_moved_at = now

    def lapse(self, now: float) -> None:
        """Let nobody keep others waiting by permissions it does not use (its tasks were cancelled, say).

        It may use them later all the same: the limit is then exceeded by as many.
        """
        if not any(client.credit_wanted for client in self._clients.values()):
            return
        for client in self._clients.values():
            if client.credit_granted and now >= client.credit_moved_at + CREDIT_LAPSE_SECONDS:
                client.credit_granted = 0
                self._marks.credit_due = True

    def grant(self, now: float) -> None:
        """Let clients submit as many tasks as may still wait, in turn.

        Tasks that nobody can run do not count against the limit of all: a client that waits for workers nobody has would keep
        the others waiting with it. They count against the same limit for their own client.
        """
        asking = [client for client in self._clients.values() if client.credit_wanted > 0]
        if not asking:
            return
        waiting = sum(queue.count for queue in self._ready.non_empty() if queue.unservable_since is None)
        free = self._limit - waiting - sum(client.credit_granted for client in self._clients.values())
        for position, client in enumerate(asking):
            own_waiting = len(client.tasks) - client.assigned_count
            # What waits for results of others was submitted after these, so that they are never kept waiting by it.
            own_waiting += 0 if client.links is None else client.links.waiting
            own_free = self._limit - own_waiting - client.credit_granted
            grant = min(client.credit_wanted, own_free, -(-free // (len(asking) - position)))
            if grant <= 0:
                continue
            free -= grant
            client.credit_wanted -= grant
            client.credit_granted += grant
            client.credit_moved_at = now
            self._outbox.send(client, m.CreditGrant(grant))
