"""How long an object that was sent by itself lives: as long as a reference to it, or a task that needs it."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import cloudpickle
import pytest

from scaler import Client, Serializer, errors
from scaler.client.object_reference import ObjectReference
from scaler.client.reference_table import TICKETS_MAX
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until

KEPT_SECONDS = 0.5
"""After this time an object that nobody needs would be deleted: the client looks twice meanwhile."""


def send(client: Client, cluster: InProcessCluster, value: Any = "value") -> ObjectReference:
    before = len(cluster.objects)
    reference = client.send_object(value)
    wait_until(lambda: len(cluster.objects) == before + 1)
    return reference


def kept(cluster: InProcessCluster) -> bool:
    """Whether an object is still stored after the time in which one that nobody needs is deleted."""
    ends = time.monotonic() + KEPT_SECONDS
    while time.monotonic() < ends and cluster.objects:
        time.sleep(0.01)  # sleeps: nothing must happen meanwhile
    return bool(cluster.objects)


def freed(cluster: InProcessCluster) -> None:
    wait_until(lambda: not cluster.objects)


class TestReferences:
    def test_the_last_one_frees_the_object(self, client: Client, cluster: InProcessCluster) -> None:
        reference = send(client, cluster)
        assert kept(cluster)
        del reference
        freed(cluster)

    def test_release(self, client: Client, cluster: InProcessCluster) -> None:
        reference = send(client, cluster)
        reference.release()
        reference.release()
        freed(cluster)
        with pytest.raises(errors.MissingObjects, match="was released"):
            client.submit(len, reference)

    def test_a_with_block(self, client: Client, cluster: InProcessCluster) -> None:
        with client.send_object("value", name="prices") as reference:
            future = client.submit(len, reference)
        assert future.result(5) == 5
        freed(cluster)
        for call in (
            lambda: client.submit(len, reference),
            lambda: client.submit(len, [reference]),
            lambda: client.submit(lambda: reference),
            lambda: client.map(len, [reference]),
            lambda: client.map(len, [[reference]]),
            lambda: client.get({"a": reference}, ["a"]),
            lambda: client.get({"a": (len, [reference])}, ["a"]),
            lambda: client.send_object([reference]),
        ):
            with pytest.raises(errors.MissingObjects, match=r"'prices'.*was released"):
                call()
        assert client.submit(abs, -1).result(5) == 1

    def test_equal_values_share_an_object_and_not_a_reference(self, client: Client, cluster: InProcessCluster) -> None:
        first, second = send(client, cluster), client.send_object("value")
        assert len(cluster.objects) == 1
        first.release()
        assert client.submit(len, second).result(5) == 5
        assert kept(cluster)
        del first, second
        freed(cluster)

    def test_clear_ends_all_but_those_of_other_clients(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address) as one, Client(cluster.address) as other:
            mine, theirs = send(one, cluster), other.send_object([1, 2])
            pickled = pickle.dumps(mine)
            wait_until(lambda: len(cluster.objects) == 2)
            one.clear()
            wait_until(lambda: len(cluster.objects) == 1)
            for gone in (mine, copy.copy(mine), pickle.loads(pickled)):
                with pytest.raises(errors.MissingObjects, match="was cleared"):
                    one.submit(len, gone)
            assert other.submit(sum, theirs).result(5) == 3
            again = one.send_object("value")
            assert one.submit(len, again).result(5) == 5
            del mine, gone
            assert one.submit(len, again).result(5) == 5

    def test_fields(self, client: Client, cluster: InProcessCluster) -> None:
        reference = client.send_object("value", name="prices")
        match reference:
            case ObjectReference(object_id, owner, name, size_bytes):
                assert (len(object_id), owner, name, size_bytes > 0) == (16, client.identity, "prices", True)
        assert reference != ObjectReference(reference.object_id, reference.owner, "other", reference.size_bytes)
        for field in ("object_id", "owner", "name", "size_bytes", "color"):
            with pytest.raises(AttributeError, match=field):
                setattr(reference, field, b"")
        assert reference == copy.copy(reference)
        assert hash(reference) == hash(copy.deepcopy(reference))
        assert repr(reference).startswith("ObjectReference(object_id=")

    def test_one_made_by_hand_is_valid_while_the_object_is(self, client: Client, cluster: InProcessCluster) -> None:
        reference = send(client, cluster)
        by_hand = ObjectReference(reference.object_id, client.identity)
        del reference
        assert client.submit(len, by_hand).result(5) == 5
        object_id = by_hand.object_id
        del by_hand
        freed(cluster)
        with pytest.raises(errors.MissingObjects, match=object_id.hex()):
            client.submit(len, ObjectReference(object_id, client.identity))


class TestCopies:
    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
    def test_each_counts(
        self, client: Client, cluster: InProcessCluster, duplicate: Callable[[ObjectReference], ObjectReference]
    ) -> None:
        reference = send(client, cluster)
        other = duplicate(reference)
        assert other == reference
        reference.release()
        assert client.submit(len, other).result(5) == 5
        assert kept(cluster)
        released = duplicate(reference)
        with pytest.raises(errors.MissingObjects, match="was released"):
            client.submit(len, released)
        del other
        freed(cluster)

    def test_inside_of_others(self, client: Client, cluster: InProcessCluster) -> None:
        holders = {"a": [send(client, cluster)]}
        copies = copy.deepcopy(holders), cloudpickle.loads(cloudpickle.dumps(holders))
        del holders
        assert [client.submit(len, one["a"][0]).result(5) for one in copies] == [5, 5]
        del copies
        freed(cluster)

    def test_a_pickle_keeps_the_object_until_it_is_loaded(self, client: Client, cluster: InProcessCluster) -> None:
        reference = send(client, cluster)
        pickles = [pickle.dumps(reference) for _ in range(2)]
        del reference
        assert kept(cluster)
        assert client.submit(len, pickle.loads(pickles[0])).result(5) == 5
        assert kept(cluster)
        assert client.submit(len, pickle.loads(pickles[1])).result(5) == 5
        freed(cluster)
        with pytest.raises(errors.MissingObjects):
            client.submit(len, pickle.loads(pickles[0]))

    def test_many_pickles_of_one_object_are_kept_with_it(self, client: Client, cluster: InProcessCluster) -> None:
        reference = send(client, cluster)
        pickles = [pickle.dumps(reference) for _ in range(3 * TICKETS_MAX)]
        assert {pickle.loads(one).object_id for one in pickles} == {reference.object_id}
        del reference
        assert kept(cluster)
        client.clear()
        freed(cluster)


class Shifted(Serializer):
    """A serializer whose bytes nobody else can read."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        return bytes(byte ^ 1 for byte in cloudpickle.dumps(obj))

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return pickle.loads(bytes(byte ^ 1 for byte in payload))


