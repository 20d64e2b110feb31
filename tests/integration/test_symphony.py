"""The Symphony adapter with a real scheduler and client, over a stand-in for IBM's soamapi: see
packages/scaler-adapters/tests/symphony_stand_in. The service is the one of Scaler's documentation, unchanged."""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from scaler import Client, Retries
from scaler.errors import ProcessorDiedError, TaskNotRunError, TaskTimeoutError
from scaler_protocol.monitoring.profile_tree import collapsed
from scaler_ui.profiles import calls_of, take_profile
from tests.integration import plain_http, profiled
from tests.integration.deployment import ROOT, Deployment, Service, wait_for
from tests.integration.functions import fail, keyword_only, mark_and_sleep, mark_and_wait, sleep_and_return, square
from tests.integration.main_program import PROGRAM_SECONDS, run_program
from tests.integration.serializers import Reversed

STAND_IN = ROOT / "packages" / "scaler-adapters" / "tests" / "symphony_stand_in"
BASE_CONCURRENCY = 2
INSTANCES = 5
"""Service processes: more than the base concurrency, because nested tasks exceed it."""


class Symphony:
    """A scheduler, an application in the stand-in, and the adapter between them."""

    def __init__(self, deployment: Deployment, folder: Path, *flags: str, instances: int = INSTANCES) -> None:
        self.deployment = deployment
        self.application = folder / "applications" / "ScalerService"
        self.application.mkdir(parents=True)
        (self.application / "service.py").write_text((STAND_IN / "service.txt").read_text())
        (self.application / "instances").write_text(str(instances))
        self.scheduler = deployment.scheduler("--monitor-address=tcp://127.0.0.1:0")
        self.flags = flags
        self.adapter = self.start_adapter()
        self.client = deployment.client(self.scheduler)

    def start_adapter(self) -> Service:
        return self.deployment.start(
            "scaler_adapters.symphony",
            self.scheduler.address,
            "--service-name=ScalerService",
            f"--base-concurrency={BASE_CONCURRENCY}",
            "--port=0",
            *self.flags,
            PYTHONPATH=os.pathsep.join([str(STAND_IN), str(ROOT)]),
            SOAM_STAND_IN_APPLICATIONS=str(self.application.parent),
        )

    @property
    def url(self) -> str:
        return str(self.adapter.addresses["webhook"]).replace("tcp", "http")


@pytest.fixture(scope="module")
def symphony(module_deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Symphony:
    return Symphony(module_deployment, tmp_path_factory.mktemp("symphony"))


def fibonacci(client: Client, n: int) -> int:
    if n < 2:
        return n
    a, b = client.submit(fibonacci, client, n - 1), client.submit(fibonacci, client, n - 2)
    left: int = a.result()
    right: int = b.result()
    return left + right


def nested_without_address(n: int) -> int:
    with Client() as client:
        result: int = client.submit(square, n).result()
        return result


def exit_once(marker: str) -> int:
    path = Path(marker)
    if not path.exists():
        path.write_text("")
        os._exit(7)
    return 1


def nested_with_a_large_argument(mebibytes: int, started: str, go: str) -> tuple[int, int]:
    """Return this process's id, and how long its task has found the large value to be."""
    mark_and_wait(started, go)
    with Client() as client:
        length: int = client.submit(len, os.urandom(mebibytes << 20)).result()
        return os.getpid(), length


def mark(path: str, seconds: float) -> None:
    (Path(path) / f"{time.monotonic()}-on").touch()
    time.sleep(seconds)  # sleeps: the task takes so long
    (Path(path) / f"{time.monotonic()}-off").touch()


def test_tasks_run_in_the_service(symphony: Symphony) -> None:
    client = symphony.client
    assert client.submit(square, 3).result(timeout=30) == 9
    assert client.submit(keyword_only, value=2, other=3).result(timeout=30) == (2, {"other": 3})
    assert client.submit(max, 4, 7).result(timeout=30) == 7
    pid = client.submit(os.getpid).result(timeout=30)
    assert pid in symphony.adapter.children()


def test_map_keeps_order_and_starmap_spreads(symphony: Symphony) -> None:
    assert symphony.client.map(square, range(50)) == [number * number for number in range(50)]
    assert symphony.client.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]


