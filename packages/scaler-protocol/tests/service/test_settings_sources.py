"""Where a setting comes from, which source wins, and what is said when one is wrong."""

from __future__ import annotations

import importlib.metadata
import sys
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


class TowerSettings(ClockSettings):
    """Has a bell."""

    bell: Path | None = Field(default=None, description="file with the sound of the bell")
    dial: Annotated[Path, Short("d")] = Field(default=Path("dial.png"), description="picture of the dial")


class LockedSettings(ServiceSettings):
    """Asks for a secret."""

    command: ClassVar[str] = "scaler_locked"
    section: ClassVar[str] = "locked"

    token: str = Field(default="", description="secret to be shown")


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


@pytest.mark.parametrize("words", ["--bell #", "--bell=", "-d #", "--dial #", "--config #"])
def test_an_empty_path_is_refused_and_not_the_folder_of_the_command(words: str) -> None:
    flags = ["" if word == "#" else word for word in words.split()]
    flag = "--dial" if flags[0] == "-d" else flags[0].rstrip("=")
    with pytest.raises(ConfigurationError, match=f"^{flag}: must be a path, not ''$"):
        TowerSettings.from_command_line([ADDRESS, *flags])


def test_a_text_and_an_empty_path_of_the_file(file: Path) -> None:
    file.write_text('[clock]\nbell = ""\n')
    with pytest.raises(ConfigurationError, match=r"clocks\.toml: \[clock\] bell: must be a path, not ''$"):
        TowerSettings.from_command_line([ADDRESS, "-c", str(file)])
    # Texts may be empty.
    assert TowerSettings.from_command_line([ADDRESS, "--host", "", "--bell", "."]).host == ""


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
        "--tick-seconds: must be greater than 0, not '0'",
        f"{file}: [clock] offset: must be a whole number, not 'x'",
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


def test_a_misspelt_section_is_warned_of(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "scaler_protocol.service.settings_file.KNOWN_SECTIONS", frozenset({"clock", "scheduler", "top"})
    )
    for section in ("clcok", "Clock", "clock_", "clocks", "CLOCK"):
        file.write_text(f"[{section}]\noffset = 3\n[scheduler]\n[database]\n[tool.ruff]\n")
        assert ClockSettings.from_command_line([ADDRESS, "-c", str(file)]).offset == 0
        assert capsys.readouterr().err == (
            f"scaler_clock: warning: {file}: nobody reads the section [{section}]; did you mean [clock]?\n"
        )
    file.write_text("[[clocks]]\noffset = 3\n")
    ClockSettings.from_command_line([ADDRESS, "-c", str(file)])
    assert "did you mean [clock]?" in capsys.readouterr().err
    # Whose business it is says so, and nobody else.
    file.write_text("[shceduler]\nprotected = true\n[toop]\n[clock]\noffset = 3\n")
    assert ClockSettings.from_command_line([ADDRESS, "-c", str(file)]).offset == 3
    assert capsys.readouterr().err == ""


