"""`python -m tests.columns.checks NAME`, with the overlay in front: checks that values arrive on each road of a cluster."""

from __future__ import annotations

import importlib
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import scaler_protocol
from scaler import Client
from tests.columns.tasks import (
    expected,
    figures,
    given,
    seen,
    seen_at_second_attempt,
    seen_before,
    seen_inside,
    seen_with_much,
    submit,
)

MANY = 300
LARGE = bytes(3_000_000)


def equal(what: str, found: Any, wanted: Any) -> None:
    """Raise AssertionError unless both are equal."""
    if found != wanted:
        raise AssertionError(f"{what}: {found} instead of {wanted}")


def check_tasks(client: Client, *, address_inside: str | None) -> None:
    """Values from the client to the running task."""
    for number in (1, 2, 3, 4):
        # The first one also takes the function along; those after it are sent on the shortest way.
        equal("a lone task", submit(client, seen, **given(number)).result(), expected(number))
    equal("a lone task with nothing", client.submit(seen).result(), expected(0))
    futures = [submit(client, seen, **given(number)) for number in range(MANY)]
    equal("many", [future.result() for future in futures], [expected(number) for number in range(MANY)])
    operations = client.operations
    equal("map", set(operations.map(client, seen, [range(50)], None, False, marks=3)), {(3, 0)})
    equal("starmap", set(operations.starmap(client, seen, [(1, 2)] * 50, None, False, weights=4)), {(7, 4)})
    equal("map with nothing", set(client.map(seen, range(50))), {expected(0)})
    graph: dict[str, Any] = {"a": (seen_before,), "b": (seen_before, "a"), "c": (seen_before, "b"), "d": (seen_before,)}
    found = operations.get(client, graph, ["c", "d"], True, None, marks=5, weights=6)
    equal("graph", found, {"c": [[[(5, 6)], (5, 6)], (5, 6)], "d": [(5, 6)]})
    equal("graph with nothing", client.get({"a": (seen,)}, "a"), {"a": expected(0)})
    inside = submit(client, seen_inside, address_inside, marks=1, weights=2).result()
    equal("inside", inside, ((1, 2), (11, 12), [expected(0)], [expected(number) for number in range(20)]))
    equal("large", submit(client, seen_with_much, LARGE, marks=8).result(), ((8, 0), LARGE))


def check_results(client: Client) -> None:
    """Figures from the processor to the future."""

    def check(what: str, future: Any) -> None:
        future.result()
        profile = future._profile
        equal(f"{what}: faults of task {future.task_id}", profile["faults"], figures(future.task_id).get("faults", 9))
        assert "cpu_times" in profile

    for _ in range(3):
        check("a lone task", client.submit(seen))
    futures = [client.submit(seen, number) for number in range(MANY)]
    for future in futures:
        check("many", future)
    for _ in range(3):
        check("large", client.submit(seen_with_much, LARGE))
    graph: dict[str, Any] = {"a": (seen_before,), "b": (seen_before, "a"), "c": (seen_before, "b")}
    for future in client.get(graph, ["a", "b", "c"], block=False).values():
        check("graph", future)


def check_retries(client: Client, folder: str) -> None:
    """Values of tasks that run again, and of those that waited behind them."""
    first = submit(client, seen_at_second_attempt, f"{folder}/task", marks=21, weights=22)
    behind = [submit(client, seen, **given(number)) for number in range(20)]
    row = client.operations.get(
        client, {"a": (seen_at_second_attempt, f"{folder}/row")}, ["a"], False, None, marks=23, weights=24
    )["a"]
    equal("a task whose processor died", first.result(), (21, 22))
    equal("tasks behind it", [future.result() for future in behind], [expected(number) for number in range(20)])
    equal("a row whose processor died", row.result(), (23, 24))


