"""What tests use to interrupt programs at every line."""

from __future__ import annotations

import sys

import pytest

from scaler_protocol.testing.interrupted_lines import interrupted_at


def look_up() -> str:
    numbers: list[int] = []
    try:
        numbers.index(1)
    except ValueError:
        return "missing"
    return "found"


def test_every_line_is_interrupted_once_and_nothing_stays_behind() -> None:
    seen: list[str] = []
    line = 1
    while interrupted_at(line, lambda: seen.append(look_up()), __file__):
        assert sys.exc_info() == (None, None, None)
        line += 1
    # The lambda, and the five lines of the function that run.
    assert line == 7
    assert seen == ["missing"]


def test_other_interrupts_get_through() -> None:
    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_at(1_000, press, __file__)
