"""Values of more than 2 and 4 GiB, by segments and through the socket: one at a time, as each takes 10 to 18 GiB of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest

from scaler import Client
from tests.integration.deployment import Deployment

GIB = 1024**3
MEMORY_BYTES = 20 * GIB
SIZES = [int(2.1 * GIB), int(4.1 * GIB)]
SECONDS = 300.0

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(600),
    pytest.mark.skipif(psutil.virtual_memory().available < MEMORY_BYTES, reason="20 GiB of free memory are needed"),
]


def numbers(size: int) -> Any:
    return np.arange(size // 8)


def four(size: int) -> list[Any]:
    return [np.arange(size // 32) for _ in range(4)]


def check(value: Any) -> int:
    """Return how many bytes there are, all of them right."""
    if isinstance(value, list):
        return sum(map(check, value))
    if isinstance(value, bytes | bytearray):
        assert value[:1] == value[-1:] == b"\0"
        return len(value)
    assert value.flags.writeable
    assert [int(value[place]) for place in (0, len(value) // 2, -1)] == [0, len(value) // 2, len(value) - 1]
    return int(value.nbytes)


def nested_argument(size: int) -> int:
    with Client() as client:
        return int(client.submit(check, numbers(size)).result(SECONDS))


def nested_result(size: int) -> int:
    with Client() as client:
        return check(client.submit(numbers, size).result(SECONDS))


Way = Callable[[Client, int], int]

WAYS: dict[str, Way] = {
    "argument, array": lambda client, size: client.submit(check, numbers(size)).result(SECONDS),
    "argument, bytes": lambda client, size: client.submit(check, bytes(size)).result(SECONDS),
    "argument, bytearray": lambda client, size: client.submit(check, bytearray(size)).result(SECONDS),
    "argument, list of arrays": lambda client, size: client.submit(check, four(size)).result(SECONDS),
    "result, array": lambda client, size: check(client.submit(numbers, size).result(SECONDS)),
    "result, bytes": lambda client, size: check(client.submit(bytes, size).result(SECONDS)),
    "result, list of arrays": lambda client, size: check(client.submit(four, size).result(SECONDS)),
    "items of map": lambda client, size: client.map(check, [numbers(size)])[0],
    "results of map": lambda client, size: check(client.map(numbers, [size])[0]),
    "send_object": lambda client, size: client.submit(check, client.send_object(numbers(size))).result(SECONDS),
    "rows of a graph": lambda client, size: client.get({"a": (numbers, size), "b": (check, "a")}, ["b"])["b"],
    "nested, argument": lambda client, size: client.submit(nested_argument, size).result(SECONDS),
    "nested, result": lambda client, size: client.submit(nested_result, size).result(SECONDS),
}


@pytest.fixture
def store(deployment: Deployment) -> str:
    return deployment.storage("--memory-limit-bytes", "16GiB").address


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
def test_gigabytes_arrive(size: int, way: str, deployment: Deployment, store: str) -> None:
    scheduler = deployment.scheduler("--object-storage-address", store)
    deployment.workers(scheduler, count=1)
    assert WAYS[way](deployment.client(scheduler), size) == pytest.approx(size, abs=32)


@pytest.mark.parametrize("size", SIZES)
def test_gigabytes_arrive_through_the_socket(
    size: int, deployment: Deployment, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As results that a client on another host asks for."""
    scheduler = deployment.scheduler("--object-storage-address", store)
    deployment.workers(scheduler, count=1)
    monkeypatch.setattr("scaler.client.object_channel.accept_offer", lambda *_: None)
    client = deployment.client(scheduler)
    assert WAYS["result, array"](client, size) == pytest.approx(size, abs=32)
