"""A scheduler core with clients and agents around it that speak the real session protocol, in one thread, without sockets."""

from __future__ import annotations

from typing import Any, TypeVar

from scaler_protocol.ids import content_id
from scaler_protocol.session import Connection, ConnectionEvent, Established, HeartbeatDue, Received
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events

BODY = b"Pbody"
FUNCTION = content_id(BODY)

MessageType = TypeVar("MessageType")

TICKS_MAX = 10_000
"""At one moment: then the core would keep a processor busy."""


def identity(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def definition(client: bytes, *bodies: bytes, name: str = "module.f") -> m.FunctionDefine:
    """Bodies, or the usual one, with the ids they must have."""
    bodies = bodies or (BODY,)
    return m.FunctionDefine(client, tuple(map(content_id, bodies)), Packed.of(bodies), (name,) * len(bodies))


class Peer:
    """One end of a session with the scheduler; `received` collects what came up."""

    def __init__(self, harness: Harness, peer: bytes | events.RelayedPeer, hello: m.Hello) -> None:
        self.harness = harness
        self.peer = peer
        self.id = hello.incarnation
        self.connection = Connection(hello)
        self.received: list[m.Message | ConnectionEvent] = []
        self.reachable = True
        self.hears = True
        """Whether what is sent to it arrives."""
        self.untold: list[m.Message] = []
        """What was not acknowledged when another scheduler began a new session. Whoever tells that again empties this."""
        self.connection.start(harness.now)
        harness.peers[peer] = self
        harness.settle()

    def send(self, *messages: m.Message) -> None:
        for message in messages:
            self.connection.send(message)
        self.harness.settle()

    def hear(self) -> list[m.Message | ConnectionEvent]:
        """Remove and return what was received; of welcomes only that of a new session which is not over already."""
        received, self.received = self.received, []
        last = max((at for at, one in enumerate(received) if isinstance(one, m.Welcome)), default=-1)
        return [
            one for at, one in enumerate(received) if not isinstance(one, m.Welcome) or (at == last and not one.resumed)
        ]

    def take(self, kind: type[MessageType]) -> list[MessageType]:
        """Remove and return what was received of one kind."""
        received: list[object] = [*self.received]
        found = [message for message in received if isinstance(message, kind)]
        self.received = [message for message in self.received if not isinstance(message, kind)]
        return found


class Client(Peer):
    def __init__(self, harness: Harness, name: str, relayed_by: Agent | None = None, group: str = "") -> None:
        peer = identity(name) if relayed_by is None else events.RelayedPeer(relayed_by.id, identity(name))
        super().__init__(harness, peer, m.Hello(m.Role.CLIENT, name, identity(name), group=group))
        self.next_number = 1

    def define(self) -> None:
        self.send(definition(self.id))

    def batch(self, count: int, **options: Any) -> m.TaskBatch:
        numbers = list(range(self.next_number, self.next_number + count))
        self.next_number += count
        payloads = Packed.of([b"P%d" % number for number in numbers])
        return m.TaskBatch(self.id, numbers, (FUNCTION,), payloads, **options)

    def submit(self, count: int = 1, **options: Any) -> list[int]:
        batch = self.batch(count, **options)
        self.send(batch)
        return list(batch.numbers)

    def results(self) -> dict[int, tuple[int, bytes]]:
        """Number to (status, payload) of everything answered since the last call."""
        found: dict[int, tuple[int, bytes]] = {}
        for batch in self.take(m.ResultBatch):
            statuses = list(batch.statuses) or [0] * len(batch.numbers)
            if m.Status.RETRY in statuses:
                # No answer: it says how often a task has failed that is tried again.
                continue
            for number, status, payload in zip(batch.numbers, statuses, batch.payloads.split(), strict=True):
                assert number not in found, f"task {number} was answered twice"
                found[number] = (status, payload)
        return found


class Agent(Peer):
    def __init__(
        self,
        harness: Harness,
        name: str,
        workers: int = 1,
        capacity: int | None = None,
        capabilities: m.Capabilities = (),
        takes_chains: bool = True,
        resources: str = "",
        devices: tuple[str, ...] = (),
        *,
        announces: bool = False,
    ) -> None:
        """`announces`: as a real one it wants nothing before it has said what it holds, which the caller does on each welcome."""
        self.capacity = 2 * workers if capacity is None else capacity
        self.announces = announces
        hello = m.Hello(
            m.Role.AGENT,
            name,
            identity(name),
            hostname="host",
            pid=77,
            worker_names=tuple(f"{name}-{index}" for index in range(workers)),
            capabilities=capabilities,
            capacity=0 if announces else self.capacity,
            queue_limit=1000,
            takes_chains=takes_chains,
            resources=resources,
            devices=devices,
        )
        super().__init__(harness, identity(name), hello)

    @property
    def wanted(self) -> int:
        """How many tasks it wants in all, as it says now."""
        is_new = any(isinstance(one, m.Welcome) and not one.resumed for one in self.received)
        return 0 if self.announces and is_new else self.capacity

    def tasks(self) -> list[tuple[bytes, int, int]]:
        """(client, number, attempt) of every task received since the last call."""
        return [
            (batch.client, number, attempt)
            for batch in self.take(m.TaskBatch)
            for number, attempt in zip(batch.numbers, batch.attempts, strict=True)
        ]

    def answer(
        self,
        tasks: list[tuple[bytes, int, int]],
        status: int = m.Status.SUCCESS,
        payload: bytes = b"Presult",
        **columns: Any,
    ) -> None:
        by_client: dict[bytes, list[tuple[int, int]]] = {}
        for client, number, attempt in tasks:
            by_client.setdefault(client, []).append((number, attempt))
        for client, rows in by_client.items():
            self.send(
                m.ResultBatch(
                    client,
                    [number for number, _ in rows],
                    [attempt for _, attempt in rows],
                    Packed.of([payload] * len(rows)),
                    [status] * len(rows) if status else (),
                    capacity=self.capacity,
                    **columns,
                )
            )

    def run_all(self, rounds: int = 1000) -> list[int]:
        """Answer everything that comes until nothing comes any more; return the numbers in the order they came."""
        order: list[int] = []
        for _ in range(rounds):
            tasks = self.tasks()
            if not tasks:
                return order
            order += [number for _, number, _ in tasks]
            self.answer(tasks)
        raise AssertionError("work does not end")


class Harness:
    """Delivers everything at once and in order; `advance` moves the clock."""

    def __init__(self, **config: Any) -> None:
        self.now = 1000.0
        self.core = SchedulerCore(SchedulerConfig(**{"incarnation": identity("scheduler"), **config}), self.now)
        self.peers: dict[object, Peer] = {}
        self.other_effects: list[effects.Effect] = []
        self.checks_each_step = True
        """False for tests with so many tasks that the checks would take most of their time."""
        self.ticks_while_due = False
        """Whether time goes on only when nothing is due, as a shell lets it. Else the core is asked once each step."""

    def settle(self) -> None:
        """Deliver until nothing is under way."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Deliver what is under way, and have the core do one turn. Return whether there is more."""
        moved = False
        for peer in list(self.peers.values()):
            outgoing, peer.connection.outgoing = peer.connection.outgoing, []
            for envelope, message in outgoing:
                if peer.reachable:
                    self.core.handle(events.Incoming(peer.peer, envelope, message), self.now)
                    moved = True
        due = self.core.take_effects()
        moved |= self.core.has_more
        if self.checks_each_step:
            self.core.check_invariants()
        for effect in due:
            if isinstance(effect, effects.Send):
                moved = True
                self._deliver(effect)
            else:
                self.other_effects.append(effect)
        return moved

    def _deliver(self, effect: effects.Send) -> None:
        if effect.around is not None:
            assert isinstance(effect.peer, events.RelayedPeer)
            carrier = self.peers.get(effect.peer.agent)
            if carrier is not None and carrier.reachable:
                carrier.connection.receive(effect.around, m.Relay(effect.peer.client, []), self.now)
        peer = self.peers.get(effect.peer)
        if peer is None or not peer.reachable or not peer.hears:
            return
        session = peer.connection.session
        for event in peer.connection.receive(effect.envelope, effect.message, self.now):
            if isinstance(event, Received):
                peer.received.append(event.message)
            elif isinstance(event, Established):
                peer.untold += [] if event.resumed else session.unacknowledged()
                peer.received.append(event.welcome)
            else:
                peer.received.append(event)

    def advance(self, seconds: float, step: float = 0.5) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            for peer in list(self.peers.values()):
                for event in peer.connection.tick(self.now):
                    if isinstance(event, HeartbeatDue):
                        capacity = peer.wanted if isinstance(peer, Agent) else 0
                        states = [1] if isinstance(peer, Agent) else []
                        peer.connection.heartbeat(m.Heartbeat(capacity=capacity, processor_states=states), self.now)
            self.core.handle(events.Tick(), self.now)
            self.settle()
            for _ in range(TICKS_MAX if self.ticks_while_due else 0):
                if self.core.next_deadline() > self.now:
                    break
                self.core.handle(events.Tick(), self.now)
                self.settle()
            else:
                assert not self.ticks_while_due, "something stays due"

    def vanish(self, peer: Peer) -> None:
        """The peer's host loses power: nothing more from it or to it."""
        peer.reachable = False
        del self.peers[peer.peer]

    def snapshot(self) -> dict[str, Any]:
        """All tables of the core as plain values."""
        return self.core.snapshot(self.now)

    def seen(self, peer: Peer) -> dict[str, Any]:
        """What the core knows of a client or agent; empty where it does not know it."""
        snapshot = self.snapshot()
        known = snapshot["clients"] + snapshot["agents"]
        return next((row for row in known if row["incarnation"] == peer.id.hex()), {})

    def count(self, name: str) -> int:
        """One of the core's counts: `ready`, `stale_results`, …"""
        return int(self.snapshot()["counts"][name])

    def to_store(self) -> list[m.Message]:
        found = [effect.message for effect in self.other_effects if isinstance(effect, effects.ToStore)]
        self.other_effects = [effect for effect in self.other_effects if not isinstance(effect, effects.ToStore)]
        return found
