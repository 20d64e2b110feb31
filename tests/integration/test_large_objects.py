"""Large values on one host: how often they are copied, what a kill leaves, and that everybody sees the right bytes."""

from __future__ import annotations

import gc
import mmap
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaler import Client
from scaler.client.object_channel import ObjectChannel
from scaler.errors import ScalerError
from scaler_protocol.objects.segments import SegmentPool
from scaler_protocol.payloads.framing import INLINE_BYTES_MAX
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import messages as m
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, segments_of, wait_for

MIB = 1024 * 1024
SIZE = 8 * MIB


class Copies:
    """Counts the bytes this process copies into segments, and those it sends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.into_segments = 0
        self.sent = 0
        write, send = SegmentPool.write, DealerLink.send

        def counting_write(pool: SegmentPool, stamp: bytes, buffers: Any) -> Any:
            before = pool.copied_bytes
            lease = write(pool, stamp, buffers)
            self.into_segments += pool.copied_bytes - before
            return lease

        def counting_send(link: DealerLink, frames: Any) -> Any:
            self.sent += sum(map(len, frames))
            return send(link, frames)

        monkeypatch.setattr(SegmentPool, "write", counting_write)
        monkeypatch.setattr(DealerLink, "send", counting_send)


def owner_of(array: np.ndarray[Any, Any]) -> object:
    """What the memory of an array belongs to."""
    owner: object = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner


def numbers(seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).random(SIZE // 8)


@pytest.fixture
def cluster(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> tuple[Service, Client]:
    # A server that takes longer to say that it is on this host gets the first value through the socket.
    monkeypatch.setattr("scaler.client.object_channel.WELCOME_SECONDS", 30.0)
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    return scheduler, deployment.client(scheduler)


def test_an_array_is_copied_once_on_its_way_to_a_task_and_once_back(
    cluster: tuple[Service, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = cluster
    copies = Copies(monkeypatch)
    array = numbers()
    about = client.submit(f.describe_memory, array).result(timeout=30)
    # One copy here, none through a socket, and none in the task: its array lies in the segment, and may be written.
    assert copies.into_segments == pytest.approx(SIZE, abs=4096)
    assert copies.sent < 64 * 1024
    assert about == {"owner": "mmap", "writeable": True, "copied_bytes": 0, "sum": float(array.sum())}
    result = client.submit(f.random_array, 5, SIZE // 8).result(timeout=30)
    # A result is copied by the task's process alone; what the caller gets lies in that segment.
    assert copies.into_segments == pytest.approx(SIZE, abs=4096)
    assert copies.sent < 64 * 1024
    assert isinstance(owner_of(result), mmap.mmap)
    assert result.flags.writeable
    assert np.array_equal(result, numbers(5))


def test_bytes_are_copied_once_more_at_each_end_as_python_wants_it(
    cluster: tuple[Service, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = cluster
    copies = Copies(monkeypatch)
    value = os.urandom(SIZE)
    assert client.submit(f.echo, value).result(timeout=30) == value
    assert copies.into_segments == pytest.approx(SIZE, abs=64)
    assert copies.sent < 64 * 1024


def test_without_segments_everything_goes_through_the_socket(
    cluster: tuple[Service, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from another host, another user, or another system."""
    _, client = cluster
    monkeypatch.setattr("scaler.client.object_channel.accept_offer", lambda *_: None)
    copies = Copies(monkeypatch)
    array = numbers()
    result = client.submit(f.echo, array).result(timeout=30)
    assert copies.into_segments == 0
    assert copies.sent == pytest.approx(SIZE, abs=64 * 1024)
    assert np.array_equal(result, array)
    assert result.flags.writeable


def test_what_was_submitted_is_what_the_task_gets(cluster: tuple[Service, Client]) -> None:
    _, client = cluster
    array = numbers()
    expected = float(array.sum())
    futures = []
    for _ in range(20):
        futures.append(client.submit(f.sum_of, array))
        array += 1.0
    got = [future.result(timeout=30) for future in futures]
    assert got == [pytest.approx(expected + number * len(array)) for number in range(20)]


