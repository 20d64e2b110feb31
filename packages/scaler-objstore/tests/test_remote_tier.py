"""A tier in a remote store: damaged and unfinished records, and stores that fail, hang, are full or refuse."""

from __future__ import annotations

import itertools
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaler_objstore.tiers.patience import Patience
from scaler_objstore.tiers.port import (
    DamagedError,
    NotStoredError,
    TierError,
    TierFullError,
    TierUnavailableError,
)
from scaler_objstore.tiers.redis_values import RedisValues
from scaler_objstore.tiers.remote import RemoteTier
from scaler_objstore.tiers.s3_values import S3Values
from scaler_objstore.tiers.values import RejectedError, ValueStore
from scaler_protocol.service.storage_url import RedisUrl, S3Url, parse_storage_url
from scaler_protocol.testing.real_stores import (
    ACCESS_KEY,
    BUCKET,
    READING_KEY,
    READING_SECRET,
    SECRET_KEY,
    RealServer,
    RedisServer,
    S3Server,
    SlowProxy,
)
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.envelope import Frame

REMOTE = ("redis", "valkey", "s3")
PART = 1000
REQUEST_SECONDS = 5.0


class Values:
    """A `ValueStore` in memory whose requests fail when a test says so."""

    part_bytes = PART
    concurrency = 2

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.fails: Callable[[str, str], TierError | None] = lambda verb, key: None
        """Called before each request that changes something; a request that is not done raises this."""
        self.fails_after: Callable[[str, str], TierError | None] = lambda verb, key: None
        """The same, but the request is done: only its answer is lost."""

    def __str__(self) -> str:
        return "memory:"

    def check(self) -> str:
        return ""

    def _ask(self, verb: str, key: str, change: Callable[[], object]) -> None:
        if error := self.fails(verb, key):
            raise error
        change()
        if error := self.fails_after(verb, key):
            raise error

    def put(self, key: str, value: Frame) -> None:
        self._ask("put", key, lambda: self.values.__setitem__(key, bytes(value)))

    def get(self, key: str, length: int | None = None) -> Frame:
        if key not in self.values:
            raise NotStoredError(key)
        return self.values[key][:length]

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._ask("delete", key, lambda key=key: self.values.pop(key, None))  # type: ignore[misc]

    def list(self) -> Iterator[tuple[str, int]]:
        return iter([(key, len(value)) for key, value in self.values.items()])

    def close(self) -> None:
        pass


def opened(values: ValueStore, retry_seconds: float = 0.0, part_bytes: int = PART) -> RemoteTier:
    return RemoteTier(values, retry_seconds, part_bytes)


def redis_values(server_host: str, port: int, prefix: str | None = None, request_seconds: float = 5.0) -> RedisValues:
    url = parse_storage_url(f"redis://{server_host}:{port}/0/{prefix or secrets.token_hex(8)}")
    assert isinstance(url, RedisUrl)
    return RedisValues(url, request_seconds)


def s3_values(endpoint: str, prefix: str | None = None, request_seconds: float = 5.0, bucket: str = BUCKET) -> S3Values:
    url = parse_storage_url(f"s3://{bucket}/{prefix or secrets.token_hex(8)}")
    assert isinstance(url, S3Url)
    return S3Values(url, endpoint, request_seconds)


def values_in(
    server: RealServer, host: str = "", port: int = 0, request_seconds: float = REQUEST_SECONDS
) -> ValueStore:
    """A store with a prefix of its own in a server, or in what stands before it."""
    host, port = host or server.host, port or server.port
    if isinstance(server, RedisServer):
        return redis_values(host, port, request_seconds=request_seconds)
    return s3_values(f"http://{host}:{port}", request_seconds=request_seconds)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


on_each_server = pytest.mark.parametrize("shared_server", REMOTE, indirect=True)
on_own_servers = pytest.mark.parametrize("own_server", REMOTE, indirect=True)

DATA = random.Random(7).randbytes(3500)
"""Three parts, and a rest."""


