"""Labels and tags of tasks, with every call that makes tasks and in everything that shows them, with real processes."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from scaler import AsyncClient, Client, ScalerExecutor
from tests.integration import functions, plain_http
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.test_monitors import fail_always, get, start_ui, wait_live


class Watched:
    """A cluster with its pages."""

    def __init__(self, deployment: Deployment) -> None:
        self.scheduler: Service = deployment.scheduler()
        deployment.workers(self.scheduler, count=2)
        self.base = start_ui(deployment, self.scheduler)
        wait_live(self.base)
        self.address = str(self.scheduler.addresses["scheduler"])

    def tasks(self) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = get(self.base, "/api/tasks?limit=1000")["tasks"]
        return tasks

    def tasks_of(self, label: str) -> list[dict[str, Any]]:
        self.wait_for_labels(label)
        return [task for task in self.tasks() if task["label"] == label]

    def wait_for_labels(self, *wanted: str) -> None:
        wait_for(f"labels {wanted}", lambda: set(wanted) <= {task["label"] for task in self.tasks()})


@pytest.fixture
def watched(deployment: Deployment) -> Watched:
    return Watched(deployment)


def label_inside_a_task() -> list[int]:
    with Client() as client:
        return client.map(functions.square, range(3), label="nested map")


def test_every_call_takes_a_label_and_pages_show_it(watched: Watched) -> None:
    with Client(watched.address, name="pricing") as client:
        square = functions.square
        assert client.submit_verbose(square, (2,), label="one", tags={"desk": "rates", "run": "7"}).result() == 4
        assert client.map(square, range(3), label="map") == [0, 1, 4]
        assert client.starmap(square, [(2,)], label="starmap") == [4]
        assert list(client.imap(square, range(3), label="imap")) == [0, 1, 4]
        assert sorted(client.imap_unordered(square, range(3), label="imap_unordered")) == [0, 1, 4]
        assert client.get({"a": (square, 3)}, ["a"], label="get") == {"a": 9}
        with client.prepare({"a": (square, 4)}, ["a"], label="prepare") as template:
            assert template.run() == {"a": 16}
        assert client.submit_verbose(square, (client.submit_verbose(square, (2,)),), label="linked").result() == 16
        assert client.submit(label_inside_a_task).result() == [0, 1, 4]
        named = client.with_options(label="view", tags={"desk": "fx"})
        assert named.submit(square, 5).result() == 25
        assert named.submit_verbose(square, (6,), tags={"run": "8"}).result() == 36
        watched.wait_for_labels(
            *("one", "map", "starmap", "imap", "imap_unordered", "get", "prepare", "linked", "nested map", "view")
        )
        # Figures say what clients are called, once a second; until then a task shows its client's id.
        wait_for("the client's name", lambda: {task["client_name"] for task in watched.tasks()} >= {"pricing"})
        (one,) = [task for task in watched.tasks() if task["label"] == "one"]
        assert (one["tags"], one["client_name"]) == ("desk=rates,run=7", "pricing")
        assert {task["tags"] for task in watched.tasks() if task["label"] == "view"} == {"desk=fx", "desk=fx,run=8"}
        found = get(watched.base, "/api/tasks?search=desk=rates")["tasks"]
        assert [task["number"] for task in found] == [one["number"]]
        wait_for("bars", lambda: "one" in get(watched.base, "/api/bars?seen=0&generation=0")["labels"])
        text = 'scaler_label_tasks_finished_total{label="view",result="success"} 2.0'
        wait_for("metrics", lambda: text in plain_http.get(watched.base + "/metrics").text)


def test_failures_and_dumps_have_label_and_tags(watched: Watched) -> None:
    with Client(watched.address) as client:
        future = client.submit_verbose(fail_always, (1,), label="fragile", tags={"run": "9"})
        assert isinstance(future.exception(), LookupError)
        wait_for("the failure is shown", lambda: bool(get(watched.base, "/api/failures?search=fragile")))
        (failure,) = get(watched.base, "/api/failures?search=fragile")
        assert (failure["label"], failure["tags"]) == ("fragile", "run=9")
        waiting = client.submit_verbose(functions.square, (1,), capabilities={"no such": -1}, label="waits")
        monitor = str(watched.scheduler.addresses["monitor"])
        dump = subprocess.run(
            [sys.executable, "-m", "scaler_ui.dump", monitor, "--output", "-"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert '"label": "waits"' in json.dumps(json.loads(dump.stdout))
        waiting.cancel()


def test_asynchronous_clients_and_executors_take_labels(watched: Watched) -> None:
    async def use() -> None:
        async with AsyncClient(watched.address) as client:
            square = functions.square
            assert await client.submit_verbose(square, (2,), label="async one") == 4
            assert await client.map(square, range(2), label="async map") == [0, 1]
            assert await client.get({"a": (square, 3)}, ["a"], label="async get") == {"a": 9}
            assert [x async for x in client.imap(square, range(2), label="async imap")] == [0, 1]
            assert await client.with_options(label="async view").submit(square, 3) == 9
            with pytest.raises(TypeError, match=r"map\(\) has no option labels"):
                await client.map(square, range(2), labels="x")  # type: ignore[call-overload]

    asyncio.run(use())
    with ScalerExecutor(watched.address) as executor:
        assert executor.with_options(label="executor").submit(functions.square, 2).result() == 4
        assert list(executor.map(functions.square, range(2), label="executor map")) == [0, 1]
    watched.wait_for_labels(
        "async one", "async map", "async get", "async imap", "async view", "executor", "executor map"
    )


def test_many_different_tags_travel_together(watched: Watched) -> None:
    with Client(watched.address) as client:
        count = 5_000
        futures = [client.submit_verbose(functions.square, (n,), tags={"order": str(n)}) for n in range(count)]
        assert [future.result() for future in futures] == [n * n for n in range(count)]


def test_options_are_checked_at_the_call(watched: Watched) -> None:
    with Client(watched.address) as client:
        with pytest.raises(TypeError, match=r"submit_verbose\(\) has no option lable"):
            client.submit_verbose(functions.square, (1,), lable="x")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="tags must map names to values"):
            client.with_options(tags=["a"])  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"label .* has more than 100 characters"):
            client.map(functions.square, range(3), label="x" * 101)
        assert client.submit(functions.square, 2).result() == 4


def test_a_client_with_options_is_the_same_client(watched: Watched) -> None:
    with Client(watched.address) as client:
        named = client.with_options(label="view")
        assert named.identity == client.identity
        future = named.submit(functions.square, 3)
        # Futures of one are arguments of the other.
        assert client.submit(functions.square, future).result() == 81
        with pickle.loads(pickle.dumps(named)) as copy:
            assert copy.submit(functions.square, 4).result() == 16
        blocked = named.submit_verbose(functions.square, (1,), capabilities={"no such": -1})
        client.clear()
        assert blocked.cancelled()
    # Nobody has the first one, and the session goes on.
    alone = Client(watched.address).with_options(label="alone")
    assert alone.submit(functions.square, 5).result() == 25
    alone.disconnect()
