"""What tasks ask for: retries after errors of their own, deadlines, priorities, and to run once at most."""

from __future__ import annotations

from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, identity

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, Retries, asked_of, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import events
from scaler_scheduler.core.timers import PORTION, TaskTimers
from scaler_scheduler.core.unservable import TOLD_MAX


def asking(**options: Any) -> bytes:
    return join_records((encode_record(NO_OPTIONS.with_given(options, "test")),))


def cluster(**config: Any) -> tuple[Harness, Client, Agent]:
    harness = Harness(**config)
    client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2, capacity=10)
    client.define()
    return harness, client, agent


def chain(client: Client, rows: int, **fields: Any) -> list[int]:
    """Submit a graph in which each row needs the one before; only the last one is wanted."""
    first = client.next_number
    client.next_number += rows
    client.send(
        m.GraphSubmit(
            client.id,
            first,
            (FUNCTION,),
            Packed.of([b"P%d" % row for row in range(rows)]),
            dependency_counts=[min(row, 1) for row in range(rows)],
            dependencies=list(range(rows - 1)),
            wanted=[rows - 1],
            **fields,
        )
    )
    return list(range(first, first + rows))


# --- how options travel


def test_agents_get_what_they_must_know_and_nothing_else() -> None:
    _, client, agent = cluster()
    client.submit(options=asking(label="nightly", timeout_seconds=3, deadline_seconds=60))
    client.submit(options=asking(label="nightly"))
    client.submit()
    batches = agent.take(m.TaskBatch)
    assert [asked_of(batch.options) for batch in batches] == [
        NO_OPTIONS.with_given({"timeout_seconds": 3}, "test"),
        NO_OPTIONS,
        NO_OPTIONS,
    ]
    assert [batch.options for batch in batches[1:]] == [b"", b""]


def test_tasks_that_ask_for_different_things_go_in_different_messages() -> None:
    harness, client, agent = cluster()
    records = [encode_record(NO_OPTIONS.with_given({"timeout_seconds": n % 2 + 1}, "test")) for n in range(4)]
    client.connection.send(client.batch(4, options=join_records(records)))
    harness.settle()
    found = {asked_of(batch.options).timeout_seconds: list(batch.numbers) for batch in agent.take(m.TaskBatch)}
    assert found == {1.0: [1, 3], 2.0: [2, 4]}


def test_tasks_whose_deadlines_differ_go_in_one_message() -> None:
    harness, client, agent = cluster()
    records = [
        encode_record(NO_OPTIONS.with_given({"deadline_seconds": n + 1, "label": f"task {n}", **more}, "test"))
        for more in ({}, {"timeout_seconds": 3})
        for n in range(3)
    ]
    client.connection.send(client.batch(6, options=join_records(records)))
    harness.settle()
    found = {batch.options: list(batch.numbers) for batch in agent.take(m.TaskBatch)}
    assert found == {b"": [1, 2, 3], asking(timeout_seconds=3): [4, 5, 6]}


# --- retries


def test_a_task_is_tried_again_as_often_as_asked_for() -> None:
    _, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=2))
    for attempt in (1, 2):
        tasks = agent.tasks()
        assert tasks == [(client.id, number, attempt)]
        agent.answer(tasks, m.Status.RETRY, b"failure")
        assert client.results() == {}
    agent.answer(agent.tasks(), m.Status.RETRY, b"last failure")
    assert client.results() == {number: (m.Status.FAILED, b"last failure")}
    assert agent.tasks() == []


def test_a_task_that_succeeds_in_its_second_attempt_is_a_success() -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=1))
    agent.answer(agent.tasks(), m.Status.RETRY)
    agent.answer(agent.tasks())
    assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}
    assert harness.seen(client)["finished"] == 1


def test_another_error_ends_a_task_at_once() -> None:
    _, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=5))
    agent.answer(agent.tasks(), m.Status.FAILED, b"failure")
    assert client.results() == {number: (m.Status.FAILED, b"failure")}


