"""Webhook calls against servers that misbehave: each ends in one event, in bounded time, and the loop never waits."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scaler_protocol.security.errors import SecurityFileError
from scaler_protocol.testing.waiting import wait_until_async
from scaler_scheduler.core import effects, events
from scaler_scheduler.webhooks import ANSWER_BYTES_MAX, Webhooks, read_authorities, read_token

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Event = events.WebhookAnswered | events.WebhookFailed

TIMEOUT_S = 0.5
PATIENT_S = 20.0
"""For servers that answer: more than a busy machine takes."""


def answering(text: bytes, status: str = "200 OK") -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(text)))
        writer.write(text)
        await writer.drain()

    return handle


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read(65_536)


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65_536)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.01)  # sleeps: a server that sends a byte from time to time


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65_536)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(ANSWER_BYTES_MAX // 65_536 + 10):
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        await writer.drain()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65_536)
    writer.write(b"\x00\xff" * 500 + b"\r\n\r\n")
    await writer.drain()


async def call(
    handler: Handler, *, calls: int = 1, token: str | None = None, timeout_s: float = PATIENT_S
) -> list[Event]:
    """The events of some calls to such a server. All must come within half a minute."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    events: list[Event] = []
    webhooks = Webhooks(events.append, token)
    for number in range(calls):
        webhooks.call(effects.CallWebhook(number, f"http://127.0.0.1:{port}", {"action": "x"}, timeout_s))
    await wait_until_async(lambda: len(events) >= calls, what="a call did not end")
    await webhooks.close()
    server.close()
    return events


def one(handler: Handler, **options: str | float) -> Event:
    events = asyncio.run(call(handler, **options))  # type: ignore[arg-type]
    assert len(events) == 1
    return events[0]


def test_an_answer_is_handed_on() -> None:
    assert one(answering(b'{"a": 1}')) == events.WebhookAnswered(0, 200, {"a": 1})
    assert one(answering(b'{"error": "full"}', "429 Too Many")) == events.WebhookAnswered(0, 429, {"error": "full"})


@pytest.mark.parametrize("text", [b"", b"<html>", b"{", b"[" * 100_000])
def test_what_is_no_json_is_none(text: bytes) -> None:
    assert one(answering(text)) == events.WebhookAnswered(0, 200, None)


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (hang, "no answer within 0.5 s"),
        (trickle, "no answer within 0.5 s"),
        (hang_up, "RemoteProtocolError"),
        (garbage, "RemoteProtocolError"),
        (flood, "longer than"),
    ],
)
def test_half_dead_servers_are_failures(handler: Handler, reason: str) -> None:
    event = one(handler, timeout_s=TIMEOUT_S if "within" in reason else PATIENT_S)
    assert isinstance(event, events.WebhookFailed)
    assert reason in event.reason


def test_nobody_listening_is_a_failure() -> None:
    async def refused() -> list[Event]:
        events: asyncio.Queue[Event] = asyncio.Queue()
        webhooks = Webhooks(events.put_nowait)
        for number, url in enumerate(["http://127.0.0.1:1", "http://[::1", "http://127.0.0.1:99999"]):
            webhooks.call(effects.CallWebhook(number, url, None, TIMEOUT_S))
        ended = [await asyncio.wait_for(events.get(), 10) for _ in range(3)]
        await webhooks.close()
        return ended

    assert [type(event) for event in asyncio.run(refused())] == [events.WebhookFailed] * 3


def test_redirects_are_not_followed() -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    assert one(redirect) == events.WebhookAnswered(0, 302, None)


def test_the_token_travels_in_body_and_header() -> None:
    asked = b""

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.read(65_536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()

    one(note, token="secret")
    assert b"Authorization: Bearer secret" in asked
    assert b'"auth_token":"secret"' in asked


def test_many_calls_that_hang_are_bounded_and_hold_nothing_up() -> None:
    hanging: set[asyncio.StreamReader] = set()
    at_once: list[int] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.add(reader)
        at_once.append(len(hanging))
        await hang(reader, writer)
        hanging.discard(reader)

    # Waiting for one after the other would take more than a minute; `call` allows half of that.
    reported = asyncio.run(call(count, calls=200, timeout_s=TIMEOUT_S))
    assert len(reported) == 200
    assert (
        sum("under way already" in event.reason for event in reported if isinstance(event, events.WebhookFailed)) == 72
    )
    # The server shares the loop: it takes a second call while the first one hangs only if nothing holds the loop up.
    assert max(at_once) > 1


@pytest.mark.parametrize("content", ["", " \n", "zwölf", "a\nb"])
def test_a_file_without_a_token_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="holds no token"):
        read_token(file)


def test_a_token_is_the_line_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("secret\n")
    assert read_token(file) == "secret"
    assert read_token(None) is None


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(0o644)
    with pytest.raises(SecurityFileError, match=f"chmod 600 {file}"):
        read_token(file)


def test_https_is_checked_against_the_given_authorities(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: no certificate is made")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)

    async def ask(authorities: ssl.SSLContext | None) -> Event:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answering(b'{"a": 1}')(reader, writer)
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        heard: asyncio.Queue[Event] = asyncio.Queue()
        webhooks = Webhooks(heard.put_nowait, None, authorities)
        webhooks.call(effects.CallWebhook(0, f"https://127.0.0.1:{port}", None, 10.0))
        event = await asyncio.wait_for(heard.get(), 20)
        await webhooks.close()
        server.close()
        return event

    assert asyncio.run(ask(read_authorities(certificate))) == events.WebhookAnswered(0, 200, {"a": 1})
    stranger = asyncio.run(ask(None))
    assert isinstance(stranger, events.WebhookFailed)
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.reason


def test_a_file_without_certificates_is_an_error(tmp_path: Path) -> None:
    assert read_authorities(None) is None
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ssl.SSLError):
        read_authorities(tmp_path / "ca.pem")
