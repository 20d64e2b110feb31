"""The end of a cluster while clients wait: nobody waits for a successor that will not come."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from scaler import Client, SchedulerClusterCombo
from scaler.errors import ClientShutdownException, DisconnectedError
from tests.integration.deployment import Deployment, is_gone, wait_for

HEARD_SECONDS = 2.0
"""How soon whoever waits hears of it, counted from the end of what had to end first."""

PROGRAM = """
import sys, time
from scaler import SchedulerClusterCombo
if __name__ == "__main__":
    with SchedulerClusterCombo(n_workers=1) as combo:
        print(combo.get_address(), flush=True)
        time.sleep(600)
"""


@contextmanager
def program() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another program with a local cluster, and the cluster's address."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
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


ROADS: dict[str, Callable[[Client], object]] = {
    "submit": lambda client: client.submit(time.sleep, 300).result(),
    "map": lambda client: client.map(time.sleep, [300] * 3),
    "get": lambda client: client.get({"a": (time.sleep, 300), "b": (repr, "a")}, ["b"]),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_waits_hears_of_the_end_of_a_local_cluster(number: signal.Signals) -> None:
    with program() as (process, address), Client(address) as client:
        waits = {name: outcome_of(functools.partial(road, client)) for name, road in ROADS.items()}
        wait_for("tasks are there", lambda: "0 unanswered" not in repr(client))
        began = time.monotonic()
        process.send_signal(number)
        for name, wait in waits.items():
            error, ended = wait()
            assert isinstance(error, DisconnectedError), (name, error)
            assert "ended" in str(error)
            # Running tasks of the cluster have a moment to end first.
            assert ended - began < HEARD_SECONDS + 1.0, name
        with pytest.raises(DisconnectedError, match="ended"):
            client.submit(abs, -1)


def test_whoever_waits_hears_of_the_shutdown_of_a_combo() -> None:
    combo = SchedulerClusterCombo(n_workers=1)
    with Client(combo.get_address()) as client:
        waiting = outcome_of(lambda: client.submit(time.sleep, 300).result())
        wait_for("the task is there", lambda: "0 unanswered" not in repr(client))
        began = time.monotonic()
        combo.shutdown()
        error, ended = waiting()
        assert isinstance(error, DisconnectedError)
        assert ended - began < HEARD_SECONDS + 1.0


def test_other_clients_hear_of_a_shutdown_by_one(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=1)
    with Client(scheduler.address) as one, Client(scheduler.address) as other:
        mine, theirs = one.submit(time.sleep, 300), other.submit(time.sleep, 300)
        began = time.monotonic()
        one.shutdown()
        with pytest.raises(DisconnectedError, match="ended"):
            theirs.result(HEARD_SECONDS + 1.0)
        assert time.monotonic() - began < HEARD_SECONDS + 1.0
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
            future.result(HEARD_SECONDS + 1.0)
    wait_for("the workers have ended", lambda: is_gone(workers.pid))
