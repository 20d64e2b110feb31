"""The two services of the simulated cluster: the scheduler and the object storage server."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random
from typing import Any

from scaler_objstore.core import Limits, MemoryStorage, StoreCore
from scaler_objstore.core import effects as store_effects
from scaler_objstore.core import events as store_events
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope, decode_envelope, encode_envelope
from scaler_protocol.wire.object_batches import joined, rows_of
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events
from scaler_scheduler.core.group_lifecycle import GroupLifecycle
from scaler_scheduler.core.succession import FIRST_TERM, STANDBYS_TEXT, Change, Succession
from simulation.disk import Disk, DiskThreads
from simulation.fairness import FairnessWatch
from simulation.group_watch import GroupWatch
from simulation.ledger import Ledger
from simulation.locality_watch import LocalityWatch
from simulation.network import Network
from simulation.object_storage import ObjectStorage
from simulation.piece_fetch import PIECES_OBJECT_BYTES_MIN
from simulation.process import Process
from simulation.storage_watch import StorageWatch

LEASE_S = 3.0
"""How long the first of two schedulers may be silent."""

STORE_RETENTION_S = 60.0
"""How long objects stay of whose owner nothing is heard."""


class SchedulerProcess(Process):
    """The scheduler core behind its ROUTER."""

    def __init__(
        self,
        network: Network,
        address: str,
        storage_address: str,
        ledger: Ledger,
        random: Random,
        *,
        standby_of: str = "",
        name: str = "scheduler",
        **settings: Any,
    ) -> None:
        super().__init__(name, network.clock, random)
        self.network = network
        self.address = address
        self.ledger = ledger
        self.incarnation = random.randbytes(16)
        self.stop_reason = ""
        self.published = 0
        self.succession = Succession(
            self.incarnation, dials=bool(standby_of), lease_seconds=LEASE_S, now=self.clock.now
        )
        self.change: Change | None = None
        self.times_taken_over = 0
        self._config = SchedulerConfig(
            incarnation=self.incarnation, object_storage_address=storage_address, term=FIRST_TERM, **settings
        )
        self._other = None if not standby_of else network.connect(self.incarnation, standby_of, _Answers(self))
        self.monitors = random.randint(0, 1)
        self._begin()
        network.listen(address, self)
        self.plan_deadline()

    def _begin(self) -> None:
        """Begin as what this scheduler is now, with nothing of what it was before."""
        self.core = SchedulerCore(self._config, self.clock.now)
        if self._other is not None or self.times_taken_over:
            config = replace(self._config, is_first=self.succession.is_first, term=self.succession.term)
            self.core = SchedulerCore(replace(config, incarnation=self.incarnation), self.clock.now)
        # Where clients are in groups, they wait for those of other groups too.
        self.fairness = None if self._config.shares else FairnessWatch(self.core._state.ready)
        self.groups = GroupWatch(self.core._lifecycle) if isinstance(self.core._lifecycle, GroupLifecycle) else None
        LocalityWatch(self.core._placement, self.ledger)
        hello = m.Hello(m.Role.SCHEDULER, self.name, self.incarnation, term=self.core.config.term)
        identity = self.incarnation + b"/storage"
        self.storage = ObjectStorage(
            self.network,
            self._config.object_storage_address,
            hello,
            identity,
            self.clock,
            known_clients=lambda: m.ClientsKnown(self.core.known_clients()),
        )
        self.storage.on_activity = lambda: self.post(lambda: None)
        self.storage.on_message = self._on_storage_message
        self.storage.on_welcome = lambda: self.core.handle(events.StoreReplaced(), self.clock.now)

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        self.post((peer, envelope, message))

    def take_turn(self, mail: list[Any]) -> None:
        self.storage.work()
        now = self.clock.now
        for event in mail:
            if callable(event):
                event()
                continue
            peer, envelope, message = event
            if isinstance(message, m.SchedulerStatus) and message.answers:
                self.note(self.succession.on_status(message, now))
                continue
            self._receive(peer, envelope, message)
            if isinstance(message, m.Relay):
                inside = events.RelayedPeer(peer, message.client)
                frames = [bytes(frame) for frame in message.inner]
                self._receive(inside, decode_envelope(frames[0]), decode(frames[1:]))
        if now >= self.core.next_deadline():
            self.core.handle(events.Tick(monitors=self.monitors, unix_time=now, events=bool(self.monitors)), now)
        # Performing effects tells the core of peers without a connection, which may have effects again.
        while due := self.core.take_effects():
            for effect in due:
                self._perform(effect)
        self.core.check_invariants()
        self.storage.flush()
        if self.change is not None:
            self._change_role(self.change)
        self.succession.tick(now)
        for status in self.succession.take_outgoing():
            if self._other is not None and self._other.connected:
                self._other.send(UNSEQUENCED, status)
        if self.stop_reason:
            self.end()

    def note(self, change: Change | None) -> None:
        """Remember what this scheduler is to become, at the end of its turn."""
        self.change = change or self.change

    def _change_role(self, change: Change) -> None:
        self.ledger.tell_all(f"{self.name}: {change.value} (term {self.succession.term})")
        self.change = None
        self.times_taken_over += 1
        if change is Change.STEP_DOWN:
            self.core.dismiss_peers()
            for effect in self.core.take_effects():
                self._perform(effect)
        self.incarnation = self.random.randbytes(16)
        self.storage.link.close(deliver_rest=True)
        self._begin()

    def next_deadline(self) -> float:
        return min(self.core.next_deadline(), self.storage.next_deadline(), self.succession.next_deadline())

    def after_end(self) -> None:
        if self._other is not None:
            self._other.close(deliver_rest=False)
        self.network.stop_listening(self.address, deliver_rest=bool(self.stop_reason))
        self.storage.link.close(deliver_rest=bool(self.stop_reason))

    def _on_storage_message(self, message: m.Message) -> None:
        if isinstance(message, m.ObjectsLost):
            self.ledger.tell_all(f"the scheduler is told that {len(message.ids)} objects are lost with {message.host}")
            self.core.handle(events.ObjectsLost(message.host, message.ids), self.clock.now)

    def _receive(self, peer: bytes | events.RelayedPeer, envelope: Envelope, message: m.Message) -> None:
        self.ledger.tell_message("scheduler receives", message)
        self.core.handle(events.Incoming(peer, envelope, message), self.clock.now)

    def _perform(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Send):
            self.ledger.tell_message("scheduler sends", effect.message)
            self._send(effect)
        elif isinstance(effect, effects.Disconnect):
            self.network.disconnect(self.address, effect.peer)
        elif isinstance(effect, effects.ToStore):
            if isinstance(effect.message, m.ObjectDelete):
                self.storage.delete(effect.message.ids, effect.message.owner)
            elif isinstance(effect.message, m.ClientGone):
                self.storage.end_owner(effect.message.client)
            elif isinstance(effect.message, m.Shutdown | m.ObjectsGone):
                self.storage.tell(effect.message)
        elif isinstance(effect, effects.KeepOwner):
            self.storage.keep_owner(effect.client)
        elif isinstance(effect, effects.PeerAsked):
            self.note(self.succession.on_asked(effect.term, self.clock.now))
        elif isinstance(effect, effects.StatusHeard):
            self._answer(effect)
        elif isinstance(effect, effects.Publish):
            self.published += 1
        elif isinstance(effect, effects.Stop):
            self.stop_reason = effect.reason
        elif isinstance(effect, effects.Log):
            self.ledger.tell_all(f"scheduler: {effect.text}")

    def _answer(self, effect: effects.StatusHeard) -> None:
        now = self.clock.now
        answer: m.Message = m.Refused(STANDBYS_TEXT)
        if self.succession.accepts(effect.status, now):
            self.note(self.succession.on_status(effect.status, now))
            answer = self.succession.status(answers=True)
        self.network.send(self.address, effect.peer, UNSEQUENCED, answer)

    def _send(self, effect: effects.Send) -> None:
        peer, envelope, message, around = effect
        if isinstance(peer, events.RelayedPeer):
            assert around is not None
            frames = [encode_envelope(envelope), *(bytes(frame) for frame in encode(message))]
            envelope, message = around, m.Relay(peer.client, frames)
            peer = peer.agent
        if not self.network.send(self.address, peer, envelope, message):
            self.core.handle(events.PeerUnreachable(peer, "no connection"), self.clock.now)


class _Answers:
    """What arrives at the connecting end of the link between two schedulers."""

    def __init__(self, process: SchedulerProcess) -> None:
        self._process = process

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        if isinstance(message, m.SchedulerStatus):
            self._process.post((peer, envelope, message))
        elif isinstance(message, m.Refused):
            self._process.succession.on_refused()


def _content_hash(buffers: Any) -> Any:
    digest = hashlib.blake2b(digest_size=16)
    for buffer in buffers:
        digest.update(len(buffer).to_bytes(8, "little") + bytes(buffer))
    return digest.digest()


class StorageProcess(Process):
    """The object storage core behind its ROUTER, with a disk below it if there is one."""

    def __init__(
        self,
        network: Network,
        address: str,
        random: Random,
        ledger: Ledger,
        watch: StorageWatch,
        *,
        memory_limit_bytes: int,
        disk: Disk | None = None,
        disk_limit_bytes: int | None = None,
        name: str = "object storage",
    ) -> None:
        super().__init__(name, network.clock, random)
        self.network = network
        self.address = address
        self.ledger = ledger
        self.watch = watch
        limits = Limits(retention_seconds=STORE_RETENTION_S, pieces_object_bytes_min=PIECES_OBJECT_BYTES_MIN)
        self.core = StoreCore(random.randbytes(16), MemoryStorage(memory_limit_bytes), _content_hash, limits)
        self.disk = disk
        self.threads: DiskThreads | None = None
        self.stop_reason = ""
        if disk is not None:
            self.threads = DiskThreads(disk, self.clock, random, self.post)
            self.core.use_tier(disk_limit_bytes)
            self.core.handle(store_events.Restored(disk.stored()), self.clock.now)
            self._perform()
            watch.started(self.core)
            self.plan_deadline()
        network.listen(address, self)

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        for row in rows_of(message) if isinstance(message, m.ObjectBatch) else (message,):
            self.post(store_events.Incoming(peer, row))

    def take_turn(self, mail: list[Any]) -> None:
        self.watch.before(mail)
        for event in mail:
            self.core.handle(event, self.clock.now)
        if self.clock.now >= self.core.next_deadline():
            self.core.handle(store_events.Tick(), self.clock.now)
        self._perform()
        if self.stop_reason:
            self.end()

    def next_deadline(self) -> float:
        return self.core.next_deadline()

    def after_end(self) -> None:
        self.network.stop_listening(self.address, deliver_rest=bool(self.stop_reason))
        if self.threads is not None:
            self.threads.ended = True
        self.watch.died(self.core, self.disk, self.threads)

    def _perform(self) -> None:
        due = self.core.take_effects()
        self.core.check_invariants()
        self.watch.after(self.core, due, self.clock.now)
        messages: dict[bytes, list[m.Message]] = {}
        for effect in due:
            if isinstance(effect, store_effects.Send):
                messages.setdefault(effect.peer, []).append(effect.message)
            elif isinstance(effect, store_effects.Stop):
                self.stop_reason = effect.reason
            elif isinstance(effect, store_effects.Log):
                self.ledger.tell_all(f"{self.name}: {effect.text}")
            elif self.threads is not None and isinstance(
                effect, store_effects.Spill | store_effects.Load | store_effects.Discard
            ):
                self.threads.perform(effect)
        for peer, to_peer in messages.items():
            for message in joined(to_peer):
                if not self.network.send(self.address, peer, UNSEQUENCED, message):
                    self.post(store_events.PeerGone(peer))
        if self.disk is not None and self.threads is not None:
            self.watch.check_limits(self.core, self.disk, self.threads)
