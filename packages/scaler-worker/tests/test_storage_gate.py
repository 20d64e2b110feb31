"""The gate through which clients inside tasks of another user reach object storage: real sockets, and a server by hand."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scaler_protocol.objects.storage import Completion, Done, StoreRequests
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.carried_requests import CarriedRequests
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import KeyPair, new_key_pair
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Frame, encode_envelope
from scaler_worker.shell.storage_gate import StorageGate

ENVELOPE = encode_envelope(UNSEQUENCED)
OBJECT = b"o" * 16
MIB = 1024**2


class Storage:
    """An object storage server with keys. It answers when it is told to."""

    def __init__(self, own: KeyPair, worker: KeyPair) -> None:
        allowed = [Authority("worker", KeyRole.WORKER, worker.public)]
        self.listener = RouterListener("tcp://127.0.0.1:0", security=ServerSecurity(own, allowed))
        self.received: list[tuple[bytes, m.Message]] = []
        self.objects: dict[bytes, list[Frame]] = {}

    def serve(self) -> None:
        """Answer what has come."""
        for peer, frames in self.listener.receive(100):
            message = decode(frames[1:])
            self.received.append((peer, message))
            answer = self._answer(message)
            if answer is not None:
                self.listener.send(peer, [ENVELOPE, *encode(answer)])
        self.listener.flush()

    def _answer(self, message: m.Message) -> m.Message | None:
        if isinstance(message, m.Hello):
            return m.Welcome(b"s" * 16, hello_number=message.hello_number, segment_offer=b"offered!")
        if isinstance(message, m.ObjectPut):
            self.objects[message.id] = message.buffers
            return m.ObjectPutReply(message.request)
        if isinstance(message, m.ObjectGet):
            return m.ObjectData(message.request, message.id, self.objects[message.id])
        return None


class Client:
    """A client inside a task."""

    def __init__(self, gate: StorageGate, prefix: bytes) -> None:
        self.id = new_id(prefix)
        self.link = DealerLink(gate.address, new_id(b""))
        self.requests = StoreRequests(m.Hello(role=m.Role.CLIENT, name="nested", incarnation=self.id))
        self.requests.introduce(time.monotonic())
        self.done: list[Completion] = []

    def work(self) -> None:
        """Send what is to be sent, and take what has come."""
        for message in self.requests.take_outgoing():
            self.link.send([ENVELOPE, *encode(message)])
        for frames in self.link.receive(100):
            self.done += self.requests.receive(decode(frames[1:]), time.monotonic())
        self.done += self.requests.tick(time.monotonic())


class Parts:
    """A gate, its object storage server and clients."""

    def __init__(self) -> None:
        self.own, self.worker = new_key_pair(), new_key_pair()
        self.security = PeerSecurity(self.worker, self.own.public)
        self.storage = Storage(self.own, self.worker)
        # As all clients are in this process, it is one to the gate.
        self.processors = {os.getpgrp()}
        self.gate = StorageGate(self.security, (os.getuid(), os.getgid()), self.processors.__contains__)
        self.gate.follow(self.storage.listener.address)
        self.clients: list[Client] = []

    def client(self) -> Client:
        client = Client(self.gate, self.security.identity_prefix)
        self.clients.append(client)
        return client

    def work(self) -> None:
        """One step of all."""
        self.storage.serve()
        for client in self.clients:
            client.work()

    def close(self) -> None:
        for client in self.clients:
            client.link.close(0.0)
        self.gate.close()
        self.storage.listener.close()


@pytest.fixture
def parts() -> Iterator[Parts]:
    parts = Parts()
    yield parts
    parts.close()


def store(parts: Parts, client: Client, object_id: bytes, data: bytes) -> None:
    client.requests.put(object_id, client.id, [data], time.monotonic())
    before = len(client.done)
    wait_until(lambda: len(client.done) > before, step=parts.work, what="no answer to a put")
    assert isinstance(client.done[-1], Done)


def test_an_object_goes_there_and_back(parts: Parts) -> None:
    client = parts.client()
    data = os.urandom(9 * MIB)
    store(parts, client, OBJECT, data)
    client.requests.get(OBJECT, time.monotonic())
    wait_until(lambda: len(client.done) == 2, step=parts.work, what="no answer to a get")
    found = client.done[-1]
    assert isinstance(found, Done)
    assert b"".join(bytes(buffer) for buffer in found.buffers) == data


def test_the_server_sees_the_workers_key_and_the_client_sees_no_memory_of_it(parts: Parts) -> None:
    client = parts.client()
    store(parts, client, OBJECT, b"data")
    peer, _ = parts.storage.received[0]
    authority = parts.storage.listener.authority_of(peer)
    assert authority is not None
    assert authority.public == parts.worker.public
    assert client.requests.store_incarnation == b"s" * 16
    assert client.requests.segment_offer == b""


def test_answers_go_to_who_has_asked(parts: Parts) -> None:
    clients = [parts.client() for _ in range(5)]
    for number, client in enumerate(clients):
        store(parts, client, bytes([number]) * 16, bytes([number]) * 1000)
    for number, client in enumerate(clients):
        client.requests.get(bytes([number]) * 16, time.monotonic())
    wait_until(lambda: all(len(client.done) == 2 for client in clients), step=parts.work)
    for number, client in enumerate(clients):
        found = client.done[-1]
        assert isinstance(found, Done)
        assert bytes(found.buffers[0]) == bytes([number]) * 1000


def test_a_client_that_breaks_the_rules_loses_its_connection_only(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = parts.client(), parts.client()
    store(parts, good, OBJECT, b"data")
    bad.link.send([ENVELOPE, *encode(m.ObjectPut(1, b"f" * 16, good.id, [b"forged"]))])
    wait_until(lambda: "names another client" in caplog.text or "before it has said" in caplog.text, step=parts.work)
    store(parts, good, b"p" * 16, b"more")
    assert b"f" * 16 not in parts.storage.objects


def test_bytes_that_are_no_message_end_the_connection(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = parts.client(), parts.client()
    bad.link.send([ENVELOPE, b"nonsense"])
    wait_until(lambda: "cannot be read" in caplog.text, step=parts.work)
    store(parts, good, OBJECT, b"data")


def test_nothing_is_read_that_object_storage_does_not_take(parts: Parts) -> None:
    client = parts.client()
    wait_until(lambda: bool(client.requests.store_incarnation), step=parts.work)
    # From here on, the server reads nothing.
    sent, refused = 0, 0

    def send() -> None:
        nonlocal sent, refused
        client.link.flush()
        if client.link.has_queued:
            refused += 1
        elif sent < 100:
            refused = 0
            sent += 1
            client.link.send([ENVELOPE, *encode(m.ObjectPut(sent, bytes([sent]) * 16, client.id, [bytes(MIB)]))])

    wait_until(lambda: sent == 100 or refused == 200, step=send)
    # What the sockets hold, and what is read in one turn.
    assert sent < 60
    wait_until(lambda: len(parts.storage.objects) == sent, step=parts.work, what="not all of them came in the end")


def test_messages_that_arrive_in_part_do_not_fill_the_memory(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One message goes on arriving while others wait; and one that stops gives way to them."""
    monkeypatch.setattr("scaler_worker.shell.storage_gate.HELD_BYTES_MAX", 64 * MIB)
    monkeypatch.setattr("scaler_worker.shell.storage_gate.STALL_SECONDS", 1.0)
    stopping, waiting, small = parts.client(), parts.client(), parts.client()
    for client in (stopping, waiting, small):
        store(parts, client, client.id, b"data")
    # Neither of both sends more until the other one's message is known to have begun.
    for client, object_id in ((stopping, b"1" * 16), (waiting, b"2" * 16)):
        client.requests.put(object_id, client.id, [bytes(60 * MIB)], time.monotonic())
        for message in client.requests.take_outgoing():
            client.link.send([ENVELOPE, *encode(message)])
        parts.clients.remove(client)
    store(parts, small, OBJECT, b"small ones still pass")
    # The first one stays as it is: what is left of it waits in its client.
    parts.clients.append(waiting)
    wait_until(lambda: b"2" * 16 in parts.storage.objects, step=parts.work, what="nothing came after it")
    assert "it stops in the middle of a message" in caplog.text
    stopping.link.close(0.0)


