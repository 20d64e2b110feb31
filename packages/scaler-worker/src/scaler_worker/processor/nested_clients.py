"""Clients inside tasks: their messages, which the agent carries, and whether they have unanswered tasks.

The agent lends the slot of a task that waits for tasks of its own. It cannot see how the task waits, so it has to know that there
is something to wait for. Word of this travels with what is sent anyway wherever it can.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from scaler_protocol.runtime.task_context import RelayAttendant, RelayReceiver
from scaler_protocol.wire.envelope import Frame
from scaler_worker.processor.records import FALSE, TRUE, Bytes, Kind, read_relay, relay_parts

ATTEND_SECONDS = 1.0
"""How often clients with unanswered tasks look whether something is due: nobody may be waiting in them."""


class NestedClients:
    """All clients of one processor.

    `send` writes a record to the agent, `wake` has the control thread look at `poll_milliseconds`; both from any thread.
    """

    def __init__(self, send: Callable[[Kind, Sequence[Bytes]], None], wake: Callable[[], None]) -> None:
        self._send = send
        self._wake = wake
        # Re-entrant, because a finalizer may submit or cancel at any moment.
        self._lock = threading.RLock()
        """Keeps what the agent is told in the order in which it becomes true."""
        self._relayed: dict[bytes, tuple[RelayReceiver, RelayAttendant]] = {}
        self._unfinished: set[bytes] = set()
        self._told = False
        self._blocked = False
        self._switching = False
        """Whether the task's thread is telling whether tasks are left unanswered."""
        self._attend_at = 0.0

    def open(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        """Tell the agent of a new client, whose messages `receiver` gets."""
        self._relayed[client] = (receiver, attendant)
        self._send(Kind.RELAY_OPEN, [client, module.encode()])
        self._wake()

    def relay(self, client: bytes, frames: Sequence[Frame]) -> None:
        """Send a message of a client to the agent."""
        with self._lock:
            kind = Kind.RELAY
            if self._unfinished and not self._told:
                self._told = True
                kind = Kind.RELAY_UNFINISHED
            self._send(kind, relay_parts(client, frames))

    def prepare(self, client: bytes, frames: Sequence[Frame]) -> tuple[Kind, list[Bytes]] | None:
        """Return the record in which the task's thread can send a message of new tasks itself.

        Without the lock, because that thread may be interrupted by code that uses the client again. That is well: nobody else
        tells the agent that nothing is unanswered, as long as a task has not been taken in by its client.
        """
        if self._switching or client not in self._relayed:
            return None
        self._unfinished.add(client)
        return Kind.RELAY if self._told else Kind.RELAY_UNFINISHED, relay_parts(client, frames)

    def note_prepared(self) -> None:
        """What was prepared has left: the agent knows."""
        self._told = True

    def deliver(self, body: bytes) -> None:
        """Pass on a message that came for a client. On the control thread."""
        client, frames = read_relay(body)
        relayed = self._relayed.get(client)
        if relayed is not None:
            relayed[0](list(frames))

    def close(self, client: bytes) -> None:
        """Tell the agent that a client has ended."""
        if self._relayed.pop(client, None) is not None:
            self.note(client, False)
            self._send(Kind.RELAY_CLOSE, [client])

    def abandon(self) -> None:
        """In a process forked from this one: the clients are the other's, and a thread that is not here may hold the lock."""
        self._lock = threading.RLock()
        self._relayed.clear()
        self._unfinished.clear()

    def note(self, client: bytes, unfinished: bool) -> None:
        """A client has unanswered tasks, or has none any more."""
        with self._lock:
            if unfinished:
                self._unfinished.add(client)
                if client in self._relayed:
                    # What it submits is about to be relayed, and says so.
                    return
            else:
                self._unfinished.discard(client)
            if not self._blocked:
                self._tell()

    def enter_blocked(self) -> None:
        """The agent lends the slot from now on: what becomes of unanswered tasks can be told when that ends."""
        with self._lock:
            self._blocked = True

    def exit_blocked(self) -> None:
        """The task goes on: tell the agent so, and whether tasks are left unanswered."""
        with self._lock:
            self._switching = True
            try:
                self._blocked = False
                self._told = bool(self._unfinished)
                self._send(Kind.UNBLOCKED, [TRUE if self._told else FALSE])
            finally:
                self._switching = False

    def _tell(self) -> None:
        unfinished = bool(self._unfinished)
        if unfinished is not self._told:
            self._told = unfinished
            self._send(Kind.UNFINISHED, [TRUE if unfinished else FALSE])

    # --- time

    @property
    def poll_milliseconds(self) -> float | None:
        """How long the control thread may sleep; None where nothing is due by itself."""
        # Whether tasks are unanswered or not: waking the thread for every first task would cost more.
        return ATTEND_SECONDS * 1000 if self._relayed else None

    def attend(self) -> None:
        """Let clients do what is due. On the control thread, whenever it wakes."""
        if self._unfinished:
            now = monotonic()
            if now >= self._attend_at:
                self._attend_at = now + ATTEND_SECONDS
                for client in list(self._unfinished):
                    relayed = self._relayed.get(client)
                    if relayed is not None:
                        relayed[1]()
