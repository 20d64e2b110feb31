"""Clients inside tasks: their messages, which the agent carries, and whether they have unanswered tasks.

The agent lends the slot of a task that waits for tasks of its own. It cannot see how the task waits, so it has to know that there
is something to wait for. Word of this travels with what is sent anyway wherever it can.

A task that goes on after a wait mostly ends at once, or waits again. So the agent is told that it goes on with its result, or
after some milliseconds, and never where it waits again before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from scaler_protocol.runtime.task_context import RelayAttendant, RelayReceiver
from scaler_protocol.wire.envelope import Frame
from scaler_worker.processor.alarm import Alarm
from scaler_worker.processor.channel import Channel, Record
from scaler_worker.processor.records import (
    FALSE,
    SEVERAL_MAX,
    TRUE,
    Bytes,
    Kind,
    read_relay,
    relay_parts,
    several_parts,
)
from scaler_worker.processor.result_buffer import ResultBuffer

ATTEND_SECONDS = 1.0
"""How often clients with unanswered tasks look whether something is due: nobody may be waiting in them."""


class NestedClients:
    """All clients of one processor.

    `send` writes a record to `channel` on behalf of the running task, `wake` has the control thread look at
    `poll_milliseconds`; both from any thread. `alarm` has it call `catch_up` soon.
    """

    def __init__(
        self,
        channel: Channel,
        send: Callable[[Kind, Sequence[Bytes]], None],
        results: ResultBuffer,
        wake: Callable[[], None],
        alarm: Alarm,
    ) -> None:
        self._channel = channel
        self._send = send
        self._results = results
        self._wake = wake
        self._alarm = alarm
        # Re-entrant, because a finalizer may submit or cancel at any moment.
        self._lock = threading.RLock()
        """Keeps what the agent is told in the order in which it becomes true."""
        self._relayed: dict[bytes, tuple[RelayReceiver, RelayAttendant]] = {}
        self._when_canceled: dict[bytes, Callable[[], None]] = {}
        self._unfinished: set[bytes] = set()
        self._told = False
        self._blocked = False
        self._goes_on_untold = False
        """Whether the task goes on after a wait, and the agent has not been told."""
        self._switching = False
        """Whether the agent is being told that the task goes on, and whether tasks are left unanswered."""
        self._attend_at = 0.0

    def open(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        """Tell the agent of a new client, whose messages `receiver` gets."""
        self._relayed[client] = (receiver, attendant)
        self._send(Kind.RELAY_OPEN, [client, module.encode()])
        self._wake()

    def on_canceled(self, client: bytes, receiver: Callable[[], None]) -> None:
        """Have `task_canceled` call this."""
        self._when_canceled[client] = receiver

    def task_canceled(self) -> None:
        """The running task ends because it was cancelled: clients cancel what it has submitted. On the task's thread."""
        for receiver in list(self._when_canceled.values()):
            receiver()

    def relay(self, client: bytes, frames: Sequence[Frame]) -> None:
        """Send a message of a client to the agent."""
        with self._lock:
            kind = Kind.RELAY
            if self._unfinished and not self._told:
                self._told = True
                kind = Kind.RELAY_UNFINISHED
            self._send(kind, relay_parts(client, frames))

    def prepare(self, client: bytes, messages: Sequence[Sequence[Frame]]) -> tuple[Kind, list[Bytes]] | None:
        """Return the record in which the task's thread can send messages of new tasks itself.

        Without the lock, because that thread may be interrupted by code that uses the client again. That is well: nobody else
        tells the agent that nothing is unanswered, as long as a task has not been taken in by its client.
        """
        # Signals whose handlers submit may add more to what is held back than one record may have.
        if client not in self._relayed or len(messages) > SEVERAL_MAX:
            return None
        # Before it looks: who tells the agent meanwhile either knows of it already, or is seen here.
        self._unfinished.add(client)
        if self._switching:
            return None
        kind = Kind.RELAY if self._told else Kind.RELAY_UNFINISHED
        if len(messages) == 1:
            return kind, relay_parts(client, messages[0])
        return Kind.SEVERAL, several_parts([(kind, relay_parts(client, frames)) for frames in messages])

    def note_prepared(self) -> None:
        """What was prepared has left: the agent knows, and nothing is put off any more."""
        self._told = True
        if not self._goes_on_untold:
            self._alarm.stop()

    def deliver(self, body: bytes) -> None:
        """Pass on a message that came for a client. On the control thread."""
        client, frames = read_relay(body)
        relayed = self._relayed.get(client)
        if relayed is not None:
            relayed[0](list(frames))

    def close(self, client: bytes) -> None:
        """Tell the agent that a client has ended."""
        self._when_canceled.pop(client, None)
        if self._relayed.pop(client, None) is not None:
            self.note(client, False)
            self._send(Kind.RELAY_CLOSE, [client])

    def abandon(self) -> None:
        """In a process forked from this one: the clients are the other's, and a thread that is not here may hold the lock."""
        self._lock = threading.RLock()
        self._relayed.clear()
        self._when_canceled.clear()
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
            if not (self._blocked or self._goes_on_untold):
                self._tell()

    def enter_blocked(self) -> bool:
        """The agent lends the slot from now on: what becomes of unanswered tasks can be told when that ends.

        Return whether it has to be told; it does not where it was not told that the last wait has ended.
        """
        with self._lock:
            self._blocked = True
            knows = self._goes_on_untold
            if knows:
                self._forget_word()
            return not knows

    def exit_blocked(self) -> None:
        """The task goes on: the agent is told so soon, and whether tasks are left unanswered."""
        with self._lock:
            self._blocked = False
            self._goes_on_untold = True
            self._results.send = self._send_with_word
            self._alarm.set()

    def _send_with_word(self, kind: Kind, parts: Sequence[Bytes]) -> None:
        """Send results, and before them, in the same packet, that the task went on."""
        with self._lock:
            word = self._take_word()
            try:
                if word is not None:
                    self._channel.send_together(word, (kind, parts))
                else:
                    self._channel.send(kind, parts)
            finally:
                self._switching = False

    def _tell_word(self) -> None:
        with self._lock:
            word = self._take_word()
            try:
                if word is not None:
                    self._channel.send(*word)
            finally:
                self._switching = False

    def _take_word(self) -> Record | None:
        """Return the record that says that the task goes on, if that is to be told. It is sent before `_switching` ends."""
        if not self._goes_on_untold:
            return None
        self._switching = True
        self._told = bool(self._unfinished)
        self._forget_word()
        return Kind.UNBLOCKED, [TRUE if self._told else FALSE]

    def _forget_word(self) -> None:
        self._goes_on_untold = False
        self._results.send = self._channel.send
        self._alarm.stop()

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

    def put_off(self) -> None:
        """A client has put off what the task's thread wants of it: `catch_up` is called soon. On that thread."""
        self._alarm.set()

    def catch_up(self) -> None:
        """Do what was put off, and did not come together with anything else. On the control thread."""
        for _, attendant in list(self._relayed.values()):
            attendant()
        self._tell_word()

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
