"""Named locks and semaphores with real processes: exact counts, and what frees a lock."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from scaler import Client, LockTimeoutError, ProcessorDiedError
from tests.integration.deployment import Deployment, wait_for

HOLDERS_MAX = 3


def increment(path: str, times: int) -> None:
    client = Client()
    for _ in range(times):
        with client.lock(path, timeout=60):
            number = int(Path(path).read_text())
            time.sleep(0.001)  # sleeps: others would read the same number meanwhile, without the lock
            Path(path).write_text(str(number + 1))


def most_inside(folder: str, times: int) -> int:
    most = 0
    client = Client()
    for turn in range(times):
        with client.semaphore(folder, HOLDERS_MAX, timeout=60):
            mine = Path(folder) / f"{os.getpid()}-{turn}"
            mine.touch()
            time.sleep(0.005)  # sleeps: others come in meanwhile
            most = max(most, len(os.listdir(folder)))
            mine.unlink()
    return most


def hold(name: str, held: str, go: str) -> str:
    """Hold a lock, say so with the process id, and go on when told."""
    with Client().lock(name, timeout=60):
        Path(held + ".new").write_text(str(os.getpid()))
        os.rename(held + ".new", held)
        while not Path(go).exists():
            time.sleep(0.02)  # sleeps: the task takes until the test is done with it
    return "held to the end"


@pytest.fixture(scope="module")
def address(module_deployment: Deployment) -> str:
    scheduler = module_deployment.scheduler()
    module_deployment.workers(scheduler, count=5)
    return scheduler.address


def test_tasks_that_take_turns_lose_no_count(client: Client, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    client.gather([client.submit(increment, str(counter), 25) for _ in range(8)])
    assert counter.read_text() == "200"


def test_a_semaphore_lets_so_many_in(client: Client, tmp_path: Path) -> None:
    counts = client.gather([client.submit(most_inside, str(tmp_path), 10) for _ in range(8)])
    assert max(counts) <= HOLDERS_MAX
    assert max(counts) > 1, "they came in together"


def test_a_lock_is_freed_with_the_process_that_holds_it(client: Client, tmp_path: Path) -> None:
    held = tmp_path / "held"
    holder = client.submit_verbose(hold, ("freed", str(held), str(tmp_path / "never")), idempotent=False)
    wait_for("the lock to be held", held.exists)
    with pytest.raises(LockTimeoutError):
        client.lock("freed", timeout=0.3).__enter__()
    os.kill(int(held.read_text()), signal.SIGKILL)
    with client.lock("freed", timeout=20):
        pass
    with pytest.raises(ProcessorDiedError):
        holder.result()


@pytest.mark.parametrize("held_by_task", [True, False])
def test_a_cancelled_task_neither_holds_nor_waits(client: Client, tmp_path: Path, held_by_task: bool) -> None:
    held, never, name = tmp_path / "held", str(tmp_path / "never"), f"cancelled {held_by_task}"
    if held_by_task:
        task = client.submit(hold, name, str(held), never)
        wait_for("the lock to be held", held.exists)
        task.cancel()
    else:
        with client.lock(name):
            task = client.submit(hold, name, str(held), never)
            wait_for("the task to run", task.running)
            task.cancel()
        assert not held.exists()
    with client.lock(name, timeout=20):
        pass
    with pytest.raises(CancelledError):
        task.result()


def test_a_lock_is_freed_with_its_agent(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=1)
    held = tmp_path / "held"
    with deployment.client(scheduler) as client:
        client.submit_verbose(hold, ("a", str(held), str(tmp_path / "never")), idempotent=False)
        wait_for("the lock to be held", held.exists)
        workers.kill()
        with client.lock("a", timeout=30):
            pass


def test_holders_keep_it_through_a_restart_of_the_scheduler(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    held, go = tmp_path / "held", tmp_path / "go"
    taken = threading.Event()

    def take(client: Client) -> None:
        with client.lock("a", timeout=60):
            taken.set()

    with deployment.client(scheduler) as client:
        holder = client.submit(hold, "a", str(held), str(go))
        wait_for("the lock to be held", held.exists)
        waiter = threading.Thread(target=take, args=(client,))
        waiter.start()
        os.kill(scheduler.pid, signal.SIGKILL)
        scheduler.wait_end()
        deployment.scheduler(address=scheduler.address)
        # Longer than a new scheduler waits for old holders.
        assert not taken.wait(9)
        go.touch()
        assert holder.result() == "held to the end"
        waiter.join(30)
        assert taken.is_set()