def test_deaths_of_workers_are_counted_apart() -> None:
    _, client, agent = cluster(max_task_attempts=2)
    (number,) = client.submit(options=asking(retries=1))
    for status in (m.Status.PROCESSOR_DIED, m.Status.RETRY):
        agent.answer(agent.tasks(), status)
        assert client.results() == {}
    agent.answer(agent.tasks(), m.Status.PROCESSOR_DIED, b"it died")
    assert client.results()[number][0] == m.Status.PROCESSOR_DIED


def test_a_waiting_task_holds_no_worker_and_each_wait_is_longer() -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=Retries(3, wait_seconds=1.0, backoff=2.0)))
    for wait in (1.0, 2.0, 4.0):
        agent.answer(agent.tasks(), m.Status.RETRY)
        assert harness.seen(agent)["assigned"] == 0
        harness.advance(wait - 0.1, step=0.1)
        assert agent.tasks() == []
        harness.advance(0.1, step=0.1)
    agent.answer(agent.tasks(), m.Status.RETRY)
    assert client.results()[number][0] == m.Status.FAILED


def test_the_core_wakes_for_the_next_attempt() -> None:
    harness, client, agent = cluster()
    client.submit(options=asking(retries=Retries(1, wait_seconds=0.05)))
    agent.answer(agent.tasks(), m.Status.RETRY)
    assert harness.core.next_deadline() == pytest.approx(harness.now + 0.05)


@pytest.mark.parametrize("how", ["cancelled", "gone"])
def test_a_task_that_waits_for_its_next_attempt_can_end(how: str) -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=Retries(1, wait_seconds=10)))
    agent.answer(agent.tasks(), m.Status.RETRY)
    client.send(m.TaskCancel(client.id, [number]) if how == "cancelled" else m.Goodbye("bye"))
    if how == "cancelled":
        assert client.results() == {number: (m.Status.CANCELED, b"")}
    harness.advance(20)
    assert agent.tasks() == []
    assert harness.core.unfinished_count == 0


@pytest.mark.parametrize("ended", [m.Status.RETRY, m.Status.PROCESSOR_DIED])
@pytest.mark.parametrize("wait_seconds", [0, 1])
def test_a_task_that_had_begun_when_others_were_withdrawn_is_tried_again_to_the_end(
    ended: m.Status, wait_seconds: int
) -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=Retries(3, wait_seconds=wait_seconds)))
    tasks = agent.tasks()
    client.send(m.TaskCancel(client.id, [number], waiting_only=True))
    agent.answer(tasks, ended, b"failure")
    harness.advance(2)
    (task,) = agent.tasks()
    # An agent that is to give some back, as others have nothing to do, has not begun this attempt.
    agent.send(m.TaskReturn(client.id, [number], [task[2]]))
    agent.answer(agent.tasks())
    assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}


def test_objects_of_a_failure_that_nobody_gets_are_deleted() -> None:
    harness, client, agent = cluster()
    client.submit(options=asking(retries=1))
    harness.to_store()
    agent.answer(agent.tasks(), m.Status.RETRY, object_positions=[0], objects=(b"o" * 16,))
    assert any(isinstance(message, m.ObjectDelete) and b"o" * 16 in message.ids for message in harness.to_store())


def test_a_chunk_of_a_map_succeeds_with_its_failures_in_the_end() -> None:
    _, client, agent = cluster()
    (number,) = client.submit(kind=m.TaskKind.MAP_CHUNK, options=asking(retries=1))
    agent.answer(agent.tasks(), m.Status.RETRY, b"outcomes")
    agent.answer(agent.tasks(), m.Status.RETRY, b"last outcomes")
    assert client.results() == {number: (m.Status.SUCCESS, b"last outcomes")}


