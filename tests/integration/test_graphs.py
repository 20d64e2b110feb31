"""Graphs through real processes: chains that go to a worker in one trip, what ends them early, what is freed."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import pytest

from scaler import Client
from scaler.errors import ProcessorDiedError
from tests.integration import functions as f
from tests.integration.deployment import Deployment, wait_for
from tests.integration.test_monitors import get, start_ui, wait_live

Graph = dict[str, Any]
LARGE = 400_000
"""Characters of a value that does not travel in messages."""


def chain(links: int, start: Any = 0) -> Graph:
    graph: Graph = {"link-0": (operator.add, start, 1)}
    for number in range(1, links):
        graph[f"link-{number}"] = (operator.add, f"link-{number - 1}", 1)
    return graph


def grow(value: str, character: str) -> str:
    return value + character


def append_to(values: list[int], value: int) -> list[int]:
    values.append(value)
    return values


def nested_square(client: Client, value: int) -> int:
    return int(client.submit(f.square, value).result())


def test_intermediate_objects_are_freed_as_soon_as_their_last_reader_is_done(
    deployment: Deployment, tmp_path: Path
) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler)
    base = start_ui(deployment, scheduler)
    wait_live(base)
    client = deployment.client(scheduler)

    def stored() -> int:
        return int(get(base, "/api/overview")["objects"]["count"])

    gate = [str(tmp_path / f"gate-{number}") for number in range(3)]
    graph: Graph = {
        "a": (grow, "x", "y" * LARGE),
        "b": (grow, "a", "!"),
        "c": (grow, "b", "?"),
        "wait": (f.wait_for_file, "c", gate[0]),
        "left": (f.wait_for_file, "wait", gate[1]),
        "right": (f.wait_for_file, "wait", gate[2]),
        "sum": (operator.eq, "left", "right"),
    }
    # The large literal is an object as well, the client's, until its task is answered.
    future = client.get(graph, keys=["sum"], block=False)["sum"]
    wait_for("only the literal and what is read now are stored", lambda: stored() == 2)
    Path(gate[0]).touch()
    wait_for("its reader's value has taken its place", lambda: stored() == 2)
    Path(gate[1]).touch()
    wait_for("both are needed", lambda: stored() == 3)
    Path(gate[2]).touch()
    assert future.result(30) is True
    wait_for("nothing is left", lambda: stored() == 0)


def test_a_long_chain_of_any_links_asked_for(client: Client) -> None:
    graph = chain(1000)
    keys = ["link-999", "link-0", "link-500"]
    assert client.get(graph, keys=keys) == {"link-999": 1000, "link-0": 1, "link-500": 501}


def test_futures_are_done_as_soon_as_their_own_rows_are(client: Client, tmp_path: Path) -> None:
    """Large results too, and in chains, and although others wait for their values."""
    gates = [str(tmp_path / f"gate-{number}") for number in range(2)]
    nodes: Graph = {
        "small": (operator.add, 1, 1),
        "large": (grow, "x", "y" * LARGE),
        "link": (grow, "large", "z"),
        "waits": (f.wait_for_file, "link", gates[0]),
        "reads": (len, "waits"),
        "reads later": (f.wait_for_file, "large", gates[1]),
        "both": (operator.eq, "reads later", "waits"),
        "end": (operator.add, "small", "reads"),
    }
    futures = client.get(nodes, list(nodes), block=False)
    assert futures["small"].result(30) == 2
    assert len(futures["large"].result(30)) == LARGE + 1
    assert len(futures["link"].result(30)) == LARGE + 2
    assert not any(futures[key].done() for key in ("waits", "reads", "reads later", "both", "end"))
    Path(gates[0]).touch()
    assert futures["end"].result(30) == LARGE + 4
    assert not futures["both"].done()
    # What its object was is gone here, and its reader has still to get it.
    del futures["large"]
    Path(gates[1]).touch()
    assert futures["both"].result(30) is False
    assert len(futures["reads later"].result(30)) == LARGE + 1


def test_many_chains_at_once(client: Client) -> None:
    graph: Graph = {}
    for number in range(20):
        graph |= {
            f"{number}-{key}": (o, f"{number}-{a}" if isinstance(a, str) else number, b)
            for key, (o, a, b) in chain(50).items()
        }
    graph["total"] = (sum, [f"{number}-link-49" for number in range(20)])
    assert client.get(graph, keys=["total"])["total"] == sum(range(20)) + 20 * 50


def test_values_that_are_objects_go_down_a_chain_too(client: Client) -> None:
    graph: Graph = {"long-0": (grow, "x" * LARGE, "0")}
    for number in range(1, 8):
        graph[f"long-{number}"] = (grow, f"long-{number - 1}", str(number))
    graph["length"] = (len, "long-7")
    values = client.get(graph, keys=["length", "long-3"])
    assert values == {"length": LARGE + 8, "long-3": "x" * LARGE + "0123"}


@pytest.mark.parametrize("node_seconds", [None, 1e-5])
def test_a_graph_that_runs_often(client: Client, node_seconds: float | None) -> None:
    graph: Graph = {"x": 1, **{f"n-{number}": (operator.add, "x", number) for number in range(20)}, **chain(20, "x")}
    graph["sum"] = (sum, ["x", *[f"n-{number}" for number in range(20)]])
    graph["long"] = (grow, "text", "!")
    graph["text"] = "y" * LARGE
    keys = ["sum", "link-19", "long", "text"]
    with client.prepare(graph, keys, node_seconds=node_seconds) as template:
        inputs: list[Graph] = [{}, {"x": 2}, {"text": "z" * LARGE}, {"text": "short", "x": 5}, {"link-10": 100}]
        for given in [*inputs, *inputs]:
            assert template.run(given) == client.get({**graph, **given}, keys)


def test_a_link_that_changes_its_argument_changes_no_other_result(client: Client) -> None:
    graph: Graph = {"a": (append_to, [], 1), "b": (append_to, "a", 2), "c": (append_to, "b", 3)}
    assert client.get(graph, keys=["a", "b", "c"]) == {"a": [1], "b": [1, 2], "c": [1, 2, 3]}


def test_a_link_that_fails_ends_those_behind_it_with_its_error(client: Client) -> None:
    graph = chain(20)
    graph["link-10"] = (f.fail, "in the middle")
    futures = client.get(graph, keys=["link-9", "link-10", "link-11", "link-19"], block=False)
    assert futures["link-9"].result(30) == 10
    for key in ("link-10", "link-11", "link-19"):
        with pytest.raises(ValueError, match="in the middle"):
            futures[key].result(30)


def test_a_chain_survives_the_death_of_its_processor(client: Client, tmp_path: Path) -> None:
    graph = chain(20)
    graph["link-10"] = (f.pass_on_after_death, "link-9", str(tmp_path / "died"))
    assert client.get(graph, keys=["link-19"]) == {"link-19": 19}


def test_a_link_that_ends_every_processor_names_itself(client: Client) -> None:
    graph = chain(10)
    graph["link-5"] = (f.kill_self, "link-4")
    futures = client.get(graph, keys=["link-4", "link-9"], block=False)
    assert futures["link-4"].result(30) == 5
    with pytest.raises(ProcessorDiedError, match="attempt 3 of 3"):
        futures["link-9"].result(60)


def test_links_may_submit_tasks_and_wait_for_them(client: Client) -> None:
    graph = chain(10)
    for number in (3, 4, 7):
        graph[f"link-{number}"] = (nested_square, client, f"link-{number - 1}")
    value = 0
    for number in range(10):
        value = value * value if number in (3, 4, 7) else value + 1
    assert client.get(graph, keys=["link-9"]) == {"link-9": value}


def test_a_chain_that_waits_lets_others_pass_and_can_be_cancelled(client: Client, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    graph = chain(10)
    graph["link-3"] = (f.wait_for_file, "link-2", gate)
    futures = client.get(graph, keys=["link-2", "link-3", "link-9"], block=False)
    # Results do not wait for the links behind them.
    assert futures["link-2"].result(30) == 3
    # Nor do other tasks: there is a second worker.
    assert client.submit(f.square, 5).result(30) == 25
    futures["link-9"].cancel()
    wait_for("the cancellation is answered", futures["link-9"].cancelled)
    Path(gate).touch()
    assert futures["link-3"].result(30) == 3
