"""The task stream and the drawings of graphs over a real cluster, against what the client submitted."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

import pytest

from scaler import Client
from scaler.errors import ScalerError
from tests.integration import functions
from tests.integration.deployment import Deployment, wait_for
from tests.integration.test_monitors import fail_always, get, start_ui, wait_live


def die(code: int) -> None:
    os._exit(code)


def outer(value: int) -> int:
    with Client() as client:
        return client.submit(functions.square, value).result()


def slow(*values: float) -> float:
    time.sleep(1.5)  # sleeps: the task takes so long
    return sum(values)


def start(deployment: Deployment) -> tuple[str, str]:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    return base, str(scheduler.addresses["scheduler"])


def bars(base: str) -> Counter[tuple[str, int]]:
    """Every bar by function and state."""
    data = get(base, "/api/bars")
    names = [name.rpartition(".")[2] for name in data["functions"]]
    return Counter(
        (names[one], state) for one, state in zip(data["columns"]["function"], data["columns"]["state"], strict=True)
    )


def test_bars_are_the_tasks_that_ran(deployment: Deployment) -> None:
    base, address = start(deployment)
    with Client(address) as client:
        done = [client.submit(functions.square, number) for number in range(20)]
        failing = [client.submit(fail_always, number) for number in range(3)]
        nested = [client.submit(outer, number) for number in range(4)]
        assert [future.result() for future in done] == [number**2 for number in range(20)]
        assert [future.result() for future in nested] == [number**2 for number in range(4)]
        assert all(future.exception() is not None for future in failing)
        dying = client.submit(die, 1)
        with pytest.raises(ScalerError):
            dying.result()
        expected = Counter({("square", 2): 24, ("fail_always", 3): 3, ("outer", 2): 4, ("die", 3): 1})
        wait_for("all bars", lambda: bars(base) == expected)


def test_a_graph_is_drawn_while_it_runs_and_kept_when_it_has_ended(deployment: Deployment) -> None:
    base, address = start(deployment)
    with Client(address) as client:
        graph: dict[str, Any] = {f"leaf{number}": (slow, number) for number in range(4)}
        graph |= {"left": (slow, "leaf0", "leaf1"), "right": (slow, "leaf2", "leaf3"), "root": (slow, "left", "right")}
        result = client.get(graph, ["root"], block=False)["root"]

        def first() -> dict[str, Any] | None:
            return next(iter(get(base, "/api/graphs")), None)

        wait_for("the graph is there", lambda: first() is not None)
        shown = first()
        assert shown is not None
        path = f"/api/graphs/{shown['client']}/{shown['first_number']}"
        wait_for("its rows are there", lambda: get(base, path)["picture"] is not None)
        picture = get(base, path)["picture"]
        assert (len(picture["nodes"]), len(picture["edges"]), picture["layers"]) == (7, 6, 3)
        assert {node["function"].rpartition(".")[2] for node in picture["nodes"]} == {"slow"}
        assert "running" in {node["state"] for node in picture["nodes"]} or shown["done"] < 7
        assert result.result() == 6
        wait_for("it has ended", lambda: bool((first() or {}).get("ended_at")))
        ended = get(base, path)
        assert ended["graph"]["took_seconds"] > 4
        assert {node["state"] for node in ended["picture"]["nodes"]} == {"done"}
        # Three layers of at least a second and a half each.
        assert ended["picture"]["path"]["rows"] == 3
        assert ended["picture"]["path"]["seconds"] >= 4.4
