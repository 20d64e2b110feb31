"""Plain data as JSON, and functions by name."""

from __future__ import annotations

import datetime
import enum
import math
from collections import OrderedDict, namedtuple
from typing import Any

import pytest

from scaler_protocol.failures import failure_payload
from scaler_protocol.payloads import plain
from scaler_protocol.payloads.plain import (
    NotPlainDataError,
    dump_plain,
    load_plain,
    load_plain_call,
    load_plain_failure,
    named_function,
    plain_failure,
)

UTC = datetime.UTC
Point = namedtuple("Point", "x y")


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("nobody asks")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ([True, "ä\ud800", 1.5, -7], '[true,"\\u00e4\\ud800",1.5,-7]'),
        (2**53 - 1, "9007199254740991"),
        (-(2**53), '{"$int":"-9007199254740992"}'),
        ([1, 2**60], '[1,{"$int":"1152921504606846976"}]'),
        (math.inf, '{"$float":"inf"}'),
        ([0.5, -math.inf], '[0.5,{"$float":"-inf"}]'),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), '{"$datetime":"2026-01-02T03:04:05.000006+00:00"}'),
        ({"$bytes": "own"}, '{"$$bytes":"own"}'),
        ({"$a": {"$$b": 1}}, '{"$$a":{"$$$b":1}}'),
        ({"$a": 1, "b": {}}, '{"$a":1,"b":{}}'),
    ],
)
def test_values_that_come_back_the_same(value: Any, text: str) -> None:
    assert dump_plain(value).decode() == text
    assert load_plain(text.encode()) == value


def test_values_that_come_back_as_what_they_derive_from() -> None:
    value = [Point(1, 2), OrderedDict(a=Level.HIGH), bytearray(b"a"), Text("b"), ()]
    assert load_plain(dump_plain(value)) == [[1, 2], {"a": 3}, b"a", "b", []]
    assert math.isnan(load_plain(dump_plain(math.nan)))
    assert math.copysign(1, load_plain(b'{"$float":"-0.0"}')) == -1
    assert load_plain(dump_plain([0.5] * 1000 + [1])) == [0.5] * 1000 + [1]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1}, "it is of type set, which is not plain data; make a list of it"),
        ([1, {"a": object()}], r"value\[1\]\['a'\] is of type object"),
        ({1: 2}, "it has a key of type int: keys are texts"),
        (datetime.datetime(2026, 1, 2), "a datetime without a time zone"),
        (datetime.date(2026, 1, 2), r"of type datetime.date.*its method isoformat\(\) makes a text"),
        (nested(100_000), "nested too deeply, or contains itself"),
        ([10**10_000], r"value\[0\] is an integer of more digits than Python writes"),
        (len, "of type builtin_function_or_method"),
    ],
)
def test_what_is_not_plain_data(value: Any, words: str) -> None:
    with pytest.raises(NotPlainDataError, match=words):
        dump_plain(value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"[" * 100_000,
        b'{"$other":"1"}',
        b'{"$int":5}',
        b'{"$int":"x"}',
        b'{"$bytes":"?"}',
        b'{"$datetime":"2026-01-02T03:04:05"}',
        b'{"$datetime":"soon"}',
    ],
)
def test_json_that_no_plain_data_has(text: bytes) -> None:
    with pytest.raises(NotPlainDataError):
        load_plain(text)


def test_the_arguments_of_a_call() -> None:
    assert load_plain_call(b'[[1],{"a":2}]') == ([1], {"a": 2})
    for text in (b"[]", b"5", b"[{},[]]", b"[[],{},1]"):
        with pytest.raises(NotPlainDataError, match="an array of two"):
            load_plain_call(text)


def test_failures() -> None:
    try:
        raise ValueError("no such order \ud800")
    except ValueError as error:
        payload = failure_payload(error)
    kind, text, lines = load_plain_failure(plain_failure(payload))
    assert (kind, text) == ("ValueError", "no such order \ud800")
    assert "in test_failures" in lines


def test_functions_by_name() -> None:
    assert named_function("operator:add")(1, 2) == 3
    assert named_function("builtins:str.upper")("a") == "A"
    assert plain.call_named("builtins:dict", name=1) == {"name": 1}
    for name in ("", "operator", "operator:", ":add", "operator.add", "a b:c", "operator:add:add", "..os:system"):
        with pytest.raises(ValueError, match=r"write 'package\.module:function'"):
            named_function(name)
