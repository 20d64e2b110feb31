"""Long runs: nothing grows. `nox -s soak`, or `SCALER_SOAK_TASKS=100000 pytest -m soak` for a short one."""

from __future__ import annotations

import copy
import os
import time
from collections import deque
from typing import Any

import psutil
import pytest

from scaler import Client, SchedulerClusterCombo

TASKS = int(os.environ.get("SCALER_SOAK_TASKS", "1000000"))
IN_FLIGHT_MAX = 50_000
GROWTH_BYTES_MAX = 20 * 1024 * 1024


def identity(value: Any) -> Any:
    return value


def memory_of_services() -> dict[str, int]:
    """Private memory (USS) of every child process, by its command."""
    used = {}
    for process in psutil.Process().children(recursive=True):
        name = process.name()
        # One that was forked has its name, and the command line of whom it was forked from.
        if not name.startswith("scaler_"):
            name = next((word for word in process.cmdline() if word.startswith("scaler_")), name)
        used[f"{name} {process.pid}"] = process.memory_full_info().uss
    return used


def run_tasks(client: Client, count: int) -> None:
    """Submit `count` tasks, a bounded number at a time, and check every result."""
    waiting: deque[tuple[int, object]] = deque()
    for number in range(count):
        waiting.append((number, client.submit(identity, number)))
        if len(waiting) >= IN_FLIGHT_MAX:
            while len(waiting) > IN_FLIGHT_MAX // 2:
                expected, future = waiting.popleft()
                assert future.result() == expected  # type: ignore[attr-defined]
    for expected, future in waiting:
        assert future.result() == expected  # type: ignore[attr-defined]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_submits_leave_the_cluster_s_memory_as_it_was() -> None:
    with SchedulerClusterCombo(n_workers=2, logging_level="WARNING") as combo, Client(combo.get_address()) as client:
        # The first tasks make what stays: sockets' buffers, caches, estimates.
        run_tasks(client, IN_FLIGHT_MAX)
        before = memory_of_services()
        begin = time.perf_counter()
        run_tasks(client, TASKS)
        seconds = time.perf_counter() - begin
        after = memory_of_services()
    print(f"\n{TASKS:,} tasks in {seconds:.1f} s: {TASKS / seconds:,.0f} tasks/s")
    for name, size in sorted(after.items()):
        growth = size - before.get(name, size)
        print(f"{name}: {size / 2**20:.1f} MiB, {growth / 2**20:+.1f} MiB")
        assert growth < GROWTH_BYTES_MAX, name


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_large_arguments_leave_nothing_in_object_storage() -> None:
    with SchedulerClusterCombo(n_workers=2, logging_level="WARNING") as combo, Client(combo.get_address()) as client:
        blob = os.urandom(1_000_000)
        client.map(len, [blob] * 20)
        before = memory_of_services()
        for _ in range(max(1, TASKS // 1000)):
            sizes = [client.submit(len, os.urandom(300_000)) for _ in range(20)]
            assert all(future.result() == 300_000 for future in sizes)
        after = memory_of_services()
    for name, size in sorted(after.items()):
        growth = size - before.get(name, size)
        print(f"{name}: {size / 2**20:.1f} MiB, {growth / 2**20:+.1f} MiB")
        assert growth < GROWTH_BYTES_MAX, name


OBJECTS = int(os.environ.get("SCALER_SOAK_OBJECTS", "100000"))
OBJECT_BYTES = 300_000


def send_and_fetch(client: Client, count: int) -> None:
    """Send `count` objects, and have as many results that are objects; drop all of them in the ways there are."""
    before: deque[object] = deque(maxlen=20)
    for number in range(count):
        value = number.to_bytes(8, "little") * (OBJECT_BYTES // 8)
        kind = number % 4
        reference = client.send_object(value)
        if kind == 0:
            # Its result is the value again, and nobody fetches it.
            before.append(client.submit(identity, reference))
        elif kind == 1:
            with reference:
                assert client.submit(identity, reference).result() == value
        elif kind == 2:
            (again,) = client.submit(identity, [reference]).result()
            del reference
            assert client.submit(bytes.__len__, again).result() == len(value)
        else:
            before.append([client.submit(bytes, OBJECT_BYTES), copy.copy(reference)])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_references_and_results_leave_nothing_in_object_storage() -> None:
    with SchedulerClusterCombo(n_workers=2, logging_level="WARNING") as combo, Client(combo.get_address()) as client:
        send_and_fetch(client, OBJECTS // 10)
        before = {**memory_of_services(), "client": psutil.Process().memory_full_info().uss}
        begin = time.perf_counter()
        send_and_fetch(client, OBJECTS)
        seconds = time.perf_counter() - begin
        time.sleep(2)  # sleeps: the last ones are deleted within a second
        after = {**memory_of_services(), "client": psutil.Process().memory_full_info().uss}
    print(f"\n{OBJECTS:,} objects in {seconds:.1f} s: {OBJECTS / seconds:,.0f} a second")
    for name, size in sorted(after.items()):
        growth = size - before.get(name, size)
        print(f"{name}: {size / 2**20:.1f} MiB, {growth / 2**20:+.1f} MiB")
        assert growth < GROWTH_BYTES_MAX, name