def flip(value: Frame, at: int) -> bytes:
    changed = bytearray(value)
    changed[at] ^= 1
    return bytes(changed)


@on_each_server
def test_what_was_damaged_is_never_returned(shared_server: RealServer) -> None:
    values = values_in(shared_server)
    tier = opened(values)
    tier.write("0a", b"header", [DATA[:1700], DATA[1700:]])
    record, parts = "scaler-records/0a", sorted(key for key, _ in values.list() if key.startswith("scaler-parts/"))
    assert len(parts) == 3
    good = {key: bytes(values.get(key)) for key in (record, *parts)}
    for key in good:
        for at in (0, len(good[key]) // 2, len(good[key]) - 1):
            values.put(key, flip(good[key], at))
            with pytest.raises(DamagedError, match="record 0a in "):
                tier.read("0a")
        for wrong in (good[key][:-1], good[key] + b"x", b"x"):
            values.put(key, wrong)
            with pytest.raises(DamagedError):
                tier.read("0a")
        values.put(key, good[key])
    assert bytes(tier.read("0a").buffers[1]) == DATA[1700:]
    values.delete([parts[1]])
    with pytest.raises(DamagedError, match="part 1 of 3 is missing"):
        tier.read("0a")


@on_each_server
def test_a_start_drops_damaged_records_and_parts_that_nothing_names(
    shared_server: RealServer, caplog: pytest.LogCaptureFixture
) -> None:
    values = values_in(shared_server)
    before = opened(values)
    for name in ("01", "02", "03", "04", "05"):
        before.write(name, name.encode(), [DATA])
    part = next(key for key, _ in values.list() if key.startswith("scaler-parts/01/"))
    values.delete([part])
    part = next(key for key, _ in values.list() if key.startswith("scaler-parts/02/"))
    values.put(part, b"torn")
    values.put("scaler-records/03", bytes(values.get("scaler-records/03"))[:40])
    values.put("scaler-parts/06/" + "00" * 16 + "/000000", DATA[:PART])
    values.put("scaler-records/not-ours", b"another program's")
    with caplog.at_level(logging.WARNING):
        after = opened(values)
        assert sorted((found.name, found.header) for found in after.records()) == [("04", b"04"), ("05", b"05")]
    # Of 01 two parts were left, of 02 three, of 03 three, and the one of 06.
    assert "deleted 3 damaged records, and 9 parts of records that were never finished" in caplog.text
    assert bytes(after.read("04").buffers[0]) == DATA
    assert len(list(values.list())) == 2 * 4 + 1
    with pytest.raises(NotStoredError):
        after.read("01")


@on_each_server
def test_parts_of_usual_length_are_sent_and_read(shared_server: RealServer) -> None:
    values = values_in(shared_server, request_seconds=20)
    tier = RemoteTier(values)
    data = random.Random(3).randbytes(1 << 20) * 18
    tier.write("0a", b"h", [data, b"tail", memoryview(data)[5 : 3 << 20]])
    assert max(length for _, length in values.list()) <= values.part_bytes + 1000
    read = tier.read("0a")
    assert [bytes(buffer) for buffer in read.buffers] == [data, b"tail", data[5 : 3 << 20]]
    tier.delete(["0a"])
    assert list(values.list()) == []


@on_own_servers
def test_a_store_that_is_killed_is_told_and_has_everything_when_it_is_back(own_server: RealServer) -> None:
    values = values_in(own_server)
    tier = opened(values, part_bytes=100_000)
    data = random.Random(5).randbytes(350_000)
    tier.write("01", b"one", [data])
    own_server.kill()
    began = time.monotonic()
    for failing in (
        lambda: tier.write("02", b"two", [data]),
        lambda: tier.read("01"),
        lambda: tier.delete(["01"]),
        lambda: tier.records(),
    ):
        with pytest.raises(TierUnavailableError):
            failing()
    assert time.monotonic() - began < 10
    own_server.start()
    # What has just started may be slow.
    wait_until(lambda: not fails(lambda: tier.read("01")), 30)
    assert bytes(tier.read("01").buffers[0]) == data
    tier.write("02", b"two", [data])
    again = opened(values)
    assert sorted(found.name for found in again.records()) == ["01", "02"]


@on_own_servers
def test_a_request_is_repeated_until_the_store_is_back(own_server: RealServer) -> None:
    tier = opened(values_in(own_server), retry_seconds=30.0, part_bytes=100_000)
    data = random.Random(5).randbytes(350_000)
    tier.write("01", b"", [data])
    own_server.kill()
    written = threading.Thread(target=tier.write, args=("02", b"", [data]))
    written.start()
    own_server.start()
    written.join(30)
    assert not written.is_alive()
    assert bytes(tier.read("02").buffers[0]) == data


@on_each_server
def test_a_store_that_hangs_costs_no_more_than_the_time_limit(shared_server: RealServer) -> None:
    proxy = SlowProxy(shared_server.host, shared_server.port)
    tier = opened(values_in(shared_server, "127.0.0.1", proxy.port, request_seconds=2.0))
    tier.write("01", b"", [DATA])
    with proxy.hanging():
        for failing in (lambda: tier.write("02", b"", [DATA]), lambda: tier.read("01"), lambda: tier.delete(["01"])):
            began = time.monotonic()
            with pytest.raises(TierUnavailableError):
                failing()
            # Parts, or a value, and what is deleted then: each takes its time limit.
            assert time.monotonic() - began < 15
    proxy.cut()
    wait_until(lambda: not fails(lambda: tier.write("03", b"", [DATA])))
    assert bytes(tier.read("03").buffers[0]) == DATA
    proxy.close()


def fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except TierUnavailableError:
        return True
    return False


@on_each_server
def test_parts_of_a_slow_store_are_on_their_way_together(shared_server: RealServer) -> None:
    proxy = SlowProxy(shared_server.host, shared_server.port, delay_seconds=0.1)
    values = values_in(shared_server, "127.0.0.1", proxy.port)
    tier = opened(values, part_bytes=2000)
    data = random.Random(9).randbytes(40_000)
    tier.write("01", b"", [data])
    # The first time makes connections.
    tier.read("01")
    began = time.monotonic()
    assert bytes(tier.read("01").buffers[0]) == data
    one_by_one = 20 * 0.2
    assert time.monotonic() - began < 0.75 * one_by_one
    proxy.close()


@pytest.mark.parametrize("own_server", ["redis", "valkey"], indirect=True)
def test_a_full_server_refuses_a_record_and_loses_none(own_server: RealServer) -> None:
    assert isinstance(own_server, RedisServer)
    tier = opened(values_in(own_server), part_bytes=1 << 20)
    data = random.Random(5).randbytes(1 << 20)
    assert own_server.command("CONFIG", "SET", "maxmemory", "24mb").startswith("+OK")
    written: list[str] = []

    def write_more() -> None:
        for number in itertools.count():
            tier.write(f"{number:04x}", b"", [data, data[number:], data])
            written.append(f"{number:04x}")

    with pytest.raises(TierFullError, match="the server is full"):
        write_more()
    assert 3 <= len(written) < 10
    for number, name in enumerate(written):
        assert [len(buffer) for buffer in tier.read(name).buffers] == [1 << 20, (1 << 20) - number, 1 << 20]
    tier.delete(written[:2])
    wait_until(lambda: not _is_full(lambda: tier.write("ffff", b"", [data])))
    assert {found.name for found in opened(values_in_same(tier)).records()} == {*written[2:], "ffff"}


def values_in_same(tier: RemoteTier) -> ValueStore:
    url = parse_storage_url(str(tier))
    assert isinstance(url, RedisUrl)
    return RedisValues(url, REQUEST_SECONDS)


def _is_full(call: Callable[[], object]) -> bool:
    try:
        call()
    except TierFullError:
        return True
    return False


@pytest.mark.parametrize("own_server", ["redis", "valkey"], indirect=True)
def test_what_a_server_refuses_is_told_without_asking_again(own_server: RealServer) -> None:
    assert isinstance(own_server, RedisServer)
    host, port = own_server.host, own_server.port
    assert own_server.command("ACL", "SETUSER", "reader", "on", ">reading", "~*", "+@read", "+ping").startswith("+OK")
    assert own_server.command("CONFIG", "SET", "requirepass", "correct").startswith("+OK")
    for url, password, expected in (
        (f"redis://{host}:{port}", "correct", ""),
        (f"redis://{host}:{port}", None, "Authentication required"),
        (f"redis://{host}:{port}", "wrong-secret", "invalid username-password pair"),
        (f"redis://reader@{host}:{port}", "reading", "no permissions"),
        (f"redis://{host}:{port}/99", "correct", "DB index is out of range"),
    ):
        place = parse_storage_url(url)
        assert isinstance(place, RedisUrl)
        tier = opened(RedisValues(replace(place, password=password), REQUEST_SECONDS), retry_seconds=30)
        if not expected:
            assert tier.check() == ""
            continue
        began = time.monotonic()
        with pytest.raises(RejectedError, match=expected) as refused:
            tier.check()
        assert time.monotonic() - began < 5
        assert "wrong-secret" not in str(refused.value) + str(tier)


@pytest.mark.parametrize("own_server", ["redis", "valkey"], indirect=True)
def test_a_replica_is_told_to_be_read_only(own_server: RealServer) -> None:
    assert isinstance(own_server, RedisServer)
    tier = opened(values_in(own_server))
    assert own_server.command("REPLICAOF", "127.0.0.1", "1").startswith("+OK")
    with pytest.raises(RejectedError, match="read only"):
        tier.check()


@pytest.mark.parametrize("own_server", ["redis", "valkey"], indirect=True)
def test_a_server_that_may_throw_objects_away_is_warned_of(own_server: RealServer) -> None:
    assert isinstance(own_server, RedisServer)
    tier = opened(values_in(own_server))
    assert tier.check() == ""
    assert own_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru").startswith("+OK")
    assert "allkeys-lru" in tier.check()


def test_what_a_bucket_refuses_is_told_without_asking_again(
    s3_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(s3_server, S3Server)
    endpoint = s3_server.endpoint
    assert opened(s3_values(endpoint)).check() == ""
    for key, secret, bucket, expected in (
        (ACCESS_KEY, SECRET_KEY, "no-such-bucket", "NoSuchBucket"),
        (ACCESS_KEY, "wrong-secret", BUCKET, "SignatureDoesNotMatch"),
        ("NOBODY", "wrong-secret", BUCKET, "InvalidAccessKeyId"),
        (READING_KEY, READING_SECRET, BUCKET, "AccessDenied"),
    ):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        tier = opened(s3_values(endpoint, bucket=bucket), retry_seconds=30)
        began = time.monotonic()
        with pytest.raises(RejectedError, match=expected) as refused:
            tier.check()
        assert time.monotonic() - began < 5
        assert secret not in str(refused.value) + str(tier)


def unavailable(*_: object) -> TierUnavailableError:
    return TierUnavailableError("no answer")


def full(*_: object) -> TierFullError:
    return TierFullError("no room")


@pytest.mark.parametrize("error", [unavailable, full], ids=["unavailable", "full"])
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("is_done", [False, True], ids=["not-done", "answer-lost"])
def test_a_write_that_fails_leaves_the_old_record_or_the_new_one(
    error: Callable[..., TierError], at: int, is_done: bool
) -> None:
    values = Values()
    tier = opened(values)
    tier.write("01", b"old", [DATA])
    puts = itertools.count()

    def fail(verb: str, key: str) -> TierError | None:
        return error() if verb == "put" and next(puts) == at else None

    values.fails, values.fails_after = (values.fails, fail) if is_done else (fail, values.fails_after)
    with pytest.raises(type(error()), match="record 01 in memory:"):
        tier.write("01", b"new", [DATA[::-1]])
    after = opened(values)
    assert [record.name for record in after.records()] == ["01"]
    read = after.read("01")
    assert (read.header, bytes(read.buffers[0])) in [(b"old", DATA), (b"new", DATA[::-1])]
    assert len(values.values) == 4
    # A record that is written for the first time is not there after a failure.
    values.fails = values.fails_after = lambda verb, key: None
    tier.delete(["01"])
    assert values.values == {}


def test_a_write_that_fails_while_nothing_can_be_deleted_leaves_nothing_for_ever() -> None:
    values = Values()
    tier = opened(values)
    values.fails = lambda verb, key: unavailable() if verb == "delete" or key.startswith("scaler-records/") else None
    for name in ("01", "02"):
        with pytest.raises(TierUnavailableError):
            tier.write(name, b"", [DATA])
    assert len(values.values) == 6
    values.fails = lambda verb, key: None
    tier.write("01", b"", [DATA])
    tier.delete(["02"])
    assert len(values.values) == 4
    tier.delete(["01"])
    assert values.values == {}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_whatever_fails_records_are_whole_and_nothing_is_left_over(seed: int) -> None:
    chance = random.Random(seed)
    values = Values()
    tier = opened(values)
    values.fails = lambda verb, key: unavailable() if chance.random() < 0.1 else None
    values.fails_after = lambda verb, key: unavailable() if chance.random() < 0.1 else None
    # What a record may be: the last that was written for sure, or one whose write failed since.
    possible: dict[str, set[bytes | None]] = {}
    for _ in range(30):
        name = f"0{chance.randrange(3)}"
        allowed = possible.setdefault(name, {None})
        if chance.random() < 0.7:
            data = chance.randbytes(chance.randrange(3000))
            try:
                tier.write(name, b"", [data])
                possible[name] = {data}
            except TierUnavailableError:
                allowed.add(data)
        else:
            try:
                tier.delete([name])
                possible[name] = {None}
            except TierUnavailableError:
                allowed.add(None)
    values.fails = values.fails_after = lambda verb, key: None
    after = opened(values)
    found = {record.name for record in after.records()}
    for name, allowed in possible.items():
        content = bytes(after.read(name).buffers[0]) if name in found else None
        # A failed first write may have been undone.
        assert content in allowed
    after.delete(list(found))
    assert values.values == {}


def test_no_more_parts_are_on_their_way_than_the_store_takes_at_once() -> None:
    values = Values()
    tier = opened(values)
    lock = threading.Lock()
    now, most = 0, 0
    both = threading.Barrier(2, timeout=10)

    def count(verb: str, key: str) -> None:
        nonlocal now, most
        if not key.startswith("scaler-parts/"):
            return
        with lock:
            now += 1
            most = max(most, now)
        both.wait()
        with lock:
            now -= 1

    values.fails = count
    writers = [
        threading.Thread(target=tier.write, args=(f"0{number}", b"", [DATA + DATA[:1000]])) for number in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(10)
    assert (now, most) == (0, 2)


def test_a_request_is_asked_again_after_growing_pauses_and_not_for_ever() -> None:
    patience = Patience(1.0)
    asked: list[float] = []

    def request() -> None:
        asked.append(time.monotonic())
        raise TierUnavailableError("no")

    with pytest.raises(TierUnavailableError):
        patience.ask(request, patience.deadline())
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert 3 <= len(pauses) <= 5
    assert 0.05 <= pauses[0] < pauses[2]
    assert asked[-1] - asked[0] <= 1.0


def test_a_request_that_was_rejected_is_not_asked_again() -> None:
    patience = Patience(60.0)
    with pytest.raises(RejectedError):
        patience.ask(rejected, patience.deadline())


def rejected() -> None:
    raise RejectedError("wrong password")


def test_closing_ends_all_pauses() -> None:
    values = Values()
    values.fails = unavailable
    tier = opened(values, retry_seconds=60.0)
    failed: list[TierError] = []

    def write() -> None:
        try:
            tier.write("01", b"", [DATA])
        except TierError as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    tier.close()
    thread.join(10)
    with pytest.raises(TierUnavailableError, match="it was closed"):
        tier.write("02", b"", [DATA])
    assert not thread.is_alive()
    assert failed
