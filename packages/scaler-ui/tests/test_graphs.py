"""Graphs as they are drawn: layers, the slow path, states, what is left out; against an independent count."""

from __future__ import annotations

from random import Random

import pytest
from synthetic_cluster import ALICE, FUNCTIONS, UNIX, events, graph, large_graph, small_graph, snapshot, worker

from scaler_protocol.monitoring.topics import EVENTS, FIGURES, drawn_graph, dumped_task, graph_topic
from scaler_protocol.wire.messages import GraphStatus, TaskEvent
from scaler_ui.model import ClusterModel, graphs
from scaler_ui.model.graph_layers import critical_path, shape_of


def longest(needs: list[tuple[int, ...]], seconds: list[float]) -> float:
    """The longest path, by looking at every row's predecessors again and again."""
    known: dict[int, float] = {}

    def until(row: int) -> float:
        if row not in known:
            known[row] = seconds[row] + max((until(one) for one in needs[row]), default=0.0)
        return known[row]

    return max(until(row) for row in range(len(needs)))


def depth(needs: list[tuple[int, ...]], row: int) -> int:
    return 1 + max((depth(needs, one) for one in needs[row]), default=-1)


@pytest.mark.parametrize("seed", range(20))
def test_layers_and_slow_path_of_random_graphs(seed: int) -> None:
    dice = Random(seed)
    needs = [tuple(sorted(dice.sample(range(row), min(row, dice.randrange(4))))) for row in range(60)]
    message = graph(needs, [0] * 60, 1)
    shape = shape_of(message.dependency_ends, message.dependencies)
    assert shape.needs == needs
    assert list(shape.layer_of) == [depth(needs, row) for row in range(60)]
    assert sorted(row for layer in shape.layers for row in layer) == list(range(60))
    seconds = [dice.random() for _ in needs]
    path = critical_path(shape, seconds)
    assert path.seconds == pytest.approx(longest(needs, seconds))
    assert sum(seconds[row] for row in path.rows) == pytest.approx(path.seconds)
    assert all(before in needs[after] for before, after in zip(path.rows, path.rows[1:], strict=False))


def test_rows_may_need_later_ones_and_ones_that_are_not_known() -> None:
    shape = shape_of([1, 1, 3], [2, 1, 9])
    assert shape.layers == [[1], [2], [0]]
    assert shape.unknown == 1


def test_rows_that_wait_for_themselves_do_not_hang_the_page() -> None:
    shape = shape_of([1, 2, 2], [1, 0])
    assert shape.layers == [[2], [0, 1]]
    assert critical_path(shape, [1.0, 1.0, 1.0]).seconds == 2.0


def test_nothing_is_known_of_a_graph_that_nobody_looked_at() -> None:
    model = ClusterModel()
    model.accept(snapshot(1), 0.0)
    assert graphs.picture(model, (ALICE, 5_000)) is None
    assert [(one["first_number"], one["drawn"]) for one in graphs.all_graphs(model)] == [
        (5_000, True),
        (4_500, False),
        (4_000, False),
    ]


def test_a_small_graph_is_drawn_whole_with_durations_and_slow_path() -> None:
    model = ClusterModel()
    message = small_graph(100)
    message.states = [2] * 5 + [1] * 4 + [0] * 5
    rows = [
        (UNIX + 1, ALICE, 100 + row, TaskEvent.SUCCESS, "node00", FUNCTIONS[4], (row + 1) * 100_000, 0)
        for row in range(5)
    ]
    rows += [(UNIX, ALICE, 108, TaskEvent.ASSIGNED, "node00", FUNCTIONS[2], 0, -1)]
    running = worker(0, 0, task=108, function=FUNCTIONS[2], task_seconds=3.0)
    model.accept(events(1, rows), 0.0)
    model.accept(snapshot(4, workers=(running,), graphs=(GraphStatus(ALICE, 100, 14),)), 0.0)
    model.accept(message, 0.0)
    drawn = graphs.picture(model, (ALICE, 100))
    assert drawn is not None
    assert [node["state"] for node in drawn["nodes"]] == ["done"] * 5 + ["ready"] * 3 + ["running"] + ["waiting"] * 5
    assert len(drawn["edges"]) == len(message.dependencies)
    assert drawn["layers"] == 5
    # Row 4 took longest, row 8 needs it and runs for three seconds.
    assert [node["row"] for node in drawn["path"]["nodes"]] == [4, 8, 11, 12, 13]
    assert drawn["path"]["seconds"] == pytest.approx(3.5)
    assert drawn["durations_known"] == 5


