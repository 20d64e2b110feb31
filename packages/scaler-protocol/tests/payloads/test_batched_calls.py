"""The values that were sent apart go where they belong."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from scaler_protocol.payloads.batched_calls import Call, Place, Work, call_batch


class Batch:
    def __init__(self, *items: Call) -> None:
        self.items = list(items)

    def __call__(self) -> list[Any]:
        return [function(*positional, **keyword) for function, positional, keyword in self.items]


def show(*positional: Any, **keyword: Any) -> Any:
    return positional, keyword


def test_values_go_to_their_places() -> None:
    batch = Batch((show, (None, 2), {"key": None, "other": 3}), (show, (4,), {}), (show, (5, None), {}))
    places = (Place(0, 0, 1), Place(0, "key", 0), Place(2, 1, 1))
    assert call_batch(Work(batch, places, None), "first", "second") == [
        (("second", 2), {"key": "first", "other": 3}),
        ((4,), {}),
        ((5, "second"), {}),
    ]


def test_threads_are_limited_only_where_that_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert call_batch(Work(Batch((show, (1,), {})), (), 1)) == [((1,), {})]
