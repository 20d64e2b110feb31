"""Tasks that wait for tasks of their own, and the clients inside processors through which they do.

Who holds a slot and who lends it is decided in `lending`; here is what processors say about it, and what the scheduler is told.
"""

from __future__ import annotations

from math import inf

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core import effects, events
from scaler_worker.core.capacity import Capacity
from scaler_worker.core.processors import Processor
from scaler_worker.core.returns import TaskReturns
from scaler_worker.core.state import AgentState

CLIENTS_MAX = 1000
"""Clients that live in one processor at once."""

RETURN_REPEAT_SECONDS = 1.0
"""How often tasks that may not start are given back again, while they may not."""


class Nesting:
    """Alone writes which clients live in a processor."""

    def __init__(self, state: AgentState, capacity: Capacity, returns: TaskReturns) -> None:
        self._state = state
        self._lending = state.lending
        self._processors = state.processors.by_number
        self._capacity = capacity
        self._returns = returns
        self.processor_of_client: dict[bytes, int] = {}
        """Clients inside tasks: the processor each lives in."""
        self._introduced: set[bytes] = set()
        """Those of which the scheduler has been sent a message, so that it may know them."""
        self.unreported_disconnects: list[bytes] = []
        """Clients inside tasks that have ended, and of which the scheduler knows; it has not been told yet.

        While no session stands no client can be introduced, so there are never more than lived when the session ended,
        however many a task makes meanwhile.
        """
        self.refusal = ""
        """Why the scheduler does not let this agent in any more; empty while it does."""
        self.return_at = inf
        """When tasks that may not start here are given back to the scheduler next (see `make_room`)."""

    # --- tasks that wait

    def on_blocked(self, event: events.ProcessorBlocked, now: float) -> None:
        """A task waits for tasks of its own: lend its slot, and take back the tasks behind it."""
        processor = self._processors.get(event.processor)
        if processor is None:
            return
        self._returns.take_back(processor, event.generation, event.next_index)
        if processor.state in (State.RUNNING, State.BLOCKED):
            self._lending.block(processor)
            self.return_at = now

    def on_unblocked(self, event: events.ProcessorUnblocked, now: float) -> None:
        """A task that waited goes on: take its slot back."""
        processor = self._processors.get(event.processor)
        if processor is not None:
            self._lending.unblock(processor, event.unfinished, now)

    def on_unfinished(self, event: events.ProcessorUnfinished, now: float) -> None:
        """The clients in a processor have begun to have unanswered tasks, or have none any more."""
        processor = self._processors.get(event.processor)
        if processor is not None:
            self._lending.note_unfinished(processor, event.unfinished, now)

    def make_room(self, now: float) -> None:
        """Give back tasks that may not start, where they take the room of deeper ones that could come in their place.

        Without this the queue could be full of tasks that may not start, while the one all others wait for cannot come.
        Looked at whenever a task blocks or lending becomes due, and repeatedly, because the deeper one may become known to the
        scheduler later.
        """
        state, lending, queue = self._state, self._lending, self._state.queue
        closed = lending.closed_depths()
        lending_due = now >= lending.due_at()
        if not closed and not lending_due:
            self.return_at = inf
            return
        self.return_at = now + RETURN_REPEAT_SECONDS
        too_many = self._capacity.held() - self._capacity.wanted(now)
        if not queue.count or too_many < 0 or not state.connection.established:
            return
        if state.processors.counts[State.RUNNING] < state.slots:
            if queue.head(closed) is None:
                self._returns.give_back_queued(queue.count)
        elif lending_due and not lending.nested_count(1):
            # Slots are not lent to what is queued here. The scheduler sends the deepest tasks first.
            self._returns.give_back_queued(too_many + state.slots)

    # --- clients inside processors

    def fault_of(self, event: events.RelayOpened) -> str:
        """Return what is wrong with a client that a processor says it has, as the end of a sentence; empty if nothing is.

        An id that is another's would have the scheduler close the connection of this agent, again and again.
        """
        if not event.client.startswith(self._state.options.identity_prefix):
            return "has a client whose id is not one of this worker's"
        if self.processor_of_client.get(event.client, event.processor) != event.processor:
            return "has a client of another processor"
        processor = self._processors.get(event.processor)
        if processor is not None and len(processor.clients) >= CLIENTS_MAX:
            return f"has more than {CLIENTS_MAX} clients"
        return ""

    def on_relay_opened(self, event: events.RelayOpened, now: float) -> None:
        """A client inside a task has been made."""
        processor = self._processors.get(event.processor)
        if processor is not None:
            processor.clients.add(event.client)
            self.processor_of_client[event.client] = event.processor
            if self.refusal:
                self._state.outbox.add(effects.RefuseClient(event.processor, event.client, self.refusal))

    def on_relay_frames(self, event: events.RelayFrames, now: float) -> None:
        """Pass a message of a client inside a task on to the scheduler."""
        processor = self._processors.get(event.processor)
        if processor is not None:
            if event.unfinished:
                self._lending.note_unfinished(processor, True, now)
            if processor.state is State.RUNNING and self._lending.waits_unseen(processor, now):
                # This may be a task that needs room here: the scheduler hears of it before it hears of the room.
                self.return_at = now
        # Relays are plain: before the session stands they are lost, and the client inside repeats them.
        connection = self._state.connection
        if connection.established and self.processor_of_client.get(event.client) == event.processor:
            self._introduced.add(event.client)
            connection.send_plain(m.Relay(event.client, [bytes(frame) for frame in event.frames]))

    def on_relay_closed(self, event: events.RelayClosed, now: float) -> None:
        """A client inside a task has ended."""
        processor = self._processors.get(event.processor)
        if processor is not None and event.client in processor.clients:
            processor.clients.discard(event.client)
            self._client_ended(event.client)

    def deliver_relay(self, message: m.Relay, now: float) -> None:
        """Pass the scheduler's message to the client inside a processor that it is for."""
        number = self.processor_of_client.get(message.client)
        if number is not None:
            self._state.outbox.add(effects.DeliverRelay(number, message.client, message.inner))

    def refuse_clients(self, reason: str) -> None:
        """The scheduler does not let this agent in any more: no client inside a task can go on."""
        self.refusal = reason
        for client, processor in self.processor_of_client.items():
            self._state.outbox.add(effects.RefuseClient(processor, client, reason))

    def forget(self, processor: Processor) -> None:
        """Note that a processor has ended, and the clients inside with it."""
        self._lending.forget(processor)
        for client in sorted(processor.clients):
            self._client_ended(client)

    def report_disconnects(self) -> None:
        """Tell the scheduler which clients have ended. Only while a session stands."""
        for client in self.unreported_disconnects:
            self._state.connection.send(m.ClientGone(client))
        self.unreported_disconnects.clear()

    def _client_ended(self, client: bytes) -> None:
        self.processor_of_client.pop(client, None)
        if client in self._introduced:
            self._introduced.remove(client)
            self.unreported_disconnects.append(client)
