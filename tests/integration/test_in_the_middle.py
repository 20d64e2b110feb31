"""Somebody in the middle of living connections with keys, who changes what passes: `nox -s chaos -- -s -k in_the_middle`."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from scaler import Client
from scaler_protocol.address import Address
from scaler_protocol.testing.security_directory import make_security_directory
from tests.integration import functions as f
from tests.integration.deployment import Deployment, wait_for

pytestmark = pytest.mark.without_keys("it makes its own keys")

GREETING_AND_HANDSHAKE = 1000
"""Bytes of each direction that pass unchanged: the connection lives before it is meddled with."""

Change = Callable[[bytes, random.Random], list[bytes]]


def flipped(data: bytes, rng: random.Random) -> list[bytes]:
    at = rng.randrange(len(data))
    return [data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]]


def repeated(data: bytes, rng: random.Random) -> list[bytes]:
    return [data, data]


def shortened(data: bytes, rng: random.Random) -> list[bytes]:
    return [data[: rng.randrange(len(data))]]


def with_noise(data: bytes, rng: random.Random) -> list[bytes]:
    return [data, rng.randbytes(100)]


class Meddler:
    """Passes bytes on in both directions, and changes the next ones of one direction when it is told to."""

    def __init__(self, address: str) -> None:
        self._server = Address.parse(address)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._due: dict[bool, tuple[Change, random.Random]] = {}
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="in the middle")]
        self._threads[0].start()

    def meddle(self, to_server: bool, change: Change, seed: int) -> None:
        """Change what passes next in this direction."""
        self._due[to_server] = change, random.Random(seed)

    @property
    def is_due(self) -> bool:
        """Whether something is still to be changed."""
        return bool(self._due)

    def has_more_than(self, connections: int) -> bool:
        """Whether there have been more connections."""
        return self.connections > connections

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                server = socket.create_connection((self._server.host, self._server.port))
                self.connections += 1
                self._sockets += [peer, server]
                for one, other, to_server in ((peer, server, True), (server, peer, False)):
                    name = f"in the middle, {'to' if to_server else 'from'} the server"
                    self._threads.append(threading.Thread(target=self._pass, args=(one, other, to_server), name=name))
                    self._threads[-1].start()

    def _pass(self, one: socket.socket, other: socket.socket, to_server: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                pieces = [data]
                if passed >= GREETING_AND_HANDSHAKE and to_server in self._due:
                    change, rng = self._due.pop(to_server)
                    pieces = change(data, rng)
                passed += len(data)
                for piece in pieces:
                    other.sendall(piece)
        for sock in (one, other):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        for sock in self._sockets:
            sock.close()


@pytest.mark.chaos
@pytest.mark.timeout(280)
@pytest.mark.parametrize("whose", ["client", "worker"])
def test_whoever_meddles_in_the_middle_changes_no_answer(deployment: Deployment, tmp_path: Path, whose: str) -> None:
    keys = make_security_directory(tmp_path / "keys")
    scheduler = deployment.scheduler("--security-dir", str(keys))
    meddler = Meddler(scheduler.address)
    try:
        at = {"client": scheduler.address, "worker": scheduler.address, whose: meddler.address}
        workers = deployment.workers(at["worker"], "--security-dir", str(keys), count=1)
        with Client(at["client"], security=keys) as client:
            seed = int(os.environ.get("SCALER_SEED", "1"))
            print(f"seed {seed}")
            for number, change in enumerate((flipped, repeated, shortened, with_noise) * 2):
                for to_server in (True, False):
                    said = f"{whose}: {change.__name__}, {'to' if to_server else 'from'} the scheduler"
                    before = meddler.connections
                    futures = [client.submit(f.square, value) for value in range(300)]
                    meddler.meddle(to_server, change, seed * 100 + number)
                    futures += [client.submit(f.square, value) for value in range(300)]
                    assert [future.result(60) for future in futures] == [value**2 for value in range(300)] * 2
                    wait_for(f"a change: {said}", lambda: not meddler.is_due, 30)
                    wait_for(f"another connection: {said}", partial(meddler.has_more_than, before), 30)
                    print(f"{said}: connection closed, all answers right")
            assert client.submit(f.square, 7).result(60) == 49
        assert psutil.pid_exists(workers.pid)
    finally:
        meddler.close()