def test_settings_outside_of_all_sections_are_warned_of(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("offset = 3\ntitle = 'ours'\n[clock]\n")
    assert ClockSettings.from_command_line([ADDRESS, "-c", str(file)]).offset == 0
    assert capsys.readouterr().err == (
        f"scaler_clock: warning: {file}: 'offset' stands outside of all sections and is ignored; put it under [clock]\n"
    )


def test_a_byte_order_mark_is_passed_over(file: Path) -> None:
    file.write_text("[clock]\noffset = 3\n", encoding="utf-8-sig")
    assert ClockSettings.from_command_line([ADDRESS, "-c", str(file)]).offset == 3


def test_misspelt_names_come_with_the_nearest_one_and_with_all_other_mistakes(file: Path) -> None:
    file.write_text("[clock]\noffest = 1\ntick-seconds = 2\nhost = 4\nquark = 1\nchimes = 'perhaps'\n")
    lines = refusal("nowhere", "--chmies", "--offset", "x", "-c", str(file)).splitlines()
    assert lines[0] == "unrecognized arguments: --chmies; did you mean '--chimes'? (-h lists the flags)"
    assert lines[1] == f"{file}: [clock] has no setting 'offest'; did you mean 'offset'?"
    assert lines[2] == f"{file}: [clock] has no setting 'tick-seconds'; did you mean 'tick_seconds'?"
    assert lines[3].startswith(f"{file}: [clock] has no setting 'quark'; known are: ")
    assert lines[4] == "ADDRESS: 'nowhere' is not an address: expected tcp://host:port or ipc://path"
    assert lines[5:] == [
        f"{file}: [clock] chimes: must be true or false, not 'perhaps'",
        "--offset: must be a whole number, not 'x'",
        f"{file}: [clock] host: must be text, not 4",
    ]
    assert refusal(ADDRESS, "--no-chime=1").startswith(
        "unrecognized arguments: --no-chime=1; did you mean '--no-chimes'?"
    )


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ClockSettings.from_command_line(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"scaler_clock {importlib.metadata.version('scaler-protocol')}\n"


def test_a_wrong_secret_is_not_told(file: Path) -> None:
    file.write_text("[locked]\ntoken = 53\n")
    with pytest.raises(ConfigurationError) as refused:
        LockedSettings.from_command_line(["-c", str(file)])
    assert str(refused.value) == f"{file}: [locked] token: must be text"


def test_an_address_under_a_misspelt_key_is_not_missing_as_well(file: Path) -> None:
    file.write_text(f"[clock]\nadress = '{ADDRESS}'\n")
    (line,) = refusal("-c", str(file)).splitlines()
    assert "did you mean 'address'?" in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[clock]\noffset = 1\noffset = 2\n", "Cannot overwrite a value"),
        (b"[clock]\n[clock]\n", "Cannot declare"),
        (b'[clock]\nhost = "\xe9"\n', "it is not UTF-8"),
        ("[clock]\noffset = 1\n".encode("utf-16"), "it is not UTF-8"),
        (b"a = " + b"[" * 5_000, "nested too deeply"),
        (b"[[clock]]\noffset = 1\n", "'clock' is not a section; write [clock]"),
        (b"clock = [1, 2]\n", "'clock' is not a section; write [clock]"),
        (b"[clock]\naddress = 5\n", "expected text like tcp://127.0.0.1:2345, not int"),
        (b"[clock]\nzones = 5\n", "zones: must be a list, not 5"),
        (b"[clock]\nzones = [5]\n", "zones: must be text, not 5"),
        (b"[clock.offset]\nminutes = 5\n", "offset: must be a whole number, not {'minutes': 5}"),
        (b"[clock]\noffset = 2026-11-27\n", "offset: must be a whole number, not datetime.date(2026, 11, 27)"),
        (b"[clock]\noffset = 1.5\n", "offset: must be a whole number, not 1.5"),
        (b"[clock]\ntick_seconds = nan\n", "tick_seconds: must be greater than 0, not nan"),
    ],
)
def test_files_that_say_something_else_are_refused_in_one_line(file: Path, content: bytes, told: str) -> None:
    file.write_bytes(content)
    arguments = ["-c", str(file)] if b"address" in content else [ADDRESS, "-c", str(file)]
    (line,) = refusal(*arguments).splitlines()
    assert str(file) in line
    assert told in line


def test_a_file_that_is_a_folder(tmp_path: Path) -> None:
    assert refusal(ADDRESS, "-c", str(tmp_path)) == f"cannot read {tmp_path}: Is a directory"


def test_help_names_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        ClockSettings.from_command_line(["-h"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Tells the time." in shown
    if sys.version_info >= (3, 13):
        # The library names a value once, behind all names of its flag.
        assert "--tick-seconds, -ts SECONDS time between two ticks (default: 1)" in shown
        assert "--offset, -o N minutes to 100 % wrong (default: 0)" in shown
        assert "--zones, -z TEXT [TEXT ...] time zones shown" in shown
    else:
        assert "--tick-seconds SECONDS, -ts SECONDS time between two ticks (default: 1)" in shown
        assert "--offset N, -o N minutes to 100 % wrong (default: 0)" in shown
        assert "--zones TEXT [TEXT ...], -z TEXT [TEXT ...] time zones shown" in shown
    assert shown.endswith("--config FILE sets these flags in the section [clock] of FILE, with _ for -.")


def test_settings_can_be_made_in_code_and_turned_into_arguments() -> None:
    settings = ClockSettings(address=ADDRESS, offset=-2, chimes=True, zones=("a", "b"))
    arguments = settings.to_command_line()
    assert arguments == [ADDRESS, "--chimes", "--offset=-2", "--zones=a", "--zones=b"]
    assert ClockSettings.from_command_line(arguments) == settings
    assert settings.to_command_line(fields=["offset"]) == ["--offset=-2"]


def test_a_word_that_is_not_utf_8_is_an_error_like_others() -> None:
    assert "tcx://here\\udcdf:1" in refusal("tcx://here\udcdf:1")
