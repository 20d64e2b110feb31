"""The client against the in-process cluster: real sockets, real threads, the protocol's rules."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import functools
import gc
import json
import logging
import math
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pytest

from scaler import Client, ScalerExecutor, ScalerFuture, Serializer, errors
from scaler.client.object_channel import SOON_BYTES_MAX
from scaler.client.snapshots import key_of
from scaler.client.stored_objects import StoredObjects
from scaler.core import effects
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions
from scaler_protocol.wire.codec import decode


def raise_error(text: str) -> None:
    raise LookupError(text)


async def awaited(future: ScalerFuture) -> Any:
    return await future


def test_a_client_says_hello_before_it_waits_for_anything(
    cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[m.Message] = []

    class Starting(Exception):
        pass

    class Thread:
        def __init__(self, link: DealerLink, _owner: object, _name: str) -> None:
            self._link = link

        def send(self, frames: list[Any]) -> None:
            sent.append(decode(frames[1:]))

        def wake(self) -> None:
            return

        def stop(self) -> None:
            self._link.close()

    def start(self: Any) -> None:
        self._threads[0].stop()
        raise Starting

    monkeypatch.setattr("scaler.client.connection_engine.LinkThread", Thread)
    monkeypatch.setattr("scaler.client.connection_engine.Start.__call__", start)
    with pytest.raises(Starting):
        Client(cluster.address)
    assert [type(message) for message in sent] == [m.Hello]


class TestSubmit:
    def test_a_task(self, client: Client) -> None:
        assert client.submit(math.sqrt, 16).result(5) == 4

    def test_callables_of_every_kind(self, client: Client) -> None:
        class Adder:
            def __init__(self, n: int) -> None:
                self.n = n

            def __call__(self, x: int) -> int:
                return self.n + x

            def add(self, x: int) -> int:
                return self.n + x

        cases: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = [
            (max, (1, 2), {}, 2),
            (max, ([],), {"default": 5}, 5),
            (math.log, (math.e,), {}, 1.0),
            (time.sleep, (0,), {}, None),
            (dict, (), {"a": 1}, {"a": 1}),
            (lambda x, *, k=2: x * k, (3,), {"k": 5}, 15),
            (lambda *args, **kwargs: (args, kwargs), (1,), {"fn": 2, "self": 3}, ((1,), {"fn": 2, "self": 3})),
            (functools.partial(pow, 2), (10,), {}, 1024),
            (Adder(1), (2,), {}, 3),
            (Adder(1).add, (2,), {}, 3),
            ("abc".upper, (), {}, "ABC"),
            (np.sum, ([1, 2],), {}, 3),
        ]
        futures = [client.submit(function, *args, **kwargs) for function, args, kwargs, _ in cases]
        assert [future.result(5) for future in futures] == [expected for *_, expected in cases]

    def test_unknown_keyword_arguments(self, client: Client) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
            client.submit(lambda x: x, 1, z=2).result(5)  # type: ignore[arg-type, misc]  # refused

    def test_submit_verbose(self, client: Client, cluster: InProcessCluster) -> None:
        future = client.submit_verbose(round, args=(3.15,), kwargs={}, capabilities={"gpu": -1, "cpu": 2})
        assert future.result(5) == 3
        batch = next(message for message in cluster.received if isinstance(message, m.TaskBatch))
        assert batch.capabilities == (("cpu", 2), ("gpu", -1))
        with pytest.raises(TypeError, match="capabilities"):
            client.submit_verbose(round, (1,), capabilities={"gpu": "yes"})  # type: ignore[dict-item]

    def test_an_exception_arrives_as_itself_with_its_traceback(self, client: Client) -> None:
        with pytest.raises(LookupError, match="lost") as caught:
            client.submit(raise_error, "lost").result(5)
        assert "raise_error" in [entry.name for entry in caught.traceback]
        assert vars(caught.value) == {}

    def test_an_exception_of_a_local_class(self, client: Client) -> None:
        class OwnError(Exception):
            def __init__(self, code: int, text: str) -> None:
                super().__init__(f"{code}: {text}")
                self.code = code

        def fail() -> None:
            raise OwnError(3, "bad")

        error = client.submit(fail).exception(5)
        assert "3: bad" in str(error)

    def test_arguments_are_snapshots(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        small, large, listed = np.zeros(3), np.zeros(100_000), [0]
        futures = [client.submit(lambda value: float(np.sum(value)), value) for value in (small, large, listed)]
        small += 1
        large += 1
        listed[0] = 1
        cluster.resume()
        assert [future.result(5) for future in futures] == [0, 0, 0]

    def test_functions_are_snapshots(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        value = 1
        array = np.zeros(50_000)

        def current() -> tuple[int, float]:
            return value, float(array.sum())

        first = client.submit(current)
        value = 2
        array += 1
        second = client.submit(current)
        cluster.resume()
        assert first.result(5) == (1, 0.0)
        assert second.result(5) == (2, 50_000.0)

    def test_an_argument_that_cannot_be_sent_leaves_the_client_usable(self, client: Client) -> None:
        with pytest.raises(errors.SerializationError, match="argument 1"):
            client.submit(abs, threading.Lock())  # type: ignore[call-overload]  # refused
        assert client.submit(abs, -1).result(5) == 1

    def test_many_tasks_of_many_threads(self, client: Client) -> None:
        def work(base: int) -> bool:
            futures = [client.submit(abs, -(base + i)) for i in range(500)]
            return [future.result(20) for future in futures] == list(range(base, base + 500))

        with cf.ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(0, 4000, 1000)))

    def test_tasks_leave_although_nobody_waits(self, client: Client, cluster: InProcessCluster) -> None:
        for i in range(10):
            client.submit(abs, i)
        wait_until(lambda: sum(len(b.numbers) for b in cluster.received if isinstance(b, m.TaskBatch)) == 10)

    def test_profiling(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address, profiling=True) as client:
            future = client.submit(time.sleep, 0.01)
            future.result(5)
            assert future.profiling_info().duration_s >= 0.01
        with Client(cluster.address) as client:
            unmeasured = client.submit(abs, 1)
            unmeasured.result(5)
            with pytest.raises(ValueError, match="profiling=True"):
                unmeasured.profiling_info()

    def test_inside_a_running_event_loop(self, client: Client) -> None:
        async def run() -> list[Any]:
            futures = [client.submit(math.sqrt, i * i) for i in range(5)]
            return [await future for future in futures]

        assert asyncio.run(run()) == [0, 1, 2, 3, 4]

    def test_a_callback_may_submit_but_not_wait(self, client: Client) -> None:
        ended: list[Any] = []

        def then(future: cf.Future[Any]) -> None:
            following = client.submit(abs, -3 if future.result() is None else 0)
            following.add_done_callback(lambda done: ended.append(done.result()))
            try:
                following.result(5)
            except errors.ScalerError as error:
                ended.append(error)

        # Long enough that it has not ended before it has the callback, which would run in this thread then.
        client.submit(time.sleep, 0.3).add_done_callback(then)
        wait_until(lambda: len(ended) == 2)
        assert "callback" in str(ended[0])
        assert ended[1] == 3


class TestMap:
    def test_like_the_built_in_one(self, client: Client) -> None:
        assert client.map(math.sqrt, [1, 4, 9]) == [1, 2, 3]
        assert client.map(pow, [2, 3, 4], [2, 3]) == [4, 27]
        assert client.map(lambda pair: pair[0], [(1, 2), (3, 4)]) == [1, 3]
        assert client.map(abs, []) == []
        assert client.map(abs, iter(())) == []
        assert client.starmap(pow, [(2, 2), (3, 3)]) == [4, 27]
        assert client.starmap(pow, []) == []
        with pytest.raises(TypeError, match="iterable"):
            client.map(abs)  # type: ignore[call-overload]  # refused

    def test_many_items_in_order(self, client: Client) -> None:
        assert client.map(lambda x: x + 1, range(30_000)) == list(range(1, 30_001))

    def test_large_items(self, client: Client) -> None:
        arrays = [np.full(20_000, i) for i in range(5)]
        assert client.map(np.mean, arrays) == [0, 1, 2, 3, 4]

    def test_the_first_chunks_leave_before_the_iterable_ends(self, client: Client, cluster: InProcessCluster) -> None:
        def items() -> Iterator[int]:
            for i in range(10_000):
                yield i
                if i == 9_999:
                    # Far more chunks than may be under way: some had to come back first.
                    assert any(isinstance(message, m.TaskBatch) for message in cluster.received)

        assert len(client.map(abs, items())) == 10_000

    def test_the_first_failing_item_decides(self, client: Client) -> None:
        with pytest.raises(ZeroDivisionError):
            client.map(lambda x: 1 / x, [1, 0, 2])

        def fail_at(x: int) -> int:
            if x >= 100:
                raise ValueError(str(x))
            return x

        with pytest.raises(ValueError, match=r"^100\b"):
            client.map(fail_at, range(200))
        assert client.map(abs, [-1]) == [1]

    def test_an_iterable_that_raises(self, client: Client, cluster: InProcessCluster) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise OSError("disk")

        with pytest.raises(OSError, match="disk"):
            client.map(abs, items())
        wait_until(lambda: cluster.unfinished() == 0)

    def test_ctrl_c_cancels_what_is_left(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()

        def items() -> Iterator[int]:
            yield from range(10)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            client.map(abs, items())
        wait_until(lambda: cluster.unfinished() == 0)
        cluster.resume()
        assert client.submit(abs, -1).result(5) == 1

    def test_capabilities(self, client: Client, cluster: InProcessCluster) -> None:
        assert client.map(abs, [-1], capabilities={"gpu": -1}) == [1]
        assert client.starmap(pow, [(2, 2)], capabilities={"gpu": -1}) == [4]
        batches = [message for message in cluster.received if isinstance(message, m.TaskBatch)]
        assert {batch.capabilities for batch in batches} == {(("gpu", -1),)}

    def test_an_item_that_cannot_be_sent(self, client: Client, cluster: InProcessCluster) -> None:
        with pytest.raises(errors.SerializationError):
            client.map(lambda x: x, [1, 2, threading.Lock()])
        wait_until(lambda: cluster.unfinished() == 0)


class TestGraph:
    def test_the_readme_example(self, client: Client) -> None:
        graph = {
            "a": 2,
            "b": 2,
            "c": (lambda i: i + 1, "a"),
            "d": (lambda a, b: a + b, "a", "b"),
            "e": (lambda a, b: a - b, "d", "c"),
        }
        assert client.get(graph, ["e"]) == {"e": 1}
        assert list(client.get(graph, ["e", "a", "d"]).items()) == [("e", 1), ("a", 2), ("d", 4)]

    def test_nested_computations(self, client: Client) -> None:
        graph: dict[Any, Any] = {
            "x": (abs, -2),
            "list": ["x", 1, (pow, "x", 3)],
            "total": (sum, ["x", (pow, "x", 2), "list_total"]),
            "list_total": (sum, "list"),
            "alias": "total",
            "dict": {"k": "x"},
            ("part", 0): (lambda *args: args, "x", ("x", "y"), {"z": "x"}, [["x"]]),
        }
        assert client.get(graph, ["list", "alias", "dict", ("part", 0)]) == {
            "list": [2, 1, 8],
            "alias": 17,
            "dict": {"k": 2},
            ("part", 0): (2, (2, "y"), {"z": 2}, [[2]]),
        }

    def test_futures(self, client: Client) -> None:
        futures = client.get({"a": (abs, -1), "b": (raise_error, "a"), "c": 3}, ["a", "b", "c"], block=False)
        assert futures["a"].result(5) == 1
        assert isinstance(futures["b"].exception(5), LookupError)
        assert futures["c"].result(0) == 3

    def test_failures_carry_the_original_exception(self, client: Client, cluster: InProcessCluster) -> None:
        graph = {"a": (raise_error, "bad"), "b": (abs, "a"), "c": (abs, "b")}
        with pytest.raises(LookupError, match="bad"):
            client.get(graph, ["c"])
        assert client.get({"a": (abs, -1)}, ["a"]) == {"a": 1}
        wait_until(lambda: cluster.unfinished() == 0)

    def test_references_and_large_literals(self, client: Client, cluster: InProcessCluster) -> None:
        reference = client.send_object(np.arange(50_000))
        graph = {
            "r": reference,
            "big": np.ones(40_000),
            "s": (np.sum, "r"),
            "t": (np.sum, "big"),
            "u": (np.dot, "big", "big"),
        }
        assert client.get(graph, ["s", "t", "u"]) == {"s": 1249975000, "t": 40_000, "u": 40_000}
        assert client.get(graph, ["r"])["r"].sum() == 1249975000
        wait_until(lambda: set(cluster.objects) == {reference.object_id})

    def test_nothing_is_submitted_when_anything_is_wrong(self, client: Client, cluster: InProcessCluster) -> None:
        with pytest.raises(errors.GraphError, match="cycle"):
            client.get({"a": (abs, "b"), "b": (abs, "a")}, ["a"])
        with pytest.raises(KeyError, match="'z'"):
            client.get({"a": 1}, ["z"])
        with pytest.raises(errors.SerializationError, match=r"node 'b'.*argument 1"):
            client.get({"a": (abs, -1), "b": (abs, threading.Lock()), "c": (pow, "a", "b")}, ["c"])
        assert not [message for message in cluster.received if isinstance(message, m.GraphSubmit)]

    def test_cancelling_a_future_of_a_graph(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        futures = client.get({"a": (abs, -1), "b": (abs, "a")}, ["b"], block=False)
        assert futures["b"].cancel()
        wait_until(lambda: cluster.unfinished() == 0)

    def test_a_large_graph(self, client: Client) -> None:
        graph: dict[Any, Any] = {("leaf", i): (abs, -i) for i in range(1000)}
        graph["sum"] = (sum, [("leaf", i) for i in range(1000)])
        assert client.get(graph, ["sum"]) == {"sum": sum(range(1000))}


def meet_storage(client: Client) -> None:
    """Have the link to object storage stand, with nothing under way: then values of some hundred KiB leave without a wait.

    The very first ones are handed over by another road, whose calls may learn already that storage is full.
    """
    assert client.submit(bytearray.count, bytearray(290_000), 1).result(5) == 0
    channel = client.operations.engine.objects._channel
    assert channel is not None
    wait_until(lambda: channel._is_welcomed and not channel._requests.pending_count)


class TestObjects:
    def test_large_arguments_go_through_storage_and_are_freed(self, client: Client, cluster: InProcessCluster) -> None:
        data = os.urandom(300_000)
        futures = [client.submit(lambda data, i: (len(data), i), data, i) for i in range(5)]
        assert [future.result(5) for future in futures] == [(300_000, i) for i in range(5)]
        wait_until(lambda: not cluster.objects)

    def test_equal_arguments_are_sent_once(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        for _ in range(5):
            # By itself, it would be no object.
            client.submit(np.sum, np.arange(50_000), None)
        other = np.arange(50_000)
        other[777] = 0
        last = client.submit(np.sum, other, None)
        wait_until(lambda: len(cluster.objects) == 2)
        cluster.resume()
        assert last.result(5) == 1249975000 - 777

    def test_large_results_are_fetched_and_deleted(self, client: Client, cluster: InProcessCluster) -> None:
        array = client.submit(np.zeros, 100_000).result(5)
        array += 1
        assert array.sum() == 100_000
        assert client.submit(bytes, 300_000).result(5) == bytes(300_000)
        wait_until(lambda: not cluster.objects)

    def test_send_object(self, client: Client, cluster: InProcessCluster) -> None:
        reference = client.send_object(np.arange(10), "numbers")
        assert reference.name == "numbers"
        assert pickle.loads(pickle.dumps(reference)) == reference
        assert client.submit(np.sum, reference).result(5) == 45
        assert client.submit(np.sum, a=reference).result(5) == 45  # type: ignore[call-overload]  # a reference by name
        assert client.map(np.sum, [reference, reference]) == [45, 45]
        assert client.starmap(np.dot, [(reference, reference)]) == [285]
        assert len(cluster.objects) == 1
        client.clear()
        with pytest.raises(errors.MissingObjects, match="numbers"):
            client.submit(np.sum, reference)
        wait_until(lambda: not cluster.objects)

    def test_an_answer_that_is_an_object_comes_while_the_client_closes(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address) as client:
            objects = client.operations.engine.objects
            objects.close()
            # The first one that goes to storage.
            objects.fetch(effects.FetchObject(1, bytes(16)))
            wait_until(lambda: not [one for one in threading.enumerate() if one.name == "scaler-objects"])

    def test_a_reference_whose_object_is_gone(self, client: Client, cluster: InProcessCluster) -> None:
        reference = client.send_object([1, 2])
        wait_until(lambda: bool(cluster.objects))
        cluster.objects.clear()
        with pytest.raises(errors.MissingObjects):
            client.submit(sum, reference).result(5)

    def test_storage_that_stays_full(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address, timeout_seconds=1) as client:
            meet_storage(client)
            cluster.store_refuses = "it is full"
            future = client.submit(bytearray.count, bytearray(300_000), 0)
            with pytest.raises(errors.ObjectStorageException, match="it is full"):
                future.result(5)
            cluster.store_refuses = ""
            assert client.submit(bytearray.count, bytearray(300_000), 0).result(5) == 300_000

    def test_the_first_refusal_is_that_of_the_future_however_soon_it_comes(
        self, client: Client, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert client.submit(bytearray.count, bytearray(300_000), 0).result(5) == 300_000
        channel = client.operations.engine.objects._channel
        assert channel is not None
        ask = channel._ask

        def ask_and_be_answered(step: Callable[[], Any]) -> Any:
            done = ask(step)
            wait_until(lambda: channel._was_full)
            return done

        cluster.store_refuses = "it is full"
        monkeypatch.setattr(channel, "_ask", ask_and_be_answered)
        future = client.submit(bytearray.count, bytearray(400_000), 0)
        assert not future.done()
        monkeypatch.undo()
        cluster.store_refuses = ""
        assert future.result(10) == 400_000

    def test_storage_that_is_full_for_a_while(self, client: Client, cluster: InProcessCluster) -> None:
        meet_storage(client)
        cluster.store_refuses = "it is full"
        first = client.submit(bytearray.count, bytearray(300_000), 0)
        channel = client.operations.engine.objects._channel
        assert channel is not None
        wait_until(lambda: channel._is_full)
        second: list[ScalerFuture] = []
        submitting = threading.Thread(
            target=lambda: second.append(client.submit(bytearray.count, bytearray(400_000), 0))
        )
        submitting.start()
        # Whoever has more to store waits: it would only take memory here.
        submitting.join(0.3)
        assert not second
        assert not first.done()
        cluster.store_refuses = ""
        assert first.result(10) == 300_000
        submitting.join(10)
        assert second[0].result(10) == 400_000

    def test_who_waits_for_room_in_storage_is_told_the_reason(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address, timeout_seconds=1) as client:
            meet_storage(client)
            cluster.store_refuses = "it is full"
            reference = client.send_object(bytes(300_000))
            channel = client.operations.engine.objects._channel
            assert channel is not None
            wait_until(lambda: channel._is_full)
            with pytest.raises(errors.ObjectStorageException, match="it is full"):
                client.send_object(b"x" * 400_000)
            with pytest.raises(errors.ObjectStorageException, match="it is full"):
                client.submit(len, reference).result(5)

    def test_an_object_that_was_refused_before_its_copy_was_kept(
        self, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Client(cluster.address, timeout_seconds=1) as client:
            self.refused_before_its_copy_was_kept(client, cluster, monkeypatch)

    def refused_before_its_copy_was_kept(
        self, client: Client, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late: list[tuple[Any, ...]] = []
        keep_copy = StoredObjects._keep_copy
        monkeypatch.setattr(StoredObjects, "_keep_copy", lambda *arguments: late.append(arguments))
        cluster.store_refuses = "it is full"
        with pytest.raises(errors.ObjectStorageException, match="it is full"):
            client.submit(bytearray.count, bytearray(300_000), 0).result(5)
        cluster.store_refuses = ""
        monkeypatch.undo()
        for arguments in late:
            keep_copy(*arguments)
        assert client.submit(bytearray.count, bytearray(300_000), 0).result(5) == 300_000

    def test_an_object_whose_last_use_ends_in_the_turn_in_which_an_equal_value_comes(self, client: Client) -> None:
        engine = client.operations.engine
        # So large that its copy is there when `store` returns.
        objects, value = engine.objects, [bytes(SOON_BYTES_MAX)]
        released = objects.store(value)

        def release_and_look() -> list[Any]:
            objects._release_uses((released,))
            return objects._hold_candidates(key_of(value))

        assert engine.ask(release_and_look) == []
        taken_up = objects.store(value)
        assert taken_up != released
        assert engine.ask(lambda: objects._hold_candidates(key_of(value)))[0][0] == taken_up


class TestSerializer:
    class Prefixed(Serializer):
        @staticmethod
        def serialize(obj: Any) -> bytes:
            import cloudpickle

            return b"prefix" + bytes(cloudpickle.dumps(obj))

        @staticmethod
        def deserialize(payload: bytes) -> Any:
            assert payload[:6] == b"prefix"
            return pickle.loads(payload[6:])

    def test_it_is_used_everywhere(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address, serializer=self.Prefixed) as client:
            assert client.submit(lambda x, y: x + y, 1, y=2).result(5) == 3
            assert client.map(lambda x: x + 1, range(5)) == [1, 2, 3, 4, 5]
            assert client.starmap(pow, [(2, 3)]) == [8]
            assert client.submit(lambda x: x + x, "x" * 300_000).result(5) == "x" * 600_000
            graph = {"a": (abs, -3), "b": ["a", 2], "c": (sum, "b")}
            assert client.get(graph, ["c", "b"]) == {"c": 5, "b": [3, 2]}
            with pytest.raises(LookupError, match="no"):
                client.map(raise_error, ["no"])
            reference = client.send_object([1, 2])
            assert client.submit(sum, reference).result(5) == 3

    def test_it_is_pickled_with_the_client(self, cluster: InProcessCluster) -> None:
        import cloudpickle

        with (
            Client(cluster.address, serializer=self.Prefixed, timeout_seconds=7) as client,
            pickle.loads(cloudpickle.dumps(client)) as copy,
        ):
            assert copy.identity != client.identity
            assert copy._settings["timeout_seconds"] == 7
            assert copy.submit(abs, -1).result(5) == 1
            batch = next(x for x in reversed(cluster.received) if isinstance(x, m.TaskBatch))
            assert batch.serializer


class TestCancel:
    def test_a_waiting_task(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        future = client.submit(abs, -1)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(cf.CancelledError):
            future.result(1)
        wait_until(lambda: cluster.unfinished() == 0)

    def test_waiting_for_the_confirmation(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        future = client.submit(abs, -1)
        assert future.cancel(timeout=5)
        assert cluster.unfinished() == 0

    def test_a_confirmation_that_does_not_come(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        future = client.submit(abs, -1)
        wait_until(lambda: cluster.unfinished() == 1)
        cluster.silent = True
        began = time.monotonic()
        assert future.cancel(timeout=0.1)
        # It does not wait for as long as the client would for its scheduler.
        assert time.monotonic() - began < 8

    def test_clear(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        futures = [client.submit(abs, i) for i in range(3)]
        client.clear()
        for future in futures:
            assert future.cancelled()
            with pytest.raises(errors.ClientCancelledException, match="cleared"):
                future.result(1)
        cluster.resume()
        assert client.submit(abs, -1).result(5) == 1


class TestCredit:
    def test_submitting_waits_for_permission(self) -> None:
        with InProcessCluster(credit=1) as cluster, Client(cluster.address, timeout_seconds=10) as client:
            assert client.submit(abs, -1).result(5) == 1
            granting = threading.Timer(0.1, cluster.grant, (1,))
            began = time.monotonic()
            granting.start()
            assert client.submit(abs, -2).result(5) == 2
            assert time.monotonic() - began > 0.05
            granting.join()
            assert m.CreditRequest(1) in cluster.received

    def test_a_chain_of_futures_waits_for_permission_too(self) -> None:
        with InProcessCluster(credit=1) as cluster, Client(cluster.address, timeout_seconds=1.5) as client:
            future = client.submit(time.sleep, 2)
            with pytest.raises(errors.TooManyTasksError, match=r"limit of waiting tasks .* 1\.5 s"):
                client.submit(str, future)
            assert future.result(5) is None

    def test_without_permission_it_is_a_clear_error(self) -> None:
        with (
            InProcessCluster(credit=0) as cluster,
            Client(cluster.address, timeout_seconds=1.5) as client,
            pytest.raises(errors.TooManyTasksError, match=r"limit of waiting tasks .* 1\.5 s"),
        ):
            client.submit(abs, -1)


def new_threads(before: Collection[threading.Thread]) -> list[str]:
    """Return the names of threads that a client has started since. Clients in tasks share some as long as the process lives."""
    return [t.name for t in threading.enumerate() if t.name.startswith("scaler") and t not in before]


class TestConnection:
    def test_nobody_answers(self) -> None:
        before = threading.enumerate()
        with pytest.raises(errors.DisconnectedError, match=r"tcp://127\.0\.0\.1:9.*is it running"):
            Client("tcp://127.0.0.1:9", timeout_seconds=0.3)
        # Python lists a thread until a moment after it has done all it does.
        wait_until(lambda: not new_threads(before))

    @pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:0", "http://x:1", "tcp://*:5"])
    def test_no_address(self, address: str) -> None:
        with pytest.raises(ValueError, match="tcp://"):
            Client(address)

    def test_without_address_outside_a_task(self) -> None:
        with pytest.raises(ValueError, match="may be left out inside a task"):
            Client()

    def test_a_scheduler_that_falls_silent_ends_every_future_in_time(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address, timeout_seconds=1, heartbeat_interval_seconds=0.2) as client:
            cluster.hold()
            futures = [client.submit(abs, i) for i in range(3)]
            wait_until(lambda: cluster.unfinished() == 3)
            cluster.silent = True
            began = time.monotonic()
            for future in futures:
                with pytest.raises(errors.DisconnectedError, match="no answer from the scheduler at tcp://"):
                    future.result(10)
            assert time.monotonic() - began < 8
            with pytest.raises(errors.DisconnectedError):
                client.submit(abs, 1)
            with pytest.raises(errors.DisconnectedError):
                client.map(abs, [1])
            cluster.silent = False
            cluster.resume()
            wait_until(lambda: client.operations.engine.unusable is None)
            assert client.submit(abs, -1).result(5) == 1

    def test_a_restarted_scheduler_gets_everything_again(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        futures = [client.submit(abs, -i) for i in range(5)]
        graph = client.get({"a": (abs, -1), "b": (abs, "a")}, ["b"], block=False)
        wait_until(lambda: cluster.unfinished() == 7)
        cluster.restart()
        wait_until(lambda: cluster.unfinished() == 7, 20)
        cluster.resume()
        assert [future.result(10) for future in futures] == [0, 1, 2, 3, 4]
        assert graph["b"].result(10) == 1

    def test_disconnecting(self, cluster: InProcessCluster) -> None:
        client = Client(cluster.address)
        cluster.hold()
        future = client.submit(abs, 1)
        client.disconnect()
        client.disconnect()
        with pytest.raises(errors.ClientQuitException, match="disconnected"):
            future.result(1)
        for use in (
            lambda: client.submit(abs, 1),
            lambda: client.map(abs, [1]),
            lambda: client.get({"a": 1}, ["a"]),
            lambda: client.send_object(1),
            lambda: client.clear(),
        ):
            with pytest.raises(errors.ClientQuitException, match="disconnected"):
                use()
        wait_until(lambda: any(isinstance(message, m.Goodbye) for message in cluster.received))

    def test_shutdown(self, cluster: InProcessCluster) -> None:
        client = Client(cluster.address)
        cluster.hold()
        future = client.submit(abs, 1)
        client.shutdown()
        client.shutdown()
        assert cluster.shut_down.is_set()
        with pytest.raises(errors.ClientShutdownException):
            future.result(1)

    def test_a_protected_scheduler(self, cluster: InProcessCluster) -> None:
        cluster.protected = True
        with Client(cluster.address) as client:
            with pytest.raises(ValueError, match="protected"):
                client.shutdown()
            assert client.submit(abs, -1).result(5) == 1

    def test_no_thread_stays(self, cluster: InProcessCluster) -> None:
        before = threading.enumerate()
        with Client(cluster.address) as client:
            client.submit(len, bytes(300_000)).result(5)
        wait_until(lambda: not new_threads(before))

    def test_a_forgotten_client_goes_when_its_futures_are_done(self, cluster: InProcessCluster) -> None:
        before = threading.enumerate()
        future = Client(cluster.address).submit(abs, -1)
        gc.collect()
        assert future.result(5) == 1
        del future
        gc.collect()
        wait_until(lambda: not new_threads(before))

    def test_a_forgotten_client_goes_after_tasks_one_by_one(self, cluster: InProcessCluster) -> None:
        before = threading.enumerate()
        client = Client(cluster.address)
        core = client.operations.engine.core
        for number in range(3):
            wait_until(lambda: core.idle)
            assert client.submit(abs, -number).result(5) == number
        del client
        gc.collect()
        wait_until(lambda: not new_threads(before))

    def test_the_thread_dies(self, client: Client, cluster: InProcessCluster, monkeypatch: Any) -> None:
        cluster.hold()
        future = client.submit(abs, 1)

        def fail(*_: Any) -> None:
            raise MemoryError("no more")

        monkeypatch.setattr(client.operations.engine, "on_messages", fail)
        cluster.resume()
        with pytest.raises(errors.DisconnectedError, match="no more"):
            future.result(10)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_forked_child_is_told(self, client: Client, cluster: InProcessCluster) -> None:
        done = client.submit(abs, -1)
        done.result(5)
        cluster.hold()
        future = client.submit(abs, -3)
        graph = {"a": (abs, -1)}
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                texts = []
                uses: tuple[Callable[[], object], ...] = (
                    lambda: client.submit(abs, 1),
                    lambda: client.submit_verbose(abs, (1,)),
                    lambda: client.map(abs, [1]),
                    lambda: client.starmap(pow, [(1, 2)]),
                    lambda: client.get(graph, "a"),
                    lambda: client.send_object(1),
                    client.clear,
                    client.shutdown,
                    lambda: client.trace("nowhere"),
                    future.result,
                    lambda: future.result(1.0),
                    future.exception,
                    future.cancel,
                    lambda: future.cancel(1.0),
                    lambda: future.add_done_callback(print),
                    lambda: cf.wait([future]),
                    lambda: next(cf.as_completed([future])),
                    lambda: asyncio.run(awaited(future)),
                    lambda: asyncio.wrap_future(future, loop=asyncio.new_event_loop()),
                )
                for use in uses:
                    try:
                        use()
                        texts.append("nothing raised")
                    except errors.ClientForkedError as error:
                        texts.append(str(error))
                # What is done answers, and what is shown is shown.
                texts.append(f"forked {done.result()} {done.exception()} {future.done()} {client!r} {future!r}")
                client.disconnect()
                os.write(writer, "\n".join(texts).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        lines = os.read(reader, 10_000).decode().splitlines()
        os.close(reader)
        assert len(lines) == 20
        assert [line for line in lines if "forked" not in line] == []
        assert "forked 1 None False" in lines[-1]
        cluster.resume()
        assert client.submit(abs, -2).result(5) == 2
        assert future.result(5) == 3


class TestWhatIsShown:
    def test_output_of_tasks(self, cluster: InProcessCluster, capsys: Any) -> None:
        with Client(cluster.address, stream_output=True) as client:
            client.submit(abs, 1).result(5)
            cluster.send_all(m.Output(client.identity, 1, 1, b"to out\n"))
            cluster.send_all(m.Output(client.identity, 1, 2, b"to err\n", 5))
            client.submit(abs, 1).result(5)
        captured = capsys.readouterr()
        assert captured.out == "to out\n"
        assert captured.err == "[task 1: 5 bytes of output were dropped: the task wrote too much]\nto err\n"

    def test_log_records_of_tasks(self, cluster: InProcessCluster, caplog: Any) -> None:
        entry = {
            "logger": "their.module",
            "level": 30,
            "message": "50% done",
            "created": 1_700_000_000.25,
            "file": "/srv/model.py",
            "line": 7,
            "function": "fit",
            "thread": "MainThread",
            "pid": 99,
            "traceback": "Traceback: …",
        }
        quiet = {**entry, "level": 10}
        lines = b"".join(json.dumps(x).encode() + b"\n" for x in (entry, quiet)) + b"{}\n[]\nnot json\n"
        with Client(cluster.address, stream_output=True) as client:
            cluster.send_all(m.Output(client.identity, 3, 3, lines))
            wait_until(lambda: len(caplog.records) == 4)
        record = caplog.records[0]
        assert (record.name, record.levelname, record.getMessage()) == ("their.module", "WARNING", "50% done")
        assert (record.task_id, record.process, record.lineno, record.module) == (3, 99, 7, "model")
        assert (record.created, record.msecs) == (1_700_000_000.25, 250)
        assert "Traceback: …" in logging.Formatter().format(record)
        assert all("of task 3 cannot be read" in other.getMessage() for other in caplog.records[1:])

    def test_a_filter_that_raises_ends_nothing(self, cluster: InProcessCluster, monkeypatch: Any) -> None:
        def fail(_record: logging.LogRecord) -> bool:
            raise LookupError("a filter's mistake")

        told: list[BaseException] = []
        monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _traceback: told.append(error))
        name = "filtered.of.tests"
        logging.getLogger(name).addFilter(fail)
        entry = {"logger": name, "level": 40, "message": "", "created": 1.0, "file": "", "line": 1}
        line = json.dumps({**entry, "function": "", "thread": "", "pid": 1}).encode()
        with Client(cluster.address, stream_output=True) as client:
            cluster.send_all(m.Output(client.identity, 1, 3, line))
            wait_until(lambda: told)
            assert client.submit(abs, -1).result(5) == 1
        assert str(told[0]) == "a filter's mistake"

    def test_notices(self, client: Client, cluster: InProcessCluster, caplog: Any) -> None:
        with caplog.at_level(logging.INFO, "scaler"):
            cluster.send_all(m.Notice("no worker has gpu"))
            wait_until(lambda: "no worker has gpu" in caplog.text)
        assert caplog.records[0].levelname == "WARNING"


def test_a_map_of_an_executor_names_itself_where_an_option_does_not_exist(cluster: InProcessCluster) -> None:
    keywords = ", ".join(("timeout", "chunksize", "buffersize", *CallOptions._fields))
    with ScalerExecutor(cluster.address) as executor:
        with pytest.raises(TypeError, match=rf"^map\(\) has no option chunk; the options are {keywords}$"):
            executor.map(abs, [1], chunk=2)  # type: ignore[call-overload]
        assert list(executor.map(abs, [-1], label="curves")) == [1]
