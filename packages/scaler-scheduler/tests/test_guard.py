"""What each key may do at a scheduler, and what the audit log says of it, around the real core."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from harness import BODY, FUNCTION

from scaler_protocol.security.audit import AuditLog
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.keys import new_key_pair, pinned_id
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Envelope
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events
from scaler_scheduler.group_shares import parse_shares
from scaler_scheduler.guard import Guard


class Connections:
    """The connections of a listener with keys."""

    def __init__(self) -> None:
        self.authorities: dict[bytes, Authority] = {}
        self.closed: list[bytes] = []

    def authority_of(self, identity: bytes) -> Authority | None:
        return self.authorities.get(identity)

    def address_of(self, identity: bytes) -> str:
        return "10.0.0.7:1"

    def refresh_authorities(self) -> None:
        """Nobody's key changes here."""

    def disconnect(self, identity: bytes) -> None:
        self.authorities.pop(identity, None)
        self.closed.append(identity)

    def connect(self, role: KeyRole, name: str = "", authority: Authority | None = None) -> bytes:
        if authority is None:
            authority = Authority(name or str(role), role, new_key_pair().public)
        identity = pinned_id(authority.public)
        self.authorities[identity] = authority
        return identity


class Cluster:
    """A scheduler with keys; `say` sends it a message of a connection."""

    def __init__(self, tmp_path: Path, *, keyed: bool = True, **config: Any) -> None:
        self.core = SchedulerCore(SchedulerConfig(incarnation=b"scheduler".ljust(16), **config), 0.0)
        self.connections = Connections()
        self.log_path = tmp_path / "audit.log"
        self.audit = AuditLog(self.log_path, "scheduler")
        self.guard = Guard(self.core, self.connections, keyed=keyed, audit=self.audit)
        self._sequences: dict[events.Peer, int] = {}

    def say(self, peer: events.Peer, message: m.Message) -> list[m.Message]:
        """Send a message; return what the peer is sent."""
        plain = isinstance(message, m.Hello | m.Heartbeat | m.Relay | m.Output | m.Goodbye | m.Shutdown)
        number = self._sequences.get(peer, 0) + (not plain)
        self._sequences[peer] = number
        envelope = Envelope(number, 0, 0 if plain else 1, 0)
        self.guard.handle(events.Incoming(peer, envelope, message), 1.0)
        self.core.check_invariants()
        return [
            effect.message
            for effect in self.core.take_effects()
            if isinstance(effect, effects.Send) and effect.peer == peer
        ]

    def greet(self, peer: events.Peer, role: m.Role, incarnation: bytes | None = None) -> m.Message | None:
        """Say hello; return the answer."""
        own = peer if isinstance(peer, bytes) else peer.client
        workers = ("w",) if role is m.Role.AGENT else ()
        hello = m.Hello(role, "peer", own if incarnation is None else incarnation, worker_names=workers, capacity=2)
        answers = self.say(peer, hello)
        return answers[0] if answers else None

    def is_closed(self, peer: bytes) -> bool:
        return peer in self.connections.closed

    def lines(self, event: str) -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in self.log_path.read_text().splitlines()]
        return [line for line in parsed if line["event"] == event]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def batch(client: bytes, number: int = 1, **options: Any) -> m.TaskBatch:
    return m.TaskBatch(client, [number], (FUNCTION,), Packed.of([b"P"]), **options)


def define(client: bytes, name: str = "module.f", body: bytes = BODY) -> m.FunctionDefine:
    return m.FunctionDefine(client, (FUNCTION,), Packed.of([body]), (name,))


def test_a_client_submits(cluster: Cluster) -> None:
    client = cluster.connections.connect(KeyRole.CLIENT, "pricing")
    assert isinstance(cluster.greet(client, m.Role.CLIENT), m.Welcome)
    cluster.say(client, define(client))
    cluster.say(client, batch(client, capabilities=(("linux", -1),)))
    assert cluster.core.unfinished_count == 1
    assert cluster.connections.closed == []
    (connect,) = cluster.lines("connect")
    assert (connect["name"], connect["role"], connect["address"]) == ("pricing", "client", "10.0.0.7:1")
    (submit,) = cluster.lines("submit")
    assert (submit["tasks"], submit["functions"], submit["capabilities"]) == (1, ["module.f"], ["linux"])
    cluster.say(client, m.TaskCancel(client, [1]))
    (cancel,) = cluster.lines("cancel")
    assert (cancel["name"], cancel["tasks"]) == ("pricing", 1)


