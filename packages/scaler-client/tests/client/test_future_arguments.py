"""Futures as arguments: the scheduler holds a task back until the results it needs are there."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, cast

import pytest

from scaler import Client, ScalerFuture, errors
from scaler.client import stored_results
from scaler.client.dependent_future import DependentFuture
from scaler.client.object_channel import ObjectChannel
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.task_history import read_history

GATES: dict[str, threading.Event] = {}
"""Open for tasks of `InProcessCluster`, which runs them in this process."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = GATES["gate"] = threading.Event()
    yield gate
    gate.set()


def after_gate(value: Any) -> Any:
    assert GATES["gate"].wait(20)
    if isinstance(value, Exception):
        raise value
    return value


def add(*values: Any, **named: Any) -> Any:
    return sum(values) + sum(named.values())


def shape(*values: Any) -> str:
    return repr(values if len(values) > 1 else values[0])


def grown(value: bytes, size: int) -> bytes:
    return value[:1] + b"y" * (size - len(value[:1]))


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


@pytest.mark.parametrize("is_done", [False, True])
def test_in_every_container(is_done: bool, client: Client, gate: threading.Event) -> None:
    future = client.submit(after_gate, 7)
    if is_done:
        gate.set()
        future.result(10)
    arguments: list[Any] = [
        [1, future],
        (future,),
        {future},
        frozenset([future]),
        {"k": [future, {"d": (future, 2)}]},
        [[[[[future]]]]],
    ]
    futures = [client.submit(shape, argument) for argument in arguments]
    both = client.submit(add, 1, future, future, k=future)
    gate.set()
    assert [future.result(10) for future in futures] == [
        "[1, 7]",
        "(7,)",
        "{7}",
        "frozenset({7})",
        "{'k': [7, {'d': (7, 2)}]}",
        "[[[[[7]]]]]",
    ]
    assert both.result(10) == 22


def test_a_chain_and_a_tree(client: Client) -> None:
    future = client.submit(add, 0)
    for _ in range(300):
        future = client.submit(add, future, 1)
    assert future.result(30) == 300
    level = [client.submit(add, number) for number in range(64)]
    while len(level) > 1:
        level = [client.submit(add, *level[at : at + 2]) for at in range(0, len(level), 2)]
    assert level[0].result(30) == sum(range(64))


def test_large_results_and_options(client: Client, gate: threading.Event) -> None:
    large = client.submit(after_gate, b"x" * 1_000_000)
    futures = [client.submit(len, large), client.submit_verbose(len, (large,), {}, {})]
    gate.set()
    assert [future.result(10) for future in futures] == [1_000_000] * 2
    assert len(large.result(10)) == 1_000_000
    assert client.submit(len, large).result(10) == 1_000_000
    assert client.submit(shape, [client.submit(len, large), 1]).result(10) == "[1000000, 1]"


def test_a_failure_reaches_all_that_need_it(cluster: InProcessCluster, client: Client, gate: threading.Event) -> None:
    failing = client.submit(after_gate, KeyError("no"))
    first = client.submit(add, failing, 1)
    second = client.submit(add, 1, [first])
    other = client.submit(add, 1)
    # Else the way may be longer: what the cluster has answered before it comes from the client.
    wait_until(lambda: sum(isinstance(one, m.GraphSubmit) for one in cluster.received) == 2)
    gate.set()
    for future in (failing, first, second):
        with pytest.raises(KeyError, match="no"):
            future.result(10)
    error = second.exception(1)
    assert error is not None
    way = f"task {second.task_id}, which needs task {first.task_id}, which needs task {failing.task_id}"
    assert error.__notes__ == [f"{way}: that one failed, so the others did not run"]
    assert other.result(10) == 1
    with pytest.raises(KeyError, match="no"):
        client.submit(add, failing).result(10)


