"""`Client.trace` ends its listener wherever its thread is interrupted, and waits for no cluster that has ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from scaler.client import trace
from scaler.errors import DisconnectedError
from scaler_protocol.monitoring.topics import FIGURES
from scaler_protocol.testing.interrupted_lines import interrupted_at
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode

ME = b"c" * 16
SECONDS = 20.0


class Monitored:
    """A scheduler of which there is only what it says to monitors."""

    def __init__(self) -> None:
        self.unusable: DisconnectedError | None = None
        self.speaks = True
        self._publisher = Publisher("tcp://127.0.0.1:0")
        self.address = self._publisher.address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._publisher.close()

    def record(self, file: Path) -> AbstractContextManager[None]:
        return trace.record(file, ME, self.address, SECONDS, lambda: self.unusable)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.005):
            self._publisher.update_subscribers()
            if self.speaks:
                number += 1
                snapshot = m.MonitorSnapshot(number, time.time(), b"s" * 16)
                self._publisher.send([FIGURES, *encode(snapshot)])


@pytest.fixture
def monitored() -> Iterator[Monitored]:
    scheduler = Monitored()
    yield scheduler
    scheduler.close()


def listeners() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "scaler-trace"]


def test_its_thread_may_be_interrupted_at_every_line(monitored: Monitored, tmp_path: Path) -> None:
    def use() -> None:
        with monitored.record(tmp_path / "trace.json"):
            pass

    line = 1
    while interrupted_at(line, use, trace.__file__):
        wait_until(lambda: not listeners())
        line += 1
    assert line > 30
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"] == []


def test_what_was_recorded_is_written_when_the_block_raises(monitored: Monitored, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), monitored.record(tmp_path / "trace.json"):
        raise ZeroDivisionError
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"] == []
    assert not listeners()


def test_a_cluster_that_has_ended_is_not_waited_for(monitored: Monitored, tmp_path: Path) -> None:
    with monitored.record(tmp_path / "trace.json"):
        monitored.speaks = False
        began = time.monotonic()
        monitored.unusable = DisconnectedError("the cluster has ended")
    assert time.monotonic() - began < 2.0
    with pytest.raises(DisconnectedError, match="has ended"), monitored.record(tmp_path / "trace.json"):
        pytest.fail("it was entered")
    assert time.monotonic() - began < 4.0
    wait_until(lambda: not listeners())


def test_a_listener_that_fails_is_told_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(DisconnectedError, match="cannot subscribe"),
        trace.record(tmp_path / "trace.json", ME, "nonsense://1", SECONDS, lambda: None),
    ):
        pytest.fail("it was entered")
    wait_until(lambda: not listeners())
