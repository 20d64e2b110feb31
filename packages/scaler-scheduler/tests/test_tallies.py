"""Tasks by the name of their client: bounded, never going back, and nested work under the name that it is for."""

from __future__ import annotations

import json

from harness import Agent, Client, Harness, identity
from test_monitor import listen, of_kind

from scaler_protocol.runtime.names import default_client_name
from scaler_protocol.wire import messages as m
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.tallies import NAMES_MAX, OTHER, Tallies


class NestedClient(Client):
    """A client inside a task of another client."""

    def __init__(self, harness: Harness, name: str, relayed_by: Agent, parent: bytes) -> None:
        hello = m.Hello(m.Role.CLIENT, name, identity(name), parent=parent)
        super(Client, self).__init__(harness, events.RelayedPeer(relayed_by.id, hello.incarnation), hello)
        self.next_number = 1


def names(harness: Harness) -> dict[str, tuple[int, int, int]]:
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    return {one.name: (one.unfinished, one.succeeded, one.failed) for one in snapshot.client_names}


def test_names_beyond_the_limit_are_counted_together() -> None:
    tallies = Tallies()
    for number in range(NAMES_MAX + 50):
        tallies.of(f"name {number}").succeeded += 1
    tallies.of("name 0").succeeded += 1
    counts = {one.name: one.succeeded for one in tallies.all()}
    assert len(counts) == NAMES_MAX + 1
    assert (counts["name 0"], counts[f"name {NAMES_MAX - 1}"], counts[OTHER]) == (2, 1, 50)


def test_clients_of_one_name_are_counted_together_also_when_they_have_left() -> None:
    harness = Harness()
    agent = Agent(harness, "agent", workers=2, capacity=100)
    first, second = Client(harness, "pricing"), Client(harness, "other")
    for client in (first, second):
        client.define()
    first.submit(3)
    agent.answer(agent.tasks())
    assert names(harness)["pricing"] == (0, 3, 0)
    first.send(m.Goodbye("done"))
    assert names(harness)["pricing"] == (0, 3, 0)
    again = Client(harness, "pricing")
    again.define()
    again.submit(2)
    assert names(harness)["pricing"] == (2, 3, 0)
    tasks = agent.tasks()
    agent.answer(tasks[:1])
    agent.answer(tasks[1:], status=m.Status.FAILED, payload=b"Pfailure")
    assert names(harness)["pricing"] == (0, 4, 1)


def test_clients_without_a_name_share_the_empty_one() -> None:
    harness = Harness()
    hello = m.Hello(m.Role.CLIENT, default_client_name("host", 7), identity("nobody"), hostname="host", pid=7)
    client = Client.__new__(Client)
    super(Client, client).__init__(harness, identity("nobody"), hello)
    assert names(harness) == {"": (0, 0, 0)}


def test_nested_work_is_under_the_name_of_the_client_that_it_is_for() -> None:
    harness = Harness()
    agent = Agent(harness, "agent", workers=2, capacity=100)
    root = Client(harness, "pricing")
    nested = NestedClient(harness, "nested|host|1", agent, root.id)
    deeper = NestedClient(harness, "nested|host|2", agent, nested.id)
    deeper.define()
    deeper.submit(2, depth=2)
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    shown = {client.name: (client.parent, client.parent_name) for client in snapshot.clients}
    assert shown["nested|host|1"] == shown["nested|host|2"] == (root.id, "pricing")
    assert shown["pricing"] == (b"", "")
    assert names(harness) == {"pricing": (2, 0, 0)}
    agent.answer(agent.tasks())
    deeper.send(m.Goodbye("done"))
    assert names(harness) == {"pricing": (0, 2, 0)}
    told = json.loads(json.dumps(harness.core.snapshot(harness.now)))
    assert {client["name"]: client["parent_name"] for client in told["clients"]} == {
        "pricing": "",
        "nested|host|1": "pricing",
    }
    root.send(m.Goodbye("done"))
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert [(client.name, client.parent_name) for client in snapshot.clients] == [("nested|host|1", "")]
    assert names(harness) == {"pricing": (0, 2, 0), "": (0, 0, 0)}


def test_no_count_goes_back_when_the_client_that_nested_work_is_for_leaves_or_comes() -> None:
    harness = Harness()
    agent = Agent(harness, "agent", workers=2, capacity=100)
    root = Client(harness, "pricing")
    nested = NestedClient(harness, "nested|host|1", agent, root.id)
    deeper = NestedClient(harness, "nested|host|2", agent, nested.id)
    for client in (nested, deeper):
        client.define()
        client.submit(5)
    agent.answer(agent.tasks())
    assert names(harness) == {"pricing": (0, 10, 0)}
    nested.submit(2)
    agent.answer(agent.tasks())
    root.send(m.Goodbye("done"))
    # These are not told to anybody before it leaves.
    assert names(harness) == {"pricing": (0, 12, 0), "": (0, 0, 0)}
    deeper.submit(3)
    agent.answer(agent.tasks())
    assert names(harness) == {"pricing": (0, 12, 0), "": (0, 3, 0)}
    again = Client(harness, "pricing")
    assert again.id == root.id
    deeper.submit(4)
    agent.answer(agent.tasks())
    assert names(harness) == {"pricing": (0, 16, 0), "": (0, 3, 0)}
    nested.send(m.Goodbye("done"))
    deeper.submit(1)
    agent.answer(agent.tasks())
    assert names(harness) == {"pricing": (0, 16, 0), "": (0, 4, 0)}