def returned(value: Any) -> Any:
    return value


class TestInsideTasks:
    def test_an_argument_is_kept_until_its_task_is_done(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        reference = send(client, cluster)
        future = client.submit(len, reference)
        del reference
        assert kept(cluster)
        cluster.resume()
        assert future.result(5) == 5
        freed(cluster)

    @pytest.mark.parametrize("serializer", [None, Shifted])
    @pytest.mark.parametrize("kind", ["list", "closure", "default", "large list", "keyword"])
    def test_inside_of_what_a_task_takes(self, cluster: InProcessCluster, kind: str, serializer: Any) -> None:
        with Client(cluster.address, timeout_seconds=10, serializer=serializer) as client:
            cluster.hold()
            reference = send(client, cluster)
            if kind == "closure":
                future = client.submit((lambda one: lambda: one)(reference))
            elif kind == "default":
                future = client.submit(cast(Any, lambda one=reference: one))
            elif kind == "large list":
                future = client.submit(returned, [bytes(300_000), reference])
            elif kind == "keyword":
                future = client.submit(returned, value={"a": (reference,)})
            else:
                future = client.submit(returned, [reference])
            del reference
            assert kept(cluster)
            cluster.resume()
            value = future.result(5)
            del future
            # It comes back, and is as good as the one that was sent.
            while not isinstance(value, ObjectReference):
                value = list(value.values() if isinstance(value, dict) else value)[-1]
            assert client.submit(len, value).result(5) == 5
            del value
            gc.collect()
            freed(cluster)

    def test_nobody_fetches_what_is_only_referred_to(self, client: Client, cluster: InProcessCluster) -> None:
        reference = send(client, cluster)
        assert client.submit(returned, [reference]).result(5) == [reference]
        wait_until(lambda: len(cluster.objects) == 1)
        assert client.get({"a": (returned, [reference])}, ["a"]) == {"a": [reference]}
        del reference
        freed(cluster)

    def test_a_result_that_nobody_asks_for(self, client: Client, cluster: InProcessCluster) -> None:
        future = client.submit(len, [send(client, cluster)])
        wait_until(future.done)
        del future
        freed(cluster)

    def test_maps(self, client: Client, cluster: InProcessCluster) -> None:
        references = [client.send_object([number]) for number in range(5)]
        assert client.map(sum, references) == list(range(5))
        pairs = client.map(returned, [(one, bytes(1000)) for one in references])
        assert [one for one, _ in pairs] == references
        del references
        assert client.map(sum, [one for one, _ in pairs]) == list(range(5))
        del pairs
        freed(cluster)

    def test_graphs(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        first, second = send(client, cluster, [1, 2]), send(client, cluster, [3])
        graph = {"a": first, "b": (sum, "a"), "c": (returned, ["b", second]), "d": (returned, "c")}
        futures = client.get(graph, ["b", "d"], block=False)
        del first, second, graph
        assert kept(cluster)
        cluster.resume()
        assert futures["b"].result(5) == 3
        value, reference = futures["d"].result(5)
        assert (value, client.submit(sum, reference).result(5)) == (3, 3)
        futures.clear()
        del reference
        freed(cluster)

    def test_objects_that_refer_to_objects(self, client: Client, cluster: InProcessCluster) -> None:
        inner = client.send_object("value")
        outer = client.send_object([inner])
        wait_until(lambda: len(cluster.objects) == 2)
        del inner
        time.sleep(KEPT_SECONDS)  # sleeps: nothing must happen meanwhile
        assert len(cluster.objects) == 2
        (again,) = client.submit(returned, outer).result(5)
        del outer
        wait_until(lambda: len(cluster.objects) == 1)
        assert client.submit(len, again).result(5) == 5
        del again
        freed(cluster)

    def test_a_cancelled_task_lets_go(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        reference = send(client, cluster)
        futures = [client.submit(len, reference), client.submit(returned, [reference])]
        for future in futures:
            future.cancel()
        del reference, futures, future
        freed(cluster)
        cluster.resume()


class TestResults:
    def test_a_result_that_nobody_fetches_is_deleted(self, client: Client, cluster: InProcessCluster) -> None:
        cluster.hold()
        client.submit(bytes, 300_000)
        dropped = client.submit(bytes, 300_001)
        del dropped
        cluster.resume()
        assert client.submit(abs, -1).result(5) == 1
        freed(cluster)

    def test_a_result_stays_readable(self, client: Client, cluster: InProcessCluster) -> None:
        future = client.submit(bytes, 300_000)
        wait_until(future.done)
        freed(cluster)
        assert future.result() == future.result() == bytes(300_000)


class TestAnywhere:
    def test_in_cycles_and_other_threads(self, client: Client, cluster: InProcessCluster) -> None:
        cycle: list[Any] = [send(client, cluster)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        freed(cluster)
        holder = [send(client, cluster)]
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
        freed(cluster)

    def test_in_the_middle_of_the_client(self, client: Client, cluster: InProcessCluster) -> None:
        """The collector drops references, copies and pickles them, while threads of the client hold their locks."""

        class Cycle:
            def __init__(self, reference: ObjectReference) -> None:
                self.reference = reference
                self.me = self

            def __del__(self) -> None:
                copies.append(copy.copy(self.reference))
                pickle.loads(pickle.dumps(self.reference)).release()
                self.reference.release()

        copies: list[ObjectReference] = []
        thresholds = gc.get_threshold()
        gc.set_threshold(7, 2, 2)
        try:
            for number in range(200):
                Cycle(client.send_object([number]))
                assert client.submit(abs, -number).result(5) == number
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
        assert len(copies) == 200
        # For a cycle Python calls the callbacks of weak references first, and `__del__` then: the object has been given up before
        # it is copied. The copy names it if the client's thread has not run in between; else it says that it does not.
        with contextlib.suppress(errors.MissingObjects):
            assert client.submit(sum, copies[-1]).result(5) == 199
        copies.clear()
        freed(cluster)

    def test_after_the_client(self, cluster: InProcessCluster) -> None:
        with Client(cluster.address) as client:
            reference = send(client, cluster)
        copied, pickled = copy.copy(reference), pickle.dumps(reference)
        assert copied == reference == pickle.loads(pickled)
        reference.release()
        del reference, copied
        with Client(cluster.address) as client:
            assert client.submit(abs, -1).result(5) == 1


GATES = {"first": threading.Event(), "then": threading.Event()}
"""Tasks of `InProcessCluster` run in this process."""


def after(gate: str, value: Any) -> Any:
    assert GATES[gate].wait(20)
    return value


class TestPassedOn:
    """References inside of results that other tasks need."""

    @pytest.mark.parametrize(
        ("needed", "how"),
        [
            ("running", "submit"),
            ("answered", "submit"),
            ("restored", "submit"),
            ("answered", "graph"),
            ("running", "graph"),
            ("running", "map"),
        ],
    )
    def test_the_object_stays_until_the_last_one_that_needs_it_is_done(
        self, client: Client, cluster: InProcessCluster, needed: str, how: str
    ) -> None:
        for gate in GATES.values():
            gate.clear()
        reference = send(client, cluster)
        first = client.submit(after, "first", [reference])
        if needed != "running":
            GATES["first"].set()
            wait_until(first.done)
        if needed == "restored":
            first.result(5)
        del reference
        threads: list[threading.Thread] = []
        results: list[Any] = []
        futures = []
        if how == "submit":
            futures = [client.submit(after, "then", client.submit(after, "first", first))]
        elif how == "graph":
            between = client.get({"a": (after, "first", first)}, ["a"], block=False)["a"]
            futures = [client.get({"b": (after, "then", between)}, ["b"], block=False)["b"]]
            del between
        else:
            arguments = [("then", first)]
            threads = [threading.Thread(target=lambda: results.extend(client.starmap(after, arguments)))]
            threads[0].start()
            time.sleep(0.2)  # sleeps: the map is to be on its way
            arguments.clear()
        GATES["first"].set()
        assert len(first.result(5)) == 1
        del first
        gc.collect()
        assert kept(cluster)
        GATES["then"].set()
        for future in futures:
            results.append(future.result(5))
            del future
        futures.clear()
        for thread in threads:
            thread.join(20)
        assert [type(one) for (one,) in results] == [ObjectReference]
        assert client.submit(len, results[0][0]).result(5) == 5
        results.clear()
        gc.collect()
        freed(cluster)
