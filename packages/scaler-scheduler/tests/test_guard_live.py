"""Intruders at a listener with keys, with the real core behind it and honest peers that must not notice."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import FUNCTION, definition

from scaler_protocol.address import Address
from scaler_protocol.security.audit import AuditLog
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import KeyPair, new_key_pair, pinned_id
from scaler_protocol.session import Connection, Received
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener
from scaler_protocol.transport.admission import RefusalKind
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope, decode_envelope, encode_envelope
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events
from scaler_scheduler.guard import Guard

WAIT_SECONDS = 20.0


class Peer:
    """A peer that keeps to the protocol."""

    def __init__(self, scheduler: Scheduler, role: KeyRole, hello: Callable[[bytes], m.Hello]) -> None:
        self.keys = scheduler.add_key(role)
        self.id = pinned_id(self.keys.public)
        self.link = DealerLink(scheduler.address, self.id, PeerSecurity(self.keys, scheduler.security.own.public))
        self.connection = Connection(hello(self.id))
        self.received: list[m.Message] = []
        self.connection.start(time.monotonic())

    def pump(self) -> None:
        now = time.monotonic()
        self.connection.tick(now)
        for frames in self.link.receive(100):
            for event in self.connection.receive(decode_envelope(frames[0]), decode(frames[1:]), now):
                if isinstance(event, Received):
                    self.received.append(event.message)
        outgoing, self.connection.outgoing = self.connection.outgoing, []
        for envelope, message in outgoing:
            self.link.send([encode_envelope(envelope), *encode(message)])

    def take(self, kind: type[Any]) -> list[Any]:
        found = [message for message in self.received if isinstance(message, kind)]
        self.received = [message for message in self.received if not isinstance(message, kind)]
        return found


class Scheduler:
    """Listener, guard and core, in the thread of the test."""

    def __init__(self, log_path: Path) -> None:
        self.security = ServerSecurity(new_key_pair())
        self.log_path = log_path
        self.core = SchedulerCore(SchedulerConfig(incarnation=bytes(16)), time.monotonic())
        self.router = RouterListener("tcp://127.0.0.1:0", security=self.security, on_refused=self._on_refused)
        self.address = self.router.address
        self.audit = AuditLog(log_path, "scheduler")
        self.guard = Guard(self.core, self.router, keyed=True, audit=self.audit)
        self.peers: list[Peer] = []
        self.intruders: list[DealerLink] = []

    def _on_refused(self, address: str, kind: RefusalKind, reason: str) -> None:
        self.guard.doorkeeper.note_refused_connection(address, kind, reason)

    def add_key(self, role: KeyRole) -> KeyPair:
        keys = new_key_pair()
        others = [known for known in self.security.allowed if known.role is not KeyRole.SCHEDULER]
        self.security.allow([*others, Authority(str(role), role, keys.public)])
        return keys

    def join(self, role: KeyRole, hello: Callable[[bytes], m.Hello]) -> Peer:
        self.peers.append(Peer(self, role, hello))
        self.wait(lambda: self.peers[-1].connection.established)
        return self.peers[-1]

    def intrude(self, keys: KeyPair, identity: bytes, server: bytes | None = None) -> DealerLink:
        security = PeerSecurity(keys, self.security.own.public if server is None else server)
        self.intruders.append(DealerLink(self.address, identity, security))
        return self.intruders[-1]

    def pump(self) -> None:
        now = time.monotonic()
        for identity, frames in self.router.receive(256):
            envelope, message = decode_envelope(frames[0]), decode(frames[1:])
            self.guard.handle(events.Incoming(identity, envelope, message), now)
            if isinstance(message, m.Relay) and message.inner:
                inner = decode_envelope(message.inner[0]), decode(message.inner[1:])
                self.guard.handle(events.Incoming(events.RelayedPeer(identity, message.client), *inner), now)
        self.core.check_invariants()
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send) and isinstance(effect.peer, bytes):
                self.router.send(effect.peer, [encode_envelope(effect.envelope), *encode(effect.message)])
            elif isinstance(effect, effects.Disconnect):
                self.router.disconnect(effect.peer)
        self.router.flush()
        for peer in self.peers:
            peer.pump()
        for intruder in self.intruders:
            intruder.receive(100)
            intruder.flush()

    def wait(self, condition: Callable[[], object]) -> None:
        wait_until(condition, WAIT_SECONDS, what=lambda: f"refusals: {self.refusals()}", step=self.pump)

    def refusals(self) -> list[str]:
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines()]
        return [line["reason"] for line in lines if line["event"] == "refusal"]

    def close(self) -> None:
        for link in [peer.link for peer in self.peers] + self.intruders:
            link.close(0)
        self.router.close()
        self.audit.close()


class Load:
    """An honest client and an honest worker: each task must be answered, by that worker."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.client = scheduler.join(KeyRole.CLIENT, lambda own: m.Hello(m.Role.CLIENT, "honest", own))
        self.worker = scheduler.join(
            KeyRole.WORKER,
            lambda own: m.Hello(m.Role.AGENT, "honest", own, worker_names=("w",), capacity=1000, queue_limit=1000),
        )
        self.client.connection.send(definition(self.client.id))
        self.submitted = 0

    def submit(self, count: int) -> None:
        numbers = list(range(self.submitted + 1, self.submitted + count + 1))
        self.submitted += count
        batch = m.TaskBatch(self.client.id, numbers, (FUNCTION,), Packed.of([b"P"] * count))
        self.client.connection.send(batch)

    def finish(self) -> None:
        """Answer everything and look at what the client got."""
        answered: list[int] = []
        payloads: list[bytes] = []

        def is_done() -> bool:
            for batch in self.worker.take(m.TaskBatch):
                rows = len(batch.numbers)
                result = m.ResultBatch(batch.client, batch.numbers, batch.attempts, Packed.of([b"Phonest"] * rows))
                result.capacity = 1000
                self.worker.connection.send(result)
            for results in self.client.take(m.ResultBatch):
                answered.extend(results.numbers)
                payloads.extend(results.payloads.split())
            return len(answered) >= self.submitted

        self.scheduler.wait(is_done)
        assert sorted(answered) == list(range(1, self.submitted + 1))
        assert set(payloads) == {b"Phonest"}
        assert self.client.connection.established
        assert self.worker.connection.established


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    made = Scheduler(tmp_path / "audit.log")
    yield made
    made.close()


