"""The form of log lines, and where they go."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.log import set_up_logging


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:], root.level = handlers, level


def test_text_lines_have_level_time_with_zone_and_message(tmp_path: Path) -> None:
    path = tmp_path / "scaler.log"
    set_up_logging([str(path)])
    logging.getLogger("scaler").warning("disk %d%% full", 93)
    last = path.read_text().splitlines()[-1]
    assert re.fullmatch(r"\[WARNING\]\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4}: disk 93% full", last)


def test_json_lines_hold_the_same_and_the_traceback(tmp_path: Path) -> None:
    path = tmp_path / "scaler.log"
    set_up_logging([str(path)], log_format="json")
    try:
        raise RuntimeError("gone")
    except RuntimeError:
        logging.getLogger("scaler.x").exception("lost\nit")
    entry = json.loads(path.read_text().splitlines()[-1])
    assert (entry["level"], entry["logger"], entry["message"]) == ("ERROR", "scaler.x", "lost\nit")
    assert "RuntimeError: gone" in entry["traceback"]


def test_several_places_get_every_line_and_folders_are_made(tmp_path: Path) -> None:
    paths = [str(tmp_path / "new" / "deep" / "a.log"), str(tmp_path / "b.log")]
    set_up_logging(paths)
    logging.info("both")
    assert all("both" in Path(path).read_text() for path in paths)


def test_dev_stdout_is_the_standard_stream(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(["/dev/stdout"])
    logging.info("seen")
    assert "seen" in capsys.readouterr().out


def test_lines_below_the_level_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scaler.log"
    set_up_logging([str(path)], level="ERROR")
    logging.warning("too quiet")
    assert path.read_text() == ""


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"--logging-paths: cannot write to .*/file/scaler.log: "):
        set_up_logging([str(tmp_path / "file" / "scaler.log")])


def test_a_logging_config_file_decides_everything(tmp_path: Path) -> None:
    target, config = tmp_path / "special.log", tmp_path / "log.ini"
    config.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=bare\n"
        "[logger_root]\nlevel=INFO\nhandlers=file\n"
        f"[handler_file]\nclass=FileHandler\nformatter=bare\nargs=({str(target)!r},)\n"
        "[formatter_bare]\nformat=<%(message)s>\n"
    )
    set_up_logging([str(tmp_path / "unused.log")], config_file=config)
    logging.info("mine")
    assert target.read_text() == "<mine>\n"
    assert not (tmp_path / "unused.log").exists()


def test_a_broken_logging_config_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--logging-config-file: there is no file"):
        set_up_logging(["/dev/stdout"], config_file=tmp_path / "none.ini")
    (tmp_path / "log.ini").write_text("[loggers]\nkeys=root,lost\n")
    with pytest.raises(ConfigurationError, match=r"log.ini cannot be used"):
        set_up_logging(["/dev/stdout"], config_file=tmp_path / "log.ini")


def test_standard_streams_do_not_say_that_they_have_the_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    set_up_logging(["/dev/stdout"])
    assert capsys.readouterr().out == ""
    set_up_logging(["/dev/stdout", str(tmp_path / "log")])
    assert "logging to /dev/stdout, " in capsys.readouterr().out
