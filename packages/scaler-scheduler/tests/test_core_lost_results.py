"""Results that are lost with a host: rows that are still needed run again, and so do those before them; all else is named."""

from __future__ import annotations

import random

import pytest
from harness import Agent, Client, Harness
from test_core_graphs import submit_graph
from test_core_options import asking

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import Retries
from scaler_scheduler.core import effects, events, lost_results

Named = tuple[bytes, int, int]


def big(letter: str) -> bytes:
    return letter.encode() * 16


class Cluster:
    """A client and an agent that takes everything at once, row by row."""

    def __init__(self, **config: int) -> None:
        self.harness = Harness(**config)
        self.client = Client(self.harness, "client")
        self.agent = Agent(self.harness, "agent", workers=20, takes_chains=False)
        self.client.define()

    def answer_with(self, task: Named, object_id: bytes) -> None:
        self.agent.answer([task], payload=b"O" + object_id, object_positions=[0], objects=(object_id,))

    def lose(self, *ids: bytes) -> None:
        self.harness.core.handle(events.ObjectsLost("host-7", ids), self.harness.now)
        self.harness.settle()

    def replace_store(self) -> None:
        self.harness.core.handle(events.StoreReplaced(), self.harness.now)
        self.harness.settle()

    def logged(self) -> list[str]:
        return [one.text for one in self.harness.other_effects if isinstance(one, effects.Log) and "lost" in one.text]


def test_a_row_whose_result_is_lost_runs_again_and_its_reader_waits_for_it() -> None:
    cluster = Cluster()
    first = submit_graph(cluster.client, [[], [], [0, 1]], [2])
    one, other = cluster.agent.tasks()
    cluster.answer_with(one, big("a"))
    cluster.lose(big("a"))
    assert cluster.harness.to_store() == [m.ObjectDelete(0, cluster.client.id, (big("a"),))]
    (again,) = cluster.agent.tasks()
    assert again[1:] == (first, 2)
    cluster.agent.answer([other])
    assert cluster.agent.tasks() == []
    cluster.answer_with(again, big("b"))
    (batch,) = cluster.agent.take(m.TaskBatch)
    assert (list(batch.numbers), batch.objects) == ([first + 2], (big("b"),))
    cluster.agent.answer([(cluster.client.id, first + 2, 1)], payload=b"Pend")
    assert cluster.client.results() == {first + 2: (m.Status.SUCCESS, b"Pend")}
    assert cluster.logged() == ["client: 1 result was lost with the store of host-7; 1 row of a graph runs again"]
    assert cluster.harness.seen(cluster.client)["graphs"] == []


def test_rows_before_it_run_again_where_their_results_are_dropped() -> None:
    cluster = Cluster()
    first = submit_graph(cluster.client, [[], [0], [1], [], [2, 3]], [4])
    tasks = {number: task for task in cluster.agent.tasks() for number in [task[1] - first]}
    for row in (0, 1, 2):
        cluster.answer_with(tasks[row], big("abc"[row]))
        tasks.update({task[1] - first: task for task in cluster.agent.tasks()})
    cluster.lose(big("c"))
    order = []
    for letter in "xyz":
        (task,) = cluster.agent.tasks()
        order.append(task[1] - first)
        cluster.answer_with(task, big(letter))
    assert order == [0, 1, 2]
    cluster.agent.answer([tasks[3]])
    (last,) = cluster.agent.take(m.TaskBatch)
    assert last.objects == (big("z"),)
    cluster.agent.answer([(cluster.client.id, first + 4, 1)])
    assert list(cluster.client.results()) == [first + 4]
    deletes = cluster.harness.to_store()
    freed = [one for message in deletes if isinstance(message, m.ObjectDelete) for one in message.ids]
    assert sorted(freed) == [big(letter) for letter in "abcxyz"]


