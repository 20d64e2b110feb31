"""Counted resources in a scheduler core: who gets what, and when it is free again. `simulation.resources` has the rules alone."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from harness import Agent, Client, Harness, identity

from scaler_protocol.capabilities import pin_to
from scaler_protocol.runtime.resources import GPU, ONE, parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions, Prefer, encode_record, join_records
from scaler_scheduler.group_shares import parse_shares
from scaler_scheduler.policy.resources import PATIENCE_SECONDS


def asking(resources: str, **options: Any) -> bytes:
    return join_records((encode_record(CallOptions(**options)._replace(resources=parse_amounts(resources))),))


class HostAgent(Agent):
    """An agent whose host offers amounts."""

    def __init__(
        self,
        harness: Harness,
        name: str,
        offered: str,
        workers: int = 4,
        held: m.GrantsHeld | None = None,
        **options: Any,
    ) -> None:
        gpus = dict(parse_amounts(offered)).get(GPU, 0) // ONE
        devices = tuple(f"{name}{number}" for number in range(gpus))
        super().__init__(harness, name, workers, resources=offered, devices=devices, **options)
        self.send(m.GrantsHeld() if held is None else held)

    def batches(self) -> list[m.TaskBatch]:
        return self.take(m.TaskBatch)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_no_more_is_given_than_the_host_offers(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=2,mem=8GiB")
    client = Client(harness, "client")
    client.define()
    numbers = client.submit(10, options=asking("gpu=1"))
    held = agent.tasks()
    assert len(held) == 2
    order = [number for _, number, _ in held]
    while held:
        agent.answer(held[:1])
        held = held[1:] + agent.tasks()
        assert len(held) <= 2
        order += [number for _, number, _ in held if number not in order]
    assert sorted(order) == numbers


def test_tasks_of_one_message_may_ask_for_different_amounts(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=1", workers=8)
    client = Client(harness, "client")
    client.define()
    rows = [
        encode_record(CallOptions(resources=parse_amounts(text))) for text in ("", "gpu=1", "gpu=0.5", "gpu=0.5", "")
    ]
    client.submit(5, options=join_records(rows))
    held = agent.tasks()
    # Both that ask for nothing, and the first line of the others that fits.
    assert {1, 5} <= {number for _, number, _ in held}
    assert len(held) in (3, 4)
    agent.answer(held)
    agent.run_all()
    assert len(client.results()) == 5


def test_tasks_that_ask_for_nothing_are_not_held_up(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=1")
    client = Client(harness, "client")
    client.define()
    client.submit(50, options=asking("gpu=1"))
    client.submit(3)
    assert len(agent.tasks()) == 4


def test_neither_kind_takes_all_the_room(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "cores=100", workers=1)
    client = Client(harness, "client")
    client.define()
    client.submit(100, options=asking("cores=1"))
    client.submit(100)
    kinds = Counter[bool]()
    held = agent.tasks()
    for _ in range(100):
        agent.answer(held[:1])
        kinds[held[0][1] <= 100] += 1
        held = held[1:] + agent.tasks()
    assert min(kinds.values()) > 30


def test_a_lost_agent_gives_back_what_its_tasks_had(harness: Harness) -> None:
    first = HostAgent(harness, "a", "gpu=1")
    client = Client(harness, "client")
    client.define()
    client.submit(2, options=asking("gpu=1"))
    assert len(first.tasks()) == 1
    second = HostAgent(harness, "b", "gpu=1")
    assert len(second.tasks()) == 1
    first.answer([(client.id, 1, 1)], m.Status.PROCESSOR_DIED, b"died")
    assert [number for _, number, _ in first.tasks()] == [1]


def test_what_nobody_offers_waits_and_the_client_is_told(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=1")
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=asking("gpu=2"))
    harness.advance(10.0)
    notices = [notice for notice in client.take(m.Notice) if notice.kind == "unservable"]
    assert len(notices) == 1
    assert "asks for gpu=2, which no connected host offers; the most that one offers is gpu=1" in notices[0].text
    assert not agent.tasks()
    larger = HostAgent(harness, "b", "gpu=4")
    assert len(larger.tasks()) == 1


def test_an_agent_with_amounts_that_cannot_be_read_is_refused(harness: Harness) -> None:
    agent = Agent(harness, "a", resources="gpu=many")
    assert not harness.seen(agent)


def test_a_large_ask_is_not_starved_by_small_ones(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=4", workers=8)
    client = Client(harness, "client")
    client.define()
    client.submit(500, options=asking("gpu=1"))
    held = agent.tasks()
    large = client.submit(1, options=asking("gpu=4"))[0]
    begun = None
    for step in range(400):
        harness.advance(0.25)
        agent.answer(held[:1])
        held = held[1:] + agent.tasks()
        if any(number == large for _, number, _ in held):
            begun = step * 0.25
            break
    assert begun is not None
    assert PATIENCE_SECONDS <= begun <= PATIENCE_SECONDS + 2.0


def test_limits_of_the_cluster() -> None:
    harness = Harness(resources="licence=2")
    agents = [HostAgent(harness, name, "cores=8") for name in "abc"]
    client = Client(harness, "client")
    client.define()
    client.submit(9, options=asking("licence=1"))
    harness.advance(1.5)
    held = [(agent, task) for agent in agents for task in agent.tasks()]
    assert len(held) == 2
    done = 0
    while held:
        agent, task = held.pop(0)
        agent.answer([task])
        done += 1
        held += [(other, task) for other in agents for task in other.tasks()]
        assert len(held) <= 2
    assert done == 9
    client.submit(1, options=asking("licence=3"))
    harness.advance(10.0)
    assert any("the whole cluster has licence=2" in notice.text for notice in client.take(m.Notice))


# --- one test for each way in which this was wrong once


def test_no_more_are_sent_than_can_run_at_once_so_that_a_host_that_joins_gets_its_share(harness: Harness) -> None:
    first = HostAgent(harness, "a", "cores=100", workers=4, capacity=1000)
    client = Client(harness, "client")
    client.define()
    client.submit(40, options=asking("cores=0.01"))
    assert len(first.tasks()) == 4
    second = HostAgent(harness, "b", "cores=100", workers=4, capacity=1000)
    assert len(second.tasks()) == 4


def test_deeper_tasks_have_room_where_less_deep_ones_fill_all_workers(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "cores=100", workers=2, capacity=1000)
    client = Client(harness, "client")
    client.define()
    client.submit(5, options=asking("cores=1"))
    assert len(agent.tasks()) == 2
    nested = client.submit(3, options=asking("cores=1"), depth=1)
    assert [number for _, number, _ in agent.tasks()] == nested[:2]


def test_a_reservation_holds_amounts_and_not_names(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=4,mem=100", workers=8)
    client = Client(harness, "client")
    client.define()
    client.submit(2, options=asking("gpu=1,mem=30"))
    held = agent.tasks()
    large = client.submit(1, options=asking("mem=60"))[0]
    harness.advance(PATIENCE_SECONDS + 1)
    # 40 will be left beside it: small ones go on in that.
    client.submit(8, options=asking("mem=10"))
    small = agent.tasks()
    assert len(small) == 4
    agent.answer(held)
    assert {number for _, number, _ in agent.tasks()} == {large}


def test_what_was_reserved_for_a_cancelled_task_is_given_to_others(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=2", workers=8)
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=asking("gpu=1"))
    assert len(agent.tasks()) == 1
    large = client.submit(1, options=asking("gpu=2"))
    harness.advance(PATIENCE_SECONDS + 1)
    client.submit(1, options=asking("gpu=1"))
    assert not agent.tasks()
    client.send(m.TaskCancel(client.id, large, [0]))
    assert len(agent.tasks()) == 1


def test_a_deeper_task_goes_ahead_of_a_reservation(harness: Harness) -> None:
    agent = HostAgent(harness, "a", "gpu=2", workers=8)
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=asking("gpu=1"))
    client.submit(1, options=asking("gpu=2"))
    harness.advance(PATIENCE_SECONDS + 1)
    assert len(agent.tasks()) == 1
    nested = client.submit(1, options=asking("gpu=1"), depth=1)
    assert [number for _, number, _ in agent.tasks()] == nested


def test_tasks_are_sent_with_devices_of_their_own_and_wait_where_no_single_one_is_free(harness: Harness) -> None:
    agent = HostAgent(harness, "g", "gpu=2")
    client = Client(harness, "client")
    client.define()
    client.submit(2, options=asking("gpu=0.6"))
    batches = agent.batches()
    assert sorted(batch.devices for batch in batches) == ["g0", "g1"]
    assert {batch.granted for batch in batches} == {"gpu=0.6"}
    # 0.8 are free, and not on one device.
    client.submit(1, options=asking("gpu=0.5"))
    assert not agent.batches()
    agent.answer([(client.id, 1, 1)])
    assert len(agent.batches()) == 1


def test_halves_do_not_keep_a_whole_device_from_a_task_for_ever(harness: Harness) -> None:
    agent = HostAgent(harness, "g", "gpu=2", workers=8)
    client = Client(harness, "client")
    client.define()
    client.submit(2, options=asking("gpu=0.6"))
    held = agent.tasks()
    whole = client.submit(1, options=asking("gpu=1"))[0]
    client.submit(100, options=asking("gpu=0.6"))
    begun: list[int] = []
    for _ in range(40):
        harness.advance(0.5)
        agent.answer(held[:1])
        held = held[1:] + agent.tasks()
        begun += [number for _, number, _ in held]
    assert whole in begun


def test_a_task_for_one_worker_gets_devices_too(harness: Harness) -> None:
    agent = HostAgent(harness, "g", "gpu=1")
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=asking("gpu=1"), capabilities=pin_to(agent.id, 2))
    (batch,) = agent.batches()
    assert batch.devices == "g0"
    client.submit(1, options=asking("gpu=2"), capabilities=pin_to(agent.id, 2))
    harness.advance(10.0)
    (notice,) = client.take(m.Notice)
    assert "the host of the worker that it is for offers gpu=1" in notice.text


def test_limits_stay_in_use_while_tasks_of_a_client_that_has_left_still_run() -> None:
    harness = Harness(resources="licence=1")
    agent = HostAgent(harness, "a", "cores=8")
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=asking("licence=1"))
    harness.advance(1.5)
    assert len(agent.tasks()) == 1
    client.send(m.Goodbye("done"))
    assert not harness.seen(client)
    other = Client(harness, "other")
    other.define()
    other.submit(1, options=asking("licence=1"))
    assert agent.take(m.ClientGone)
    assert not agent.tasks()
    agent.send(m.GrantsFreed(client.id))
    assert len(agent.tasks()) == 1


def test_after_a_restart_what_hosts_have_counts_before_anything_is_given() -> None:
    harness = Harness(resources="licence=1")
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=asking("licence=1"))
    fresh = HostAgent(harness, "b", "cores=8")
    gone = identity("gone")
    held = m.GrantsHeld((gone,), [7], [1], [0], ("cores=1,licence=1",), ("",), [1])
    old = HostAgent(harness, "a", "cores=8", held=held)
    harness.advance(8.0)
    assert not fresh.tasks() + old.tasks()
    old.send(m.GrantsFreed(gone))
    assert len(fresh.tasks() + old.tasks()) == 1


def test_a_host_gets_nothing_before_it_has_said_what_is_in_use_there(harness: Harness) -> None:
    gpus = ("0", "1")
    agent = Agent(harness, "a", 4, resources="gpu=2", devices=gpus)
    client = Client(harness, "client")
    client.define()
    client.submit(2, options=asking("gpu=1"))
    assert not agent.take(m.TaskBatch)
    agent.send(m.GrantsHeld((client.id,), [99], [1], [0], ("gpu=1",), ("0",), [0]))
    (batch,) = agent.take(m.TaskBatch)
    assert batch.devices == "1"


def test_a_limit_of_the_cluster_is_not_counted_at_hosts() -> None:
    harness = Harness(resources="licence=3")
    agent = HostAgent(harness, "a", "licence=1,cores=8", workers=8)
    client = Client(harness, "client")
    client.define()
    client.submit(5, options=asking("licence=1"))
    harness.advance(1.5)
    batches = agent.batches()
    assert sum(len(batch.numbers) for batch in batches) == 3
    assert {batch.granted for batch in batches} == {""}


def test_many_different_amounts_cost_no_more_each() -> None:
    def seconds(count: int) -> float:
        harness = Harness()
        harness.checks_each_step = False
        agent = HostAgent(harness, "a", "mem=1MiB", workers=4)
        client = Client(harness, "client")
        client.define()
        records = [encode_record(CallOptions(resources=parse_amounts(f"mem={1000 + row}"))) for row in range(count)]
        client.submit(count, options=join_records(records))
        began = time.process_time()
        assert len(agent.run_all(count)) == count
        return time.process_time() - began

    few = min(seconds(500) for _ in range(3))
    assert seconds(4000) < few * 8 * 2.5


def test_workers_that_do_not_count_get_no_task_with_amounts(harness: Harness) -> None:
    agent = Agent(harness, "a", 4)
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=asking("cores=1"))
    harness.advance(10.0)
    assert not agent.tasks()
    (notice,) = client.take(m.Notice)
    assert "do not count resources" in notice.text


def test_an_agent_whose_devices_are_not_as_many_as_it_offers_is_refused(harness: Harness) -> None:
    agent = Agent(harness, "a", 4, resources="gpu=2", devices=("0", "0"))
    assert not harness.seen(agent)


def given(**options: Any) -> bytes:
    found = CallOptions().with_given(options, "test")
    return join_records((encode_record(found),))


def test_tasks_for_a_host_or_a_worker_get_what_that_one_has(harness: Harness) -> None:
    agents = {name: HostAgent(harness, name, "gpu=1", workers=2) for name in ("one", "two")}
    client = Client(harness, "client")
    client.define()
    here = client.submit(3, options=given(resources="gpu=1", host="two"))
    held = agents["two"].tasks()
    assert [number for _, number, _ in held] == here[:1]
    assert not agents["one"].batches(), "its device is for others"
    agents["two"].answer(held)
    (second,) = agents["two"].batches()
    (there,) = client.submit(1, options=given(resources="gpu=1", worker="one-1"))
    (batch,) = agents["one"].batches()
    assert list(batch.numbers) == [there]
    assert batch.capabilities == pin_to(agents["one"].id, 1)
    assert (batch.devices, second.devices) == ("one0", "two0")


def test_a_group_that_may_run_no_more_reserves_nothing() -> None:
    harness = Harness(shares=parse_shares(["pricing=3:max_running=1", "research=1"]))
    agent = HostAgent(harness, "a", "gpu=2", workers=8)
    pricing, research = Client(harness, "pricing", group="pricing"), Client(harness, "research", group="research")
    for client in (pricing, research):
        client.define()
    pricing.submit(4, options=asking("gpu=1"))
    pricing.submit(1, options=asking("gpu=2"))
    assert len(agent.tasks()) == 1
    harness.advance(PATIENCE_SECONDS + 1)
    (own,) = research.submit(1, options=asking("gpu=1"))
    assert [number for client, number, _ in agent.tasks() if client == research.id] == [own]


def test_a_task_for_a_worker_is_not_forgotten_while_plain_ones_fill_that_worker(harness: Harness) -> None:
    agent = HostAgent(harness, "one", "gpu=2", workers=2)
    client = Client(harness, "client")
    client.define()
    client.submit(2, options=given(worker="one-1"))
    held = agent.tasks()
    counted = client.submit(2, options=given(worker="one-1", resources="gpu=1"))
    harness.advance(PATIENCE_SECONDS + 1)
    for task in held:
        # Nothing changes that is counted.
        agent.answer([task])
    assert agent.run_all() == counted


def test_tasks_for_one_worker_get_amounts_one_by_one(harness: Harness) -> None:
    agent = HostAgent(harness, "one", "gpu=4", workers=4, capacity=100)
    client = Client(harness, "client")
    client.define()
    mine = client.submit(4, options=given(worker="one-1", resources="gpu=1"))
    others = client.submit(9, options=given(resources="gpu=1"))
    held = agent.tasks()
    assert [number for _, number, _ in held] == [mine[0], *others[:3]]
    # What it waits for is its worker: it reserves nothing, however long that takes.
    harness.advance(PATIENCE_SECONDS + 1)
    agent.answer(held[1:])
    assert [number for _, number, _ in agent.tasks()] == others[3:6]
    # One inside that task may be what it waits for.
    agent.answer(held[1:2])
    (nested,) = client.submit(1, options=given(worker="one-1", resources="gpu=1"), depth=1)
    agent.answer([(client.id, number, 1) for number in others[3:6]])
    assert nested in [number for _, number, _ in agent.tasks()]


def test_a_reservation_does_not_stay_at_a_host_that_leaves(harness: Harness) -> None:
    agents = {name: HostAgent(harness, name, "gpu=2", workers=4) for name in "ab"}
    client = Client(harness, "client")
    client.define()
    client.submit(400, options=asking("gpu=1"))
    held = {name: agent.tasks() for name, agent in agents.items()}
    (large,) = client.submit(1, options=asking("gpu=2"))
    harness.advance(PATIENCE_SECONDS + 1)
    agents["a"].answer(held["a"][:1])
    reserved = {queue["resources"]: queue["reserved_at"] for queue in harness.snapshot()["queues"]}["gpu=2"]
    assert reserved
    # One task goes on there for long.
    agents[reserved].send(m.Drain())
    stays = next(name for name in agents if name != reserved)
    begun: list[int] = []
    here = held[stays] + agents[stays].tasks()
    for _ in range(10):
        agents[stays].answer(here[:1])
        here = here[1:] + agents[stays].tasks()
        begun += [number for _, number, _ in here]
    assert large in begun


def test_tasks_go_to_the_host_that_they_prefer_while_it_has_enough(harness: Harness) -> None:
    agents = {name: HostAgent(harness, name, "gpu=4") for name in "ab"}
    client = Client(harness, "client")
    client.define()
    numbers = client.submit(6, options=given(host=Prefer("b"), resources="gpu=1"))
    assert [number for _, number, _ in agents["b"].tasks()] == numbers[:4]
    assert [number for _, number, _ in agents["a"].tasks()] == numbers[4:]


def test_tasks_for_a_worker_that_have_ended_are_not_kept(harness: Harness) -> None:
    harness.checks_each_step = False
    agent = HostAgent(harness, "one", "gpu=4")
    client = Client(harness, "client")
    client.define()
    client.submit(300, options=given(worker="one-1", resources="gpu=1"))
    assert len(agent.run_all()) == 300
    assert sum(map(len, harness.core._state.agents.by_peer[agent.id].pinned.values())) <= 1