def cluster() -> None:
    """A scheduler and two workers, as users start them."""
    from scaler import SchedulerClusterCombo

    preload = "tests.columns.tasks:install_figures"
    with SchedulerClusterCombo(n_workers=2, preload=preload) as combo, tempfile.TemporaryDirectory() as folder:
        address = combo.get_address()
        with Client(address) as client, Client(address, profiling=True) as profiled:
            check_tasks(client, address_inside=None)
            check_results(profiled)
            check_tasks(profiled, address_inside=None)
            check_retries(client, folder)


def in_process() -> None:
    """A cluster of threads."""
    from scaler.testing import InProcessCluster, in_process_cluster

    measured = in_process_cluster.figures
    in_process_cluster.figures = lambda number, duration: figures(number) or measured(number, duration)
    with InProcessCluster() as running, Client(running.address) as client:
        check_tasks(client, address_inside=running.address)
        check_results(Client(running.address, profiling=True))


def symphony() -> None:
    """The agent of the Symphony adapter, and what runs in its services."""
    from scaler_adapters.symphony.core import events
    from scaler_adapters.symphony.task_runner import RemoteResult, run_task
    from scaler_protocol.ids import content_id
    from scaler_protocol.payloads import by_value
    from scaler_protocol.payloads.framing import PICKLED
    from scaler_protocol.wire import messages as m
    from scaler_protocol.wire.batch_rows import carried_columns, carry
    from scaler_protocol.wire.columns import Packed

    played: Any = importlib.import_module("symphony_harness")
    harness, client = played.Harness(), played.CLIENT
    body, arguments = PICKLED + by_value.dumps(seen), PICKLED + pickle.dumps(((), {}))
    function = content_id(body)
    harness.incoming(m.FunctionDefine(client, (function,), Packed.of([body])))
    numbers = list(range(1, played.BASE + 1))
    columns = carried_columns([carry(given(number)) for number in numbers])
    payloads = Packed.of([arguments] * played.BASE)
    harness.incoming(m.TaskBatch(client, numbers, (function,), payloads, flags=m.TaskFlag.PROFILE, **columns))
    for number in numbers:
        key = harness.key_of(number)
        result = RemoteResult(*run_task(*harness.running.pop(key)))
        equal("a task in Symphony", pickle.loads(result.payload[1:]), expected(number))
        harness.handle(events.TaskEnded(key, result._replace(figures={**result.figures, **figures(number)}), ""))
    batches: list[Any] = harness.take(m.ResultBatch)
    found = {number: fault for batch in batches for number, fault in zip(batch.numbers, batch.faults, strict=True)}
    equal("results of Symphony", found, {number: figures(number).get("faults", 9) for number in numbers})


def scheduler() -> None:
    """The scheduler's core, with tasks that agents give back or claim to hold: then they go to another one."""
    from scaler_protocol.wire import messages as m

    played: Any = importlib.import_module("harness")
    harness = played.Harness()
    client, first = played.Client(harness, "client"), played.Agent(harness, "first", capacity=2)
    client.define()
    numbers = client.submit(3, marks=[5, 6, 8], weights=[6, 1, 9])
    first.send(m.TaskReturn(client.id, numbers[:2], [1, 1]), m.Drain())
    claiming = played.Agent(harness, "claiming", capacity=0)
    claiming.send(m.Inventory(client.id, numbers[2:], [1], [1]), m.TaskReturn(client.id, numbers[2:], [1]))
    batches = played.Agent(harness, "second", capacity=10).take(m.TaskBatch)
    found = {
        row[0]: row[1:] for batch in batches for row in zip(batch.numbers, batch.marks, batch.weights, strict=True)
    }
    equal("tasks given back and claimed", found, dict(zip(numbers, ((5, 6), (6, 1), (8, 9)), strict=True)))


if __name__ == "__main__":
    overlay, name = Path(sys.argv[1]), sys.argv[2]
    assert Path(scaler_protocol.__file__).is_relative_to(overlay), scaler_protocol.__file__
    {"cluster": cluster, "in_process": in_process, "symphony": symphony, "scheduler": scheduler}[name]()