def test_rows_of_a_graph_are_tried_again_and_those_behind_them_wait() -> None:
    _, client, agent = cluster()
    numbers = chain(client, 3, options=asking(retries=1))
    for number in numbers:
        tasks = agent.tasks()
        assert [one for _, one, _ in tasks] == [number]
        agent.answer(tasks, m.Status.RETRY)
        agent.answer(agent.tasks())
    assert client.results() == {numbers[-1]: (m.Status.SUCCESS, b"Presult")}


def test_a_row_that_fails_too_often_fails_what_needs_it() -> None:
    _, client, agent = cluster()
    numbers = chain(client, 3, options=asking(retries=1))
    agent.answer(agent.tasks(), m.Status.RETRY)
    agent.answer(agent.tasks(), m.Status.RETRY, b"last failure")
    assert client.results() == {numbers[-1]: (m.Status.FAILED, b"last failure")}


@pytest.mark.parametrize(("on", "attempts"), [(Exception, 2), (TimeoutError, 2), (ValueError, 1)])
def test_running_too_long_is_an_error_like_others(on: type[Exception], attempts: int) -> None:
    _, client, agent = cluster()
    (number,) = client.submit(options=asking(retries=Retries(1, on=on), timeout_seconds=3))
    for attempt in range(1, attempts + 1):
        assert client.results() == {}
        agent.answer([(client.id, number, attempt)], m.Status.TIMED_OUT, b"it ran too long")
    assert client.results()[number][0] == m.Status.TIMED_OUT


@pytest.mark.parametrize("kind", ["task", "graph", "linked"])
@pytest.mark.parametrize(
    ("status", "retries", "is_last"),
    [
        (m.Status.TIMED_OUT, 0, True),
        (m.Status.LIMIT_EXCEEDED, 1, True),
        (m.Status.TIMED_OUT, 1, False),
        (m.Status.RETRY, 1, False),
    ],
)
def test_attempts_that_ended_while_the_scheduler_was_away_are_as_any(
    kind: str, status: m.Status, retries: int, is_last: bool
) -> None:
    harness = Harness()
    agent = Agent(harness, "agent", workers=2, capacity=10)
    ran = (identity("client"), 1, 3)
    agent.send(m.Inventory(ran[0], [1], [3], [1]))
    agent.answer([ran], status, b"it took too much", object_positions=[0], objects=(b"o" * 16,))
    client = Client(harness, "client")
    client.define()
    harness.to_store()
    again: dict[str, Any] = {"flags": m.TaskFlag.REANNOUNCED, "options": asking(retries=retries, timeout_seconds=3)}
    if kind == "task":
        client.submit(**again)
    elif kind == "graph":
        chain(client, 1, **again)
    else:
        client.send(m.GraphSubmit(client.id, 1, (FUNCTION,), Packed.of([b"P"]), [1], [1], [0], earlier=[99], **again))
    harness.advance(harness.core.config.recovery_grace_seconds)
    deleted = [one for message in harness.to_store() if isinstance(message, m.ObjectDelete) for one in message.ids]
    if is_last:
        assert client.results() == {1: (status, b"task 1 (module.f): it took too much")}
        assert not deleted
        assert agent.tasks() == []
        return
    assert deleted == [b"o" * 16]
    if kind == "linked":
        # The values that it needs are its client's.
        assert client.results() == {1: (m.Status.SKIPPED, (99).to_bytes(8, "little"))}
        return
    assert client.results() == {}
    assert agent.run_all() == [1]
    assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}


