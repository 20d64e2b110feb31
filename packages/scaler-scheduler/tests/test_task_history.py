"""Deadlines and retries after a restart of the scheduler: clients say what became of their tasks before."""

from __future__ import annotations

from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, identity
from test_core_links import link

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.task_history import NO_HISTORY, Failures, History, read_history, with_history
from scaler_scheduler.group_shares import parse_shares


def asking(history: History = NO_HISTORY, **options: Any) -> bytes:
    return with_history(join_records((encode_record(NO_OPTIONS.with_given(options, "test")),)), history)


def again(waited: float = 0.0, failures: int = 0, attempt: int = 0, **options: Any) -> dict[str, Any]:
    """What a batch of one task has that is announced again."""
    before = {1: Failures(failures, attempt)} if failures else {}
    return {"flags": m.TaskFlag.REANNOUNCED, "options": asking(History((waited,), before), **options)}


def cluster() -> tuple[Harness, Client, Agent]:
    harness = Harness(recovery_grace_seconds=1)
    client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2, capacity=10)
    client.define()
    return harness, client, agent


def test_a_history_arrives_as_it_was() -> None:
    plain = asking(retries=3)
    history = History((0.25, 3.0), {7: Failures(2, 9)})
    assert read_history(with_history(plain, history), 2) == history
    assert with_history(plain, NO_HISTORY) == plain
    assert read_history(plain, 2) == NO_HISTORY


@pytest.mark.parametrize(
    "raw",
    [
        b'{"records":[{}],"waited":[1,2]}',
        b'{"records":[{}],"waited":[-1]}',
        b'{"records":[{}],"waited":[NaN]}',
        b'{"records":[{}],"waited":["a"]}',
        b'{"records":[{}],"failures":{"a":[1,1]}}',
        b'{"records":[{}],"failures":{"1":[1]}}',
        b'{"records":[{}],"failures":{"1":[1,70000]}}',
        b'{"records":[{}],"failures":{"1":[-1,7]}}',
        b'[{"waited":[1]}]',
    ],
)
def test_what_cannot_be_read_ends_the_session(raw: bytes) -> None:
    with pytest.raises(ValueError, match="history of tasks"):
        read_history(raw, 1)
    harness, client, agent = cluster()
    client.submit(flags=m.TaskFlag.REANNOUNCED, options=raw)
    assert agent.tasks() == []
    assert harness.count("ready") == 0


def test_a_deadline_counts_from_the_first_submission() -> None:
    harness, client, agent = cluster()
    client.submit(options=again(waited=8, deadline_seconds=10)["options"], flags=m.TaskFlag.REANNOUNCED)
    harness.advance(1.9, step=0.1)
    held = agent.tasks()
    assert len(held) == 1
    assert agent.take(m.TaskCancel) == []
    harness.advance(0.2, step=0.1)
    assert len(agent.take(m.TaskCancel)) == 1
    agent.answer(held, m.Status.CANCELED)
    status, text = client.results()[1]
    assert status == m.Status.TIMED_OUT
    assert b"not done 10 s after it was submitted" in text


def test_a_deadline_that_is_over_ends_a_task_at_once() -> None:
    harness, client, agent = cluster()
    client.submit(**again(waited=11, deadline_seconds=10))
    harness.advance(0.2, step=0.1)
    assert client.results()[1][0] == m.Status.TIMED_OUT
    assert agent.tasks() == []


def test_the_deadline_of_a_graph_counts_from_its_submission() -> None:
    harness, client, _ = cluster()
    client.next_number += 2
    client.send(
        m.GraphSubmit(
            client.id,
            1,
            (FUNCTION,),
            Packed.of([b"P"] * 2),
            dependency_counts=[0, 1],
            dependencies=[0],
            wanted=[1],
            **again(waited=9, deadline_seconds=10),
        )
    )
    harness.advance(0.9, step=0.1)
    assert client.results() == {}
    harness.advance(0.2, step=0.1)
    assert client.results()[2][0] == m.Status.TIMED_OUT


def test_clients_are_told_of_each_failure_that_counts() -> None:
    _, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=1))
    agent.answer(agent.tasks(), m.Status.RETRY, b"failure")
    (said,) = client.take(m.ResultBatch)
    assert (list(said.numbers), list(said.attempts), said.payloads.split()) == ([number], [1], [b"1"])
    assert list(said.statuses) == [m.Status.RETRY]
    agent.answer(agent.tasks(), m.Status.RETRY, b"failure")
    assert client.results() == {number: (m.Status.FAILED, b"failure")}


