"""The object storage server as users run it: a process of its own, real sockets."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scaler_protocol.address import Address
from scaler_protocol.objects.segments import (
    Lease,
    Place,
    SegmentPool,
    SegmentReader,
    accept_offer,
    pack_place,
    unpack_place,
)
from scaler_protocol.objects.storage import Completion, Done, Refused, StoreRequests
from scaler_protocol.service.child import ChildService
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.testing.real_stores import SlowProxy
from scaler_protocol.testing.store_server import StoreClient, StoreServer
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.version import PROTOCOL_VERSION
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.envelope import UNSEQUENCED, Frame, encode_envelope

MIB = 1024 * 1024
ENVELOPE = encode_envelope(UNSEQUENCED)
PATIENCE_S = 20.0


@pytest.fixture
def server() -> Iterator[StoreServer]:
    server = StoreServer()
    yield server
    server.close()


@pytest.mark.parametrize("event_loop", ["builtin", "uvloop"])
def test_objects_of_any_size_come_back_as_they_were_put(server: StoreServer, event_loop: str) -> None:
    server.start("--event-loop", event_loop)
    client, other = server.client(), server.client()
    for size in (0, 1, 1000, 64 * 1024, MIB + 1, 40 * MIB):
        body = os.urandom(size)
        object_id = client.put(b"header", body, bytearray(body[:7]))
        assert other.get(object_id) == [b"header", body, body[:7]]
    assert client.get(os.urandom(16)) is None


def test_a_get_is_answered_when_the_object_arrives(server: StoreServer) -> None:
    server.start()
    reader, writer = server.client(), server.client()
    object_id = os.urandom(16)
    request = reader.requests.get(object_id, time.monotonic(), wait_seconds=30.0)
    reader.flush()
    writer.put(b"at last", object_id=object_id)
    assert reader.wait(request) == Done(request, [b"at last"])
    started = time.monotonic()
    assert reader.get(os.urandom(16), wait_seconds=0.3) is None
    assert 0.2 < time.monotonic() - started < 5.0


def test_a_get_waits_as_long_as_a_slow_client_sends(server: StoreServer) -> None:
    server.start()
    proxy = SlowProxy("127.0.0.1", Address.parse(server.address).port, delay_seconds=0.4)
    writer = StoreClient(f"tcp://127.0.0.1:{proxy.port}")
    agent = server.client(m.Role.AGENT)
    object_id, body = os.urandom(16), os.urandom(10 * MIB)
    try:
        writer.put(b"it is connected")
        with ThreadPoolExecutor(1) as pool:
            started = time.monotonic()
            # A slow network carries the object long after the task that names it.
            putting = pool.submit(writer.put, body, object_id=object_id)
            assert agent.get(object_id, wait_seconds=1.5) == [body]
            assert time.monotonic() - started > 2 * 1.5
            putting.result(PATIENCE_S)
    finally:
        writer.close()
        proxy.close()


def test_clients_are_isolated_and_the_scheduler_ends_them(server: StoreServer) -> None:
    server.start()
    alice, bob, scheduler = server.client(), server.client(), server.client(m.Role.SCHEDULER)
    hers, his = alice.put(b"hers"), bob.put(b"his")
    refused = bob.delete(hers, owner=alice.incarnation)
    assert isinstance(refused, Refused)
    assert refused.status == m.ObjectStatus.NOT_YOURS
    refused = bob.try_put(hers, b"overwritten")
    assert isinstance(refused, Refused)
    assert refused.status == m.ObjectStatus.NOT_YOURS
    bob.requests.end_owner(alice.incarnation, time.monotonic())
    bob.requests.tell(m.Shutdown("mine now"), time.monotonic())
    assert bob.get(hers) == [b"hers"]
    scheduler.requests.end_owner(alice.incarnation, time.monotonic())
    assert scheduler.get(hers) is None
    assert scheduler.get(his) == [b"his"]
    assert isinstance(bob.delete(his), Done)
    assert bob.get(his) is None


def test_a_full_store_refuses_and_its_process_stays_small(server: StoreServer) -> None:
    server.start("--memory-limit-bytes", str(64 * MIB), "--object-size-limit-bytes", str(16 * MIB))
    client = server.client()
    client.put(b"warm")
    before = server.rss_bytes
    accepted = [os.urandom(16) for _ in range(7)]
    for object_id in accepted:
        assert isinstance(client.try_put(object_id, os.urandom(8 * MIB)), Done)
    # Who has hurry is told so, instead of waiting until there is room.
    hurried = server.client(timeout_seconds=2.0)
    for _ in range(3):
        completion = hurried.try_put(os.urandom(16), os.urandom(8 * MIB))
        assert isinstance(completion, Refused)
        assert completion.status == m.ObjectStatus.STORAGE_FULL
        assert "object storage is full" in completion.text
    assert server.rss_bytes - before < 64 * MIB + 32 * MIB
    too_large = client.try_put(os.urandom(16), b"x" * (16 * MIB + 1))
    assert isinstance(too_large, Refused)
    assert too_large.status == m.ObjectStatus.TOO_LARGE
    assert isinstance(client.delete(*accepted), Done)
    client.put(os.urandom(8 * MIB))
    assert server.rss_bytes - before < 48 * MIB, "freed memory goes back to the system"


def test_identical_objects_take_the_room_of_one(server: StoreServer) -> None:
    server.start("--memory-limit-bytes", str(20 * MIB))
    body = os.urandom(8 * MIB)
    ids = [server.client().put(b"h", body) for _ in range(5)]
    assert all(server.clients[0].get(object_id) == [b"h", body] for object_id in ids)


def test_garbage_costs_its_sender_the_connection_and_nobody_else_anything(
    server: StoreServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.start()
    client, vandal = server.client(), server.client()
    object_id = vandal.put(b"fine before")
    for frames in (
        [],
        [b""],
        [b"\xff" * 64],
        [os.urandom(500)],
        [encode(m.ObjectGet(1, object_id))[0], b"surplus"] * 9,
    ):
        vandal.send(*frames)
    vandal.link.send([b""])
    assert vandal.get(object_id) == [b"fine before"], "its other requests go on"
    assert client.get(object_id) == [b"fine before"]
    assert "peers disconnected for malformed messages" in capfd.readouterr().out


def test_another_protocol_version_is_refused_with_a_sentence(server: StoreServer) -> None:
    server.start()
    client = server.client()
    hello = m.Hello(m.Role.CLIENT, "from the future", client.incarnation, protocol_version=PROTOCOL_VERSION + 1)
    client.requests = StoreRequests(hello)
    completion = client.try_put(os.urandom(16), b"x")
    assert isinstance(completion, Refused)
    assert f"speaks protocol version {PROTOCOL_VERSION}" in completion.text


def test_a_killed_and_restarted_server_is_noticed_and_used_again(server: StoreServer) -> None:
    server.start("--io-threads", "2")
    client = server.client()
    lost = client.put(b"lost")
    assert server.service is not None
    os.kill(server.service.pid, signal.SIGKILL)
    server.service.join()
    request = client.requests.put(object_id := os.urandom(16), client.incarnation, [b"kept"], time.monotonic())
    client.flush()
    server.start()
    assert isinstance(client.wait(request), Done)
    assert client.store_changes == 1
    assert client.get(object_id) == [b"kept"]
    assert client.get(lost) is None


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, None])
def test_it_stops_when_asked_with_status_zero_and_leaves_nothing_behind(
    server: StoreServer, stop: signal.Signals | None
) -> None:
    server.start()
    client = server.client(m.Role.SCHEDULER)
    client.put(b"something")
    assert server.service is not None
    if stop is None:
        client.requests.tell(m.Shutdown("the cluster stops"), time.monotonic())
        client.flush()
    else:
        os.kill(server.service.pid, stop)
    assert server.service.join(10) == 0
    port = int(server.address.rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_an_answer_under_way_still_arrives_when_the_server_stops(server: StoreServer) -> None:
    server.start()
    client = server.client()
    body = os.urandom(30 * MIB)
    object_id = client.put(body)
    request = client.requests.get(object_id, time.monotonic())
    client.flush()
    assert select.select([client.link.fd], [], [], PATIENCE_S)[0], "the answer begins"
    assert server.service is not None
    server.service.process.terminate()
    assert client.wait(request) == Done(request, [body])


def test_an_address_in_use_is_one_clear_line(server: StoreServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.start()
    second = ChildService.start("scaler_objstore", [server.address])
    with pytest.raises(ServiceError, match="exit status 1"):
        second.wait_ready()
    second.terminate()
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"scaler_object_storage_server: cannot listen on {server.address}: Address already in use"


def test_it_serves_local_sockets_too(server: StoreServer) -> None:
    # Not pytest's folder: the path of a local socket has at most 107 bytes.
    with TemporaryDirectory(dir="/tmp") as folder:
        server.address = f"ipc://{folder}/store"
        server.start()
        client = server.client()
        assert client.get(client.put(b"x")) == [b"x"]


# --- segments


def accept(client: StoreClient) -> bytes:
    """Say hello; return the token of the server's offer."""
    client.get(os.urandom(16))
    token = accept_offer(client.requests.segment_offer, client.requests.store_incarnation)
    assert token is not None
    return token


