"""Worker plugins, on clusters of real processes: set up before the first task, wherever that runs, and torn down in the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scaler import (
    AsyncClient,
    Client,
    ProcessorDiedError,
    SchedulerClusterCombo,
    SerializationError,
    WorkerPlugin,
    WorkerPluginError,
    WorkerRunError,
    worker_plugin,
)
from scaler.client.worker_setup import WorkerSetup
from tests.integration.deployment import ROOT, Deployment, wait_for
from tests.integration.test_commands import snapshot


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with SchedulerClusterCombo(n_workers=2) as cluster:
        yield cluster.get_address()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def note(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(f"{word} {os.getpid()}\n")


def noted(path: Path, word: str) -> list[int]:
    """Return the processes that have noted this word, in order."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.split()[1]) for line in lines if line.split()[0] == word]


class Noting(WorkerPlugin):
    """Notes what is called, and keeps something that tasks look for."""

    name = "noting"

    def __init__(self, path: Path, value: int = 1, padding: int = 0) -> None:
        self.path, self.value = str(path), value
        self.padding = bytes(os.urandom(padding))
        self.found: tuple[int, str] | None = None

    def setup(self, worker: Any) -> None:
        note(self.path, f"setup-{self.value}")
        self.found = worker.pid, worker.name

    def teardown(self, worker: Any) -> None:
        note(self.path, f"teardown-{self.value}")


