"""Scheduler and object storage server of a security directory: who has a key of it, may do what the key is for."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.address import Address
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.directory import load_peer, pair_text
from scaler_protocol.security.keys import new_key_pair, pinned_id, to_text
from scaler_protocol.service.child import ChildService
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope

pytestmark = pytest.mark.without_keys("it makes its own keys")

WAIT_SECONDS = 20.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.mkdir(mode=0o700)
    server = new_key_pair()
    (made / "server.key").touch(0o600)
    (made / "server.key").write_text(pair_text(server))
    (made / "server.pub").write_text(to_text(server.public) + "\n")
    lines = []
    for role in ("client", "worker", "monitor"):
        pair = new_key_pair()
        (made / f"{role}.key").touch(0o600)
        (made / f"{role}.key").write_text(f'name = "{role}"\nrole = "{role}"\n{pair_text(pair)}')
        lines.append(f"{to_text(pair.public)} {role} {role}")
    (made / "allowed_keys").write_text("\n".join(lines) + "\n")
    return made


class Servers:
    """A scheduler and its object storage server, with an audit log."""

    def __init__(self, directory: Path, log_path: Path) -> None:
        self.log_path = log_path
        arguments = ["tcp://127.0.0.1:0", "--security-dir", str(directory), "--audit-log", str(log_path)]
        self.child = ChildService.start("scaler_scheduler", arguments, stdout=subprocess.DEVNULL)
        self.addresses = self.child.wait_ready(30)

    def lines(self, event: str) -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in self.log_path.read_text().splitlines() if line]
        return [line for line in parsed if line["event"] == event]


@pytest.fixture
def servers(directory: Path, tmp_path: Path) -> Iterator[Servers]:
    made = Servers(directory, tmp_path / "audit.log")
    yield made
    made.child.terminate(10)


class Peer:
    def __init__(self, address: Address, security: PeerSecurity, identity: bytes = b"") -> None:
        self.id = identity or pinned_id(security.own.public)
        self.link = DealerLink(str(address), self.id, security)
        self.received: list[m.Message] = []

    def say(self, message: m.Message) -> None:
        self.link.send([encode_envelope(UNSEQUENCED), *encode(message)])

    def pump(self) -> None:
        self.received += [decode(frames[1:]) for frames in self.link.receive(100)]
        self.link.flush()

    def wait(self, condition: Callable[[], object]) -> None:
        wait_until(condition, WAIT_SECONDS, what=lambda: f"received {self.received}", step=self.pump)

    def ask(self, message: m.Message) -> m.Message:
        self.received.clear()
        self.say(message)
        self.wait(lambda: self.received)
        return self.received[0]


def test_keys_decide_at_both_servers(servers: Servers, directory: Path) -> None:
    client_keys, worker_keys = load_peer(directory, KeyRole.CLIENT), load_peer(directory, KeyRole.WORKER)
    client = Peer(servers.addresses["scheduler"], client_keys)
    hello = m.Hello(m.Role.CLIENT, "client", client.id)
    welcome = client.ask(hello)
    assert isinstance(welcome, m.Welcome)
    assert welcome.protected
    objects = Peer(servers.addresses["object_storage"], client_keys)
    assert isinstance(objects.ask(m.Hello(m.Role.CLIENT, "client", client.id, to_object_storage=True)), m.Welcome)
    assert objects.ask(m.ObjectPut(1, b"o" * 16, client.id, [b"content"])) == m.ObjectPutReply(1)
    # A worker's key stores results, and deletes nothing of a client.
    worker = Peer(servers.addresses["object_storage"], worker_keys)
    assert isinstance(worker.ask(m.Hello(m.Role.AGENT, "agent", worker.id, to_object_storage=True)), m.Welcome)
    worker.say(m.ObjectDelete(2, client.id, (b"o" * 16,)))
    worker.wait(lambda: servers.lines("refusal"))
    data = objects.ask(m.ObjectGet(3, b"o" * 16))
    assert isinstance(data, m.ObjectData)
    assert not data.missing
    # The scheduler has a key of its own at object storage: it has objects deleted whose client has left.
    client.say(m.Goodbye("done"))

    def is_deleted() -> bool:
        answer = objects.ask(m.ObjectGet(4, b"o" * 16))
        if isinstance(answer, m.UnknownPeer):
            objects.say(m.Hello(m.Role.CLIENT, "client", objects.id, to_object_storage=True))
        return isinstance(answer, m.ObjectData) and answer.missing

    client.wait(is_deleted)
    for peer in (client, objects, worker):
        peer.link.close(0)


def test_a_revoked_key_loses_its_connection_and_nobody_else_notices(servers: Servers, directory: Path) -> None:
    peers = []
    for role, spoken in ((KeyRole.CLIENT, m.Role.CLIENT), (KeyRole.WORKER, m.Role.AGENT)):
        peer = Peer(servers.addresses["scheduler"], load_peer(directory, role))
        assert isinstance(peer.ask(m.Hello(spoken, "peer", peer.id, worker_names=("w",))), m.Welcome)
        peers.append(peer)
    client, worker = peers
    allowed = directory / "allowed_keys"
    began = time.monotonic()
    allowed.write_text("\n".join(line for line in allowed.read_text().splitlines() if " client " not in line) + "\n")
    client.wait(lambda: any("revoked" in line["reason"] for line in servers.lines("refusal")))
    assert time.monotonic() - began < 5
    assert servers.lines("keys")
    assert isinstance(worker.ask(m.Hello(m.Role.AGENT, "peer", worker.id, worker_names=("w",))), m.Welcome)
    for peer in peers:
        peer.link.close(0)
