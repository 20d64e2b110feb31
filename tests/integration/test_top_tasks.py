"""`scaler_top` in a real terminal of 80 columns and 24 lines: what a task prints, and cancelling, as an operator does it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from scaler import Client, ProcessorDiedError, ScalerFuture
from scaler_protocol.testing.security_directory import make_security_directory
from scaler_protocol.testing.waiting import wait_until
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.terminal import Terminal, terminal
from tests.integration.test_cancel_from_pages import make_copy

SMALL = (80, 24)

START_SECONDS = 90.0
"""How long `scaler_top` may take to begin: it gives way to everything else on a busy machine."""

pytestmark = pytest.mark.timeout(360)


def say_until_told(path: str) -> str:
    print("it has begun")
    number = 0
    while not os.path.exists(path):
        number += 1
        if number <= 3:
            print(f"step {number}")
        time.sleep(0.05)  # sleeps: the task waits for the test
    print("\x1b[32mit has ended\x1b[0m")
    return "done"


def probe() -> None:
    """Only be seen."""


def say_and_die() -> None:
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_for_long(number: int) -> int:
    time.sleep(600)  # sleeps: it is cancelled meanwhile
    return number


@contextlib.contextmanager
def top(scheduler: Service, folder: Path, *flags: str) -> Iterator[Terminal]:
    command = (sys.executable, "-m", "scaler_ui.top", str(scheduler.addresses["monitor"]), *flags)
    with terminal(folder, *command, size=SMALL) as screen:
        screen.wait_for("worker", seconds=START_SECONDS)
        yield screen


def close_overlay(screen: Terminal, text: str) -> None:
    """Press Esc, and wait: two keys in one go would be one with Alt."""
    screen.press("Escape")
    screen.wait_for(text, gone=True)


def read_output(screen: Terminal, task: str) -> None:
    """Open the output of a task by its number."""
    screen.press("t")
    screen.wait_for("output of which task?")
    screen.press("-l", task)
    screen.press("Enter")
    screen.wait_for(f"output of task {task.split()[0]}")


def wait_listening(client: Client, screen: Terminal) -> None:
    """Wait until the view of tasks shows one: the scheduler tells of those that begin once it knows that somebody looks."""
    wait_until(
        lambda: "probe" in screen.screen(),
        30.0,
        what=lambda: screen.screen(),
        step=lambda: client.submit(probe).result(30),
        pause_seconds=0.25,
    )


def told(future: ScalerFuture) -> str:
    with pytest.raises(CancelledError) as caught:
        future.result(timeout=30)
    return str(caught.value)


@pytest.fixture
def scheduler(deployment: Deployment) -> Service:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "-his", "0.5", count=2)
    return scheduler


@pytest.mark.without_keys("it starts its monitor in a terminal, without keys")
def test_what_a_task_prints_while_it_runs(deployment: Deployment, scheduler: Service, tmp_path: Path) -> None:
    client = deployment.client(scheduler, name="ada")
    end = tmp_path / "end"
    with top(scheduler, tmp_path) as screen:
        screen.wait_for("2 workers  1 client")
        screen.press("0")
        wait_listening(client, screen)
        running = client.submit(say_until_told, str(end))
        try:
            screen.wait_for("say_until")
            screen.press("o")
            screen.wait_for("stdout step 3")
            assert "it has ended" not in screen.screen()
        finally:
            end.touch()
        # It follows what happens, and shows none of the colours that were meant for another terminal.
        screen.wait_for("stdout it has ended")
        assert running.result(30) == "done"
        close_overlay(screen, "it has ended")
        screen.wait_for("success")


@pytest.mark.without_keys("it starts its monitor in a terminal, without keys")
def test_what_tasks_have_printed_that_ended_before(deployment: Deployment, scheduler: Service, tmp_path: Path) -> None:
    client = deployment.client(scheduler, name="ada")
    (tmp_path / "end").touch()
    ended = client.submit(say_until_told, str(tmp_path / "end"))
    assert ended.result(30) == "done"
    died = client.submit(say_and_die)
    with pytest.raises(ProcessorDiedError):
        died.result(60)
    with top(scheduler, tmp_path) as screen:
        screen.wait_for("1 client")
        read_output(screen, f"{int(ended.task_id)} ada")
        screen.wait_for("stdout it has ended")
        close_overlay(screen, "it has ended")
        screen.press("3")
        screen.wait_for("processor_died")
        screen.press("o")
        screen.wait_for("last words")
        screen.wait_for("has ended")
        close_overlay(screen, "last words")
        read_output(screen, "123456")
        screen.wait_for("nothing is kept")


@pytest.mark.without_keys("it starts its monitor in a terminal, without keys")
def test_tasks_are_cancelled_after_a_question(deployment: Deployment, scheduler: Service, tmp_path: Path) -> None:
    ada, bob = deployment.client(scheduler, name="ada"), deployment.client(scheduler, name="bob")
    with top(scheduler, tmp_path) as screen:
        # One that runs since before anybody listened to single tasks: whose it is, the scheduler is asked.
        running = ada.submit(sleep_for_long, 0)
        screen.wait_for("sleep_for_long")
        worker = next(line.split()[0] for line in screen.screen().splitlines() if "sleep_for_long" in line)
        if not worker.endswith("0"):
            screen.press("Down")
        # The scheduler tells at once which functions it has sent there; the worker, now and then, which task it runs.
        wait_until(
            lambda: "of ada?" in screen.screen(),
            30.0,
            what=screen.screen,
            step=lambda: screen.press("k"),
            pause_seconds=1.0,
        )
        assert f"Cancel task {int(running.task_id)}, " in " ".join(screen.screen().split())
        screen.press("Enter")
        screen.press("n")
        screen.wait_for("of ada?", gone=True)
        assert not running.done()
        screen.press("k")
        screen.wait_for("of ada?")
        screen.press("y")
        screen.wait_for("1 task was cancelled")
        assert told(running).endswith("was cancelled by an operator")
        close_overlay(screen, "was cancelled")
        # All of a client; the other one's go on.
        futures = [bob.submit(sleep_for_long, number) for number in range(5)]
        screen.press("2")
        screen.wait_for("at workers")
        wait_for("bob's tasks are counted", lambda: _counts(screen, "bob") == 5)
        screen.press("k")
        screen.wait_for("Cancel all unfinished tasks of bob (5)?")
        screen.press("y")
        screen.wait_for("5 tasks were cancelled")
        assert all("cancelled by an operator" in told(future) for future in futures)
        close_overlay(screen, "were cancelled")
        assert ada.submit(abs, -4).result(30) == 4
        screen.press("C-c")
        wait_for("it has ended", lambda: not _lives(screen))


def _counts(screen: Terminal, client: str) -> int:
    """How many unfinished tasks a client has on the screen."""
    for line in screen.screen().splitlines():
        words = line.split()
        if words[:1] == [client]:
            return int(words[1]) + int(words[2])
    return 0


def _lives(screen: Terminal) -> bool:
    try:
        return bool(screen.screen())
    except subprocess.CalledProcessError:
        # tmux ends with its last program.
        return False


@pytest.mark.without_keys("it starts its monitor in a terminal, without keys")
def test_a_protected_scheduler_is_told_of(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--protected")
    client = deployment.client(scheduler, name="ada")
    future = client.submit(abs, -4)
    with top(scheduler, tmp_path) as screen:
        screen.wait_for("1 client")
        screen.press("2")
        screen.wait_for("at workers")
        screen.press("k")
        screen.wait_for("Cancelling is not possible here: this scheduler is protected")
        screen.press("y")
        close_overlay(screen, "Cancelling is not possible")
    assert not future.done()
    client.clear()


@pytest.mark.without_keys("it chooses keys itself")
def test_with_keys_it_takes_the_key_of_an_operator(deployment: Deployment, tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "-his", "0.5", "--security-dir", str(keys))
    watching = make_copy(keys, tmp_path / "watching", without="operator.key")
    client = Client(scheduler.address, security=keys, name="ada")
    deployment.clients.append(client)
    futures: list[ScalerFuture] = [client.submit(sleep_for_long, number) for number in range(3)]
    (tmp_path / "monitor").mkdir()
    with top(scheduler, tmp_path / "monitor", "--security-dir", str(watching)) as screen:
        screen.wait_for("1 client")
        screen.press("2")
        screen.wait_for("at workers")
        screen.press("k")
        screen.wait_for("cancelling needs the key of an")
        assert "scaler_top has none" in " ".join(screen.screen().replace("│", " ").split())
    assert not any(future.done() for future in futures)
    (tmp_path / "operator").mkdir()
    with top(scheduler, tmp_path / "operator", "--security-dir", str(keys)) as screen:
        screen.wait_for("1 client")
        screen.press("2")
        wait_for("ada's tasks are counted", lambda: _counts(screen, "ada") == 3)
        screen.press("k")
        screen.wait_for("tasks of ada (3)?")
        screen.press("y")
        screen.wait_for("3 tasks were cancelled")
    assert all("operator" in told(future) for future in futures)
