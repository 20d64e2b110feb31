"""What web services refuse before an application sees it, over an application that counts what reaches it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import ClassVar

import pytest

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.web_access import (
    ADDRESSES_MAX,
    BODY_BYTES_MAX,
    HostNames,
    Message,
    RateLimit,
    Receive,
    Scope,
    Send,
    WebGuard,
    address_of,
    is_secret,
)
from scaler_protocol.service.web_settings import WebServiceSettings
from scaler_protocol.service.web_tokens import TokenCheck, Verdict


def status_of(guard: WebGuard, scope: Scope, *bodies: bytes) -> int:
    """Send one request whose body comes in these pieces; return the status of the answer."""
    pieces = [*bodies] or [b""]
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return int(sent[0]["status"])


async def application(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def request(client: str = "192.0.2.1", **headers: str) -> Scope:
    fields = {"host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "method": "POST",
        "path": "/",
        "client": (client, 1),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
    }


def test_bodies_are_bounded_whatever_they_announce() -> None:
    guard = WebGuard(application, hosts=HostNames())
    half = b"x" * (BODY_BYTES_MAX // 2)
    assert status_of(guard, request(), half, half) == 200
    assert status_of(guard, request(), half, half, b"x") == 413
    assert status_of(guard, request(content_length=str(10_000_000))) == 413
    assert status_of(guard, request(content_length="9" * 400)) == 413


def test_who_sends_too_many_waits_and_others_do_not() -> None:
    now = 0.0
    guard = WebGuard(application, hosts=HostNames(), limit=RateLimit(1.0, 3), clock=lambda: now)
    assert [status_of(guard, request()) for _ in range(5)] == [200, 200, 200, 429, 429]
    assert status_of(guard, request("192.0.2.2")) == 200
    now = 1.0
    assert [status_of(guard, request()) for _ in range(2)] == [200, 429]


def test_the_table_of_addresses_is_bounded() -> None:
    limit = RateLimit(1.0, 2)
    for number in range(ADDRESSES_MAX + 100):
        limit.take(str(number), 0.0)
    assert len(limit) == ADDRESSES_MAX


def test_guesses_are_slowed_down_for_those_who_never_had_the_right_token() -> None:
    now = 0.0
    check = TokenCheck("right", lambda: now, addresses_max=2)
    assert check.check("right", "known") == Verdict(True)
    for address in ("known", "stranger"):
        assert [check.check(f"guess {n}", address).wait_s > 0 for n in range(11)] == [False] * 10 + [True]
    assert check.check("right", "known") == Verdict(True)
    # The right token and a wrong one get the same answer.
    assert check.check("right", "stranger") == check.check("wrong", "stranger") == Verdict(False, 5.0)
    now = 5.0
    assert check.check("right", "stranger") == Verdict(True)
    assert check.check("right", "third") == Verdict(True)
    assert check.check("wrong", "known").wait_s == 0.0
    # "known" is forgotten: the table is bounded.
    assert check.check("right", "known") == Verdict(False, 5.0)


def test_one_ipv6_network_counts_once() -> None:
    assert address_of(request("2001:db8::1")) == address_of(request("2001:db8::ffff"))
    assert address_of(request("2001:db8::1")) != address_of(request("2001:db8:0:1::1"))


@pytest.mark.parametrize("given", ["", "Secret", "secret ", "\ud800", "s\u00e9cret", "secret\0"])
def test_any_text_may_be_compared_with_a_secret(given: str) -> None:
    assert not is_secret(given, "secret")
    assert is_secret("secret", "secret")


class Settings(WebServiceSettings):
    """The settings of a service that does not exist."""

    command: ClassVar[str] = "scaler_nothing"
    section: ClassVar[str] = "nothing"
    token_variable: ClassVar[str] = "SCALER_NOTHING_TOKEN"


def test_a_token_comes_from_a_private_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("of the file\n")
    file.chmod(0o644)
    settings = Settings.from_command_line(["--token-file", str(file)])
    with pytest.raises(ConfigurationError, match=r"--token-file: .*chmod 600"):
        settings.read_token("0.0.0.0")
    file.chmod(0o600)
    assert settings.read_token("0.0.0.0") == "of the file"
    monkeypatch.setenv("SCALER_NOTHING_TOKEN", "of the environment")
    assert Settings.from_command_line([]).read_token("0.0.0.0") == "of the environment"
    # It was taken out of the environment, so that started processes do not inherit it.
    assert Settings.from_command_line([]).read_token("127.0.0.1") is None
    monkeypatch.setenv("SCALER_NOTHING_TOKEN", "of the environment")
    assert Settings.from_command_line([]).read_token("127.0.0.1", "of the flag") == "of the flag"
    assert "SCALER_NOTHING_TOKEN" not in os.environ


def test_a_certificate_that_is_of_no_use_is_told_before_the_service_starts(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("nothing")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="--tls-key-file: a certificate and its key are needed together"):
        Settings.from_command_line(["--tls-cert-file", str(file)]).read_tls()
    both = ["--tls-cert-file", str(file), "--tls-key-file", str(file)]
    with pytest.raises(ConfigurationError, match=r"--tls-cert-file: .* has no certificate"):
        Settings.from_command_line(both).read_tls()
    file.write_text("-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationError, match="cannot use"):
        Settings.from_command_line(both).read_tls()
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Settings.from_command_line(both).read_tls()