def test_a_graph_that_has_ended_keeps_its_nodes_and_how_they_ended() -> None:
    model = ClusterModel()
    model.accept(small_graph(), 0.0)
    failed = [(UNIX, ALICE, 4_508, TaskEvent.FAILED, "node00", FUNCTIONS[2], 1_000, 0)]
    model.accept(events(1, failed), 0.0)
    model.accept(snapshot(1), 0.0)
    drawn = graphs.picture(model, (ALICE, 4_500))
    assert drawn is not None
    assert drawn["ended"]
    # Those that need the failed one never ran.
    states = {node["row"]: node["state"] for node in drawn["nodes"]}
    assert {row for row, state in states.items() if state == "failed"} == {8, 11, 12, 13}
    assert {state for row, state in states.items() if row not in (8, 11, 12, 13)} == {"done"}


def test_a_large_graph_is_drawn_as_blocks_and_a_layer_as_nodes() -> None:
    model = ClusterModel()
    model.accept(snapshot(1), 0.0)
    message = large_graph()
    model.accept(message, 0.0)
    drawn = graphs.picture(model, (ALICE, 5_000))
    assert drawn is not None
    assert drawn["nodes"] == []
    assert [block["nodes"] for block in drawn["blocks"]] == [600, 300, 99, 1]
    assert sum(block["done"] for block in drawn["blocks"]) == list(message.states).count(2)
    assert sum(block["failed"] for block in drawn["blocks"]) == 5
    assert drawn["blocks"][0]["functions"] == [[FUNCTIONS[4], 600]]
    layer = graphs.picture(model, (ALICE, 5_000), 0, 0)
    assert layer is not None
    assert (len(layer["nodes"]), layer["left_out"]) == (graphs.NODES_MAX, 600 - graphs.NODES_MAX)
    # What has failed is not left out.
    assert sum(node["state"] == "failed" for node in layer["nodes"]) == 5
    end = graphs.picture(model, (ALICE, 5_000), 2, 99)
    assert end is not None
    assert (len(end["nodes"]), len(end["edges"]), end["last_layer"]) == (100, 99, 3)


def test_long_chains_become_few_blocks() -> None:
    model = ClusterModel()
    needs = [(row - 1,) if row else () for row in range(10_000)]
    model.accept(graph(needs, [2] * 10_000, 1), 0.0)
    drawn = graphs.picture(model, (ALICE, 1))
    assert drawn is not None
    assert len(drawn["blocks"]) == graphs.BLOCKS_MAX
    assert sum(block["nodes"] for block in drawn["blocks"]) == 10_000
    assert (drawn["path"]["rows"], len(drawn["path"]["nodes"])) == (10_000, graphs.PATH_SHOWN)


def test_only_the_last_graphs_are_kept() -> None:
    model = ClusterModel()
    for first in range(20):
        model.accept(small_graph(1_000 + 100 * first), 0.0)
    kept = [first for first in range(20) if model.graph_book.find((ALICE, 1_000 + 100 * first)) is not None]
    assert kept == list(range(12, 20))


def test_the_topic_names_a_graph_and_no_other_stream() -> None:
    topic = graph_topic(ALICE, 5_000)
    assert drawn_graph(topic) == (ALICE, 5_000)
    assert dumped_task(topic) is None
    assert drawn_graph(FIGURES) is drawn_graph(EVENTS) is drawn_graph(b"") is None