def say(link: DealerLink, message: m.Message, envelope: Envelope = UNSEQUENCED) -> None:
    link.send([encode_envelope(envelope), *encode(message)])


def forgeries(load: Load, rng: random.Random, own: bytes) -> m.Message:
    client, number = load.client.id, rng.randrange(1, load.submitted + 1)
    forged: list[m.Message] = [
        m.Hello(m.Role.CLIENT, "forger", client),
        m.TaskCancel(client, [number]),
        m.FunctionDefine(client, (FUNCTION,), Packed.of([b"Pforged"])),
        m.TaskBatch(client, [number + 1_000_000], (FUNCTION,), Packed.of([b"Pforged"])),
        m.Relay(client, []),
        m.ClientGone(client),
        m.Shutdown("forged"),
        m.ObjectGet(1, rng.randbytes(16)),
        m.Relay(own, [encode_envelope(UNSEQUENCED), *map(bytes, encode(m.TaskCancel(client, [number])))]),
    ]
    return rng.choice(forged)


@pytest.mark.parametrize(
    ("role", "spoken"),
    [
        (KeyRole.WORKER, m.Role.CLIENT),
        (KeyRole.MONITOR, m.Role.AGENT),
        (KeyRole.MONITOR, m.Role.CLIENT),
        (KeyRole.CLIENT, m.Role.AGENT),
        (KeyRole.ADAPTER, m.Role.CLIENT),
        (KeyRole.OPERATOR, m.Role.AGENT),
    ],
)
def test_a_key_is_of_no_use_for_another_role(scheduler: Scheduler, role: KeyRole, spoken: m.Role) -> None:
    load = Load(scheduler)
    load.submit(50)
    keys = scheduler.add_key(role)
    own = pinned_id(keys.public)
    say(scheduler.intrude(keys, own), m.Hello(spoken, "intruder", own, worker_names=("w",)))
    scheduler.wait(scheduler.refusals)
    assert not scheduler.core.is_connected(own)
    assert f"key is {role}" in scheduler.refusals()[0] or "worker's key" in scheduler.refusals()[0]
    load.finish()


def test_who_has_no_key_of_this_cluster_gets_nowhere(scheduler: Scheduler) -> None:
    load = Load(scheduler)
    load.submit(50)
    unknown, known = new_key_pair(), scheduler.add_key(KeyRole.CLIENT)
    scheduler.intrude(unknown, pinned_id(unknown.public))
    scheduler.wait(lambda: len(scheduler.refusals()) >= 1)
    scheduler.intrude(known, pinned_id(known.public), server=new_key_pair().public)
    scheduler.wait(lambda: len(scheduler.refusals()) >= 2)
    scheduler.intrude(known, load.client.id)
    scheduler.wait(lambda: len(scheduler.refusals()) >= 3)
    port = Address.parse(scheduler.address).port
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(100))
        scheduler.wait(lambda: len(scheduler.refusals()) >= 4)
    load.finish()


def test_of_forged_messages_over_real_connections_none_is_accepted(scheduler: Scheduler) -> None:
    seed = 15
    print(f"seed {seed}")
    rng = random.Random(seed)
    load = Load(scheduler)
    load.submit(100)
    roles = [KeyRole.CLIENT, KeyRole.WORKER, KeyRole.ADAPTER, KeyRole.MONITOR]
    keys = {role: scheduler.add_key(role) for role in roles}
    forgeries_count = 200
    count = 0

    def is_refused() -> bool:
        return scheduler.guard.doorkeeper.refused_count >= count

    while count < forgeries_count:
        count += 1
        role = rng.choice(roles)
        own = pinned_id(keys[role].public)
        link = scheduler.intrude(keys[role], own)
        say(link, forgeries(load, rng, own))
        scheduler.wait(is_refused)
        for intruder in scheduler.intruders:
            intruder.close(0)
        scheduler.intruders.clear()
        if count % 20 == 0:
            load.submit(10)
    load.finish()
