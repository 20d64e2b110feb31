"""The connections of a web service are bounded, in number and in time. Real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import select
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from scaler_protocol.service import event_loop, web_access, web_connections
from scaler_protocol.service.web_access import HostNames, Receive, Scope, Send, WebGuard
from scaler_protocol.service.web_connections import BoundedServer
from scaler_protocol.service.web_settings import ConnectionLimits

HEAD_S = 1.0

LIMITS = ConnectionLimits(connections=150, per_address=120, head_s=HEAD_S)

UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

Serve = Callable[..., int]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer "ok"; at /large with more than any buffer holds; at /broken not at all."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
        return
    if scope["path"] == "/broken":
        raise RuntimeError("broken")
    await receive()
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/large":
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(params=["builtin", "uvloop"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """A function that serves `application` behind the guard, on a port that it returns. It stops at the end of the test."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with contextlib.ExitStack() as stack:

        def start(limits: ConnectionLimits = LIMITS, app: Any = application, **options: Any) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            guarded = WebGuard(app, hosts=HostNames())
            config = uvicorn.Config(guarded, log_config=None, ws="none", timeout_graceful_shutdown=1, **options)
            server = BoundedServer(config, limits)

            async def run() -> int:
                await server.serve(sockets=[listener])
                return 0

            thread = threading.Thread(target=event_loop.run, args=(run, request.param), daemon=True)
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(20)
                assert not thread.is_alive()

            stack.callback(stop)
            return int(listener.getsockname()[1])

        yield start


@pytest.fixture
def uvicorn_loggers() -> Iterator[None]:
    """Give the loggers of uvicorn back what they had, at the end of the test."""
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, propagate


def connect(port: int, first: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(first)
    return connection


def rest_of(connection: socket.socket) -> bytes:
    """Return all that comes until the other end closes."""
    got = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            got += piece
    return bytes(got)


def ask(port: int, path: str = "/") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_slow_callers_are_sent_away_and_others_are_answered_meanwhile(serve: Serve) -> None:
    port = serve()
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        slow = [stack.enter_context(connect(port, b"GET / HTTP/1.1\r\nhost: loc")) for _ in range(100)]
        ended: dict[socket.socket, float] = {}
        answered = 0
        while len(ended) < len(slow) and time.monotonic() - began < 20:
            assert ask(port) == 200
            answered += 1
            waiting = [connection for connection in slow if connection not in ended]
            for connection in waiting:
                # A byte now and then does not help.
                with contextlib.suppress(OSError):
                    connection.send(b"a")
            for connection in select.select(waiting, [], [], 0.1)[0]:
                rest_of(connection)
                ended[connection] = time.monotonic()
        assert len(ended) == 100
        assert answered >= 3
        assert min(ended.values()) - began >= HEAD_S
        # A slack for busy machines: what is shown is that there is a deadline.
        assert max(ended.values()) - began < HEAD_S + 5


@pytest.mark.parametrize("first", [b"", b"GET /"], ids=["silent", "half a line"])
def test_who_sends_no_request_is_told_so(serve: Serve, first: bytes) -> None:
    with connect(serve(), first) as connection:
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"not complete after 1 s" in answer


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another service of uvicorn"])
def test_who_sends_no_requests_does_not_fill_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture, uvicorn_loggers: None, beside: bool
) -> None:
    port = serve()
    if beside:
        uvicorn.Config(application)  # It configures the loggers of uvicorn, for the whole process.
        logging.getLogger("uvicorn").propagate = True  # So that caplog sees what they let through.
    for _ in range(40):
        with connect(port, b"\x00\x01\r\n\r\n") as connection:
            assert b" 400 " in rest_of(connection).split(b"\r\n", 1)[0]
    # The 1st, 2nd, 4th, 8th, 16th and 32nd.
    # uvicorn may say that it has started.
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [text.split(" ", 1)[0] for text in warnings] == ["1", "2", "4", "8", "16", "32"]
    assert ask(port) == 200