def test_the_name_of_a_key_is_the_group_of_its_clients(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, shares=parse_shares(["pricing=3"]))
    peers = {name: cluster.connections.connect(KeyRole.CLIENT, name) for name in ("pricing", "somebody")}

    def groups() -> dict[str, list[str]]:
        return {group["name"]: group["clients"] for group in cluster.core.snapshot(1.0)["groups"]}

    expected = {"pricing": [peers["pricing"].hex()], "default": [peers["somebody"].hex()]}
    for peer in peers.values():
        assert isinstance(cluster.greet(peer, m.Role.CLIENT), m.Welcome)
    assert groups() == expected
    # Who begins its session anew stays in its group.
    cluster.say(peers["pricing"], define(peers["pricing"]))
    assert isinstance(cluster.greet(peers["pricing"], m.Role.CLIENT), m.Welcome)
    assert groups() == expected


@pytest.mark.parametrize("role", [role for role in KeyRole if role not in (KeyRole.CLIENT, KeyRole.OPERATOR)])
def test_the_keys_of_others_are_no_clients_keys(cluster: Cluster, role: KeyRole) -> None:
    peer = cluster.connections.connect(role)
    assert cluster.greet(peer, m.Role.CLIENT) is None
    assert cluster.is_closed(peer)
    (refusal,) = cluster.lines("refusal")
    assert refusal["role"] == role


@pytest.mark.parametrize("role", [role for role in KeyRole if role is not KeyRole.WORKER])
def test_the_keys_of_others_are_no_workers_keys(cluster: Cluster, role: KeyRole) -> None:
    peer = cluster.connections.connect(role)
    assert cluster.greet(peer, m.Role.AGENT) is None
    assert cluster.is_closed(peer)


def test_nobody_takes_the_identity_of_another_key(cluster: Cluster) -> None:
    client, thief = cluster.connections.connect(KeyRole.CLIENT), cluster.connections.connect(KeyRole.CLIENT)
    cluster.greet(client, m.Role.CLIENT)
    assert cluster.greet(thief, m.Role.CLIENT, incarnation=client) is None
    assert cluster.is_closed(thief)
    assert not cluster.is_closed(client)


def test_nobody_speaks_for_clients_of_another_key(cluster: Cluster) -> None:
    client, other = cluster.connections.connect(KeyRole.CLIENT), cluster.connections.connect(KeyRole.CLIENT)
    cluster.greet(client, m.Role.CLIENT)
    cluster.greet(other, m.Role.CLIENT)
    cluster.say(client, define(client))
    cluster.say(client, batch(client))
    cluster.say(other, m.TaskCancel(client, [1]))
    assert cluster.is_closed(other)
    assert cluster.core.unfinished_count == 1


def test_agents_relay_for_clients_inside_their_tasks_only(cluster: Cluster) -> None:
    agent, client = cluster.connections.connect(KeyRole.WORKER), cluster.connections.connect(KeyRole.CLIENT)
    cluster.greet(agent, m.Role.AGENT)
    inside = events.RelayedPeer(agent, pinned_id(cluster.connections.authorities[agent].public))
    cluster.say(agent, m.Relay(inside.client, []))
    assert isinstance(cluster.greet(inside, m.Role.CLIENT), m.Welcome)
    assert cluster.connections.closed == []
    assert cluster.greet(events.RelayedPeer(agent, client), m.Role.CLIENT) is None
    assert cluster.is_closed(agent)


def test_what_a_client_inside_a_task_may_not_say_costs_its_agent_nothing(cluster: Cluster) -> None:
    agent, other = cluster.connections.connect(KeyRole.WORKER), cluster.connections.connect(KeyRole.CLIENT)
    cluster.greet(agent, m.Role.AGENT)
    cluster.greet(other, m.Role.CLIENT)
    cluster.say(other, define(other))
    cluster.say(other, batch(other))
    inside = events.RelayedPeer(agent, pinned_id(cluster.connections.authorities[agent].public))
    cluster.greet(inside, m.Role.CLIENT)
    cluster.say(inside, m.TaskCancel(other, [1]))
    assert cluster.connections.closed == []
    assert cluster.core.unfinished_count == 1
    assert cluster.guard.doorkeeper.refused_count == 1


def test_what_a_task_repeats_although_it_is_refused_is_counted(cluster: Cluster) -> None:
    agent = cluster.connections.connect(KeyRole.WORKER, "vm-3")
    cluster.greet(agent, m.Role.AGENT)
    inside = events.RelayedPeer(agent, pinned_id(cluster.connections.authorities[agent].public))
    for _ in range(1000):
        cluster.say(inside, m.Shutdown("forged"))
    cluster.guard.doorkeeper.write_repeated(math.inf)
    found = cluster.lines("refusal")
    assert {(line["name"], line["role"]) for line in found} == {("vm-3", "worker")}
    assert sum(1 + line["repeated"] for line in found) == 1000
    assert len(found) < 20
    assert cluster.connections.closed == []


