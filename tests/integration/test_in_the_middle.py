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

import numpy as np
import psutil
import pytest

from scaler import Client
from scaler_protocol.address import Address
from scaler_protocol.testing.security_directory import make_security_directory
from scaler_protocol.transport.zmtp import GREETING_BYTES
from tests.integration import functions as f
from tests.integration.deployment import Deployment, wait_for

pytestmark = pytest.mark.without_keys("it makes its own keys")

GREETING_AND_HANDSHAKE = 1000
"""Bytes of each direction that pass unchanged: the connection lives before it is meddled with."""

LONG_HEAD_BYTES = 9

Change = Callable[[bytes, bytes, random.Random], list[bytes]]
"""What becomes of two frames that follow each other."""


def flipped(one: bytes, other: bytes, rng: random.Random) -> list[bytes]:
    """One bit of what is sealed. (The flags and the size before it are not: a wrong size is like bytes that do not come.)"""
    at = rng.randrange(LONG_HEAD_BYTES, len(one))
    return [one[:at] + bytes((one[at] ^ 1 << rng.randrange(8),)) + one[at + 1 :], other]


def replayed(one: bytes, other: bytes, rng: random.Random) -> list[bytes]:
    return [one, other, one]


def reordered(one: bytes, other: bytes, rng: random.Random) -> list[bytes]:
    return [other, one]


def left_out(one: bytes, other: bytes, rng: random.Random) -> list[bytes]:
    return [other]


def truncated(one: bytes, other: bytes, rng: random.Random) -> list[bytes]:
    return [one[: rng.randrange(LONG_HEAD_BYTES, len(one))], other]


def with_noise(one: bytes, other: bytes, rng: random.Random) -> list[bytes]:
    return [one, rng.randbytes(100), other]


class Frames:
    """Cuts the bytes of one direction into the greeting and frames."""

    def __init__(self) -> None:
        self._rest = b""
        self._greeted = False

    def cut(self, data: bytes) -> list[bytes]:
        """Return what is complete now."""
        rest = self._rest + data
        found = []
        while (size := self._size(rest)) <= len(rest):
            self._greeted = True
            found.append(rest[:size])
            rest = rest[size:]
        self._rest = rest
        return found

    def _size(self, data: bytes) -> int:
        if not self._greeted:
            return GREETING_BYTES
        if len(data) < LONG_HEAD_BYTES:
            # What is sealed is never so short.
            return LONG_HEAD_BYTES
        is_long = data[0] & 2
        return LONG_HEAD_BYTES + int.from_bytes(data[1:9], "big") if is_long else 2 + data[1]


class Meddler:
    """Passes frames on in both directions, and changes the next two of one direction when it is told to."""

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
        """Change the next two frames in this direction."""
        self._due[to_server] = change, random.Random(seed)

    def has_changed(self) -> bool:
        """Whether nothing is left to be changed."""
        return not self._due

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
        frames = Frames()
        kept: list[bytes] = []
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                for frame in frames.cut(data):
                    pieces = [frame]
                    if passed >= GREETING_AND_HANDSHAKE and to_server in self._due:
                        kept.append(frame)
                        pieces = []
                        if len(kept) == 2:
                            change, rng = self._due.pop(to_server)
                            pieces = change(kept[0], kept[1], rng)
                            kept = []
                    passed += len(frame)
                    other.sendall(b"".join(pieces))
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
def test_nobody_gets_in_between_who_changes_an_answer(deployment: Deployment, tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    flags = ("--security-dir", str(keys))
    with contextlib.ExitStack() as stack:

        def before(address: str) -> Meddler:
            meddler = Meddler(address)
            stack.callback(meddler.close)
            return meddler

        storage = before(deployment.storage(*flags).address)
        scheduler = deployment.scheduler(*flags, "--object-storage-address", storage.address)
        at_workers = [before(scheduler.address) for _ in range(2)]
        workers = [deployment.workers(meddler.address, *flags, count=1) for meddler in at_workers]
        at_clients = [before(scheduler.address) for _ in range(2)]
        clients = [stack.enter_context(Client(meddler.address, security=keys)) for meddler in at_clients]
        places = {
            "from a client": (at_clients[0], True),
            "to a client": (at_clients[1], False),
            "from a worker": (at_workers[0], True),
            "to a worker": (at_workers[1], False),
        }
        seed = int(os.environ.get("SCALER_SEED", "1"))
        print(f"\nseed {seed}")
        for number, change in enumerate((flipped, replayed, reordered, left_out, truncated, with_noise)):
            if number % 2 == 0:
                # Requests to object storage are repeated after two seconds or more, so every other time must do.
                places["to object storage"] = storage, True
            else:
                del places["to object storage"]
            connections = {name: meddler.connections for name, (meddler, _) in places.items()}
            futures = [client.submit(f.square, value) for client in clients for value in range(300)]
            for place, (meddler, to_server) in enumerate(places.values()):
                meddler.meddle(to_server, change, seed * 100 + number * 10 + place)
            futures += [client.submit(f.square, value) for client in clients for value in range(300)]
            array = np.random.default_rng(number).random(50_000)
            totals = [client.submit(f.sum_of, array) for client in clients]
            assert [future.result(60) for future in futures] == [value**2 for value in range(300)] * 4
            assert [total.result(60) for total in totals] == [pytest.approx(array.sum())] * 2
            for name, (meddler, _) in places.items():
                said = f"frames {change.__name__}, {name}"
                wait_for(f"a change: {said}", meddler.has_changed, 30)
                wait_for(f"another connection: {said}", partial(meddler.has_more_than, connections[name]), 30)
                print(f"{said}: connection closed, another one made, all answers right")
        assert [client.submit(f.square, 7).result(60) for client in clients] == [49, 49]
        assert all(psutil.pid_exists(agent.pid) for agent in workers)
