"""Every flag of `scaler_top`: long and short form, TOML key, default."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.testing.settings import DocumentedFlag, check_flag, check_table_is_complete
from scaler_ui.top.settings import TopSettings

ARGUMENTS = ["tcp://127.0.0.1:2347"]

FLAGS = [
    DocumentedFlag("timeout", ("--timeout", "-t"), "2.5", 2.5, 5),
    DocumentedFlag("once", ("--once",), None, True, False),
    DocumentedFlag("logging_paths", ("--logging-paths", "-lp"), "/tmp/a,/tmp/b", ("/tmp/a", "/tmp/b"), ()),
    DocumentedFlag("logging_config_file", ("--logging-config-file", "-lcf"), "log.ini", Path("log.ini"), None),
    DocumentedFlag("logging_level", ("--logging-level", "-ll"), "debug", "DEBUG", "INFO"),
    DocumentedFlag("logging_format", ("--logging-format", "-lf"), "json", "json", "text"),
]


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(TopSettings, ARGUMENTS, flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(TopSettings, FLAGS, besides=["monitor_address", "as_json"])


@pytest.mark.parametrize("form", ["--json", "--as-json", "-j"])
def test_json_goes_with_once(form: str) -> None:
    settings = TopSettings.from_command_line([*ARGUMENTS, "--once", form])
    assert settings.as_json
    assert TopSettings.from_command_line(settings.to_command_line()) == settings
    with pytest.raises(ConfigurationError, match="--json needs --once"):
        TopSettings.from_command_line([*ARGUMENTS, form])