def test_tasks_may_write_to_what_they_share(cluster: tuple[Service, Client]) -> None:
    _, client = cluster
    array = np.zeros(SIZE // 8)
    reference = client.send_object(array)
    sums = [client.submit(f.add_in_place, reference, float(number)) for number in range(12)]
    assert [future.result(timeout=30) for future in sums] == [float(number) * len(array) for number in range(12)]
    assert client.submit(f.sum_of, reference).result(timeout=30) == 0.0


def test_results_stay_what_they_are_while_segments_are_used_again(cluster: tuple[Service, Client]) -> None:
    _, client = cluster
    kept: list[Any] = []
    for number in range(30):
        result = client.submit(f.random_array, number, SIZE // 8).result(timeout=30)
        # Of some only a piece is kept, which must do.
        kept.append((number, result[1000:1010] if number % 3 else result))
        if number % 5 == 4:
            del kept[0]
    for number, result in kept:
        assert np.array_equal(result, numbers(number)[1000:1010] if number % 3 else numbers(number))


def test_segments_are_used_again(cluster: tuple[Service, Client]) -> None:
    _, client = cluster
    before = segments_of(os.getpid())
    for number in range(30):
        assert client.submit(f.sum_of, numbers(number)).result(timeout=30) == float(numbers(number).sum())
    # Some, as an object is deleted a moment after its task was answered; not thirty.
    assert segments_of(os.getpid()) - before <= 8


def test_nothing_is_held_when_everything_was_answered(cluster: tuple[Service, Client]) -> None:
    scheduler, client = cluster
    results = [client.submit(f.echo, numbers(number)).result(timeout=30) for number in range(6)]
    server = storage_pid(scheduler)
    del results
    gc.collect()
    # Its offer is one, too.
    wait_for("the server holds no object", lambda: segments_of(server) == 1, 20.0)


def storage_pid(scheduler: Service) -> int:
    """The object storage server that a scheduler has started."""
    (pid,) = [pid for pid in scheduler.children() if Path(f"/proc/{pid}/comm").read_text().strip() == "scaler_objstore"]
    return pid


def test_kill_9_of_the_object_storage_server(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    client = deployment.client(scheduler)
    held = client.submit(f.random_array, 3, SIZE // 8).result(timeout=30)
    os.kill(storage_pid(scheduler), signal.SIGKILL)
    # What was fetched stays, whatever becomes of the store.
    assert np.array_equal(held, numbers(3))


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_sent_outlives_the_object_storage_server(deployment: Deployment, kept: bool) -> None:
    """Nothing else tells the client that the server is another one: it has its copy, and no reason to send it again."""
    store = deployment.storage()
    scheduler = deployment.scheduler("--object-storage-address", store.address)
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    value = bytes(range(256)) * 4096
    reference = client.send_object(value)
    store.kill()
    deployment.storage(address=store.address)
    assert client.submit(len, reference if kept else value).result(timeout=60) == len(value)


@pytest.mark.parametrize("size", [100_000, 300_000, SIZE])
def test_a_processor_killed_after_a_large_result_costs_nothing_but_time(
    deployment: Deployment, tmp_path: Path, size: int
) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "20")
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    futures: list[Any] = []
    for number in range(4):
        futures.append(client.submit(f.random_array, number, size // 8))
        futures.append(client.submit(f.die_once, str(tmp_path / f"mark{number}")))
    for number in range(4):
        array = futures[2 * number].result(timeout=60)
        assert np.array_equal(array, np.random.default_rng(number).random(size // 8))
        assert futures[2 * number + 1].result(timeout=60) == "second attempt"


def test_a_store_that_is_full_says_so(deployment: Deployment) -> None:
    store = deployment.storage("--memory-limit-bytes", str(20 * MIB))
    scheduler = deployment.scheduler("--object-storage-address", store.address)
    deployment.workers(scheduler, count=1)
    # Until its timeout, the client hopes for room.
    client = deployment.client(scheduler, timeout_seconds=2)
    references = [client.send_object(numbers(number)) for number in range(2)]
    with pytest.raises(ScalerError, match="full"):
        client.submit(f.sum_of, numbers(2)).result(timeout=30)
    assert client.submit(f.sum_of, references[1]).result(timeout=30) == float(numbers(1).sum())


def test_the_first_large_value_waits_for_the_server_only_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there: the copy is made in memory, and what becomes of it is told later."""
    monkeypatch.setattr("scaler.client.object_channel.WELCOME_SECONDS", 0.05)
    listener: Any = type("Silent", (), {"on_object_refused": lambda *_: None, "on_channel_ended": lambda *_: None})()
    hello = m.Hello(m.Role.CLIENT, "test", os.urandom(16))
    channel = ObjectChannel("tcp://127.0.0.1:9", hello, listener, timeout_seconds=1.0, security=None)
    try:
        assert channel.put(os.urandom(16), [bytearray(MIB)]).lease is None
    finally:
        channel.close()


@pytest.mark.parametrize("size", [40_000, 70_000, 130_000, INLINE_BYTES_MAX - 200, INLINE_BYTES_MAX + 1])
def test_middling_values_come_back_as_they_were(cluster: tuple[Service, Client], size: int) -> None:
    """Many at once, so that records, batches and messages of all sides have to be cut by their bytes."""
    _, client = cluster
    values = [os.urandom(size) for _ in range(100)]
    assert [future.result(timeout=60) for future in [client.submit(f.echo, value) for value in values]] == values
    assert client.map(f.echo, values) == values


def test_a_map_of_large_values_copies_each_as_often_as_single_tasks_do(
    cluster: tuple[Service, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = cluster
    copies = Copies(monkeypatch)
    values = [os.urandom(5 * MIB) for _ in range(6)]
    assert client.map(f.echo, values) == values
    assert copies.into_segments == pytest.approx(6 * 5 * MIB, rel=0.01)
    assert copies.sent < 64 * 1024
    # What one chunk has twice, it has once.
    same, other = client.map(f.echo, [values[0]] * 2)
    assert same == other == values[0]
    assert client.map(f.echo, [bytearray(values[0]), values[1][:300_000], b"", None]) == [
        bytearray(values[0]),
        values[1][:300_000],
        b"",
        None,
    ]


def address_is_in_a_segment(address: int) -> bool:
    """Whether memory of this process is a mapping of a segment."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(part, 16) for part in line.split()[0].split("-"))
        if first <= address < last:
            return "scaler-segment" in line
    return False


def describe_arrow(table: Any) -> tuple[int, list[bool]]:
    """Return the rows of a table, and of its large buffers whether they lie in a segment."""
    buffers = [buffer for column in table.columns for chunk in column.chunks for buffer in chunk.buffers()]
    large = [buffer for buffer in buffers if buffer is not None and buffer.size > 64 * 1024]
    return table.num_rows, [address_is_in_a_segment(buffer.address) for buffer in large]


def make_arrow(rows: int) -> Any:
    import pyarrow as pa

    return pa.table({"i": np.arange(rows), "s": [f"text {number}" for number in range(rows)]})


def test_an_arrow_table_is_copied_once_on_its_way_to_a_task_and_once_back(
    cluster: tuple[Service, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    _, client = cluster
    copies = Copies(monkeypatch)
    rows = 200_000
    table = make_arrow(rows)
    # Numbers, places of texts, and texts.
    assert client.submit(describe_arrow, table).result(timeout=30) == (rows, [True] * 3)
    assert copies.into_segments == pytest.approx(table.nbytes, rel=0.01)
    assert copies.sent < 64 * 1024
    result = client.submit(make_arrow, rows).result(timeout=30)
    assert result.equals(table)
    assert describe_arrow(result) == (rows, [True] * 3)
    assert copies.into_segments == pytest.approx(table.nbytes, rel=0.01)


def test_a_data_frame_of_numbers_is_copied_once(
    cluster: tuple[Service, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    _, client = cluster
    copies = Copies(monkeypatch)
    frame = pandas.DataFrame(numbers().reshape(-1, 4))
    result = client.submit(f.echo, frame).result(timeout=30)
    assert result.equals(frame)
    assert copies.into_segments == pytest.approx(SIZE, rel=0.01)
    assert copies.sent < 64 * 1024
    assert address_is_in_a_segment(result.to_numpy().ctypes.data)
    result.iloc[0, 0] = 7.0
    assert result.iloc[0, 0] == 7.0