def test_a_client_inside_a_task_connects_directly_beside_its_agent_only(cluster: Cluster) -> None:
    agent = cluster.connections.connect(KeyRole.WORKER)
    authority = cluster.connections.authorities[agent]
    alone = cluster.connections.connect(KeyRole.WORKER, authority=authority)
    assert cluster.greet(alone, m.Role.CLIENT) is None
    cluster.greet(agent, m.Role.AGENT)
    beside = cluster.connections.connect(KeyRole.WORKER, authority=authority)
    assert isinstance(cluster.greet(beside, m.Role.CLIENT), m.Welcome)


def test_only_operators_end_the_cluster(cluster: Cluster) -> None:
    client, operator = cluster.connections.connect(KeyRole.CLIENT), cluster.connections.connect(KeyRole.OPERATOR)
    welcome = cluster.greet(client, m.Role.CLIENT)
    assert isinstance(welcome, m.Welcome)
    assert welcome.protected
    cluster.say(client, m.Shutdown("because"))
    assert cluster.is_closed(client)
    welcome = cluster.greet(operator, m.Role.CLIENT)
    assert isinstance(welcome, m.Welcome)
    assert not welcome.protected
    cluster.guard.handle(events.Incoming(operator, Envelope(0, 0, 0, 0), m.Shutdown("done")), 1.0)
    assert any(isinstance(effect, effects.Stop) for effect in cluster.core.take_effects())
    (shutdown,) = cluster.lines("shutdown")
    assert (shutdown["role"], shutdown["reason"]) == ("operator", "done")


def test_what_was_sent_before_a_connection_was_closed_is_dropped(cluster: Cluster) -> None:
    client = cluster.connections.connect(KeyRole.CLIENT)
    cluster.greet(client, m.Role.CLIENT)
    cluster.connections.disconnect(client)
    cluster.say(client, define(client))
    assert cluster.core.function_names([FUNCTION]) != ["module.f"]
    assert cluster.lines("refusal") == []


def test_nobody_takes_the_id_of_another_clients_function(cluster: Cluster) -> None:
    first, second = cluster.connections.connect(KeyRole.CLIENT), cluster.connections.connect(KeyRole.CLIENT)
    for client in (first, second):
        cluster.greet(client, m.Role.CLIENT)
    cluster.say(first, define(first, body=b"forged"))
    cluster.say(second, define(second))
    assert not cluster.core.is_connected(first)
    assert cluster.core.is_connected(second)


def test_without_keys_everybody_is_let_in_and_recorded(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, keyed=False)
    assert isinstance(cluster.greet(b"client".ljust(16), m.Role.CLIENT), m.Welcome)
    assert cluster.greet(b"client".ljust(16), m.Role.CLIENT) is not None
    assert isinstance(cluster.greet(b"other".ljust(16), m.Role.CLIENT, b"client".ljust(16)), m.Refused)
    (connect,) = cluster.lines("connect")
    assert (connect["name"], connect["role"], connect["peer"], connect["as"]) == ("", "", "peer", "client")
    (refusal,) = cluster.lines("refusal")
    assert "identity" in refusal["reason"]


def test_of_ten_thousand_forged_messages_none_is_accepted(cluster: Cluster) -> None:
    seed = 15
    print(f"seed {seed}")
    rng = random.Random(seed)
    client, worker = cluster.connections.connect(KeyRole.CLIENT), cluster.connections.connect(KeyRole.WORKER)
    cluster.greet(client, m.Role.CLIENT)
    cluster.say(client, define(client))
    cluster.say(client, batch(client))
    roles = [role for role in KeyRole if role is not KeyRole.WORKER]
    for _ in range(10_000):
        forger = cluster.connections.connect(rng.choice(roles))
        forgeries: list[m.Message] = [
            m.Hello(rng.choice([m.Role.CLIENT, m.Role.AGENT]), "x", client),
            m.Hello(m.Role.AGENT, "x", forger, worker_names=("w",)),
            batch(client, rng.randrange(100)),
            define(client, body=b"forged"),
            m.TaskCancel(client, [1]),
            m.ResultBatch(client, [1], [1], Packed.of([b"P"])),
            m.Inventory(client, [1], [1], [1]),
            m.Relay(client, []),
            m.ClientGone(client),
            m.ObjectGet(1, rng.randbytes(16)),
        ]
        forged = rng.choice(forgeries)
        assert cluster.say(forger, forged) == []
        assert cluster.is_closed(forger)
    assert cluster.guard.doorkeeper.refused_count == len(cluster.lines("refusal")) == 10_000
    assert cluster.core.unfinished_count == 1
    assert not cluster.is_closed(client)
    cluster.greet(worker, m.Role.AGENT)
    assert cluster.core.has_agent_with(worker[:8])
