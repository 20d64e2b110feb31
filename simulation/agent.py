"""A worker host in the simulation: an agent core, its processors, the host's object cache and perhaps its store."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Envelope
from scaler_worker.core import AgentCore, AgentOptions, effects, events
from simulation.host_storage import HostStorage, StoreProcess
from simulation.ledger import Ledger
from simulation.network import Network
from simulation.object_storage import ObjectStorage
from simulation.process import Process
from simulation.processor import Processor
from simulation.programs import Library


class AgentProcess(Process):
    """One agent and everything that dies with it."""

    def __init__(
        self,
        name: str,
        network: Network,
        scheduler_addresses: tuple[str, ...],
        storage_address: str,
        ledger: Ledger,
        library: Library,
        random: Random,
        *,
        slots: int,
        capabilities: tuple[str, ...] = (),
        resources: str = "",
        devices: tuple[str, ...] = (),
        queue_limit: int = 1000,
        task_timeout_seconds: float = 0.0,
        start_home: Callable[[str], StoreProcess] | None = None,
        home_is_reachable: bool = True,
        note: Callable[[str], None],
    ) -> None:
        """`start_home` starts a store on this host, if it is to have one. `note` as in `HostStorage`."""
        super().__init__(name, network.clock, random)
        self.network = network
        self.ledger = ledger
        self.library = library
        self.incarnation = random.randbytes(16)
        self.slots = slots
        self.capabilities = capabilities
        self.processors: dict[int, Processor] = {}
        self.cache: dict[bytes, bytes] = {}
        self.stop: effects.Stop | None = None
        self.core = AgentCore(
            AgentOptions(
                name=name,
                incarnation=self.incarnation,
                worker_names=tuple(f"{name}-{slot}" for slot in range(slots)),
                capabilities=tuple((capability, -1) for capability in sorted(capabilities)),
                resources=resources,
                devices=devices,
                hostname=name,
                pid=1000,
                queue_limit=queue_limit,
                task_timeout_seconds=task_timeout_seconds,
                object_cache_bytes=2000,
                scheduler_addresses=scheduler_addresses,
            )
        )
        hello = m.Hello(m.Role.AGENT, name, self.incarnation, hostname=name)
        self.storage = ObjectStorage(network, storage_address, hello, self.incarnation + b"/storage", self.clock)
        self.storage.on_activity = lambda: self.post(lambda: None)
        self.stores = HostStorage(self, self.storage, hello, start_home, is_reachable=home_is_reachable, note=note)
        self.link = network.connect(self.incarnation, scheduler_addresses[0], self)
        self._deliver_rest = True
        self.post(events.Start())

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        self.post(events.Incoming(envelope, message))

    def take_turn(self, mail: list[Any]) -> None:
        self.stores.work()
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
        self.stores.flush()
        if self.stop is not None and (self.stop.status or self.stores.is_handed_over):
            self.stores.leave(self.stop.reason)
            self.end(gracefully=True)

    def next_deadline(self) -> float:
        return min(self.core.next_deadline(), self.stores.next_deadline())

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
        self.stores.end()
        for processor in list(self.processors.values()):
            processor.end()

    def _perform(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Send):
            self.ledger.tell_message(f"{self.name} sends", effect.message)
            self.link.send(effect.envelope, effect.message)
        elif isinstance(effect, effects.MoveLink):
            self.link.move(effect.address)
        elif isinstance(effect, effects.StartProcessor):
            self.processors[effect.processor] = Processor(self, effect.processor)
        elif isinstance(effect, effects.KillProcessor):
            processor = self.processors.get(effect.processor)
            if processor is not None:
                processor.die("killed by its agent")
        elif isinstance(effect, effects.FetchObject):
            self.stores.fetch(effect)
        elif isinstance(effect, effects.PutObject):
            self.stores.put(effect)
        elif isinstance(effect, effects.DropObject):
            self.cache.pop(effect.id, None)
        elif isinstance(effect, effects.Stop):
            self.stop = effect
            if not effect.status:
                self.stores.begin_hand_over()
            self.ledger.tell_all(f"{self.name} stops: {effect.reason}")
        elif isinstance(
            effect,
            effects.UseStorage | effects.Log | effects.MeasureMemory | effects.ReadOutput | effects.SampleProcessors,
        ):
            pass
        else:
            receiver = self.processors.get(effect.processor)
            if receiver is not None:
                receiver.receive(effect)
