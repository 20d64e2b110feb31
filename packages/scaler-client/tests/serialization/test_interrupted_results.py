"""Ctrl-C while a result is restored."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaler.serialization.results import load_failure, load_value
from scaler_protocol.failures import failure_payload
from scaler_protocol.payloads.framing import PICKLED


def _quiet() -> None:
    pass


class SignalledError(Exception):
    """While its text is made, what a test wants happens."""

    act: Callable[[], Any] = staticmethod(_quiet)

    def __str__(self) -> str:
        type(self).act()
        return "as in the task"


class Unrestorable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise SignalledError


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Press Ctrl-C the next time a text is made; the list says how often it was."""
    pressed: list[str] = []

    def act() -> None:
        if not pressed:
            pressed.append("pressed")
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SignalledError, "act", staticmethod(act))
    # What a shell starts in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield pressed
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_the_text_of_an_exception_gets_through(monkeypatch: pytest.MonkeyPatch, once: list[str]) -> None:
    with monkeypatch.context() as quiet:
        quiet.setattr(SignalledError, "act", staticmethod(_quiet))
        payload = failure_payload(SignalledError())

    with pytest.raises(KeyboardInterrupt):
        load_failure(payload, 1)
    assert once == ["pressed"]

    error = load_failure(payload, 1)
    assert type(error) is SignalledError
    assert str(error) == "as in the task"


def test_ctrl_c_while_an_error_is_described_gets_through(once: list[str]) -> None:
    payload = PICKLED + pickle.dumps(Unrestorable())

    with pytest.raises(KeyboardInterrupt):
        load_value(payload)
    assert once == ["pressed"]


def test_an_exception_whose_text_interrupts_is_a_result_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = failure_payload(SignalledError())

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SignalledError, "act", staticmethod(interrupt))

    assert type(load_failure(payload, 1)) is SignalledError
