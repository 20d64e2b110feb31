"""What every tier promises, whatever it is made of: one suite for all of them."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from scaler_objstore.tiers.disk import DiskTier
from scaler_objstore.tiers.memory import MemoryTier
from scaler_objstore.tiers.port import NAME_CHARACTERS_MAX, NotStoredError, StoredRecord, Tier, TierFullError
from scaler_objstore.tiers.redis_values import RedisValues
from scaler_objstore.tiers.remote import RemoteTier
from scaler_objstore.tiers.s3_values import S3Values
from scaler_protocol.service.storage_url import RedisUrl, S3Url, parse_storage_url
from scaler_protocol.testing.real_stores import ACCESS_KEY, BUCKET, SECRET_KEY, RealServer, S3Server
from scaler_protocol.wire.envelope import Frame

PART_BYTES = 64 * 1024
"""Much shorter than outside of tests, so that records of some hundred kilobytes have parts."""

REQUEST_SECONDS = 10.0


class Place(Protocol):
    """Where a tier keeps its records; empty at first. A test may open it again, as a server does after a crash."""

    def open(self) -> Tier: ...


class MemoryPlace:
    def open(self) -> Tier:
        return MemoryTier()


class DiskPlace:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> Tier:
        return DiskTier(self._folder)


class RedisPlace:
    def __init__(self, server: RealServer, scheme: str) -> None:
        self._url = f"{scheme}://{server.host}:{server.port}/0/{secrets.token_hex(8)}"

    def open(self) -> Tier:
        url = parse_storage_url(self._url)
        assert isinstance(url, RedisUrl)
        return RemoteTier(RedisValues(url, REQUEST_SECONDS), part_bytes=PART_BYTES)


class S3Place:
    def __init__(self, server: RealServer) -> None:
        assert isinstance(server, S3Server)
        self._server = server
        self._url = f"s3://{BUCKET}/{secrets.token_hex(8)}"

    def open(self) -> Tier:
        url = parse_storage_url(self._url)
        assert isinstance(url, S3Url)
        return RemoteTier(S3Values(url, self._server.endpoint, REQUEST_SECONDS), part_bytes=PART_BYTES)


KINDS = ("memory", "disk", "redis", "valkey", "s3")
NOT_LASTING = ("memory",)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place of each kind, in a real server where the kind needs one."""
    if request.param == "memory":
        return MemoryPlace()
    if request.param == "disk":
        return DiskPlace(tmp_path / "tier")
    server: RealServer = request.getfixturevalue(f"{request.param}_server")
    if request.param == "s3":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        return S3Place(server)
    return RedisPlace(server, request.param)


@pytest.fixture
def tier(place: Place) -> Iterator[Tier]:
    tier = place.open()
    assert list(tier.records()) == []
    yield tier
    tier.close()


def contents(tier: Tier, name: str) -> tuple[bytes, list[bytes]]:
    record = tier.read(name)
    return record.header, [bytes(buffer) for buffer in record.buffers]


@pytest.mark.parametrize(
    "buffers",
    [[], [b""], [b"a"], [b"", b"ab", b""], [bytes(300_000), b"tail"], [b"x"] * 1000],
    ids=["none", "empty", "one", "between-empties", "large", "many"],
)
def test_a_record_is_read_as_it_was_written(tier: Tier, buffers: list[bytes]) -> None:
    tier.write("0a", b"header", buffers)
    assert contents(tier, "0a") == (b"header", buffers)


def test_buffers_of_every_kind_are_taken(tier: Tier) -> None:
    whole = bytearray(os.urandom(4096))
    frames: list[Frame] = [bytes(whole), whole, memoryview(whole), memoryview(whole)[100:200], memoryview(b"")]
    tier.write("01", b"", frames)
    assert contents(tier, "01") == (b"", [bytes(frame) for frame in frames])


def test_what_was_written_does_not_change_with_its_source(tier: Tier) -> None:
    source = bytearray(b"before")
    tier.write("01", b"h", [source])
    source[:] = b"after!"
    assert contents(tier, "01") == (b"h", [b"before"])


def test_what_was_read_stays_after_its_record_is_deleted(tier: Tier) -> None:
    data = os.urandom(500_000)
    tier.write("01", b"h", [data])
    record = tier.read("01")
    tier.delete(["01"])
    assert bytes(record.buffers[0]) == data


def test_what_was_read_cannot_be_changed(tier: Tier) -> None:
    tier.write("01", b"h", [bytes(500_000)])
    assert memoryview(tier.read("01").buffers[0]).readonly