@pytest.mark.parametrize("runs_elsewhere", [True, False])
def test_a_task_that_its_client_wants_is_not_cancelled_by_an_attempt_that_was_stopped(runs_elsewhere: bool) -> None:
    harness = Harness()
    one, two = Agent(harness, "one"), Agent(harness, "two")
    late = identity("client")
    # The scheduler before had it stop an attempt that had been given to another one by then.
    one.answer([(late, 1, 1)], m.Status.CANCELED, b"")
    if runs_elsewhere:
        two.send(m.Inventory(late, [1], [2], [1]))
    client = Client(harness, "client")
    client.define()
    client.submit(flags=m.TaskFlag.REANNOUNCED)
    harness.advance(harness.core.config.recovery_grace_seconds)
    assert client.results() == {}
    tasks = [(agent, task) for agent in (one, two) for task in agent.tasks()]
    assert len(tasks) == (not runs_elsewhere)
    for agent, task in tasks or [(two, (late, 1, 2))]:
        agent.answer([task])
    assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}


@pytest.mark.parametrize("kind", ["task", "graph"])
def test_an_attempt_of_a_task_that_was_answered_while_the_scheduler_was_away_is_stopped(kind: str) -> None:
    harness = Harness()
    one, two = Agent(harness, "one"), Agent(harness, "two")
    late = identity("client")
    one.answer([(late, 1, 1)])
    two.send(m.Inventory(late, [1], [2], [1]))
    client = Client(harness, "client")
    client.define()
    if kind == "task":
        client.submit(flags=m.TaskFlag.REANNOUNCED)
    else:
        chain(client, 1, flags=m.TaskFlag.REANNOUNCED)
        harness.advance(harness.core.config.recovery_grace_seconds)
    assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}
    (stop,) = two.take(m.TaskCancel)
    assert (list(stop.numbers), list(stop.attempts)) == ([1], [2])
    assert one.take(m.TaskCancel) == []


# --- deadlines


def test_a_waiting_task_ends_at_its_deadline() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    (number,) = client.submit(options=asking(deadline_seconds=5))
    harness.advance(4.9, step=0.1)
    assert client.results() == {}
    harness.advance(0.1, step=0.1)
    status, text = client.results()[number]
    assert status == m.Status.TIMED_OUT
    assert text == (
        b"task 1 (module.f): it was not done 5 s after it was submitted (deadline_seconds); it waited: no worker is connected"
    )


@pytest.mark.parametrize(
    ("asked", "capabilities", "words"),
    [
        ({"worker": "nix"}, (), "it waited for worker nix: no worker of that name is connected"),
        ({"host": "n1"}, (), "it waited for host n1: no worker of that name is connected"),
        (
            {"resources": {"gpu": 1}},
            (),
            "it waited: each asks for gpu=1, and the connected workers do not count resources",
        ),
        ({}, (("gpu", 1),), "it waited for workers with the capabilities {gpu}, which no connected worker offers"),
    ],
    ids=["worker", "host", "resources", "capabilities"],
)
def test_a_deadline_names_what_was_waited_for(
    asked: dict[str, Any], capabilities: tuple[tuple[str, int], ...], words: str
) -> None:
    harness, client, _ = cluster()
    numbers = client.submit(2, options=asking(deadline_seconds=5, **asked), capabilities=capabilities)
    harness.advance(5, step=0.1)
    results = client.results()
    assert [results[number][1].decode().partition("; ")[2] for number in numbers] == [words, words]


@pytest.mark.parametrize(("duration", "said"), [(0, b"waited for a worker"), (7, b"was running")])
def test_a_task_at_an_agent_is_stopped_and_answered_with_what_it_did(duration: int, said: bytes) -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(deadline_seconds=5))
    tasks = agent.tasks()
    harness.advance(5)
    (cancel,) = agent.take(m.TaskCancel)
    assert (list(cancel.numbers), list(cancel.attempts)) == ([number], [1])
    agent.answer(tasks, m.Status.CANCELED, b"", durations=[duration])
    status, text = client.results()[number]
    assert status == m.Status.TIMED_OUT
    assert text.endswith(said)