def test_a_failure_that_the_scheduler_has_forgotten_names_the_way(client: Client, gate: threading.Event) -> None:
    failing = client.submit(after_gate, KeyError("no"))
    first = client.submit(add, failing)
    second = client.submit(add, first)
    # As if the scheduler did not know it any more.
    call = second.call  # type: ignore[attr-defined]
    gate.set()
    assert isinstance(first.exception(10), KeyError)
    unsent = DependentFuture(client)
    unsent.number, unsent.call = 77, call
    call._future = unsent
    call.send_values_of([first.number])
    error = unsent.exception(10)
    assert error is not None
    assert error is not first.exception()
    way = f"task 77, which needs task {first.task_id}, which needs task {failing.task_id}"
    assert error.__notes__ == [f"{way}: that one failed, so the others did not run"]
    assert len(first.exception().__notes__) == 1  # type: ignore[union-attr]


def test_what_needs_a_cancelled_task_is_cancelled(client: Client, gate: threading.Event) -> None:
    needed = client.submit(after_gate, 1)
    first = client.submit(add, needed, 1)
    second = client.submit(add, first, 1)
    assert first.cancel()
    with pytest.raises(CancelledError):
        second.result(10)
    gate.set()
    assert needed.result(10) == 1
    with pytest.raises(CancelledError, match=f"task {second.task_id}, which it needs, was cancelled"):
        client.submit(add, second, first).result(10)


def test_a_freed_future_is_kept_for_those_that_need_it(client: Client, gate: threading.Event) -> None:
    future = client.submit(add, client.submit(after_gate, 1), 2)
    gc.collect()
    gate.set()
    assert future.result(10) == 3


def test_futures_of_others_are_refused_by_name(cluster: InProcessCluster, client: Client) -> None:
    with Client(cluster.address, timeout_seconds=10) as other:
        foreign = other.submit(abs, -1)
        with pytest.raises(errors.SerializationError, match=r"<ScalerFuture of task 1: \w+> of another client"):
            client.submit(add, foreign)
    with pytest.raises(errors.SerializationError, match="of another client"):
        client.submit(add, [foreign])
    assert client.submit(add, 1).result(10) == 1


def test_inside_an_object_it_is_refused(client: Client, gate: threading.Event) -> None:
    future = client.submit(after_gate, 1)
    for argument in (Holder(future), [future, Holder(future)], {future: 1}):
        with pytest.raises(errors.SerializationError, match=r"a future, .*call \.result\(\) first"):
            client.submit(add, argument)
    looping: list[Any] = [future]
    looping.append(looping)
    with pytest.raises(errors.SerializationError, match="a list that has futures holds itself"):
        client.submit(add, looping)


def test_closing_the_client_ends_what_waits(cluster: InProcessCluster, gate: threading.Event) -> None:
    with Client(cluster.address, timeout_seconds=10) as client:
        futures = [client.submit(after_gate, 1)]
        futures.append(client.submit(add, futures[0]))
        futures.append(client.submit(add, futures[1]))
        client.clear()
        assert all(future.cancelled() for future in futures)
        needed = client.submit(after_gate, 1)
        waiting = client.submit(add, needed)
    assert waiting.cancelled()


def test_many_at_once(client: Client) -> None:
    futures = [client.submit(add, number) for number in range(3000)]
    assert client.submit(sum, futures).result(60) == sum(range(3000))


