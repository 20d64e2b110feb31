"""The scripts of `examples/`, run as a user runs them, and the classes they start clusters with."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scaler import Client, Cluster, Scheduler, SchedulerClusterCombo
from scaler_protocol.testing.free_ports import free_ports
from tests.integration import functions as f
from tests.integration.deployment import is_gone, traces, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments], capture_output=True, text=True, timeout=55, check=False
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
