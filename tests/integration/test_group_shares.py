"""Groups of clients share a cluster of real processes: 3:1 with tasks of different lengths, limits, keys, a restart."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, GroupLimitError, ScalerExecutor
from scaler.errors import ConnectionRefusedByScheduler
from tests.integration import functions
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.test_monitors import get, start_ui, wait_live

pytestmark = pytest.mark.without_keys("without keys, clients name their groups")


def run_for(seconds: float) -> float:
    time.sleep(seconds)  # sleeps: that is what the task takes
    return seconds


def squares_of(count: int) -> list[int]:
    with Client() as client:
        return client.map(functions.square, range(count))


def wait_for_file(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.02)  # sleeps: the task takes until the test is done with it
    return 1


def groups_of(base: str) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in get(base, "/api/groups")}


def used(base: str) -> dict[str, float]:
    return {name: group["used_core_seconds"] for name, group in groups_of(base).items()}


def assert_shared(deployment: Deployment, scheduler: Service, base: str) -> None:
    """Two clients with tasks of very different lengths get 3:1 of the core seconds from now on."""
    with (
        deployment.client(scheduler, group="pricing") as pricing,
        deployment.client(scheduler, group="research") as research,
    ):
        tasks = [pricing.submit(run_for, 0.01) for _ in range(6000)]
        tasks += [research.submit(run_for, 0.11 if number % 3 else 0.04) for number in range(600)]
        wait_for(
            "both to have run for a while", lambda: min(used(base).get(n, 0) for n in ("pricing", "research")) > 0.5
        )
        before = used(base)
        wait_for("both to have run", lambda: used(base)["pricing"] - before["pricing"] > 18, 120)
        after = used(base)
        shares = {name: after[name] - before[name] for name in ("pricing", "research")}
        assert shares["pricing"] / shares["research"] == pytest.approx(3, rel=0.05), shares
        for task in tasks:
            task.cancel()


def test_core_seconds_are_shared_three_to_one_also_after_a_restart(deployment: Deployment) -> None:
    shares = ("--share", "pricing=3,research=1")
    scheduler = deployment.scheduler(*shares)
    deployment.workers(scheduler, count=4)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    with deployment.client(scheduler, group="pricing") as stays, deployment.client(scheduler) as other:
        assert stays.submit(squares_of, 5).result() == [0, 1, 4, 9, 16]
        wait_for("the nested client to be shown", lambda: groups_of(base)["pricing"]["clients"] == 2)
        assert_shared(deployment, scheduler, base)
        os.kill(scheduler.pid, signal.SIGKILL)
        scheduler.wait_end()
        again = deployment.scheduler(
            *shares, "--monitor-address", str(scheduler.addresses["monitor"]), address=scheduler.address
        )
        assert (stays.submit(functions.square, 3).result(), other.submit(functions.square, 4).result()) == (9, 16)

        def are_back() -> bool:
            groups = groups_of(base)
            return bool(groups["pricing"]["clients"] and groups["default"]["clients"])

        wait_for("the clients to be in their groups again", are_back)
        assert again.pid


def test_an_unknown_group_is_refused_where_there_are_groups(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--share", "pricing=3")
    with pytest.raises(
        ConnectionRefusedByScheduler, match="no group 'prising'; the scheduler's --share names default, pricing"
    ):
        deployment.client(scheduler, group="prising")
    plain = deployment.scheduler()
    with deployment.client(plain, group="prising"):
        pass


def test_limits_hold_tasks_back_or_refuse_them_by_name(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--share", "pricing=1:max_running=1:max_waiting=3,research=1")
    deployment.workers(scheduler, count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    go = tmp_path / "go"
    with (
        deployment.client(scheduler, group="pricing") as client,
        ScalerExecutor(scheduler.address, group="research") as executor,
    ):
        first = client.submit(wait_for_file, str(go))
        wait_for("the first one to run", lambda: groups_of(base)["pricing"]["running"] == 1)
        waiting = [client.submit(functions.square, number) for number in range(3)]
        wait_for("the others to wait", lambda: groups_of(base)["pricing"]["waiting"] == 3)
        with pytest.raises(GroupLimitError, match=r"3 tasks of group 'pricing' wait, at most 3 may \(max_waiting\)"):
            client.submit(functions.square, 3).result()
        with pytest.raises(GroupLimitError, match=r"a graph of 2 tasks is refused: 3 tasks of group 'pricing' wait"):
            client.get({"a": (functions.square, 2), "b": (functions.square, "a")}, ["b"])
        # The other worker is free for others.
        assert executor.submit(functions.square, 5).result() == 25
        wait_for("the note", lambda: groups_of(base)["pricing"]["note"].startswith("tasks wait: 1 run, at most 1 may"))
        go.touch()
        assert first.result() == 1
        assert [one.result() for one in waiting] == [0, 1, 4]
        wait_for("the count of refused ones", lambda: groups_of(base)["pricing"]["refused"] >= 3)
