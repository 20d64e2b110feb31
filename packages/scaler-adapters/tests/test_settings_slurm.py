"""Every flag of `scaler_worker_adapter_slurm`: long and short form, TOML key, default."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scaler_adapters.slurm.commands import seconds
from scaler_adapters.slurm.settings import SlurmAdapterSettings
from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings_testing import DocumentedFlag, check_flag, check_table_is_complete

ARGUMENTS = ["tcp://127.0.0.1:2345"]

FLAGS = [
    DocumentedFlag("host", ("--host", "--adapter-web-host"), "0.0.0.0", "0.0.0.0", "127.0.0.1"),
    DocumentedFlag("port", ("--port", "--adapter-web-port", "-p"), "9000", 9000, 8080),
    DocumentedFlag("max_workers", ("--max-workers", "-mw"), "4", 4, -1),
    DocumentedFlag("workers_per_job", ("--workers-per-job", "-n"), "8", 8, 1),
    DocumentedFlag("jobs_per_group", ("--jobs-per-group", "-jpg"), "3", 3, 1),
    DocumentedFlag("partition", ("--partition",), "long", "long", ""),
    DocumentedFlag("time_limit", ("--time-limit",), "2-00:00:00", "2-00:00:00", ""),
    DocumentedFlag("sbatch_options", ("--sbatch-options",), "--mem=4G -A me", "--mem=4G -A me", ""),
    DocumentedFlag("capability_options", ("--capability-options",), "gpu=--gres=gpu:1", "gpu=--gres=gpu:1", ""),
    DocumentedFlag("drain_seconds", ("--drain-seconds", "-ds"), "5", 5, 60),
    DocumentedFlag("python", ("--python",), "/opt/python", "/opt/python", sys.executable),
    DocumentedFlag(
        "object_storage_address", ("--object-storage-address", "-osa"), "tcp://h:1", Address.parse("tcp://h:1"), None
    ),
    DocumentedFlag("per_worker_capabilities", ("--per-worker-capabilities", "-pwc"), "linux,cpu=4", "linux,cpu=4", ""),
    DocumentedFlag("per_worker_task_queue_size", ("--per-worker-task-queue-size", "-wtqs"), "7", 7, 1000),
    DocumentedFlag("heartbeat_interval_seconds", ("--heartbeat-interval-seconds", "-his"), "0.5", 0.5, 2),
    DocumentedFlag("task_timeout_seconds", ("--task-timeout-seconds", "-tts"), "600", 600, 0),
    DocumentedFlag("death_timeout_seconds", ("--death-timeout-seconds", "-dts"), "12", 12, 300),
    DocumentedFlag("garbage_collect_interval_seconds", ("--garbage-collect-interval-seconds", "-gc"), "5", 5, 30),
    DocumentedFlag("trim_memory_threshold_bytes", ("--trim-memory-threshold-bytes", "-tm"), "1000", 1000, 1024**3),
    DocumentedFlag("hard_processor_suspend", ("--hard-processor-suspend", "-hps"), None, True, False),
    DocumentedFlag("preload", ("--preload",), "pkg.mod:func(1, 2)", "pkg.mod:func(1, 2)", None),
    DocumentedFlag("event_loop", ("--event-loop", "-el"), "uvloop", "uvloop", "builtin"),
    DocumentedFlag("io_threads", ("--io-threads", "--worker-io-threads", "-wit"), "4", 4, 1),
    DocumentedFlag(
        "logging_paths", ("--logging-paths", "-lp"), "/tmp/a,/tmp/b", ("/tmp/a", "/tmp/b"), ("/dev/stdout",)
    ),
    DocumentedFlag("logging_config_file", ("--logging-config-file", "-lcf"), "log.ini", Path("log.ini"), None),
    DocumentedFlag("auth_token_file", ("--auth-token-file", "-atf"), "/etc/token", Path("/etc/token"), None),
    DocumentedFlag("insecure", ("--insecure",), None, True, False),
    DocumentedFlag("logging_level", ("--logging-level", "-ll"), "debug", "DEBUG", "INFO"),
    DocumentedFlag("logging_format", ("--logging-format", "-lf"), "json", "json", "text"),
]


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(SlurmAdapterSettings, ARGUMENTS, flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(SlurmAdapterSettings, FLAGS, besides=["address"])


@pytest.mark.parametrize("text", ["gpu", "gpu=gres", "=--gres=gpu", "'open"])
def test_capability_options_are_checked(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--capability-options"):
        SlurmAdapterSettings.from_command_line([*ARGUMENTS, "--capability-options", text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("59", 59), ("1:00", 60), ("1:00:01", 3601), ("2-00:00:00", 172_800), ("UNLIMITED", float("inf"))],
)
def test_slurms_times_are_understood(text: str, expected: float) -> None:
    assert seconds(text) == expected