@pytest.mark.parametrize("kind", ["single", "graph", "linked"])
def test_an_error_that_an_earlier_scheduler_has_counted_is_not_counted_again(kind: str) -> None:
    harness = Harness(recovery_grace_seconds=5)
    agent = Agent(harness, "agent", capacity=0)
    # It has not heard that an earlier scheduler had its result.
    agent.send(m.Inventory(identity("client"), [1], [4], [1]))
    client = Client(harness, "client")
    client.define()
    said = again(failures=1, attempt=4, retries=1)
    if kind == "single":
        client.submit(**said)
    elif kind == "graph":
        client.send(m.GraphSubmit(client.id, 1, (FUNCTION,), Packed.of([b"P"]), [0], [], [0], **said))
    else:
        link(client, 50, **said)
    agent.capacity = 9
    harness.advance(6)
    agent.answer([(client.id, 1, 4)], m.Status.RETRY, b"first")
    if kind == "linked":
        # What it needs is not known here.
        assert client.results()[1][0] == m.Status.SKIPPED
        return
    assert agent.tasks() == [(client.id, 1, 5)]
    agent.answer([(client.id, 1, 5)], m.Status.RETRY, b"last")
    assert client.results() == {1: (m.Status.FAILED, b"last")}


def test_retries_are_counted_on() -> None:
    harness, client, agent = cluster()
    client.submit(**again(failures=2, attempt=5, retries=3))
    harness.advance(2)
    (task,) = agent.tasks()
    assert task == (client.id, 1, 6)
    agent.answer([task], m.Status.RETRY, b"third")
    assert [said.payloads.split() for said in client.take(m.ResultBatch)] == [[b"3"]]
    agent.answer(agent.tasks(), m.Status.RETRY, b"last")
    assert client.results() == {1: (m.Status.FAILED, b"last")}


@pytest.mark.parametrize(("attempt", "ends"), [(5, False), (6, True)])
def test_a_failure_that_comes_before_its_client_counts_once(attempt: int, ends: bool) -> None:
    harness, _, agent = cluster()
    late = identity("late")
    agent.answer([(late, 1, attempt)], m.Status.RETRY, b"failure")
    other = Client(harness, "late")
    other.define()
    other.submit(**again(failures=2, attempt=5, retries=2))
    harness.advance(2)
    if ends:
        assert other.results() == {1: (m.Status.FAILED, b"failure")}
        assert agent.tasks() == []
    else:
        (task,) = agent.tasks()
        agent.answer([task], m.Status.RETRY, b"last")
        assert other.results() == {1: (m.Status.FAILED, b"last")}


def test_an_attempt_that_goes_on_through_a_restart_counts() -> None:
    harness, _, agent = cluster()
    late = identity("late")
    agent.send(m.Inventory(late, [1], [6], [0]))
    other = Client(harness, "late")
    other.define()
    other.submit(**again(failures=2, attempt=5, retries=3))
    agent.answer([(late, 1, 6)], m.Status.RETRY, b"third")
    assert [said.payloads.split() for said in other.take(m.ResultBatch)] == [[b"3"]]
    agent.answer(agent.tasks(), m.Status.RETRY, b"last")
    assert other.results() == {1: (m.Status.FAILED, b"last")}


def test_retries_of_a_graph_s_row_are_counted_on() -> None:
    harness, client, agent = cluster()
    client.next_number += 2
    client.send(
        m.GraphSubmit(
            client.id,
            1,
            (FUNCTION,),
            Packed.of([b"P"] * 2),
            dependency_counts=[0, 1],
            dependencies=[0],
            wanted=[1],
            **again(failures=2, attempt=2, retries=2),
        )
    )
    harness.advance(2)
    agent.answer(agent.tasks(), m.Status.RETRY, b"last")
    assert client.results() == {2: (m.Status.FAILED, b"last")}


@pytest.mark.parametrize("how", ["it is needed by nobody", "its graph is given up"])
def test_of_rows_that_do_not_begin_nothing_is_kept(how: str) -> None:
    harness, client, agent = cluster()
    is_whole = how == "it is needed by nobody"
    client.send(
        m.GraphSubmit(
            client.id,
            1,
            (FUNCTION,),
            Packed.of([b"P"] * 3),
            dependency_counts=[0, 1, 0],
            dependencies=[0],
            wanted=[2],
            row_count=3 if is_whole else 4,
            **again(failures=2, attempt=2, retries=3),
        )
    )
    client.next_number += 4
    kept = harness.core._state.clients[client.id].retried_before
    assert set(kept) == {1}
    client.send(m.GraphSubmit(client.id, 5, (FUNCTION,), Packed.of([b"P"]), [0], [], [0]))
    harness.advance(2)
    assert sorted(agent.run_all()) == ([3, 5] if is_whole else [5])
    assert kept == {}


