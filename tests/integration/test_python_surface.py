"""Every row of the documented Python surface, through a real scheduler and real workers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import math
import operator
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any, cast

import cloudpickle
import numpy as np
import pytest

import scaler
from scaler import Client, ScalerFuture, Serializer
from scaler.errors import ClientCancelledException, MissingObjects, ProcessorDiedError, ScalerError
from tests.integration import functions as f
from tests.integration.deployment import Deployment, wait_for

# --- Client


def test_the_client_is_a_context_manager_and_has_an_identity(address: str) -> None:
    with Client(address) as client, Client(address=address) as other:
        assert client.submit(f.square, 4).result() == 16
        assert client.identity
        assert client.identity != other.identity


def test_without_an_address_outside_a_task_the_client_says_why_not() -> None:
    with pytest.raises(ValueError, match="address"):
        Client()


def test_without_an_address_inside_a_task_the_worker_s_scheduler_is_used(client: Client) -> None:
    assert client.submit(f.use_client_without_address, 7).result() == 49


def test_a_pickled_client_is_a_new_client_of_the_same_scheduler(client: Client) -> None:
    copy = pickle.loads(pickle.dumps(client))
    try:
        assert copy.submit(f.square, 3).result() == 9
        assert copy.identity != client.identity
    finally:
        copy.disconnect()


def test_the_client_in_a_task_is_the_one_that_was_passed(client: Client) -> None:
    assert client.submit(f.parent_of_two, client, 3).result() == 9 + 16


# --- submit


def test_submit_takes_positional_and_keyword_arguments(client: Client) -> None:
    assert client.submit(f.add, 1, 2).result() == 3
    assert client.submit(f.add, 1, right=5).result() == 6
    assert client.submit(f.add, left=1, right=5).result() == 6
    assert client.submit(f.keyword_only, value=1, other=2).result() == (1, {"other": 2})


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (max, (3, 7), 7),
        (math.log, (1.0,), 0.0),
        (time.sleep, (0,), None),
        (dict, ((("a", 1),),), {"a": 1}),
        (operator.itemgetter(1), ([5, 6],), 6),
        (str.upper, ("abc",), "ABC"),
        (round, (3.15,), 3),
    ],
    ids=str,
)
def test_callables_without_a_signature_work(
    client: Client, function: Any, arguments: tuple[Any, ...], expected: Any
) -> None:
    assert client.submit(function, *arguments).result() == expected


def test_closures_and_lambdas_travel(client: Client) -> None:
    offset = 10
    assert client.submit(lambda x: x + offset, 1).result() == 11


def test_unknown_keyword_arguments_are_a_type_error(client: Client) -> None:
    with pytest.raises(TypeError):
        client.submit(f.add, 1, 2, nonsense=3).result()  # type: ignore[arg-type, call-arg]  # refused
    assert client.submit(f.add, 1, 2).result() == 3


def test_submit_verbose_takes_tuples_and_capabilities(client: Client) -> None:
    assert client.submit_verbose(f.add, args=(1, 2)).result() == 3
    waiting = client.submit_verbose(f.add, args=(1,), kwargs={"right": 3}, capabilities={"linux": -1})
    with scaler.Cluster(client.address, n_workers=1, per_worker_capabilities={"linux": 2}, logging_level="ERROR"):
        assert waiting.result(timeout=50) == 4
    assert client.submit_verbose(round, args=(3.15,), kwargs={}).result() == 3


def test_arguments_are_snapshots(client: Client) -> None:
    numbers = list(range(100))
    array = np.arange(100_000)
    futures = [client.submit(sum, numbers), client.submit(np.sum, array)]
    numbers.clear()
    array[:] = 0
    assert futures[0].result() == 4950
    assert futures[1].result() == sum(range(100_000))


def test_large_arguments_and_results_come_back_equal(client: Client) -> None:
    array = np.random.default_rng(1).normal(size=500_000)
    result = client.submit(lambda x: x, array).result()
    assert np.array_equal(result, array)
    blob = os.urandom(3_000_000)
    assert client.submit(lambda x: x, blob).result() == blob


# --- map, starmap


def test_map_is_like_the_built_in_one_but_a_list(client: Client) -> None:
    assert client.map(f.square, range(1000)) == [x * x for x in range(1000)]
    assert client.map(f.add, [1, 2, 3], [10, 20, 30]) == [11, 22, 33]
    assert client.map(f.add, [1, 2, 3], [10, 20]) == [11, 22]
    assert client.map(f.square, []) == []
    assert client.map(f.square, (x for x in range(3))) == [0, 1, 4]
    assert client.map(math.sqrt, [4, 9], capabilities=None) == [2.0, 3.0]


def test_map_over_one_tuples_passes_tuples_and_starmap_unpacks_them(client: Client) -> None:
    assert client.map(len, [(1,), (2,)]) == [1, 1]
    assert client.starmap(f.square, [(2,), (3,)]) == [4, 9]


def test_starmap(client: Client) -> None:
    assert client.starmap(f.add, [(1, 10), (2, 20), (3, 30)]) == [11, 22, 33]
    assert client.starmap(f.add, []) == []


def test_an_error_in_map_leaves_the_client_usable(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        client.map(lambda x: 1 // x, [1, 0, 2])
    assert client.map(f.square, [5]) == [25]


# --- get


def inc(i: int) -> int:
    return i + 1


def minus(a: int, b: int) -> int:
    return a - b


GRAPH = {"a": 2, "b": 2, "c": (inc, "a"), "d": (f.add, "a", "b"), "e": (minus, "d", "c")}


def test_get_computes_a_graph(client: Client) -> None:
    assert client.get(GRAPH, keys=["e"]) == {"e": 1}


def test_get_keeps_the_order_of_keys(client: Client) -> None:
    assert list(client.get(GRAPH, keys=["e", "a", "d"]).items()) == [("e", 1), ("a", 2), ("d", 4)]


def test_get_without_blocking_gives_futures(client: Client) -> None:
    futures = client.get(GRAPH, keys=["d", "e"], block=False)
    assert {key: future.result() for key, future in futures.items()} == {"d": 4, "e": 1}
    assert all(isinstance(future, ScalerFuture) for future in futures.values())


def test_get_takes_nested_lists_of_keys(client: Client) -> None:
    graph = {"a": 1, "b": (inc, "a"), "total": (sum, ["a", "b", 10])}
    assert client.get(graph, keys=["total"]) == {"total": 13}


@pytest.mark.parametrize(
    ("graph", "keys"),
    [
        ({"a": (inc, "b"), "b": (inc, "a")}, ["a"]),
        (GRAPH, ["missing"]),
        (GRAPH, ["e", "e"]),
    ],
    ids=["cycle", "missing key", "duplicate key"],
)
def test_graphs_that_make_no_sense_are_refused_before_anything_runs(
    client: Client, graph: dict[str, Any], keys: list[str]
) -> None:
    with pytest.raises((ValueError, KeyError)):
        client.get(graph, keys=keys)
    assert client.get(GRAPH, keys=["e"]) == {"e": 1}


def test_an_error_in_a_graph_is_the_task_s_own(client: Client) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        client.get({"a": (f.fail, "on purpose"), "b": (inc, "a")}, keys=["b"])
    assert client.get(GRAPH, keys=["e"]) == {"e": 1}


# --- send_object, clear


def test_an_object_is_sent_once_and_used_by_many_tasks(client: Client) -> None:
    array = np.arange(200_000)
    reference = client.send_object(array, name="numbers")
    sums = [client.submit(np.sum, reference) for _ in range(10)]
    assert {int(future.result()) for future in sums} == {int(array.sum())}
    assert client.map(lambda x, a: int(a[x]), [1, 2], cast(Any, [reference, reference])) == [1, 2]


def test_a_reference_is_a_valid_graph_node(client: Client) -> None:
    reference = client.send_object([1, 2, 3])
    assert client.get({"data": reference, "sum": (sum, "data")}, keys=["sum"]) == {"sum": 6}


def test_clear_cancels_futures_and_invalidates_references(client: Client) -> None:
    reference = client.send_object(np.arange(100_000))
    assert client.submit(len, reference).result() == 100_000
    futures = [client.submit(time.sleep, 60) for _ in range(4)]
    client.clear()
    for future in futures:
        with pytest.raises((ClientCancelledException, concurrent.futures.CancelledError)):
            future.result(timeout=5)
    with pytest.raises(MissingObjects):
        client.submit(len, reference).result(timeout=20)
    assert client.submit(f.square, 2).result(timeout=20) == 4


# --- disconnect, shutdown


def test_disconnect_is_idempotent_and_ends_what_is_pending(address: str) -> None:
    client = Client(address)
    future = client.submit(time.sleep, 60)
    client.disconnect()
    client.disconnect()
    with pytest.raises((ScalerError, concurrent.futures.CancelledError)):
        future.result(timeout=5)
    with pytest.raises(ScalerError):
        client.submit(f.square, 1)


@pytest.mark.without_keys("with keys, only operators end the cluster")
def test_shutdown_stops_scheduler_and_workers(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler)
    client = deployment.client(scheduler)
    assert client.submit(f.square, 2).result() == 4
    client.shutdown()
    client.shutdown()
    assert scheduler.wait_end() == 0
    assert workers.wait_end() == 0


def test_a_protected_scheduler_refuses_to_be_shut_down(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--protected")
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    with pytest.raises(ValueError, match="protected"):
        client.shutdown()
    assert deployment.client(scheduler).submit(f.square, 2).result() == 4


# --- futures


def test_futures_are_standard_futures(client: Client) -> None:
    futures = [client.submit(f.square, x) for x in range(10)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    done, pending = concurrent.futures.wait(futures, timeout=20)
    assert not pending
    assert sorted(future.result() for future in done) == [x * x for x in range(10)]
    more = [client.submit(f.sleep_and_return, 0.05 * x, x) for x in range(3)]
    assert sorted(future.result() for future in concurrent.futures.as_completed(more, timeout=20)) == [0, 1, 2]


def test_futures_call_back_and_can_be_awaited(client: Client) -> None:
    called = threading.Event()
    future = client.submit(f.square, 3)
    future.add_done_callback(lambda _: called.set())
    assert called.wait(20)

    async def main() -> tuple[int, int]:
        return await asyncio.wrap_future(client.submit(f.square, 4)), await client.submit(f.square, 5)

    assert asyncio.run(main()) == (16, 25)


def test_result_and_exception_take_a_timeout(client: Client) -> None:
    future = client.submit(time.sleep, 30)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.1)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(timeout=0.1)
    assert future.running()
    assert future.cancel()
    assert isinstance(client.submit(f.fail, "text").exception(timeout=20), ValueError)


def test_running_is_true_from_submission_until_the_end(client: Client) -> None:
    future = client.submit(f.square, 2)
    assert future.running() or future.done()
    assert future.result() == 4
    assert future.done()
    assert not future.running()


def test_a_future_knows_its_task(client: Client) -> None:
    first, second = client.submit(f.square, 1), client.submit(f.square, 2)
    assert first.task_id != second.task_id
    concurrent.futures.wait([first, second], timeout=20)


def test_cancel_stops_a_running_task(client: Client, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    future = client.submit(f.mark_and_sleep, str(mark), 600)
    wait_for("the task runs", mark.exists)
    assert future.cancel(timeout=10)
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    # Its worker is free again, long before ten minutes are over.
    assert client.map(f.square, [1, 2, 3]) == [1, 4, 9]


def test_profiling_info(address: str) -> None:
    with Client(address, profiling=True) as client:
        future = client.submit(f.sleep_and_return, 0.2, 1)
        with pytest.raises(ValueError, match=r".+"):
            future.profiling_info()
        assert future.result() == 1
        info = future.profiling_info()
    assert 0.15 < info.duration_s < 5
    assert 0 <= info.cpu_time_s < 5
    assert info.memory_peak > 0


def test_without_profiling_there_is_no_profiling_info(client: Client) -> None:
    future = client.submit(f.square, 1)
    assert future.result() == 1
    with pytest.raises(ValueError, match=r".+"):
        future.profiling_info()


# --- serializer


class TaggedSerializer(Serializer):
    """Marks everything it writes, so that it can be seen that it was asked."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        return b"tagged" + bytes(cloudpickle.dumps(obj))

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        assert bytes(payload[:6]) == b"tagged"
        return cloudpickle.loads(payload[6:])


