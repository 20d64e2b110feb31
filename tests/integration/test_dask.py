"""Dask's collections on a cluster: arrays, bags, dataframes, delayed functions; Dask's errors, names and callbacks."""

from __future__ import annotations

import operator
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, errors
from tests.integration.deployment import Deployment
from tests.integration.test_labels import Watched

dask = pytest.importorskip("dask")

import dask.array as da  # noqa: E402
import dask.bag as db  # noqa: E402
import dask.dataframe as dd  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from dask._task_spec import Alias, DataNode, List, Task, TaskRef  # noqa: E402
from dask.callbacks import Callback  # noqa: E402
from dask.diagnostics import ProgressBar  # noqa: E402

import scaler.dask  # noqa: E402
from scaler.client.stored_objects import StoredObjects  # noqa: E402
from scaler.dask.fused import fused  # noqa: E402
from scaler.dask.kept import KeptNode  # noqa: E402


@pytest.fixture
def get(address: str) -> Iterator[Any]:
    with Client(address) as client:
        yield scaler.dask.get(client)


@pytest.fixture
def on_cluster(address: str) -> Iterator[None]:
    with Client(address) as client, scaler.dask.scheduler(client):
        yield


def inc(value: int) -> int:
    return value + 1


def frame_of(value: int) -> Any:
    return pd.DataFrame({"value": np.full(100_000, value)})


def divide(value: int) -> float:
    return 1 / value


@pytest.mark.usefixtures("on_cluster")
class TestCollections:
    def test_an_array(self) -> None:
        numbers = np.arange(10_000).reshape(100, 100)
        array = da.from_array(numbers, chunks=(30, 40))
        result = (array @ array.T).rechunk((50, 25)).sum(axis=0).compute()
        assert np.array_equal(result, (numbers @ numbers.T).sum(axis=0))

    def test_arrays_whose_pieces_are_objects_in_storage(self) -> None:
        array = da.ones((1000, 1000), chunks=(500, 500))
        assert (array + array.T).sum().compute() == 2e6

    def test_a_bag(self) -> None:
        bag = db.from_sequence(range(100), npartitions=7).map(lambda value: value % 3)
        assert sorted(bag.frequencies().compute()) == [(0, 34), (1, 33), (2, 33)]

    def test_a_bag_that_is_divided_by_hash(self) -> None:
        words = db.from_sequence(["a", "b", "c", "a"] * 50, npartitions=8)
        groups = {key: len(values) for key, values in words.groupby(str).compute()}
        assert groups == {"a": 100, "b": 50, "c": 50}

    def test_a_dataframe(self) -> None:
        whole = pd.DataFrame({"key": list("abcd") * 100, "value": range(400)})
        frame = dd.from_pandas(whole, npartitions=5)
        assert frame.groupby("key").value.mean().compute().sort_index().equals(whole.groupby("key").value.mean())
        merged = frame.merge(frame, on="key", how="inner").shuffle("value_x")
        assert len(merged.compute()) == 4 * 100 * 100

    def test_delayed_functions(self) -> None:
        total = dask.delayed(sum)([dask.delayed(inc)(number) for number in range(50)])
        one, other = dask.compute(total, {"inside": dask.delayed(inc)(1)})
        assert (one, other) == (1275, {"inside": 2})

    def test_small_persisted_collections(self) -> None:
        array = da.arange(100, chunks=10).persist()
        assert array.sum().compute() == 4950
        assert len(array.dask) == 10

    def test_persisted_values_never_pass_through_the_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fetched: list[Any] = []
        monkeypatch.setattr(StoredObjects, "fetch", lambda _, fetch: fetched.append(fetch))
        monkeypatch.setattr(StoredObjects, "store", lambda _, buffers: fetched.append(buffers))
        array = (da.ones((2000, 1000), chunks=(500, 500)) + 1).persist()
        assert {type(value) for value in dict(array.dask).values()} == {KeptNode}
        frame = dd.from_map(frame_of, [1, 2]).value.persist()
        assert (array.sum().compute(), array[3:5, :2].compute().tolist()) == (4e6, [[2, 2], [2, 2]])
        assert ((array + array.T.sum())[0, 0].compute(), frame.sum().compute()) == (4e6 + 2, 300_000)
        assert not fetched

    def test_what_was_persisted_can_be_computed_and_persisted_again(self) -> None:
        array = (da.ones((1000, 500), chunks=(500, 500)) + 1).persist()
        again = array.persist()
        nodes = [sorted(dict(one.dask).items()) for one in (array, again)]
        assert [node.value for _, node in nodes[0]] == [node.value for _, node in nodes[1]]
        assert again.compute().sum() == 1e6
        # As Dask's own tests look at what is persisted elsewhere.
        assert nodes[1][0][1].result().shape == (500, 500)
        one = dask.delayed(bytes)(10**6).persist()
        assert (len(one.compute()), dask.delayed(len)(one).compute()) == (10**6, 10**6)

    def test_data_of_the_program_is_persisted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = dd.from_pandas(pd.DataFrame({"value": np.arange(200_000)}), npartitions=2).persist()
        monkeypatch.delattr(Client, "send_object")
        assert frame.value.sum().compute() == sum(range(200_000))

    def test_persisted_values_of_other_schedulers(self) -> None:
        one = dask.delayed(bytes)(10**6).persist()
        with pytest.raises(RuntimeError, match="was persisted on a Scaler cluster"):
            one.compute(scheduler="sync")

    def test_a_failure_while_persisting(self) -> None:
        with pytest.raises(ZeroDivisionError):
            dask.persist(dask.delayed(divide)(0), dask.delayed(bytes)(10**6))

    def test_a_delayed_function_of_thousands(self) -> None:
        parts = [dask.delayed(inc)(number) for number in range(3000)]
        assert dask.delayed(sum)(parts).compute() == sum(range(1, 3001))

    def test_an_error_is_raised_as_it_is(self) -> None:
        with pytest.raises(ZeroDivisionError):
            dask.delayed(sum)([dask.delayed(divide)(0), dask.delayed(inc)(1)]).compute()


