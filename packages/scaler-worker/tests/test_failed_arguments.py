"""The arguments of calls that failed, shown whatever they are and do, within bounds."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from scaler_protocol.monitoring.kept_output import ARGUMENTS
from scaler_worker.processor.failed_arguments import ARGUMENTS_MAX, CHARACTERS_MAX, FailedArguments
from scaler_worker.processor.kept_output import KEPT_BYTES_MIN, KeptOutput, KeptReader, pieces_of, region_bytes
from scaler_worker.processor.page import KEPT_AT, RunningPage
from scaler_worker.processor.time_limit import TimeLimit, TookTooLong


class Raising:
    def __repr__(self) -> str:
        raise SystemExit(3)


class Lying:
    def __repr__(self) -> str:
        return 3  # type: ignore[return-value]


class Slow:
    """As one whose time is used up: the handler of the signal raises this inside it."""

    def __repr__(self) -> str:
        raise TookTooLong


class Shown:
    def __init__(self) -> None:
        descriptor = RunningPage.create(region_bytes(KEPT_BYTES_MIN))
        self._reader = KeptReader(descriptor, KEPT_AT, KEPT_BYTES_MIN)
        self.limit = TimeLimit(lambda: None)
        kept = KeptOutput(descriptor, KEPT_AT, KEPT_BYTES_MIN, lambda: (1, b"c" * 16))
        os.close(descriptor)
        self.arguments = FailedArguments(kept, self.limit)

    def text(self) -> str:
        content = self._reader.read()
        assert content is not None
        pieces, _ = pieces_of(content, 1, b"")
        assert {piece.stream for piece in pieces} == {ARGUMENTS}
        return "".join(piece.text for piece in pieces)

    def close(self) -> None:
        self._reader.close()


@pytest.fixture
def shown() -> Iterator[Shown]:
    shown = Shown()
    yield shown
    shown.close()


def call(function: Any, args: Any, kwargs: Any) -> Any:
    return function(*args, **kwargs)


def test_arguments_by_place_and_by_name(shown: Shown) -> None:
    shown.arguments.keep((1, "two"), {"third": [3]})
    assert shown.text() == "0 = 1\n1 = 'two'\nthird = [3]\n"


def test_those_of_a_frame_of_ours_and_not_the_task_s(shown: Shown) -> None:
    def task(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
        raise ValueError(args, kwargs)

    try:
        call(task, ((7,),), {"kwargs": {"x": 1}})
    except ValueError as error:
        frames = error.__traceback__
        assert frames is not None
        error.__traceback__ = frames.tb_next
        shown.arguments.note_of(error, (call.__code__,))
    assert shown.arguments.may_end_the_process
    shown.arguments.keep_due()
    assert not shown.arguments.due
    assert shown.text() == "0 = (7,)\nkwargs = {'x': 1}\n"


def test_a_repr_that_does_anything(shown: Shown) -> None:
    shown.arguments.keep((Raising(), Lying(), Slow(), "after"), {})
    lines = shown.text().splitlines()
    assert "whose repr raised SystemExit" in lines[0]
    assert "whose repr raised TypeError" in lines[1] or "Lying" in lines[1]
    assert "TookTooLong" in lines[2]
    assert lines[3] == "3 = 'after'"


def test_much_is_cut(shown: Shown) -> None:
    began = time.process_time()
    shown.arguments.keep(("x" * 10_000_000, list(range(5_000_000)), {n: n for n in range(1000)}, *range(100)), {})
    assert time.process_time() - began < 1
    text = shown.text()
    assert len(text) < 3 * (CHARACTERS_MAX + 50) + ARGUMENTS_MAX * 20
    assert text.endswith(f"and {103 - ARGUMENTS_MAX} more\n")


class Named(str):
    pass


class Kept(dict[int, int]):
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (bytes(100 << 20), "… [104,857,600 bytes]"),
        (bytearray(100 << 20), "… [104,857,600 bytes]"),
        ([bytes(100 << 20)], " bytes]]"),
        ({str(n) for n in range(1_000_000)}, ", ...}"),
        (frozenset(range(1_000_000)), ", ...})"),
        (Kept.fromkeys(range(1_000_000), 0), ", 9: 0, ...}"),
        (Named("x" * (100 << 20)), "...xxx"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_large_takes_neither_time_nor_memory(shown: Shown, value: Any, text: str) -> None:
    tracemalloc.start()
    try:
        shown.arguments.keep((value,), {})
        assert tracemalloc.get_traced_memory()[1] < 1024**2
    finally:
        tracemalloc.stop()
    assert text in shown.text()


@pytest.mark.parametrize(
    "value", [b"\x00a", bytearray(b"b"), {3, 1, 2}, {}, [], set(), {"k": [1, {2: 3}]}, Kept({1: 2}), Named("n")]
)
def test_what_is_small_is_shown_whole(shown: Shown, value: Any) -> None:
    shown.arguments.keep((value,), {})
    assert shown.text() == f"0 = {value!r}\n"


def test_items_of_a_chunk(shown: Shown) -> None:
    shown.arguments.note_item([1, 2, 3], 1, star=False)
    shown.arguments.note_item([(1, 2), (3, 4)], 1, star=True)
    shown.arguments.note_item(iter([]), 0, star=False)
    assert not shown.arguments.may_end_the_process
    shown.arguments.keep_due()
    assert shown.text() == "item 1 of the chunk\n0 = 2\nitem 1 of the chunk\n0 = 3\n1 = 4\n"


def test_after_the_limit_others_have_all_their_time(shown: Shown) -> None:
    shown.arguments.keep((1,), {})
    assert not shown.limit.is_set
    shown.limit.begin()
    shown.limit.run(str)
    assert not shown.limit.is_over


class Counted:
    """Counts how often it is shown."""

    times = 0

    def __repr__(self) -> str:
        Counted.times += 1
        return "C"


@dataclass
class Record:
    content: Any
    hidden: int = field(default=1, repr=False)


@dataclass
class OwnRecord:
    content: Any

    def __repr__(self) -> str:
        return "its own"


class Point(NamedTuple):
    content: Any
    y: int


class Row(tuple[Any, ...]):
    pass


class Bag(set[Any]):
    pass


class Frozen(frozenset[Any]):
    pass


class Tally(Counter[Any]):
    pass


class array:
    """Called like a type that `reprlib` knows."""

    def __repr__(self) -> str:
        return "not that one"


MANY = [Counted() for _ in range(1000)]
TEN = ", ".join(["C"] * 10) + ", ..."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Record(MANY), f"Record(content=[{TEN}])"),
        (Record([Record(MANY)]), f"Record(content=[Record(content=[{TEN}])])"),
        (OwnRecord(MANY), "its own"),
        (Point(MANY, 2), f"Point(content=[{TEN}], y=2)"),
        (SimpleNamespace(a=MANY, b=2), f"SimpleNamespace(a=[{TEN}], b=2)"),
        (SimpleNamespace(**{f"n{n}": n for n in range(11)}), "n9=9, ...)"),
        (Row(MANY), f"({TEN})"),
        (tuple(MANY), f"({TEN})"),
        (Bag(MANY), f"Bag({{{TEN}}})"),
        (Frozen(MANY), f"Frozen(frozenset({{{TEN}}}))"),
        (deque(MANY), f"deque([{TEN}])"),
        (Tally(MANY), f"Tally({{{', '.join(['C: 1'] * 10)}, ...}})"),
        (OrderedDict.fromkeys(MANY), f"OrderedDict({{{', '.join(['C: None'] * 10)}, ...}})"),
        (defaultdict(int, dict.fromkeys(MANY, 1)), f"defaultdict({{{', '.join(['C: 1'] * 10)}, ...}})"),
        (array(), "not that one"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_of_large_values_of_known_kinds_only_the_beginning_is_looked_at(shown: Shown, value: Any, text: str) -> None:
    Counted.times = 0
    shown.arguments.keep((value,), {})
    assert shown.text().endswith(f"{text}\n")
    assert Counted.times <= 11


def test_a_record_that_holds_itself(shown: Shown) -> None:
    record = Record(None)
    record.content = [record]
    shown.arguments.keep((record,), {})
    assert shown.text() == "0 = Record(content=[Record(content=[Record(...)])])\n"
