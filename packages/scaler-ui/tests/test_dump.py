"""What `scaler_dump` makes of a scheduler's answer, whatever it says."""

from __future__ import annotations

import json

import pytest

from scaler_protocol.service.errors import ServiceError
from scaler_protocol.wire.messages import MonitorDump
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