def test_dask_configuration_names_the_cluster(address: str) -> None:
    with Client(address) as client, dask.config.set(scheduler=scaler.dask.get(client)):
        here, there = os.getpid(), dask.delayed(os.getpid)()
        assert there.compute() != here
        assert there.compute(scheduler="sync") == here


class TestOptions:
    def test_tasks_have_those_of_the_scheduler(self, deployment: Deployment) -> None:
        watched = Watched(deployment)
        with Client(watched.address) as client:
            values = [dask.delayed(inc)(number) for number in range(3)]
            assert dask.compute(*values, scheduler=scaler.dask.get(client, label="one", tags={"desk": "fx"})) == (
                1,
                2,
                3,
            )
            assert {task["tags"] for task in watched.tasks_of("one")} == {"desk=fx"}
            with scaler.dask.scheduler(client, label="block"):
                assert dask.delayed(sum)(values).compute() == 6
            assert watched.tasks_of("block")
            view = client.with_options(label="view")
            assert dask.delayed(sum)(values).compute(scheduler=scaler.dask.get(view)) == 6
            assert watched.tasks_of("view")
            with dask.config.set(scheduler=scaler.dask.get(client, label="kept")):
                (kept,) = dask.persist(da.ones((300, 300), chunks=150))
                assert kept.sum().compute() == 90_000
            assert len(watched.tasks_of("kept")) > 4
            with pytest.raises(TypeError, match="has no option lable"):
                scaler.dask.get(client, lable="x")  # type: ignore[call-arg]


def fail_first(path: str, failures: int) -> int:
    """Fail so many times, counted in a file; then return how often it was called."""
    with open(path, "a+") as file:
        file.write("x")
        file.seek(0)
        calls = len(file.read())
    if calls <= failures:
        raise ValueError(f"call {calls}")
    return calls


