"""Graphs in portions: cut anywhere, they are the same graph."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from scaler_protocol.wire import graph_portions
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.graph_portions import BEGINNING, portion_at

CLIENT = bytes(16)


def random_graph(rng: random.Random) -> m.GraphSubmit:
    rows = rng.randint(1, 40)
    functions = tuple(bytes([number]) * 16 for number in range(rng.choice((1, 2, 5))))
    needed = [[rng.randrange(rows) for _ in range(rng.choice((0, 1, 3)))] for _ in range(rows)]
    named = sorted(rng.randrange(rows) for _ in range(rng.randint(0, 5)))
    return m.GraphSubmit(
        client=CLIENT,
        first_number=100,
        functions=functions,
        payloads=Packed.of([rng.randbytes(rng.choice((0, 1, 50))) for _ in range(rows)]),
        dependency_counts=[len(one) for one in needed],
        dependencies=[row for one in needed for row in one],
        wanted=rng.sample(range(rows), rng.randint(1, rows)),
        function_indexes=() if len(functions) == 1 else [rng.randrange(len(functions)) for _ in range(rows)],
        capabilities=(("gpu", 1),),
        depth=3,
        object_positions=named,
        objects=tuple(rng.randbytes(16) for _ in named),
    )


def portions_of(graph: m.GraphSubmit, flags: int = 0) -> list[m.GraphSubmit]:
    portions, place = [], BEGINNING
    while place.row < len(graph.payloads):
        portion, place = portion_at(graph, place, sorted(graph.wanted), flags)
        portions.append(portion)
    return portions


def rows_of(portions: list[m.GraphSubmit]) -> list[object]:
    """Everything that is said of each row."""
    rows: list[object] = []
    for portion in portions:
        start = 0
        for row, payload in enumerate(portion.payloads.split()):
            count = portion.dependency_counts[row]
            objects = [o for at, o in zip(portion.object_positions, portion.objects, strict=True) if at == row]
            index = portion.function_indexes[row] if len(portion.function_indexes) else 0
            needed = list(portion.dependencies[start : start + count])
            start += count
            assert portion.first_row + row == len(rows)
            rows.append((payload, needed, objects, portion.functions[index], row in portion.wanted))
    return rows


@pytest.mark.parametrize("portion_rows", [1, 3, 7, 4096])
def test_portions_say_of_each_row_what_the_graph_says(portion_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_portions, "PORTION_ROWS", portion_rows)
    rng = random.Random(portion_rows)
    for _ in range(30):
        graph = random_graph(rng)
        portions = portions_of(graph, flags=5)
        assert rows_of(portions) == rows_of([graph])
        for portion in portions:
            assert len(portion.payloads) <= portion_rows
            assert (portion.row_count, portion.flags) == (len(graph.payloads), 5)
            assert (portion.first_number, portion.capabilities, portion.depth) == (100, graph.capabilities, 3)
            sent = decode([bytes(frame) for frame in encode(portion)])
            assert isinstance(sent, m.GraphSubmit)
            assert rows_of([replace(sent, first_row=0)]) == rows_of([replace(portion, first_row=0)])


@pytest.mark.parametrize("limit", ["PORTION_BYTES", "PORTION_DEPENDENCIES"])
def test_a_portion_ends_with_the_row_that_makes_it_large(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_portions, limit, 10)
    rows = 20
    graph = m.GraphSubmit(
        CLIENT, 1, (CLIENT,), Packed.of([b"four"] * rows), [4] * rows, [0, 1, 2, 3] * rows, list(range(rows))
    )
    assert [len(portion.payloads) for portion in portions_of(graph)] == [3, 3, 3, 3, 3, 3, 2]


def test_one_row_may_be_larger_than_a_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_portions, "PORTION_BYTES", 10)
    graph = m.GraphSubmit(CLIENT, 1, (CLIENT,), Packed.of([b"x" * 50, b"y"]), [0, 0], (), [1])
    assert [portion.payloads.split() for portion in portions_of(graph)] == [[b"x" * 50], [b"y"]]


def test_payloads_are_not_copied() -> None:
    graph = m.GraphSubmit(CLIENT, 1, (CLIENT,), Packed.of([bytes(1024 * 1024)] * 3), [0] * 3, (), [1])
    for portion in portions_of(graph):
        assert isinstance(portion.payloads.data, memoryview)
        assert portion.payloads.data.obj is graph.payloads.data
