"""CURVE over real sockets: our own ends with each other, with libzmq, with Node, and with those who should not get in."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import zmq

from scaler_protocol.address import Address
from scaler_protocol.errors import (
    RefusedError,
    TransportError,
    UnknownKeyError,
    WrongIdentityError,
    WrongMechanismError,
    WrongServerKeyError,
)
from scaler_protocol.security.authority import Authority, KeyRole
from scaler_protocol.security.credentials import PeerSecurity, ServerSecurity
from scaler_protocol.security.keys import fingerprint, new_key_pair, pinned_id, to_text
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener, SendOutcome, admission, endpoints, router
from scaler_protocol.transport.limits import ListenerLimits
from scaler_protocol.transport.probe import require_publisher

SERVER, CLIENT, OTHER, STRANGER = (new_key_pair() for _ in range(4))
FREE_PORT = "tcp://127.0.0.1:0"
BIG = os.urandom(70_000)
HUGE = bytes(range(256)) * (3 * 4096)


def allowed() -> list[Authority]:
    return [
        Authority("pricing", KeyRole.CLIENT, CLIENT.public),
        Authority("night", KeyRole.WORKER, OTHER.public),
    ]


class Ends:
    """What a test opened; closed with it."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.security = ServerSecurity(SERVER, allowed())
        self.refused: list[tuple[str, str]] = []
        self.received: list[tuple[bytes, list[bytes]]] = []
        self.routers: list[RouterListener] = []
        self.links: list[DealerLink] = []

    def router(self, *, keys: bool = True, **options: Any) -> RouterListener:
        listener = RouterListener(
            FREE_PORT,
            security=self.security if keys else None,
            on_refused=lambda address, _, reason: self.refused.append((address, reason)),
            **options,
        )
        self.routers.append(self.stack.enter_context(closing(listener)))
        return listener

    def link(self, address: str, own: Any = CLIENT, identity: bytes = b"", server: bytes = SERVER.public) -> DealerLink:
        security = None if own is None else PeerSecurity(own, server)
        link = DealerLink(address, identity or pinned_id((own or CLIENT).public), security)
        self.links.append(self.stack.enter_context(closing(link)))
        return link

    def attend(self) -> None:
        for listener in self.routers:
            self.received += [(peer, [bytes(frame) for frame in frames]) for peer, frames in listener.receive(100)]

    def until(self, condition: Callable[[], Any]) -> Any:
        return wait_until(condition, step=self.attend)

    def answer(self, link: DealerLink) -> list[bytes]:
        return [bytes(frame) for frame in self.until(lambda: link.receive(1))[0]]

    def refusal(self, link: DealerLink) -> RefusedError:
        def refusal() -> RefusedError | None:
            assert link.receive(1) == []
            return link.refusal

        error = self.until(refusal)
        assert isinstance(error, RefusedError)
        return error


