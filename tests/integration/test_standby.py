"""A second scheduler takes over: with real processes, whichever way the first one goes, and if it comes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from scaler import Client
from scaler.errors import DisconnectedError
from scaler_protocol.testing.free_ports import free_ports
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for

LEASE = ("--standby-lease-seconds", "1.5")
TASKS = 400


def pair(deployment: Deployment, *flags: str) -> tuple[Service, Service, str]:
    """Start a scheduler and its standby; return them, and the addresses of both."""
    first = deployment.scheduler(*flags, *LEASE)
    standby = deployment.scheduler(*flags, *LEASE, "--standby-of", first.address)
    return first, standby, f"{first.address},{standby.address}"


def append_once(path: str, number: int) -> int:
    """Note a run in a file, in one write."""
    with open(path, "a", buffering=1) as file:
        file.write(f"{number}\n")
    f.sleep_and_return(0.01)
    return number


def test_small_tasks_survive_kill_9_of_the_first_scheduler(deployment: Deployment) -> None:
    first, standby, both = pair(deployment)
    deployment.workers(both)
    client = deployment.client(both)
    futures = [client.submit(f.sleep_and_return, 0.005, number) for number in range(TASKS)]
    wait_for("some answers", lambda: sum(future.done() for future in futures) > 20)
    first.kill()
    standby.wait_log("it is first now")
    assert [future.result(timeout=60) for future in futures] == list(range(TASKS))
    # Who comes later is served too, and may name the two in any order.
    with Client(",".join(reversed(both.split(",")))) as other:
        assert other.submit(f.square, 7).result(30) == 49
    assert client.address == both


def test_a_first_scheduler_that_was_stopped_for_longer_than_the_lease_steps_down(
    deployment: Deployment, tmp_path: Path
) -> None:
    first, standby, both = pair(deployment)
    deployment.workers(both)
    client = deployment.client(both)
    runs = tmp_path / "runs"
    futures = [client.submit(f.sleep_and_return, 0.005, number) for number in range(TASKS)]
    once = client.with_options(idempotent=False)
    careful = [once.submit(append_once, str(runs), number) for number in range(50)]
    wait_for("some answers", lambda: sum(future.done() for future in futures) > 20)
    os.kill(first.pid, signal.SIGSTOP)
    standby.wait_log("it is first now")
    # Both believe that they are first.
    os.kill(first.pid, signal.SIGCONT)
    first.wait_log("is a standby now")
    assert [future.result(timeout=60) for future in futures] == list(range(TASKS))
    for number, future in enumerate(careful):
        error = future.exception(timeout=60)
        assert error is None or "idempotent=False" in str(error)
        assert error is not None or future.result() == number
    numbers = runs.read_text().split() if runs.exists() else []
    assert len(numbers) == len(set(numbers)), "a task ran twice"
    # And back: the former first one takes over from its former standby.
    os.kill(standby.pid, signal.SIGSTOP)
    try:
        wait_for("the way back", lambda: first.log().count("it is first now"))
        assert client.submit(f.square, 8).result(60) == 64
    finally:
        os.kill(standby.pid, signal.SIGCONT)
    wait_for("the standby to step down", lambda: "is a standby now" in standby.log())
    assert client.submit(f.square, 9).result(60) == 81


def test_large_values_stay_where_the_store_has_a_host_of_its_own(deployment: Deployment) -> None:
    storage = deployment.storage()
    first, standby, both = pair(deployment, "--object-storage-address", storage.address)
    deployment.workers(both)
    client = deployment.client(both)
    array = np.arange(400_000.0)
    reference = client.send_object(array)
    results = [client.submit(f.random_array, seed, 100_000) for seed in range(4)]
    wait_for("large results", lambda: all(result.done() for result in results))
    sums = [client.submit(f.sleep_and_return, 0.02, reference) for _ in range(50)]
    first.kill()
    standby.wait_log("it is first now")
    assert all(np.array_equal(future.result(60), array) for future in sums)
    assert all(np.array_equal(result.result(60), f.random_array(seed, 100_000)) for seed, result in enumerate(results))


def test_large_arguments_are_sent_again_where_the_store_goes_with_the_first_host(deployment: Deployment) -> None:
    first, standby, both = pair(deployment)
    deployment.workers(both)
    client = deployment.client(both)
    array = np.arange(400_000.0)
    reference = client.send_object(array)
    futures = [client.submit(f.sum_of, reference) for _ in range(100)]
    small = [client.submit(f.sleep_and_return, 0.005, number) for number in range(TASKS)]
    first.kill()
    standby.wait_log("it is first now")
    assert [future.result(60) for future in futures] == [float(array.sum())] * 100
    assert [future.result(60) for future in small] == list(range(TASKS))
    assert client.submit(f.sum_of, reference).result(60) == float(array.sum())


def test_an_orderly_stop_hands_over_at_once(deployment: Deployment) -> None:
    first = deployment.scheduler("--standby-lease-seconds", "25")
    standby = deployment.scheduler("--standby-lease-seconds", "25", "--standby-of", first.address)
    both = f"{first.address},{standby.address}"
    deployment.workers(both)
    client = deployment.client(both)
    assert client.submit(f.square, 3).result(30) == 9
    first.terminate()
    standby.wait_log("it is first now", timeout_s=20)
    assert client.submit(f.square, 4).result(30) == 16


def test_a_standby_turns_peers_away_while_the_first_one_is_there(deployment: Deployment) -> None:
    # With a long lease: the standby is not first because a busy machine let the first one say nothing for a moment.
    first = deployment.scheduler("--standby-lease-seconds", "25")
    standby = deployment.scheduler("--standby-lease-seconds", "25", "--standby-of", first.address)
    both = f"{first.address},{standby.address}"
    assert "it is the standby of the scheduler at" in standby.log()
    with pytest.raises(DisconnectedError, match="is a standby, and another one is first"):
        Client(standby.address, timeout_seconds=3)
    workers = deployment.start("scaler_worker", ",".join(reversed(both.split(","))), "-n", "1")
    workers.wait_log("registered with the scheduler")
    with Client(f"{standby.address},{first.address}") as client:
        assert client.submit(f.square, 5).result(30) == 25
    assert "it is first now" not in standby.log()


def test_a_second_standby_is_refused(deployment: Deployment) -> None:
    first, _, _ = pair(deployment)
    third = deployment.scheduler(*LEASE, "--standby-of", first.address)
    third.wait_log("has a standby already")


def test_addresses_that_do_not_answer_are_passed_over(deployment: Deployment) -> None:
    first, _, both = pair(deployment)
    deployment.workers(first)
    with Client(f"tcp://127.0.0.1:{free_ports(1)[0]},{both}") as client:
        assert client.submit(f.square, 6).result(30) == 36
