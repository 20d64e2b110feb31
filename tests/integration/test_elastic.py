"""Workers come when there is work and go when there is none: scheduler and adapters as real processes."""

from __future__ import annotations

import http.server
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scaler import Client
from scaler.errors import NoWorkerError
from scaler_protocol.testing.free_ports import free_ports
from tests.integration import plain_http
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.elastic import groups_at, scheduler_with_adapter, url_of, work_to_spare
from tests.integration.functions import sleep_and_return, square

WORKERS_MAX = 4
TASK_S = 0.05


def native_adapter(deployment: Deployment, scheduler_address: str, *flags: str, port: int = 0) -> Service:
    return deployment.start("scaler_adapters.native", scheduler_address, f"--port={port}", "-ll=INFO", *flags)


def elastic(deployment: Deployment, *flags: str, adapter_flags: tuple[str, ...] = ()) -> tuple[Service, Service]:
    """A scheduler without workers, and a native adapter that may start some for it."""
    # At a port of the system's choice an adapter that is started again would not find what it had started.
    scheduler_port, port = free_ports(2)
    address = f"tcp://127.0.0.1:{scheduler_port}"
    adapter = native_adapter(deployment, address, f"--max-workers={WORKERS_MAX}", *adapter_flags, port=port)
    scheduler = scheduler_with_adapter(deployment, address, url_of(adapter), *flags)
    return scheduler, adapter


def run_sleeps(client: Client, tasks: int) -> float:
    """Seconds that so many short tasks take, from the first submission to the last result."""
    started = time.monotonic()
    futures = [client.submit(sleep_and_return, TASK_S, number) for number in range(tasks)]
    assert [future.result(timeout=120) for future in futures] == list(range(tasks))
    return time.monotonic() - started


def assert_it_shrinks_to_none(adapter: Service) -> None:
    wait_for("no groups left", lambda: not groups_at(url_of(adapter)), 30)
    wait_for("no worker processes left", lambda: not adapter.children(), 15)