def test_the_second_request_of_a_connection_has_the_deadline_too(serve: Serve) -> None:
    with connect(serve(), b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n") as connection:
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            got += connection.recv(1_000)
        connection.sendall(b"GET / HT")
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_drips_has_a_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_access, "BODY_SECONDS", 1.0)
    began = time.monotonic()
    with connect(serve(), b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n") as connection:
        while not select.select([connection], [], [], 0.1)[0]:
            assert time.monotonic() - began < 15
            connection.sendall(b"a")
        assert rest_of(connection).startswith(b"HTTP/1.1 408 ")


def test_a_reader_that_does_not_read_is_sent_away(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_connections, "WRITE_SECONDS", 1.0)
    port = serve(ConnectionLimits(connections=1, head_s=5))
    with connect(port, b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n"):
        deadline = time.monotonic() + 20
        # The only place becomes free, although the reader keeps its end open.
        while ask(port) != 200:
            assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("limits", "status", "reason"),
    [
        (ConnectionLimits(connections=3, head_s=60), 503, "this service has 3 connections already"),
        (ConnectionLimits(per_address=3, head_s=60), 429, "127.0.0.1 has 3 connections to this service already"),
    ],
    ids=["in all", "of one address"],
)
def test_connections_beyond_the_limit_are_told_why(
    serve: Serve, limits: ConnectionLimits, status: int, reason: str
) -> None:
    port = serve(limits)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(port)) for _ in range(3)]
        refused = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        stack.callback(refused.close)
        refused.request("POST", "/", body=b"x" * 1_000)
        answer = refused.getresponse()
        assert answer.status == status
        assert reason in json.loads(answer.read())["error"]
        assert answer.headers["x-frame-options"] == "DENY"
        held[0].close()
        deadline = time.monotonic() + 10
        while ask(port) != 200:
            assert time.monotonic() < deadline


def test_handshakes_that_never_finish_have_a_deadline_and_count(serve: Serve, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate is made")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    limits = ConnectionLimits(connections=20, head_s=5)
    port = serve(limits, ssl_certfile=tmp_path / "cert", ssl_keyfile=tmp_path / "key")
    trusted = ssl.create_default_context(cafile=tmp_path / "cert")

    def ask_securely() -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trusted)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        finally:
            connection.close()

    def is_answered() -> bool:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            return ask_securely() == 200
        return False

    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        slow = [stack.enter_context(connect(port, b"\x16\x03\x01"[: number % 4])) for number in range(19)]
        assert ask_securely() == 200
        # Takes the last place, as soon as the service has noticed that the caller before has left it.
        while select.select([stack.enter_context(connect(port))], [], [], 0.2)[0]:
            assert time.monotonic() - began < 4
        with pytest.raises((ssl.SSLError, ConnectionError)):
            # The last place is taken: closed at once, long before the deadline of the others.
            ask_securely()
        for connection in slow:
            rest_of(connection)
        assert 4 < time.monotonic() - began < 15
        # The service notices the end of connections a moment after their callers.
        while not is_answered():
            assert time.monotonic() - began < 25
        with connect(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n") as plain:
            assert b"200" not in rest_of(plain)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n", 400),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nxyz\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n8000\r\n"
            + (b"a" * 0x8000 + b"\r\n8000\r\n") * 3,
            413,
        ),
        (b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n", 413),
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01CURVE\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n", 421),
        (b"OPTIONS / HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n", 403),
        (b"OPTIONS * HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n", 421),
        (UPGRADE, 200),
        (b"GET /broken HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", 500),
    ],
    ids=[
        "HTTP/1.0 without host", "HTTP/1.0", "no host", "two hosts", "long path", "many headers", "two lengths",
        "long chunked body", "long announced body", "binary", "ZeroMQ", "HEAD", "OPTIONS", "OPTIONS *", "WebSocket", "error",
    ],
)  # fmt: skip
def test_odd_requests_get_an_answer_with_the_headers_of_all_answers(
    serve: Serve, request_bytes: bytes, status: int
) -> None:
    port = serve()
    with connect(port) as connection:
        with contextlib.suppress(OSError):
            # The service may have closed before all was sent.
            connection.sendall(request_bytes)
        answer = rest_of(connection)
    # If the end of a long request is not read, the answer may be lost with the connection.
    if answer or len(request_bytes) < 65_536:
        # Of a head that is too long, h11 says 400 if it comes in pieces.
        assert answer.startswith(
            tuple(f"HTTP/1.1 {code} ".encode() for code in (status, 400 if status == 431 else status))
        )
        assert b"x-content-type-options: nosniff" in answer.lower()
        assert b"frame-ancestors 'none'" in answer
    assert ask(port) == 200


def test_half_a_body_is_no_request(serve: Serve) -> None:
    bodies: list[bytes] = []

    async def keep_bodies(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            bodies.append((await receive())["body"])
            receive = _nothing
        await application(scope, receive, send)

    port = serve(app=keep_bodies)
    for head in (b"content-length: 9", b"transfer-encoding: chunked"):
        with connect(port, b"POST / HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n2\r\n{}\r\n") as connection:
            connection.shutdown(socket.SHUT_WR)
            assert not rest_of(connection).startswith(b"HTTP/1.1 200")
    assert ask(port) == 200
    assert bodies == [b""]


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}
