"""Where a setting comes from, which source wins, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import AliasChoices, Field

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.settings import (
    AlsoKey,
    BindAddressSetting,
    CliPositionalArg,
    ServiceSettings,
    Short,
    TakesSeveral,
    TextListSetting,
)


class ClockSettings(ServiceSettings):
    """Tells the time."""

    command: ClassVar[str] = "scaler_clock"
    section: ClassVar[str] = "clock"

    address: Annotated[CliPositionalArg[BindAddressSetting], AlsoKey("clock_address")] = Field(
        description="where to listen"
    )
    tick_seconds: Annotated[float, Short("ts")] = Field(default=1, gt=0, description="time between two ticks")
    chimes: Annotated[bool, Short("c2")] = Field(default=False, description="strike the hour")
    offset: Annotated[int, Short("o")] = Field(default=0, description="minutes to 100 % wrong")
    host: str = Field(default="here", validation_alias=AliasChoices("host", "web_host"), description="where it hangs")
    zones: Annotated[TextListSetting, Short("z"), TakesSeveral()] = Field(default=(), description="time zones shown")


ADDRESS = "tcp://127.0.0.1:1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clocks.toml"


def refusal(*arguments: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        ClockSettings.from_command_line(arguments)
    return str(refused.value)


def test_command_line_wins_over_file_wins_over_default(file: Path) -> None:
    file.write_text("[clock]\ntick_seconds = 2\noffset = 3\n")
    settings = ClockSettings.from_command_line([ADDRESS, "--config", str(file), "-ts", "5"])
    assert (settings.tick_seconds, settings.offset, settings.host) == (5, 3, "here")


def test_a_field_given_under_two_names_follows_the_same_order(file: Path) -> None:
    file.write_text('[clock]\nweb_host = "file"\n')
    assert ClockSettings.from_command_line([ADDRESS, "-c", str(file)]).host == "file"
    assert ClockSettings.from_command_line([ADDRESS, "-c", str(file), "--host", "flag"]).host == "flag"


def test_a_switch_of_the_file_can_be_taken_back(file: Path) -> None:
    file.write_text("[clock]\nchimes = true\n")
    assert ClockSettings.from_command_line([ADDRESS, f"--config={file}"]).chimes
    assert not ClockSettings.from_command_line([ADDRESS, f"--config={file}", "--no-chimes"]).chimes


@pytest.mark.parametrize("key", ["address", "clock_address"])
def test_the_file_may_hold_the_address(file: Path, key: str) -> None:
    file.write_text(f'[clock]\n{key} = "{ADDRESS}"\n')
    assert str(ClockSettings.from_command_line(["-c", str(file)]).address) == ADDRESS
    assert str(ClockSettings.from_command_line(["tcp://h:2", "-c", str(file)]).address) == "tcp://h:2"


def test_the_address_may_stand_anywhere() -> None:
    for arguments in ([ADDRESS, "-o", "2"], ["-o", "2", ADDRESS], ["-ts", "3", ADDRESS, "-o=2", "--chimes"]):
        settings = ClockSettings.from_command_line(arguments)
        assert (str(settings.address), settings.offset) == (ADDRESS, 2)


def test_several_words_or_commas_or_repetition_make_a_list() -> None:
    for flags in (["-z", "a", "b"], ["--zones=a,b"], ["-z", "a", "--zones", "b"]):
        assert ClockSettings.from_command_line([ADDRESS, *flags]).zones == ("a", "b")


def test_negative_numbers_are_values() -> None:
    assert ClockSettings.from_command_line([ADDRESS, "-o", "-3"]).offset == -3


def test_sections_of_others_are_not_looked_at(file: Path) -> None:
    file.write_text("[worker]\nanything = 1\n[clock]\n")
    assert ClockSettings.from_command_line([ADDRESS, "-c", str(file)]).offset == 0


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFSET", "9")
    monkeypatch.setenv("offset", "9")
    assert ClockSettings.from_command_line([ADDRESS]).offset == 0


def test_every_mistake_is_one_line_that_names_its_place(file: Path) -> None:
    file.write_text("[clock]\noffset = 'x'\n")
    assert refusal("nowhere", "--tick-seconds", "0", "-c", str(file)).splitlines() == [
        "ADDRESS: 'nowhere' is not an address: expected tcp://host:port or ipc://path",
        "--tick-seconds: Input should be greater than 0",
        f"{file}: [clock] offset: Input should be a valid integer, unable to parse string as an integer",
    ]


def test_what_cannot_be_understood_is_refused(file: Path) -> None:
    assert "unrecognized arguments: --speed 3" in refusal(ADDRESS, "--speed", "3")
    assert "expected one argument" in refusal(ADDRESS, "--offset")
    assert refusal("--offset", "1").startswith("ADDRESS is missing: give it on the command line, before the flags")
    assert f"cannot read {file}: No such file" in refusal(ADDRESS, "-c", str(file))
    file.write_text("[clock\n")
    assert f"{file} is not valid TOML" in refusal(ADDRESS, "-c", str(file))
    file.write_bytes(b"\xff\xfe")
    assert f"{file} is not valid TOML" in refusal(ADDRESS, "-c", str(file))
    file.write_text("clock = 3\n")
    assert "'clock' is not a section" in refusal(ADDRESS, "-c", str(file))
    file.write_text("[clock]\nspeed = 1\nconfig = 'other.toml'\n")
    assert "[clock] has no setting 'speed'; known are: address, chimes," in refusal(ADDRESS, "-c", str(file))
    assert "[clock] has no setting 'config'" in refusal(ADDRESS, "-c", str(file))
    file.write_text("[clock]\nhost = 'a'\nweb_host = 'b'\n")
    assert "sets the same thing twice: host and web_host" in refusal(ADDRESS, "-c", str(file))


def test_help_names_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        ClockSettings.from_command_line(["-h"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Tells the time." in shown
    assert "--tick-seconds SECONDS, -ts SECONDS time between two ticks (default: 1)" in shown
    assert "--offset N, -o N minutes to 100 % wrong (default: 0)" in shown
    assert "--zones TEXT [TEXT ...], -z TEXT [TEXT ...] time zones shown" in shown


def test_settings_can_be_made_in_code_and_turned_into_arguments() -> None:
    settings = ClockSettings(address=ADDRESS, offset=-2, chimes=True, zones=("a", "b"))
    arguments = settings.to_command_line()
    assert arguments == [ADDRESS, "--chimes", "--offset=-2", "--zones=a", "--zones=b"]
    assert ClockSettings.from_command_line(arguments) == settings
    assert settings.to_command_line(fields=["offset"]) == ["--offset=-2"]