@pytest.mark.timeout(240)
def test_a_cluster_grows_for_its_work_and_shrinks_to_none(deployment: Deployment) -> None:
    scheduler, adapter = elastic(deployment)
    client = deployment.client(scheduler)
    done = threading.Event()
    most = 0

    def watch() -> None:
        nonlocal most
        while not done.wait(0.2):
            most = max(most, len(groups_at(url_of(adapter))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with work_to_spare(deployment, scheduler):
            wait_for("as many groups as there may be", lambda: most == WORKERS_MAX, 60)
        run_sleeps(client, 400)
    finally:
        done.set()
        watcher.join()
    assert most == WORKERS_MAX
    assert_it_shrinks_to_none(adapter)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_an_elastic_cluster_costs_its_start_up_and_little_more(deployment: Deployment) -> None:
    fixed = deployment.scheduler()
    workers = deployment.workers(fixed, count=WORKERS_MAX)
    client = deployment.client(fixed)
    client.submit(square, 2).result(timeout=30)
    fixed_s = run_sleeps(client, 2_000)
    workers.terminate()
    scheduler, adapter = elastic(deployment)
    elastic_s = run_sleeps(deployment.client(scheduler), 2_000)
    print(f"2,000 tasks of {TASK_S} s: {elastic_s:.1f} s from nothing, {fixed_s:.1f} s with {WORKERS_MAX} workers")
    assert_it_shrinks_to_none(adapter)
    # Start-up is two generations: the first worker, whose results say how many more it takes.
    assert elastic_s <= 1.2 * fixed_s + 10.0


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_both_ends_may_be_killed_in_the_middle(deployment: Deployment) -> None:
    scheduler, adapter = elastic(deployment)
    url, port = url_of(adapter), adapter.addresses["webhook"].port
    client = deployment.client(scheduler)
    futures = [client.submit(sleep_and_return, 0.2, number) for number in range(100)]
    with work_to_spare(deployment, scheduler):
        wait_for("workers", lambda: len(groups_at(url)) == WORKERS_MAX, 60)
    before = set(groups_at(url))
    adapter.kill()
    scheduler.kill()
    again = native_adapter(deployment, scheduler.address, f"--max-workers={WORKERS_MAX}", port=port or 0)
    deployment.scheduler(
        "--monitor-address=tcp://127.0.0.1:0",
        "--scaling-cool-down-seconds=2",
        "--adapter-webhook-url",
        url,
        address=scheduler.address,
    )
    assert set(groups_at(url_of(again))) == before
    assert [future.result(timeout=50) for future in futures] == list(range(100))
    # A scheduler that has asked in vain while the adapter was away asks again after up to a minute.
    wait_for("no workers left", lambda: not groups_at(url), 100)


def test_tasks_that_ask_for_a_capability_get_it(deployment: Deployment) -> None:
    scheduler, adapter = elastic(deployment, "-scs=capability")
    client = deployment.client(scheduler)
    future = client.submit_verbose(square, (3,), capabilities={"gpu": -1})
    assert future.result(timeout=30) == 9
    (group,) = plain_http.get(url_of(adapter)).json()["worker_groups"]
    assert group["capabilities"] == {"gpu": -1}


def test_a_task_nobody_can_ever_run_fails_after_the_set_time(deployment: Deployment) -> None:
    scheduler, _ = elastic(deployment, "--no-worker-timeout-seconds=3")
    client = deployment.client(scheduler)
    future = client.submit_verbose(square, (3,), capabilities={"gpu": -1})
    with pytest.raises(NoWorkerError, match="no worker adapter can bring"):
        future.result(timeout=20)


# --- adapters that misbehave


class _Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers in turn: not at all, 429, 500, garbage, half an answer; always with work to be done about it."""

    turn = 0

    def do_POST(self) -> None:
        cls = type(self)
        cls.turn += 1
        length = int(self.headers.get("Content-Length", 0))
        asked = self.rfile.read(length)
        if b"get_worker_adapter_info" in asked:
            self._answer(200, b'{"max_worker_groups": -1, "workers_per_group": 1, "base_capabilities": {}}')
        elif cls.turn % 5 == 0:
            time.sleep(5)  # sleeps: an adapter that does not answer in time
        elif cls.turn % 5 == 1:
            self._answer(429, b'{"error": "full"}')
        elif cls.turn % 5 == 2:
            self._answer(500, b'{"error": "no power"}')
        elif cls.turn % 5 == 3:
            self.wfile.write(b"\xff\x00" * 1_000)
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
            self.wfile.flush()
            time.sleep(5)  # sleeps: an adapter that does not answer in time

    def do_GET(self) -> None:
        type(self).turn += 1
        rows = b"[]" if self.turn % 3 else b"[" * 50_000
        self._answer(200, b'{"worker_groups": ' + rows + b"}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def misbehaving_adapter() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Misbehaving)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def round_trips(client: Client, seconds: float) -> list[float]:
    """Milliseconds of single tasks, one after the other."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        client.submit(square, 2).result(timeout=20)
        times.append((time.perf_counter() - started) * 1e3)
    return times


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_adapters_that_misbehave_do_not_slow_the_scheduler(deployment: Deployment) -> None:
    quiet = deployment.scheduler()
    deployment.workers(quiet, count=1)
    with misbehaving_adapter() as url:
        beside = deployment.scheduler("-scs=capability", "-awu", url, f"{url}/second")
        deployment.workers(beside, count=1)
        clients = [deployment.client(quiet), deployment.client(beside)]
        for client in clients:
            # Work for which the adapters are asked again and again.
            for _ in range(50):
                client.submit_verbose(square, (2,), capabilities={"gpu": -1})
            round_trips(client, 1.0)
        p99s: list[list[float]] = [[], []]
        # In turn, and the best of each: what else this machine does meets both, and is not the question.
        for _ in range(6):
            for client, into in zip(clients, p99s, strict=True):
                into.append(statistics.quantiles(round_trips(client, 1.0), n=100)[98])
    without, beside_ms = map(min, p99s)
    print(f"p99 of a round trip: {without:.2f} ms without, {beside_ms:.2f} ms beside adapters that misbehave")
    assert _Misbehaving.turn > 5
    assert beside_ms <= 1.5 * without + 0.5