def put_segment(client: StoreClient, lease: Lease) -> Completion:
    request = client.requests.put(
        lease.place.stamp, client.incarnation, (), time.monotonic(), place=pack_place(lease.place)
    )
    return client.wait(request)


def find_place(client: StoreClient, object_id: bytes) -> Place:
    completion = client.wait(client.requests.get(object_id, time.monotonic(), mappable=True))
    assert isinstance(completion, Done)
    assert not completion.buffers
    return unpack_place(completion.place)


def write(pool: SegmentPool, *buffers: Frame) -> Lease:
    lease = pool.write(os.urandom(16), buffers)
    assert lease is not None
    return lease


def test_a_segment_is_mapped_by_peers_of_the_host_and_sent_to_others(server: StoreServer) -> None:
    server.start()
    client, other = server.client(), server.client()
    pool = SegmentPool(accept(client))
    body = os.urandom(5 * MIB)
    lease = write(pool, b"header", body)
    object_id = lease.place.stamp
    assert isinstance(put_segment(client, lease), Done)
    del lease
    # Its writer uses it for something else now, if it may.
    write(pool, b"header", bytes(5 * MIB))
    buffers = SegmentReader().read(find_place(other, object_id))
    assert buffers is not None
    assert [bytes(buffer) for buffer in buffers] == [b"header", body]
    assert other.get(object_id) == [b"header", body]


