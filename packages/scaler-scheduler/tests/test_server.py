"""The scheduler as a real process on real sockets. No object storage server is started: one is named that nobody needs."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from harness import FUNCTION, definition

from scaler_protocol.address import Address
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.service.child import ChildService
from scaler_protocol.session import Connection, ConnectionEvent, Received
from scaler_protocol.testing.free_ports import free_ports
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import decode_envelope, encode_envelope

DEADLINE_SECONDS = 30.0

MessageType = TypeVar("MessageType")


class Scheduler:
    def __init__(self, *arguments: str, address: str = "tcp://127.0.0.1:0") -> None:
        store = ("--object-storage-address", "tcp://127.0.0.1:9")
        self.child = ChildService.start(
            "scaler_scheduler", [address, *store, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.addresses = self.child.wait_ready(30)

    @property
    def address(self) -> Address:
        return self.addresses["scheduler"]

    def stop(self) -> int:
        return self.child.terminate(10)


class LivePeer:
    """One end of a session over a real socket."""

    def __init__(self, address: Address, hello: m.Hello) -> None:
        self.id = hello.incarnation
        self.link = DealerLink(str(address), hello.name.encode() + hello.incarnation)
        self.connection = Connection(hello)
        self.received: list[m.Message | ConnectionEvent] = []
        self.connection.start(time.monotonic())

    def pump(self) -> None:
        now = time.monotonic()
        self.connection.tick(now)
        for frames in self.link.receive(100):
            for event in self.connection.receive(decode_envelope(frames[0]), decode(frames[1:]), now):
                self.received.append(event.message if isinstance(event, Received) else event)
        outgoing, self.connection.outgoing = self.connection.outgoing, []
        for envelope, message in outgoing:
            self.link.send([encode_envelope(envelope), *encode(message)])

    def wait_for(self, condition: Callable[[], object]) -> None:
        wait_until(condition, DEADLINE_SECONDS, what=lambda: f"received {self.received}", step=self.pump)

    def wait_for_session(self) -> None:
        self.wait_for(lambda: self.connection.established)

    def wait_for_message(self, kind: type[MessageType]) -> MessageType:
        self.wait_for(lambda: any(isinstance(message, kind) for message in self.received))
        found = next(message for message in self.received if isinstance(message, kind))
        self.received.remove(found)
        return found


MakePeer = Callable[[Address, m.Hello], LivePeer]
Start = Callable[..., Scheduler]


@pytest.fixture
def peers() -> Iterator[MakePeer]:
    made: list[LivePeer] = []

    def make(address: Address, hello: m.Hello) -> LivePeer:
        made.append(LivePeer(address, hello))
        return made[-1]

    yield make
    for peer in made:
        peer.link.close(0)


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[Scheduler] = []

    def make(*arguments: str, address: str = "tcp://127.0.0.1:0") -> Scheduler:
        made.append(Scheduler(*arguments, address=address))
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.stop()
        process = scheduler.child.process
        assert isinstance(process, subprocess.Popen)
        if process.stdout is not None:
            process.stdout.close()


def client_hello() -> m.Hello:
    return m.Hello(m.Role.CLIENT, "client", new_id())


def agent_hello() -> m.Hello:
    return m.Hello(m.Role.AGENT, "agent", new_id(), worker_names=("w0",), capacity=2, queue_limit=10)


def test_a_task_makes_the_whole_way(start: Start, peers: MakePeer) -> None:
    scheduler = start()
    client, agent = peers(scheduler.address, client_hello()), peers(scheduler.address, agent_hello())
    client.wait_for_session()
    agent.wait_for_session()
    client.connection.send(definition(client.id, name=""))
    client.connection.send(m.TaskBatch(client.id, [1, 2], (FUNCTION,), Packed.of([b"Pone", b"Ptwo"])))
    client.pump()
    agent.wait_for_message(m.FunctionDefine)
    batch = agent.wait_for_message(m.TaskBatch)
    assert isinstance(batch, m.TaskBatch)
    assert batch.payloads.split() == [b"Pone", b"Ptwo"]
    agent.connection.send(m.ResultBatch(client.id, [1, 2], [1, 1], Packed.of([b"Pa", b"Pb"]), capacity=2))
    agent.pump()
    result = client.wait_for_message(m.ResultBatch)
    assert isinstance(result, m.ResultBatch)
    assert list(result.numbers) == [1, 2]


def test_a_scheduler_raises_its_limit_of_open_files_and_says_when_none_is_left(
    start: Start, peers: MakePeer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    scheduler = start(f"--logging-paths={log}")
    pid = scheduler.child.pid
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2
    first = peers(scheduler.address, client_hello())
    first.wait_for_session()
    few = len(os.listdir(f"/proc/{pid}/fd")) + 2
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, few))
    others = [peers(scheduler.address, client_hello()) for _ in range(4)]
    first.wait_for(
        lambda: "no further connections are accepted until others end: Too many open files" in log.read_text()
    )
    assert "LimitNOFILE" in log.read_text()
    for peer in others[:2]:
        peer.wait_for_session()
        peer.link.close(0)
    for peer in others[2:]:
        # Those that waited are let in when others have left.
        peer.wait_for_session()


def test_at_debug_level_the_log_tells_how_long_turns_take(start: Start, peers: MakePeer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    scheduler = start(f"--logging-paths={log}", "--logging-level=DEBUG")
    client = peers(scheduler.address, client_hello())
    line = re.compile(r"turns: \d+ took [\d.]+ ms, the longest [\d.]+ ms, or [\d.]+ ms of processor time")
    client.wait_for(lambda: line.search(log.read_text()))


def test_the_audit_log_says_what_was_done(start: Start, peers: MakePeer, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    scheduler = start("--audit-log", str(path))

    def lines(event: str, at: Path = path) -> list[dict[str, Any]]:
        text = at.read_text() if at.exists() else ""
        return [line for line in map(json.loads, text.splitlines()) if line["event"] == event]

    forged = 'x"}\n{"event": "shutdown"}'
    client = peers(scheduler.address, m.Hello(m.Role.CLIENT, forged, new_id()))
    client.wait_for_session()
    client.connection.send(definition(client.id))
    client.connection.send(m.TaskBatch(client.id, [1, 2], (FUNCTION,), Packed.of([b"Pone", b"Ptwo"])))
    client.connection.send(m.TaskCancel(client.id, [1]))
    client.wait_for(lambda: lines("cancel"))
    (connect,) = lines("connect")
    assert (connect["peer"], connect["name"], connect["as"]) == (forged, "", "client")
    # On one host, peers connect through a local socket beside the port.
    assert connect["address"] == "a local socket"
    (submit,) = lines("submit")
    assert (submit["tasks"], submit["functions"], submit["client"]) == (2, ["module.f"], client.id.hex())
    with socket.create_connection((scheduler.address.host, scheduler.address.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(100))
        client.wait_for(lambda: lines("refusal"))
    moved = tmp_path / "audit.log.1"
    path.rename(moved)
    process = scheduler.child.process
    os.kill(process.pid, signal.SIGHUP)
    client.wait_for(path.exists)
    assert scheduler.stop() == 0
    (shutdown,) = lines("shutdown")
    assert "SIGTERM" in shutdown["reason"]
    assert lines("shutdown", moved) == []


def test_a_nested_client_is_relayed_by_its_agent(start: Start, peers: MakePeer) -> None:
    scheduler = start()
    agent = peers(scheduler.address, agent_hello())
    agent.wait_for_session()
    nested = Connection(client_hello())
    nested.start(time.monotonic())
    envelope, hello = nested.outgoing.pop()
    assert isinstance(hello, m.Hello)
    client_id = hello.incarnation
    frames = [encode_envelope(envelope), *map(bytes, encode(hello))]
    agent.connection.send_plain(m.Relay(client_id, frames))
    relayed = agent.wait_for_message(m.Relay)
    assert isinstance(relayed, m.Relay)
    assert relayed.client == client_id
    nested.receive(decode_envelope(relayed.inner[0]), decode(relayed.inner[1:]), time.monotonic())
    assert nested.established


@pytest.mark.parametrize(
    "frames", [[b"x"], [b""], [b"\0" * 48, b"garbage"], [b"\0" * 48] + [b""] * 50, [b"x" * 16] * 3]
)
def test_garbage_costs_its_sender_the_connection_and_nobody_else_anything(
    start: Start, peers: MakePeer, frames: list[bytes]
) -> None:
    scheduler = start()
    client = peers(scheduler.address, client_hello())
    client.wait_for_session()
    vandal = DealerLink(str(scheduler.address), b"vandal")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not vandal.connected:
        assert time.monotonic() < deadline
        vandal.wait(0.1)
        vandal.receive(1)
    vandal.send(frames)
    while vandal.connected:
        assert time.monotonic() < deadline, "it is still connected"
        vandal.wait(0.1)
        vandal.receive(1)
    vandal.close(0)
    asked = client.connection.latency_seconds
    client.connection.heartbeat(m.Heartbeat(), time.monotonic())
    client.wait_for(lambda: client.connection.latency_seconds != asked)


def test_what_is_no_zmtp_costs_nobody_anything(start: Start, peers: MakePeer) -> None:
    scheduler = start()
    with socket.create_connection(("127.0.0.1", scheduler.address.port), DEADLINE_SECONDS) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        client = peers(scheduler.address, client_hello())
        client.wait_for_session()


def test_monitors_get_numbered_snapshots(start: Start, peers: MakePeer) -> None:
    scheduler = start()
    agent = peers(scheduler.address, agent_hello())
    agent.wait_for_session()
    subscriber = Subscriber(str(scheduler.addresses["monitor"]))
    try:
        sequences: list[int] = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(sequences) < 2 and time.monotonic() < deadline:
            agent.pump()
            frames = subscriber.receive(0.2)
            if frames is not None:
                message = decode(frames[1:])
                if isinstance(message, m.MonitorSnapshot):
                    sequences.append(message.sequence)
                    assert [worker.name for worker in message.workers] == ["w0"]
        assert len(sequences) == 2
        assert sequences[1] > sequences[0]
    finally:
        subscriber.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_frees_the_port(start: Start, number: signal.Signals) -> None:
    scheduler = start()
    os.kill(scheduler.child.pid, number)
    assert scheduler.child.join(10) == 0
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", scheduler.address.port))


def test_a_client_can_shut_it_down_unless_it_is_protected(start: Start, peers: MakePeer) -> None:
    open_one, guarded = start(), start("--protected")
    for scheduler in (open_one, guarded):
        client = peers(scheduler.address, client_hello())
        client.wait_for_session()
        client.connection.send(m.Shutdown("test"))
        client.pump()
        if scheduler is guarded:
            client.wait_for_message(m.Notice)
            assert scheduler.child.is_running
        else:
            assert scheduler.child.join(10) == 0


def test_an_address_in_use_is_one_clear_line(start: Start) -> None:
    first = start()
    second = subprocess.run(
        [sys.executable, "-m", "scaler_scheduler", str(first.address), "-osa", "tcp://127.0.0.1:9"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert second.returncode == 1
    assert str(first.address) in second.stderr
    assert "Traceback" not in second.stderr


def test_a_session_goes_on_after_a_restart_on_the_same_port(start: Start, peers: MakePeer) -> None:
    # Its monitors have the port after the next: that must be free the second time, too.
    address = f"tcp://127.0.0.1:{free_ports(3)[0]}"
    first = start(address=address)
    client = peers(first.address, client_hello())
    client.wait_for_session()
    assert client.connection.welcome is not None
    incarnation = client.connection.welcome.incarnation
    os.kill(first.child.pid, signal.SIGKILL)
    first.child.join()
    start(address=address)
    client.wait_for(
        lambda: client.connection.welcome is not None and client.connection.welcome.incarnation != incarnation
    )
