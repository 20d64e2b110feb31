"""Tasks that are held to the memory they ask for, with real processes: a task that takes more ends alone, by name."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, SchedulerClusterCombo
from scaler.errors import ProcessorDiedError

ASKED = {"mem": "100MiB"}
FOREVER_SECONDS = 600.0


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        SchedulerClusterCombo(n_workers=2, resources="mem=8GiB", enforce_memory=True) as combo,
        Client(combo.get_address()) as client,
    ):
        yield client


def stay(*held: Any) -> int:
    """Keep what was taken until the process is killed."""
    time.sleep(FOREVER_SECONDS)  # sleeps: it holds its memory until it is ended
    return len(held)


def list_growth(folder: str) -> int:
    begin(folder)
    taken: list[list[int]] = []
    while len(taken) < 40_000:
        taken.append(list(range(1000, 2000)))
    return stay(taken)


def slow_growth(folder: str) -> int:
    begin(folder)
    taken = []
    for _ in range(80):
        taken.append(b"x" * (4 << 20))
        time.sleep(0.01)  # sleeps: it grows slowly
    return stay(taken)


def array_allocation(folder: str) -> int:
    begin(folder)
    import numpy

    return stay(numpy.ones(60_000_000))


def native_threads(folder: str) -> int:
    begin(folder)
    import numpy

    numpy.dot(numpy.ones((300, 300)), numpy.ones((300, 300)))
    arrays: list[Any] = []
    threads = [threading.Thread(target=lambda: arrays.append(numpy.ones(10_000_000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    return stay(arrays)


def spike(folder: str) -> int:
    begin(folder)
    return stay(bytearray(b"x") * (1 << 30))


def in_a_child(folder: str) -> int:
    begin(folder)
    program = "import time; taken = b'x' * (300 << 20); time.sleep(600)"
    return subprocess.run([sys.executable, "-c", program], check=True).returncode


def in_a_fork(folder: str) -> int:
    begin(folder)
    process = multiprocessing.get_context("fork").Process(target=lambda: stay(b"x" * (300 << 20)))
    process.start()
    process.join()
    return 0


def begin(folder: str) -> None:
    """Count how often the task has begun."""
    Path(folder, f"{os.getpid()}-{time.monotonic_ns()}").touch()


@pytest.mark.parametrize(
    "function", [list_growth, slow_growth, array_allocation, native_threads, spike, in_a_child, in_a_fork]
)
def test_a_task_that_takes_more_than_it_asked_for_ends_alone(
    client: Client, tmp_path: Path, function: Callable[[str], int]
) -> None:
    label = function.__name__
    neighbours = [client.submit_verbose(time.sleep, (0.5,), resources={"cores": 0.1})]
    neighbours += [client.submit_verbose(pow, (2, n), resources={"mem": "50MiB"}) for n in range(5)]
    with pytest.raises(ProcessorDiedError) as raised:
        client.submit_verbose(function, (str(tmp_path),), resources=ASKED).result()
    text = str(raised.value)
    assert label in text
    assert "more than the mem=100MiB that it asked for" in text
    taken = float(text.partition("the task took ")[2].partition(" MiB")[0])
    assert taken > 100
    # It is not tried again.
    assert len(list(tmp_path.iterdir())) == 1
    assert [future.result() for future in neighbours] == [None, 1, 2, 4, 8, 16]


def within(size: int) -> int:
    return len(b"x" * size)


def unshared(data: Any) -> int:
    return int(data[::512].sum()) + len(b"x" * (30 << 20))


def test_tasks_that_keep_to_what_they_ask_for_go_on(client: Client) -> None:
    asking = client.with_options(resources=ASKED)
    # One after another in the same processes: what is freed in between is not added up.
    assert asking.map(within, [70 << 20] * 6) == [70 << 20] * 6


def test_arguments_that_are_mapped_from_object_storage_do_not_count(client: Client) -> None:
    numpy = pytest.importorskip("numpy")
    data = numpy.ones(30_000_000)
    future = client.submit_verbose(unshared, (client.send_object(data),), resources=ASKED)
    assert future.result() == len(data) // 512 + 1 + (30 << 20) - (len(data) % 512 == 0)


def test_tasks_that_ask_for_no_memory_may_take_it(client: Client) -> None:
    assert client.submit(within, 200 << 20).result() == 200 << 20
    assert client.submit_verbose(within, (200 << 20,), resources={"cores": 0.1}).result() == 200 << 20


def test_items_of_a_map_are_held_to_what_their_chunk_asks_for(client: Client) -> None:
    with pytest.raises(ProcessorDiedError, match="more than the mem=100MiB"):
        client.with_options(resources=ASKED).map(lambda size: stay(b"x" * size), [300 << 20])


def test_without_the_setting_nothing_is_limited() -> None:
    with SchedulerClusterCombo(n_workers=1, resources="mem=8GiB") as combo, Client(combo.get_address()) as client:
        futures = [client.submit_verbose(within, (200 << 20,), resources=ASKED) for _ in range(3)]
        assert not wait(futures).not_done
        assert [future.result() for future in futures] == [200 << 20] * 3
