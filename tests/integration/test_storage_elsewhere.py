"""A scheduler that is started again may tell of another object storage server: clients and workers go on with that one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scaler import Client, Cluster, Scheduler

LARGE = 300_000
SECONDS = 60


@pytest.fixture
def storages() -> Iterator[list[Scheduler]]:
    """Two schedulers, for the object storage servers they have."""
    schedulers = [Scheduler(), Scheduler()]
    try:
        for scheduler in schedulers:
            scheduler.start()
        yield schedulers
    finally:
        for scheduler in schedulers:
            scheduler.terminate()
            scheduler.join()


def _length_of_nested(client: Client, size: int) -> int:
    return int(client.submit(len, bytes(size)).result(SECONDS) + len(client.submit(bytes, size).result(SECONDS)))


def test_large_values_follow_the_scheduler_to_another_object_storage(storages: list[Scheduler]) -> None:
    first, second = (storage.get_object_storage_address() for storage in storages)
    scheduler = Scheduler(object_storage_address=first)
    scheduler.start()
    address = scheduler.get_address()
    workers = Cluster(address=address, n_workers=1)
    try:
        workers.start()
        with Client(address=address) as client:
            reference = client.send_object([1] * LARGE)
            assert client.submit(len, reference).result(SECONDS) == LARGE
            assert client.submit(_length_of_nested, client, LARGE).result(SECONDS) == 2 * LARGE
            scheduler.terminate()
            scheduler.join()
            scheduler = Scheduler(address, object_storage_address=second)
            scheduler.start()
            assert client.submit(abs, -1).result(SECONDS) == 1
            assert client.submit(len, bytes(LARGE + 1)).result(SECONDS) == LARGE + 1
            assert len(client.submit(bytes, LARGE).result(SECONDS)) == LARGE
            assert client.submit(_length_of_nested, client, LARGE + 2).result(SECONDS) == 2 * (LARGE + 2)
            # What was sent before, and is still at hand, has been sent again.
            assert client.submit(len, reference).result(SECONDS) == LARGE
    finally:
        workers.terminate()
        workers.join()
        scheduler.terminate()
        scheduler.join()