class Texts(Serializer):
    """Writes the text of any value."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        return str(obj).encode()

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return abs if payload.startswith(b"<built-in") else int(payload)


class OtherTexts(Texts):
    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return operator.neg if payload.startswith(b"<built-in") else int(payload)


def test_the_same_bytes_of_two_serializers_are_two_functions(address: str) -> None:
    with Client(address, serializer=Texts()) as first, Client(address, serializer=OtherTexts()) as second:
        assert [client.submit(abs, 5).result(30) for client in (first, second, first, second)] == [5, -5, 5, -5]


def test_a_serializer_of_one_s_own_is_used_for_everything(address: str) -> None:
    with Client(address, serializer=TaggedSerializer()) as client:
        assert client.submit(f.add, 1, right=2).result() == 3
        assert client.map(f.square, range(5)) == [0, 1, 4, 9, 16]
        assert client.submit(len, b"x" * 300_000).result() == 300_000
        copy = pickle.loads(pickle.dumps(client))
        try:
            assert copy.submit(f.square, 3).result() == 9
        finally:
            copy.disconnect()


# --- errors of tasks


def test_exceptions_arrive_as_themselves_with_the_remote_traceback(client: Client) -> None:
    future = client.submit(f.fail, "the reason")
    with pytest.raises(ValueError, match="the reason") as caught:
        future.result()
    names = []
    traceback = caught.value.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "fail" in names


def test_a_task_that_exits_its_process_is_named_and_the_worker_goes_on(client: Client) -> None:
    with pytest.raises(ProcessorDiedError, match=r"exit|status|3"):
        client.submit(f.exit_hard, 3).result(timeout=50)
    assert client.submit(f.square, 2).result(timeout=20) == 4


def test_stdout_and_stderr_come_back(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    def talk() -> None:
        import sys

        print("said aloud")
        print("complained", file=sys.stderr)

    with Client(address, stream_output=True) as client:
        client.submit(talk).result()
        seen = ["", ""]

        def both_seen() -> bool:
            captured = capfd.readouterr()
            seen[0] += captured.out
            seen[1] += captured.err
            return "said aloud" in seen[0] and "complained" in seen[1]

        wait_for("the task's output", both_seen)


def test_a_client_in_a_forked_child_says_that_it_cannot_be_used(client: Client) -> None:
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            client.submit(f.square, 2)
            text = "it worked"
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write_fd, text.encode())
        os._exit(0)
    os.close(write_fd)
    os.waitpid(child, 0)
    text = os.read(read_fd, 10_000).decode()
    os.close(read_fd)
    assert "fork" in text
    assert client.submit(f.square, 3).result() == 9


# --- nesting


def test_fibonacci_with_the_client_as_an_argument(client: Client) -> None:
    assert client.submit(f.fibonacci, client, 8).result(timeout=50) == 21


# --- names libraries import


def test_names_that_libraries_import_exist() -> None:
    from scaler.client.future import ScalerFuture as Future
    from scaler.client.object_reference import ObjectReference
    from scaler.utility import exceptions
    from scaler.worker.agent.processor.processor import Processor

    assert Future is ScalerFuture
    assert inspect.isclass(ObjectReference)
    assert Processor.get_current_processor() is None
    names = [
        "TaskNotFoundError",
        "WorkerDiedError",
        "NoWorkerError",
        "DisconnectedError",
        "ProcessorDiedError",
        "DeserializeObjectError",
        "MissingObjects",
        "ClientCancelledException",
        "ClientShutdownException",
        "ClientQuitException",
        "ObjectStorageException",
    ]
    for name in names:
        assert issubclass(getattr(exceptions, name), exceptions.ScalerError)


def test_inside_a_task_there_is_a_current_processor(client: Client) -> None:
    def look() -> bool:
        from scaler.worker.agent.processor.processor import Processor

        return Processor.get_current_processor() is not None

    assert client.submit(look).result() is True


def test_keyword_names_are_written_out_for_introspection() -> None:
    parameters = inspect.signature(scaler.SchedulerClusterCombo.__init__).parameters
    assert {"address", "n_workers", "object_storage_address", "monitor_address", "event_loop", "protected"} <= set(
        parameters
    )
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def test_the_public_names() -> None:
    for name in ("Client", "ScalerFuture", "Serializer", "SchedulerClusterCombo", "Cluster", "Scheduler"):
        assert hasattr(scaler, name)
