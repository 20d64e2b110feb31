"""Every flag of `scaler_dump` and `scaler_trace`: long and short form, TOML key, default."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler_protocol.testing.settings import DocumentedFlag, check_flag, check_table_is_complete
from scaler_ui.dump.settings import DumpSettings
from scaler_ui.trace.settings import TraceSettings

ARGUMENTS = ["tcp://127.0.0.1:2347"]

LOGGING = [
    DocumentedFlag("logging_config_file", ("--logging-config-file", "-lcf"), "log.ini", Path("log.ini"), None),
    DocumentedFlag("logging_level", ("--logging-level", "-ll"), "debug", "DEBUG", "INFO"),
    DocumentedFlag("logging_format", ("--logging-format", "-lf"), "json", "json", "text"),
]
DUMP_FLAGS = [
    DocumentedFlag("output", ("--output", "-o"), "a.json", Path("a.json"), Path("scaler-dump.json")),
    DocumentedFlag("tasks", ("--tasks", "-t"), "3,17", (3, 17), ()),
    DocumentedFlag("timeout", ("--timeout",), "2.5", 2.5, 30),
    DocumentedFlag("profile", ("--profile",), "10", 10, 0),
    DocumentedFlag("logging_paths", ("--logging-paths", "-lp"), "/tmp/a,/tmp/b", ("/tmp/a", "/tmp/b"), ()),
    *LOGGING,
]
TRACE_FLAGS = [
    DocumentedFlag("output", ("--output", "-o"), "a.json", Path("a.json"), Path("scaler-trace.json")),
    DocumentedFlag("seconds", ("--seconds", "-s"), "2.5", 2.5, 10),
    DocumentedFlag("timeout", ("--timeout", "-t"), "2.5", 2.5, 5),
    DocumentedFlag(
        "logging_paths", ("--logging-paths", "-lp"), "/tmp/a,/tmp/b", ("/tmp/a", "/tmp/b"), ("/dev/stdout",)
    ),
    *LOGGING,
]


@pytest.mark.parametrize("flag", DUMP_FLAGS, ids=str)
def test_flag_of_scaler_dump_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(DumpSettings, ARGUMENTS, flag, tmp_path)


@pytest.mark.parametrize("flag", TRACE_FLAGS, ids=str)
def test_flag_of_scaler_trace_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(TraceSettings, ARGUMENTS, flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(DumpSettings, DUMP_FLAGS, besides=["monitor_address"])
    check_table_is_complete(TraceSettings, TRACE_FLAGS, besides=["monitor_address"])