@pytest.mark.parametrize("size", [200_000, 1_000_000])
def test_nothing_comes_through_the_client(
    size: int, cluster: InProcessCluster, client: Client, gate: threading.Event
) -> None:
    large = client.submit(after_gate, b"x" * 10)
    for _ in range(3):
        large = client.submit(grown, large, size)
    length = client.submit(len, [large])
    wait_until(lambda: sum(isinstance(one, m.GraphSubmit) for one in cluster.received) >= 4)
    gate.set()
    assert length.result(10) == 1
    # A message may be sent again.
    sent = {one.first_number: one.payloads for one in cluster.received if isinstance(one, m.GraphSubmit)}
    assert len(sent) == 4
    assert sum(len(payloads.data) for payloads in sent.values()) < 1000


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the client has fetched objects, and stored some."""
    counts = {"fetched": 0, "stored": 0}

    def count(name: str, kind: str) -> None:
        original = getattr(ObjectChannel, name)

        def counted(*args: Any, **named: Any) -> Any:
            counts[kind] += 1
            return original(*args, **named)

        monkeypatch.setattr(ObjectChannel, name, counted)

    for name, kind in (("fetch", "fetched"), ("put", "stored"), ("put_soon", "stored")):
        count(name, kind)
    return counts


def left_in_storage(future: ScalerFuture) -> ScalerFuture:
    wait_until(lambda: future.has_value)
    return future


def length_after_gate(value: bytes) -> int:
    assert GATES["gate"].wait(20)
    return len(value)


def test_a_large_result_that_is_there_stays_where_it_is(
    cluster: InProcessCluster, client: Client, traffic: dict[str, int]
) -> None:
    large = left_in_storage(client.submit(grown, b"x", 1_000_000))
    stored = bytes(large.stored or b"")
    assert not large.has_ended
    assert client.submit(len, large).result(10) == 1_000_000
    assert client.submit(shape, [1, {"k": large}]).result(10) == repr([1, {"k": grown(b"x", 1_000_000)}])
    assert client.map(len, cast(Any, [large, [large], "ab"])) == [1_000_000, 1, 2]
    graph = {"a": (len, large), "b": (len, [large, "a"]), "c": (add, "a", "b")}
    assert client.get(graph, ["a", "b", "c"]) == {"a": 1_000_000, "b": 2, "c": 1_000_002}
    submitted = [one for one in cluster.received if isinstance(one, m.GraphSubmit | m.TaskBatch)]
    assert sum(len(one.payloads.data) for one in submitted) < 5000
    # The one text that was asked for.
    assert traffic == {"fetched": 1, "stored": 0}
    assert large.result(10) == grown(b"x", 1_000_000)
    # It is here now, and in storage still.
    assert client.submit(len, large).result(10) == 1_000_000
    assert traffic == {"fetched": 2, "stored": 0}
    del large, graph
    gc.collect()
    wait_until(lambda: stored not in cluster.objects)


def test_a_large_result_is_kept_for_those_that_wait(
    cluster: InProcessCluster, client: Client, gate: threading.Event, traffic: dict[str, int]
) -> None:
    large = left_in_storage(client.submit(grown, b"x", 1_000_000))
    waiting = client.submit(length_after_gate, large)
    del large
    gc.collect()
    wait_until(lambda: not client.operations.engine.objects._results)
    assert len(cluster.objects) == 1
    gate.set()
    assert waiting.result(10) == 1_000_000
    wait_until(lambda: not cluster.objects)
    assert traffic == {"fetched": 0, "stored": 0}


def test_a_chain_of_large_results_keeps_the_last_one(
    cluster: InProcessCluster, client: Client, traffic: dict[str, int]
) -> None:
    stored = []
    future = client.submit(grown, b"x", 300_000)
    for _ in range(20):
        stored.append(bytes(left_in_storage(future).stored or b""))
        future = client.submit(grown, future, 300_000)
    wait_until(lambda: not any(one in cluster.objects for one in stored))
    assert left_in_storage(future).stored in cluster.objects
    assert traffic == {"fetched": 0, "stored": 0}
    stored = [bytes(future.stored or b"")]
    assert future.cancel()
    del future
    wait_until(lambda: stored[0] not in cluster.objects)


@pytest.mark.parametrize("asks", ["done", "callback", "wait", "result", "await"])
def test_who_asks_for_a_large_result_gets_it(client: Client, asks: str) -> None:
    futures = [client.submit(grown, b"x", 300_000) for _ in range(3)]
    wait_until(lambda: all(one.has_value for one in futures))
    if asks == "done":
        wait_until(futures[0].done)
    elif asks == "callback":
        called = threading.Event()
        futures[0].add_done_callback(lambda _: called.set())
        assert called.wait(10)
    elif asks == "wait":
        assert not wait(futures, 10).not_done
    elif asks == "await":

        async def gather() -> list[Any]:
            return await asyncio.gather(*futures)

        assert len(asyncio.run(gather())) == 3
    assert len(futures[0].result(10)) == 300_000
    # Those behind it came along.
    wait_until(lambda: all(one.has_ended for one in futures))


def test_large_results_do_not_stay_for_ever(
    cluster: InProcessCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_results, "LEFT_SECONDS", 0.1)
    monkeypatch.setattr(stored_results, "KEPT_BYTES_MAX", 700_000)
    futures = [client.submit(grown, b"x", 300_000) for _ in range(4)]
    wait_until(lambda: all(one.has_ended for one in futures))
    wait_until(lambda: not cluster.objects)
    # What is in storage no more is sent again.
    assert [client.submit(len, one).result(10) for one in futures] == [300_000] * 4
    # Of what tasks have named, the latest ones stay when they are fetched. None is to be fetched before a task names it.
    monkeypatch.setattr(stored_results, "LEFT_SECONDS", 600.0)
    futures = [left_in_storage(client.submit(grown, b"x", 300_000)) for _ in range(4)]
    assert [client.submit(len, one).result(10) for one in futures] == [300_000] * 4
    assert not any(one.has_ended for one in futures)
    assert [len(one.result(10)) for one in futures] == [300_000] * 4
    wait_until(lambda: len(cluster.objects) == 2)
    assert [one.stored is not None for one in futures] == [False, False, True, True]


def test_closing_the_client_ends_what_was_left(cluster: InProcessCluster) -> None:
    with Client(cluster.address, timeout_seconds=10) as client:
        left, cleared = [client.submit(grown, b"x", 300_000) for _ in range(2)]
        wait_until(lambda: left.has_value and cleared.has_value)
    for future in (left, cleared):
        with pytest.raises(errors.ScalerError):
            future.result(10)


def test_a_restart_in_the_middle(cluster: InProcessCluster, client: Client, gate: threading.Event) -> None:
    done = client.submit(add, 5)
    waiting = client.submit(after_gate, 1)
    futures = [client.submit(add, done, waiting)]
    done.result(10)
    futures.append(client.submit(add, futures[0], waiting))
    cluster.restart()
    gate.set()
    assert [future.result(20) for future in futures] == [6, 7]


@pytest.mark.parametrize("ends", ["fails", "is cancelled"])
def test_a_long_chain_behind_a_row_of_a_graph_ends_with_it(client: Client, gate: threading.Event, ends: str) -> None:
    value: object = ValueError("wrong") if ends == "fails" else 1
    first = client.get({"a": (after_gate, value), "b": (add, 1)}, ["a", "b"], block=False)["a"]
    chain = [first]
    for _ in range(1000):
        chain.append(client.submit(add, chain[-1]))
    if ends == "fails":
        gate.set()
        with pytest.raises(ValueError, match="wrong"):
            chain[-1].result(30)
    else:
        first.cancel()
        with pytest.raises(CancelledError):
            chain[-1].result(30)
    assert all(future.done() for future in chain)


def call(function: Any, *args: Any) -> Any:
    """Return what it returns, in a thread, as it waits for what this thread opens."""
    return ThreadPoolExecutor(1).submit(function, *args)


@pytest.mark.parametrize("is_done", [False, True])
def test_in_items_of_maps(is_done: bool, client: Client, gate: threading.Event) -> None:
    future = client.submit(after_gate, 7)
    if is_done:
        gate.set()
        future.result(10)
    items = [1, future, [2, {"k": future}], 3, *range(100), (future, future)]
    mapped = call(client.map, shape, (item for item in items))
    stars = call(client.starmap, add, iter([(1, 2), (future, 1), (3,), (4, future, future)]))
    several = call(client.map, add, [1, future], [future, 2])
    gate.set()
    shown = ["1", "7", "[2, {'k': 7}]", "3", *map(str, range(100)), "(7, 7)"]
    assert (mapped.result(20), stars.result(20), several.result(20)) == (shown, [3, 8, 3, 18], [8, 9])


def test_others_than_items_with_futures_go_in_chunks(
    cluster: InProcessCluster, client: Client, gate: threading.Event
) -> None:
    gate.set()
    future = client.submit(after_gate, 1)
    items = list(range(5000))
    items[2500] = future  # type: ignore[call-overload]
    assert client.map(abs, items) == [*range(2500), 1, *range(2501, 5000)]
    sent = [one for one in cluster.received if isinstance(one, m.TaskBatch) and one.kind == m.TaskKind.MAP_CHUNK]
    assert sum(len(batch.numbers) for batch in sent) < 1000


def test_a_map_fails_with_what_its_items_need(client: Client, gate: threading.Event) -> None:
    failing, cancelled = client.submit(after_gate, KeyError("no")), client.submit(after_gate, 1)
    pending = call(client.map, add, [1, failing, 2])
    gate.set()
    with pytest.raises(KeyError, match="no"):
        pending.result(10)
    with pytest.raises(KeyError, match="no"):
        client.map(add, [1, failing])
    gate.clear()
    waiting = client.submit(after_gate, 1)
    pending = call(client.starmap, add, [(1, waiting)])
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        pending.result(10)
    assert cancelled.result(10) == 1


def test_items_that_maps_refuse(cluster: InProcessCluster, client: Client, gate: threading.Event) -> None:
    future = client.submit(after_gate, 1)
    with Client(cluster.address, timeout_seconds=10) as other:
        foreign = other.submit(abs, -1)
        with pytest.raises(
            errors.SerializationError, match=r"item 2: .*<ScalerFuture of task 1: \w+> of another client"
        ):
            client.map(add, [1, future, foreign])
    with pytest.raises(errors.SerializationError, match=r"item 1.* a future, .*call \.result\(\) first"):
        client.map(add, [1, Holder(future)])
    with pytest.raises(errors.SerializationError, match=r"item 1.*lock"):
        client.map(add, [future, threading.Lock()])
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        client.starmap(after_gate, [(future, 2)])  # type: ignore[arg-type]  # refused


def test_a_map_of_many_futures(client: Client) -> None:
    futures = [client.submit(add, number) for number in range(1000)]
    assert client.map(abs, futures) == list(range(1000))


@pytest.mark.parametrize("kind", ["call", "graph"])
def test_what_is_submitted_anew_counts_on(
    kind: str, client: Client, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that was started anew does not know what a task needs: it comes again, with the values."""
    sent: list[m.GraphSubmit] = []
    take = InProcessCluster._on_graph

    def give_back_once(self: InProcessCluster, of: Any, message: m.GraphSubmit) -> None:
        sent.append(message)
        if len(sent) == 1:
            time.sleep(0.05)  # sleeps: what is counted is time, by turns of the client
        # As if those that it needs were not known.
        take(self, of, message if len(sent) > 1 else replace(message, earlier=[99]))

    monkeypatch.setattr(InProcessCluster, "_on_graph", give_back_once)
    needed = client.submit(after_gate, 3)
    with_limits = client.with_options(deadline_seconds=1000)
    if kind == "call":
        future = with_limits.submit(add, needed, 4)
    else:
        future = client.get({"a": (add, needed, 4), "b": (add, "a", 0)}, ["b"], block=False, deadline_seconds=1000)["b"]
    wait_until(lambda: bool(sent))
    gate.set()
    assert future.result(10) == 7
    wait_until(lambda: len(sent) > 1)
    # Perhaps twice: what it needs may end, and be forgotten, while it is on its way again.
    for message in sent[1:]:
        (waited,) = read_history(message.options, 1).waited
        assert waited > 0


