"""What tasks say of how far they are: which values are taken, and what futures show."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from scaler import ScalerFuture, TaskProgress, current_task
from scaler.client import current_task as current_task_module
from scaler.client.completion import take_progress
from scaler.core.effects import Progressed


class Heard:
    """Stands for the processor."""

    def __init__(self) -> None:
        self.said: list[tuple[float, float, str]] = []

    def report_progress(self, done: float, total: float, note: str) -> None:
        self.said.append((done, total, note))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, str]]:
    heard = Heard()
    monkeypatch.setattr(current_task_module, "_context", lambda: heard)
    return heard.said


def test_outside_tasks_nothing_happens() -> None:
    current_task().report_progress(1, 2, "nobody listens")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((3,), (3, -1.0, "")),
        ((0, 0), (0, 0, "")),
        ((1.5, 10, "rows"), (1.5, 10, "rows")),
        ((Fraction(1, 2), Decimal(4)), (0.5, 4.0, "")),
        ((7, 5), (7, 5, "")),
        ((1, None, "x" * 500), (1, -1.0, "x" * 200)),
    ],
)
def test_amounts(heard: list[tuple[float, float, str]], values: tuple[Any, ...], said: tuple[Any, ...]) -> None:
    current_task().report_progress(*values)
    assert heard == [said]


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        (("3",), TypeError, "done must be a number, not '3'"),
        ((True,), TypeError, "done must be a number, not True"),
        ((None,), TypeError, "done must be a number, not None"),
        ((-1,), ValueError, "done must be from 0 to 2\\*\\*53, not -1"),
        ((float("nan"),), ValueError, "done must be from 0"),
        ((10**400,), ValueError, "done must be from 0"),
        ((1, float("inf")), ValueError, "total must be from 0"),
        ((1, [2]), TypeError, "total must be a number"),
        ((1, 2, 3), TypeError, "note must be a str, not 3"),
    ],
)
def test_what_is_no_amount_is_refused(
    heard: list[Any], values: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        current_task().report_progress(*values)
    assert heard == []


def test_a_future_shows_what_was_said_last() -> None:
    future = ScalerFuture(None)  # type: ignore[arg-type]
    assert future.progress() is None
    take_progress(Progressed(future, 1.0, -1.0, ""))
    assert future.progress() == TaskProgress(1.0, None, "")
    take_progress(Progressed(future, 2.0, 4.0, "rows"))
    assert future.progress() == (2.0, 4.0, "rows")
    # A chunk of a map has no future.
    take_progress(Progressed(object(), 2.0, 4.0, "rows"))
