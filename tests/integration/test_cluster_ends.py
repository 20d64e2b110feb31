"""The end of a cluster while clients wait: nobody waits for a successor that will not come.

However they wait: for one future or several, in an event loop, in a task of the cluster, for permission to submit, for a
confirmation or a trace. And afterwards every call says so at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import functools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, SchedulerClusterCombo
from scaler.errors import ClientShutdownException, DisconnectedError
from tests.integration.deployment import Deployment, is_gone, wait_for

HEARD_SECONDS = 10.0
"""How soon whoever waits hears of it, on a loaded machine. Whoever is not told waits six times as long."""

PROGRAM = """
import sys, time
from scaler import SchedulerClusterCombo
if __name__ == "__main__":
    waiting = int(sys.argv[1])
    with SchedulerClusterCombo(n_workers=1, max_number_of_tasks_waiting=waiting if waiting >= 0 else None) as combo:
        print(combo.get_address(), flush=True)
        time.sleep(600)
"""


@contextmanager
def program(waiting_tasks_max: int = -1) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another program with a local cluster of one worker, and the cluster's address."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(waiting_tasks_max)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def outcome_of(act: Callable[[], object]) -> Callable[[], tuple[BaseException | None, float]]:
    """Begin `act` in a thread; return what waits for the exception it ends with, and when that was."""
    ended: list[tuple[BaseException | None, float]] = []

    def run() -> None:
        error: BaseException | None = None
        try:
            act()
        except BaseException as caught:
            error = caught
        ended.append((error, time.monotonic()))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> tuple[BaseException | None, float]:
        thread.join(40)
        assert ended, "it still waits"
        return ended[0]

    return wait


def has_tasks(client: Client) -> bool:
    """Whether tasks of a client are unanswered."""
    # Not by the text "0 unanswered": 10 have it too.
    return not re.search(r"\b0 unanswered", repr(client))


ROADS: dict[str, Callable[[Client], object]] = {
    "submit": lambda client: client.submit(time.sleep, 300).result(),
    "map": lambda client: client.map(time.sleep, [300] * 3),
    "get": lambda client: client.get({"a": (time.sleep, 300), "b": (repr, "a")}, ["b"]),
    "wait": lambda client: result_of(cf.wait([client.submit(time.sleep, 300)]).done),
    "as_completed": lambda client: result_of(cf.as_completed([client.submit(time.sleep, 300)])),
    "asyncio": lambda client: asyncio.run(waited_for(client.submit(time.sleep, 300))),
    "callback": lambda client: wait_by_callback(client.submit(time.sleep, 300)),
}


def result_of(futures: Any) -> object:
    (future,) = futures
    return future.result(0)


async def waited_for(future: Any) -> object:
    return await asyncio.wrap_future(future)


def wait_by_callback(future: Any) -> object:
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    called.wait()
    return future.result(0)


def wait_in_task(path: str) -> None:
    """Wait for another task, and write down how that ended, and when."""
    with Client() as client:
        # Its session has begun then: whoever says hello to a scheduler that stops is refused instead.
        client.submit(abs, -1).result()
        future = client.submit(time.sleep, 300)
        try:
            # In here, as it may be ended as soon as that can be seen.
            Path(path + ".waits").touch()
            future.result()
        except BaseException as error:
            Path(path).write_text(json.dumps([type(error).__name__, str(error), time.time()]))
            raise


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_waits_hears_of_the_end_of_a_local_cluster(number: signal.Signals) -> None:
    with program() as (process, address), Client(address) as client:
        waits = {name: outcome_of(functools.partial(road, client)) for name, road in ROADS.items()}
        wait_for("tasks are there", lambda: has_tasks(client))
        began = time.monotonic()
        process.send_signal(number)
        for name, wait in waits.items():
            error, ended = wait()
            assert isinstance(error, DisconnectedError), (name, error)
            assert "ended" in str(error)
            assert ended - began < HEARD_SECONDS, name
        with pytest.raises(DisconnectedError, match="ended"):
            client.submit(abs, -1)


def test_whoever_waits_hears_of_the_shutdown_of_a_combo() -> None:
    combo = SchedulerClusterCombo(n_workers=1)
    with Client(combo.get_address()) as client:
        waiting = outcome_of(lambda: client.submit(time.sleep, 300).result())
        wait_for("the task is there", lambda: has_tasks(client))
        began = time.monotonic()
        combo.shutdown()
        error, ended = waiting()
        assert isinstance(error, DisconnectedError)
        assert ended - began < HEARD_SECONDS


@pytest.mark.without_keys("with keys, only operators end the cluster")
def test_other_clients_hear_of_a_shutdown_by_one(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=1)
    with Client(scheduler.address) as one, Client(scheduler.address) as other:
        mine, theirs = one.submit(time.sleep, 300), other.submit(time.sleep, 300)
        began = time.monotonic()
        one.shutdown()
        with pytest.raises(DisconnectedError, match="ended"):
            theirs.result(HEARD_SECONDS)
        assert time.monotonic() - began < HEARD_SECONDS
        assert mine.cancelled()
        with pytest.raises(ClientShutdownException):
            mine.result(0)
    wait_for("the workers have ended", lambda: is_gone(workers.pid))


def test_a_scheduler_that_says_so_ends_its_cluster(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--ends-cluster")
    workers = deployment.workers(scheduler, count=1)
    with Client(scheduler.address) as client:
        future = client.submit(time.sleep, 300)
        scheduler.terminate()
        with pytest.raises(DisconnectedError, match="ended"):
            future.result(HEARD_SECONDS)
    wait_for("the workers have ended", lambda: is_gone(workers.pid))


def test_a_task_that_waits_for_another_hears_of_the_end(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with program() as (process, address), Client(address) as client:
        client.submit(wait_in_task, str(told))
        wait_for("it waits", Path(f"{told}.waits").exists)
        began = time.time()
        process.send_signal(signal.SIGTERM)
        wait_for("it has heard", told.exists, HEARD_SECONDS)
        wait_for("all is written", told.read_text)
        kind, text, at = json.loads(told.read_text())
    assert kind == "DisconnectedError"
    assert "has ended" in text
    assert at - began < HEARD_SECONDS


def test_a_running_task_has_a_second_to_end(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with program() as (process, address), Client(address) as client:
        future = client.submit(finish_soon, str(done), 0.25)
        wait_for("it runs", Path(f"{done}.runs").exists)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(DisconnectedError, match="has ended"):
            future.result(HEARD_SECONDS)
        wait_for("it was not cut off", done.exists)


def finish_soon(path: str, seconds: float) -> None:
    Path(path + ".runs").touch()
    time.sleep(seconds)  # sleeps: the task takes so long
    Path(path).touch()


def test_whoever_waits_for_permission_to_submit_hears_of_the_end() -> None:
    with program(waiting_tasks_max=1) as (process, address), Client(address) as client:

        def submit_many() -> None:
            for _ in range(100):
                client.submit(time.sleep, 300)

        waiting = outcome_of(submit_many)
        wait_for("tasks are there", lambda: has_tasks(client))
        mapping = outcome_of(lambda: client.map(time.sleep, [300] * 100))
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        for wait in (waiting, mapping):
            error, ended = wait()
            assert isinstance(error, DisconnectedError)
            assert ended - began < HEARD_SECONDS


def test_whoever_waits_for_a_cancellation_or_a_trace_hears_of_the_end(tmp_path: Path) -> None:
    with program() as (process, address), Client(address) as client:
        # It takes no notice of being cancelled.
        future = client.submit(ignore_cancellation, str(tmp_path / "runs"))
        wait_for("it runs", (tmp_path / "runs").exists)
        tracing = threading.Event()

        def trace() -> None:
            with client.trace(tmp_path / "trace.json"):
                tracing.set()
                client.submit(time.sleep, 300).result()

        tracer = outcome_of(trace)
        assert tracing.wait(30)
        canceller = outcome_of(lambda: future.cancel(timeout=300))
        wait_for("it is cancelled", future.cancelled)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        error, ended = canceller()
        assert error is None
        assert ended - began < HEARD_SECONDS
        error, ended = tracer()
        assert isinstance(error, DisconnectedError)
        assert ended - began < HEARD_SECONDS
        assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"] is not None


def ignore_cancellation(path: str) -> None:
    Path(path).touch()
    while True:
        try:
            time.sleep(300)  # sleeps: a task that never ends
        except BaseException:
            continue


def test_everything_says_at_once_that_the_cluster_has_ended(tmp_path: Path) -> None:
    with program() as (process, address), Client(address) as client:
        sent = client.send_object(bytes(100_000), name="sent")
        future = client.submit(time.sleep, 300)
        process.send_signal(signal.SIGTERM)
        assert isinstance(future.exception(HEARD_SECONDS), DisconnectedError)
        began = time.monotonic()
        calls: list[Callable[[], object]] = [
            lambda: client.submit(abs, -1),
            lambda: client.submit(len, sent),
            lambda: client.submit(len, bytes(300_000)),
            lambda: client.submit(len, bytes(1_000_000)),
            lambda: client.map(abs, range(10)),
            lambda: client.get({"a": (abs, -1)}, ["a"]),
            lambda: client.send_object(bytes(200_000)),
            lambda: client.trace(tmp_path / "trace.json").__enter__(),
        ]
        for call in calls:
            with pytest.raises(DisconnectedError, match="has ended"):
                call()
        client.clear()
        assert not future.cancel(timeout=30)
        client.disconnect()
    assert time.monotonic() - began < 2 * HEARD_SECONDS


@pytest.mark.parametrize("end", ["disconnect", "clear"])
def test_futures_of_a_client_that_has_left_are_cancelled_for_everybody(end: str) -> None:
    with SchedulerClusterCombo(n_workers=1) as combo, Client(combo.get_address()) as client:
        futures = [client.submit(time.sleep, 300) for _ in range(3)]
        waiting = outcome_of(lambda: cf.wait(futures))
        completed = outcome_of(lambda: list(cf.as_completed(futures)))
        awaited = outcome_of(lambda: asyncio.run(waited_for(futures[0])))
        wait_for("tasks are there", lambda: has_tasks(client))
        began = time.monotonic()
        getattr(client, end)()
        for wait in (waiting, completed):
            error, ended = wait()
            assert error is None
            assert ended - began < HEARD_SECONDS
        error, ended = awaited()
        assert isinstance(error, asyncio.CancelledError)
        assert ended - began < HEARD_SECONDS
        # And so for whoever asks afterwards.
        done, pending = cf.wait(futures, timeout=0)
        assert (done, pending) == (set(futures), set())
        assert set(cf.as_completed(futures, timeout=0)) == set(futures)
        assert all(future.cancelled() for future in futures)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(waited_for(futures[1]))
        with pytest.raises(cf.CancelledError):
            futures[2].result(0)