@pytest.mark.parametrize("is_done", [False, True])
def test_in_graphs(is_done: bool, client: Client, gate: threading.Event) -> None:
    one, two = client.submit(after_gate, 7), client.submit(after_gate, b"y" * 300_000)
    if is_done:
        gate.set()
        assert (one.result(10), len(two.result(10))) == (7, 300_000)
    shared = [1]
    graph = {
        "node": one,
        "task": (add, one, 1),
        "inside": (shape, [one, {"k": (add, "task", one)}, shared]),
        "container": [one, "task"],
        "behind": (add, "node", "task", "plain"),
        "plain": (add, 1, 2),
        "same": "node",
        "large": (len, two),
        "both": (shape, shared, one, [shared]),
    }
    futures = client.get(graph, iter(graph), block=False)
    blocked = call(client.get, {"a": (add, one, 1), "b": (add, "a", 1)}, ["b"])
    following = client.submit(add, futures["behind"], one)
    gate.set()
    assert {key: future.result(10) for key, future in futures.items()} == {
        "node": 7,
        "task": 8,
        "inside": "[7, {'k': 15}, [1]]",
        "container": [7, 8],
        "behind": 18,
        "plain": 3,
        "same": 7,
        "large": 300_000,
        "both": "([1], 7, [[1]])",
    }
    assert (blocked.result(10), following.result(10)) == ({"b": 9}, 25)
    assert one.result(1) == 7
    assert len(two.result(10)) == 300_000


