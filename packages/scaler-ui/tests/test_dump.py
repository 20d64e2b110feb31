"""What `scaler_dump` makes of a scheduler's answer, whatever it says."""

from __future__ import annotations

import json

import pytest

from scaler_protocol.monitoring.kept_output import KeptPart, Piece, write_parts
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.messages import MonitorDump, MonitorOutput
from scaler_ui.dump.main import main
from scaler_ui.dump.settings import DumpSettings
from scaler_ui.dump.writer import document_of, text_of
from scaler_ui.model import ClusterModel

SETTINGS = DumpSettings.from_command_line(["tcp://127.0.0.1:2347"])


def test_an_answer_is_written_as_it_came() -> None:
    dumps = {0: MonitorDump(1.0, '{"tables": {"a": [1]}, "tasks_asked_for": []}')}
    document = document_of(dumps, ClusterModel(), SETTINGS)
    assert json.loads(text_of(document, SETTINGS))["scheduler"] == {"tables": {"a": [1]}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"tasks_asked_for": 1}',
        '{"tasks_asked_for": [NaN]}',
        '{"tasks_asked_for": [1e999]}',
        '{"tasks_asked_for": [' + "9" * 5_000 + "]}",
        '{"tasks_asked_for": ' + "[" * 100_000,
    ],
    ids=["empty", "cut off", "list", "no tasks", "no list", "not a number", "infinite", "long number", "deep"],
)
def test_an_answer_that_cannot_be_read_is_one_error_with_the_address(text: str) -> None:
    with pytest.raises(ServiceError, match=r"tcp://127\.0\.0\.1:2347 sent a dump that cannot be read: ."):
        text_of(document_of({7: MonitorDump(1.0, text)}, ClusterModel(), SETTINGS), SETTINGS)


def test_the_output_of_tasks_is_in_it() -> None:
    dumps = {number: MonitorDump(1.0, '{"tasks_asked_for": []}') for number in (7, 8)}
    payload = write_parts([KeptPart("w0", 11, "", True, (Piece(1, 2.5, "hello\n"),))])
    outputs = {7: MonitorOutput(1.0, 7, bytes(16), ("agent", "liar"), Packed.of([payload, b"{"]), 2)}
    document = json.loads(text_of(document_of(dumps, ClusterModel(), SETTINGS, outputs), SETTINGS))
    told, other = (task["output"] for task in document["tasks_asked_for"])
    assert other is None
    assert told["unreadable"] == ["liar"]
    assert told["parts"] == [
        {"agent": "agent", "worker": "w0", "pid": 11, "ended": "", "dropped": True, "pieces": [[1, 2.5, "hello\n"]]}
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--tasks=-1", "--tasks: must be greater than or equal to 1, not '-1'"),
        ("--tasks 0", "--tasks: must be greater than or equal to 1, not '0'"),
        (f"--tasks {1 << 64}", f"--tasks: must be less than {1 << 64}, not '{1 << 64}'"),
        ("--tasks 1,2,3,4,5,6,7,8,9", "--tasks: at most 8 are possible, not 9"),
        ("--profile 3 --tasks 17", "--profile and --tasks are both given"),
    ],
)
def test_impossible_settings_are_one_line(flags: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tcp://127.0.0.1:2347", *flags.split()]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"scaler_dump: {words}")