def test_graphs_and_sent_objects(symphony: Symphony) -> None:
    client = symphony.client
    reference = client.send_object(list(range(100_000)))
    assert client.submit(sum, reference).result(timeout=30) == sum(range(100_000))
    graph = {"a": 2, "b": (square, "a"), "c": (sum, ["a", "b", (square, "b")])}
    assert client.get(graph, ["c", "b"]) == {"c": 22, "b": 4}


def test_large_arguments_and_results(symphony: Symphony) -> None:
    data = os.urandom(500_000)
    assert symphony.client.submit(lambda value: value[::-1], data).result(timeout=30) == data[::-1]


def test_a_serializer_of_ones_own(symphony: Symphony) -> None:
    with Client(address=symphony.scheduler.address, serializer=Reversed()) as client:
        assert client.submit(lambda a, b: a + b, 1, b=2).result(timeout=30) == 3
        assert client.map(square, [1, 2, 3]) == [1, 4, 9]


def test_errors_arrive_as_themselves(symphony: Symphony) -> None:
    future = symphony.client.submit(fail, "on purpose")
    with pytest.raises(ValueError, match="on purpose") as raised:
        future.result(timeout=30)
    assert any("functions.py" in str(entry.path) for entry in raised.traceback)
    with pytest.raises(ZeroDivisionError):
        symphony.client.map(lambda n: 1 // n, [1, 0, 2])
    assert symphony.client.submit(square, 2).result(timeout=30) == 4


def test_a_service_process_that_dies_is_tried_again(symphony: Symphony, tmp_path: Path) -> None:
    assert symphony.client.submit(exit_once, str(tmp_path / "marker")).result(timeout=30) == 1
    with pytest.raises(ProcessorDiedError, match=r"attempt 3 of 3.*exited with status 7"):
        symphony.client.submit(os._exit, 7).result(timeout=40)


def fail_until(marker: str, times: int) -> int:
    """Raise so many times, then return how often it ran."""
    with open(marker, "a", buffering=1) as file:
        file.write("x")
    runs = os.path.getsize(marker)
    if runs <= times:
        raise ConnectionError(f"run {runs}")
    return runs


def test_options_of_calls_are_kept_or_refused(symphony: Symphony, tmp_path: Path) -> None:
    client = symphony.client
    retried = client.with_options(retries=Retries(2, on=ConnectionError))
    assert retried.submit(fail_until, str(tmp_path / "a"), 2).result(timeout=40) == 3
    with pytest.raises(ConnectionError, match="run 3"):
        retried.submit(fail_until, str(tmp_path / "b"), 9).result(timeout=40)
    assert retried.starmap(fail_until, [(str(tmp_path / "c"), 1)]) == [2]
    with pytest.raises(ConnectionError, match="run 1"):
        client.submit_verbose(fail_until, (str(tmp_path / "d"), 9), retries=Retries(2, on=KeyError)).result(timeout=40)
    with pytest.raises(TaskTimeoutError, match=r"timeout_seconds.*; Symphony may go on with it"):
        client.submit_verbose(time.sleep, (3,), timeout_seconds=0.5).result(timeout=40)
    with pytest.raises(TaskNotRunError, match="idempotent=False cannot be kept in Symphony"):
        client.submit_verbose(square, (3,), idempotent=False).result(timeout=40)
    assert client.submit_verbose(square, (3,), priority=1, label="curves", deadline_seconds=60).result(timeout=40) == 9


def test_nested_tasks_exceed_the_base_concurrency(symphony: Symphony) -> None:
    # Two parents fill the base concurrency; without the exception for deeper tasks nothing could go on.
    futures = [symphony.client.submit(nested_without_address, n) for n in range(4)]
    assert [future.result(timeout=40) for future in futures] == [0, 1, 4, 9]
    assert symphony.client.submit(fibonacci, symphony.client, 4).result(timeout=50) == 3


def test_no_more_than_the_base_concurrency_at_once(symphony: Symphony, tmp_path: Path) -> None:
    for future in [symphony.client.submit(mark, str(tmp_path), 0.1) for _ in range(8)]:
        future.result(timeout=30)
    running = most = 0
    for name in sorted((path.name for path in tmp_path.iterdir()), key=lambda name: float(name.rpartition("-")[0])):
        running += 1 if name.endswith("on") else -1
        most = max(most, running)
    assert most == BASE_CONCURRENCY


def test_cancelled_tasks_are_answered_at_once_and_keep_their_place(symphony: Symphony, tmp_path: Path) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    futures = [symphony.client.submit(mark_and_wait, str(mark), str(go)) for _ in range(BASE_CONCURRENCY + 2)]
    wait_for("all places taken", lambda: mark.exists() and len(mark.read_text().splitlines()) == BASE_CONCURRENCY)
    for future in futures:
        future.cancel()
    # None of them can end by itself, so each answer came before Symphony's.
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=10)
    after = symphony.client.submit(mark_and_wait, str(tmp_path / "after"), str(go))
    with pytest.raises(TimeoutError):
        after.result(timeout=1.0)
    assert not (tmp_path / "after").exists(), "the places are not free yet"
    go.touch()
    after.result(timeout=30)
    assert len(mark.read_text().splitlines()) == BASE_CONCURRENCY, "what was cancelled while it waited never ran"


