"""What clients ask of named locks and semaphores, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.locks import Lease
from scaler_scheduler.core.records import ClientRecord
from scaler_scheduler.core.sessions import Handler
from scaler_scheduler.core.state import SchedulerState


class LockRequests:
    """One handler for each kind of message about locks. Who holds them is decided in `locks`."""

    def __init__(self, state: SchedulerState) -> None:
        self._locks = state.locks
        self._clients = state.clients
        self._outbox = state.outbox
        self.handlers: Mapping[type[Any], Handler[ClientRecord]] = {
            m.LockRequest: self._on_request,
            m.LockRelease: self._on_release,
        }

    def _on_request(self, client: ClientRecord, message: m.LockRequest, now: float) -> None:
        lease = Lease(client.id, message.lease)
        if message.held:
            kept = self._locks.claim(lease, message.name, message.count, now)
            self._answer(client, message.lease, m.LockState.HELD if kept else m.LockState.LOST)
            return
        refusal = self._locks.request(lease, message.name, message.count)
        if refusal:
            self._answer(client, message.lease, m.LockState.REFUSED, refusal)

    def _on_release(self, client: ClientRecord, message: m.LockRelease, now: float) -> None:
        was_there = self._locks.release(Lease(client.id, message.lease))
        self._answer(client, message.lease, m.LockState.RELEASED if was_there else m.LockState.LOST)

    def grant(self, now: float) -> None:
        """Tell those who hold a lock from now on."""
        for lease in self._locks.grant(now):
            self._answer(self._clients[lease.client], lease.number, m.LockState.HELD)

    def _answer(self, client: ClientRecord, lease: int, state: m.LockState, text: str = "") -> None:
        self._outbox.send(client, m.LockAnswer(lease, state, text))
