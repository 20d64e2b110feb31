"""Every byte that libzmq sends with CURVE, read by our state machines, and the other way round."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import zmq

from scaler_protocol.security.keys import KeyPair, public_of, to_text
from scaler_protocol.transport.curve import HELLO_BYTES, WELCOME_BYTES, CurveClient, CurveServer
from scaler_protocol.transport.curve_boxes import MORE, OVERHEAD_BYTES, address_of, new_scratch
from scaler_protocol.transport.zmtp import GREETING_BYTES, command_frame, greeting

SERVER, CLIENT = (KeyPair(public_of(bytes([number]) * 32), bytes([number]) * 32) for number in (1, 2))
DEALER_SAYS = b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me"
ROUTER_SAYS = b"\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0"
SECONDS_MAX = 10.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def libzmq(stack: ExitStack, kind: int) -> zmq.Socket[Any]:
    context = zmq.Context()
    stack.callback(context.term)
    created = stack.enter_context(closing(context.socket(kind)))
    created.setsockopt(zmq.LINGER, 0)
    own = SERVER if kind == zmq.ROUTER else CLIENT
    created.setsockopt(zmq.CURVE_PUBLICKEY, to_text(own.public).encode())
    created.setsockopt(zmq.CURVE_SECRETKEY, to_text(own.secret).encode())
    if kind == zmq.ROUTER:
        created.setsockopt(zmq.CURVE_SERVER, 1)
    else:
        created.setsockopt(zmq.CURVE_SERVERKEY, to_text(SERVER.public).encode())
        created.setsockopt(zmq.ROUTING_ID, b"me")
    return created


def exactly(connected: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connected.recv(count - len(data))
        assert piece, "the connection ended"
        data += piece
    return data


def frame(connected: socket.socket) -> tuple[int, bytes]:
    """Return flags and body of the next frame."""
    flags, size = exactly(connected, 2)
    if flags & 2:
        size = int.from_bytes(bytes([size]) + exactly(connected, 7), "big")
    return flags, exactly(connected, size)


def opened(opener: Any, body: bytes) -> bytes:
    """Return flags and frame of a MESSAGE."""
    memory, plain = new_scratch(len(body))
    opener.open(body, 0, len(body), address_of(body), memory)
    return bytes(plain[: len(body) - OVERHEAD_BYTES + 1])


def test_what_a_dealer_of_libzmq_sends(stack: ExitStack) -> None:
    listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    listener.settimeout(SECONDS_MAX)
    dealer = libzmq(stack, zmq.DEALER)
    dealer.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    dealer.send_multipart([b"one", b"two"])
    connected = stack.enter_context(closing(listener.accept()[0]))
    connected.settimeout(SECONDS_MAX)
    connected.sendall(greeting(b"CURVE", as_server=True))
    theirs = exactly(connected, GREETING_BYTES)
    assert theirs[12:32] == greeting(b"CURVE")[12:32]

    server = CurveServer(SERVER, os.urandom)
    flags, hello = frame(connected)
    assert (flags, len(hello)) == (4, HELLO_BYTES)
    assert hello[:80] == b"\x05HELLO\x01\x00" + bytes(72)
    assert hello[112:120] == (1).to_bytes(8, "big")
    connected.sendall(command_frame(server.take_hello(hello)))
    flags, initiate = frame(connected)
    assert flags & 4
    assert server.take_initiate(initiate) == DEALER_SAYS
    assert server.client == CLIENT.public
    assert initiate[105:113] == (2).to_bytes(8, "big")
    connected.sendall(command_frame(server.ready(ROUTER_SAYS)))
    assert server.opener is not None
    assert server.sealer is not None
    for number, plain in ((3, bytes([MORE]) + b"one"), (4, b"\0two")):
        flags, body = frame(connected)
        assert (flags, body[:16]) == (0, b"\x07MESSAGE" + number.to_bytes(8, "big"))
        assert opened(server.opener, body) == plain
    connected.sendall(server.sealer.seal_message([b"back", b"x" * 300]) or b"")
    assert dealer.poll(int(1000 * SECONDS_MAX))
    assert dealer.recv_multipart() == [b"back", b"x" * 300]


def test_what_a_router_of_libzmq_sends(stack: ExitStack) -> None:
    router = libzmq(stack, zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    connected = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
    connected.settimeout(SECONDS_MAX)
    connected.sendall(greeting(b"CURVE"))
    theirs = exactly(connected, GREETING_BYTES)
    assert theirs[12:32] == greeting(b"CURVE")[12:32]

    client = CurveClient(CLIENT, SERVER.public, os.urandom)
    connected.sendall(command_frame(client.hello()))
    flags, welcome = frame(connected)
    assert (flags, len(welcome)) == (4, WELCOME_BYTES)
    assert welcome[:8] == b"\x07WELCOME"
    connected.sendall(command_frame(client.take_welcome(welcome, DEALER_SAYS)))
    flags, ready = frame(connected)
    assert flags & 4
    assert ready[:14] == b"\x05READY" + (1).to_bytes(8, "big")
    assert client.take_ready(ready) == ROUTER_SAYS
    assert client.sealer is not None
    assert client.opener is not None
    connected.sendall(client.sealer.seal_message([b"one", b"y" * 300]) or b"")
    assert router.poll(int(1000 * SECONDS_MAX))
    assert router.recv_multipart() == [b"me", b"one", b"y" * 300]
    router.send_multipart([b"me", b"back"])
    flags, body = frame(connected)
    assert (flags, body[:16]) == (0, b"\x07MESSAGE" + (2).to_bytes(8, "big"))
    assert opened(client.opener, body) == b"\0back"