def test_a_deadline_that_is_over_where_an_agent_is_lost_names_the_agent() -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(deadline_seconds=5))
    harness.advance(6)
    agent.send(m.Goodbye("its host stops"))
    status, text = client.results()[number]
    assert status == m.Status.TIMED_OUT
    said = b"(deadline_seconds); it was at a worker; agent agent (pid 77 on host) was lost: its host stops"
    assert text.endswith(said)


def test_a_result_that_comes_while_its_task_is_stopped_is_too_late() -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(deadline_seconds=5))
    tasks = agent.tasks()
    harness.advance(5)
    agent.answer(tasks, durations=[10])
    assert client.results()[number][0] == m.Status.TIMED_OUT


@pytest.mark.parametrize("how", ["waits for a worker", "waits for its next attempt", "is cancelled"])
def test_a_task_that_ends_without_a_worker_makes_room_for_another(how: str) -> None:
    harness = Harness(max_number_of_tasks_waiting=5)
    client = Client(harness, "client")
    client.define()
    client.send(m.CreditRequest(5))
    numbers = client.submit(5, options=asking(deadline_seconds=5, retries=Retries(1, wait_seconds=60)))
    if how == "waits for its next attempt":
        agent = Agent(harness, "agent", capacity=5)
        agent.answer(agent.tasks(), m.Status.RETRY)
    client.send(m.CreditRequest(3))
    assert [grant.count for grant in client.take(m.CreditGrant)] == [5], "as many wait as may"
    if how == "is cancelled":
        client.send(m.TaskCancel(client.id, numbers))
    else:
        harness.advance(5)
    assert sorted(client.results()) == numbers
    assert [grant.count for grant in client.take(m.CreditGrant)] == [3]


def test_a_task_that_is_done_in_time_hears_nothing_of_its_deadline() -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(deadline_seconds=5))
    agent.answer(agent.tasks())
    assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}
    harness.advance(10)
    assert client.results() == {}
    assert agent.take(m.TaskCancel) == []


def test_the_deadline_includes_waits_between_attempts() -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(deadline_seconds=5, retries=Retries(9, wait_seconds=60)))
    agent.answer(agent.tasks(), m.Status.RETRY)
    harness.advance(5)
    status, text = client.results()[number]
    assert status == m.Status.TIMED_OUT
    assert text.endswith(b"(deadline_seconds); it waited for its next attempt, after 1 error")


def test_rows_that_wait_for_others_end_with_the_deadline_of_their_graph() -> None:
    harness, client, agent = cluster()
    numbers = chain(client, 3, options=asking(deadline_seconds=5))
    agent.answer(agent.tasks())
    tasks = agent.tasks()
    harness.advance(5)
    assert client.results()[numbers[-1]][0] == m.Status.TIMED_OUT
    agent.answer(tasks, m.Status.CANCELED, b"")
    assert harness.core.unfinished_count == 0


@pytest.mark.parametrize("waits_for", ["a row", "agents that may have it"])
def test_a_row_that_others_named_meanwhile_ends_at_its_deadline(waits_for: str) -> None:
    harness, client, agent = cluster()
    options = asking(deadline_seconds=5)
    numbers = chain(client, 2, options=options) if waits_for == "a row" else []
    if not numbers:
        agent.send(m.Drain())
        numbers = chain(client, 1, options=options, flags=m.TaskFlag.REANNOUNCED)
    named = link(client, numbers[-1])
    harness.advance(60)
    assert {number: status for number, (status, _) in client.results().items()} == dict.fromkeys(
        (numbers[-1], named), m.Status.TIMED_OUT
    )


def test_very_many_deadlines_that_are_over_at_once_end_in_portions() -> None:
    timers = TaskTimers()
    timers.set_deadline(b"c", range(3 * PORTION), 10.0)
    assert timers.next_deadline() == 10.0
    assert timers.take_overdue(9.9) is None
    found = [timers.take_overdue(10.0) for _ in range(3)]
    assert [number for _, numbers in filter(None, found) for number in numbers] == list(range(3 * PORTION))
    assert timers.take_overdue(10.0) is None
    assert timers.next_deadline() == float("inf")


