"""Tasks are cancelled from the pages: the road to the scheduler, what their clients see, and who is refused."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import httpx
import pytest

from scaler import Client, ScalerFuture
from scaler_protocol.testing.security_directory import make_security_directory
from tests.integration import plain_http
from tests.integration.deployment import Deployment, Service, wait_for


def sleep_for_long(number: int) -> int:
    time.sleep(60)  # sleeps: it is cancelled meanwhile
    return number


def square(number: int) -> int:
    return number * number


class Pages:
    """A scheduler's pages."""

    def __init__(self, deployment: Deployment, scheduler: Service, *flags: str) -> None:
        ui = deployment.start("scaler_ui.web", str(scheduler.addresses["monitor"]), "--port=0", *flags)
        self.base = str(ui.addresses["webui"]).replace("tcp", "http")
        self.headers: dict[str, str] = {}

    def get(self, path: str) -> Any:
        return plain_http.get(f"{self.base}{path}", headers=self.headers).json()

    def hears(self, clients: int) -> None:
        wait_for("the pages know the clients", lambda: self.get("/api/overview").get("clients") == clients)

    def cancel(self, **which: Any) -> httpx.Response:
        return plain_http.post(f"{self.base}/api/cancel", json=which, headers=self.headers)


def wait_running(pages: Pages, count: int) -> None:
    wait_for(f"{count} tasks run", lambda: len(pages.get("/api/tasks?state=assigned")["tasks"]) >= count)


def wait_unfinished(pages: Pages, count: int) -> None:
    """Wait until the pages know of so many unfinished tasks, and so does the scheduler, and two of them run."""

    def unfinished() -> int:
        return sum(task["state"] in ("submitted", "assigned") for task in pages.get("/api/tasks")["tasks"])

    wait_for(f"{count} unfinished tasks are known", lambda: unfinished() == count)
    wait_running(pages, 2)


def told(future: ScalerFuture) -> str:
    with pytest.raises(CancelledError) as caught:
        future.result(timeout=30)
    return str(caught.value)


@pytest.fixture
def scheduler(deployment: Deployment) -> Service:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    return scheduler


@pytest.mark.without_keys("it says what happens without keys; with keys there is a test of its own")
def test_a_task_a_client_a_function_and_a_label(deployment: Deployment, scheduler: Service) -> None:
    pages = Pages(deployment, scheduler)
    ada, bob = deployment.client(scheduler, name="ada"), deployment.client(scheduler, name="bob")
    pages.hears(2)
    ids = {client["name"]: client["id"] for client in pages.get("/api/clients")}
    long = [ada.submit(sleep_for_long, number) for number in range(6)]
    wait_running(pages, 2)
    wait_for("all are known", lambda: pages.get("/api/tasks")["known"] == 6)
    numbers = sorted(task["number"] for task in pages.get("/api/tasks")["tasks"])

    # One that runs, and one that waits.
    for number in (numbers[0], numbers[-1]):
        assert pages.cancel(client=ids["ada"], number=number).json() == {"canceled": 1}
    for future in (long[0], long[-1]):
        assert told(future).endswith("was cancelled by an operator")
        assert future.cancelled()
    # Others go on.
    short = bob.submit(square, 3)

    labelled = bob.with_options(label="night").submit(sleep_for_long, 1)
    wait_for("the label is known", lambda: pages.get("/api/tasks?search=night")["matching"] == 1)
    assert pages.cancel(label="night").json() == {"canceled": 1}
    assert "cancelled by an operator" in told(labelled)

    function = pages.get("/api/tasks?search=sleep_for_long")["tasks"][0]["function"]
    assert pages.cancel(function=function).json() == {"canceled": 4}
    assert all("cancelled by an operator" in told(future) for future in long[1:-1])
    assert (ada.submit(square, 4).result(timeout=30), short.result(timeout=30)) == (16, 9)

    again = [bob.submit(sleep_for_long, number) for number in range(5)]
    wait_unfinished(pages, 5)
    assert pages.cancel(client=ids["bob"]).json() == {"canceled": 5}
    assert all("cancelled by an operator" in told(future) for future in again)
    assert bob.map(square, range(20)) == [number * number for number in range(20)]
    wait_for("they are counted", lambda: pages.get("/api/overview")["tasks"]["canceled"] == 12)


@pytest.mark.without_keys("it says what happens without keys")
def test_whoever_may_not(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--protected")
    pages = Pages(deployment, scheduler)
    client = deployment.client(scheduler)
    pages.hears(1)
    future = client.submit(square, 3)
    refused = pages.cancel(function="square")
    assert refused.status_code == 403
    assert "protected" in refused.json()["detail"]
    assert "protected" in pages.get("/api/overview")["cancel_refusal"]
    # A form of another site, and a request that says it is one's.
    form = plain_http.post(
        f"{pages.base}/api/cancel", content=b'{"function": "square"}', headers={"content-type": "text/plain"}
    )
    assert form.status_code in (415, 422)
    for header in ({"origin": "http://elsewhere.example"}, {"sec-fetch-site": "cross-site"}):
        answer = plain_http.post(f"{pages.base}/api/cancel", json={"function": "square"}, headers=header)
        assert answer.status_code == 403
        assert "other sites" in answer.json()["error"]
    assert pages.cancel().status_code == 422
    assert pages.cancel(number=3).status_code == 422
    assert not future.done()
    client.clear()


@pytest.mark.without_keys("it says what happens without keys")
def test_the_token_of_the_pages_is_needed(deployment: Deployment, scheduler: Service, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-s3cret-s3cret")
    (tmp_path / "token").chmod(0o600)
    pages = Pages(deployment, scheduler, "--token-file", str(tmp_path / "token"))
    client = deployment.client(scheduler)
    assert pages.cancel(function="anything").status_code == 401
    pages.headers = {"authorization": "Bearer s3cret-s3cret-s3cret"}
    # What happens before the pages listen is not told to them.
    pages.hears(1)
    futures = [client.submit(sleep_for_long, number) for number in range(3)]
    wait_unfinished(pages, 3)
    (owner,) = {task["client"] for task in pages.get("/api/tasks")["tasks"]}
    assert pages.cancel(client=owner).json() == {"canceled": 3}
    assert all("operator" in told(future) for future in futures)


@pytest.mark.without_keys("it chooses keys itself")
def test_with_keys_only_pages_with_the_key_of_an_operator_cancel(deployment: Deployment, tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "--security-dir", str(keys))
    watching = make_copy(keys, tmp_path / "watching", without="operator.key")
    pages = Pages(deployment, scheduler, "--security-dir", str(watching))
    operators = Pages(deployment, scheduler, "--security-dir", str(keys))
    client = Client(scheduler.address, security=keys)
    deployment.clients.append(client)
    pages.hears(1)
    operators.hears(1)
    futures = [client.submit(sleep_for_long, number) for number in range(3)]
    wait_unfinished(pages, 3)
    wait_running(operators, 2)
    (owner,) = {task["client"] for task in pages.get("/api/tasks")["tasks"]}
    refused = pages.cancel(client=owner)
    assert refused.status_code == 403
    assert "operator" in refused.json()["detail"]
    assert not any(future.done() for future in futures)
    assert operators.cancel(client=owner).json() == {"canceled": 3}
    assert all("operator" in told(future) for future in futures)


def make_copy(keys: Path, path: Path, *, without: str) -> Path:
    path.mkdir(mode=0o700)
    for file in keys.iterdir():
        if file.is_file() and file.name != without:
            copy = path / file.name
            copy.write_bytes(file.read_bytes())
            copy.chmod(file.stat().st_mode & 0o777)
    return path
