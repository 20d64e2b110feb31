"""An operator cancels tasks of others: which ones, what their clients are told, and who may not."""

from __future__ import annotations

from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, definition, identity

from scaler_protocol.ids import content_id
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import operator_requests

OTHER = b"Pother"
TOLD = (m.Status.CANCELED, b"cancelled by an operator")


def ask(operator: Client, **named: Any) -> m.CancelReply:
    operator.send(m.CancelRequest(1, **named))
    (reply,) = operator.take(m.CancelReply)
    assert reply.request == 1
    return reply


@pytest.fixture
def harness() -> Harness:
    return Harness()


@pytest.fixture
def owner(harness: Harness) -> Client:
    client = Client(harness, "owner")
    client.define()
    return client


@pytest.fixture
def operator(harness: Harness) -> Client:
    return Client(harness, "operator")


def test_one_task_that_waits(owner: Client, operator: Client) -> None:
    numbers = owner.submit(3)
    assert ask(operator, owner=owner.id, numbers=[numbers[1]]).count == 1
    assert owner.results() == {numbers[1]: TOLD}


def test_a_running_task_is_stopped_and_its_client_is_told_by_whom(
    harness: Harness, owner: Client, operator: Client
) -> None:
    agent = Agent(harness, "agent", workers=1)
    (number,) = owner.submit(1)
    tasks = agent.tasks()
    assert ask(operator, owner=owner.id, numbers=[number]).count == 1
    assert [list(message.numbers) for message in agent.take(m.TaskCancel)] == [[number]]
    assert owner.results() == {}
    agent.answer(tasks, m.Status.CANCELED, b"")
    assert owner.results() == {number: TOLD}


def test_all_tasks_of_a_client_and_none_of_another(harness: Harness, owner: Client, operator: Client) -> None:
    other = Client(harness, "other")
    other.define()
    mine, others = owner.submit(5), other.submit(5)
    assert ask(operator, owner=owner.id).count == 5
    assert owner.results() == dict.fromkeys(mine, TOLD)
    assert other.results() == {}
    assert ask(operator, owner=other.id).count == len(others)


def test_all_tasks_of_a_function_whoever_submitted_them(harness: Harness, owner: Client, operator: Client) -> None:
    other = Client(harness, "other")
    for client in (owner, other):
        client.send(definition(client.id, OTHER, name="module.g"))
    other.define()
    kept = owner.submit(2)
    meant = []
    for client in (owner, other):
        batch = client.batch(3)
        batch.functions = (content_id(OTHER),)
        client.send(batch)
        meant.append(list(batch.numbers))
    assert ask(operator, function="module.g").count == 6
    assert owner.results() == dict.fromkeys(meant[0], TOLD)
    assert other.results() == dict.fromkeys(meant[1], TOLD)
    assert ask(operator, function="module.f").count == len(kept)


def test_all_tasks_of_a_label(owner: Client, operator: Client) -> None:
    batch = owner.batch(2)
    batch.options = join_records([encode_record(CallOptions(label="night"))] * 2)
    owner.submit(2)
    owner.send(batch)
    assert ask(operator, label="night").count == 2
    assert owner.results() == dict.fromkeys(batch.numbers, TOLD)


def test_rows_of_graphs_that_wait_for_others(harness: Harness, owner: Client, operator: Client) -> None:
    # 0 is needed by 1, and 1 by 2.
    graph = m.GraphSubmit(
        client=owner.id,
        first_number=10,
        functions=(FUNCTION,),
        payloads=Packed.of([b"P0", b"P1", b"P2"]),
        dependency_counts=[0, 1, 1],
        dependencies=[0, 1],
        wanted=[0, 1, 2],
    )
    owner.send(graph)
    assert ask(operator, owner=owner.id, numbers=[11]).count == 1
    assert owner.results() == {11: TOLD, 12: TOLD}
    assert ask(operator, function="module.f").count == 1
    assert owner.results() == {10: TOLD}


def test_very_many_tasks_take_several_turns(
    owner: Client, operator: Client, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_requests, "LOOKED_PER_TURN", 10)
    numbers = owner.submit(95)
    assert ask(operator, owner=owner.id).count == 95
    assert owner.results() == dict.fromkeys(numbers, TOLD)
    assert not harness.core.has_more


def test_an_operator_that_leaves_at_once_has_asked_all_the_same(owner: Client, harness: Harness) -> None:
    operator = Client(harness, "operator")
    numbers = owner.submit(2)
    operator.connection.send(m.CancelRequest(1, owner=owner.id))
    operator.connection.close("bye")
    harness.settle()
    assert owner.results() == dict.fromkeys(numbers, TOLD)


def test_a_protected_scheduler_says_no() -> None:
    harness = Harness(protected=True)
    owner, operator = Client(harness, "owner"), Client(harness, "operator")
    owner.define()
    owner.submit(2)
    reply = ask(operator, owner=owner.id)
    assert "protected" in reply.error
    assert reply.count == 0
    assert owner.results() == {}


def test_only_operators_may_where_there_are_keys(harness: Harness, owner: Client, operator: Client) -> None:
    harness.core.let_operators_end_cluster([identity("someone else")[:4]])
    owner.submit(1)
    assert ask(operator, owner=owner.id).error
    assert owner.results() == {}


@pytest.mark.parametrize(
    "named",
    [{}, {"owner": identity("nobody")}, {"numbers": [1], "label": "nightly"}],
    ids=["nothing", "unknown client", "a number of whom"],
)
def test_a_request_that_means_nobody_is_refused(operator: Client, named: dict[str, Any]) -> None:
    assert ask(operator, **named).error


def test_what_has_ended_is_not_counted(harness: Harness, owner: Client, operator: Client) -> None:
    agent = Agent(harness, "agent", workers=2)
    numbers = owner.submit(2)
    agent.run_all()
    owner.results()
    assert ask(operator, owner=owner.id).count == 0
    assert ask(operator, owner=owner.id, numbers=numbers).count == 0
    assert owner.results() == {}


def test_a_task_by_its_number_fits_all_that_is_named_and_counts_once(
    harness: Harness, owner: Client, operator: Client
) -> None:
    agent = Agent(harness, "agent", workers=1)
    (number,) = owner.submit(1)
    tasks = agent.tasks()
    assert ask(operator, owner=owner.id, numbers=[number], function="module.other").count == 0
    assert ask(operator, owner=owner.id, numbers=[number], label="nightly").count == 0
    assert agent.take(m.TaskCancel) == []
    assert ask(operator, owner=owner.id, numbers=[number, number], function="module.f").count == 1
    assert ask(operator, owner=owner.id, numbers=[number]).count == 0, "it is cancelled already"
    agent.answer(tasks, m.Status.CANCELED, b"")
    assert owner.results() == {number: TOLD}


def test_a_row_that_has_ended_is_not_counted(harness: Harness, owner: Client, operator: Client) -> None:
    agent = Agent(harness, "agent", workers=1, takes_chains=False)
    owner.send(
        m.GraphSubmit(
            client=owner.id,
            first_number=10,
            functions=(FUNCTION,),
            payloads=Packed.of([b"P0", b"P1", b"P2"]),
            dependency_counts=[0, 1, 1],
            dependencies=[0, 1],
            wanted=[0, 1, 2],
        )
    )
    agent.answer(agent.tasks())
    assert ask(operator, owner=owner.id, numbers=[10]).count == 0
    assert ask(operator, owner=owner.id, numbers=[12], function="module.other").count == 0
    assert ask(operator, owner=owner.id, numbers=[12]).count == 1