def test_a_second_write_replaces_the_first(tier: Tier) -> None:
    tier.write("01", b"first", [bytes(400_000)])
    tier.write("01", b"second", [b"less"])
    assert contents(tier, "01") == (b"second", [b"less"])
    assert [(found.name, found.header) for found in tier.records()] == [("01", b"second")]


def test_a_record_that_does_not_exist_is_told(tier: Tier) -> None:
    with pytest.raises(NotStoredError, match="0b"):
        tier.read("0b")


def test_deleted_records_are_gone_and_absent_ones_are_no_error(tier: Tier) -> None:
    for name in ("01", "02", "03"):
        tier.write(name, b"", [name.encode()])
    tier.delete(["01", "0f", "03"])
    tier.delete([])
    tier.delete(["01"])
    assert [found.name for found in tier.records()] == ["02"]
    with pytest.raises(NotStoredError):
        tier.read("01")


def test_a_name_has_up_to_64_hexadecimal_digits(tier: Tier) -> None:
    longest = "f" * NAME_CHARACTERS_MAX
    tier.write(longest, b"h", [b"x"])
    assert contents(tier, longest) == (b"h", [b"x"])
    for name in ("", "F0", "../01", "0g", longest + "0"):
        with pytest.raises(ValueError, match="cannot name a record"):
            tier.write(name, b"", [])


def test_all_records_are_listed_with_headers_and_sizes(tier: Tier) -> None:
    for number in range(50):
        tier.write(f"{number:02x}", f"header {number}".encode(), [bytes(number)] * 3)
    listed = {found.name: found for found in tier.records()}
    assert {name: found.header for name, found in listed.items()} == {
        f"{number:02x}": f"header {number}".encode() for number in range(50)
    }
    assert all(found.size_bytes >= 3 * int(name, 16) for name, found in listed.items())


def test_used_bytes_follow_what_is_stored(tier: Tier) -> None:
    assert tier.used_bytes == 0
    tier.write("01", b"h", [bytes(300_000)])
    tier.write("02", b"h", [bytes(1000)])
    assert 301_000 <= tier.used_bytes <= 320_000
    assert tier.used_bytes == sum(found.size_bytes for found in tier.records())
    tier.write("01", b"h", [bytes(500)])
    assert 1500 <= tier.used_bytes <= 20_000
    tier.delete(["01", "02", "03"])
    assert tier.used_bytes == 0


def test_many_threads_at_once_do_not_disturb_each_other(tier: Tier) -> None:
    def work(number: int) -> None:
        random_ = random.Random(number)
        name = f"{number:04x}"
        for _ in range(5):
            data = random_.randbytes(random_.randrange(100_000))
            tier.write(name, data[:20], [data, data[::-1]])
            assert contents(tier, name) == (data[:20], [data, data[::-1]])
        if number % 2:
            tier.delete([name])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    assert sorted(found.name for found in tier.records()) == [f"{number:04x}" for number in range(0, 24, 2)]


@pytest.mark.parametrize("place", [kind for kind in KINDS if kind not in NOT_LASTING], indirect=True)
def test_records_are_there_when_a_place_is_opened_again(place: Place) -> None:
    before = place.open()
    list(before.records())
    large = random.Random(1).randbytes(300_000)
    before.write("01", b"first", [b"", large, b"x"])
    before.write("02", bytes(10_000), [b"second"])
    before.write("03", b"replaced", [large])
    before.write("03", b"third", [large[:200_000]])
    before.write("04", b"deleted", [large])
    before.delete(["04"])
    before.close()
    after = place.open()
    found = {record.name: record for record in after.records()}
    assert {name: record.header for name, record in found.items()} == {
        "01": b"first",
        "02": bytes(10_000),
        "03": b"third",
    }
    assert after.used_bytes == sum(record.size_bytes for record in found.values()) == before.used_bytes
    assert contents(after, "01") == (b"first", [b"", large, b"x"])
    assert contents(after, "02") == (bytes(10_000), [b"second"])
    assert contents(after, "03") == (b"third", [large[:200_000]])
    after.delete(["01", "02", "03"])
    assert after.used_bytes == 0
    after.close()
    emptied = place.open()
    assert list(emptied.records()) == []
    emptied.close()


def test_memory_beyond_its_limit_is_refused_and_nothing_is_lost() -> None:
    tier = MemoryTier(1000)
    tier.write("01", b"", [bytes(600)])
    with pytest.raises(TierFullError, match=r"500 bytes do not fit.*600 of 1000"):
        tier.write("02", b"", [bytes(500)])
    with pytest.raises(TierFullError):
        tier.write("01", b"", [bytes(1001)])
    assert list(tier.records()) == [StoredRecord("01", b"", 600)]
    tier.write("01", b"", [bytes(1000)])
    assert tier.used_bytes == 1000
