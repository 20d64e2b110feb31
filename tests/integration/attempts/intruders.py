"""What attempts have in common: connections made by hand with whatever keys, honest work beside them, and the table."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaler import Client
from scaler_protocol.address import Address
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.directory import read_key, read_server_public
from scaler_protocol.security.keys import pinned_id
from scaler_protocol.transport import DealerLink
from scaler_protocol.transport.curve_boxes import MORE
from scaler_protocol.transport.curve_decoder import CurveDecoder
from scaler_protocol.transport.curve_stream import CurveStream
from scaler_protocol.transport.stream import Stream
from scaler_protocol.transport.streams import connecting_decoder
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.transport.zmtp import Decoder, SocketType
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import SEQUENCED, UNSEQUENCED, Envelope, encode_envelope
from tests.integration import functions as f
from tests.integration.deployment import Service, wait_for

ANSWER_SECONDS = 5.0
SLOW_SECONDS = 20.0


@dataclass(frozen=True)
class Cluster:
    """A cluster with keys."""

    scheduler: Service
    workers: Service
    keys: Path
    audit_log: Path

    @property
    def address(self) -> str:
        """The scheduler's."""
        return self.scheduler.address

    @property
    def storage(self) -> str:
        """Object storage's address."""
        return str(self.scheduler.addresses["object_storage"])

    @property
    def monitors(self) -> str:
        """Where monitors connect."""
        return str(self.scheduler.addresses["monitor"])

    @property
    def servers(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Names and addresses of those that speak our own ZMTP."""
        return ("scheduler", self.address), ("storage", self.storage)

    def own(self, name: str) -> PeerSecurity:
        """Return the keys of one peer."""
        return PeerSecurity(read_key(self.keys / f"{name}.key").pair, read_server_public(self.keys))

    def refusals(self, *names: str) -> Counter[str]:
        """Return how often the audit log says that something of these keys was refused, by reason."""
        found: Counter[str] = Counter()
        for line in map(json.loads, self.audit_log.read_text(encoding="utf-8").splitlines()):
            if line["event"] == "refusal" and line["name"] in names:
                found[line["reason"]] += 1 + line.get("repeated", 0)
        return found


class Load:
    """An honest client whose tasks and objects must all come back right."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="honest load")
        self.rounds = 0
        self.trouble: BaseException | None = None

    def _run(self) -> None:
        rng = np.random.default_rng(1)
        try:
            while not self._ending.is_set():
                array = rng.random(50_000)
                futures = [self._client.submit(f.square, number) for number in range(100)]
                assert [future.result(60) for future in futures] == [number * number for number in range(100)]
                assert self._client.submit(f.sum_of, array).result(60) == pytest.approx(array.sum())
                self.rounds += 1
        except BaseException as error:
            self.trouble = error

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(120)


@contextlib.contextmanager
def beside_honest_work(address: str, keys: Path | None) -> Iterator[tuple[Client, Table]]:
    """Give a client that attempts may be aimed at, and a table that sees the work of another one go on. Prints the table."""
    with Client(address, security=keys) as victim, Client(address, security=keys) as busy, Load(busy) as load:
        table = Table(load)
        yield victim, table
        assert victim.submit(f.square, 5).result(30) == 25
        print(table.show())
    assert load.trouble is None


class Table:
    """Attempts and how they ended, and that honest work went on."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._rows: list[tuple[str, str]] = []

    def add(self, what: str, outcome: str) -> None:
        """Note an outcome, when the load has finished another round."""
        before = self._load.rounds
        wait_for(f"the load to go on after: {what}", lambda: self._load.rounds > before or self._load.trouble, 60)
        assert self._load.trouble is None, what
        self._rows.append((what, outcome))

    def show(self) -> str:
        """Return the table."""
        width = max(len(what) for what, _ in self._rows)
        lines = [f"{what:<{width}}  {outcome}" for what, outcome in self._rows]
        lines.append(f"the load meanwhile: {self._load.rounds} rounds of 100 tasks and an array, all right")
        return "\n" + "\n".join(lines)


@contextlib.contextmanager
def linked(address: str, keys: PeerSecurity | None, identity: bytes) -> Iterator[DealerLink]:
    link = DealerLink(address, identity, keys)
    try:
        yield link
    finally:
        link.close()


def said(message: m.Message, sequence: int = 0) -> list[bytes]:
    envelope = Envelope(sequence, 0, SEQUENCED, 1) if sequence else UNSEQUENCED
    return [encode_envelope(envelope), *map(bytes, encode(message))]


def heard(
    link: DealerLink, enough: Callable[[list[m.Message]], object], seconds: float = ANSWER_SECONDS
) -> list[m.Message]:
    """Return what came until it was enough."""
    found: list[m.Message] = []
    deadline = time.monotonic() + seconds
    while not enough(found) and time.monotonic() < deadline:
        link.wait(0.02)
        found += [decode(frames[1:]) for frames in link.receive(100)]
        link.flush()
    return found


def until(link: DealerLink, condition: Callable[[], object], seconds: float = ANSWER_SECONDS) -> list[m.Message]:
    """Return what came until the condition held."""
    return heard(link, lambda _: condition(), seconds)


def refused(link: DealerLink) -> str:
    """Return why the handshake was refused."""
    found = until(link, lambda: link.refusal is not None)
    assert found == []
    assert link.refusal is not None, "it got in"
    return f"refused: {link.refusal}"


def hello(identity: bytes, role: m.Role = m.Role.CLIENT, **more: object) -> m.Hello:
    return m.Hello(role, "intruder", identity, hello_number=1, **more)  # type: ignore[arg-type]


def closed_after(link: DealerLink, *messages: list[bytes]) -> str:
    """Send once there is a connection; it must be closed, and nothing but a session's own words may come back."""
    until(link, lambda: link.connected)
    assert link.connected
    for frames in messages:
        link.send(frames)
    found = until(link, lambda: not link.connected)
    assert not link.connected, f"it stays connected, and hears {found}"
    assert all(
        isinstance(message, m.Welcome | m.Refused | m.UnknownPeer | m.Heartbeat | m.CreditGrant) for message in found
    ), found
    return "connection closed"


def connected_socket(address: str) -> socket.socket:
    parsed = Address.parse(address)
    return socket.create_connection((parsed.host, parsed.port), timeout=SLOW_SECONDS)


def is_closed(sock: socket.socket) -> bool:
    """Whether the other end has closed, after whatever it had to say."""
    try:
        while sock.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def handshaken(address: str, keys: PeerSecurity | None) -> tuple[socket.socket, Decoder]:
    """Return a connection whose handshake is over, and with keys what seals frames for it."""
    sock = connected_socket(address)
    sock.setblocking(False)
    decoder = connecting_decoder(
        SocketType.DEALER, os.urandom(16) if keys is None else pinned_id(keys.own.public), keys
    )
    stream = CurveStream(sock, decoder) if isinstance(decoder, CurveDecoder) else Stream(sock, decoder)

    def is_ready() -> bool:
        stream.flush()
        return stream.receive() == [] and stream.ready

    wait_for("the handshake to be over", is_ready)
    sock.settimeout(SLOW_SECONDS)
    return sock, decoder


def framed(decoder: Decoder, frame: bytes, *, more: bool = False) -> bytes:
    """Return a frame of up to 200 bytes as it travels on the connection of this decoder."""
    if isinstance(decoder, CurveDecoder):
        assert decoder.sealer is not None
        return bytes(decoder.sealer.seal(MORE if more else 0, frame))
    return bytes((more, len(frame))) + frame


class FalseWorker:
    """An agent made by hand: it introduces itself like any other, is given tasks, and says what it likes."""

    def __init__(self, link: DealerLink, identity: bytes, capabilities: m.Capabilities = (), capacity: int = 0) -> None:
        self.link = link
        self.identity = identity
        self._said = 0
        more: dict[str, Any] = {"worker_names": ("false",), "capabilities": capabilities, "capacity": capacity}
        link.send(said(hello(identity, m.Role.AGENT, **more)))
        found = heard(link, lambda found: any(isinstance(message, m.Welcome) for message in found))
        assert found, "nobody answers"
        self._found = found

    def given(self, count: int) -> list[m.TaskBatch]:
        """Return the batches of so many tasks."""
        batches: list[m.TaskBatch] = []

        def enough(found: list[m.Message]) -> bool:
            batches[:] = [message for message in (*self._found, *found) if isinstance(message, m.TaskBatch)]
            return sum(len(batch.numbers) for batch in batches) >= count

        heard(self.link, enough)
        assert sum(len(batch.numbers) for batch in batches) == count
        self._found = []
        return batches

    def say(self, message: m.Message, sequence: int = 0) -> None:
        """Send a message, under the next number unless another one is given."""
        if not sequence:
            self._said = sequence = self._said + 1
        self.link.send(said(message, sequence))
        if sequence % 100 == 0:
            self.link.flush()
            self.link.receive(100)

    def leave(self) -> None:
        """Say goodbye, so that nobody waits for it to come back; return when the scheduler has heard it."""
        self.say(m.Goodbye("it leaves"))
        self.say(m.Heartbeat())
        found = heard(self.link, lambda found: any(isinstance(it, m.UnknownPeer) for it in found), 30.0)
        assert any(isinstance(it, m.UnknownPeer) for it in found), found

    def finish(self) -> None:
        """Wait until all is sent; the connection must still be there."""
        until(self.link, lambda: not self.link.has_queued, 30.0)
        assert self.link.connected
        assert self.link.refusal is None


def snapshot(monitor: str, keys: PeerSecurity | None) -> m.MonitorSnapshot:
    """Return the scheduler's figures."""
    subscriber = Subscriber(monitor, security=keys)
    try:
        deadline = time.monotonic() + ANSWER_SECONDS * 2
        while time.monotonic() < deadline:
            frames = subscriber.receive(1.0)
            message = decode(frames[1:]) if frames is not None else None
            if isinstance(message, m.MonitorSnapshot):
                return message
    finally:
        subscriber.close()
    raise AssertionError("no snapshot was published")
