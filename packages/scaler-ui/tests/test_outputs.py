"""The connection that asks for the output of tasks: it is there while somebody looks, also after it has failed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from scaler_protocol.address import Address
from scaler_protocol.monitoring.topics import OutputTopic
from scaler_ui import outputs
from scaler_ui.outputs import OutputFeed

TOPIC = OutputTopic(1, b"c" * 16)


def wait_for_end_of_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "outputs of tasks":
            thread.join(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_asks_again_after_it_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(*arguments: Any, **_options: Any) -> None:
        asked.append(arguments)
        raise OSError("there are no descriptors left")

    monkeypatch.setattr(outputs, "Subscriber", fail)
    with OutputFeed(Address.parse("tcp://127.0.0.1:9")) as feed:
        for looks in range(1, 4):
            assert feed.look(TOPIC) is None
            wait_for_end_of_thread()
            assert len(asked) == looks
