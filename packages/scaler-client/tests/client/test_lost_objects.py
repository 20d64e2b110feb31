"""What a client tells a new object storage server of the objects that an earlier one had."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial

import pytest

from scaler import Client, ScalerFuture
from scaler.client import object_channel, stored_objects, stored_results
from scaler.client.object_channel import ObjectChannel
from scaler.client.object_reference import ObjectReference, keepers
from scaler.client.snapshots import Snapshots
from scaler.client.stored_objects import StoredObjects
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until

SIZE = 300_000


class Told:
    """A client's objects, and what of them the client says to be gone when another server answers."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self._gone: set[bytes] = set()
        monkeypatch.setattr(ObjectChannel, "tell_gone", self._note)
        # A copy that is on its way again would count as one that the application has too, and be kept as long as we look.
        monkeypatch.setattr(ObjectChannel, "put_again", lambda channel, object_id, copy: None)
        objects = keepers[client.identity]
        assert isinstance(objects, StoredObjects)
        self.objects = objects

    def _note(self, object_ids: Sequence[bytes]) -> None:
        self._gone.update(object_ids)

    @property
    def channel(self) -> ObjectChannel:
        channel = self.objects._channel
        assert channel is not None
        return channel

    def now(self) -> set[bytes]:
        """Return what is named as gone, as if another server answered now. Without a link to storage, that is nothing."""
        if self.objects._channel is None:
            return set()
        self._gone.clear()
        self.objects.on_store_changed()
        return set(self._gone)

    def wait_for(self, objects: set[bytes]) -> None:
        wait_until(lambda: self.now() == objects, what="other objects are named as gone")


@pytest.fixture
def told(client: Client, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(client, monkeypatch)


@pytest.fixture
def client(cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """One on another host than storage, with no room for copies."""
    monkeypatch.setattr(object_channel, "accept_offer", lambda offer, incarnation: None)
    monkeypatch.setattr(stored_objects, "Snapshots", partial(Snapshots, 1))
    # Nothing is fetched because of its age.
    monkeypatch.setattr(stored_results, "LEFT_SECONDS", 600.0)
    with Client(cluster.address, timeout_seconds=10) as client:
        yield client


def _value(size: int = SIZE) -> bytearray:
    return bytearray(os.urandom(16) + bytes(size))


def _stored(future: ScalerFuture) -> bytes:
    wait_until(lambda: future.stored is not None, what="the result is not in storage")
    assert future.stored is not None
    return bytes(future.stored)


def test_objects_waiting_for_the_channels_thread_are_not_named(client: Client, told: Told) -> None:
    first = client.send_object(_value())
    told.wait_for({first.object_id})
    is_held, may_go_on = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        may_go_on.wait(30)

    told.channel._steps.do(hold)
    assert is_held.wait(10)
    large: list[ObjectReference[bytearray]] = []
    sender = threading.Thread(target=lambda: large.append(client.send_object(_value(2_000_000))))
    try:
        soon = [client.send_object(_value()) for _ in range(3)]
        sender.start()
        wait_until(lambda: len(told.channel._steps.queue) == 4, what="not all objects wait for the thread")
        assert told.now() == {first.object_id}
    finally:
        may_go_on.set()
        sender.join(30)
    # Stored, and without a copy here, they are named.
    told.wait_for({reference.object_id for reference in (first, *soon, *large)})


def test_results_in_storage_are_named_while_somebody_needs_them(client: Client, told: Told) -> None:
    future = client.submit(bytes, SIZE)
    result = _stored(future)
    told.wait_for({result})
    length = client.submit(len, future)
    assert length.result(10) == SIZE
    assert future.result(10) == bytes(SIZE)
    told.wait_for(set())
    # Its value is here, and is sent again for other tasks.
    assert client.submit(len, future).result(10) == SIZE
    other = client.submit(bytes, SIZE + 1)
    told.wait_for({_stored(other)} | ({_stored(future)} if future.stored else set()))
    del other, future, length
    told.wait_for(set())


def test_results_that_a_client_keeps_are_named(client: Client, told: Told) -> None:
    kept = client.operations.get_kept(client, {"a": (bytes, SIZE), "b": (bytes, SIZE + 1)}, ["a", "b"], None)
    references = [kept[key].result(10) for key in "ab"]
    told.wait_for({reference.object_id for reference in references})
    references.clear()
    kept.clear()
    told.wait_for(set())


def test_a_client_that_has_results_in_storage_only_learns_of_a_new_server(client: Client, told: Told) -> None:
    assert told.objects._channel is None
    future = client.submit(bytes, SIZE)
    wait_until(lambda: told.objects._channel is not None, what="it has no link to object storage")
    told.wait_for({_stored(future)})