def test_a_reader_that_has_begun_stays_where_it_is_and_may_succeed() -> None:
    cluster = Cluster()
    first = submit_graph(cluster.client, [[], [0], [0]], [1, 2])
    cluster.answer_with(cluster.agent.tasks()[0], big("a"))
    reader, other = cluster.agent.tasks()
    cluster.lose(big("a"))
    (again,) = cluster.agent.tasks()
    cluster.agent.answer([reader], payload=b"Pdone")
    assert cluster.client.results() == {first + 1: (m.Status.SUCCESS, b"Pdone")}
    # The other one had no copy: it waits for the row.
    cluster.agent.answer([other], m.Status.MISSING_OBJECT, b"object is lost")
    assert cluster.agent.tasks() == []
    assert cluster.client.results() == {}
    cluster.answer_with(again, big("b"))
    assert cluster.agent.tasks() == [(cluster.client.id, first + 2, 2)]


def fail_a_reader(cluster: Cluster, lost: str, wait_seconds: float) -> Named:
    """Submit a graph of two rows. The second one fails and is to be tried again, and the result of the first is lost.

    Returns the first one's next attempt.
    """
    asks = asking(retries=Retries(3, wait_seconds=wait_seconds))
    submit_graph(cluster.client, [[], [0]], [1], options=asks)
    cluster.answer_with(cluster.agent.tasks()[0], big("a"))
    (reader,) = cluster.agent.tasks()
    if lost == "before it failed":
        cluster.lose(big("a"))
    cluster.agent.answer([reader], m.Status.RETRY, b"failure")
    if lost == "while it waits":
        cluster.lose(big("a"))
    cluster.client.take(m.ResultBatch)
    (again,) = cluster.agent.tasks()
    assert again == (reader[0], reader[1] - 1, 2)
    return again


@pytest.mark.parametrize("result_comes", ["before its time", "after its time"])
@pytest.mark.parametrize("lost", ["before it failed", "while it waits"])
def test_a_reader_that_waits_for_its_next_attempt_has_its_time_and_its_input(result_comes: str, lost: str) -> None:
    cluster = Cluster()
    again = fail_a_reader(cluster, lost, 10.0)
    if result_comes == "before its time":
        cluster.answer_with(again, big("b"))
        cluster.harness.advance(9)
        assert cluster.agent.tasks() == []
        cluster.harness.advance(2)
    else:
        cluster.harness.advance(11)
        assert cluster.agent.tasks() == []
        cluster.answer_with(again, big("b"))
    (reader,) = cluster.agent.tasks()
    assert reader == (again[0], again[1] + 1, 2)
    cluster.agent.answer([reader])
    assert cluster.client.results() == {reader[1]: (m.Status.SUCCESS, b"Presult")}


@pytest.mark.parametrize(
    ("lost", "ends"),
    [
        ("before it failed", "before its time"),
        ("before it failed", "after its time"),
        ("before it failed", "having no time"),
        ("while it waits", "before its time"),
        ("while it waits", "after its time"),
    ],
)
def test_a_reader_that_waits_for_its_next_attempt_ends_with_what_it_needs(lost: str, ends: str) -> None:
    cluster = Cluster()
    again = fail_a_reader(cluster, lost, 0.0 if ends == "having no time" else 10.0)
    if ends == "after its time":
        cluster.harness.advance(11)
    cluster.agent.answer([again], m.Status.FAILED, b"last failure")
    assert cluster.client.results() == {again[1] + 1: (m.Status.FAILED, b"last failure")}
    cluster.harness.advance(11)
    assert cluster.agent.tasks() == []
    assert cluster.harness.seen(cluster.client)["graphs"] == []


def test_an_agent_leaves_that_has_the_reader_of_a_row_whose_attempts_are_used_up() -> None:
    cluster = Cluster(max_task_attempts=2)
    first = submit_graph(cluster.client, [[], [0]], [1])
    cluster.answer_with(cluster.agent.tasks()[0], big("a"))
    assert cluster.agent.tasks()
    cluster.lose(big("a"))
    assert cluster.agent.tasks() == [(cluster.client.id, first, 2)]
    cluster.harness.vanish(cluster.agent)
    cluster.harness.advance(61)
    ((number, (status, _)),) = cluster.client.results().items()
    assert (number, status) == (first + 1, m.Status.WORKER_DIED)
    assert cluster.harness.seen(cluster.client)["graphs"] == []