def entries(harness: Harness) -> int:
    timers = harness.core._state.timers
    return len(timers._deadlines) + len(timers._retries)


@pytest.mark.parametrize("kind", ["task", "graph"])
def test_deadlines_of_tasks_that_have_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("scaler_scheduler.core.timers.FEW", 10)
    harness, client, agent = cluster()
    asks = asking(deadline_seconds=3600)
    for _ in range(100):
        numbers = chain(client, 2, options=asks) if kind == "graph" else client.submit(options=asks)
        assert agent.run_all() == numbers
    slow = chain(client, 3, options=asks) if kind == "graph" else client.submit(options=asks)
    (first,) = agent.tasks()
    harness.advance(60)
    assert entries(harness) == 1
    harness.advance(3600)
    agent.answer([first], m.Status.CANCELED, b"")
    assert client.results()[slow[-1]][0] == m.Status.TIMED_OUT


def test_deadlines_of_a_client_that_is_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler_scheduler.core.timers.FEW", 10)
    harness, client, agent = cluster()
    other = Client(harness, "other")
    other.define()
    other.submit(options=asking(deadline_seconds=5))
    for _ in range(100):
        client.submit(options=asking(deadline_seconds=3600))
    client.send(m.Goodbye("bye"))
    harness.advance(60)
    assert entries(harness) == 0
    assert [cancel.client for cancel in agent.take(m.TaskCancel)] == [other.id]


def test_tasks_that_waited_for_another_attempt_and_have_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler_scheduler.core.timers.FEW", 10)
    harness, client, agent = cluster()
    (first,) = client.submit(options=asking(retries=Retries(1, wait_seconds=5)))
    agent.answer(agent.tasks(), m.Status.RETRY)
    numbers = client.submit(50, options=asking(retries=Retries(1, wait_seconds=3600)))
    while tasks := agent.tasks():
        agent.answer(tasks, m.Status.RETRY)
    client.send(m.TaskCancel(client.id, numbers))
    harness.advance(1)
    assert entries(harness) == 1
    assert agent.tasks() == []
    harness.advance(4)
    assert agent.run_all() == [first]


# --- once


def test_a_task_whose_agent_is_lost_does_not_run_again() -> None:
    harness, client, agent = cluster()
    (once,) = client.submit(options=asking(idempotent=False))
    (twice,) = client.submit()
    agent.tasks()
    other = Agent(harness, "other", capacity=10)
    harness.vanish(agent)
    harness.advance(120)
    status, text = client.results()[once]
    assert status == m.Status.WORKER_DIED
    assert b"it may have begun, and is not run again (idempotent=False); agent agent (pid 77 on host) was lost" in text
    assert [number for _, number, _ in other.tasks()] == [twice]


@pytest.mark.parametrize("status", [m.Status.PROCESSOR_DIED, m.Status.CANCELED])
def test_a_task_whose_processor_ends_does_not_run_again(status: m.Status) -> None:
    _, client, agent = cluster()
    (number,) = client.submit(options=asking(idempotent=False))
    agent.answer(agent.tasks(), status, b"it died")
    assert agent.tasks() == []
    assert b"it is not run again (idempotent=False)" in client.results()[number][1]


def test_what_an_agent_gives_back_has_not_begun() -> None:
    harness, client, agent = cluster()
    (number,) = client.submit(options=asking(idempotent=False))
    ((_, _, attempt),) = agent.tasks()
    other = Agent(harness, "other", capacity=10)
    agent.send(m.Drain(), m.TaskReturn(client.id, [number], [attempt]))
    assert [one for _, one, _ in other.tasks()] == [number]


def again(client: Client, **fields: Any) -> None:
    """The client announces its task again, as to a scheduler that was started anew."""
    client.next_number = 1
    client.submit(flags=m.TaskFlag.REANNOUNCED, options=asking(idempotent=False), **fields)


