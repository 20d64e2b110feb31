"""Values that come a second time are known by samples: others that hardly differ are not taken for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scaler.serialization.first_values import KNOWN_MAX, FirstValues

SIZE = 64 * 1024


def _bytes(number: int) -> bytes:
    return number.to_bytes(4, "little") + bytes(SIZE)


def _ending(number: int) -> bytes:
    return _bytes(number)[::-1]


def _text(number: int) -> str:
    return "a" * SIZE + str(number)


def _array(number: int) -> Any:
    return np.arange(SIZE // 8, dtype=float) + number * 1e-9


def _strided(number: int) -> Any:
    return np.full((SIZE // 8, 2), float(number))[:, 0]


@pytest.mark.parametrize("make", [_bytes, _ending, _text, _array, _strided, lambda number: bytes(SIZE + number)])
def test_each_is_the_first_once(make: Callable[[int], Any]) -> None:
    values = FirstValues()
    assert [values.is_first(make(number)) for number in (1, 2, 3, 1, 2, 4, 4)] == [True] * 3 + [False] * 2 + [
        True,
        False,
    ]
    assert values.is_first(make(1), make(2))
    assert not values.is_first(make(1), make(2))


def test_what_has_no_buffer_is_never_the_first() -> None:
    assert not FirstValues().is_first(np.zeros(SIZE, "datetime64[s]"))


def test_the_oldest_are_forgotten_at_some_time() -> None:
    values = FirstValues()
    for number in range(KNOWN_MAX):
        assert values.is_first(bytes(number))
    assert not values.is_first(bytes(5))
    assert values.is_first(bytes(KNOWN_MAX))
    assert values.is_first(bytes(5))
