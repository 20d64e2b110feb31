"""The serving and the calling end over real sockets."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scaler_protocol.errors import TransportError
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener, SendOutcome, endpoints, router
from scaler_protocol.transport.limits import ListenerLimits
from scaler_protocol.transport.unread import FRAME_OVERHEAD_BYTES
from scaler_protocol.transport.zmtp import Decoder, SocketType, greeting
from scaler_protocol.wire.envelope import Frame

PATIENCE_S = 10.0
FREE_PORT = "tcp://127.0.0.1:0"


class Ends:
    """What a test opened; closed with it. Nothing moves unless somebody attends to both ends, which waiting here does."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.open: list[RouterListener | DealerLink] = []

    def router(self, address: str = FREE_PORT, limits: ListenerLimits = router.LIMITS) -> RouterListener:
        router = self.stack.enter_context(closing(RouterListener(address, limits=limits)))
        self.open.append(router)
        return router

    def dealer(self, server: RouterListener, identity: bytes = b"dealer") -> DealerLink:
        dealer = self.stack.enter_context(closing(DealerLink(server.address, identity)))
        self.open.append(dealer)
        return dealer

    def until(self, condition: Callable[[], object], *further: RouterListener | DealerLink) -> None:
        """Attend to all ends until something has come about."""

        def attend() -> object:
            for end in (*self.open, *further):
                assert end.receive(0) == []
            return condition()

        wait_until(attend)

    def receive(
        self, end: RouterListener | DealerLink, count: int, *further: RouterListener | DealerLink
    ) -> list[list[bytes]]:
        """Take in so many messages; a router's begin with the peer."""
        messages: list[list[bytes]] = []

        def take() -> bool:
            if isinstance(end, RouterListener):
                messages.extend([peer, *map(bytes, frames)] for peer, frames in end.receive(100))
            else:
                messages.extend([bytes(frame) for frame in frames] for frames in end.receive(100))
            return len(messages) >= count

        self.until(take, *further)
        assert len(messages) == count
        return messages

    def greet(self, server: RouterListener, *dealers: DealerLink) -> None:
        """Let the server know its peers: it can send to nobody who has not connected."""
        for dealer in dealers:
            dealer.send([b"hello"])
            self.receive(server, 1, dealer)


