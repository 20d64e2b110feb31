"""A thousand clients of one cluster at a time, in a few processes. Each gets every one of its own results. `nox -s soak`."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import ExitStack
from multiprocessing.synchronize import Barrier

import pytest

from scaler import Client, SchedulerClusterCombo

PROCESSES = 20
CLIENTS_EACH = 50
ROUNDS = 5
TASKS_EACH = 20
"""Tasks that each client has under way in a round."""

WAIT_S = 300.0

_CONTEXT = multiprocessing.get_context("spawn")


def tag(client: int, number: int) -> tuple[int, int]:
    return client, number


def use_clients(address: str, first: int, all_connected: Barrier, done: multiprocessing.Queue[int]) -> None:
    """Connect some clients, wait until those of all processes are connected, and let all have tasks under way together."""
    names = range(first, first + CLIENTS_EACH)
    count = 0
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(address)) for _ in names]
        assert [client.submit(tag, name, -1).result() for name, client in zip(names, clients, strict=True)] == [
            (name, -1) for name in names
        ]
        all_connected.wait(WAIT_S)
        for _ in range(ROUNDS):
            futures = [
                (name, number, client.submit(tag, name, number))
                for number in range(TASKS_EACH)
                for name, client in zip(names, clients, strict=True)
            ]
            for name, number, future in futures:
                assert future.result(WAIT_S) == (name, number)
                count += 1
    done.put(count)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_thousand_clients_at_once_each_get_all_of_their_results() -> None:
    all_connected = _CONTEXT.Barrier(PROCESSES + 1)
    done: multiprocessing.Queue[int] = _CONTEXT.Queue()
    with SchedulerClusterCombo(n_workers=2, logging_level="WARNING") as combo, Client(combo.get_address()) as another:
        children = [
            _CONTEXT.Process(target=use_clients, args=(combo.get_address(), CLIENTS_EACH * index, all_connected, done))
            for index in range(PROCESSES)
        ]
        begin = time.perf_counter()
        try:
            for child in children:
                child.start()
            all_connected.wait(WAIT_S)
            connected = time.perf_counter()
            # A program that is no part of it gets its result meanwhile.
            assert another.submit(tag, -1, 0).result(WAIT_S) == (-1, 0)
            lone = time.perf_counter() - connected
            counts = [done.get(timeout=WAIT_S) for _ in children]
            seconds = time.perf_counter() - connected
            for child in children:
                child.join(WAIT_S)
        finally:
            for child in children:
                child.kill()
                child.join()
        assert [child.exitcode for child in children] == [0] * PROCESSES
        assert sum(counts) == PROCESSES * CLIENTS_EACH * ROUNDS * TASKS_EACH
        # And when all have left.
        assert another.submit(tag, -1, 1).result(WAIT_S) == (-1, 1)
    print(
        f"\n{PROCESSES * CLIENTS_EACH:,} clients connected in {connected - begin:.1f} s, another one's task took {lone:.2f} s"
    )
    print(f"{sum(counts):,} tasks in {seconds:.1f} s: {sum(counts) / seconds:,.0f} tasks/s")
