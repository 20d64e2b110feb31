"""The server with a store below its memory that is a real Redis, Valkey or S3: processes, restarts, and stores that fail."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler_protocol.objects.storage import Done, Refused
from scaler_protocol.testing.real_stores import (
    ACCESS_KEY,
    BUCKET,
    SECRET_KEY,
    RealServer,
    RedisServer,
    S3Server,
    SlowProxy,
)
from scaler_protocol.testing.store_server import StoreClient, StoreServer
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire import messages as m

REMOTE = ("redis", "valkey", "s3")
MIB = 1024 * 1024
MEMORY = ["--memory-limit-bytes", str(8 * MIB)]
OBJECT_BYTES = MIB // 2


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
def server() -> Iterator[StoreServer]:
    server = StoreServer()
    yield server
    server.close()


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of a server that waits as a usual one does, for shorter times."""
    (tmp_path / "impatient_store.py").write_text(
        "import functools, sys\n"
        "from scaler_objstore import main, server\n"
        "from scaler_objstore.core import tiering\n"
        "from scaler_objstore.tiers import opening\n"
        "tiering.RETRY_SECONDS = 0.5\n"
        "opening.RETRY_SECONDS = 2.0\n"
        "server.Limits = functools.partial(server.Limits, put_wait_seconds=1.0)\n"
        "sys.exit(main.main())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return "impatient_store"


@pytest.fixture
def impatient_server(impatient: str) -> Iterator[StoreServer]:
    server = StoreServer(impatient)
    yield server
    server.close()


def arguments_for(store: RealServer, proxy: SlowProxy | None = None) -> list[str]:
    """The flags for a prefix of its own in a store."""
    host, port = (store.host, store.port) if proxy is None else ("127.0.0.1", proxy.port)
    prefix = secrets.token_hex(8)
    if isinstance(store, S3Server):
        return ["--storage-url", f"s3://{BUCKET}/{prefix}", "--storage-endpoint", f"http://{host}:{port}"]
    return ["--storage-url", f"redis://{host}:{port}/0/{prefix}"]


def body_of(number: int) -> bytes:
    return random.Random(number).randbytes(OBJECT_BYTES)


def put_until_stored(client: StoreClient, number: int) -> bytes:
    """Put an object, again where the store was full."""
    object_id = number.to_bytes(16, "little")

    def is_stored() -> bool:
        return isinstance(client.try_put(object_id, b"header", body_of(number)), Done)

    wait_until(is_stored, 60)
    return object_id


@pytest.mark.parametrize("shared_server", REMOTE, indirect=True)
def test_four_times_the_memory_comes_back_and_survives_a_kill(server: StoreServer, shared_server: RealServer) -> None:
    arguments = [*MEMORY, *arguments_for(shared_server)]
    server.start(*arguments)
    client = server.client()
    ids = [put_until_stored(client, number) for number in range(64)]
    for number, object_id in enumerate(ids):
        assert client.get(object_id) == [b"header", body_of(number)]
    server.kill()
    server.start(*arguments)
    reader = server.client()
    found = [reader.get(object_id) for object_id in ids]
    # What was in memory only has gone with the process; of what came back, every byte is right.
    assert sum(content is not None for content in found) >= 64 - 16
    assert all(content in (None, [b"header", body_of(number)]) for number, content in enumerate(found))


def content_of(client: StoreClient, object_id: bytes) -> list[bytes] | None:
    """An object's buffers, or None if there is no answer yet: what has just started may be slow."""
    completion = client.wait(client.requests.get(object_id, time.monotonic()))
    return [bytes(buffer) for buffer in completion.buffers] if isinstance(completion, Done) else None


@contextlib.contextmanager
def gone(store: RealServer) -> Iterator[None]:
    """Have a store killed for a while. SeaweedFS stands still instead: when it is killed, it may lose what it has confirmed."""
    if isinstance(store, S3Server):
        with store.stopped():
            yield
    else:
        store.kill()
        yield
        store.start()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("own_server", REMOTE, indirect=True)
def test_a_store_that_is_gone_for_a_while_costs_nothing(server: StoreServer, own_server: RealServer) -> None:
    server.start(*MEMORY, *arguments_for(own_server), "--storage-timeout-seconds", "2")
    client = server.client()
    ids = [put_until_stored(client, number) for number in range(24)]
    # The latest object is still in memory. A further one might find no room there while the store is gone.
    in_memory = put_until_stored(client, 99)
    with gone(own_server):
        assert client.get(in_memory) == [b"header", body_of(99)]
    ids += [put_until_stored(client, number) for number in range(24, 40)]
    for number, object_id in enumerate(ids):
        content = wait_until(lambda object_id=object_id: content_of(client, object_id), 90)  # type: ignore[misc]
        assert content == [b"header", body_of(number)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("small_server", REMOTE, indirect=True)
def test_a_full_store_refuses_objects_and_loses_none(impatient_server: StoreServer, small_server: RealServer) -> None:
    server = impatient_server
    server.start(*MEMORY, *arguments_for(small_server), "--storage-timeout-seconds", "2")
    # For so long it sends a refused object again.
    client = server.client(timeout_seconds=5.0)
    held: dict[int, bytes] = {}
    refusal = None
    for number in range(120):
        object_id = os.urandom(16)
        completion = client.try_put(object_id, b"header", body_of(number))
        if not isinstance(completion, Done):
            refusal = completion
            break
        held[number] = object_id
    assert isinstance(refusal, Refused), refusal
    assert refusal.status == m.ObjectStatus.STORAGE_FULL
    for named in ("--memory-limit-bytes", "--disk-limit-bytes", "which fails: record ", "://"):
        assert named in refusal.text
    assert ("the server is full" if isinstance(small_server, RedisServer) else "InternalError") in refusal.text
    assert len(held) * OBJECT_BYTES > 2 * 8 * MIB
    for number, object_id in held.items():
        assert wait_until(lambda object_id=object_id: content_of(client, object_id), 60) == [b"header", body_of(number)]  # type: ignore[misc]
    # What is deleted makes room.
    for number in list(held)[::2]:
        assert isinstance(client.delete(held.pop(number)), Done)

    def is_stored() -> bool:
        if isinstance(small_server, S3Server):
            small_server.vacuum()
        return isinstance(client.try_put(object_id, b"header", body_of(500)), Done)

    for number in range(500, 510):
        object_id = os.urandom(16)
        wait_until(is_stored, 90)
        held[number] = object_id
    for number, object_id in held.items():
        expected = body_of(min(number, 500))
        assert wait_until(lambda object_id=object_id: content_of(client, object_id), 60) == [b"header", expected]  # type: ignore[misc]


@pytest.mark.parametrize("shared_server", REMOTE, indirect=True)
@pytest.mark.parametrize("hangs", [False, True], ids=["slow", "hanging"])
def test_a_slow_store_holds_up_nobody_who_does_not_need_it(
    server: StoreServer, shared_server: RealServer, hangs: bool
) -> None:
    proxy = SlowProxy(shared_server.host, shared_server.port)
    server.start(*MEMORY, *arguments_for(shared_server, proxy))
    client, busy = server.client(), server.client()
    small = client.put(b"small")
    proxy.delay_seconds = 1.0
    if hangs:
        proxy.hang()
    # Beyond 70 % of the memory the server writes, so something is on its way from now on.
    for number in range(14):
        busy.put(body_of(number))
    longest = 0.0
    for _ in range(200):
        began = time.monotonic()
        assert client.get(small) == [b"small"]
        longest = max(longest, time.monotonic() - began)
    # A loop that waits for the store once would take the 2 s of a round trip through the proxy.
    assert longest < 1.75
    proxy.close()


@pytest.mark.parametrize("shared_server", REMOTE, indirect=True)
def test_a_server_ends_in_time_while_its_store_hangs(server: StoreServer, shared_server: RealServer) -> None:
    proxy = SlowProxy(shared_server.host, shared_server.port)
    server.start(*MEMORY, *arguments_for(shared_server, proxy), "--storage-timeout-seconds", "60")
    client = server.client()
    proxy.hang()
    for number in range(14):
        client.put(body_of(number))
    assert server.service is not None
    began = time.monotonic()
    os.kill(server.service.pid, signal.SIGTERM)
    assert server.service.join(30) == 0
    assert time.monotonic() - began < 12
    proxy.close()


def refusal_of(*arguments: str, module: str = "scaler_objstore") -> tuple[int, str]:
    """The exit status of a server that does not start, and what it prints as its reason."""
    command = [sys.executable, "-m", module, "tcp://127.0.0.1:0", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, env=dict(os.environ))
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("own_server", ["redis", "valkey"], indirect=True)
def test_a_wrong_password_ends_the_start_with_one_line(own_server: RealServer, tmp_path: Path) -> None:
    assert isinstance(own_server, RedisServer)
    assert own_server.command("CONFIG", "SET", "requirepass", "correct").startswith("+OK")
    file = tmp_path / "password"
    file.write_text("hush-hush\n")
    file.chmod(0o600)
    status, text = refusal_of(*arguments_for(own_server), "--storage-password-file", str(file))
    assert (status, text.count("\n")) == (2, 1)
    assert "--storage-url redis://" in text
    assert "invalid username-password pair" in text
    assert "hush-hush" not in text


def test_a_missing_bucket_ends_the_start_with_one_line(s3_server: RealServer) -> None:
    assert isinstance(s3_server, S3Server)
    status, text = refusal_of("--storage-url", "s3://nowhere/a", "--storage-endpoint", s3_server.endpoint)
    assert (status, text.count("\n")) == (2, 1)
    assert "NoSuchBucket" in text


def test_missing_credentials_end_the_start_with_one_line(
    s3_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    status, text = refusal_of(*arguments_for(s3_server))
    assert (status, text.count("\n")) == (2, 1)
    assert "SignatureDoesNotMatch" in text
    assert "hush-hush" not in text


def test_a_store_that_does_not_answer_ends_the_start(impatient: str) -> None:
    status, text = refusal_of("--storage-url", "redis://127.0.0.1:1", module=impatient)
    assert (status, text.count("\n")) == (1, 1)
    assert "--storage-url redis://127.0.0.1:1/0/scaler does not answer" in text