def test_after_a_restart_it_goes_on_where_an_agent_has_it() -> None:
    harness, client, agent = cluster()
    again(client)
    agent.send(m.Inventory(client.id, [1], [3], [0]))
    harness.advance(20)
    agent.answer([(client.id, 1, 3)])
    assert client.results() == {1: (m.Status.SUCCESS, b"Presult")}


@pytest.mark.parametrize("after", [0.0, 20.0])
def test_after_a_restart_it_ends_where_no_agent_has_it(after: float) -> None:
    harness, client, agent = cluster()
    harness.advance(after)
    again(client)
    harness.advance(20)
    assert b"(idempotent=False); no worker has it" in client.results()[1][1]
    assert agent.tasks() == []


def test_after_a_restart_rows_that_no_agent_has_end() -> None:
    harness, client, agent = cluster()
    numbers = chain(client, 3, flags=m.TaskFlag.REANNOUNCED, options=asking(idempotent=False))
    harness.advance(20)
    status, text = client.results()[numbers[-1]]
    assert status == m.Status.WORKER_DIED
    assert b"idempotent=False" in text
    assert agent.tasks() == []


def answer_with_object(agent: Agent, task: tuple[bytes, int, int]) -> None:
    agent.answer([task], payload=b"O" + b"o" * 16, object_positions=[0], objects=(b"o" * 16,))


def lose_object(harness: Harness) -> None:
    harness.core.handle(events.ObjectsLost("host-7", (b"o" * 16,)), harness.now)
    harness.settle()


def test_a_row_whose_result_is_lost_does_not_run_again() -> None:
    harness, client, agent = cluster()
    numbers = chain(client, 3, options=asking(idempotent=False))
    (first,) = agent.tasks()
    answer_with_object(agent, first)
    (second,) = agent.tasks()
    lose_object(harness)
    agent.answer([second], m.Status.MISSING_OBJECT, b"gone")
    assert agent.tasks() == []
    assert client.results()[numbers[-1]][0] == m.Status.MISSING_OBJECT


def link(client: Client, *earlier: int, **fields: Any) -> int:
    """Submit a task that needs earlier ones."""
    number = client.next_number
    client.next_number += 1
    count = len(earlier)
    client.send(
        m.GraphSubmit(
            client.id,
            number,
            (FUNCTION,),
            Packed.of([b"P"]),
            dependency_counts=[count],
            dependencies=list(range(1, 1 + count)),
            wanted=[0],
            earlier=list(earlier),
            **fields,
        )
    )
    return number


@pytest.mark.parametrize("which", ["task", "link"])
def test_other_tasks_of_the_client_whose_results_are_lost_run_again(which: str) -> None:
    harness, client, agent = cluster()
    asks = asking(idempotent=False)
    (lost,) = client.submit()
    (running,) = client.submit(options=asks if which == "task" else b"")
    one, two = sorted(agent.tasks())
    once = link(client, running, options=asks if which == "link" else b"")
    number = link(client, lost, running)
    links = harness.core._state.clients[client.id].links
    assert links is not None
    assert [row for row in links.states if links.may_run_once_only(row)] == [running if which == "task" else once]
    answer_with_object(agent, one)
    lose_object(harness)
    (again,) = agent.tasks()
    assert again[1] == lost
    agent.answer([again, two])
    assert sorted(agent.run_all()) == [once, number]
    assert client.results()[number] == (m.Status.SUCCESS, b"Presult")
    assert not any(map(links.may_run_once_only, (running, once)))


def test_a_task_whose_result_others_need_and_which_is_lost_does_not_run_again() -> None:
    harness, client, agent = cluster()
    (once,) = client.submit(options=asking(idempotent=False))
    (running,) = client.submit()
    one, two = agent.tasks()
    number = link(client, once, running)
    answer_with_object(agent, one)
    lose_object(harness)
    assert agent.tasks() == []
    status, text = client.results()[number]
    assert status == m.Status.MISSING_OBJECT
    assert b"idempotent=False" in text
    agent.answer([two])
    assert set(client.results()) == {running}