def test_a_graph_leaves_without_the_values(cluster: InProcessCluster, client: Client, gate: threading.Event) -> None:
    large = client.submit(grown, client.submit(after_gate, b"x"), 200_000)
    future = client.get({"a": (len, large), "b": (add, "a", 1)}, "b", block=False)["b"]
    wait_until(lambda: sum(isinstance(one, m.GraphSubmit) for one in cluster.received) >= 2)
    gate.set()
    assert future.result(10) == 200_001
    graphs = [one for one in cluster.received if isinstance(one, m.GraphSubmit)]
    assert sum(len(one.payloads.data) for one in graphs) < 1000


def test_what_a_graph_needs_fails_or_is_cancelled(client: Client, gate: threading.Event) -> None:
    failing, waiting = client.submit(after_gate, KeyError("no")), client.submit(after_gate, 1)
    graph = {"a": (add, failing, 1), "b": (add, "a", waiting), "c": (add, 1, 2), "d": (add, waiting, "c")}
    pending = client.get(graph, list(graph), block=False)
    waiting.cancel()
    with pytest.raises(CancelledError):
        pending["d"].result(10)
    gate.set()
    for futures in (pending, client.get(graph, list(graph), block=False)):
        assert futures["c"].result(10) == 3
        for key in "a", "b":
            with pytest.raises((KeyError, CancelledError)):
                futures[key].result(10)
        with pytest.raises(CancelledError):
            futures["d"].result(10)
        assert isinstance(futures["a"].exception(10), KeyError)


