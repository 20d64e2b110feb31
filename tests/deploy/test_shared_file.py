"""The file that users of Scaler bring along: one for all commands, with the command lines that go with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.address import Address
from scaler_scheduler.settings import SchedulerSettings
from scaler_ui.web.settings import WebSettings
from scaler_worker.settings import ClusterSettings

EXAMPLE = """
# This is a unified configuration file for all Scaler components.

[scheduler]
object_storage_address = "tcp://127.0.0.1:6379"
monitor_address = "tcp://127.0.0.1:6380"
allocate_policy = "even"
logging_level = "INFO"
logging_paths = ["/dev/stdout", "/var/log/scaler/scheduler.log"]

[cluster]
num_of_workers = 8
per_worker_capabilities = "linux,cpu=8"
task_timeout_seconds = 600

[object_storage_server]

[webui]
web_port = 8081
"""


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    file = tmp_path / "example_config.toml"
    file.write_text(EXAMPLE)
    return ["--config", str(file)]


def test_scheduler(config: list[str]) -> None:
    settings = SchedulerSettings.from_command_line(["tcp://127.0.0.1:6378", *config])
    assert settings.address == Address.parse("tcp://127.0.0.1:6378")
    assert settings.object_storage_address == Address.parse("tcp://127.0.0.1:6379")
    assert settings.monitor_bind_address == Address.parse("tcp://127.0.0.1:6380")
    assert settings.logging_paths == ("/dev/stdout", "/var/log/scaler/scheduler.log")


def test_cluster(config: list[str]) -> None:
    settings = ClusterSettings.from_command_line(["tcp://127.0.0.1:6378", *config])
    assert (settings.num_of_workers, settings.task_timeout_seconds) == (8, 600)
    assert settings.per_worker_capabilities == "linux,cpu=8"
    more = ClusterSettings.from_command_line(["tcp://127.0.0.1:6378", *config, "--num-of-workers", "12"])
    assert (more.num_of_workers, more.task_timeout_seconds) == (12, 600)


def test_object_storage_server(config: list[str]) -> None:
    settings = ObjectStorageSettings.from_command_line(["tcp://127.0.0.1:6379", *config])
    assert settings.address == Address.parse("tcp://127.0.0.1:6379")


def test_web_ui(config: list[str]) -> None:
    settings = WebSettings.from_command_line(["tcp://127.0.0.1:6380", *config])
    assert (settings.host, settings.port) == ("127.0.0.1", 8081)
