"""Every flag of `scaler_ui`: long and short form, TOML key, default."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.testing.settings import WEB_FLAGS, DocumentedFlag, check_flag, check_table_is_complete
from scaler_ui.web.settings import WebSettings

ARGUMENTS = ["tcp://127.0.0.1:2347"]

FLAGS = [
    DocumentedFlag("allowed_frames", ("--allowed-frames",), "http://localhost:*", ("http://localhost:*",), ()),
    DocumentedFlag("host", ("--host", "--web-host"), "127.0.0.2", "127.0.0.2", "127.0.0.1"),
    DocumentedFlag("port", ("--port", "--web-port"), "9000", 9000, 50001),
    DocumentedFlag("token", ("--token",), "secret", "secret", ""),
    *WEB_FLAGS,
    DocumentedFlag("history_file", ("--history-file",), "hour.bin", "hour.bin", ""),
    DocumentedFlag("otel_endpoint", ("--otel-endpoint",), "http://a:4318", "http://a:4318", ""),
    DocumentedFlag("timeout", ("--timeout", "-t"), "2.5", 2.5, 5),
    DocumentedFlag(
        "logging_paths", ("--logging-paths", "-lp"), "/tmp/a,/tmp/b", ("/tmp/a", "/tmp/b"), ("/dev/stdout",)
    ),
    DocumentedFlag("logging_config_file", ("--logging-config-file", "-lcf"), "log.ini", Path("log.ini"), None),
    DocumentedFlag("logging_level", ("--logging-level", "-ll"), "debug", "DEBUG", "INFO"),
    DocumentedFlag("logging_format", ("--logging-format", "-lf"), "json", "json", "text"),
]


@pytest.mark.parametrize("flag", FLAGS, ids=str)
def test_flag_is_as_documented(flag: DocumentedFlag, tmp_path: Path) -> None:
    check_flag(WebSettings, ARGUMENTS, flag, tmp_path)


def test_every_setting_is_documented() -> None:
    check_table_is_complete(WebSettings, FLAGS, besides=["monitor_address"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "node.example.org"])
def test_everybody_may_look_only_where_that_was_said(host: str) -> None:
    def token(*arguments: str) -> str | None:
        settings = WebSettings.from_command_line([*ARGUMENTS, "--host", host, *arguments])
        return settings.read_token(settings.host, settings.token)

    with pytest.raises(ConfigurationError, match="give --token-file, or --insecure"):
        token()
    assert token("--insecure") is None
    assert token("--token", "secret") == "secret"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert WebSettings.from_command_line([*ARGUMENTS, "--host", host]).read_token(host) is None


def test_a_settings_file_with_a_token_must_be_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "scaler.toml"
    file.write_text('[webui]\nmonitor_address = "tcp://127.0.0.1:2347"\ntoken = "secret"\n')
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"\[webui\] token: .*chmod 600"):
        WebSettings.from_command_line(["--config", str(file)])
    file.chmod(0o600)
    assert WebSettings.from_command_line(["--config", str(file)]).token == "secret"


@pytest.mark.parametrize(
    "frame", ["*", "http://*", "localhost:8888", "http://a;script-src", "http://a b", "http://a/x"]
)
def test_only_sites_may_be_allowed_to_show_frames(frame: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--allowed-frames: .* is not of the form http://localhost:8888"):
        WebSettings.from_command_line(["tcp://127.0.0.1:2347", f"--allowed-frames={frame}"])