def test_clients_that_claim_to_be_inside_each_other_do_no_harm() -> None:
    harness = Harness()
    agent = Agent(harness, "agent")
    one = NestedClient(harness, "one", agent, identity("two"))
    two = NestedClient(harness, "two", agent, one.id)
    assert names(harness) == {"": (0, 0, 0)}
    assert not one.take(m.Refused)
    assert not two.take(m.Refused)


def test_a_parent_that_is_no_client_id_is_refused() -> None:
    harness = Harness()
    agent = Agent(harness, "agent")
    hello = m.Hello(m.Role.CLIENT, "odd", identity("odd"), parent=b"short")
    refusal = harness.core.refusal(events.RelayedPeer(agent.id, identity("odd")), hello)
    assert refusal is not None
    assert "16 bytes" in refusal


def options(*records: str, rows: str = "") -> bytes:
    return f'{{"records":[{",".join(records)}]{rows}}}'.encode()


def labels(harness: Harness) -> dict[str, tuple[int, int, int]]:
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    return {one.name: (one.unfinished, one.succeeded, one.failed) for one in snapshot.labels}


CURVES, BOOKS = '{"label":"curves","tags":{"desk":"rates"}}', '{"label":"books"}'


def test_tasks_are_counted_by_label_until_they_end_in_any_way() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=100)
    client.define()
    client.submit(4, options=options(CURVES))
    client.submit(3, options=options(CURVES, "{}", BOOKS, rows=',"rows":[0,1,2]'))
    client.submit(2)
    assert labels(harness) == {"curves": (5, 0, 0), "books": (1, 0, 0)}
    tasks = agent.tasks()
    agent.answer(tasks[:2])
    agent.answer(tasks[2:3], status=m.Status.FAILED, payload=b"Pfailure")
    assert labels(harness) == {"curves": (2, 2, 1), "books": (1, 0, 0)}
    agent.answer(tasks[3:])
    assert labels(harness) == {"curves": (0, 4, 1), "books": (0, 1, 0)}
    client.submit(2, options=options(BOOKS))
    client.send(m.Goodbye("done"))
    assert labels(harness) == {"curves": (0, 4, 1), "books": (0, 1, 0)}


def test_tasks_of_different_labels_go_to_an_agent_together() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=100)
    client.define()
    client.submit(3, options=options(CURVES, "{}", BOOKS, rows=',"rows":[0,1,2]'))
    (batch,) = agent.take(m.TaskBatch)
    assert list(batch.numbers) == [1, 2, 3]
    # Agents have no use for them.
    assert batch.options == b""


def test_label_and_tags_are_in_events_failures_and_dumps() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=100)
    client.define()
    listen(harness)
    client.submit(3, options=options(CURVES, "{}", BOOKS, rows=',"rows":[0,1,2]'))
    tasks = agent.tasks()
    told = json.loads(json.dumps(harness.core.snapshot(harness.now, 1)))
    assert (told["tasks_asked_for"][0]["label"], told["tasks_asked_for"][0]["tags"]) == ("curves", "desk=rates")
    agent.answer(tasks[1:])
    agent.answer(tasks[:1], status=m.Status.FAILED, payload=b"Pfailure")
    heard = listen(harness)
    (events_heard,) = of_kind(heard, m.MonitorEvents)
    notes = {
        (number, events_heard.label_table[note], events_heard.tag_table[note])
        for number, note in zip(events_heard.numbers, events_heard.notes, strict=True)
    }
    assert notes == {(1, "curves", "desk=rates"), (2, "", ""), (3, "books", "")}
    (failed,) = of_kind(heard, m.MonitorFailures)
    assert (failed.labels, failed.tags) == (("curves",), ("desk=rates",))


def test_without_labels_events_say_nothing_of_them() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=100)
    client.define()
    listen(harness)
    client.submit(2)
    agent.answer(agent.tasks(), status=m.Status.FAILED, payload=b"Pfailure")
    heard = listen(harness)
    (events_heard,), (failed,) = of_kind(heard, m.MonitorEvents), of_kind(heard, m.MonitorFailures)
    assert (len(events_heard.notes), events_heard.label_table, failed.labels, failed.tags) == (0, (), (), ())


def test_options_that_cannot_be_read_end_the_session() -> None:
    for raw in (b"nonsense", options(CURVES, BOOKS, rows=',"rows":[0]'), options('{"label":""}')):
        harness = Harness()
        client, _ = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        client.submit(2, options=raw)
        assert [one for one in harness.other_effects if isinstance(one, effects.Disconnect)], raw
