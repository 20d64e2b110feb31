"""Tasks that wait for tasks of their own in every way there is: their slots are lent however they wait."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, SchedulerClusterCombo
from tests.integration.deployment import Deployment, wait_for

WAIT_SECONDS = 30.0
"""A task that waits longer has been forgotten: it says so instead of blocking the test."""


def double(value: int) -> int:
    return value * 2


# --- ways to wait. Each takes futures and returns their results.


def by_result(futures: list[Any]) -> list[int]:
    return [future.result(WAIT_SECONDS) for future in futures]


def by_event(futures: list[Any]) -> list[int]:
    for future in futures:
        done = threading.Event()
        future.add_done_callback(lambda _, done=done: done.set())
        assert done.wait(WAIT_SECONDS)
    return [future.result() for future in futures]


def by_semaphore(futures: list[Any]) -> list[int]:
    answered = threading.Semaphore(0)
    for future in futures:
        future.add_done_callback(lambda _: answered.release())
    assert all(answered.acquire(timeout=WAIT_SECONDS) for _ in futures)
    return [future.result() for future in futures]


def by_condition(futures: list[Any]) -> list[int]:
    left = set(futures)
    changed = threading.Condition()

    def answered(future: Any) -> None:
        with changed:
            left.discard(future)
            changed.notify_all()

    for future in futures:
        future.add_done_callback(answered)
    with changed:
        assert changed.wait_for(lambda: not left, WAIT_SECONDS)
    return [future.result() for future in futures]


def by_proxy_future(futures: list[Any]) -> list[int]:
    proxies: list[cf.Future[int]] = []
    for future in futures:
        proxy: cf.Future[int] = cf.Future()
        future.add_done_callback(lambda done, proxy=proxy: proxy.set_result(done.result()))
        proxies.append(proxy)
    return [proxy.result(WAIT_SECONDS) for proxy in proxies]


def by_asyncio(futures: list[Any]) -> list[int]:
    async def gather() -> list[int]:
        return list(await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, futures)), WAIT_SECONDS))

    return asyncio.run(gather())


def by_await(futures: list[Any]) -> list[int]:
    async def one_by_one() -> list[int]:
        return [await future for future in futures]

    return asyncio.run(asyncio.wait_for(one_by_one(), WAIT_SECONDS))


def by_polling(futures: list[Any]) -> list[int]:
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(future.done() for future in futures):
        assert time.monotonic() < deadline
        time.sleep(0.002)  # sleeps: a task that polls, which is what is tested
    return [future.result() for future in futures]


def by_busy_polling(futures: list[Any]) -> list[int]:
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(future.done() for future in futures):
        assert time.monotonic() < deadline
    return [future.result() for future in futures]


def by_helper_thread(futures: list[Any]) -> list[int]:
    results: list[int] = []
    helper = threading.Thread(target=lambda: results.extend(future.result(WAIT_SECONDS) for future in futures))
    helper.start()
    helper.join(WAIT_SECONDS)
    assert not helper.is_alive()
    return results


def by_wait(futures: list[Any]) -> list[int]:
    _, pending = cf.wait(futures, WAIT_SECONDS)
    assert not pending
    return [future.result() for future in futures]


def by_as_completed(futures: list[Any]) -> list[int]:
    assert len(list(cf.as_completed(futures, WAIT_SECONDS))) == len(futures)
    return [future.result() for future in futures]


def by_queue(futures: list[Any]) -> list[int]:
    answers: queue.Queue[Any] = queue.Queue()
    for future in futures:
        future.add_done_callback(answers.put)
    for _ in futures:
        answers.get(timeout=WAIT_SECONDS)
    return [future.result() for future in futures]


WAYS = [
    by_result,
    by_event,
    by_semaphore,
    by_condition,
    by_proxy_future,
    by_asyncio,
    by_await,
    by_polling,
    by_busy_polling,
    by_helper_thread,
    by_wait,
    by_as_completed,
    by_queue,
]


# --- kinds of client inside a task


@contextlib.contextmanager
def open_client(kind: str, pickled: Client | None, address: str) -> Iterator[Client]:
    if kind == "pickled":
        assert pickled is not None
        yield pickled
    elif kind == "implicit":
        yield Client()
    else:
        with Client(address) as client:
            yield client


KINDS = ["pickled", "implicit", "explicit"]


def nest(wait: Callable[..., Any], kind: str, pickled: Client | None, address: str, depth: int, value: int) -> int:
    """Submit two tasks one level deeper, and add up what they return."""
    if not depth:
        return double(value)
    with open_client(kind, pickled, address) as client:
        futures = [client.submit(nest, wait, kind, pickled, address, depth - 1, value) for _ in range(2)]
        return sum(wait(futures))


def run(client: Client, wait: Callable[..., Any], kind: str, depth: int, count: int) -> None:
    pickled = client if kind == "pickled" else None
    futures = [client.submit(nest, wait, kind, pickled, client.address, depth, n) for n in range(count)]
    others = [client.submit(double, n) for n in range(5)]
    assert [future.result(60.0) for future in futures] == [2**depth * 2 * n for n in range(count)]
    assert [future.result(60.0) for future in others] == [2 * n for n in range(5)]


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Client]:
    with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
        yield client


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Client]:
    with SchedulerClusterCombo(n_workers=2) as combo, Client(combo.get_address()) as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wait", WAYS, ids=lambda wait: wait.__name__)
def test_one_worker_is_lent_however_its_task_waits(one_worker: Client, wait: Callable[..., Any], kind: str) -> None:
    run(one_worker, wait, kind, depth=1, count=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wait", WAYS, ids=lambda wait: wait.__name__)
def test_two_workers_three_levels_deep(two_workers: Client, wait: Callable[..., Any], kind: str) -> None:
    run(two_workers, wait, kind, depth=3, count=3)


# --- other arrangements


def call_in_thread(call: Callable[[], Any]) -> Any:
    """What a task's own thread does while it waits is nothing that could be seen from outside."""
    returned: list[Any] = []
    helper = threading.Thread(target=lambda: returned.append(call()))
    helper.start()
    helper.join(WAIT_SECONDS)
    return returned[0]