def test_a_reader_that_ends_before_the_loss_is_known_is_tried_again() -> None:
    cluster = Cluster()
    first = submit_graph(cluster.client, [[], [0]], [1])
    cluster.answer_with(cluster.agent.tasks()[0], big("a"))
    (reader,) = cluster.agent.tasks()
    cluster.agent.answer([reader], m.Status.MISSING_OBJECT, b"object is lost")
    (reader,) = cluster.agent.tasks()
    cluster.lose(big("a"))
    (again,) = cluster.agent.tasks()
    cluster.agent.answer([reader], m.Status.MISSING_OBJECT, b"object is lost")
    cluster.agent.answer([again], payload=b"Psmall now")
    (reader,) = cluster.agent.tasks()
    assert reader == (cluster.client.id, first + 1, 3)
    cluster.agent.answer([reader])
    assert cluster.client.results() == {first + 1: (m.Status.SUCCESS, b"Presult")}


def test_a_reader_that_lacks_an_object_that_was_never_lost_ends_after_some_attempts() -> None:
    cluster = Cluster(max_task_attempts=2)
    first = submit_graph(cluster.client, [[], [0]], [1])
    cluster.answer_with(cluster.agent.tasks()[0], big("a"))
    for _ in range(2):
        cluster.agent.answer(cluster.agent.tasks(), m.Status.MISSING_OBJECT, b"object a is gone")
    ((status, text),) = cluster.client.results().values()
    assert status == m.Status.MISSING_OBJECT
    assert text == f"task {first + 1} (module.f): attempt 2 of 2 failed; object a is gone".encode()


def test_a_row_that_is_lost_too_often_ends_with_an_error_that_names_object_and_host() -> None:
    cluster = Cluster(max_task_attempts=2)
    first = submit_graph(cluster.client, [[], [0, 2], []], [1])
    one, _ = cluster.agent.tasks()
    cluster.answer_with(one, big("a"))
    cluster.lose(big("a"))
    cluster.answer_with(cluster.agent.tasks()[0], big("b"))
    cluster.lose(big("b"))
    ((status, text),) = cluster.client.results().values()
    assert status == m.Status.MISSING_OBJECT
    assert text.decode() == (
        f"task {first}: attempt 2 of 2 failed; its result, object {big('b').hex()}, was lost with the store of host-7"
    )


def test_a_row_that_needs_a_failed_one_cannot_run_again() -> None:
    cluster = Cluster()
    chains = Agent(cluster.harness, "chains", capacity=10)
    cluster.agent.send(m.Drain())
    first = submit_graph(cluster.client, [[], [0], [], [1, 2]], [3])
    tasks = {task[1] - first: task for task in chains.tasks()}
    # Run behind the first one, whose own result could not be stored.
    chains.answer([tasks[1]], payload=b"O" + big("a"), object_positions=[0], objects=(big("a"),))
    chains.answer([tasks[0]], m.Status.STORAGE_FAILED, b"full")
    assert cluster.client.results() == {}
    cluster.lose(big("a"))
    ((status, text),) = cluster.client.results().values()
    assert status == m.Status.MISSING_OBJECT
    assert b"what it needs has failed" in text


