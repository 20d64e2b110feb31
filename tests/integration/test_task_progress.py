"""Progress that tasks report, with real processes: single tasks, maps, nested ones, tasks of jobs, and workers that die."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler import AsyncClient, Client, ProcessorDiedError, TaskProgress, current_task
from scaler_protocol.address import Address
from scaler_ui.feed import FIGURES_ONLY, MonitorFeed
from scaler_ui.model.progress import running_progress
from tests.integration.deployment import Deployment, Service, wait_for


def report(done: float, total: float | None, note: str, go: str) -> int:
    """Say how far it is, many times and last with the given values, and end when told."""
    for number in range(1000):
        current_task().report_progress(number, 100_000)
    current_task().report_progress(done, total, note)
    while not Path(go).exists():
        time.sleep(0.02)  # sleeps: the task takes until the test is done with it
    return os.getpid()


def report_item(item: tuple[float, str]) -> int:
    return report(item[0], 10, "item", item[1])


def parent(go: str) -> int:
    with Client() as client:
        future = client.submit(report, 2, 4, "child", go)
        current_task().report_progress(1, 2, "parent")
        wait_for("the child's progress", lambda: future.progress() == (2, 4, "child"))
        Path(go + ".seen").touch()
        return int(future.result())


def dies_first(mark: str, go: str) -> int:
    if not Path(mark).exists():
        current_task().report_progress(1, 10, "first attempt")
        Path(mark + ".new").write_text(str(os.getpid()))
        os.rename(mark + ".new", mark)
        time.sleep(60)  # sleeps: it is killed meanwhile
    return report(5, 10, "second attempt", go)


def wrong() -> str:
    try:
        current_task().report_progress("half")  # type: ignore[arg-type]
    except TypeError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def scheduler(module_deployment: Deployment) -> Service:
    scheduler = module_deployment.scheduler()
    module_deployment.workers(scheduler, count=3)
    return scheduler


@pytest.fixture(scope="module")
def address(scheduler: Service) -> str:
    return scheduler.address


@pytest.fixture(scope="module")
def feed(scheduler: Service) -> Iterator[MonitorFeed]:
    with MonitorFeed(Address.parse(str(scheduler.addresses["monitor"])), FIGURES_ONLY) as feed:
        yield feed


def wait_shown(feed: MonitorFeed, notes: set[str]) -> list[dict[str, Any]]:
    """Wait until monitors see the progress of tasks with these notes, and of no others; return it."""

    def seen() -> list[dict[str, Any]] | None:
        with feed.model() as model:
            found = None if model.snapshot is None else running_progress(model)
        return found if found is not None and {one["note"] for one in found} == notes else None

    found: list[dict[str, Any]] = []

    def look() -> bool:
        now = seen()
        found[:] = now or []
        return now is not None

    wait_for(f"progress with the notes {notes}", look)
    return found


def test_a_future_and_monitors_see_it(client: Client, feed: MonitorFeed, tmp_path: Path) -> None:
    go = tmp_path / "go"
    future = client.submit(report, 7, 10, "rows", str(go))
    wait_for("the last progress", lambda: future.progress() == TaskProgress(7.0, 10.0, "rows"))
    (one,) = wait_shown(feed, {"rows"})
    assert (one["number"], one["done"], one["total"], one["note"]) == (future.task_id, 7, 10, "rows")
    assert one["function"].endswith("report")
    go.touch()
    future.result(30)
    assert future.progress() == (7, 10, "rows")
    wait_shown(feed, set())


def test_items_of_maps_speak_for_their_chunk(client: Client, feed: MonitorFeed, tmp_path: Path) -> None:
    go = tmp_path / "go"
    results: list[int] = []
    items = [(number, str(go)) for number in range(3)]
    thread = threading.Thread(target=lambda: results.extend(client.map(report_item, items)))
    thread.start()
    try:
        wait_shown(feed, {"item"})
    finally:
        go.touch()
        thread.join(60)
    assert len(results) == 3


def test_nested_tasks_are_seen_by_the_task_that_waits_and_by_monitors(
    client: Client, feed: MonitorFeed, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    future = client.submit(parent, str(go))
    wait_for("the parent's view", lambda: Path(f"{go}.seen").exists())
    wait_for("the parent's progress", lambda: future.progress() == (1, 2, "parent"))
    wait_shown(feed, {"parent", "child"})
    go.touch()
    future.result(30)


def test_after_a_worker_has_died_the_next_attempt_speaks(client: Client, feed: MonitorFeed, tmp_path: Path) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    future = client.submit(dies_first, str(mark), str(go))
    wait_for("the first attempt", lambda: mark.exists() and future.progress() == (1, 10, "first attempt"))
    os.kill(int(mark.read_text()), signal.SIGKILL)
    wait_for("the second attempt", lambda: future.progress() == (5, 10, "second attempt"))
    wait_shown(feed, {"second attempt"})
    go.touch()
    future.result(30)


def test_a_task_that_dies_with_its_worker_is_not_shown_any_more(
    client: Client, feed: MonitorFeed, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    future = client.submit_verbose(dies_first, (str(mark), ""), idempotent=False)
    wait_for("the attempt", lambda: mark.exists() and future.progress() is not None)
    os.kill(int(mark.read_text()), signal.SIGKILL)
    with pytest.raises(ProcessorDiedError):
        future.result(30)
    wait_shown(feed, set())


def test_whoever_follows_a_job_sees_its_tasks(client: Client, address: str, feed: MonitorFeed, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with client.job("progressing") as job:
        own = client.submit(report, 3, 4, "in a job", str(go))
    with Client(address) as other:
        (followed,) = other.jobs()["progressing"].futures()
        wait_for("the job's progress", lambda: own.progress() == followed.progress() == (3, 4, "in a job"))
        (one,) = wait_shown(feed, {"in a job"})
        assert one["client_name"] == "job progressing"
        go.touch()
        followed.result(30)
    job.forget()


async def _asynchronously(address: str, go: Path) -> None:
    async with AsyncClient(address) as client:
        future = client.submit(report, 1, None, "", str(go))
        wait_for("the progress", lambda: future.progress() == TaskProgress(1.0, None, ""))
        await asyncio.to_thread(go.touch)
        await future


def test_asynchronous_futures_show_it_too(scheduler: Service, tmp_path: Path) -> None:
    asyncio.run(_asynchronously(scheduler.address, tmp_path / "go"))


def test_what_is_no_amount_raises_in_the_task(client: Client) -> None:
    assert client.submit(wrong).result(30) == "done must be a number, not 'half'"
