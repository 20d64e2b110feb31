"""A worker host in the simulation: an agent core, its processors and the host's object cache."""

from __future__ import annotations

from random import Random
from typing import Any

from scaler_protocol.objects.storage import Done, Missing, Refused, TimedOut
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope
from scaler_worker.core import AgentCore, AgentOptions, check_invariants
from scaler_worker.core import effects as do
from scaler_worker.core import events as on
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
        self.core.start(self.clock.now)
        self.post(lambda: None)

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        self.post(on.Incoming(envelope, message))

    def take_turn(self, events: list[Any]) -> None:
        self.storage.work()
        for event in events:
            if callable(event):
                event()
            else:
                if isinstance(event, on.Incoming):
                    self.ledger.tell_message(f"{self.name} receives", event.message)
                self.core.handle(event, self.clock.now)
        if self.clock.now >= self.core.next_deadline():
            self.core.handle(on.Tick(), self.clock.now)
        effects = self.core.take_effects()
        check_invariants(self.core)
        for effect in effects:
            self._perform(effect)
        self.storage.flush()
        if self.stop_reason:
            self.end(gracefully=True)

    def next_deadline(self) -> float:
        return min(self.core.next_deadline(), self.storage.next_deadline())

    def drain(self, grace_seconds: float) -> None:
        """Ask the agent to finish what runs and leave."""
        self.post(on.StopRequested("asked to stop", grace_seconds))

    def end(self, *, gracefully: bool = False) -> None:
        self._deliver_rest = gracefully or self.random.random() < 0.5
        super().end()

    def after_end(self) -> None:
        self.link.close(deliver_rest=self._deliver_rest)
        self.storage.link.close(deliver_rest=self._deliver_rest)
        for processor in list(self.processors.values()):
            processor.end()

    def _perform(self, effect: do.Effect) -> None:
        if isinstance(effect, do.Send):
            self.ledger.tell_message(f"{self.name} sends", effect.message)
            self.link.send(effect.envelope, effect.message)
        elif isinstance(effect, do.StartProcessor):
            self.processors[effect.processor] = Processor(self, effect.processor)
        elif isinstance(effect, do.KillProcessor):
            processor = self.processors.get(effect.processor)
            if processor is not None:
                processor.die("killed by its agent")
        elif isinstance(effect, do.FetchObject):
            self._fetch(effect)
        elif isinstance(effect, do.PutObject):
            self._put(effect)
        elif isinstance(effect, do.DropObject):
            self.cache.pop(effect.id, None)
        elif isinstance(effect, do.Stop):
            self.stop_reason = effect.reason
            self.ledger.tell_all(f"{self.name} stops: {effect.reason}")
        elif isinstance(effect, do.UseStorage | do.Log):
            pass
        else:
            receiver = self.processors.get(effect.processor)
            if receiver is not None:
                receiver.receive(effect)

    def _fetch(self, effect: do.FetchObject) -> None:
        def answered(completion: Done | Missing | Refused | TimedOut) -> None:
            if isinstance(completion, Done):
                content = bytes(completion.buffers[1])
                self.cache[effect.id] = content
                event = on.ObjectFetched(effect.request, size_bytes=len(content))
            elif isinstance(completion, Missing):
                event = on.ObjectFetched(effect.request, missing=True)
            else:
                event = on.ObjectFetched(effect.request, error=str(completion))
            self.core.handle(event, self.clock.now)

        self.storage.get(effect.id, FETCH_WAIT_S, answered)

    def _put(self, effect: do.PutObject) -> None:
        def answered(completion: Done | Missing | Refused | TimedOut) -> None:
            if isinstance(completion, Done):
                event = on.ObjectStored(effect.request)
            else:
                event = on.ObjectStored(effect.request, str(completion))
            self.core.handle(event, self.clock.now)

        self.storage.put(effect.id, effect.owner, self.cache[effect.id], answered)
