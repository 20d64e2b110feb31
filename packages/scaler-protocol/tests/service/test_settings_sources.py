"""Where a setting comes from, which source wins, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.setting_types import BIND_ADDRESS, SWITCH, TEXTS, integer, number, text
from scaler_protocol.service.settings import ServiceSettings, positional, setting


class ClockSettings(ServiceSettings):
    """Tells the time."""

    command: ClassVar[str] = "scaler_clock"
    section: ClassVar[str] = "clock"

    address: Address = positional(BIND_ADDRESS, also_key="clock_address", description="where to listen")
    tick_seconds: float = setting(number(more_than=0), "ts", default=1, description="time between two ticks")
    chimes: bool = setting(SWITCH, "c2", default=False, description="strike the hour")
    offset: int = setting(integer(), "o", default=0, description="minutes to 100 % wrong")
    host: str = setting(text(), default="here", also=["web_host"], description="where it hangs")
    zones: tuple[str, ...] = setting(TEXTS, "z", default=(), takes_several=True, description="time zones shown")


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
        "--tick-seconds: must be greater than 0, not 0",
        f"{file}: [clock] offset: 'x' is not a whole number",
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
    settings = ClockSettings(address=Address.parse(ADDRESS), offset=-2, chimes=True, zones=("a", "b"))
    arguments = settings.to_command_line()
    assert arguments == [ADDRESS, "--chimes", "--offset=-2", "--zones=a", "--zones=b"]
    assert ClockSettings.from_command_line(arguments) == settings
    assert settings.to_command_line(fields=["offset"]) == ["--offset=-2"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-o", "1.5"], "--offset: '1.5' is not a whole number"),
        (["-ts", "nan"], "--tick-seconds: 'nan' is not a number"),
        (["-ts", "soon"], "--tick-seconds: 'soon' is not a number"),
    ],
)
def test_numbers_are_checked(given: list[str], expected: str) -> None:
    assert refusal(ADDRESS, *given) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("offset = true", "offset: True is not a whole number"),
        ("chimes = 'maybe'", "chimes: 'maybe' is neither true nor false"),
        ("host = 3", "host: 3 is not a text"),
        ("zones = 3", "zones: 3 is neither a list nor a text separated by commas"),
        ("zones = ['a', 3]", "zones: 3 is not a text"),
    ],
)
def test_types_in_the_file_are_checked(file: Path, line: str, expected: str) -> None:
    file.write_text(f"[clock]\n{line}\n")
    assert refusal(ADDRESS, "-c", str(file)) == f"{file}: [clock] {expected}"


def test_commas_in_an_array_of_the_file_are_part_of_the_text(file: Path) -> None:
    file.write_text("[clock]\nzones = ['a,b', 'c']\n")
    assert ClockSettings.from_command_line([ADDRESS, "-c", str(file)]).zones == ("a,b", "c")


def test_a_field_that_would_be_no_setting_is_refused() -> None:
    with pytest.raises(TypeError, match=r"HalfSettings\.speed: declare settings with setting"):

        class HalfSettings(ServiceSettings):
            command = "half"
            section = "half"
            speed: int = 3


def test_settings_made_in_code_are_checked_and_do_not_change() -> None:
    with pytest.raises(ConfigurationError) as refused:
        ClockSettings(address=Address.parse(ADDRESS), tick_seconds=-1, speed=3)  # type: ignore[call-arg]
    assert str(refused.value).splitlines() == [
        "--speed is no setting of scaler_clock",
        "--tick-seconds: must be greater than 0, not -1",
    ]
    settings = ClockSettings(address=Address.parse(ADDRESS))
    with pytest.raises(AttributeError, match="settings do not change: offset"):
        settings.offset = 3  # type: ignore[misc]
    assert settings == ClockSettings(address=Address.parse(ADDRESS))
    assert hash(settings) == hash(ClockSettings(address=Address.parse(ADDRESS)))
    assert "tick_seconds=1" in repr(settings)
