"""Expressions come to values: innermost first, from left to right, as deep as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from scaler_protocol.payloads.expressions import CallFailedError, evaluate
from scaler_protocol.payloads.framing import Call, InputReference


def call(function: Any, arguments: Sequence[Any]) -> Any:
    return function(*arguments)


def test_they_are_evaluated_innermost_first() -> None:
    expression = {"k": [Call(max, (InputReference(0), Call(sum, ([InputReference(1), 5],)))), (InputReference(0),)]}
    assert evaluate(expression, [10, 7].__getitem__, call) == {"k": [12, (10,)]}


def test_from_left_to_right() -> None:
    seen: list[Any] = []

    def note(value: Any) -> Any:
        seen.append(value)
        return value

    evaluate([Call(note, (1,)), {"a": Call(note, (Call(note, (2,)),))}, (InputReference(3),)], note, call)
    assert seen == [1, 2, 2, 3]


@pytest.mark.parametrize("value", [5, "x", [], (), {}, [1, (2, {"k": [3]})]])
def test_what_needs_nothing_stays_itself(value: Any) -> None:
    assert evaluate(value, lambda _: None, call) is value


def test_depth_does_not_matter() -> None:
    expression: Any = InputReference(0)
    for _ in range(20_000):
        expression = Call(lambda values: values[0] + 1, ([expression],))
    assert evaluate(expression, lambda _: 0, call) == 20_000


def test_what_is_shared_is_evaluated_once_and_stays_shared() -> None:
    counted: list[int] = []
    shared: Any = [Call(counted.append, (1,))]
    for _ in range(100):
        shared = [shared, shared]
    value = evaluate(shared, lambda _: None, call)
    assert value[0] is value[1]
    assert counted == [1]


def test_a_list_that_holds_itself_stays_as_it_is() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    values = evaluate([InputReference(0), cyclic], lambda _: 7, call)
    assert values[0] == 7
    assert values[1] is cyclic


def test_what_a_call_raises_is_told_from_what_restoring_raises() -> None:
    with pytest.raises(CallFailedError) as caught:
        evaluate([Call(divmod, (1, 0))], lambda _: None, call)
    assert isinstance(caught.value.error, ZeroDivisionError)