def test_a_new_object_store_is_told_which_results_others_still_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_results, "GONE_AT_ONCE_MAX", 2)
    cluster = Cluster()
    submit_graph(cluster.client, [[], [], [], [], [0, 1, 2, 3], [4]], [5])
    tasks = cluster.agent.tasks()
    for task, letter in zip(tasks[:3], "abc", strict=True):
        cluster.answer_with(task, big(letter))
    cluster.replace_store()
    told = cluster.harness.to_store()
    assert told == [m.ObjectsGone((big("a"), big("b"))), m.ObjectsGone((big("c"),))]
    # What the client is told of it names itself, and what nobody reads is deleted.
    cluster.answer_with(tasks[3], big("d"))
    (reader,) = cluster.agent.tasks()
    cluster.agent.answer([reader])
    cluster.harness.to_store()
    cluster.replace_store()
    assert cluster.harness.to_store() == []


def test_losses_that_nobody_needs_change_nothing() -> None:
    cluster = Cluster()
    first = submit_graph(cluster.client, [[], [0], []], [1, 2])
    tasks = cluster.agent.tasks()
    cluster.answer_with(tasks[0], big("a"))
    cluster.agent.answer(cluster.agent.tasks())
    cluster.harness.to_store()
    cluster.lose(big("a"), big("z"))
    assert cluster.agent.tasks() == []
    assert cluster.harness.to_store() == []
    assert cluster.logged() == []
    cluster.agent.answer([tasks[1]])
    assert sorted(cluster.client.results()) == [first + 1, first + 2]


def test_a_client_that_leaves_takes_rows_that_run_again_with_it() -> None:
    cluster = Cluster()
    submit_graph(cluster.client, [[], [0]], [1])
    cluster.answer_with(cluster.agent.tasks()[0], big("a"))
    cluster.lose(big("a"))
    cluster.client.send(m.Goodbye("done"))
    cluster.lose(big("a"))
    assert cluster.harness.core.unfinished_count == 0


@pytest.mark.parametrize("seed", range(25))
def test_random_graphs_end_right_whatever_is_lost(seed: int) -> None:
    draw = random.Random(seed)
    cluster = Cluster(max_task_attempts=1000)
    agents = [cluster.agent, Agent(cluster.harness, "chains", workers=4, capacity=draw.choice((4, 30)))]
    count = draw.randrange(4, 20)
    shape = [sorted(draw.sample(range(row), min(row, draw.choice((0, 1, 1, 2, 3))))) for row in range(count)]
    wanted = sorted({count - 1, *(draw.sample(range(count), 3))})
    first = submit_graph(cluster.client, shape, wanted)
    alive: set[bytes] = set()
    answered: dict[int, tuple[int, bytes]] = {}
    lost = 0
    for _ in range(100_000):
        held = [(agent, task) for agent in agents for task in agent.tasks()]
        draw.shuffle(held)
        if not held:
            break
        for agent, task in held:
            if draw.random() < 0.1 and lost < 40 and shape[task[1] - first]:
                agent.answer([task], m.Status.MISSING_OBJECT, b"lost")
            elif draw.random() < 0.7:
                object_id = draw.randbytes(16)
                alive.add(object_id)
                agent.answer([task], payload=b"O" + object_id, object_positions=[0], objects=(object_id,))
            else:
                agent.answer([task])
            answered.update(cluster.client.results())
            if alive and draw.random() < 0.3 and lost < 40:
                lost += 1
                cluster.lose(*draw.sample(sorted(alive), min(len(alive), draw.choice((1, 1, 3)))))
    statuses = {number - first: status for number, (status, _) in answered.items()}
    # A row that reads no object, and says that one is missing, is believed.
    assert sorted(statuses) == wanted
    assert set(statuses.values()) <= {m.Status.SUCCESS, m.Status.MISSING_OBJECT}
    assert cluster.harness.seen(cluster.client)["graphs"] == []
    assert cluster.harness.core.unfinished_count == 0


