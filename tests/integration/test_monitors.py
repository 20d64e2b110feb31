"""What monitors show of a real cluster under load, compared with what the test itself has counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from scaler import Client, ScalerFuture
from tests.integration import functions, plain_http
from tests.integration.deployment import Deployment, Service, wait_for

GOOD, BAD = 600, 25
OBJECT_BYTES = 1_000_000

WATCH_SECONDS = float(os.environ.get("SCALER_SOAK_SECONDS", "240"))
CUT_OFF_SECONDS = 40.0
"""ZeroMQ's heartbeats cut a stopped monitor off after 25 to 30 s."""
HELD_BYTES_MAX = 16 * 1024**2
"""For what waits until then: 50 to 100 messages are published, most of them below 100 KB."""
GROWTH_BYTES_MAX = 1024**2
"""Beyond that of an equally long time without monitors."""


def fail_always(number: int) -> None:
    raise LookupError(f"task {number} has nothing to look up")


def fail_on_tens(number: int) -> int:
    if number % 10 == 0:
        raise ValueError(f"item {number} is a ten")
    return number


def pause(seconds: float) -> None:
    time.sleep(seconds)  # sleeps: the task takes so long


def pause_until_there(path: str) -> None:
    wait_for(path, lambda: Path(path).exists(), 60)


def start_ui(deployment: Deployment, scheduler: Service, *arguments: str) -> str:
    ui = deployment.start("scaler_ui.web", str(scheduler.addresses["monitor"]), "--port=0", *arguments)
    return str(ui.addresses["webui"]).replace("tcp", "http")


def get(base: str, path: str) -> Any:
    return plain_http.get(base + path).json()


def wait_live(base: str) -> None:
    wait_for("scaler_ui hears the scheduler", lambda: get(base, "/api/overview")["connection"] == "live")


