"""Local clusters: what is said on the command line, and what is missing. (That they run is tested with all installed.)"""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from scaler import Cluster, Scheduler, SchedulerClusterCombo
from scaler.local.services import Service, command_line


def test_settings_as_flags() -> None:
    assert command_line(
        {
            "num_of_workers": 4,
            "protected": True,
            "hard_processor_suspend": False,
            "preload": None,
            "per_worker_capabilities": {"linux": -1, "cpu": 4},
            "logging_paths": ("/dev/stdout", "/tmp/log"),
            "task_timeout_seconds": 1.5,
        }
    ) == [
        "--num-of-workers=4",
        "--protected",
        "--no-hard-processor-suspend",
        "--per-worker-capabilities=linux,cpu=4",
        "--logging-paths=/dev/stdout,/tmp/log",
        "--task-timeout-seconds=1.5",
    ]


def test_missing_distributions_are_named(monkeypatch: Any) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs scaler-scheduler, scaler-objstore, scaler-worker, not installed"):
        SchedulerClusterCombo(n_workers=1)
    with pytest.raises(ImportError, match="needs scaler-worker, not"):
        Cluster("tcp://127.0.0.1:1").start()
    with pytest.raises(ImportError, match="needs scaler-scheduler"):
        Scheduler().start()


def test_what_was_never_started_ends_without_complaint() -> None:
    cluster = Cluster("tcp://127.0.0.1:1", n_workers=1)
    cluster.terminate()
    cluster.join()
    assert not cluster.is_running
    scheduler = Scheduler()
    scheduler.terminate()
    with pytest.raises(RuntimeError, match="not started"):
        scheduler.get_address()


def test_the_older_name_of_io_threads() -> None:
    assert Cluster("tcp://127.0.0.1:1", 1, worker_io_threads=2).command_line[2:] == [
        "--logging-level=WARNING",
        "--num-of-workers=1",
        "--io-threads=2",
    ]
    assert Cluster("tcp://127.0.0.1:1", 1, io_threads=3, worker_io_threads=2).command_line[-1] == "--io-threads=3"


def test_the_older_name_of_the_size_of_queues() -> None:
    """parfun 7.2 uses it."""
    assert Cluster("tcp://127.0.0.1:1", 1, per_worker_queue_size=2).command_line[-1] == "--per-worker-task-queue-size=2"


def test_a_service_that_ends_at_once(monkeypatch: Any) -> None:
    from scaler_protocol.service.errors import ServiceError

    # Any module will do that can be started and does not report that it is ready.
    service = Service("this", ["address"])
    service.start()
    with pytest.raises(RuntimeError, match="started already"):
        service.start()
    with pytest.raises(ServiceError, match="this ended before it was ready"):
        service.wait_ready()
    service.terminate()
    assert not service.is_running


@pytest.mark.parametrize("count", [-1, 65_536, 10**6, 2**70])
def test_a_number_of_workers_out_of_bounds_is_refused_at_once(count: int) -> None:
    why = "as one process numbers its workers with 16 bits"
    with pytest.raises(ValueError, match=f"^n_workers must be from 0 to 65,535, {why}, not {count}$"):
        SchedulerClusterCombo(count)
    with pytest.raises(ValueError, match=f"^n_workers must be from 1 to 65,535, {why}, not {count}$"):
        Cluster("tcp://127.0.0.1:1", count)


def test_a_cluster_by_itself_has_workers() -> None:
    with pytest.raises(ValueError, match=r"^n_workers must be from 1 to 65,535, .*, not 0$"):
        Cluster("tcp://127.0.0.1:1", 0)


@pytest.mark.parametrize("count", [True, 2.5, [1]])
def test_what_is_no_number_of_workers_is_named(count: Any) -> None:
    with pytest.raises(TypeError, match=r"^n_workers must be a whole number, not "):
        SchedulerClusterCombo(count)