def test_a_deleted_object_gives_its_segment_back_and_readers_keep_what_they_have(server: StoreServer) -> None:
    server.start()
    client = server.client()
    pool = SegmentPool(accept(client))
    lease = write(pool, bytes(MIB))
    object_id, descriptor = lease.place.stamp, lease.place.descriptor
    put_segment(client, lease)
    place = find_place(client, object_id)
    del lease
    other = write(pool, b"\1" * MIB)
    assert other.place.descriptor != descriptor
    client.delete(object_id)
    assert SegmentReader().read(place) is None
    assert write(pool, b"\2" * MIB).place.descriptor == descriptor


def test_a_segment_the_server_has_no_proof_of_is_refused(server: StoreServer) -> None:
    server.start()
    client = server.client()
    accept(client)
    completion = put_segment(client, write(SegmentPool(b"?" * 32), bytes(MIB)))
    assert isinstance(completion, Refused)
    assert completion.status is m.ObjectStatus.NO_SEGMENT
    # Nor does it read what else its host has open for whoever asks.
    with open(__file__, "rb") as file:
        place = Place(os.getpid(), file.fileno(), os.urandom(16))
        request = client.requests.put(place.stamp, client.incarnation, (), time.monotonic(), place=pack_place(place))
        completion = client.wait(request)
    assert isinstance(completion, Refused)
    assert completion.status is m.ObjectStatus.NO_SEGMENT


