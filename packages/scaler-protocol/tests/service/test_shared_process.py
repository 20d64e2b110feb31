"""Several services in one process: who starts when, who stops when, and what is said where one fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scaler_protocol.address import Address
from scaler_protocol.service.child import ChildService
from scaler_protocol.service.errors import ServiceError

MODULE = "scaler_protocol.service.shared_process"
SERVICES = Path(__file__).parent / "services"
PATIENCE_S = 30.0


class SharedProcess:
    """A process with two services, and what they have noted."""

    def __init__(self, child: ChildService, output: Path, errors: Path) -> None:
        self.child = child
        self._output = output
        self._errors = errors

    def notes(self) -> list[str]:
        return self._output.read_text().splitlines()

    def errors(self) -> str:
        return self._errors.read_text()


Start = Callable[..., SharedProcess]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    monkeypatch.setenv("PYTHONPATH", str(SERVICES))
    processes: list[SharedProcess] = []

    def start(first: str = "run", second: str = "run", event_loop: str = "builtin") -> SharedProcess:
        arguments = ["first", "--what", first, "--event-loop", event_loop, "--logging-level", "ERROR"]
        with (tmp_path / "output").open("wb") as output, (tmp_path / "errors").open("wb") as errors:
            child = ChildService.start(
                MODULE, [*arguments, "--", "second", "--what", second], name="both", stdout=output, stderr=errors
            )
        processes.append(SharedProcess(child, tmp_path / "output", tmp_path / "errors"))
        return processes[-1]

    yield start
    for process in processes:
        process.child.terminate(0)


@pytest.mark.parametrize("event_loop", ["builtin", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_they_start_in_order_and_stop_in_the_opposite_one(
    start: Start, number: signal.Signals, event_loop: str
) -> None:
    process = start(event_loop=event_loop)
    address = Address.parse("tcp://127.0.0.1:4711")
    assert process.child.wait_ready(PATIENCE_S) == {"first": address, "second": address}
    os.kill(process.child.pid, number)
    assert process.child.join(PATIENCE_S) == 0
    pid = process.child.pid
    assert process.notes() == [
        "first made",
        "second made",
        f"first prepared alone=False in {pid}",
        f"second prepared alone=False in {pid}",
        "first starts beside []",
        "second starts beside ['first']",
        f"first hears that it will be: {number!r}",
        f"second hears that it will be: {number!r}",
        f"second is asked to stop: {number!r}",
        "second ends",
        f"first is asked to stop: {number!r}",
        "first ends",
        "second closed",
        "first closed",
    ]
    assert process.errors() == ""


def test_a_second_signal_ends_the_process_at_once(start: Start) -> None:
    process = start()
    process.child.wait_ready(PATIENCE_S)
    os.kill(process.child.pid, signal.SIGTERM)
    os.kill(process.child.pid, signal.SIGINT)
    assert process.child.join(PATIENCE_S) in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_a_second_that_does_not_start_takes_the_first_along(start: Start) -> None:
    process = start(second="fail")
    with pytest.raises(ServiceError, match="both ended before it was ready: exit status 1"):
        process.child.wait_ready(PATIENCE_S)
    assert process.errors() == "scaler_second: second does not start\n"
    assert process.notes()[-4:] == [
        f"first is asked to stop: {signal.SIGTERM!r}",
        "first ends",
        "second closed",
        "first closed",
    ]


def test_a_first_that_does_not_start_is_all(start: Start) -> None:
    process = start(first="fail")
    with pytest.raises(ServiceError, match="both ended before it was ready: exit status 1"):
        process.child.wait_ready(PATIENCE_S)
    assert process.errors() == "scaler_first: first does not start\n"
    assert not any("second starts" in note for note in process.notes())


@pytest.mark.parametrize("which", ["first", "second"])
def test_when_one_ends_so_do_all(start: Start, which: str) -> None:
    process = start(**{which: "end"})
    assert process.child.join(PATIENCE_S) == 0
    assert {"first ends", "first closed", "second closed"} <= set(process.notes())
    assert process.errors() == ""


@pytest.mark.parametrize("which", ["first", "second"])
def test_when_one_cannot_go_on_its_command_says_so(start: Start, which: str) -> None:
    process = start(**{which: "fail-later"})
    assert process.child.join(PATIENCE_S) == 1
    assert process.errors() == f"scaler_{which}: {which} cannot go on\n"


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_mistake_in_one_is_shown_and_ends_all(start: Start, which: str) -> None:
    process = start(**{which: "raise"})
    assert process.child.join(PATIENCE_S) == 1
    assert "ZeroDivisionError: a mistake in the program" in process.errors()
    assert process.notes()[-2:] == ["second closed", "first closed"]


@pytest.mark.parametrize("second", ["never-ready", "be-slow"])
def test_a_signal_while_the_second_starts_ends_both(start: Start, second: str) -> None:
    process = start(second=second)
    while not any("second starts" in note for note in process.notes()):
        assert process.child.is_running
    os.kill(process.child.pid, signal.SIGTERM)
    assert process.child.join(PATIENCE_S) == 0
    assert [note for note in process.notes() if note.endswith("ends")] == ["second ends", "first ends"]


def test_mistakes_in_the_settings_of_both_are_told_at_once(start: Start) -> None:
    process = start(first="dance", second="sing")
    with pytest.raises(ServiceError, match="exit status 2"):
        process.child.wait_ready(PATIENCE_S)
    first, second = process.errors().splitlines()
    assert first.startswith("scaler_first: --what: ")
    assert second.startswith("scaler_second: --what: ")
    assert process.notes() == ["first made", "second made", "second closed", "first closed"]


@pytest.mark.parametrize("arguments", [[], ["first", "--"], ["--", "second"], ["first", "--", "--", "second"]])
def test_a_command_line_that_names_nothing_is_answered_with_the_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", MODULE, *arguments], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert done.stderr.startswith("usage: python -m scaler_protocol.service.shared_process MODULE")
