"""What cannot be restored or sent fails its own task in an `InProcessCluster`, as on a real one; its workers go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from scaler import Client, DeserializeObjectError
from scaler.testing import InProcessCluster


class Unrestorable:
    def __call__(self) -> None:
        raise AssertionError("is never restored, so never called")

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ()


def refuse() -> None:
    raise RuntimeError("refuses to be restored")


def identity(value: Any) -> Any:
    return value


def numbers_of(count: int) -> Any:
    return (number for number in range(count)) if count else "nothing"


@pytest.fixture
def client() -> Iterator[Client]:
    with InProcessCluster(workers=1) as cluster, Client(cluster.address) as client:
        yield client


def test_a_function_that_cannot_be_restored(client: Client) -> None:
    for _ in range(3):
        with pytest.raises(DeserializeObjectError, match=r"the function .*refuses to be restored"):
            client.submit(Unrestorable()).result(timeout=10)
    assert client.submit(identity, 5).result(timeout=10) == 5


def test_an_item_that_cannot_be_restored(client: Client) -> None:
    with pytest.raises(DeserializeObjectError, match=r"the arguments .*refuses to be restored"):
        client.map(identity, [1, Unrestorable()])
    assert client.map(identity, [1, 2]) == [1, 2]


def test_an_item_whose_result_cannot_be_sent(client: Client) -> None:
    with pytest.raises(Exception, match=r"the task's result, of type .*generator, cannot be serialized"):
        client.map(numbers_of, [0, 1])
    assert client.map(numbers_of, [0, 0]) == ["nothing", "nothing"]
