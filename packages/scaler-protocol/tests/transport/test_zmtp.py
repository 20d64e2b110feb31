"""ZMTP as bytes, and side by side with libzmq."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.address import Address
from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError, WireError
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport import DealerLink, RouterListener, SendOutcome, router, zmtp
from scaler_protocol.transport.zmtp import LARGE_FRAME_BYTES, Decoder, SocketType, frame_message

PATIENCE_S = 10.0


def shake_hands(identity: bytes = b"me") -> tuple[Decoder, Decoder]:
    """Return a dealer's and a router's decoder that know each other."""
    dealer, server = Decoder(SocketType.DEALER, identity), Decoder(SocketType.ROUTER)
    for _ in range(2):
        for one, other in ((dealer, server), (server, dealer)):
            data = b"".join(one.replies)
            one.replies.clear()
            assert other.feed(data) == []
    assert dealer.ready
    assert server.ready
    return dealer, server


def wire(*messages: list[Any]) -> bytes:
    return b"".join(bytes(piece) for message in messages for piece in frame_message(message)[0])


def pass_in(decoder: Decoder, data: bytes, sizes: list[int]) -> list[list[bytes]]:
    """Give the decoder `data` in pieces of at most these sizes, as a socket would."""
    messages: list[list[Any]] = []
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        turn += 1
        if decoder.large is None:
            piece = data[position : position + size]
            messages += decoder.feed(piece)
            position += len(piece)
        else:
            room = decoder.room()
            piece = data[position : position + min(size, len(room))]
            room[: len(piece)] = piece
            position += len(piece)
            message = decoder.filled(len(piece))
            if message is not None:
                messages.append(message)
    return [[bytes(frame) for frame in message] for message in messages]


frames_of_a_message = st.lists(
    st.one_of(
        st.binary(max_size=600),
        st.sampled_from([0, 255, 256, LARGE_FRAME_BYTES - 1, LARGE_FRAME_BYTES, LARGE_FRAME_BYTES + 77]).map(
            lambda size: bytes(size % 251 for _ in range(1)) * size
        ),
    ),
    min_size=1,
    max_size=5,
)


@given(st.lists(frames_of_a_message, max_size=5), st.lists(st.integers(1, 70_000), min_size=1, max_size=5))
def test_messages_survive_however_the_bytes_are_cut(messages: list[list[bytes]], sizes: list[int]) -> None:
    _, server = shake_hands()
    assert pass_in(server, wire(*messages), [max(size, 40) for size in sizes]) == messages


def test_every_byte_may_come_alone() -> None:
    dealer, server = Decoder(SocketType.DEALER, b"me"), Decoder(SocketType.ROUTER)
    for byte in b"".join(dealer.replies):
        server.feed(bytes([byte]))
    assert pass_in(server, zmtp._command(b"READY", zmtp.metadata_property(b"Socket-Type", b"DEALER")), [1]) == []
    assert server.ready
    assert pass_in(server, wire([b"a", b"b" * 300], [b""]), [1]) == [[b"a", b"b" * 300], [b""]]


def test_a_ping_is_answered_with_its_context() -> None:
    _, server = shake_hands()
    server.feed(b"\x04\x0a\x04PING\x00\x0actx")
    assert server.replies == [b"\x04\x08\x04PONGctx"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n", "does not speak ZMTP"),
        (b"\xff" + bytes(8) + b"\x7e" + bytes(54), "does not speak ZMTP"),
        (b"\xff" + bytes(8) + b"\x7f\x01" + bytes(53), "speaks ZMTP 1"),
        (b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(47), "uses keys, and this server uses none"),
        (b"\xff" + bytes(8) + b"\x7f\x03\x01PLAIN" + bytes(47), "wants the mechanism 'PLAIN'"),
    ],
)
def test_a_greeting_that_will_not_do_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(MalformedMessageError, match=text):
        Decoder(SocketType.ROUTER).feed(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (wire([b"too early"]), "before the ZMTP handshake"),
        (zmtp._command(b"PING", b"\0\0"), "before READY"),
        (zmtp._command(b"ERROR", b"\x02no"), "refuses the connection: no"),
        (zmtp._command(b"READY", zmtp.metadata_property(b"Socket-Type", b"REQ")), "socket of type REQ, not a DEALER"),
        (zmtp._command(b"READY", b"\xffSocket"), "ends too early"),
        (zmtp._command(b"READY", b"\x01a\xff\xff\xff\xff"), "ends too early"),
        (b"\x04\x00", "without a name"),
        (b"\x04\x02\x09x", "without a name"),
    ],
)
def test_nothing_but_ready_may_come_first(data: bytes, text: str) -> None:
    server = Decoder(SocketType.ROUTER)
    server.feed(Decoder(SocketType.DEALER).replies[0])
    with pytest.raises(MalformedMessageError, match=text):
        server.feed(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x08\x00", MalformedMessageError),
        (b"\x05\x01x", MalformedMessageError),
        (b"\x02" + (17 * 1024**3).to_bytes(8, "big"), MessageTooLargeError),
        (b"\x06" + (70_000).to_bytes(8, "big") + b"x", MessageTooLargeError),
        (b"\x01\x00" * 1100, MessageTooLargeError),
    ],
)
def test_what_breaks_the_rules_or_the_limits_is_refused(data: bytes, error: type[WireError]) -> None:
    _, server = shake_hands()
    with pytest.raises(error):
        server.feed(data)


def test_frames_that_are_too_large_together_are_refused_before_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmtp, "MESSAGE_BYTES_MAX", 1_000_000)
    _, server = shake_hands()
    head = b"\x03" + (900_000).to_bytes(8, "big")
    assert pass_in(server, head + bytes(900_000), [64_000]) == []
    with pytest.raises(MessageTooLargeError, match="1800000 bytes or more"):
        server.feed(head)


@given(st.binary(max_size=400))
def test_garbage_is_an_error_or_waits_for_more(data: bytes) -> None:
    for decoder in (Decoder(SocketType.ROUTER), shake_hands()[1]):
        with suppress(WireError):
            decoder.feed(data)


# --- beside libzmq


@pytest.fixture
def libzmq() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


MESSAGES = [[b"", b"x" * 255, b"y" * 256], [b"z" * LARGE_FRAME_BYTES, b"end"], [b"w" * 3_000_000]]


def test_a_libzmq_dealer_talks_to_our_router(libzmq: zmq.Context[Any]) -> None:
    with closing(RouterListener("tcp://127.0.0.1:0")) as server:
        dealer = libzmq.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, b"foreign")
        dealer.setsockopt(zmq.HEARTBEAT_IVL, 20)
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 2_000)
        dealer.connect(server.address)
        for message in MESSAGES:
            dealer.send_multipart(message)
        received: list[Any] = []

        def all_here() -> bool:
            received.extend((peer, [bytes(frame) for frame in frames]) for peer, frames in server.receive(10))
            return len(received) == len(MESSAGES)

        wait_until(all_here)
        assert received == [(b"foreign", message) for message in MESSAGES]
        for message in MESSAGES:
            assert server.send(b"foreign", message) is not SendOutcome.GONE
        # Long enough for its heartbeats to be wanted.
        for message in MESSAGES:
            wait_until(lambda: server.receive(0) or dealer.poll(30))
            assert dealer.recv_multipart() == message
        assert server.send(b"foreign", [b"still here"]) is SendOutcome.SENT


def test_our_dealer_talks_to_a_libzmq_router(libzmq: zmq.Context[Any]) -> None:
    server = libzmq.socket(zmq.ROUTER)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    with closing(DealerLink(f"tcp://127.0.0.1:{port}", b"ours")) as dealer:
        for message in MESSAGES:
            dealer.send(message)
        for message in MESSAGES:
            wait_until(lambda: dealer.receive(0) or server.poll(5))
            assert server.recv_multipart() == [b"ours", *message]
        for message in MESSAGES:
            server.send_multipart([b"ours", *message])
        received: list[Any] = []

        def all_here() -> bool:
            received.extend([bytes(frame) for frame in frames] for frames in dealer.receive(10))
            return len(received) == len(MESSAGES)

        wait_until(all_here)
        assert received == MESSAGES


def test_a_peer_without_an_identity_gets_one(libzmq: zmq.Context[Any]) -> None:
    with closing(RouterListener("tcp://127.0.0.1:0")) as server:
        dealer = libzmq.socket(zmq.DEALER)
        dealer.connect(server.address)
        dealer.send(b"who am I")
        wait_until(lambda: server.receive(0) or server.has_received)
        ((peer, frames),) = server.receive(1)
        assert frames == [b"who am I"]
        assert peer.startswith(b"\0")
        assert server.send(peer, [b"somebody"]) is SendOutcome.SENT
        assert dealer.poll(PATIENCE_S * 1000)
        assert dealer.recv() == b"somebody"


# --- those who do not belong here


def connect(server: RouterListener) -> socket.socket:
    address = Address.parse(server.address)
    return socket.create_connection((address.host, address.port), PATIENCE_S)


def is_closed(end: socket.socket, server: RouterListener) -> bool:
    server.receive(0)
    end.settimeout(0.01)
    try:
        return not end.recv(65_536)
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_nonsense_costs_its_sender_the_connection_and_nobody_else_anything() -> None:
    with closing(RouterListener("tcp://127.0.0.1:0")) as server, closing(DealerLink(server.address, b"good")) as good:
        messages: list[Any] = []

        def heard(count: int) -> bool:
            assert good.receive(0) == []
            messages.extend(frames for _, frames in server.receive(10))
            return len(messages) == count

        good.send([b"before"])
        wait_until(lambda: heard(1))
        with connect(server) as vandal:
            vandal.sendall(b"GET / HTTP/1.1\r\n\r\n")
            wait_until(lambda: is_closed(vandal, server))
        good.send([b"after"])
        wait_until(lambda: heard(2))
        assert messages == [[b"before"], [b"after"]]


def test_who_says_nothing_is_shown_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "HANDSHAKE_SECONDS_MAX", 0.1)
    with closing(RouterListener("tcp://127.0.0.1:0")) as server, connect(server) as silent:
        wait_until(lambda: is_closed(silent, server))


def test_a_flood_of_commands_is_refused() -> None:
    _, server = shake_hands()
    assert server.feed(b"\x04\x02\x01A" * zmtp.COMMANDS_MAX) == []
    with pytest.raises(MalformedMessageError, match="a flood"):
        server.feed(b"\x04\x02\x01A" * (zmtp.COMMANDS_MAX + 1))
