"""What an agent carries to object storage for clients inside its tasks."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from scaler_protocol.security.carried_requests import CarriedRequests
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.object_batches import joined

PREFIX = b"mine----"
CLIENT, NEIGHBOUR, STRANGER = PREFIX + b"client-1", PREFIX + b"client-2", b"others--" + b"client-1"
OBJECT = b"o" * 16


def hello(incarnation: bytes = CLIENT, role: m.Role = m.Role.CLIENT) -> m.Hello:
    return m.Hello(role=role, name="nested", incarnation=incarnation)


@pytest.fixture
def requests() -> CarriedRequests:
    """Of a client that has said hello."""
    requests = CarriedRequests(PREFIX)
    assert requests.violation(hello()) is None
    return requests


def test_a_client_stores_reads_and_deletes_what_is_its_own(requests: CarriedRequests) -> None:
    assert requests.is_introduced
    for message in (
        m.ObjectPut(1, OBJECT, CLIENT, [b"data"]),
        m.ObjectGet(2, OBJECT, 10.0),
        m.ObjectDelete(3, CLIENT, (OBJECT,)),
        hello(),
        m.Goodbye("done"),
    ):
        assert requests.violation(message) is None


@pytest.mark.parametrize("owner", [NEIGHBOUR, STRANGER, b""])
def test_nobody_stores_or_deletes_for_another(requests: CarriedRequests, owner: bytes) -> None:
    assert requests.violation(m.ObjectPut(1, OBJECT, owner, [b"data"]))
    assert requests.violation(m.ObjectDelete(1, owner, (OBJECT,)))


def test_nobody_speaks_for_a_client_of_another_key() -> None:
    requests = CarriedRequests(PREFIX)
    assert requests.violation(hello(STRANGER)) == "names a client of another key in a Hello"
    assert not requests.is_introduced


@pytest.mark.parametrize("role", [role for role in m.Role if role is not m.Role.CLIENT])
def test_a_task_speaks_as_a_client_only(role: m.Role) -> None:
    assert CarriedRequests(PREFIX).violation(hello(role=role))


def test_a_connection_speaks_for_one_client(requests: CarriedRequests) -> None:
    assert requests.violation(hello(NEIGHBOUR)) == "introduces itself as another client than before"


@pytest.mark.parametrize("incarnation", [PREFIX, PREFIX + b"x" * 9])
def test_ids_of_another_length(incarnation: bytes) -> None:
    assert CarriedRequests(PREFIX).violation(hello(incarnation))


@pytest.mark.parametrize(
    "message", [m.ObjectPut(1, OBJECT, CLIENT, []), m.ObjectGet(1, OBJECT), m.ObjectDelete(1, CLIENT, (OBJECT,))]
)
def test_a_client_says_first_who_it_is(message: m.Message) -> None:
    reason = CarriedRequests(PREFIX).violation(message)
    assert reason is not None
    assert "before it has said who it is" in reason


def test_no_memory_is_named(requests: CarriedRequests) -> None:
    assert (
        requests.violation(m.ObjectPut(1, OBJECT, CLIENT, [], place=b"p" * 24))
        == "names memory instead of sending bytes"
    )
    assert requests.violation(m.ObjectGet(1, OBJECT, mappable=True)) == "names memory instead of sending bytes"


def test_a_batch_is_refused_for_its_rows(requests: CarriedRequests) -> None:
    allowed = [m.ObjectGet(number, OBJECT) for number in range(3)]
    (batch,) = joined(allowed)
    assert requests.violation(batch) is None
    (batch,) = joined([m.ObjectGet(number, OBJECT, mappable=True) for number in range(3)])
    assert requests.violation(batch) == "names memory instead of sending bytes"


def test_nobody_deletes_everything_of_a_client(requests: CarriedRequests) -> None:
    assert requests.violation(m.ObjectDelete(1, CLIENT, ())) == "asks to delete objects without saying which"


def test_no_other_kind_of_message_is_carried() -> None:
    # A batch is judged by its rows: the storage gate's tests have those.
    kinds: set[type[Any]] = {m.Hello, m.Goodbye, m.ObjectPut, m.ObjectGet, m.ObjectDelete, m.ObjectBatch}
    for kind in get_args(m.Message):
        if kind not in kinds:
            # Only its kind is looked at, so it needs no fields.
            assert CarriedRequests(PREFIX).violation(object.__new__(kind))