# --- priorities


def test_tasks_of_higher_priority_go_first() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    usual, low = client.submit(3), client.submit(2, options=asking(priority=-1))
    high, highest = client.submit(2, options=asking(priority=1)), client.submit(1, options=asking(priority=7))
    late = client.submit(1)
    agent = Agent(harness, "agent", capacity=1)
    assert agent.run_all() == [*highest, *high, *usual, *late, *low]


def test_priorities_order_one_message_too() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    records = [encode_record(NO_OPTIONS.with_given({"priority": n % 3}, "test")) for n in range(6)]
    client.send(client.batch(6, options=join_records(records)))
    agent = Agent(harness, "agent", capacity=1)
    assert agent.run_all() == [3, 6, 2, 5, 1, 4]


def test_deeper_tasks_stay_ahead() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    high, nested = client.submit(1, options=asking(priority=9)), client.submit(1, depth=1)
    agent = Agent(harness, "agent", capacity=1)
    assert agent.run_all() == [*nested, *high]


def test_clients_take_turns_whatever_their_priorities() -> None:
    harness = Harness()
    greedy, modest = Client(harness, "greedy"), Client(harness, "modest")
    greedy.define()
    modest.define()
    greedy.submit(1000, options=asking(priority=100))
    (number,) = modest.submit()
    agent = Agent(harness, "agent", capacity=1)
    before = 0
    while (tasks := agent.tasks()) and tasks[0][0] != modest.id:
        before += 1
        agent.answer(tasks)
    assert before <= 5
    assert tasks == [(modest.id, number, 1)]


def test_an_urgent_task_is_placed_where_agents_want_no_more() -> None:
    _, client, agent = cluster()
    usual = client.submit(100)
    assert len(agent.tasks()) == 10
    (urgent,) = client.submit(options=asking(priority=1))
    assert [number for _, number, _ in agent.tasks()] == [urgent]
    client.submit(options=asking(priority=-1))
    assert agent.tasks() == []
    assert urgent not in usual


def test_an_urgent_task_is_placed_where_agents_have_all_the_others() -> None:
    _, client, agent = cluster()
    client.submit(10)
    assert len(agent.tasks()) == 10
    (urgent,) = client.submit(options=asking(priority=1))
    assert [number for _, number, _ in agent.tasks()] == [urgent]
    client.submit()
    client.submit(options=asking(priority=-1))
    assert agent.tasks() == []


def test_equally_urgent_tasks_do_not_go_beyond_what_agents_want() -> None:
    _, client, agent = cluster()
    client.submit(10, options=asking(priority=1))
    assert len(agent.tasks()) == 10
    client.submit(options=asking(priority=1))
    assert agent.tasks() == []


def test_many_urgent_tasks_go_beyond_what_agents_want_by_a_bound() -> None:
    _, client, agent = cluster()
    client.submit(100)
    agent.tasks()
    client.submit(100, options=asking(priority=1))
    assert len(agent.tasks()) == 5


def test_a_client_is_not_told_of_any_number_of_reasons() -> None:
    harness, client, _ = cluster()
    for _ in range(2):
        for name in range(TOLD_MAX + 50):
            client.submit(options=asking(worker=f"w{name}", deadline_seconds=10))
        harness.advance(8, step=0.5)
        *texts, last = [notice.text for notice in client.take(m.Notice)]
        assert texts == [
            f"tasks wait for worker w{name}: no worker of that name is connected" for name in range(TOLD_MAX)
        ]
        assert last == "tasks wait for more than 100 different reasons: scaler_dump lists all of them (queues)"
        harness.advance(7, step=0.02)
        assert len(client.results()) == TOLD_MAX + 50
