"""Tasks that are for one worker or one host, or prefer a host, by its name."""

from __future__ import annotations

from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness

from scaler_protocol.capabilities import pin_to
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, Prefer, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.group_shares import parse_shares


def asking(**options: Any) -> bytes:
    return join_records((encode_record(NO_OPTIONS.with_given(options, "test")),))


def numbers(agent: Agent) -> list[int]:
    return [number for _, number, _ in agent.tasks()]


def cluster(names: str = "one two three", capacity: int = 8, **config: Any) -> tuple[Harness, Client, dict[str, Agent]]:
    harness = Harness(**config)
    client = Client(harness, "client")
    agents = {name: Agent(harness, name, workers=2, capacity=capacity) for name in names.split()}
    client.define()
    return harness, client, agents


@pytest.mark.parametrize("policy", ["capability", "even"])
def test_a_task_for_a_host_goes_there_alone(policy: str) -> None:
    _, client, agents = cluster(allocate_policy=policy)
    wanted = {name: client.submit(3, options=asking(host=name)) for name in agents}
    assert {name: numbers(agent) for name, agent in agents.items()} == wanted
    assert client.take(m.Notice) == [], "nobody is told that capabilities are ignored"


@pytest.mark.parametrize("policy", ["capability", "even"])
def test_a_task_for_a_worker_is_for_its_slot(policy: str) -> None:
    _, client, agents = cluster(allocate_policy=policy)
    (first,) = client.submit(options=asking(worker="two-1"))
    (second,) = client.submit(options=asking(worker="two-0", host="two", label="nightly"))
    batches = agents["two"].take(m.TaskBatch)
    assert [(*batch.numbers, batch.capabilities, batch.options) for batch in batches] == [
        (first, pin_to(agents["two"].id, 1), b""),
        (second, pin_to(agents["two"].id, 0), b""),
    ]
    assert agents["one"].tasks() == agents["three"].tasks() == []


def test_tasks_of_one_message_go_to_the_hosts_of_each() -> None:
    harness, client, agents = cluster()
    records = [encode_record(NO_OPTIONS.with_given({"host": name}, "test")) for name in agents]
    client.connection.send(client.batch(9, options=join_records([*records, *records, b"", b"", b""])))
    harness.settle()
    got = {name: numbers(agent) for name, agent in agents.items()}
    assert sorted(number for each in got.values() for number in each) == list(range(1, 10))
    assert all(got[name][:2] == [place + 1, place + 4] for place, name in enumerate(agents))


def test_capabilities_count_as_well() -> None:
    harness = Harness()
    client = Client(harness, "client")
    plain, special = Agent(harness, "plain"), Agent(harness, "special", capabilities=(("gpu", -1),))
    client.define()
    gpu = (("gpu", -1),)
    (number,) = client.submit(capabilities=gpu, options=asking(host="special"))
    (waiting,) = client.submit(capabilities=gpu, options=asking(host="plain"))
    (batch,) = special.take(m.TaskBatch)
    assert (list(batch.numbers), batch.capabilities) == ([number], gpu)
    harness.advance(5)
    assert plain.tasks() == []
    (notice,) = client.take(m.Notice)
    assert notice.text == "tasks wait for host plain: no worker of that name with the capabilities {gpu} is connected"
    assert list(notice.numbers) == [waiting]


def test_it_waits_for_room_at_its_host_while_others_are_idle() -> None:
    harness, client, agents = cluster("busy idle", capacity=2)
    many = client.submit(5, options=asking(host="busy"))
    held = agents["busy"].tasks()
    harness.advance(20)
    assert agents["idle"].tasks() == []
    assert [number for _, number, _ in held] == many[:2]
    agents["busy"].answer(held)
    assert agents["busy"].run_all() == many[2:]
    assert client.results().keys() == set(many)


def test_a_worker_gets_its_share_of_what_its_agent_holds_and_others_the_rest() -> None:
    _, client, agents = cluster("one", capacity=8)
    agent = agents["one"]
    bound = client.submit(100, options=asking(worker="one-0"))
    free = client.submit(100)
    seen: list[int] = []
    waits_most = 0
    while tasks := agent.tasks():
        seen += [number for _, number, _ in tasks]
        waits_most = max(waits_most, len(tasks))
        agent.answer(tasks)
    assert sorted(seen) == bound + free
    assert [number for number in seen if number in bound] == bound
    assert waits_most <= 16
    # Neither waits until the other's are done.
    assert seen.index(free[-1]) > seen.index(bound[20])
    assert seen.index(bound[-1]) > seen.index(free[20])


def test_tasks_for_a_host_and_others_take_turns() -> None:
    _, client, agents = cluster("one", capacity=2)
    other = Client(client.harness, "other")
    other.define()
    many = client.submit(100)
    bound = other.submit(10, options=asking(host="one"))
    seen: list[tuple[bytes, int]] = []
    while tasks := agents["one"].tasks():
        seen += [(owner, number) for owner, number, _ in tasks]
        agents["one"].answer(tasks)
    assert len(seen) == len(many) + len(bound)
    assert seen.index((other.id, bound[-1])) < 60