def map_in_thread(count: int) -> list[int]:
    client = Client()
    return list(call_in_thread(lambda: client.map(double, range(count))))


def graph_in_thread(links: int) -> int:
    """A chain, and a row beside it that needs its end."""
    client = Client()
    graph: dict[str, Any] = {"0": (double, 1)}
    graph.update({str(link): (double, str(link - 1)) for link in range(1, links)})
    graph["sum"] = (sum, ["0", str(links - 1)])
    return int(call_in_thread(lambda: client.get(graph, ["sum"]))["sum"])


def test_maps_and_graphs_of_helper_threads(one_worker: Client) -> None:
    maps = [one_worker.submit(map_in_thread, 50) for _ in range(2)]
    graphs = [one_worker.submit(graph_in_thread, 10) for _ in range(2)]
    assert [future.result(60.0) for future in maps] == [[2 * n for n in range(50)]] * 2
    assert [future.result(60.0) for future in graphs] == [2 + 2**10] * 2


def submit_with(wait: Callable[..., Any], capability: str, value: int) -> int:
    client = Client()
    futures = [client.submit_verbose(double, (value,), capabilities={capability: -1}) for _ in range(2)]
    return sum(wait(futures))


def test_parents_on_every_host_and_children_with_capabilities(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--per-worker-capabilities", "gpu", count=1)
    deployment.workers(scheduler, count=1)
    client, other = deployment.client(scheduler), deployment.client(scheduler)
    for wait in (by_event, by_asyncio, by_helper_thread):
        # More parents than there are slots, on both hosts; the children of all fit on one of them only.
        plain = [client.submit(submit_with, wait, "gpu", n) for n in range(4)]
        special = [client.submit_verbose(submit_with, (wait, "gpu", n), capabilities={"gpu": -1}) for n in range(4)]
        anywhere = [client.submit(nest, wait, "implicit", None, "", 2, n) for n in range(4)]
        strangers = [other.submit(double, n) for n in range(20)]
        assert [future.result(60.0) for future in plain + special] == [4 * n for n in range(4)] * 2
        assert [future.result(60.0) for future in anywhere] == [8 * n for n in range(4)]
        assert [future.result(60.0) for future in strangers] == [2 * n for n in range(20)]


def wait_unseen_for(child: Callable[..., Any], *arguments: Any) -> Any:
    return by_event([Client().submit(child, *arguments)])[0]


@pytest.mark.parametrize("end", ["cancelled", "killed"])
def test_a_parent_that_ends_gives_back_what_it_lent(one_worker: Client, tmp_path: Path, end: str) -> None:
    begun, may_end, pid = tmp_path / "begun", tmp_path / "may end", tmp_path / "pid"

    def child() -> None:
        begun.touch()
        while not may_end.exists():
            time.sleep(0.01)  # sleeps: a task that polls for a file

    def parent() -> None:
        pid.write_text(str(os.getpid()))
        wait_unseen_for(child)

    parents = one_worker.submit(parent)
    wait_for("the child to begin in the parent's place", begun.exists)
    if end == "cancelled":
        assert parents.cancel()
    else:
        # Its next attempts find what they wait for.
        may_end.touch()
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert parents.result(60.0) is None
    may_end.touch()

    def note(number: int) -> tuple[float, float]:
        began = time.monotonic()
        time.sleep(0.05)  # sleeps: the task takes so long
        return began, time.monotonic()

    assert most_at_once([f.result(60.0) for f in [one_worker.submit(note, n) for n in range(8)]]) == 1


def most_at_once(spans: list[tuple[float, float]]) -> int:
    edges = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    running = most = 0
    for _, change in edges:
        running += change
        most = max(most, running)
    return most


def test_a_parent_that_goes_on_computing_lends_nothing_while_its_children_run_elsewhere(two_workers: Client) -> None:
    def child() -> tuple[float, float]:
        began = time.monotonic()
        time.sleep(0.05)  # sleeps: the task takes so long
        return began, time.monotonic()

    def parent() -> list[tuple[float, float]]:
        began = time.monotonic()
        client = Client()
        futures = [client.submit(child) for _ in range(20)]
        while time.monotonic() < began + 1.0:
            sum(range(10_000))
        ended = time.monotonic()
        return [(began, ended), *(future.result() for future in futures)]

    # Once, so that all processors there may be have started.
    two_workers.submit(nest, by_event, "implicit", None, "", 2, 1).result(60.0)
    assert most_at_once(two_workers.submit(parent).result(60.0)) == 2


def test_processes_are_bounded_by_the_depth(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    depth = 6
    futures = [client.submit(nest, by_event, "implicit", None, "", depth, 1) for _ in range(3)]
    assert [future.result(100.0) for future in futures] == [2 ** (depth + 1)] * 3
    # One for each level and two more, and the template. On a busy machine more than one may still be about to end.
    wait_for("no more processes than levels ask for", lambda: len(workers.children()) <= depth + 4)


# --- how levels end


def wait_at_the_bottom(levels: int, begun: str, ended: str) -> None:
    if levels:
        Client().submit(wait_at_the_bottom, levels - 1, begun, ended).result()
        return
    Path(begun).touch()
    try:
        while True:
            time.sleep(0.01)  # sleeps: a task that runs until it is cancelled
    finally:
        Path(ended).touch()


def wait_in_a_graph(begun: str, ended: str) -> None:
    client = Client()
    one = client.submit(wait_at_the_bottom, 1, begun, ended)
    client.get({"a": (bool, one), "b": (double, "a")}, ["b"])


@pytest.mark.parametrize("parent", [partial(wait_at_the_bottom, 2), wait_in_a_graph], ids=["levels", "graph"])
def test_what_a_cancelled_task_has_submitted_is_cancelled(
    two_workers: Client, tmp_path: Path, parent: Callable[..., None]
) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    future = two_workers.submit(parent, str(begun), str(ended))
    wait_for("the last level to begin", begun.exists)
    assert future.cancel()
    wait_for("the last level to end", ended.exists)
    assert two_workers.submit(double, 2).result(30.0) == 4


def submit_detached(begun: str, gate: str, ended: str) -> None:
    def go_on() -> None:
        Path(begun).touch()
        while not Path(gate).exists():
            time.sleep(0.01)  # sleeps: a task that polls for a file
        Path(ended).touch()

    Client(detached=True).submit(go_on).result()


def test_what_was_submitted_as_detached_goes_on(two_workers: Client, tmp_path: Path) -> None:
    begun, gate, ended = tmp_path / "begun", tmp_path / "gate", tmp_path / "ended"
    future = two_workers.submit(submit_detached, str(begun), str(gate), str(ended))
    wait_for("the detached task to begin", begun.exists)
    assert future.cancel()
    assert two_workers.submit(double, 2).result(30.0) == 4
    gate.touch()
    wait_for("the detached task to end", ended.exists)


def fail_at_the_bottom(levels: int) -> Any:
    if not levels:
        raise LookupError("the bottom")
    client = Client()
    one = client.submit(fail_at_the_bottom, levels - 1)
    return (
        client.get({"a": (double, one), "b": (double, "a")}, ["b"])["b"]
        if levels % 2
        else client.submit(double, one).result()
    )


def test_a_failure_goes_up_through_all_levels(two_workers: Client) -> None:
    with pytest.raises(LookupError, match="the bottom"):
        two_workers.submit(fail_at_the_bottom, 4).result(60.0)


def fibonacci(n: int) -> int:
    if n < 2:
        return n
    client = Client()
    one, other = client.submit(fibonacci, n - 1), client.submit(fibonacci, n - 2)
    return int(one.result()) + int(other.result())


def test_deep_recursion(one_worker: Client, two_workers: Client) -> None:
    futures = [client.submit(fibonacci, 6) for client in (one_worker, two_workers)]
    assert [future.result(60.0) for future in futures] == [8, 8]


def test_deep_recursion_on_four_workers(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=4)
    assert deployment.client(scheduler).submit(fibonacci, 5).result(60.0) == 5
    # Four for each level and eight more, and the template. On a busy machine several may still be about to end.
    wait_for("no more processes than levels ask for", lambda: len(workers.children()) <= 4 * (4 + 2) + 4)
