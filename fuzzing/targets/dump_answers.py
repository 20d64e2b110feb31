"""What `scaler_dump` makes of any answer: a document, or one error."""

from __future__ import annotations

import contextlib
import json

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.wire.messages import MonitorDump
from scaler_ui.dump.settings import DumpSettings
from scaler_ui.dump.writer import document_of, text_of
from scaler_ui.model import ClusterModel

SETTINGS = DumpSettings(monitor_address=Address.parse("tcp://127.0.0.1:2347"))


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    texts = (
        '{"tables": {"a": [1, 2.5, null, true]}, "tasks_asked_for": [{"number": 7}]}',
        '{"tasks_asked_for": [NaN, 1e999, -0]}',
        '{"tasks_asked_for": [' + "9" * 5_000 + "]}",
        '{"tasks_asked_for": ' + "[" * 2_000 + "]" * 2_000 + "}",
        '{"tasks_asked_for": ["\\ud800"]}',
        "[]",
    )
    return [text.encode() for text in texts]


def run(data: bytes) -> None:
    """See `fuzzing`."""
    dump = MonitorDump(1.0, data.decode("utf-8", "replace"))
    for number in (0, 7):
        with contextlib.suppress(ServiceError):
            text = text_of(document_of({number: dump}, ClusterModel(), SETTINGS), SETTINGS)
            json.loads(text)
            text.encode()
