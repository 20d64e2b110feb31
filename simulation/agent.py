"""A worker host in the simulation: an agent core, its processors and the host's object cache."""

from __future__ import annotations

from random import Random
from typing import Any

from scaler_protocol.objects.storage import Done, Missing, Refused, TimedOut
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope
from scaler_worker.core import AgentCore, AgentOptions, effects, events
from simulation.client import ObjectStorage
from simulation.ledger import Ledger
from simulation.network import Network
from simulation.process import Process
from simulation.processor import Processor
from simulation.programs import Library

FETCH_WAIT_S = 10.0
"""How long an object that is named but not there yet is waited for."""


class AgentProcess(Process):
    """One agent and everything that dies with it."""

    def __init__(
        self,
        name: str,
        network: Network,
        scheduler_address: str,
        storage_address: str,
        ledger: Ledger,
        library: Library,
        random: Random,
        *,
        slots: int,
        capabilities: tuple[str, ...] = (),
        queue_limit: int = 1000,
        task_timeout_seconds: float = 0.0,
    ) -> None:
        super().__init__(name, network.clock, random)
        self.ledger = ledger
        self.library = library
        self.incarnation = random.randbytes(16)
        self.slots = slots
        self.capabilities = capabilities
        self.processors: dict[int, Processor] = {}
        self.cache: dict[bytes, bytes] = {}
        self.stop_reason = ""
        self.core = AgentCore(
            AgentOptions(
                name=name,
                incarnation=self.incarnation,
                worker_names=tuple(f"{name}-{slot}" for slot in range(slots)),
                capabilities=tuple((capability, -1) for capability in sorted(capabilities)),
                hostname=name,
                pid=1000,
                queue_limit=queue_limit,
                task_timeout_seconds=task_timeout_seconds,
                object_cache_bytes=2000,
            )
        )
        hello = m.Hello(m.Role.AGENT, name, self.incarnation, hostname=name)
        self.storage = ObjectStorage(network, storage_address, hello, self.incarnation, self.clock)
        self.storage.on_activity = lambda: self.post(lambda: None)
        self.link = network.connect(self.incarnation, scheduler_address, self)
        self._deliver_rest = True
        self.post(events.Start())

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        self.post(events.Incoming(envelope, message))

    def take_turn(self, mail: list[Any]) -> None:
        self.storage.work()
        for event in mail:
            if callable(event):
                event()
            else:
                if isinstance(event, events.Incoming):
                    self.ledger.tell_message(f"{self.name} receives", event.message)
                self.core.handle(event, self.clock.now)
        if self.clock.now >= self.core.next_deadline():
            self.core.handle(events.Tick(), self.clock.now)
        to_do = self.core.take_effects()
        self.core.check_invariants()
        for effect in to_do:
            self._perform(effect)
        self.storage.flush()
        if self.stop_reason:
            self.end(gracefully=True)

    def next_deadline(self) -> float:
        return min(self.core.next_deadline(), self.storage.next_deadline())

    def drain(self, grace_seconds: float) -> None:
        """Ask the agent to finish what runs and leave."""
        self.post(events.StopRequested("asked to stop", grace_seconds))

    def end(self, *, gracefully: bool = False) -> None:
        self._deliver_rest = gracefully or self.random.random() < 0.5
        super().end()

    def processor_ended(self, number: int) -> None:
        self.processors.pop(number, None)

    def after_end(self) -> None:
        self.link.close(deliver_rest=self._deliver_rest)
        self.storage.link.close(deliver_rest=self._deliver_rest)
        for processor in list(self.processors.values()):
            processor.end()

    def _perform(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Send):
            self.ledger.tell_message(f"{self.name} sends", effect.message)
            self.link.send(effect.envelope, effect.message)
        elif isinstance(effect, effects.StartProcessor):
            self.processors[effect.processor] = Processor(self, effect.processor)
        elif isinstance(effect, effects.KillProcessor):
            processor = self.processors.get(effect.processor)
            if processor is not None:
                processor.die("killed by its agent")
        elif isinstance(effect, effects.FetchObject):
            self._fetch(effect)
        elif isinstance(effect, effects.PutObject):
            self._put(effect)
        elif isinstance(effect, effects.DropObject):
            self.cache.pop(effect.id, None)
        elif isinstance(effect, effects.Stop):
            self.stop_reason = effect.reason
            self.ledger.tell_all(f"{self.name} stops: {effect.reason}")
        elif isinstance(effect, effects.UseStorage | effects.Log):
            pass
        else:
            receiver = self.processors.get(effect.processor)
            if receiver is not None:
                receiver.receive(effect)

    def _fetch(self, effect: effects.FetchObject) -> None:
        def answered(completion: Done | Missing | Refused | TimedOut) -> None:
            if isinstance(completion, Done):
                content = bytes(completion.buffers[1])
                self.cache[effect.id] = content
                event = events.ObjectFetched(effect.request, size_bytes=len(content))
            elif isinstance(completion, Missing):
                event = events.ObjectFetched(effect.request, missing=True)
            else:
                event = events.ObjectFetched(effect.request, error=str(completion))
            self.core.handle(event, self.clock.now)

        self.storage.get(effect.id, FETCH_WAIT_S, answered)

    def _put(self, effect: effects.PutObject) -> None:
        def answered(completion: Done | Missing | Refused | TimedOut) -> None:
            if isinstance(completion, Done):
                event = events.ObjectStored(effect.request)
            else:
                event = events.ObjectStored(effect.request, str(completion))
            self.core.handle(event, self.clock.now)

        self.storage.put(effect.id, effect.owner, self.cache[effect.id], answered)
