"""What intruders try at a cluster with keys, beside honest work that must not notice: `nox -s chaos -- -s -k nobody_gets_in`."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from scaler import Client
from scaler_protocol.address import Address
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.directory import load_peer
from scaler_protocol.security.keys import new_key_pair, pinned_id
from scaler_protocol.testing.security_directory import add_key, make_security_directory
from scaler_protocol.transport import DealerLink
from scaler_protocol.transport.curve_boxes import MORE
from scaler_protocol.transport.curve_decoder import CurveDecoder
from scaler_protocol.transport.curve_stream import CurveStream
from scaler_protocol.transport.publisher import Subscriber
from scaler_protocol.transport.streams import dealer_decoder
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import SEQUENCED, UNSEQUENCED, Envelope, encode_envelope
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for

pytestmark = pytest.mark.without_keys("it makes its own keys, some of them wrong")

ANSWER_SECONDS = 5.0
FORGERIES = 10_000
CONNECTS = 10_000
SLOW_PEERS = 100
SLOW_SECONDS = 20.0


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
        return "\n".join(f"{what:<{width}}  {outcome}" for what, outcome in self._rows)


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


def until(link: DealerLink, condition: Callable[[], object], seconds: float = ANSWER_SECONDS) -> list[m.Message]:
    """Return what came until the condition held."""
    found: list[m.Message] = []
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        link.wait(0.02)
        found += [decode(frames[1:]) for frames in link.receive(100)]
        link.flush()
    return found


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
    assert all(isinstance(message, m.Welcome | m.Refused | m.Heartbeat | m.CreditGrant) for message in found), found
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


def sealed(address: str, keys: PeerSecurity) -> tuple[socket.socket, CurveDecoder]:
    """Return a connection whose handshake is over, and what seals frames for it."""
    sock = connected_socket(address)
    sock.setblocking(False)
    decoder = dealer_decoder(pinned_id(keys.own.public), keys)
    assert isinstance(decoder, CurveDecoder)
    stream = CurveStream(sock, decoder)

    def is_ready() -> bool:
        stream.flush()
        return stream.receive() == [] and stream.ready

    wait_for("the handshake to be over", is_ready)
    sock.settimeout(SLOW_SECONDS)
    return sock, decoder


def stale_results(monitor: str, keys: PeerSecurity) -> int:
    """Return how many results the scheduler says that it has not accepted."""
    subscriber = Subscriber(monitor, security=keys)
    try:
        deadline = time.monotonic() + ANSWER_SECONDS * 2
        while time.monotonic() < deadline:
            frames = subscriber.receive(1.0)
            message = decode(frames[1:]) if frames is not None else None
            if isinstance(message, m.MonitorSnapshot):
                return message.stale_results
    finally:
        subscriber.close()
    raise AssertionError("no snapshot was published")


def resident_bytes(scheduler: Service) -> int:
    """Return the memory of a scheduler and of its object storage server."""
    return sum(psutil.Process(pid).memory_info().rss for pid in (scheduler.pid, *scheduler.children()))


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


@pytest.fixture
def cluster(deployment: Deployment, tmp_path: Path) -> tuple[Service, Path]:
    """A scheduler with keys and two workers, and the directory."""
    keys = make_security_directory(tmp_path / "keys")
    add_key(keys, KeyRole.CLIENT, "eve")
    add_key(keys, KeyRole.WORKER, "eve-worker")
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "--security-dir", str(keys))
    return scheduler, keys


def own(keys: Path, name: str) -> PeerSecurity:
    from scaler_protocol.security.directory import read_key, read_server_public

    return PeerSecurity(read_key(keys / f"{name}.key").pair, read_server_public(keys))


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_nobody_gets_in_and_honest_work_goes_on(cluster: tuple[Service, Path]) -> None:
    scheduler, keys = cluster
    address, storage = scheduler.address, str(scheduler.addresses["object_storage"])
    honest, eve, eve_worker = own(keys, "client"), own(keys, "eve"), own(keys, "eve-worker")
    with (
        Client(address, security=keys) as victim,
        Client(address, security=keys) as busy,
        Load(busy) as load,
    ):
        table = Table(load)
        me = pinned_id(eve.own.public)
        for where, server in (("scheduler", address), ("storage", storage)):
            with linked(server, None, os.urandom(16)) as link:
                table.add(f"no key, {where}", refused(link))
            stranger = new_key_pair()
            with linked(server, PeerSecurity(stranger, eve.server), pinned_id(stranger.public)) as link:
                table.add(f"unknown key, {where}", refused(link))
            with linked(server, PeerSecurity(eve.own, stranger.public), me) as link:
                table.add(f"wrong server key, {where}", refused(link))
            with linked(server, eve, victim.identity) as link:
                table.add(f"identity of another authorised peer, {where}", refused(link))
        worker_id = pinned_id(eve_worker.own.public)
        with linked(address, eve_worker, worker_id) as link:
            table.add("a worker's key as client", closed_after(link, said(hello(worker_id))))
        worker, their_agent = own(keys, "worker"), pinned_id(own(keys, "worker").own.public)
        with linked(address, worker, their_agent) as steady:
            steady.send(said(hello(their_agent, m.Role.AGENT, worker_names=("steady",), capacity=0)))
            assert any(isinstance(answer, m.Welcome) for answer in until(steady, lambda: False, 1.0))
            for where, server in (("scheduler", address), ("storage", storage)):
                with linked(server, eve_worker, their_agent) as link:
                    table.add(f"identity of another worker with one's own key, {where}", refused(link))
            named = hello(their_agent, m.Role.AGENT, worker_names=("steady",), capacity=0)
            with linked(address, eve_worker, worker_id) as link:
                table.add("starting another worker's session anew", closed_after(link, said(named)))
            mine = hello(worker_id, m.Role.AGENT, worker_names=("eve",), capacity=0)
            with linked(address, eve_worker, worker_id) as link:
                gone = said(m.ClientGone(victim.identity), 1)
                table.add("a worker says that another's client is gone", closed_after(link, said(mine), gone))
            with linked(address, eve_worker, worker_id) as link:
                link.send(said(mine))
                link.send(said(m.Goodbye("forged"), 1))
                until(link, lambda: False, 0.5)
            heard = until(steady, lambda: False, 0.5)
            assert steady.connected
            assert not any(isinstance(message, m.UnknownPeer | m.Refused | m.Shutdown) for message in heard), heard
            table.add("a worker's goodbye while another works", "ends its own session only")
        for where, server in (("scheduler", address), ("storage", storage)):
            for what, count in (("a frame of 2^40 bytes", 0), ("a message of 1,025 frames", 1025)):
                sock, decoder = sealed(server, eve)
                sealer = decoder.sealer
                assert sealer is not None
                with sock:
                    frames = [sealer.seal(MORE, b"") for _ in range(count)]
                    sock.sendall(b"".join(frames) if frames else b"\2" + (2**40).to_bytes(8, "big"))
                    assert is_closed(sock), what
                table.add(f"{what}, with a key, {where}", "connection closed")
            halves = [sealed(server, own(keys, name)) for name in ("eve", "eve-worker")]
            assert halves[1][1].sealer is not None
            before = resident_bytes(scheduler)
            halves[0][0].sendall(b"\2" + (2**30).to_bytes(8, "big") + bytes(100))
            halves[1][0].sendall(halves[1][1].sealer.seal(MORE, b"never ended"))
            table.add(f"half a frame, and half a message, with a key, {where}", "nothing")
            assert resident_bytes(scheduler) < before + 2**28
            for sock, _ in halves:
                sock.close()
        monitor = load_peer(keys, KeyRole.MONITOR)
        monitor_id = pinned_id(monitor.own.public)
        agent = hello(monitor_id, m.Role.AGENT, worker_names=("w",), capacity=10)
        with linked(address, monitor, monitor_id) as link:
            table.add("a monitor's key as worker", closed_after(link, said(agent)))
        with linked(address, eve, me) as link:
            gone = said(m.ClientGone(victim.identity), 1)
            table.add("disconnecting another's client", closed_after(link, said(hello(me)), gone))
        with linked(address, eve, me) as link:
            cancel = said(m.TaskCancel(victim.identity, [1]), 1)
            table.add("cancelling another's task", closed_after(link, said(hello(me)), cancel))
        with linked(address, eve, me) as link:
            table.add("ending the cluster as client", closed_after(link, said(hello(me)), said(m.Shutdown("bye"), 1)))

        large = np.arange(100_000)
        reference = victim.send_object(large)
        assert victim.submit(f.sum_of, reference).result(30) == large.sum()
        object_id = reference.object_id
        introduction = said(hello(me, to_object_storage=True))
        with linked(storage, eve, me) as link:
            put = said(m.ObjectPut(1, object_id, victim.identity, [b"header", b"forged"]))
            table.add("overwriting another's object", closed_after(link, introduction, put))
        with linked(storage, eve, me) as link:
            delete = said(m.ObjectDelete(1, victim.identity, (object_id,)))
            table.add("deleting another's object", closed_after(link, introduction, delete))
        with linked(storage, eve, me) as link:
            link.send(introduction)
            for number in range(200):
                link.send(said(m.ObjectGet(number + 1, os.urandom(16))))
            answers = until(link, lambda: False, 1.0)
            data = [answer for answer in answers if isinstance(answer, m.ObjectData)]
            assert all(answer.missing for answer in data)
            table.add("reading objects by guessing, 200 times", f"{len(data)} answers, all: no such object")
        assert victim.submit(f.sum_of, reference).result(30) == large.sum()

        waiting = [victim.submit(f.sleep_and_return, 0.05, number) for number in range(200)]
        forger = hello(worker_id, m.Role.AGENT, worker_names=("eve",), capacity=0)
        with linked(address, eve_worker, worker_id) as link:
            link.send(said(forger))
            assert any(isinstance(answer, m.Welcome) for answer in until(link, lambda: False, 1.0))
            monitors = str(scheduler.addresses["monitor"])
            stale_before = stale_results(monitors, monitor)
            rng = random.Random(1)
            for sequence in range(1, FORGERIES + 1):
                number = rng.randrange(1, 400)
                kind = sequence % 2
                message: m.Message = (
                    m.ResultBatch(victim.identity, [number], [1], Packed.of([b"Pforged"]))
                    if kind
                    else m.Inventory(victim.identity, [number], [1], [1])
                )
                link.send(said(message, sequence))
                if sequence % 100 == 0:
                    link.flush()
                    link.receive(100)
            until(link, lambda: not link.has_queued, 30.0)
            until(link, lambda: False, 1.0)
            # They all arrived, at a scheduler that knows the forger as an agent.
            assert link.connected
            assert link.refusal is None
        results = FORGERIES // 2
        wait_for("all forgeries to be counted", lambda: stale_results(monitors, monitor) - stale_before >= results)
        assert [future.result(120) for future in waiting] == list(range(200))
        table.add(
            f"{FORGERIES:,} forged results and claims of another's tasks", f"0 accepted, {results:,} results counted"
        )

        recorder = Recorder(address)
        try:
            with linked(recorder.address, honest, honest_id := pinned_id(honest.own.public)) as link:
                link.send(said(hello(honest_id)))
                assert any(isinstance(answer, m.Welcome) for answer in until(link, lambda: False, 1.0))
        finally:
            recorder.close()
        with connected_socket(address) as sock:
            sock.sendall(recorder.recorded)
            assert is_closed(sock)
        table.add("somebody in the middle plays a recorded connection again", "connection closed")

        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for what, noise in (
            ("HTTP", request),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
            ("noise", os.urandom(500)),
        ):
            for server in (address, storage):
                with connected_socket(server) as sock:
                    sock.sendall(noise)
                    assert is_closed(sock), what
            table.add(f"{what} on both ports", "connections closed")
            with connected_socket(monitors) as sock:
                sock.sendall(noise)
            assert stale_results(monitors, monitor) >= results
            table.add(f"{what} on the monitors' port", "monitors go on hearing")
        with connected_socket(address) as sock:
            sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15 + 1 + 31) + b"\x06" + b"\xff" * 8)
            assert is_closed(sock)
        table.add("a command of 2^64 bytes", "connection closed")
        with connected_socket(address) as sock:
            sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE")
        table.add("half a greeting, then gone", "nothing")

        slow = [connected_socket(server) for server in (address, storage) for _ in range(SLOW_PEERS)]
        try:
            for sock in slow:
                sock.sendall(b"\xff")
            began = time.monotonic()
            assert all(is_closed(sock) for sock in slow)
            lasted = time.monotonic() - began
        finally:
            for sock in slow:
                sock.close()
        table.add(f"{SLOW_PEERS} slow handshakes on both ports", f"all closed within {lasted:.0f} s")

        for number in range(CONNECTS // 100):
            crowd = [connected_socket((address, storage)[number % 2]) for _ in range(100)]
            for sock in crowd:
                sock.close()
        table.add(f"{CONNECTS:,} connects, half of them to storage", "nothing")
        assert victim.submit(f.square, 5).result(30) == 25
        print(f"\n{table.show()}\nthe load meanwhile: {load.rounds} rounds of 100 tasks and an array, all right")
    assert load.trouble is None