def test_what_pages_say_is_what_happened(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    client = deployment.client(scheduler)
    reference = client.send_object(b"x" * OBJECT_BYTES, name="letters")
    futures: list[ScalerFuture] = [client.submit(functions.square, number) for number in range(GOOD)]
    futures += [client.submit(fail_always, number) for number in range(BAD)]
    ended = Counter(type(future.exception(60)).__name__ for future in futures)
    assert ended == {"NoneType": GOOD, "LookupError": BAD}

    def counted() -> bool:
        tasks = get(base, "/api/overview")["tasks"]
        return bool(tasks["success"] == GOOD and tasks["failed"] == BAD)

    wait_for("the counts are those of the test", counted)
    wait_for("every task has a bar", lambda: get(base, "/api/overview")["bars"] == GOOD + BAD)
    shown = get(base, "/api/overview")
    assert shown["tasks"] == {"unassigned": 0, "running": 0, "success": GOOD, "failed": BAD, "canceled": 0}
    assert shown["failures"] == BAD
    assert shown["omitted_events"] == 0
    wait_for("the object is counted", lambda: get(base, "/api/overview")["objects"]["count"] == 1)
    wait_for("it is counted for its client", lambda: get(base, "/api/clients")[0]["object_count"] == 1)
    assert OBJECT_BYTES < get(base, "/api/overview")["objects"]["bytes"] < OBJECT_BYTES + 10_000
    (listed,) = get(base, "/api/objects")
    assert (listed["name"], listed["size_bytes"], listed["tasks"]) == ("letters", reference.size_bytes, 0)
    assert listed["owner"] == client.identity.hex()
    assert reference.object_id.hex().startswith(listed["id"])
    assert reference.object_id.hex() not in str(get(base, "/api/everything"))
    assert get(base, "/api/tasks")["states"]["success"] == GOOD
    failures = get(base, "/api/failures?limit=1000")
    texts = {failure["text"] for failure in failures}
    assert len(failures) == BAD
    assert any("task 7 has nothing to look up" in text for text in texts)
    assert "in fail_always" in failures[0]["traceback"]
    (shown_client,) = get(base, "/api/clients")
    assert (shown_client["finished"], shown_client["failed"], shown_client["object_count"]) == (GOOD, BAD, 1)
    metrics = plain_http.get(base + "/metrics").text.splitlines()
    assert f'scaler_tasks_finished_total{{result="success"}} {float(GOOD)}' in metrics
    assert f'scaler_tasks_finished_total{{result="failed"}} {float(BAD)}' in metrics
    trace = get(base, "/api/trace")
    assert sum(event["ph"] == "X" for event in trace["traceEvents"]) == GOOD + BAD
    once = top_once(scheduler)
    assert once["task_manager"] == shown["tasks"]
    assert [len(once["workers"]), len(once["failures"])] == [2, BAD]
    del reference


def test_failed_items_of_a_map_are_shown(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    client = deployment.client(scheduler)
    failed = 0
    # A map ends with its first failure; so several, whose only item that is run for certain is a ten.
    for ten in (10, 20, 30):
        try:
            client.map(fail_on_tens, [ten])
        except ValueError:
            failed += 1
    wait_for("they are counted", lambda: get(base, "/api/overview").get("failed_items") == failed)
    assert failed == 3
    (shown,) = get(base, "/api/clients")
    assert (shown["failed_items"], shown["failed"]) == (3, 0)
    wait_for("their errors are shown", lambda: len(get(base, "/api/failures")) == 3)
    last = get(base, "/api/failures")[0]
    assert (last["kind"], last["text"], last["items"]) == ("ValueError", "item 30 is a ten", 1)
    assert "in fail_on_tens" in last["traceback"]
    assert "scaler_items_failed_total 3.0" in plain_http.get(base + "/metrics").text
    client.map(fail_on_tens, range(1, 10))
    assert get(base, "/api/overview")["failed_items"] == 3


def test_a_client_traces_its_own_tasks(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    client, other = deployment.client(scheduler), deployment.client(scheduler)
    file = tmp_path / "trace.json"
    with client.trace(file):
        futures: list[ScalerFuture] = [client.submit(functions.square, number) for number in range(100)]
        futures += [client.submit(fail_always, 1), client.submit(pause, 0.3)]
        strangers = [other.submit(functions.square, number) for number in range(50)]
        for future in (*futures, *strangers):
            future.exception(60)
    trace = json.loads(file.read_text())
    bars = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert sorted(bar["args"]["task"] for bar in bars) == sorted(future.task_id for future in futures)
    assert Counter(bar["cat"] for bar in bars) == {"success": 101, "failed": 1}
    (slept,) = [bar for bar in bars if bar["name"].endswith("pause")]
    assert 300_000 <= slept["dur"] < 30_000_000
    workers = {bar["args"]["worker"] for bar in bars}
    assert len(workers) == 2
    assert workers == {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
    assert all(psutil.pid_exists(bar["args"]["pid"]) and bar["args"]["waited_us"] >= 0 for bar in bars)


def test_a_trace_that_cannot_be_written_costs_no_work(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    with (
        Client(scheduler.address, timeout_seconds=3) as client,
        pytest.raises(FileNotFoundError),
        client.trace(tmp_path / "no folder" / "trace.json"),
    ):
        pytest.fail("it was entered")


def test_unfinished_tasks_and_what_runs_now_are_shown_and_dumped(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "-his", "0.5", count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    client = deployment.client(scheduler)
    futures = [client.submit(pause, 30.0) for _ in range(10)]

    def running() -> list[Any]:
        return [worker for worker in get(base, "/api/workers")["workers"] if worker["function"].endswith("pause")]

    wait_for("both workers are shown to run a task", lambda: len(running()) == 2)

    def unfinished() -> int:
        shown = get(base, "/api/overview")["tasks"]
        return int(shown["unassigned"] + shown["running"])

    # The first two may be seen to run before the scheduler has read of all ten.
    wait_for("all ten are counted", lambda: unfinished() == 10)
    number = running()[0]["task"]
    told = {task["number"]: task["state"] for task in get(base, "/api/tasks")["tasks"]}
    assert told[number] == "assigned"
    file = tmp_path / "dump.json"
    monitor = str(scheduler.addresses["monitor"])
    subprocess.run(
        [sys.executable, "-m", "scaler_ui.dump", monitor, "-o", str(file), "--tasks", str(number)],
        timeout=30,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    dump = json.loads(file.read_text())
    (asked,) = dump["tasks_asked_for"]
    assert asked["unfinished"][0]["state"] == "assigned"
    assert asked["unfinished"][0]["function"].endswith("pause")
    assert dump["scheduler"]["clients"][0]["unfinished"] == 10
    assert any("scheduler listens on" in line["text"] for line in dump["log"])
    client.clear()
    assert all(future.cancelled() or future.done() for future in futures)
    wait_for("all ten are cancelled", lambda: get(base, "/api/overview")["tasks"]["canceled"] == 10)


def test_a_monitor_that_stands_still_costs_the_scheduler_no_memory(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    ui = deployment.services[-1]
    client = deployment.client(scheduler)
    client.map(functions.square, range(10_000))
    [future.result(60) for future in [client.submit(functions.square, number) for number in range(5_000)]]
    os.kill(ui.pid, signal.SIGSTOP)
    try:
        process = psutil.Process(scheduler.pid)
        sizes = []
        for _ in range(6):
            futures = [client.submit(functions.square, number) for number in range(5_000)]
            assert [future.result(60) for future in futures] == [number * number for number in range(5_000)]
            sizes.append(process.memory_info().rss)
    finally:
        os.kill(ui.pid, signal.SIGCONT)
    assert sizes[-1] - sizes[1] < 16 * 1024**2
    wait_for("it counts right afterwards", lambda: get(base, "/api/overview")["tasks"]["success"] >= 35_000)


def test_it_finds_a_scheduler_that_was_killed_and_started_again(deployment: Deployment) -> None:
    # Its successor would take the port next to its own for it, which somebody may have.
    storage = deployment.storage().address
    scheduler = deployment.scheduler("-osa", storage)
    base = start_ui(deployment, scheduler, "--timeout=2")
    wait_live(base)
    address, monitor = scheduler.address, str(scheduler.addresses["monitor"])
    scheduler.kill()
    wait_for("the silence is shown", lambda: get(base, "/api/overview")["connection"] == "silent")
    deployment.scheduler("-osa", storage, "--monitor-address", monitor, address=address)
    wait_for("it is live again", lambda: get(base, "/api/overview")["connection"] == "live")
    assert get(base, "/api/overview")["restarts"] == 1


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_stopped_monitors_leave_the_scheduler_s_memory_flat(deployment: Deployment) -> None:
    """What waits for them has a bound, and stays below it; after that the scheduler grows no more than without monitors."""
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=2)
    client = deployment.client(scheduler)
    done = 0

    def growth_in(seconds: float) -> int:
        """Work for so long, with pauses in which others can; return by how many bytes the scheduler's own memory grew."""
        nonlocal done
        before = own_memory()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            futures = [client.submit(functions.square, number) for number in range(400)]
            assert [future.result(60) for future in futures] == [number * number for number in range(400)]
            done += len(futures)
            time.sleep(0.1)  # sleeps: the rate of the load
        return own_memory() - before

    def own_memory() -> int:
        return int(psutil.Process(scheduler.pid).memory_full_info().uss)

    # Caches, buffers and estimates are made in the first minute.
    growth_in(60)
    alone = growth_in(WATCH_SECONDS)
    pages = [start_ui(deployment, scheduler) for _ in range(4)]
    # The first one goes on, so that there is something to be missed.
    to_stop = deployment.services[-len(pages) + 1 :]
    for base in pages:
        wait_live(base)
    watched = growth_in(WATCH_SECONDS)
    for monitor in to_stop:
        os.kill(monitor.pid, signal.SIGSTOP)
    try:
        held = growth_in(CUT_OFF_SECONDS)
        stopped = growth_in(WATCH_SECONDS)
    finally:
        for monitor in to_stop:
            os.kill(monitor.pid, signal.SIGCONT)
    figures = {"alone": alone, "watched": watched, "held": held, "stopped": stopped}
    print({name: f"{size / 1024**2:+.2f} MiB" for name, size in figures.items()}, f"{done:,} tasks")

    def missed(base: str) -> int:
        """How many messages a page missed, once it shows the truth again."""
        wait_for("it counts right", lambda: get(base, "/api/overview")["tasks"]["success"] == done)
        wait_live(base)
        return int(get(base, "/api/overview")["missed_messages"])

    unseen = [missed(base) for base in pages]
    assert unseen[0] == 0
    assert min(unseen[1:]) >= WATCH_SECONDS
    assert held < HELD_BYTES_MAX
    assert max(watched, stopped) < max(0, alone) + GROWTH_BYTES_MAX


@pytest.mark.soak
def test_an_hour_of_traffic_leaves_the_memory_of_the_ui_flat() -> None:
    """An hour at full rate, fed as fast as the model takes it."""
    script = Path(__file__).with_name("hour_of_monitoring.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=1_800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def pause_beside_children(seconds: float) -> None:
    client = Client()
    for future in [client.submit(pause, seconds) for _ in range(2)]:
        future.result()


def top_once(scheduler: Service) -> Any:
    top = subprocess.run(
        [sys.executable, "-m", "scaler_ui.top", str(scheduler.addresses["monitor"]), "--once", "--json"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(top.stdout)


def test_the_first_figures_count_the_objects_there_are(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    client = deployment.client(scheduler)
    references = [client.send_object(os.urandom(OBJECT_BYTES)) for _ in range(3)]
    # Nobody has listened before, and the store has not been asked.
    assert top_once(scheduler)["objects"]["count"] == 3
    client.clear()
    del references
    # It answers with what it holds when it is asked, which may be before it has heard of this.
    wait_for("the store to have dropped them", lambda: top_once(scheduler)["objects"]["count"] == 0)


def test_objects_beyond_the_largest_are_listed_a_page_at_a_time(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    base = start_ui(deployment, scheduler)
    client, other = deployment.client(scheduler), deployment.client(scheduler)
    kept = [client.send_object(bytes(1_000 + number), name=f"object {number:03}") for number in range(130)]
    kept.append(other.send_object(b"quotes", name="Quotes of May"))
    wait_for("all objects are counted", lambda: get(base, "/api/overview").get("objects", {}).get("count") == len(kept))

    def page(**asked: Any) -> tuple[int, list[str]]:
        def answer() -> Any:
            shown = plain_http.get(f"{base}/api/objects/page", params=asked).json()
            return shown["objects"] is not None and shown

        found = wait_for("object storage answers", answer)
        assert all(len(one["id"]) == 8 for one in found["objects"])
        assert found["looked_at"] == len(kept)
        return found["matching"], [one["name"] for one in found["objects"]]

    assert page(sort="-size_bytes", offset=100) == (
        131,
        [f"object {n:03}" for n in range(29, -1, -1)] + ["Quotes of May"],
    )
    assert page(sort="name", offset=129) == (131, ["object 129", "Quotes of May"])
    assert page(search="MAY quotes") == (1, ["Quotes of May"])
    owners = {one["owner_name"]: one["owner"] for one in get(base, "/api/objects/page?search=may")["objects"]}
    (owner,) = owners.values()
    assert page(owner=owner) == (1, ["Quotes of May"])
    assert page(owner="00" * 15 + "01") == (0, [])


def test_busy_workers_are_seen_to_be_busy_after_nested_tasks_and_deaths(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "-his", "0.5", count=3)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    client = deployment.client(scheduler)
    # Each of these leaves a processor behind.
    for future in [client.submit(pause_beside_children, 0.1) for _ in range(6)]:
        future.result(60)
    with pytest.raises(Exception, match="attempt 3 of 3"):
        client.submit(functions.kill_self).result(60)
    failures = wait_for("the failure is shown", lambda: get(base, "/api/failures?limit=10"))
    assert [failure["attempt"] for failure in failures] == [3]
    before = get(base, "/api/overview")["bars"]
    futures = [client.submit(pause_until_there, str(tmp_path / "seen")) for _ in range(3)]

    def all_busy() -> bool:
        workers = get(base, "/api/workers")["workers"]
        # With these tasks: what is shown may still be what ran before.
        mine = {worker["task"] for worker in workers} == {future.number for future in futures}
        return mine and [worker["state"] for worker in workers] == ["running"] * 3

    wait_for("all three workers are shown to be busy", all_busy)
    shown = get(base, "/api/workers")["workers"]
    assert len({worker["task"] for worker in shown}) == 3
    assert len({worker["pid"] for worker in shown}) == 3
    table = top_once(scheduler)["workers"]
    assert [worker["sent"] - worker["queued"] for worker in table] == [1, 1, 1]
    (tmp_path / "seen").touch()
    for future in futures:
        future.result(60)
    wait_for("the bars", lambda: get(base, "/api/overview")["bars"] == before + 3)
    bars = [event for event in get(base, "/api/trace")["traceEvents"] if event["ph"] == "X"]
    assert len({(bar["pid"], bar["tid"]) for bar in sorted(bars, key=lambda bar: bar["ts"] + bar["dur"])[-3:]}) == 3
