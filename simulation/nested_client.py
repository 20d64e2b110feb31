"""The client inside a simulated processor: tasks submit tasks of their own through it, and its messages travel with the agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scaler.core import ClientCore
from scaler.core import events as client_events
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Envelope, decode_envelope, encode_envelope
from scaler_worker.core import effects, events
from simulation.client import ClientDriver
from simulation.ledger import Entry
from simulation.programs import Program
from simulation.worker_host import WorkerHost


class NestedClient:
    """Made by the first task that submits one; it ends with its processor. `tell` reports events to the agent."""

    def __init__(
        self, host: WorkerHost, processor: int, tell: Callable[[events.Event], None], on_task_ended: Callable[[], None]
    ) -> None:
        self._host = host
        self._processor = processor
        self._tell = tell
        self._told_unfinished = False
        self.id = host.random.randbytes(16)
        name = f"inside {host.name}/processor {processor}"
        self._core = ClientCore(self.id, m.Hello(m.Role.CLIENT, name, self.id, hostname="worker host"))
        self._driver = ClientDriver(self._core, host.ledger, host.clock, self._relay, host.storage, host.random)
        self._driver.on_ended = lambda _: on_task_ended()
        tell(events.RelayOpened(processor, self.id))
        self._core.start(host.clock.now)

    # --- what tasks do

    def submit(self, parent: Program, depth: int) -> list[Entry] | None:
        """Submit the children of a program, all of them wanted; None if the client is disconnected."""
        driver, programs = self._driver, [self._host.library[number] for number in parent.children]
        if parent.needs and not parent.links_children:
            self._host.ledger.kinds["graphs in tasks"] += 1
            return driver.submit_graph(programs, parent.needs, range(len(programs)), depth=depth) or None
        entries: list[Entry] = []
        for place, program in enumerate(programs):
            needed = [entries[one] for one in parent.needs[place]] if parent.needs else []
            self._host.ledger.kinds["futures as arguments in tasks"] += bool(needed)
            entry = (
                driver.submit_linked(program, needed, depth=depth) if needed else driver.submit(program, depth=depth)
            )
            if entry is None:
                return None
            entries.append(entry)
        return entries

    def cancel(self, entries: Sequence[Entry]) -> None:
        self._driver.cancel(list(entries))

    def end(self) -> None:
        """The processor has ended: nobody waits for the answers any more."""
        for entry in list(self._driver.entries.values()):
            self._host.ledger.forgotten(entry)
        self._driver.entries.clear()

    # --- its turns

    def work(self) -> None:
        """Do what is due and what follows from it."""
        if self._host.clock.now >= self._core.next_deadline():
            self._driver.handle(client_events.Tick())
        self._driver.perform()

    def next_deadline(self) -> float:
        return self._core.next_deadline()

    def receive(self, event: effects.DeliverRelay) -> None:
        """Take a message that the scheduler has sent to a client inside this processor."""
        if event.client == self.id:
            envelope = decode_envelope(event.frames[0])
            self._driver.handle(client_events.Incoming(envelope, decode([bytes(frame) for frame in event.frames[1:]])))

    # --- what the agent is told

    def tell_unblocked(self) -> None:
        """The task goes on."""
        self._told_unfinished = self._core.unanswered_count > 0
        self._tell(events.ProcessorUnblocked(self._processor, self._told_unfinished))

    def tell_unfinished(self) -> None:
        """Say whether tasks are unanswered, where the agent does not know it."""
        unfinished = self._core.unanswered_count > 0
        if unfinished is not self._told_unfinished:
            self._told_unfinished = unfinished
            self._tell(events.ProcessorUnfinished(self._processor, unfinished))

    def _relay(self, envelope: Envelope, message: m.Message) -> None:
        if self._core.unanswered_count:
            self.tell_unfinished()
        frames = [encode_envelope(envelope), *(bytes(frame) for frame in encode(message))]
        self._tell(events.RelayFrames(self._processor, self.id, list(frames)))
