"""The scripts of `examples/`, run as a user runs them, and the classes they start clusters with."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from scaler import Client, Cluster, Scheduler, SchedulerClusterCombo
from scaler_protocol.testing.free_ports import free_ports
from tests.integration import functions as f
from tests.integration.deployment import is_gone, traces, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: str, timeout: float = 55, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("[INFO]")]


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("submit.py", ["4.0", "661.46", "[3, 2, 1]"]),
        ("map.py", ["661.46", "[11, 22, 33]", "[11, 22, 33]"]),
        ("graph.py", ["{'e': 1}"]),
        ("nested.py", ["21"]),
        ("capabilities.py", ["3", "2"]),
    ],
)
def test_example(script: str, output: list[str]) -> None:
    assert run(script) == output


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("library", "last"),
    [
        ("pandas", "as in one process: True"),
        ("optuna", "60 trials, best below 5: True"),
        ("prefect", "sum of squares: 285"),
        ("torch", "weights: [1, -2, 3]"),
    ],
)
def test_example_with_a_framework(library: str, last: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    # Prefect starts a server of its own, which takes long, and would report its use.
    surroundings = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "200",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    assert run(f"with_{library}.py", timeout=280, **surroundings)[-1] == last


def test_a_web_service_computes_on_a_cluster() -> None:
    if importlib.util.find_spec("uvicorn") is None:
        pytest.skip("needs fastapi and uvicorn")
    (port,) = free_ports(1)
    with subprocess.Popen([sys.executable, EXAMPLES / "with_fastapi.py", str(port)]) as service:
        try:
            answers: list[float] = []

            def is_answered() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    answers.append(httpx.get(f"http://127.0.0.1:{port}/pi?darts=20000", timeout=30).json())
                return bool(answers)

            wait_for("an answer", is_answered, 50)
            assert abs(answers[0] - math.pi) < 0.1
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(30)


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("matplotlib", "arch")), reason="needs the demo's packages"
)
def test_the_demo_prints_its_answer_and_saves_a_picture(tmp_path: Path) -> None:
    lines = run("demo.py", "--resamples", "10", "--output", str(tmp_path))
    assert any("times as fast" in line for line in lines)
    assert (tmp_path / "trend-following.png").stat().st_size > 50_000


def test_the_example_file_has_a_section_for_each_command_it_names() -> None:
    sections = tomllib.loads((EXAMPLES / "example_config.toml").read_text())
    assert set(sections) == {"scheduler", "cluster", "object_storage_server", "webui"}


# --- local clusters


def test_a_combo_starts_and_stops_all_of_it() -> None:
    before = traces()
    combo = SchedulerClusterCombo(n_workers=2)
    with Client(address=combo.get_address()) as client:
        assert client.map(f.square, range(10)) == [x * x for x in range(10)]
    started = traces().processes - before.processes
    assert len(started) >= 4
    combo.shutdown()
    combo.shutdown()
    wait_for("all processes are gone", lambda: all(is_gone(pid) for pid in started))


def test_a_combo_is_a_context_manager_and_takes_the_commands_settings() -> None:
    with (
        SchedulerClusterCombo(
            n_workers=1,
            per_worker_capabilities={"linux": -1, "cpu": 4},
            per_worker_task_queue_size=10,
            event_loop="builtin",
            task_timeout_seconds=30,
            max_task_attempts=1,
            logging_level="WARNING",
        ) as combo,
        Client(combo.get_address()) as client,
    ):
        assert client.submit_verbose(f.square, (3,), capabilities={"cpu": -1}).result(timeout=30) == 9
        with pytest.raises(ValueError, match="protected"):
            client.shutdown()


@pytest.mark.without_keys("with keys, only operators end the cluster")
def test_an_unprotected_combo_can_be_shut_down_by_its_client() -> None:
    with SchedulerClusterCombo(n_workers=1, protected=False) as combo:
        client = Client(combo.get_address())
        assert client.submit(f.square, 3).result(timeout=30) == 9
        client.shutdown()
        client.disconnect()


def test_a_combo_at_an_address_of_one_s_choice() -> None:
    # Its own, its object storage server's, and the monitors'.
    address = f"tcp://127.0.0.1:{free_ports(3)[0]}"
    with SchedulerClusterCombo(address=address, n_workers=1) as combo:
        assert combo.get_address() == address
        with Client(address=address) as client:
            assert client.submit(f.square, 4).result(timeout=30) == 16


def test_a_combo_takes_the_older_name_of_the_size_of_queues() -> None:
    with SchedulerClusterCombo(1, per_worker_queue_size=1) as combo, Client(combo.get_address()) as client:
        assert client.map(f.square, range(10)) == [x * x for x in range(10)]


def test_scheduler_and_cluster_apart() -> None:
    with Scheduler(address="tcp://127.0.0.1:0") as scheduler:
        cluster = Cluster(address=scheduler.get_address(), worker_names=["a", "b"])
        cluster.start()
        try:
            with Client(scheduler.get_address()) as client:
                pids = set(client.map(f.process_id, range(50)))
                assert os.getpid() not in pids
        finally:
            cluster.terminate()
            cluster.join(30)
        wait_for("its processors are gone", lambda: all(is_gone(pid) for pid in pids))
