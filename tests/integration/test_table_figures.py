"""Every figure of the tables against a count of the test's own: work that succeeds, fails, dies and is cancelled."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from typing import Any

import pytest

from scaler import Client
from scaler_protocol.runtime.names import user_name
from tests.integration import plain_http
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.test_cancel_from_pages import Pages, sleep_for_long, square

GOOD, BAD, DEAD, CANCELED, NESTED, MAPPED = 40, 7, 2, 5, 6, 12
OBJECT_BYTES = 2 * 1024**2
WORKERS = 2


def refuse(number: int) -> int:
    raise ValueError(f"not {number}")


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def submit_others(count: int) -> int:
    with Client() as client:
        return sum(client.submit(square, number).result() for number in range(count))


def settled(pages: Pages, look: Any, expected: Any) -> None:
    """Compare until both are equal: figures come once a second."""
    seen: list[Any] = [None]

    def same() -> bool:
        seen[0] = look()
        return bool(seen[0] == expected)

    try:
        wait_for("the pages say what was counted", same)
    except AssertionError:
        assert seen[0] == expected
        raise


@pytest.fixture
def scheduler(deployment: Deployment) -> Service:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "-his", "0.5", "--processor-memory-limit-bytes", "4GiB", count=WORKERS)
    return scheduler


@pytest.mark.without_keys("its pages and clients have none")
def test_tables_say_what_the_test_has_counted(deployment: Deployment, scheduler: Service) -> None:
    pages = Pages(deployment, scheduler)
    client = deployment.client(scheduler, name="ada")
    pages.hears(1)
    reference = client.send_object(b"q" * OBJECT_BYTES, name="quotes")
    good = [client.submit(square, number) for number in range(GOOD)]
    bad = [client.submit(refuse, number) for number in range(BAD)]
    assert [future.result(60) for future in good] == [number * number for number in range(GOOD)]
    assert all(isinstance(future.exception(60), ValueError) for future in bad)
    dead = [client.submit(die, number) for number in range(DEAD)]
    assert all(future.exception(60) is not None for future in dead)
    assert client.submit(submit_others, NESTED).result(60) == sum(number * number for number in range(NESTED))
    mapped = client.map(square, range(MAPPED))
    assert len(mapped) == MAPPED
    held = [client.submit(sleep_for_long, number) for number in range(CANCELED)]
    assert all(future.cancel(timeout=30) for future in held)

    def everything() -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = pages.get(f"/api/tasks?sort=number&limit=7&after={cursor}")
            tasks += page["tasks"]
            if not page["next"]:
                return tasks
            cursor = page["next"]

    # Tasks, page by page; a map is as many tasks as it has chunks, which are all that is left of these.
    by_function = {"square": GOOD + NESTED, "refuse": BAD, "die": DEAD, "submit_others": 1, "sleep_for_long": CANCELED}

    def functions() -> Counter[str]:
        return Counter(task["function"].rpartition(".")[2] for task in everything())

    wait_for("all tasks are shown", lambda: functions()["sleep_for_long"] == CANCELED)
    seen = functions()
    chunks = seen["square"] - by_function["square"]
    assert 1 <= chunks <= MAPPED
    assert seen == Counter(by_function) + Counter(square=chunks)
    settled(
        pages,
        lambda: Counter(task["state"] for task in everything()),
        {"success": GOOD + NESTED + 1 + chunks, "failed": BAD + DEAD, "canceled": CANCELED},
    )
    settled(
        pages,
        lambda: pages.get("/api/overview")["tasks"],
        {
            "unassigned": 0,
            "running": 0,
            "success": GOOD + NESTED + 1 + chunks,
            "failed": BAD + DEAD,
            "canceled": CANCELED,
        },
    )
    failed = {task["number"] for task in everything() if task["state"] == "failed"}
    assert len(failed) == BAD + DEAD
    workers = {task["worker"] for task in everything() if task["function"].endswith("square")}
    assert workers <= {worker["name"] for worker in pages.get("/api/workers")["workers"]}

    # The client, without what its tasks have submitted, which is another's.
    def ada() -> dict[str, Any]:
        (row,) = (row for row in pages.get("/api/clients") if row["name"] == "ada")
        names = ("user", "hostname", "pid", "finished", "failed", "waiting", "running", "object_count", "object_bytes")
        return {name: row[name] for name in names}

    settled(
        pages,
        ada,
        {
            "user": user_name(),
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "finished": GOOD + 1 + chunks,
            "failed": BAD + DEAD,
            "waiting": 0,
            "running": 0,
            "object_count": 1,
            "object_bytes": ada()["object_bytes"],
        },
    )
    assert OBJECT_BYTES <= ada()["object_bytes"] < OBJECT_BYTES + 1024
    (stored,) = (one for one in pages.get("/api/objects") if one["name"] == "quotes")
    assert stored["owner_name"] == "ada"
    assert OBJECT_BYTES <= stored["size_bytes"] < OBJECT_BYTES + 1024

    # The host: the processes that run on it, as the system knows them.
    host_name = socket.gethostname()

    def host_at_rest() -> dict[str, Any] | None:
        """The host, once its agent has said how it is since the last task was cancelled."""
        (host,) = pages.get(f"/api/hosts?open={host_name}")["hosts"]
        living = {pid for service in deployment.services for pid in service.children()}
        at_rest = host["running"] == host["tasks"] == 0 and {member["pid"] for member in host["members"]} <= living
        return host if at_rest else None

    host = wait_for("the host's figures at rest, of processes that live", host_at_rest)
    assert host is not None
    assert (host["name"], host["workers"]) == (host_name, WORKERS)
    assert len(host["members"]) == WORKERS
    assert all(member["limit_bytes"] == 4 * 1024**3 for member in host["members"])
    assert host["rss_bytes"] == sum(member["rss_bytes"] for member in host["members"])
    # What died was tried as often as the scheduler tries, each time in a process that ended with it.
    attempts = 3
    replaced = sum(member["replaced"] for member in host["members"])
    assert 1 <= replaced <= DEAD * attempts + CANCELED
    assert sum(member["ended"] for member in host["members"]) >= GOOD + BAD + NESTED + chunks

    # Groups of errors, and functions.
    errors = {
        (row["kind"], row["function"].rpartition(".")[2]): row["count"] for row in pages.get("/api/errors")["groups"]
    }
    assert errors["ValueError", "refuse"] == BAD
    ended = {row["name"].rpartition(".")[2]: row for row in pages.get("/api/functions")["functions"]}
    assert ended["square"]["ended"] == GOOD + NESTED + chunks
    assert ended["refuse"]["failed"] == BAD
    assert ended["sleep_for_long"]["canceled"] == CANCELED
    assert plain_http.get(f"{pages.base}/api/tasks?sort=nothing").status_code == 422
    reference.release()