def test_graphs_with_futures_that_are_refused(cluster: InProcessCluster, client: Client, gate: threading.Event) -> None:
    future = client.submit(after_gate, 1)
    with Client(cluster.address, timeout_seconds=10) as other:
        foreign = other.submit(abs, -1)
        refused: list[Any] = [foreign, (add, foreign), (add, [foreign])]
        for computation in refused:
            with pytest.raises(errors.SerializationError, match=r"<ScalerFuture of task 1: \w+> of another client"):
                client.get({"a": computation}, "a")
    refused = [(add, {future}), (add, Holder(future))]
    for computation in refused:
        with pytest.raises(errors.SerializationError, match=r"node 'a': .* a future, .*call \.result\(\) first"):
            client.get({"a": computation}, "a")
    client.get({"a": (add, foreign), "b": (add, 1)}, "b")


def test_a_graph_that_the_scheduler_does_not_know_the_futures_of(
    cluster: InProcessCluster, client: Client, gate: threading.Event
) -> None:
    # Rows of another graph are waited for in the client; so is everything where a graph leaves in portions.
    row = client.get({"a": (after_gate, 5), "b": (add, "a")}, ["a", "b"], block=False)["a"]
    graph: dict[Any, Any] = {"a": (add, row, 1), "b": (add, "a", row), "c": (add, 1)}
    futures = client.get(graph, list(graph), block=False)
    many: dict[Any, Any] = {"n0": (add, row, 1)} | {f"n{n}": (add, f"n{n - 1}", 1) for n in range(1, 4200)}
    last = client.get(many, "n4199", block=False)["n4199"]
    dropped = client.get(many, "n4199", block=False)["n4199"]
    assert dropped.cancel()
    cluster.restart()
    gate.set()
    assert [future.result(20) for future in futures.values()] == [6, 11, 1]
    assert last.result(30) == 4205
