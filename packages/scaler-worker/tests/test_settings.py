"""Every flag of `scaler_cluster`: long and short form, TOML key, default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.testing.settings import WORKER_FLAGS, DocumentedFlag, check_flag, check_table_is_complete
from scaler_worker.settings import ClusterSettings

ARGUMENTS = ["tcp://127.0.0.1:2345"]

FLAGS = [
    DocumentedFlag("num_of_workers", ("--num-of-workers", "-n"), "3", 3, os.cpu_count()),
    DocumentedFlag("worker_names", ("--worker-names", "-wn"), "left,right", ("left", "right"), ()),
    *WORKER_FLAGS,
    DocumentedFlag("insecure", ("--insecure",), None, True, False),
    DocumentedFlag("object_storage", ("--object-storage",), None, True, False),
]


OF_ITS_STORE = {
    "object_storage_bind_address": ("tcp://127.0.0.1:7000", Address.parse("tcp://127.0.0.1:7000")),
    "object_storage_memory_bytes": ("2GiB", 2 * 1024**3),
    "object_storage_security_dir": ("/keys", Path("/keys")),
}


@pytest.mark.parametrize("name", OF_ITS_STORE)
def test_flags_of_the_store_need_the_store(name: str) -> None:
    flag, (text, value) = "--" + name.replace("_", "-"), OF_ITS_STORE[name]
    with pytest.raises(ConfigurationError, match=f"{flag} is for the server that --object-storage starts"):
        ClusterSettings.from_command_line([*ARGUMENTS, flag, text])
    settings = ClusterSettings.from_command_line([*ARGUMENTS, "--object-storage", flag, text])
    assert getattr(settings, name) == value
    assert getattr(ClusterSettings.from_command_line(ARGUMENTS), name) is None


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(ClusterSettings, ARGUMENTS, flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(ClusterSettings, FLAGS, besides=["address", *OF_ITS_STORE])


def test_there_are_as_many_workers_as_names() -> None:
    settings = ClusterSettings.from_command_line(["-wn", "a,b,c", "tcp://127.0.0.1:2345"])
    assert settings.num_of_workers == 3


def test_names_and_number_of_workers_have_to_agree() -> None:
    with pytest.raises(ConfigurationError, match="2 names for --num-of-workers 4"):
        ClusterSettings.from_command_line(["tcp://127.0.0.1:2345", "-n", "4", "--worker-names", "a,b"])
    with pytest.raises(ConfigurationError, match="same name to two workers"):
        ClusterSettings.from_command_line(["tcp://127.0.0.1:2345", "--worker-names", "a,a"])


def test_the_scheduler_cannot_be_on_port_0() -> None:
    with pytest.raises(ConfigurationError, match=r"ADDRESS: tcp://127.0.0.1:0 can be listened on but not connected to"):
        ClusterSettings.from_command_line(["tcp://127.0.0.1:0"])


def test_capabilities_are_checked() -> None:
    with pytest.raises(ConfigurationError, match=r"--per-worker-capabilities: .*'cpu' is not an integer: 'many'"):
        ClusterSettings.from_command_line(["tcp://127.0.0.1:2345", "-pwc", "linux,cpu=many"])


@pytest.mark.parametrize("count", [-1, 0, 65_536, 10**6])
def test_a_number_of_workers_out_of_bounds_says_the_bounds(count: int, tmp_path: Path) -> None:
    reason = f"must be from 1 to 65,535, as one process numbers its workers with 16 bits, not {count}"
    with pytest.raises(ConfigurationError, match=f"^--num-of-workers: {reason}$"):
        ClusterSettings.from_command_line([*ARGUMENTS, f"--num-of-workers={count}"])
    path = tmp_path / "scaler.toml"
    path.write_text(f"[cluster]\nnum_of_workers = {count}\n")
    with pytest.raises(ConfigurationError, match=rf"\[cluster\] num_of_workers: {reason}$"):
        ClusterSettings.from_command_line([*ARGUMENTS, "--config", str(path)])


def test_as_many_names_as_one_process_can_number() -> None:
    with pytest.raises(ValueError, match=r"must be from 1 to 65,535, .*, not 65536"):
        ClusterSettings(address=ARGUMENTS[0], worker_names=[f"name-{number}" for number in range(65_536)])


def test_short_forms_of_older_command_lines() -> None:
    settings = ClusterSettings.from_command_line(["tcp://127.0.0.1:1", "-hi", "1", "-ds", "7"])
    assert (settings.heartbeat_interval_seconds, settings.death_timeout_seconds) == (1, 7)
    assert settings.without_effect() == []
    older = ClusterSettings.from_command_line(["tcp://127.0.0.1:1", "--log-hub-address", "tcp://127.0.0.1:2"])
    assert older.without_effect() == [
        "--log-hub-address has no effect: logs go to --logging-paths; there is no log hub"
    ]
