"""Groups of clients in a cluster of real processes: unknown names are refused, and limits hold."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from scaler import GroupLimitError, ScalerExecutor
from scaler.errors import ConnectionRefusedByScheduler
from tests.integration import functions
from tests.integration.deployment import Deployment, wait_for
from tests.integration.test_monitors import get, start_ui, wait_live

pytestmark = pytest.mark.without_keys("without keys, clients name their groups")


def wait_for_file(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.02)  # sleeps: the task takes until the test is done with it
    return 1


def groups_of(base: str) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in get(base, "/api/groups")}


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