def test_slow_answers_hold_nobody_up(symphony: Symphony) -> None:
    slow = symphony.client.submit(sleep_and_return, 3.0, "slow")
    assert symphony.client.map(square, range(10)) == [number * number for number in range(10)]
    assert slow.result(timeout=30) == "slow"


def test_the_webhook_shows_its_one_group(symphony: Symphony) -> None:
    (group,) = plain_http.get(symphony.url).json()["worker_groups"]
    assert len(group["worker_ids"]) == BASE_CONCURRENCY
    assert plain_http.post(symphony.url, json={"action": "start_worker_group"}).status_code == 429
    wanted = {"action": "start_worker_group", "capabilities": ["gpu"]}
    assert plain_http.post(symphony.url, json=wanted).status_code == 400


def test_a_lost_connection_is_made_again_and_tasks_with_it(symphony: Symphony, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    futures = [symphony.client.submit(mark_and_sleep, str(mark), 0.5, number) for number in range(6)]
    wait_for("some have ended and others run", lambda: mark.exists() and len(mark.read_text().splitlines()) >= 3)
    (symphony.application / "down").touch()
    (symphony.application / "lose").touch()
    symphony.adapter.wait_log("the session director is not reachable")
    (symphony.application / "down").unlink()
    assert [future.result(timeout=40) for future in futures] == list(range(6))


def test_a_group_can_be_stopped_and_started(symphony: Symphony, tmp_path: Path) -> None:
    (group,) = plain_http.get(symphony.url).json()["worker_groups"]
    mark = tmp_path / "mark"
    running = symphony.client.submit(mark_and_sleep, str(mark), 1.0, "finished")
    wait_for("it runs", mark.exists)
    body = {"action": "shutdown_worker_group", "worker_group_id": group["worker_group_id"]}
    assert plain_http.post(symphony.url, json=body).status_code == 200
    assert running.result(timeout=10) == "finished"
    assert plain_http.get(symphony.url).json()["worker_groups"] == []
    waiting = symphony.client.submit(square, 6)
    assert plain_http.post(symphony.url, json={"action": "start_worker_group"}).status_code == 200
    assert waiting.result(timeout=30) == 36


def test_the_scheduler_may_be_killed(symphony: Symphony, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    futures = [symphony.client.submit(mark_and_sleep, str(mark), 0.3, number) for number in range(12)]
    wait_for("some have ended and others run", lambda: mark.exists() and len(mark.read_text().splitlines()) >= 3)
    # Its object storage ends with it. The next one's is elsewhere: somebody may have the port beside the scheduler's by now.
    storage = symphony.deployment.storage()
    symphony.scheduler.kill()
    symphony.scheduler = symphony.deployment.scheduler(
        "--monitor-address=tcp://127.0.0.1:0", "-osa", storage.address, address=symphony.scheduler.address
    )
    assert [future.result(timeout=50) for future in futures] == list(range(12))


def test_object_storage_may_be_elsewhere_afterwards(
    deployment: Deployment, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Service processes live on, and so do clients that tasks have made in them."""
    instances = BASE_CONCURRENCY + 1
    symphony = Symphony(deployment, tmp_path_factory.mktemp("moving"), instances=instances)

    def ask_processes(name: str) -> set[int]:
        # Both places are taken until both have begun: so each task is in a process of its own.
        started, go = tmp_path / name, tmp_path / f"go-{name}"
        futures = [
            symphony.client.submit(nested_with_a_large_argument, 2, str(started), str(go))
            for _ in range(BASE_CONCURRENCY)
        ]
        wait_for("both have begun", lambda: started.exists() and len(started.read_text().splitlines()) == 2)
        go.touch()
        answers = [future.result(timeout=50) for future in futures]
        assert [length for _, length in answers] == [2 << 20] * BASE_CONCURRENCY
        return {pid for pid, _ in answers}

    before: set[int] = set()
    for turn in itertools.count():
        before |= ask_processes(f"before-{turn}")
        if len(before) == instances:
            break
    storage = deployment.storage()
    symphony.scheduler.kill()
    deployment.scheduler(
        "--monitor-address=tcp://127.0.0.1:0", "-osa", storage.address, address=symphony.scheduler.address
    )
    assert ask_processes("after") <= before, "the same processes as before"
    assert ask_processes("again") <= before


def test_a_profile_of_tasks_in_the_service(symphony: Symphony) -> None:
    done = threading.Event()
    # Service processes start with their first task, and import what it needs.
    for future in [symphony.client.submit(profiled.divided, 0.2) for _ in range(3 * INSTANCES)]:
        future.result(timeout=60)

    def keep_busy() -> None:
        while not done.is_set():
            for future in [symphony.client.submit(profiled.divided, 0.3) for _ in range(BASE_CONCURRENCY)]:
                future.result(timeout=60)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(keep_busy)
        try:
            profile = take_profile(symphony.scheduler.addresses["monitor"], 4)
        finally:
            done.set()
        working.result()
    assert (profile.agents, profile.answered) == (1, 1)
    assert profile.processors >= 1
    stacks = collapsed(calls_of(profile))
    assert sum(profile.microseconds) > 1e6, stacks
    # From the function of the task on, by its name.
    assert all(line.startswith("tests.integration.profiled.divided;") for line in stacks.splitlines()), stacks
    assert ";three_quarters (tests/integration/profiled.py:" in stacks


def test_many_threads_of_callbacks(symphony: Symphony) -> None:
    results: list[int] = []

    def run() -> None:
        results.extend(future.result(timeout=50) for future in [symphony.client.submit(square, n) for n in range(40)])

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for("all results", lambda: len(results) == 120, 50)
    for thread in threads:
        thread.join()


@pytest.mark.timeout(PROGRAM_SECONDS + 30)
@pytest.mark.parametrize("program", ["state.py", "classes.py", "class_bodies.py", "main_module.py", "buffers.py"])
def test_programs_whose_functions_and_classes_travel_by_value(symphony: Symphony, program: str) -> None:
    assert run_program(program, str(symphony.scheduler.address)) == {}
