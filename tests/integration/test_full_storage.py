"""Object storage whose memory and disk are full: whoever wants to store something waits, and is told of both limits."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaler import Client
from scaler.client.object_reference import ObjectReference
from scaler.client.placed_payloads import ALONE_BYTES_MAX
from scaler.errors import ObjectStorageException
from tests.integration import functions as f
from tests.integration.deployment import Deployment

MIB = 1024**2
PATIENCE_S = 0.5
LARGE, SMALL = 4 * MIB, 300_000
PLACED_ROADS = ("submit", "keyword", "map")
"""Values by themselves of up to `ALONE_BYTES_MAX` lie in the client's own segment here, and need no storage."""
LIMITS = r"object storage is full: .* \(--memory-limit-bytes\) .* \(--disk-limit-bytes\)"


class _Pickle:
    def serialize(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def deserialize(self, payload: bytes) -> Any:
        return pickle.loads(payload)


class Full:
    """A cluster whose storage is full, and what fills it: named references to values that are known."""

    def __init__(self, folder: Path) -> None:
        self.deployment = Deployment(folder)
        storage = self.deployment.storage("-ml", "16MiB", "-sp", str(folder / "objects"), "-dl", "16MiB")
        self.scheduler = self.deployment.scheduler("-osa", storage.address)
        self.deployment.workers(self.scheduler, count=1)
        self.client = self.impatient_client()
        self.held: list[tuple[bytes, ObjectReference]] = []
        self.fill(LARGE)
        self.fill(SMALL)

    def impatient_client(self, **settings: Any) -> Client:
        """One that waits for storage for a moment only. Of the scheduler, which may be busy, it is as patient as others."""
        client = self.deployment.client(self.scheduler, **settings)
        client.operations.engine.timeout_seconds = PATIENCE_S
        return client

    def fill(self, size: int) -> None:
        """Send objects until a call is refused."""
        while True:
            value = os.urandom(size)
            try:
                reference = self.client.send_object(value, name=f"filling {len(self.held)}")
            except ObjectStorageException:
                break
            self.held.append((value, reference))
        # Small ones are on their way when their calls return: the last may have found no room.
        self.held = [(value, reference) for value, reference in self.held if self._is_stored(reference)]

    def _is_stored(self, reference: ObjectReference) -> bool:
        try:
            self.client.submit(len, reference).result(timeout=30)
        except ObjectStorageException:
            return False
        return True


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    full = Full(tmp_path_factory.mktemp("full"))
    try:
        yield full
    finally:
        full.deployment.close()


ROADS: dict[str, Callable[[Client, bytearray], Any]] = {
    "send_object": lambda client, value: client.send_object(value),
    "submit": lambda client, value: client.submit(len, value),
    "submit with another": lambda client, value: client.submit(max, value, b""),
    "keyword": lambda client, value: client.submit(dict, value=value),
    "map": lambda client, value: client.map(len, [value]),
    "starmap": lambda client, value: client.starmap(len, [(value,)]),
    "get": lambda client, value: client.get({"value": value, "length": (len, "value")}, "length"),
    "literal": lambda client, value: client.get({"length": (len, value)}, "length"),
}


@pytest.mark.parametrize("size", [LARGE, SMALL])
@pytest.mark.parametrize("road", ROADS)
def test_the_call_waits_and_names_both_limits(full: Full, road: str, size: int) -> None:
    if road in PLACED_ROADS:
        size = max(size, ALONE_BYTES_MAX + 1)
    began = time.monotonic()
    with pytest.raises(ObjectStorageException, match=LIMITS):
        ROADS[road](full.client, bytearray(os.urandom(size)))
    assert PATIENCE_S * 0.9 < time.monotonic() - began < PATIENCE_S + 5


def test_a_custom_serializer_is_told_at_the_call_too(full: Full) -> None:
    client = full.impatient_client(serializer=_Pickle())
    # With the first value this client learns that storage is full. That may be after the call: it is small.
    with pytest.raises(ObjectStorageException, match=LIMITS):
        client.submit(len, os.urandom(SMALL)).result(timeout=30)
    with pytest.raises(ObjectStorageException, match=LIMITS):
        client.submit(len, os.urandom(SMALL))


def test_a_small_object_that_is_refused_later_is_named_where_it_is_used(full: Full) -> None:
    client = full.impatient_client()
    text = f"'weights' .*{LIMITS}"
    references: list[ObjectReference] = []

    def send_and_use() -> None:
        # Storage may be faster than this thread: then it is refused here.
        references.append(client.send_object(os.urandom(SMALL), name="weights"))
        # Before storage has given it up, its task is what is told.
        client.submit(len, references[0]).result(timeout=30)

    with pytest.raises(ObjectStorageException, match=text):
        send_and_use()
    if not references:
        return
    reference = references[0]
    uses: list[Callable[[], Any]] = [
        lambda: client.submit(len, reference),
        lambda: client.submit(f.echo, [reference]),
        lambda: client.map(len, [reference]),
        lambda: client.get({"length": (len, reference)}, "length"),
    ]
    for use in uses:
        with pytest.raises(ObjectStorageException, match=text):
            use()


def test_a_large_object_is_refused_at_the_call_by_a_storage_that_was_not_known_to_be_full(full: Full) -> None:
    client = full.impatient_client()
    with pytest.raises(ObjectStorageException, match=f"'weights' .*{LIMITS}"):
        client.send_object(os.urandom(LARGE), name="weights")


def test_whoever_waits_goes_on_as_soon_as_there_is_room_and_nothing_was_lost(full: Full) -> None:
    """The last one here: it makes room."""
    patient = full.deployment.client(full.scheduler)
    # On one worker, which would write the next result where the last one lies, if storage had that.
    results = [patient.submit(f.random_array, number, LARGE // 8) for number in range(3)]
    waits: list[Any] = []
    submitting = threading.Thread(target=lambda: waits.append(patient.submit(len, os.urandom(ALONE_BYTES_MAX + 1))))
    submitting.start()
    submitting.join(0.5)
    assert not any(future.done() for future in (*results, *waits))
    del full.held[:3]
    submitting.join(30)
    assert waits[0].result(timeout=30) == ALONE_BYTES_MAX + 1
    for number, future in enumerate(results):
        assert np.array_equal(future.result(timeout=30), np.random.default_rng(number).random(LARGE // 8))
    for value, reference in full.held:
        assert patient.submit(f.echo, reference).result(timeout=30) == value