@pytest.mark.parametrize("how", ["answered", "unread", "cancelled", "given back", "cancelled while it is held"])
def test_of_rows_that_end_without_a_task_nothing_is_kept(how: str) -> None:
    """What has failed before a restart is looked for in each step by the checks of the core."""
    harness, _, agent = cluster()
    if how == "answered":
        agent.answer([(identity("late"), 1, 3)], payload=b"Pearly")
    client = Client(harness, "late")
    client.define()
    kept = harness.core._state.clients[client.id].retried_before
    number = 2 if how == "unread" else 1
    before = History((0.0,), {number: Failures(2, 2)})
    # These need a task that is not known, the others one another.
    earlier = [50] if how in ("given back", "cancelled while it is held") else []
    client.next_number += 2
    client.send(
        m.GraphSubmit(
            client.id,
            1,
            (FUNCTION,),
            Packed.of([b"P"] * (1 if earlier else 2)),
            dependency_counts=[1] if earlier else [0, 1],
            dependencies=[1] if earlier else [0],
            wanted=[0] if earlier or how == "unread" else [0, 1],
            earlier=earlier,
            flags=m.TaskFlag.REANNOUNCED,
            options=asking(before, retries=3),
        )
    )
    assert set(kept) == {number}
    if how.startswith("cancelled"):
        client.send(m.TaskCancel(client.id, [1]))
    harness.advance(2)
    if how == "unread":
        # Nobody wants the second row, which an earlier scheduler has answered.
        assert [one for _, one, _ in agent.tasks()] == [1]
        assert kept == {}
        return
    statuses = {number: status for number, (status, _) in client.results().items()}
    expected = {"answered": m.Status.SUCCESS, "given back": m.Status.SKIPPED}
    assert statuses[1] == expected.get(how, m.Status.CANCELED)
    assert kept == {}


def test_what_leaves_once_more_without_being_announced_again_is_counted_on() -> None:
    """A worker could not read what it was sent, and its client sends it in another way."""
    harness, client, agent = cluster()
    history = History((8.0,), {1: Failures(2, 5)})
    client.submit(options=asking(history, retries=3, deadline_seconds=10))
    (task,) = agent.tasks()
    assert task == (client.id, 1, 6)
    agent.answer([task], m.Status.RETRY, b"third")
    assert [said.payloads.split() for said in client.take(m.ResultBatch)] == [[b"3"]]
    harness.advance(2.1, step=0.1)
    assert len(agent.take(m.TaskCancel)) == 1


def test_linked_rows_that_come_under_other_numbers_are_counted_on() -> None:
    harness, client, agent = cluster()
    (needed,) = client.submit()
    history = History((8.0,), {2: Failures(1, 1)})
    client.next_number += 1
    linked = m.GraphSubmit(
        client.id,
        2,
        (FUNCTION,),
        Packed.of([b"P"]),
        dependency_counts=[1],
        dependencies=[1],
        wanted=[0],
        earlier=[needed],
        options=asking(history, retries=1, deadline_seconds=10),
    )
    client.send(linked)
    agent.answer(agent.tasks())
    agent.answer(agent.tasks(), m.Status.RETRY, b"last")
    assert client.results()[2] == (m.Status.FAILED, b"last")
    assert harness.core._state.clients[client.id].retried_before == {}


@pytest.mark.parametrize("how", ["asked for its values", "refused", "cancelled"])
def test_nothing_is_kept_of_rows_between_that_failed_before(how: str) -> None:
    """Of a graph that needs a task which is not known; only its last row is wanted."""
    shares = {"shares": parse_shares(["default=1:max_waiting=1"])} if how == "refused" else {}
    harness = Harness(recovery_grace_seconds=1, **shares)
    client = Client(harness, "client")
    client.define()
    kept = harness.core._state.clients[client.id].retried_before
    if how == "refused":
        client.submit(3)
    is_again = how == "cancelled"
    client.send(
        m.GraphSubmit(
            client.id,
            11,
            (FUNCTION,),
            Packed.of([b"P"] * 2),
            dependency_counts=[1, 1],
            dependencies=[2, 0],
            wanted=[1],
            earlier=[5],
            flags=m.TaskFlag.REANNOUNCED if is_again else 0,
            options=asking(History((1.0,), {11: Failures(1, 1), 12: Failures(1, 2)}), retries=3),
        )
    )
    if is_again:
        assert set(kept) == {11, 12}
        client.send(m.TaskCancel(client.id, [12]))
    statuses = {
        "asked for its values": m.Status.SKIPPED,
        "refused": m.Status.GROUP_LIMIT,
        "cancelled": m.Status.CANCELED,
    }
    assert client.results()[12][0] == statuses[how]
    assert kept == {}