def test_a_host_that_connects_later_gets_what_waits_for_it() -> None:
    harness, client, agents = cluster("one")
    (number,) = client.submit(options=asking(host="late"))
    (second,) = client.submit(options=asking(worker="late-1"))
    harness.advance(10)
    assert agents["one"].tasks() == []
    assert sorted(notice.text for notice in client.take(m.Notice)) == [
        "tasks wait for host late: no worker of that name is connected",
        "tasks wait for worker late-1: no worker of that name is connected",
    ]
    late = Agent(harness, "late", workers=2)
    harness.advance(1)
    assert sorted(numbers(late)) == [number, second]


def test_tasks_for_a_host_that_does_not_come_end_after_the_set_time() -> None:
    harness, client, _ = cluster("one", no_worker_timeout_seconds=8)
    (number,) = client.submit(options=asking(host="nowhere"))
    harness.advance(12)
    status, text = client.results()[number]
    assert status == m.Status.NO_WORKER
    assert b"host nowhere" in text


def test_what_a_lost_host_had_waits_for_its_return() -> None:
    harness, client, agents = cluster("one two")
    bound = client.submit(3, options=asking(host="one"))
    at_worker = client.submit(3, options=asking(worker="one-1"))
    harness.vanish(agents["one"])
    harness.advance(120)
    assert agents["two"].tasks() == []
    again = Agent(harness, "one", workers=2, capacity=20)
    harness.advance(1)
    # An agent's workers get half of what it wants each.
    assert set(again.run_all()) == {*bound, *at_worker}
    assert client.results().keys() == {*bound, *at_worker}


def test_a_preferred_host_gets_what_it_takes_and_others_the_rest() -> None:
    harness, client, agents = cluster("one two", capacity=4)
    many = client.submit(6, options=asking(host=Prefer("two")))
    harness.advance(1)
    assert numbers(agents["two"]) == many[:4]
    assert numbers(agents["one"]) == many[4:]


def test_each_host_gets_those_first_that_prefer_it() -> None:
    harness, client, agents = cluster("one two", capacity=4)
    client.submit(4, options=asking(host="one"))
    client.submit(4, options=asking(host="two"))
    held = {name: agent.tasks() for name, agent in agents.items()}
    wanted = {name: client.submit(4, options=asking(host=Prefer(name))) for name in agents}
    for name, agent in agents.items():
        agent.answer(held[name])
    harness.advance(1)
    got = {name: numbers(agent) for name, agent in agents.items()}
    assert got["two"] == wanted["two"] or got["one"] == wanted["one"]
    assert sorted(got["one"] + got["two"]) == wanted["one"] + wanted["two"]


def test_a_preferred_host_that_is_not_there_is_no_matter() -> None:
    harness, client, agents = cluster("one")
    many = client.submit(3, options=asking(host=Prefer("nowhere")))
    assert numbers(agents["one"]) == many
    harness.advance(10)
    assert client.take(m.Notice) == []


def test_rows_of_a_graph_go_to_the_host() -> None:
    _, client, agents = cluster("one two")
    first = client.next_number
    client.next_number += 6
    for options, at in ((asking(host="two"), 0), (asking(worker="two-1"), 3)):
        client.send(
            m.GraphSubmit(
                client.id,
                first + at,
                (FUNCTION,),
                Packed.of([b"P"] * 3),
                dependency_counts=[0, 1, 1],
                dependencies=[0, 1],
                wanted=[2],
                options=options,
            )
        )
    assert sorted(agents["two"].run_all()) == list(range(first, first + 6))
    assert agents["one"].tasks() == []
    assert client.results().keys() == {first + 2, first + 5}


def test_workers_of_one_name_are_told_apart_as_clients_show_them() -> None:
    harness = Harness()
    client = Client(harness, "client")
    agents = [Agent(harness, name, workers=1) for name in ("twin", "other")]
    client.define()
    shown = [f"{name}-0 ({agent.id[:4].hex()}/0)" for name, agent in zip(("twin", "other"), agents, strict=True)]
    wanted = [client.submit(options=asking(worker=name)) for name in shown]
    assert [numbers(agent) for agent in agents] == wanted


def test_idle_hosts_do_not_recall_what_they_may_not_run() -> None:
    harness, client, agents = cluster("busy idle", capacity=8)
    client.submit(8, options=asking(host="busy"))
    harness.advance(30)
    assert agents["busy"].take(m.TaskRecall) == []
    assert agents["idle"].tasks() == []


def test_a_worker_whose_agent_wants_no_more_gets_what_its_task_may_wait_for() -> None:
    _, client, agents = cluster("one", capacity=2)
    (outer,) = client.submit(options=asking(worker="one-0"))
    client.submit(options=asking(worker="one-0"))
    inner = client.submit(3, options=asking(worker="one-0"), depth=1)
    assert numbers(agents["one"]) == [outer, inner[0]]


def test_tasks_for_a_worker_that_their_group_s_limit_holds_back_leave_the_counts_right() -> None:
    harness = Harness(shares=parse_shares(["default=1:max_running=1"]))
    client, agent = Client(harness, "client"), Agent(harness, "one", workers=2, capacity=10)
    client.define()
    submitted = client.submit(5, options=asking(worker="one-0"))
    harness.core.check_invariants()
    done: list[int] = []
    while tasks := agent.tasks():
        assert len(tasks) == 1
        agent.answer(tasks)
        done += client.results()
        harness.core.check_invariants()
    assert done == submitted