class Failing(WorkerPlugin):
    """Its set-up fails where a file is there."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def setup(self, worker: Any) -> None:
        if os.path.exists(self.path):
            raise OSError("no database here")


def value_and_pid() -> tuple[int, int]:
    plugin = worker_plugin("noting")
    assert plugin.found[0] == os.getpid()
    return plugin.value, os.getpid()


def end_process(_: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nested() -> list[tuple[int, int]]:
    with Client() as client:
        return [client.submit(value_and_pid).result() for _ in range(3)]


def register_inside() -> None:
    with Client() as client:
        client.register_worker_plugin(WorkerPlugin())


# First those with deployments of their own: the cluster of the others starts and stops processes meanwhile.


def test_a_process_that_takes_the_place_of_another(deployment: Deployment, notes: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    with deployment.client(scheduler) as client:
        client.register_worker_plugin(Noting(notes))
        client.run(os.getpid)
        before = set(noted(notes, "setup-1"))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        values = client.map(lambda _: value_and_pid(), range(50))
        assert {pid for _, pid in values}.isdisjoint(before)
        with pytest.raises(ProcessorDiedError):
            client.submit(end_process).result()
        assert client.submit(value_and_pid).result()[0] == 1


def test_workers_that_join_later(deployment: Deployment, notes: Path, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    with deployment.client(scheduler) as client:
        assert client.register_worker_plugin(Noting(notes)) == []
        assert client.register_worker_plugin(Failing(tmp_path / "broken")) == []
        first = deployment.workers(scheduler, count=1)
        assert client.submit(value_and_pid).result()[0] == 1
        first.kill()
        (tmp_path / "broken").touch()
        deployment.workers(scheduler, count=1)
        with pytest.raises(WorkerPluginError, match=r"worker plugin 'Failing'.*no database here"):
            client.submit(value_and_pid).result(60)
        (tmp_path / "broken").unlink()
        assert client.submit(value_and_pid).result()[0] == 1
        assert len(noted(notes, "setup-1")) == 2


def test_a_busy_worker_is_not_waited_for_beyond_the_timeout(
    deployment: Deployment, notes: Path, tmp_path: Path
) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    with deployment.client(scheduler) as client:
        busy = client.submit(wait_for_file, str(tmp_path / "go"))
        wait_for("the task has not begun", (tmp_path / "go.begun").exists)
        assert client.register_worker_plugin(Noting(notes), timeout=0) == []
        waiting = client.submit(value_and_pid)
        (tmp_path / "go").touch()
        busy.result()
        assert waiting.result()[0] == 1


def test_a_teardown_that_does_not_end_ends_the_process(deployment: Deployment, tmp_path: Path) -> None:
    class Stuck(WorkerPlugin):
        def teardown(self, worker: Any) -> None:
            threading.Event().wait()

    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=1)
    with deployment.client(scheduler) as client:
        client.register_worker_plugin(Stuck())
    with deployment.client(scheduler) as client:
        assert client.submit(pow, 2, 3).result(30) == 8
    workers.wait_log("teardown")


def test_it_is_set_up_before_the_first_task_as_an_initializer_is(client: Client, notes: Path) -> None:
    names = client.register_worker_plugin(Noting(notes))
    assert sorted(names) == sorted(client.run(os.getpid))
    assert list(client.worker_plugins()) == ["noting"]
    values = client.map(lambda _: value_and_pid(), range(50))
    graph = client.get({"a": (value_and_pid,)}, ["a"])
    pids = {pid for _, pid in [*values, graph["a"]]}
    assert set(noted(notes, "setup-1")) >= pids
    assert len(noted(notes, "setup-1")) == len(set(noted(notes, "setup-1")))
    program = (
        "import sys; from tests.integration import test_worker_plugins as t; print(*t.pids_of_a_pool(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(notes)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    theirs = set(map(int, done.stdout.split()))
    assert set(noted(notes, "oracle")) >= theirs


def pid_of(_: int) -> int:
    return os.getpid()


def pids_of_a_pool(notes: str) -> set[int]:
    """Return the processes of a pool with an initializer.

    For a process of its own: one with a client has threads, whose locks a forked child may find held.
    """
    with ProcessPoolExecutor(2, initializer=note, initargs=(notes, "oracle")) as executor:
        return set(executor.map(pid_of, range(50)))


def test_it_is_torn_down_when_its_client_leaves(address: str, notes: Path) -> None:
    with Client(address) as other:
        with Client(address) as client:
            client.register_worker_plugin(Noting(notes))
            pids = set(client.run(os.getpid).values())
        wait_for("no teardown", lambda: set(noted(notes, "teardown-1")) == pids, 10)
        assert noted(notes, "setup-1")
        with pytest.raises(KeyError, match="no worker plugin 'noting' here"):
            other.submit(value_and_pid).result()


def test_it_is_seen_by_name(deployment: Deployment, notes: Path, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    module = tmp_path / "pricing_seen_by_name.py"
    module.write_text("VALUE = 1\n")

    def shown(text: str) -> bool:
        (worker,) = snapshot(str(scheduler.addresses["monitor"])).workers
        return worker.environment == text

    with deployment.client(scheduler) as client:
        client.register_worker_plugin(Noting(notes), name="database")
        wait_for("the plugin's name", lambda: shown("plugins: database"), 20)
        client.upload_modules([str(module)])
        client.submit(abs, -1).result()
        wait_for("the module's name", lambda: shown("plugins: database; modules: pricing_seen_by_name"), 20)
    wait_for("no name", lambda: shown(""), 20)


def test_of_two_clients_each_task_finds_its_own(address: str, notes: Path) -> None:
    with Client(address) as first, Client(address) as second, Client(address) as without:
        first.register_worker_plugin(Noting(notes, 1))
        second.register_worker_plugin(Noting(notes, 2))
        futures = [
            (expected, client.submit(value_and_pid))
            for _ in range(20)
            for expected, client in ((1, first), (2, second))
        ]
        for expected, future in futures:
            assert future.result()[0] == expected
        with pytest.raises(KeyError):
            without.submit(value_and_pid).result()


def test_registered_again(client: Client, notes: Path) -> None:
    client.register_worker_plugin(Noting(notes, 1))
    client.register_worker_plugin(Noting(notes, 1))
    assert len(noted(notes, "setup-1")) == 2
    client.register_worker_plugin(Noting(notes, 2))
    assert len(noted(notes, "teardown-1")) == len(noted(notes, "setup-2")) == 2
    assert client.submit(value_and_pid).result()[0] == 2
    client.unregister_worker_plugin("noting")
    assert len(noted(notes, "teardown-2")) == 2
    assert client.worker_plugins() == {}
    with pytest.raises(KeyError):
        client.submit(value_and_pid).result()
    with pytest.raises(ValueError, match="no worker plugin 'noting' is registered"):
        client.unregister_worker_plugin("noting")


def test_a_large_one_travels_once(client: Client, notes: Path) -> None:
    client.register_worker_plugin(Noting(notes, 3, padding=3_000_000))
    assert {value for value, _ in client.map(lambda _: value_and_pid(), range(10))} == {3}
    client.register_worker_plugin(WorkerPlugin(), "other")
    assert client.submit(value_and_pid).result()[0] == 3
    assert len(noted(notes, "setup-3")) == 2


def test_a_set_up_that_fails_is_told_by_worker_and_undone(client: Client, notes: Path, tmp_path: Path) -> None:
    client.register_worker_plugin(Noting(notes))
    (tmp_path / "broken").touch()
    with pytest.raises(WorkerRunError) as caught:
        client.register_worker_plugin(Failing(tmp_path / "broken"))
    assert len(caught.value.errors) == 2
    error = next(iter(caught.value.errors.values()))
    assert type(error) is WorkerPluginError
    assert "worker plugin 'Failing' could not be set up on worker" in str(error)
    assert "no database here" in str(error)
    (text,) = error.__notes__
    assert "in setup" in text
    assert "environments.py" not in text
    assert list(client.worker_plugins()) == ["noting"]
    assert client.submit(value_and_pid).result()[0] == 1
    assert not noted(notes, "teardown-1")


def test_nested_clients_inherit_it(client: Client, notes: Path) -> None:
    client.register_worker_plugin(Noting(notes))
    assert {value for value, _ in client.submit(nested).result()} == {1}
    with pytest.raises(ValueError, match="inside a task"):
        client.submit(register_inside).result()


def test_async_client(address: str, notes: Path) -> None:
    async def work() -> int:
        async with AsyncClient(address) as client:
            assert len(await client.register_worker_plugin(Noting(notes, 7))) == 2
            assert list(client.worker_plugins()) == ["noting"]
            value, _ = await client.submit(value_and_pid)
            await client.unregister_worker_plugin("noting")
            return value

    assert asyncio.run(work()) == 7


def test_a_teardown_that_fails_or_does_not_end_harms_nobody(address: str) -> None:
    class Bad(WorkerPlugin):
        def teardown(self, worker: Any) -> None:
            raise ValueError("later")

    with Client(address) as client:
        client.register_worker_plugin(Bad())
    with Client(address) as client:
        assert client.submit(pow, 2, 3).result() == 8


def wait_for_file(path: str) -> None:
    Path(f"{path}.begun").touch()
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)  # sleeps: until the test says so


class NoPlugin:
    pass


@pytest.mark.parametrize(
    ("plugin", "name", "error", "text"),
    [
        (WorkerPlugin, None, TypeError, r"not the class WorkerPlugin"),
        (NoPlugin(), None, TypeError, "no worker plugin: it has no method setup"),
        (WorkerPlugin(), 3, TypeError, "must be a str, not 3"),
        (WorkerPlugin(), "", ValueError, "is no name"),
    ],
)
def test_what_is_no_plugin(client: Client, plugin: Any, name: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        client.register_worker_plugin(plugin, name)


def test_threads_that_begin_at_once_share_one_setup(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    make = WorkerSetup.__init__

    def make_slowly(self: WorkerSetup, operations: Any) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        make(self, operations)

    monkeypatch.setattr(WorkerSetup, "__init__", make_slowly)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: client.operations.worker_setup, range(2))
    assert first is second


def test_a_teardown_does_not_count_for_the_next_task(tmp_path: Path) -> None:
    # Here, so that it travels by value: to import this module takes longer on a busy machine than a task may take.
    class SlowToEnd(WorkerPlugin):
        def __init__(self, began: Path) -> None:
            self.began = began

        def teardown(self, worker: Any) -> None:
            self.began.touch()
            time.sleep(4.5)  # sleeps: longer than a task may take

    with SchedulerClusterCombo(n_workers=1, task_timeout_seconds=3) as cluster:
        with Client(cluster.get_address()) as client:
            client.register_worker_plugin(SlowToEnd(tmp_path / "began"))
        wait_for("the teardown begins", (tmp_path / "began").exists)
        with Client(cluster.get_address()) as client:
            assert client.submit(abs, -1).result(timeout=30) == 1


def test_what_cannot_be_sent(client: Client) -> None:
    plugin: Any = WorkerPlugin()
    plugin.lock = threading.Lock()
    with pytest.raises(SerializationError, match="worker plugin 'WorkerPlugin'"):
        client.register_worker_plugin(plugin)
    assert client.worker_plugins() == {}