def test_nothing_is_left_of_segments_when_the_server_is_killed(server: StoreServer) -> None:
    server.start()
    client = server.client()
    pool = SegmentPool(accept(client))
    lease = write(pool, bytes(MIB))
    put_segment(client, lease)
    place = find_place(client, lease.place.stamp)
    descriptor = lease.place.descriptor
    held = SegmentReader().read(place)
    assert held is not None
    assert server.service is not None
    os.kill(server.service.pid, signal.SIGKILL)
    server.service.join()
    assert bytes(held[0]) == bytes(MIB)
    assert SegmentReader().read(place) is None
    del held, lease
    assert write(pool, b"\1" * MIB).place.descriptor == descriptor


@pytest.mark.parametrize("memory_mib", [25, pytest.param(100, marks=pytest.mark.soak)])
def test_ten_times_the_memory_goes_to_files_and_survives_a_kill(
    server: StoreServer, tmp_path: Path, memory_mib: int
) -> None:
    """A quarter of a GiB, or 1 GiB, with a tenth of memory: all come back, before and after the server is killed."""
    arguments = ("--memory-limit-bytes", f"{memory_mib}MiB", "--storage-path", str(tmp_path))
    server.start(*arguments)
    client, reader = server.client(), server.client()
    warm = client.put(b"warm")
    before = server.rss_bytes
    bodies: dict[bytes, bytes] = {}
    block = os.urandom(4 * MIB)
    for number in range(memory_mib * 256 // 100):
        body = number.to_bytes(4, "little") + block
        bodies[client.put(b"header", body)] = body[:1000]
    assert server.rss_bytes - before < (150 + memory_mib) * MIB
    for object_id, start in bodies.items():
        found = reader.get(object_id)
        assert found is not None
        assert found[1][:1000] == start
        assert found[1][4:] == block
    assert server.service is not None
    os.kill(server.service.pid, signal.SIGKILL)
    server.service.process.wait()
    server.start(*arguments)
    lost = 0
    for object_id, start in bodies.items():
        found = reader.get(object_id)
        lost += found is None
        assert found is None or found == [b"header", start + block[996:]]
    # Only what was in memory alone.
    assert lost * 4 * MIB < memory_mib * MIB
    assert isinstance(client.delete(warm, *bodies), Done)
    wait_until(lambda: not any(path.is_file() for path in (tmp_path / "objects").rglob("*")))


def test_a_full_disk_loses_nothing_that_was_taken(server: StoreServer, small_disk: Path) -> None:
    """A disk of 32 MiB beneath 32 MiB of memory, for 40 objects of 4 MiB."""
    server.start("--memory-limit-bytes", "32MiB", "--storage-path", str(small_disk))
    client, reader = server.client(timeout_seconds=2.0), server.client()
    stored, refused = {}, 0
    for _ in range(40):
        object_id, body = os.urandom(16), os.urandom(4 * MIB)
        completion = client.try_put(object_id, body)
        if isinstance(completion, Done):
            stored[object_id] = body
            continue
        refused += 1
        assert isinstance(completion, Refused)
        assert completion.status == m.ObjectStatus.STORAGE_FULL
        assert "--memory-limit-bytes" in completion.text
        assert "No space left on device" in completion.text
        if refused == 3:
            break
    assert 10 <= len(stored) <= 16
    for object_id, body in stored.items():
        assert reader.get(object_id) == [body]
    assert isinstance(client.delete(*list(stored)[:8]), Done)
    # The disk is tried again after some seconds.
    patient = server.client()
    assert reader.get(patient.put(os.urandom(4 * MIB))) is not None
    for object_id, body in list(stored.items())[8:]:
        assert reader.get(object_id) == [body]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)
