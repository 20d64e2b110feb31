"""`Client.run`, on clusters of real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler import (
    AsyncClient,
    Client,
    NoWorkerError,
    ProcessorDiedError,
    SchedulerClusterCombo,
    WorkerDiedError,
    WorkerRunError,
)
from tests.integration.deployment import Deployment, wait_for


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """A folder where calls of `begin_and_wait` note that they have begun, and are told to end."""
    folder = tmp_path / "calls"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with SchedulerClusterCombo(n_workers=3) as cluster:
        yield cluster.get_address()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


def pid() -> int:
    return os.getpid()


def set_up(value: str) -> None:
    os.environ["SCALER_TEST_SET_UP"] = value


def what_is_set_up() -> str | None:
    return os.environ.get("SCALER_TEST_SET_UP")


def fail_in(failing: int) -> int:
    if os.getpid() == failing:
        raise ValueError("here alone")
    return os.getpid()


def nested() -> dict[str, int]:
    with Client() as client:
        return client.run(pid)


async def nested_in_coroutine() -> dict[str, int]:
    async with AsyncClient() as client:
        return await client.run(pid)


def begin_and_wait(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    until = time.monotonic() + 60
    while not Path(folder, "go").exists() and time.monotonic() < until:
        time.sleep(0.01)  # sleeps: until the test says so


def test_once_in_each_worker_s_process(client: Client) -> None:
    first = client.run(pid)
    assert len(first) == len(set(first.values())) == 3
    assert client.run(pid) == first


def test_what_it_sets_up_is_there_for_later_tasks(client: Client) -> None:
    client.run(set_up, "yes")
    assert set(client.map(lambda _: what_is_set_up(), range(100))) == {"yes"}


def test_an_error_of_one_worker_keeps_the_results_of_others(client: Client) -> None:
    pids = client.run(pid)
    name, failing = next(iter(pids.items()))
    with pytest.raises(WorkerRunError) as caught:
        client.run(fail_in, failing)
    assert caught.value.results == {other: each for other, each in pids.items() if other != name}
    assert repr(caught.value.errors) == repr({name: ValueError("here alone")})


def test_a_process_that_dies_each_time(client: Client) -> None:
    outcome = client.run_verbose(os._exit, (3,), return_exceptions=True)
    assert [type(error) for error in outcome.values()] == [ProcessorDiedError] * 3
    assert len(set(client.run(pid).values())) == 3


def test_a_busy_worker_is_left_out_after_the_timeout(client: Client, calls: Path) -> None:
    pids = client.run(pid)
    future = client.submit(begin_and_wait, str(calls))
    (busy,) = wait_for("the task", lambda: [int(path.name) for path in calls.iterdir()])
    (name,) = (name for name, each in pids.items() if each == busy)
    with pytest.raises(WorkerRunError) as caught:
        # The others have so long to answer, however busy the machine is.
        client.run_verbose(pid, timeout=5)
    assert list(caught.value.errors) == [name]
    assert isinstance(caught.value.errors[name], TimeoutError)
    assert len(caught.value.results) == 2
    (calls / "go").touch()
    future.result(30)
    assert client.run(pid) == pids


def test_it_goes_ahead_of_what_waits(client: Client) -> None:
    client.map(abs, range(10))
    futures = [client.submit(time.sleep, 0.01) for _ in range(1000)]
    assert len(set(client.run(pid).values())) == 3
    assert not futures[-1].done()
    for future in futures:
        future.cancel()


def test_inside_a_task_it_reaches_the_task_s_own_worker_too(client: Client) -> None:
    assert len(set(client.submit(nested).result(60).values())) == 3


def test_inside_a_coroutine_task(client: Client) -> None:
    assert len(client.submit(nested_in_coroutine).result(60)) == 3


def test_with_asyncio(address: str, client: Client, calls: Path) -> None:
    async def main() -> None:
        async with AsyncClient(address) as asynchronous:
            assert len(set((await asynchronous.run(pid)).values())) == 3
            with pytest.raises(WorkerRunError, match="3 of 3 workers failed"):
                await asynchronous.run(len, 3)  # type: ignore
            running = asyncio.ensure_future(asynchronous.run(begin_and_wait, str(calls)))
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, wait_for, "the calls", lambda: len(list(calls.iterdir())) == 3)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(main())
    # The calls were stopped: else this would wait for them.
    assert len(client.run_verbose(pid, timeout=30)) == 3


def test_without_workers(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    with deployment.client(scheduler) as client:
        with pytest.raises(NoWorkerError, match="no worker is connected"):
            client.run_verbose(pid, timeout=0.3)
        found: dict[str, int] = {}
        thread = threading.Thread(target=lambda: found.update(client.run(pid)))
        thread.start()
        deployment.workers(scheduler, count=2)
        thread.join(60)
        assert len(found) == 2, "it has waited for the first workers"


def test_workers_that_die_or_come_meanwhile(deployment: Deployment, calls: Path) -> None:
    scheduler = deployment.scheduler("--allocate-policy", "even")
    staying = deployment.workers(scheduler, "--worker-names", "stays", count=1)
    leaving = deployment.workers(scheduler, "--worker-names", "dies", count=1)
    with deployment.client(scheduler) as client:
        assert set(client.run(pid)) == {"stays", "dies"}
        caught: list[WorkerRunError] = []

        def run() -> None:
            with pytest.raises(WorkerRunError) as error:
                client.run(begin_and_wait, str(calls))
            caught.append(error.value)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for("the calls", lambda: len(list(calls.iterdir())) == 2)
        deployment.workers(scheduler, "--worker-names", "comes", count=1)
        wait_for("a worker that came", lambda: "comes" in client.run_verbose(pid, timeout=0.2, return_exceptions=True))
        leaving.kill()
        (calls / "go").touch()
        thread.join(60)
        assert caught[0].results == {"stays": None}, "who came later is not asked"
        assert list(caught[0].errors) == ["dies"]
        assert isinstance(caught[0].errors["dies"], WorkerDiedError)
        assert set(client.run(pid)) == {"stays", "comes"}
    assert staying.pid


def test_a_scheduler_that_is_restarted_meanwhile(deployment: Deployment, calls: Path) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=2)
    with deployment.client(scheduler) as client:
        found: dict[str, None] = {}
        thread = threading.Thread(target=lambda: found.update(client.run(begin_and_wait, str(calls))))
        thread.start()
        wait_for("the calls", lambda: len(list(calls.iterdir())) == 2)
        os.kill(scheduler.pid, signal.SIGKILL)
        scheduler.wait_end()
        deployment.scheduler(address=scheduler.address)
        (calls / "go").touch()
        thread.join(60)
        assert len(found) == 2
    assert workers.pid