def test_a_client_that_takes_no_answers_delays_nobody(parts: Parts) -> None:
    good, lazy = parts.client(), parts.client()
    store(parts, lazy, OBJECT, bytes(8 * MIB))
    parts.clients.remove(lazy)
    for number in range(20):
        lazy.link.send([ENVELOPE, *encode(m.ObjectGet(number + 100, OBJECT))])

    def asked() -> int:
        lazy.link.flush()
        return sum(isinstance(message, m.ObjectGet) for _, message in parts.storage.received)

    wait_until(lambda: asked() == 20, step=parts.work)
    store(parts, good, b"g" * 16, bytes(MIB))
    lazy.link.close(0.0)


ASKING = """
import sys, time
from scaler_protocol.objects.storage import StoreRequests
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope

address, number = sys.argv[1], bytes.fromhex(sys.argv[2])
link = DealerLink(address, number)
requests = StoreRequests(m.Hello(role=m.Role.CLIENT, name="nested", incarnation=number))
requests.introduce(time.monotonic())

def work():
    for message in requests.take_outgoing():
        link.send([encode_envelope(UNSEQUENCED), *encode(message)])
    for frames in link.receive(100):
        requests.receive(decode(frames[1:]), time.monotonic())
    requests.tick(time.monotonic())

wait_until(lambda: requests.store_incarnation, 20, step=work)
print("served", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ask(parts: Parts) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a process of a group of its own, in which a client asks the gate until it is served."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        number = new_id(parts.security.identity_prefix)
        command = [sys.executable, "-c", ASKING, parts.gate.address, number.hex()]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def is_served(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "served\n"


def test_a_processor_has_a_share_of_the_connections(
    parts: Parts,
    ask: Callable[[], subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("scaler_worker.shell.storage_gate.CONNECTIONS_MAX", 20)
    mine = [parts.client() for _ in range(16)]
    wait_until(lambda: all(client.requests.store_incarnation for client in mine), step=parts.work)
    greedy = parts.client()
    wait_until(lambda: "its processor has 16 others" in caplog.text, step=parts.work)
    # Those that have left the group of their processor have one share together.
    others = [ask() for _ in range(4)]
    left = set(range(4))

    def look() -> bool:
        left.difference_update([number for number in left if is_served(others[number])])
        return not left

    wait_until(look, 30, step=parts.work, what="other processes are not served")
    # All places are taken now, and the one with the most gives one to another.
    other = ask()
    parts.processors.add(other.pid)
    wait_until(lambda: is_served(other), 30, step=parts.work, what="a processor without connections is not served")
    assert not greedy.requests.store_incarnation


def test_something_unexpected_ends_one_connection_only(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = parts.client(), parts.client()
    for client in (good, bad):
        store(parts, client, client.id, b"data")
    unbroken = CarriedRequests.violation

    def violation(requests: CarriedRequests, message: m.Message) -> str | None:
        if isinstance(message, m.ObjectPut) and message.id == b"b" * 16:
            raise KeyError("a mistake of ours")
        return unbroken(requests, message)

    monkeypatch.setattr(CarriedRequests, "violation", violation)
    bad.link.send([ENVELOPE, *encode(m.ObjectPut(1, b"b" * 16, bad.id, [b"data"]))])
    wait_until(lambda: "a mistake of ours" in caplog.text, step=parts.work)
    store(parts, good, OBJECT, b"data")
    # Its client comes back by itself.
    store(parts, bad, b"p" * 16, b"more")


def test_the_gate_goes_on_after_something_unexpected(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("scaler_worker.shell.storage_gate.TICK_SECONDS", 0.01)
    client = parts.client()
    store(parts, client, OBJECT, b"data")
    unbroken = StorageGate._hold_or_release
    failures: list[float] = []

    def fail(gate: StorageGate, now: float) -> None:
        if len(failures) < 3:
            failures.append(now)
            raise RuntimeError("a mistake of ours")
        unbroken(gate, now)

    monkeypatch.setattr(StorageGate, "_hold_or_release", fail)
    store(parts, client, b"p" * 16, b"more")
    wait_until(lambda: len(failures) == 3, step=parts.work)
    assert "it goes on" in caplog.text
    store(parts, parts.client(), b"q" * 16, b"more")


def test_it_follows_object_storage(parts: Parts) -> None:
    client = parts.client()
    store(parts, client, OBJECT, b"data")
    before, parts.storage = parts.storage, Storage(parts.own, parts.worker)
    before.listener.close()
    parts.gate.follow(parts.storage.listener.address)
    store(parts, client, b"p" * 16, b"more")
    assert b"p" * 16 in parts.storage.objects


def test_only_one_user_may_open_its_socket_and_nothing_is_left(parts: Parts) -> None:
    path = Path(parts.gate.address.removeprefix("ipc://"))
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
    store(parts, parts.client(), OBJECT, b"data")
    parts.gate.close()
    assert not path.parent.exists()
    parts.gate.close()


def test_without_object_storage_connections_are_refused(parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    parts.gate.follow("")
    parts.client()
    wait_until(lambda: "there is no object storage server" in caplog.text, step=parts.work)