@pytest.mark.parametrize("status", [m.Status.MISSING_OBJECT, m.Status.SKIPPED, m.Status.PROCESSOR_DIED])
def test_what_was_handed_over_behind_a_row_whose_input_is_missing_comes_back(status: m.Status) -> None:
    cluster = Cluster()
    chains = Agent(cluster.harness, "chains", capacity=10)
    cluster.agent.send(m.Drain())
    first = submit_graph(cluster.client, [[], [], [0, 1], [2]], [3])
    tasks = chains.tasks()
    chains.answer(tasks[:1], payload=b"O" + big("a"), object_positions=[0], objects=(big("a"),))
    chains.answer(tasks[1:])
    head, behind = chains.tasks()
    cluster.lose(big("a"))
    (again,) = chains.tasks()
    chains.answer([head], status, b"object is lost" if status is m.Status.MISSING_OBJECT else b"")
    chains.answer([behind], m.Status.SKIPPED)
    chains.answer([again], payload=b"O" + big("b"), object_positions=[0], objects=(big("b"),))
    chains.run_all()
    assert cluster.client.results() == {first + 3: (m.Status.SUCCESS, b"Presult")}


class _Losses:
    """Two results are lost, one after the other: that of row 0, and that of row 1, which has read it."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        # Rows 2 and 3 read these, and wait for row 4 before that.
        self.first = submit_graph(self.cluster.client, [[], [0], [0, 4], [1, 4], []], [2, 3])
        self.tasks = self.taken()
        self.cluster.answer_with(self.tasks[0], big("a"))
        self.tasks |= self.taken()
        self.cluster.answer_with(self.tasks[1], big("b"))
        self.cluster.lose(big("a"))
        self.tasks |= self.taken()

    def taken(self) -> dict[int, Named]:
        return {task[1] - self.first: task for task in self.cluster.agent.tasks()}

    def lose_the_second(self) -> None:
        """Nobody needs row 0 when its only reader is cancelled, until the result of row 1 is lost."""
        self.cluster.lose(big("b"))

    def cancel_the_reader(self) -> None:
        self.cluster.client.send(m.TaskCancel(self.cluster.client.id, [self.first + 2]))
        assert self.cluster.client.results() == {self.first + 2: (m.Status.CANCELED, b"")}

    def is_right(self) -> bool:
        """All that waits is run, and the row that is wanted succeeds."""
        self.cluster.agent.answer([self.tasks[4]])
        self.cluster.agent.run_all()
        found = self.cluster.client.results() == {self.first + 3: (m.Status.SUCCESS, b"Presult")}
        return found and self.cluster.harness.seen(self.cluster.client)["graphs"] == []


@pytest.mark.parametrize("lost", ["before it has stopped", "after that"])
@pytest.mark.parametrize("ends", ["result", "return"])
def test_a_row_that_is_stopped_as_nobody_needs_it_runs_again_when_it_is_needed(lost: str, ends: str) -> None:
    losses = _Losses()
    agent, client = losses.cluster.agent, losses.cluster.client
    losses.cancel_the_reader()
    (stop,) = agent.take(m.TaskCancel)
    assert list(stop.numbers) == [losses.first]
    if lost == "before it has stopped":
        losses.lose_the_second()
    if ends == "result":
        agent.answer([losses.tasks[0]], m.Status.CANCELED, b"")
    else:
        agent.send(m.TaskReturn(client.id, [losses.first], [losses.tasks[0][2]]))
    if lost == "after that":
        assert agent.tasks() == []
        losses.lose_the_second()
    assert losses.is_right()


def test_a_row_that_waits_and_that_nobody_needs_runs_when_it_is_needed() -> None:
    losses = _Losses()
    agent = losses.cluster.agent
    agent.send(m.Drain())
    agent.send(m.TaskReturn(losses.cluster.client.id, [losses.first], [losses.tasks[0][2]]))
    losses.cancel_the_reader()
    losses.lose_the_second()
    other = Agent(losses.cluster.harness, "other", workers=20, takes_chains=False)
    assert [number - losses.first for number in other.run_all()] == [0, 1]
    agent.answer([losses.tasks[4]])
    assert other.run_all() == [losses.first + 3]
    assert losses.cluster.client.results() == {losses.first + 3: (m.Status.SUCCESS, b"Presult")}