class TestAnnotations:
    def test_retries(self, get: Any, tmp_path: Path) -> None:
        with dask.annotate(retries=2):
            enough = dask.delayed(fail_first)(str(tmp_path / "enough"), 2)
            too_few = dask.delayed(fail_first)(str(tmp_path / "few"), 3)
        assert dask.delayed(inc)(enough).compute(scheduler=get) == 4
        with pytest.raises(ValueError, match="call 3"):
            too_few.compute(scheduler=get)

    def test_numbers_of_retries_are_no_keys(self, get: Any, tmp_path: Path) -> None:
        with dask.annotate(retries=2):
            one = dask.delayed(fail_first)(str(tmp_path / "calls"), 2, dask_key_name=2)
        assert one.compute(scheduler=get) == 3

    def test_resources_are_capabilities(self, deployment: Deployment) -> None:
        scheduler = deployment.scheduler()
        deployment.workers(scheduler, count=1)
        deployment.workers(scheduler, "--per-worker-capabilities", "gpu", count=1)
        get = scaler.dask.get(deployment.client(scheduler))
        with dask.annotate(resources={"gpu": 0.5}):
            somewhere = [dask.delayed(hashed_here)(str(number)) for number in range(8)]
        assert len({template for template, _ in dask.compute(*somewhere, scheduler=get)}) == 1

    def test_others_have_no_effect_and_are_told_of(self, get: Any) -> None:
        with dask.annotate(priority=10, workers=["here"], mine=1):
            one = dask.delayed(inc)(1)
        with pytest.warns(UserWarning, match="annotations priority, workers have no effect.*name it in resources"):
            assert one.compute(scheduler=get) == 2

    def test_what_is_no_number_is_refused(self, get: Any) -> None:
        for annotation, error in (
            ({"retries": -1}, "retries must be"),
            ({"resources": {"gpu": "all"}}, "'gpu' must be"),
        ):
            with dask.annotate(**annotation):
                one = dask.delayed(inc)(1)
            with pytest.raises(ValueError, match=error):
                one.compute(scheduler=get)


def hashed_here(text: str) -> tuple[int, int]:
    time.sleep(0.05)  # sleeps: long enough that both hosts get some
    return os.getppid(), hash(text)


