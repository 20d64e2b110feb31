"""The names that programs give their clients, in everything that shows clients, with real processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scaler import AsyncClient, Client, ScalerExecutor
from tests.integration import functions, plain_http
from tests.integration.deployment import Deployment, wait_for
from tests.integration.test_monitors import get, start_ui, wait_live


def nested_squares(count: int) -> list[int]:
    with Client() as client:
        return client.map(functions.square, range(count))


def nested_pause(path: str) -> int:
    with Client() as client:
        return client.submit(wait_for_file, path).result()


def wait_for_file(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.02)  # sleeps: the task takes until the test is done with it
    return 1


def wait_for_a_client(base: str, name: str, **facts: Any) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        for client in get(base, "/api/clients"):
            if client["name"] == name and facts.items() <= client.items():
                return dict(client)
        return None

    wait_for(f"client {name} is shown", lambda: found() is not None)
    client = found()
    assert client is not None
    return client


def test_a_name_is_shown_wherever_clients_are(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    address, monitor = str(scheduler.addresses["scheduler"]), str(scheduler.addresses["monitor"])
    with Client(address, name="pricing") as one, Client(address, name="pricing") as two:
        assert (one.name, two.name) == ("pricing", "pricing")
        assert "'pricing'" in repr(one)
        assert "pricing (" in one._repr_html_()
        assert one.submit(functions.square, 3).result() == 9
        assert two.submit(functions.square, 4).result() == 16
        # Two clients may have one name: both are shown.
        wait_for_a_client(base, "pricing", id=one.identity.hex(), finished=1)
        wait_for_a_client(base, "pricing", id=two.identity.hex(), finished=1)
        wait_for(
            "tasks are shown with the name",
            lambda: [task["client_name"] for task in get(base, "/api/tasks")["tasks"]] == ["pricing"] * 2,
        )
        once = subprocess.run(
            [sys.executable, "-m", "scaler_ui.top", monitor, "--once", "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert [client["name"] for client in json.loads(once.stdout)["clients"]] == ["pricing", "pricing"]
        dump = subprocess.run(
            [sys.executable, "-m", "scaler_ui.dump", monitor, "--output", "-"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert dump.stdout.count('"name": "pricing"') >= 2
        wait_for(
            "metrics count both together",
            lambda: (
                'scaler_client_tasks_finished_total{client="pricing",result="success"} 2.0'
                in plain_http.get(base + "/metrics").text
            ),
        )
        texts = [line["text"] for line in get(base, "/api/logs")["lines"]]
        assert sum(text.startswith("client pricing connected from") for text in texts) == 2


def test_nested_clients_are_shown_under_the_name_of_their_parent(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    address = str(scheduler.addresses["scheduler"])
    path = tmp_path / "done"
    with Client(address, name="risk") as client:
        future = client.submit(nested_pause, str(path))
        nested = wait_for_a_client(base, "risk (nested)", nested=True)
        assert (nested["parent_name"], nested["parent"]) == ("risk", client.identity.hex())
        wait_for(
            "its task is shown under the name",
            lambda: (
                {"risk", "risk (nested)"}
                <= {task["client_name"] for task in get(base, "/api/tasks?search=pause risk")["tasks"]}
                | {task["client_name"] for task in get(base, "/api/tasks?search=wait_for_file")["tasks"]}
            ),
        )
        path.touch()
        assert future.result() == 1


def test_asynchronous_clients_and_executors_have_names(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    address = str(scheduler.addresses["scheduler"])
    with ScalerExecutor(address, name="batch") as executor:
        assert executor.submit(functions.square, 5).result() == 25
        wait_for_a_client(base, "batch")

    async def use() -> str | None:
        async with AsyncClient(address, name="web") as client:
            assert await client.submit(functions.square, 6) == 36
            await asyncio.to_thread(wait_for_a_client, base, "web")
            return client.name

    assert asyncio.run(use()) == "web"


def test_a_pickled_client_keeps_its_name(deployment: Deployment) -> None:
    import pickle

    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    with (
        Client(str(scheduler.addresses["scheduler"]), name="pricing") as client,
        pickle.loads(pickle.dumps(client)) as copy,
    ):
        assert copy.name == "pricing"