@pytest.fixture(params=["short road", "TCP"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """Ends that meet over the local socket beside a loopback address, and such that meet at the address itself."""
    if request.param == "TCP":
        monkeypatch.setattr(endpoints, "SHORT_ROAD", False)
    elif not endpoints.SHORT_ROAD:
        pytest.skip("this system has no short road")
    with ExitStack() as stack:
        yield Ends(stack)


def test_messages_go_both_ways_in_order(ends: Ends) -> None:
    server = ends.router()
    dealer = ends.dealer(server, b"peer")
    for number in range(500):
        dealer.send([b"up", str(number).encode()])
    assert ends.receive(server, 500) == [[b"peer", b"up", str(number).encode()] for number in range(500)]
    for number in range(500):
        assert server.send(b"peer", [b"down", str(number).encode()]) is SendOutcome.SENT
    assert ends.receive(dealer, 500) == [[b"down", str(number).encode()] for number in range(500)]


def test_port_zero_is_reported_as_the_port_it_became(ends: Ends) -> None:
    address = ends.router().address
    assert address.startswith("tcp://127.0.0.1:")
    assert not address.endswith(":0")


def test_who_serves_hears_of_connections_that_end_although_nothing_is_sent(ends: Ends) -> None:
    ended: list[bytes] = []
    server = ends.stack.enter_context(closing(RouterListener(FREE_PORT, on_ended=ended.append)))
    ends.open.append(server)
    dealer = ends.dealer(server, b"peer")
    ends.greet(server, dealer)
    assert ended == []
    dealer.close()
    ends.until(lambda: ended == [b"peer"])
    assert server.address_of(b"peer") == ""


def test_a_caller_knows_whether_nobody_listens(ends: Ends) -> None:
    server = ends.router()
    dealer = ends.dealer(server)
    ends.until(lambda: dealer.connected)
    assert not dealer.nobody_listens
    ends.open.remove(server)
    server.close()
    ends.until(lambda: dealer.nobody_listens)
    again = ends.router(server.address)
    ends.until(lambda: dealer.connected)
    assert not dealer.nobody_listens
    assert again.address == server.address


def test_a_turn_whose_time_is_over_leaves_other_peers_for_the_next_ones(ends: Ends) -> None:
    server = ends.router(limits=ListenerLimits(read_seconds=0.0))
    dealers = [ends.dealer(server, b"peer-%d" % number) for number in range(5)]
    ends.greet(server, *dealers)
    for dealer in dealers:
        dealer.send([b"at once"])
    turns: list[list[bytes]] = []

    def all_are_read() -> bool:
        turns.append([peer for peer, _ in server.receive(100)])
        return sum(map(len, turns)) >= len(dealers)

    wait_until(all_are_read)
    assert max(map(len, turns)) == 1
    assert sorted(peer for turn in turns for peer in turn) == [b"peer-%d" % number for number in range(5)]


def test_a_turn_whose_time_is_over_accepts_no_further_connection(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted: list[object] = []
    prepare = endpoints.prepare

    def count(connected: socket.socket) -> None:
        accepted.append(connected)
        prepare(connected)

    monkeypatch.setattr(router, "prepare", count)
    server = ends.router(limits=ListenerLimits(read_seconds=0.0))
    dealers = [ends.dealer(server, b"peer-%d" % number) for number in range(5)]
    accepted_before = 0

    def all_are_accepted() -> bool:
        nonlocal accepted_before
        assert server.receive(100) == []
        assert len(accepted) - accepted_before <= 1
        accepted_before = len(accepted)
        for dealer in dealers:
            dealer.receive(0)
        return len(accepted) >= len(dealers)

    wait_until(all_are_accepted)
    ends.greet(server, *dealers)


def test_receiving_is_bounded_and_says_when_there_is_more(ends: Ends) -> None:
    server = ends.router()
    dealer = ends.dealer(server)
    for _ in range(10):
        dealer.send([b"x"])
    ends.until(lambda: server.has_received)
    assert len(server.receive(3)) == 3
    assert server.has_received
    assert server.readable()
    assert len(server.receive(100)) == 7
    assert not server.has_received


@pytest.mark.parametrize("size", [64 * 1024 - 1, 64 * 1024, 5_000_000])
def test_large_frames_arrive_whole_and_writable(ends: Ends, size: int) -> None:
    server = ends.router()
    dealer = ends.dealer(server)
    body = os.urandom(size)
    dealer.send([b"head", body, bytearray(body), memoryview(body)])
    ends.until(lambda: server.has_received)
    ((_, frames),) = server.receive(1)
    head, *bodies = frames
    assert head == b"head"
    assert all(each == body for each in bodies)
    if size >= 64 * 1024:
        assert all(isinstance(each, memoryview) and not each.readonly for each in bodies), "not copied"
    assert server.send(b"dealer", frames) is not SendOutcome.GONE, "what came in can be passed on as it is"
    assert ends.receive(dealer, 1) == [[b"head", body, body, body]]


def test_a_received_buffer_outlives_its_socket(ends: Ends) -> None:
    with closing(RouterListener(FREE_PORT)) as server:
        dealer = ends.dealer(server)
        body = os.urandom(1_000_000)
        dealer.send([body])
        ends.until(lambda: server.has_received or server.receive(0), server)
        ((_, frames),) = server.receive(1)
    gc.collect()
    assert frames == [body]


# --- peers that come, go, and do not listen


def test_a_peer_that_never_connected_is_gone_at_once(ends: Ends) -> None:
    server = ends.router()
    assert server.send(b"nobody", [b"x"]) is SendOutcome.GONE
    assert not server.has_queued


def test_a_peer_that_closed_is_gone_soon(ends: Ends) -> None:
    server = ends.router()
    with closing(DealerLink(server.address, b"short")) as dealer:
        ends.greet(server, dealer)
    ends.until(lambda: server.send(b"short", [b"x"]) is SendOutcome.GONE)


def test_who_connects_with_the_same_identity_takes_over(ends: Ends) -> None:
    server = ends.router()
    first = ends.dealer(server, b"same")
    ends.greet(server, first)
    second = ends.dealer(server, b"same")
    ends.greet(server, second)
    server.send(b"same", [b"for the second"])
    assert ends.receive(second, 1) == [[b"for the second"]]
    assert first.receive(1) == []


def test_one_peer_that_takes_nothing_blocks_nobody_and_loses_nothing(ends: Ends) -> None:
    server = ends.router()
    slow, quick = ends.dealer(server, b"slow"), ends.dealer(server, b"quick")
    ends.greet(server, slow, quick)
    # More than the sockets' own buffers hold.
    bodies = [bytes([number % 256]) * 200_000 for number in range(200)]
    outcomes = [server.send(b"slow", [body]) for body in bodies]
    assert set(outcomes) == {SendOutcome.SENT, SendOutcome.QUEUED}
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome is SendOutcome.QUEUED), "once queued, always behind"
    assert server.send(b"quick", [b"at once"]) is SendOutcome.SENT
    assert ends.receive(quick, 1) == [[b"at once"]]
    received: list[Frame] = []

    def move() -> bool:
        assert server.flush() == []
        received.extend(frames[0] for frames in slow.receive(100))
        return len(received) == len(bodies)

    ends.until(move)
    assert received == bodies
    assert not server.has_queued


def test_a_queue_has_a_bound_in_messages_and_in_bytes(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ends.router(limits=ListenerLimits(queue_messages=15))
    ends.greet(server, ends.dealer(server, b"slow"))
    body = bytes(200_000)
    room = 10 * (len(body) + FRAME_OVERHEAD_BYTES) + 7 * FRAME_OVERHEAD_BYTES
    monkeypatch.setattr(router, "QUEUE_BYTES_MAX", room)
    while (outcome := server.send(b"slow", [body])) is SendOutcome.SENT:
        pass
    assert outcome is SendOutcome.QUEUED
    outcomes = [server.send(b"slow", [body]) for _ in range(20)]
    assert outcomes == [SendOutcome.QUEUED] * 9 + [SendOutcome.FULL] * 11
    outcomes = [server.send(b"slow", [b""]) for _ in range(7)]
    assert outcomes == [SendOutcome.QUEUED] * 5 + [SendOutcome.FULL] * 2
    server.forget(b"slow")
    assert not server.has_queued


def test_a_peer_that_goes_with_messages_queued_is_reported(ends: Ends) -> None:
    server = ends.router()
    with closing(DealerLink(server.address, b"slow")) as dealer:
        ends.greet(server, dealer)
        # More than all buffers on the way take in together.
        while [server.send(b"slow", [bytes(200_000)]) for _ in range(100)][-1] is not SendOutcome.QUEUED:
            pass
    gone: list[bytes] = []

    def notice() -> bool:
        # The end of a connection stands behind what came over it, so a server that never receives never notices.
        server.receive(10)
        gone.extend(server.flush())
        return bool(gone)

    ends.until(notice)
    assert gone == [b"slow"]
    assert not server.has_queued


def test_a_dealer_keeps_what_it_sends_until_somebody_listens(ends: Ends) -> None:
    with closing(RouterListener(FREE_PORT)) as first:
        address = first.address
        dealer = ends.dealer(first)
        ends.greet(first, dealer)
    ends.until(lambda: not dealer.connected)
    dealer.send([b"kept"])
    second = ends.router(address)
    assert ends.receive(second, 1) == [[b"dealer", b"kept"]]


# --- waking up


def test_a_thread_can_sleep_on_the_descriptor(ends: Ends) -> None:
    server = ends.router()
    dealer = ends.dealer(server)
    ends.greet(server, dealer)
    received: list[Frame] = []

    def sleeper() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(received) < 50 and time.monotonic() < deadline:
            for frames in dealer.receive(10):
                received.extend(frames)
            # Looked at again before sleeping: the descriptor tells of changes, not of what is there.
            if len(received) < 50 and not dealer.readable():
                select.select([dealer.fd], [], [], 1.0)

    thread = threading.Thread(target=sleeper)
    thread.start()
    for number in range(50):
        server.send(b"dealer", [str(number).encode()])
        if number % 10 == 0:
            time.sleep(0.005)  # sleeps: the reader falls asleep meanwhile
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert received == [str(number).encode() for number in range(50)]


def test_a_send_says_whether_the_sleeper_has_to_see_to_it(ends: Ends) -> None:
    server = ends.router()
    dealer = ends.dealer(server)
    assert dealer.send([b"before there is a connection"])
    ends.receive(server, 1)
    assert not dealer.send([b"leaves at once"])
    ends.receive(server, 1)
    while not dealer.send([bytes(200_000)]):
        pass
    assert dealer.has_queued, "more than the network takes"


def test_several_threads_may_send_whole_messages(ends: Ends) -> None:
    server = ends.router()
    dealer = ends.dealer(server)

    def send(name: bytes) -> None:
        for number in range(200):
            dealer.send([name, str(number).encode(), name])

    threads = [threading.Thread(target=send, args=(bytes([65 + number]),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    messages = ends.receive(server, 800)
    assert all(message[1] == message[3] for message in messages)
    for number in range(4):
        of_thread = [message[2] for message in messages if message[1] == bytes([65 + number])]
        assert of_thread == [str(position).encode() for position in range(200)]


# --- opening and closing


@pytest.mark.parametrize(
    "address", ["tcp://256.0.0.1:1", "tcp://127.0.0.1:notaport", "nonsense", "ipc:///no/such/folder/x"]
)
def test_an_address_that_cannot_be_bound_is_a_clear_error(address: str) -> None:
    with pytest.raises(TransportError, match=f"cannot listen on {address}: "):
        RouterListener(address)


def test_an_address_in_use_is_a_clear_error(ends: Ends) -> None:
    address = ends.router().address
    with pytest.raises(TransportError, match=f"^cannot listen on {address}: Address already in use$"):
        RouterListener(address)


def test_an_address_that_cannot_be_connected_is_a_clear_error() -> None:
    with pytest.raises(TransportError, match="cannot connect to nonsense: "):
        DealerLink("nonsense", b"x")


def test_ipv6_is_spoken_where_it_is_asked_for(ends: Ends) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    server = ends.router("tcp://[::1]:0")
    assert server.address.startswith("tcp://[::1]:")
    dealer = ends.dealer(server)
    dealer.send([b"x"])
    assert ends.receive(server, 1) == [[b"dealer", b"x"]]


def test_local_sockets_are_spoken(ends: Ends) -> None:
    # Not pytest's folder: the path of a local socket has at most 107 bytes.
    folder = ends.stack.enter_context(TemporaryDirectory(dir="/tmp"))
    server = ends.router(f"ipc://{folder}/socket")
    dealer = ends.dealer(server)
    dealer.send([b"x"])
    assert ends.receive(server, 1) == [[b"dealer", b"x"]]


def test_using_a_closed_link_does_nothing(ends: Ends) -> None:
    server = ends.router()
    dealer = DealerLink(server.address, b"x")
    dealer.close()
    dealer.close()
    assert dealer.send([b"x"]) is False
    assert dealer.receive(1) == []
    assert dealer.readable() is False
    dealer.flush()


def test_closing_with_nobody_at_the_other_end_is_quick() -> None:
    dealer = DealerLink("tcp://127.0.0.1:1", b"x")
    dealer.send([bytes(1_000_000)])
    started = time.monotonic()
    dealer.close()
    assert time.monotonic() - started < 5.0


def test_nothing_is_left_behind(ends: Ends) -> None:
    def open_and_close() -> None:
        with ExitStack() as stack:
            here = Ends(stack)
            server = here.router()
            ends.greet(server, here.dealer(server))
        for address in ("nonsense", "tcp://127.0.0.1:notaport"):
            with pytest.raises(TransportError):
                RouterListener(address)

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    open_and_close()
    before = held()
    for _ in range(5):
        open_and_close()
    ends.until(lambda: held() == before)


def raw_peer(server: RouterListener, identity: bytes) -> socket.socket:
    """A connection whose handshake is sent, and then anything."""
    sender = Decoder(SocketType.DEALER, identity)
    sender.feed(greeting(b"NULL"))
    host, port = server.address.removeprefix("tcp://").rsplit(":", 1)
    connected = socket.create_connection((host, int(port)))
    connected.sendall(b"".join(sender.replies))
    connected.setblocking(False)
    return connected


def send_as_much_as_fits(connected: socket.socket, data: bytes) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            connected.send(data)


def test_a_flood_of_tiny_messages_is_read_in_small_portions(ends: Ends) -> None:
    server = ends.router()
    honest = ends.dealer(server, b"honest")
    ends.greet(server, honest)
    with ExitStack() as stack:
        floods = [stack.enter_context(closing(raw_peer(server, b"flood%d" % number))) for number in range(8)]
        ends.until(lambda: all(server.address_of(b"flood%d" % number) for number in range(8)))
        for flood in floods:
            send_as_much_as_fits(flood, bytes(1 << 20))
        honest.send([b"still here"])
        received: list[bytes] = []

        def heard() -> bool:
            for identity, _ in server.receive(64):
                received.append(identity)
                if identity != b"honest":
                    # As servers do for malformed messages. Nothing more comes from this peer.
                    server.disconnect(identity)
            return b"honest" in received

        wait_until(heard)
    # Of each flood, no more than what one call returns.
    assert len(received) <= 64 * (len(floods) + 1)


def test_what_a_disconnected_peer_has_sent_is_dropped(ends: Ends) -> None:
    server = ends.router()
    bad, good = ends.dealer(server, b"bad"), ends.dealer(server, b"good")
    ends.greet(server, bad, good)
    for _ in range(10):
        bad.send([b"x"])
    assert wait_until(lambda: server.receive(1)) == [(b"bad", [b"x"])]
    assert server.has_received
    server.disconnect(b"bad")
    good.send([b"y"])
    assert wait_until(lambda: server.receive(1)) == [(b"good", [b"y"])]