@pytest.fixture(params=["short road", "TCP"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """Ends that meet over the local socket beside a loopback address, and such that meet at the address itself."""
    if request.param == "TCP":
        monkeypatch.setattr(endpoints, "SHORT_ROAD", False)
    with ExitStack() as stack:
        yield Ends(stack)


# --- our own ends


def test_messages_of_all_sizes_go_both_ways(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    frames = [b"", b"a", b"b" * 222, b"c" * 223, BIG, b"d", HUGE, b"tail", BIG]
    link.send(frames)
    link.send([HUGE])

    def both_arrived() -> bool:
        assert link.receive(1) == []
        return len(ends.received) == 2

    ends.until(both_arrived)
    (peer, first), (_, second) = ends.received
    assert (first, second) == (frames, [HUGE])
    assert listener.authority_of(peer) == allowed()[0]
    listener.send(peer, frames)
    assert ends.answer(link) == frames


def test_several_threads_send_over_one_link(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    count = 300

    def send(number: int) -> None:
        for turn in range(count):
            link.send([b"%d %d" % (number, turn), BIG[: turn * 200]])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()

    def all_arrived() -> bool:
        assert link.receive(1) == []
        return len(ends.received) == 4 * count

    ends.until(all_arrived)
    for thread in threads:
        thread.join()
    heads = [frames[0].split() for _, frames in ends.received]
    for number in range(4):
        assert [int(turn) for who, turn in heads if int(who) == number] == list(range(count))
    assert ends.refused == []


def test_many_messages_wait_for_a_slow_reader_and_arrive_in_order(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    link.send([b"hello"])
    ends.until(lambda: link.receive(1) or ends.received)
    peer = ends.received[0][0]
    outcomes = {listener.send(peer, [b"%d" % number, BIG, HUGE]) for number in range(20)}
    assert SendOutcome.QUEUED in outcomes
    assert [ends.answer(link)[0] for _ in range(20)] == [b"%d" % number for number in range(20)]


def test_a_link_connects_again_and_the_identity_stays(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    link.send([b"1"])
    ends.until(lambda: link.receive(1) or ends.received)
    peer = ends.received[0][0]
    listener.disconnect(peer)
    ends.until(lambda: link.receive(1) or not link.connected)
    link.send([b"2"])
    ends.until(lambda: link.receive(1) or len(ends.received) == 2)
    assert ends.received[1] == (peer, [b"2"])


# --- who does not get in


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"own": STRANGER}, UnknownKeyError, "does not let in this key"),
        ({"server": STRANGER.public}, WrongServerKeyError, "another key than the one expected"),
        ({"own": None}, WrongMechanismError, "lets in only peers with keys"),
        ({"identity": pinned_id(OTHER.public)}, WrongIdentityError, "belongs to another key"),
        ({"identity": b"scheduler-1"}, WrongIdentityError, "belongs to another key"),
    ],
)
def test_who_does_not_get_in_is_told_why(
    ends: Ends, options: dict[str, Any], error: type[RefusedError], text: str
) -> None:
    listener = ends.router()
    link = ends.link(listener.address, **options)
    link.send([b"let me in"])
    refusal = ends.refusal(link)
    assert isinstance(refusal, error)
    assert text in str(refusal)
    assert link.misdirected
    assert link.has_answered
    assert ends.received == []
    ends.until(lambda: ends.refused)
    assert listener.refused == len(ends.refused)


def test_keys_at_a_server_without_are_refused_with_a_sentence(ends: Ends) -> None:
    link = ends.link(ends.router(keys=False).address)
    assert "uses no keys, and this end requires them" in str(ends.refusal(link))


def test_a_revoked_key_loses_its_connection_and_nobody_else_notices(ends: Ends) -> None:
    listener = ends.router()
    revoked, other = ends.link(listener.address), ends.link(listener.address, OTHER)
    revoked.send([b"1"])
    other.send([b"2"])
    ends.until(lambda: (revoked.receive(1), other.receive(1)) and len(ends.received) == 2)
    peers = {frames[0]: peer for peer, frames in ends.received}
    ends.security.allow(allowed()[1:])
    listener.refresh_authorities()
    assert listener.authority_of(peers[b"1"]) is None
    assert listener.send(peers[b"1"], [b"too late"]) == SendOutcome.GONE
    assert isinstance(ends.refusal(revoked), UnknownKeyError)
    listener.send(peers[b"2"], [b"still here"])
    assert ends.answer(other) == [b"still here"]
    assert other.refusal is None


def test_what_a_revoked_key_has_sent_is_dropped(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    ends.until(lambda: link.receive(1) or link.connected)
    for number in range(3):
        link.send([b"%d" % number])
    ((_, frames),) = wait_until(lambda: listener.receive(1))
    assert frames == [b"0"]
    ends.security.allow([])
    listener.refresh_authorities()
    assert listener.receive(10) == []


def test_a_key_that_is_allowed_later_gets_in(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address, STRANGER)
    link.send([b"hello"])
    ends.refusal(link)
    ends.security.allow([*allowed(), Authority("new", KeyRole.CLIENT, STRANGER.public)])
    listener.refresh_authorities()
    ends.until(lambda: link.receive(1) or ends.received)
    assert link.refusal is None


def test_a_new_role_counts_from_the_refresh_on(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    link.send([b"hello"])
    ends.until(lambda: link.receive(1) or ends.received)
    ends.security.allow([Authority("pricing", KeyRole.OPERATOR, CLIENT.public)])
    listener.refresh_authorities()
    authority = listener.authority_of(ends.received[0][0])
    assert authority is not None
    assert authority.role is KeyRole.OPERATOR


def test_the_server_itself_may_connect_as_the_scheduler(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address, SERVER)
    link.send([b"hello"])
    ends.until(lambda: link.receive(1) or ends.received)
    authority = listener.authority_of(ends.received[0][0])
    assert authority is not None
    assert authority.role is KeyRole.SCHEDULER


def test_an_identity_is_taken_over_with_the_same_key_only(ends: Ends) -> None:
    listener = ends.router()
    identity = pinned_id(CLIENT.public)
    first = ends.link(listener.address, identity=identity)
    first.send([b"1"])
    ends.until(lambda: first.receive(1) or ends.received)
    thief = ends.link(listener.address, OTHER, identity=identity)
    assert isinstance(ends.refusal(thief), WrongIdentityError)
    listener.send(identity, [b"for the first"])
    assert ends.answer(first) == [b"for the first"]
    second = ends.link(listener.address, identity=identity)
    second.send([b"2"])
    ends.until(lambda: second.receive(1) or len(ends.received) == 2)
    assert ends.received[1] == (identity, [b"2"])


def test_the_last_message_of_a_peer_that_has_gone_is_still_its_own(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    ends.until(lambda: link.receive(1) or link.connected)
    link.send([b"goodbye"])
    link.close()
    ((peer, _),) = wait_until(lambda: listener.receive(1))
    assert listener.authority_of(peer) is not None
    wait_until(lambda: listener.receive(1) == [] and listener.authority_of(peer) is None)


# --- the other end is libzmq


@pytest.fixture
def libzmq() -> Iterator[Callable[[int], zmq.Socket[Any]]]:
    with ExitStack() as stack:
        context = zmq.Context()
        stack.callback(context.term)

        def create(kind: int) -> zmq.Socket[Any]:
            created = stack.enter_context(closing(context.socket(kind)))
            created.setsockopt(zmq.LINGER, 0)
            return created

        yield create


def as_client(created: zmq.Socket[Any], own: Any = CLIENT, server: bytes = SERVER.public) -> None:
    created.setsockopt(zmq.CURVE_PUBLICKEY, to_text(own.public).encode())
    created.setsockopt(zmq.CURVE_SECRETKEY, to_text(own.secret).encode())
    created.setsockopt(zmq.CURVE_SERVERKEY, to_text(server).encode())


def as_server(created: zmq.Socket[Any]) -> None:
    created.setsockopt(zmq.CURVE_SERVER, 1)
    created.setsockopt(zmq.CURVE_PUBLICKEY, to_text(SERVER.public).encode())
    created.setsockopt(zmq.CURVE_SECRETKEY, to_text(SERVER.secret).encode())


@pytest.mark.parametrize("identity", [b"", pinned_id(CLIENT.public)], ids=["any", "pinned"])
def test_a_dealer_of_libzmq_with_a_key_gets_in(
    ends: Ends, libzmq: Callable[[int], zmq.Socket[Any]], identity: bytes
) -> None:
    listener = ends.router()
    dealer = libzmq(zmq.DEALER)
    as_client(dealer)
    dealer.setsockopt(zmq.HEARTBEAT_IVL, 20)
    dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2000)
    if identity:
        dealer.setsockopt(zmq.ROUTING_ID, identity)
    dealer.connect(listener.address)
    frames = [b"", b"a", BIG, b"b" * 300, HUGE]
    dealer.send_multipart(frames)
    ends.until(lambda: ends.received)
    ((peer, arrived),) = ends.received
    assert arrived == frames
    assert peer[:8] == fingerprint(CLIENT.public)
    assert not identity or peer == identity
    listener.send(peer, frames)
    ends.until(lambda: dealer.poll(0))
    assert dealer.recv_multipart() == frames
    # Heartbeats are answered, or libzmq would end the connection.
    until = time.monotonic() + 0.2
    ends.until(lambda: time.monotonic() > until)
    dealer.send(b"again")
    ends.until(lambda: len(ends.received) == 2)
    assert ends.received[1][0] == peer


@pytest.mark.parametrize(
    ("own", "server", "events"),
    [
        (STRANGER, SERVER.public, zmq.EVENT_HANDSHAKE_FAILED_AUTH),
        (CLIENT, STRANGER.public, zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
        (None, b"", zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
    ],
    ids=["unknown key", "another server's key", "no key"],
)
def test_a_dealer_of_libzmq_without_a_known_key_does_not_get_in(
    ends: Ends, libzmq: Callable[[int], zmq.Socket[Any]], own: Any, server: bytes, events: int
) -> None:
    listener = ends.router()
    dealer = libzmq(zmq.DEALER)
    if own is not None:
        as_client(dealer, own, server)
    with closing(dealer.get_monitor_socket(events)) as monitor:
        dealer.connect(listener.address)
        dealer.send(b"let me in")
        ends.until(lambda: monitor.poll(0))
        dealer.disable_monitor()
    assert ends.received == []


def test_a_link_talks_to_a_router_of_libzmq(ends: Ends, libzmq: Callable[[int], zmq.Socket[Any]]) -> None:
    server = libzmq(zmq.ROUTER)
    as_server(server)
    server.setsockopt(zmq.HEARTBEAT_IVL, 20)
    # Else each must be answered within that time, also while this thread does not run.
    server.setsockopt(zmq.HEARTBEAT_TIMEOUT, 20_000)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    identity = pinned_id(CLIENT.public)
    link = ends.link(f"tcp://127.0.0.1:{port}", identity=identity)
    frames = [b"", b"a", BIG, b"b" * 300, HUGE]
    link.send(frames)
    ends.until(lambda: link.receive(1) or server.poll(0))
    assert server.recv_multipart() == [identity, *frames]
    server.send_multipart([identity, *frames])
    assert ends.answer(link) == frames


def test_a_publisher_of_libzmq_with_keys_is_found_by_the_probe(libzmq: Callable[[int], zmq.Socket[Any]]) -> None:
    publisher = libzmq(zmq.XPUB)
    as_server(publisher)
    address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
    require_publisher(address, security=PeerSecurity(CLIENT, SERVER.public))
    with pytest.raises(TransportError, match="lets in only peers with keys"):
        require_publisher(address)


def test_a_publisher_of_libzmq_without_keys_is_found_by_the_probe(libzmq: Callable[[int], zmq.Socket[Any]]) -> None:
    publisher = libzmq(zmq.XPUB)
    address = f"tcp://127.0.0.1:{publisher.bind_to_random_port('tcp://127.0.0.1')}"
    with pytest.raises(TransportError, match="uses no keys, and this end requires them"):
        require_publisher(address, security=PeerSecurity(CLIENT, SERVER.public))


@pytest.mark.parametrize(
    ("security", "text"),
    [
        (PeerSecurity(CLIENT, SERVER.public), "monitors have an address of their own"),
        (PeerSecurity(STRANGER, SERVER.public), "does not let in this key"),
        (None, "lets in only peers with keys"),
    ],
)
def test_the_probe_says_what_a_listener_with_keys_is(ends: Ends, security: PeerSecurity | None, text: str) -> None:
    listener = ends.router()
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            listener.wait(0.01)
            listener.receive(1)

    server = threading.Thread(target=serve)
    server.start()
    try:
        with pytest.raises(TransportError, match=text):
            require_publisher(listener.address, 5.0, security=security)
    finally:
        stop.set()
        server.join()


# --- the other end is Node

NODE_DEALER = """
const { Dealer } = require("zeromq");
const [address, serverKey, publicKey, secretKey] = process.argv.slice(1);
const dealer = new Dealer({ curveServerKey: serverKey, curvePublicKey: publicKey, curveSecretKey: secretKey, linger: 0 });
dealer.connect(address);
dealer.send(["hello", Buffer.alloc(300000, 7)])
  .then(() => dealer.receive())
  .then(([greeting, body]) => { console.log(greeting.toString(), body.length); dealer.close(); });
"""


def has_node_zeromq() -> bool:
    node = shutil.which("node")
    if node is None:
        return False
    return subprocess.run([node, "-e", "require('zeromq')"], capture_output=True, check=False).returncode == 0


def test_a_dealer_of_node_with_a_key_gets_in(ends: Ends) -> None:
    if not has_node_zeromq():
        pytest.skip("Node with the npm package zeromq is needed: npm install zeromq, and NODE_PATH=…/node_modules")
    listener = ends.router()
    keys = (to_text(SERVER.public), to_text(CLIENT.public), to_text(CLIENT.secret))
    with subprocess.Popen(
        ["node", "-e", NODE_DEALER, "--", listener.address, *keys], stdout=subprocess.PIPE, text=True
    ) as node:
        ends.until(lambda: ends.received)
        peer, frames = ends.received[0]
        assert frames == [b"hello", b"\7" * 300_000]
        listener.send(peer, [b"welcome", frames[1]])
        ends.until(lambda: node.poll() is not None)
        assert node.stdout is not None
        assert node.stdout.read() == "welcome 300000\n"


# --- limits of a listener


def raw(listener: RouterListener) -> socket.socket:
    address = Address.parse(listener.address)
    return socket.create_connection((address.host, address.port))


def ended(connected: socket.socket) -> bool:
    connected.setblocking(False)
    try:
        return connected.recv(4096) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("keys", [True, False])
def test_http_and_noise_on_the_port_cost_only_their_connection(ends: Ends, keys: bool) -> None:
    listener = ends.router(keys=keys)
    link = ends.link(listener.address, CLIENT if keys else None)
    ends.until(lambda: link.receive(1) or link.connected)
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(60), b"\xfe" * 64):
        with closing(raw(listener)) as connected:
            connected.sendall(data)
            ends.until(lambda: ended(connected))
    assert len(ends.refused) == 3
    assert all("ZMTP" in reason for _, reason in ends.refused)
    link.send([b"unharmed"])
    ends.until(lambda: ends.received)


@pytest.mark.parametrize("keys", [True, False])
def test_a_slow_handshake_ends_at_the_deadline_although_bytes_go_on_arriving(
    ends: Ends, keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "HANDSHAKE_SECONDS_MAX", 0.3)
    listener = ends.router(keys=keys)
    greeting = iter(b"\xff" + bytes(8) + b"\x7f\x03\x01" + bytes(1000))
    with closing(raw(listener)) as connected:

        def dribble() -> bool:
            try:
                connected.send(bytes([next(greeting)]))
            except OSError:
                return True
            return ended(connected)

        wait_until(dribble, step=ends.attend, pause_seconds=0.02)
    assert "handshake was not over" in ends.refused[0][1]


def test_refusals_are_logged_once_for_an_address(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    listener = ends.router()
    for _ in range(5):
        with closing(raw(listener)) as connected:
            connected.sendall(b"no ZMTP")
            ends.until(lambda: ended(connected))
    assert len(caplog.records) == 1
    assert "127.0.0.1" in caplog.text
    assert listener.refused == 5


def test_the_table_of_refusals_is_bounded_and_nothing_is_forged() -> None:
    heard: list[tuple[str, str]] = []
    table = admission.Admission(ListenerLimits(), lambda address, _, reason: heard.append((address, reason)))
    for number in range(2 * admission.REMEMBERED_MAX):
        table.refuse(
            admission.Origin((f"10.0.{number // 250}.{number % 250}", 1)),
            admission.RefusalKind.MALFORMED,
            "two\nlines\x1b[2J",
        )
    assert heard[0] == ("10.0.0.0:1", "two?lines?[2J")
    assert table.refused_from("10.0.0.0") == 0
    assert (
        table.refused_from(
            f"10.0.{(2 * admission.REMEMBERED_MAX - 1) // 250}.{(2 * admission.REMEMBERED_MAX - 1) % 250}"
        )
        == 1
    )


def test_each_kind_of_refusal_of_an_address_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    table = admission.Admission(ListenerLimits(), None)
    origin = admission.Origin(("10.0.0.1", 1))
    for number in range(5):
        table.refuse(origin, admission.RefusalKind.MALFORMED, f"bytes {number}")
        table.refuse(origin, admission.RefusalKind.UNKNOWN_KEY, f"key {number} " + 1000 * "x")
    assert [record.getMessage()[:50] for record in caplog.records] == [
        "closed the connection from 10.0.0.1:1: bytes 0 (fu",
        "closed the connection from 10.0.0.1:1: key 0 xxxxx",
    ]
    assert max(len(record.getMessage()) for record in caplog.records) < 500
    assert table.refused_from("10.0.0.1") == 10


def test_whoever_has_very_many_addresses_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    table = admission.Admission(ListenerLimits(), None)
    for number in range(20_000):
        table.refuse(
            admission.Origin((f"10.{number // 250}.0.{number % 250}", 1)), admission.RefusalKind.MALFORMED, "x"
        )
    # Then the 2,048th, 4,096th, 8,192nd and 16,384th.
    assert len(caplog.records) == admission.REMEMBERED_MAX + 4
    assert "16384" in caplog.messages[-1]


def test_connections_of_another_machine_are_limited_by_address() -> None:
    table = admission.Admission(ListenerLimits(connections_per_address=2), None)
    origin = admission.Origin(("10.0.0.1", 1))
    assert [table.enter(origin) for _ in range(3)] == [True, True, False]
    table.leave(origin)
    assert table.enter(origin)
    local = admission.Origin(("127.0.0.1", 1))
    assert all(table.enter(local) for _ in range(10))


def test_a_listener_closes_what_is_too_much_from_one_address(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission.Origin, "is_local", False)
    listener = ends.router(limits=ListenerLimits(connections_per_address=2))
    with ExitStack() as stack:
        knocking = [stack.enter_context(closing(raw(listener))) for _ in range(3)]
        ends.until(lambda: ends.refused)
        assert ended(knocking[2])
        assert "2 connections from this address already" in ends.refused[0][1]
        knocking[0].close()
        ends.attend()
        following = stack.enter_context(closing(raw(listener)))
        ends.attend()
        assert len(ends.refused) == 1
        assert not ended_after_greeting(following)


def test_the_oldest_handshake_gives_way_to_newer_ones(ends: Ends) -> None:
    listener = ends.router(limits=ListenerLimits(half_open=5))
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(raw(listener))) for _ in range(8)]
        link = ends.link(listener.address)
        link.send([b"hello"])
        ends.until(lambda: link.receive(1) or ends.received)
        assert ended_after_greeting(silent[0])
        assert not ended_after_greeting(silent[-1])


def ended_after_greeting(connected: socket.socket) -> bool:
    connected.settimeout(5)
    assert connected.recv(64)
    return ended(connected)


def test_two_thousand_connections_leave_others_unharmed(ends: Ends) -> None:
    listener = ends.router()
    link = ends.link(listener.address)
    link.send([b"before"])
    ends.until(lambda: link.receive(1) or ends.received)
    stop = threading.Event()

    def knock() -> None:
        for _ in range(2000):
            with closing(raw(listener)) as connected:
                connected.send(b"\xff")
        stop.set()

    knocker = threading.Thread(target=knock)
    knocker.start()
    sent = 1
    while not stop.is_set():
        link.send([b"during"])
        sent += 1
        ends.until(lambda: len(ends.received) == sent)  # noqa: B023
    knocker.join()
    link.send([b"after"])
    ends.until(lambda: ends.received[-1][1] == [b"after"])
    assert link.connected


def test_a_listener_without_descriptors_waits_and_goes_on(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "ACCEPT_PAUSE_SECONDS", 0.05)
    listener = ends.router()
    full = True
    accept = socket.socket.accept

    def accept_or_fail(self: socket.socket) -> Any:
        if full:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", accept_or_fail)
    link = ends.link(listener.address)
    link.send([b"hello"])
    wait_until(listener.readable, step=lambda: link.receive(1))
    ends.attend()
    assert not listener.readable()
    full = False
    ends.until(lambda: link.receive(1) or ends.received)


def test_a_peer_that_pings_and_never_reads_is_given_up(ends: Ends) -> None:
    listener = ends.router(keys=False)
    pings = b"\x04\x17\x04PING\x00\x00" + b"c" * 16
    with closing(raw(listener)) as connected:
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)
        connected.sendall(greeting + b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER")
        connected.setblocking(False)

        def flood() -> bool:
            try:
                connected.send(pings * 1000)
            except BlockingIOError:
                pass
            except OSError:
                return True
            return bool(ends.refused)

        ends.until(flood)
    assert "PINGs" in ends.refused[0][1]
