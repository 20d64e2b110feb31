"""Attempts at the ports of a cluster with keys, before anybody is let in: `nox -s chaos -- -s -k nobody_gets_in`."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from scaler_protocol.address import Address
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.keys import new_key_pair, pinned_id
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.transport.zmtp import greeting
from scaler_protocol.wire import messages as m
from tests.integration.attempts.intruders import (
    ANSWER_SECONDS,
    Cluster,
    Table,
    beside_honest_work,
    connected_socket,
    hello,
    is_closed,
    linked,
    refused,
    said,
    snapshot,
    until,
)
from tests.integration.attempts.noises import NOISES
from tests.integration.deployment import wait_for

pytestmark = pytest.mark.without_keys("it makes its own keys, some of them wrong")

CONNECTS = 10_000
SLOW_PEERS = 100
SCANS = 20


class Recorder:
    """Somebody in the middle: passes bytes on in both directions, and keeps those of the client."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.recorded = bytearray()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="in the middle")]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            server = connected_socket(self._address)
            server.settimeout(None)
            self._sockets += [client, server]
            back = threading.Thread(target=self._pass, args=(server, client, bytearray()), name="in the middle, back")
            self._threads.append(back)
            back.start()
            self._pass(client, server, self.recorded)

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                kept += data
                other.sendall(data)

    def close(self) -> None:
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for sock in self._sockets:
            sock.close()


def hold_slow_peers(addresses: tuple[str, ...]) -> float:
    """Return after how many seconds all peers that send a single byte have been closed."""
    began = time.monotonic()
    slow = [connected_socket(address) for address in addresses for _ in range(SLOW_PEERS)]
    try:
        for sock in slow:
            sock.sendall(b"\xff")
        assert all(is_closed(sock) for sock in slow)
        return time.monotonic() - began
    finally:
        for sock in slow:
            sock.close()


def refused_monitor(address: str, keys: PeerSecurity | None) -> str:
    """Return why a subscriber is refused; it must not hear anything."""
    subscriber = Subscriber(address, security=keys)
    try:
        deadline = time.monotonic() + ANSWER_SECONDS * 2
        while not subscriber.watch.refusal and time.monotonic() < deadline:
            assert subscriber.receive(0.1) is None
        assert not subscriber.watch.connected
        assert subscriber.watch.refusal, "it got in"
        return f"refused: {subscriber.watch.refusal}"
    finally:
        subscriber.close()


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Return where these processes listen."""
    return {
        connection.laddr
        for pid in pids
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_nobody_gets_in_through_the_ports(cluster: Cluster) -> None:
    addresses = (cluster.address, cluster.storage)
    with beside_honest_work(cluster.address, cluster.keys) as (victim, table), ThreadPoolExecutor(1) as aside:
        lasted = aside.submit(hold_slow_peers, addresses)
        try_keys(cluster, table, victim.identity)
        try_monitors(cluster, table)
        try_recorded_bytes(cluster, table)
        try_noise(cluster, table)
        ports = listening([each for it in (cluster.scheduler, cluster.workers) for each in (it.pid, *it.children())])
        assert {Address.parse(it).port for it in (*addresses, cluster.monitors)} <= {port for _, port in ports}
        for _ in range(SCANS):
            for host, port in ports:
                socket.create_connection((host, port)).close()
        table.add(f"{SCANS} scans of all {len(ports)} ports that the services listen on", "nothing")
        for number in range(CONNECTS // 100):
            crowd = [connected_socket(addresses[number % 2]) for _ in range(100)]
            for sock in crowd:
                sock.close()
        table.add(f"{CONNECTS:,} connects, half of them to storage", "nothing")
        seconds = lasted.result(60)
        table.add(f"{SLOW_PEERS} slow handshakes on both ports", f"all closed within {seconds:.0f} s")


def try_keys(cluster: Cluster, table: Table, victim: bytes) -> None:
    eve, stranger = cluster.own("eve"), new_key_pair()
    for where, server in cluster.servers:
        with linked(server, None, os.urandom(16)) as link:
            table.add(f"no key, {where}", refused(link))
        with linked(server, PeerSecurity(stranger, eve.server), pinned_id(stranger.public)) as link:
            table.add(f"unknown key, {where}", refused(link))
        with linked(server, PeerSecurity(eve.own, stranger.public), pinned_id(eve.own.public)) as link:
            table.add(f"wrong server key, {where}", refused(link))
        with linked(server, eve, victim) as link:
            table.add(f"identity of another authorised peer, {where}", refused(link))


def try_monitors(cluster: Cluster, table: Table) -> None:
    eve, stranger = cluster.own("eve"), new_key_pair()
    for what, keys in (
        ("no key", None),
        ("unknown key", PeerSecurity(stranger, eve.server)),
        ("a client's key", eve),
        ("a worker's key", cluster.own("eve-worker")),
        ("wrong server key", PeerSecurity(cluster.own("monitor").own, stranger.public)),
    ):
        table.add(f"{what}, monitors' port", refused_monitor(cluster.monitors, keys))
    assert snapshot(cluster.monitors, cluster.own("monitor")).workers


def try_recorded_bytes(cluster: Cluster, table: Table) -> None:
    honest = cluster.own("client")
    recorder = Recorder(cluster.address)
    try:
        with linked(recorder.address, honest, honest_id := pinned_id(honest.own.public)) as link:
            link.send(said(hello(honest_id)))
            assert any(isinstance(answer, m.Welcome) for answer in until(link, lambda: False, 1.0))
    finally:
        recorder.close()
    with connected_socket(cluster.address) as sock:
        sock.sendall(recorder.recorded)
        assert is_closed(sock)
    table.add("somebody in the middle plays a recorded connection again", "connection closed")


def try_noise(cluster: Cluster, table: Table) -> None:
    monitor = cluster.own("monitor")
    for what, noise in NOISES.items():
        for _, server in cluster.servers:
            with connected_socket(server) as sock:
                sock.sendall(noise)
                assert is_closed(sock), what
        table.add(f"{what}, scheduler and storage", "connections closed")
        with connected_socket(cluster.monitors) as sock:
            sock.sendall(noise)
        assert snapshot(cluster.monitors, monitor).workers
        table.add(f"{what}, monitors' port", "monitors go on hearing")
    begun = greeting(b"CURVE")
    for where, server in (*cluster.servers, ("monitors' port", cluster.monitors)):
        with connected_socket(server) as sock:
            sock.sendall(begun + b"\x06" + b"\xff" * 8)
            assert is_closed(sock)
        table.add(f"a command of 2^64 bytes, {where}", "connection closed")
        with connected_socket(server) as sock:
            sock.sendall(begun[: len(begun) // 2])
        table.add(f"half a greeting, then gone, {where}", "nothing")
    wait_for("monitors to go on hearing", lambda: snapshot(cluster.monitors, monitor).workers)
