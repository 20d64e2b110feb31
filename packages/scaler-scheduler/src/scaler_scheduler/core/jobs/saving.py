"""Answers that wait until disk or store have what they say. Only where jobs have journals (`SchedulerConfig.journals_wait`).

A store may take its time, or be away, and a disk may be full: then only those wait whose answer says that something is kept,
and no longer than `STORE_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from scaler_protocol.wire import messages as m
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.outbox import MessageOutbox
from scaler_scheduler.core.records import ClientRecord

STORE_SECONDS = 20.0
"""How long an answer waits for the store."""

WAITING_ACTIONS = ("close", "cancel", "forget")
"""Their answers say that something is kept. Others say so only to a client that has submitted tasks since its last answer."""

NOT_STORED_TEXT = (
    f"the disk or store of jobs has not said for {STORE_SECONDS:g} s that this is kept there, as the scheduler's log says. It is "
    "tried again; until then it is lost if the scheduler is killed"
)


class Saving:
    """See the module."""

    def __init__(self, clients: Mapping[bytes, ClientRecord], outbox: MessageOutbox, *, is_on: bool) -> None:
        self._clients = clients
        self._outbox = outbox
        self._is_on = is_on
        self._held: dict[int, tuple[bytes, m.JobReply, float]] = {}
        """By number of the wait: who is answered what, and until when it may wait."""
        self._last_wait = 0
        self._submitters: set[bytes] = set()
        """Clients that have submitted tasks since their last answer."""
        self.refusal = ""
        """Why jobs take no further tasks now; empty: they do."""

    def note_submitted(self, client: ClientRecord) -> None:
        """A client has submitted tasks."""
        if self._is_on:
            self._submitters.add(client.id)

    def answer(self, client: ClientRecord, action: str, reply: m.JobReply, now: float) -> None:
        """Answer a request, once what the answer says is stored."""
        if not self._is_on or reply.error or not (action in WAITING_ACTIONS or client.id in self._submitters):
            self._outbox.send(client, reply)
            return
        self._submitters.discard(client.id)
        self._last_wait += 1
        self._held[self._last_wait] = (client.id, reply, now + STORE_SECONDS)
        self._outbox.add(effects.SyncJournal(b"", self._last_wait))

    def on_stored(self, event: events.JournalsStored) -> None:
        """What an answer waits for is stored."""
        held = self._held.pop(event.wait, None)
        if held is not None:
            self._send(*held[:2])

    def on_behind(self, event: events.JournalsBehind) -> None:
        """So much waits for the store that jobs take no further tasks, or no longer so much."""
        self.refusal = event.text

    def look(self, now: float) -> None:
        """Answer those that have waited for too long."""
        for wait, (client_id, reply, until) in list(self._held.items()):
            if now < until:
                # Later ones have later deadlines.
                break
            del self._held[wait]
            self._send(client_id, m.JobReply(reply.request, NOT_STORED_TEXT, "refused"))
        if self._submitters:
            self._submitters.intersection_update(self._clients)

    def _send(self, client_id: bytes, reply: m.JobReply) -> None:
        client = self._clients.get(client_id)
        if client is not None:
            self._outbox.send(client, reply)