def test_texts_have_the_same_hash_on_all_hosts(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    for _ in range(2):
        deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    results = [future.result(30) for future in [client.submit(hashed_here, "text") for _ in range(20)]]
    assert len({template for template, _ in results}) == 2
    assert len({value for _, value in results}) == 1


class TestGraphs:
    def test_keys_of_all_kinds_in_nested_lists(self, get: Any) -> None:
        graph = {"a": 1, ("b", 0): (sum, ["a", "a"]), b"c": ("b", 0), 7: (inc, "a")}
        assert get(graph, ["a", [("b", 0), [b"c"]], 7]) == (1, (2, (2,)), 2)
        assert get(graph, 7) == 2
        assert get(graph, []) == ()

    def test_thousands_of_inputs(self, get: Any) -> None:
        numbers: dict[Any, Any] = {("number", number): Task(("number", number), inc, number) for number in range(5000)}
        listed = List(*map(TaskRef, numbers))
        assert get({**numbers, "sum": Task("sum", sum, listed)}, "sum") == sum(range(1, 5001))
        assert get({**numbers, "sum": (sum, list(numbers))}, ["sum"]) == (sum(range(1, 5001)),)

    def test_task_objects(self, get: Any) -> None:
        graph = {
            "data": DataNode("data", "sum"),
            "name": Alias("name", "data"),
            "sum": Task("sum", operator.add, TaskRef("name"), "data"),
            "again": Alias("again", "sum"),
        }
        # Texts that are keys too are data where Dask says so.
        assert get(graph, ["again", "sum", "name", "data", "again"]) == ("sumdata", "sumdata", "sum", "sum", "sumdata")

    def test_what_is_not_in_the_graph(self, get: Any) -> None:
        with pytest.raises(errors.GraphKeyError, match="key 'b' is not in the graph"):
            get({"a": 1}, ["a", "b"])
        with pytest.raises(errors.GraphKeyError, match="'a' needs key 'b', which is not in the graph"):
            get({"a": Task("a", inc, TaskRef("b"))}, "a")
        graph = {"a": Task("a", inc, TaskRef("b")), "b": Alias("b", "c"), "c": Task("c", inc, TaskRef("d"))}
        with pytest.raises(
            errors.GraphKeyError, match="'c' needs key 'd', which is not in the graph: 'a' -> 'b' -> 'c' -> 'd'"
        ):
            get(graph, [["a"]])

    def test_nodes_that_need_each_other(self, get: Any) -> None:
        with pytest.raises(errors.GraphCycleError):
            get({"a": Task("a", inc, TaskRef("b")), "b": Task("b", inc, TaskRef("a"))}, "a")
        with pytest.raises(errors.GraphCycleError):
            get({"a": Alias("a", "b"), "b": Alias("b", "a")}, "a")

    def test_a_graph_inside_a_task(self, address: str) -> None:
        def inside() -> int:
            with Client(address) as client:
                return int(scaler.dask.get(client)({"a": (inc, 1)}, "a"))

        with Client(address) as client:
            assert client.submit(inside).result(30) == 2

    def test_what_is_left_is_cancelled_when_a_task_fails(self, get: Any) -> None:
        graph = {("late", number): (inc, (divide, "zero")) for number in range(100)} | {"zero": 0}
        with pytest.raises(ZeroDivisionError):
            get(graph, list(graph))
        assert get({"a": (inc, 1)}, "a") == 2


class Noted(Callback):  # type: ignore[misc]
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def _start(self, dsk: Any) -> None:
        self.told.append(("start", len(dsk)))

    def _start_state(self, dsk: Any, state: Any) -> None:
        self.told.append(("state", len(state["waiting"])))

    def _pretask(self, key: Any, dsk: Any, state: Any) -> None:
        self.told.append(("begin", key))

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        self.told.append(("end", key, result))

    def _finish(self, dsk: Any, state: Any, errored: bool) -> None:
        self.told.append(("finish", len(state["finished"]), errored))


class TestCallbacks:
    def test_they_are_told_of_every_task_and_see_its_value(self, get: Any) -> None:
        with Noted() as noted:
            assert get({"a": 1, "b": (inc, "a"), "c": (inc, "b")}, "c") == 3
        assert noted.told[:2] == [("start", 3), ("state", 2)]
        assert sorted(noted.told[2:-1]) == [("begin", "b"), ("begin", "c"), ("end", "b", 2), ("end", "c", 3)]
        assert noted.told[-1] == ("finish", 2, False)

    def test_they_are_told_of_a_failure(self, get: Any) -> None:
        with Noted() as noted, pytest.raises(ZeroDivisionError):
            get({"a": (divide, 0)}, "a")
        assert noted.told[-1] == ("finish", 0, True)

    def test_they_are_told_of_what_is_persisted(self, get: Any) -> None:
        with Noted() as noted:
            one = dask.delayed(bytes)(10**6).persist(scheduler=get)
        assert [told[0] for told in noted.told] == ["start", "state", "begin", "end", "finish"]
        assert dask.delayed(len)(one).compute(scheduler=get) == 10**6

    def test_the_progress_bar(self, get: Any, capsys: pytest.CaptureFixture[str]) -> None:
        threads = threading.active_count()
        with ProgressBar():
            assert da.ones(1000, chunks=10).sum().compute(scheduler=get) == 1000
        assert "100% Completed" in capsys.readouterr().out
        assert threading.active_count() <= threads


class Counted:
    """A value that counts how many of its kind are alive."""

    alive = most = 0

    def __init__(self, *_: Any) -> None:
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


class TestFusedTasks:
    """Tasks that optimization has made of several run without Dask's own road to an order. No cluster."""

    def test_parts_run_once_each_after_what_they_need(self) -> None:
        ran: list[str] = []

        def part(name: str, *inputs: int) -> int:
            ran.append(name)
            return 1 + sum(inputs)

        parts = [
            Task("top", part, "top", TaskRef("left"), TaskRef("right"), TaskRef("outside")),
            Task("left", part, "left", TaskRef("bottom")),
            Task("right", part, "right", TaskRef("bottom"), TaskRef("outside")),
            Task("bottom", part, "bottom"),
        ]
        found = fused(Task.fuse(*parts).substitute({"outside": "elsewhere"}))
        assert found is not None
        assert (found.names, found.keys) == (("outside",), ("elsewhere",))
        inputs = {"outside": 10}
        for _ in range(2):
            ran.clear()
            assert found.calls(inputs) == 1 + (1 + 1) + (1 + 1 + 10) + 10
            assert inputs == {"outside": 10}
            assert ran[0] == "bottom"
            assert ran[3] == "top"
            assert sorted(ran) == ["bottom", "left", "right", "top"]

    def test_values_go_with_their_last_reader(self) -> None:
        parts = [Task(f"chain-{at}", Counted, *([TaskRef(f"chain-{at - 1}")] if at else [])) for at in range(20)]
        found = fused(Task.fuse(*parts))
        assert found is not None
        Counted.alive = Counted.most = 0
        found.calls({})
        assert Counted.most == 2

    def test_what_is_made_otherwise_is_left_to_dask(self) -> None:
        one = Task("one", inc, 1)
        assert fused(one) is None
        task = Task.fuse(one, Task("two", inc, TaskRef("one")))
        assert fused(task) is not None
        parts, *others = task.args
        assert fused(Task("two", task.func, {**parts, "more": one}, *others)) is None
        assert fused(Task("two", task.func, {**parts, "one": Task("one", inc, TaskRef("two"))}, *others)) is None
        assert fused(Task("two", task.func, parts, "two", ("one",), 1)) is None
