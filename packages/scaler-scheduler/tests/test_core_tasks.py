"""From submission to answer: placement, attempts, cancellation, deaths, fairness, limits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, Peer, identity
from test_core_links import link

from scaler_protocol.session import RefusedByPeer, Session
from scaler_protocol.session.sequencing import OUTBOX_BYTES_MAX
from scaler_protocol.version import PROTOCOL_VERSION
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.task_lists import PORTION_ROWS, portions_of
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events


def test_a_task_goes_to_an_agent_and_its_result_to_the_client() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    (number,) = client.submit()
    (define,) = agent.take(m.FunctionDefine)
    assert define.ids == (FUNCTION,)
    assert define.names == ("module.f",)
    tasks = agent.tasks()
    assert tasks == [(client.id, number, 1)]
    agent.answer(tasks)
    assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}
    assert not harness.seen(client)["tasks"]


def test_a_function_is_sent_once_to_each_agent() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    client.submit(2)
    client.submit(2)
    assert len(agent.take(m.FunctionDefine)) == 1


def test_a_batch_that_is_all_success_is_passed_on_unopened() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=10)
    client.define()
    client.submit(5)
    tasks = agent.tasks()
    batch = m.ResultBatch(client.id, [t[1] for t in tasks], [t[2] for t in tasks], Packed.of([b"P"] * 5), capacity=10)
    agent.send(batch)
    assert client.take(m.ResultBatch)[0] is batch


def test_a_message_to_an_agent_carries_so_many_bytes_at_most() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=20)
    client.define()
    payloads = [bytes((number,)) * 1024**2 for number in range(12)]
    batch = replace(client.batch(12), payloads=Packed.of(payloads))
    client.send(batch)
    batches = agent.take(m.TaskBatch)
    assert [len(one.numbers) for one in batches] == [4, 4, 4]
    assert [payload for one in batches for payload in one.payloads.split()] == payloads
    assert [number for one in batches for number in one.numbers] == list(batch.numbers)


def test_agents_never_hold_more_than_they_want() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2, capacity=3)
    client.define()
    client.submit(10)
    first = agent.tasks()
    assert len(first) == 3
    agent.answer(first[:1])
    assert len(agent.tasks()) == 1


def test_work_is_spread_evenly_by_slots() -> None:
    harness = Harness()
    client = Client(harness, "client")
    small, large = Agent(harness, "small", workers=1, capacity=100), Agent(harness, "large", workers=3, capacity=300)
    client.define()
    client.submit(80)
    assert (len(small.tasks()), len(large.tasks())) == (20, 60)


def test_uneven_agents_are_levelled_by_what_comes_next() -> None:
    harness = Harness()
    client = Client(harness, "client")
    first = Agent(harness, "first", capacity=100)
    client.define()
    client.submit(30)
    second = Agent(harness, "second", capacity=100)
    client.submit(10)
    assert len(first.tasks()) == 30
    assert len(second.tasks()) == 10


def test_stale_results_are_dropped_and_counted() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    client.submit()
    ((_, number, attempt),) = agent.tasks()
    agent.answer([(client.id, number, attempt + 1)])
    assert client.results() == {}
    assert harness.count("stale_results") == 1
    agent.answer([(client.id, number, attempt)])
    agent.answer([(client.id, number, attempt)])
    assert list(client.results()) == [number]
    assert harness.count("stale_results") == 2


def test_failures_reach_the_client_as_they_are() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    (number,) = client.submit()
    agent.answer(agent.tasks(), m.Status.FAILED, b"Pboom")
    assert client.results() == {number: (m.Status.FAILED, b"Pboom")}


def test_a_task_whose_processor_dies_is_tried_a_limited_number_of_times() -> None:
    harness = Harness(max_task_attempts=3)
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    (number,) = client.submit()
    for attempt in (1, 2, 3):
        tasks = agent.tasks()
        assert tasks == [(client.id, number, attempt)]
        agent.answer(tasks, m.Status.PROCESSOR_DIED, b"processor 7 was killed by SIGSEGV")
    status, payload = client.results()[number]
    assert status == m.Status.PROCESSOR_DIED
    assert payload == b"task 1 (module.f): attempt 3 of 3 failed; processor 7 was killed by SIGSEGV"
    assert agent.tasks() == []


def test_a_task_that_exceeded_a_limit_is_not_tried_again() -> None:
    harness = Harness(max_task_attempts=3)
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    (number,) = client.submit()
    agent.answer(agent.tasks(), m.Status.LIMIT_EXCEEDED, b"it exceeded --processor-cpu-seconds 2")
    text = b"task 1 (module.f): it exceeded --processor-cpu-seconds 2"
    assert client.results() == {number: (m.Status.LIMIT_EXCEEDED, text)}
    assert agent.tasks() == []


def test_the_error_of_a_task_that_ran_too_long_names_its_function() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    first, second = (client.submit()[0] for _ in range(2))
    text = b"the task ran for more than 1 s and was ended (task timeout)"
    assert len(agent.tasks()) == 2
    statuses = [m.Status.SUCCESS, m.Status.TIMED_OUT]
    agent.send(m.ResultBatch(client.id, [first, second], [1, 1], Packed.of([b"Pone", text]), statuses))
    assert client.results() == {
        first: (m.Status.SUCCESS, b"Pone"),
        second: (m.Status.TIMED_OUT, b"task 2 (module.f): " + text),
    }


def test_a_task_stopped_without_its_client_wanting_it_is_tried_a_limited_number_of_times() -> None:
    harness = Harness(max_task_attempts=2)
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    (number,) = client.submit()
    agent.answer(agent.tasks(), m.Status.CANCELED, b"")
    assert client.results() == {}
    assert agent.tasks() == [(client.id, number, 2)]
    agent.answer([(client.id, number, 2)], m.Status.CANCELED, b"")
    status, payload = client.results()[number]
    assert status == m.Status.WORKER_DIED
    assert (
        payload
        == b"task 1 (module.f): attempt 2 of 2 failed; agent agent stopped it, though its client had not cancelled it"
    )


def test_of_tasks_stopped_in_one_batch_only_the_cancelled_one_is_answered_so() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=3)
    client.define()
    numbers = client.submit(3)
    client.send(m.TaskCancel(client.id, [numbers[1]]))
    agent.answer(agent.tasks(), m.Status.CANCELED, b"")
    assert client.results() == {numbers[1]: (m.Status.CANCELED, b"")}
    agent.run_all()
    assert client.results() == dict.fromkeys((numbers[0], numbers[2]), (m.Status.SUCCESS, b"Presult"))


def test_only_tasks_that_may_have_run_pay_for_a_lost_agent() -> None:
    harness = Harness(max_task_attempts=1, worker_timeout_seconds=10)
    client, agent = Client(harness, "client"), Agent(harness, "agent", workers=2, capacity=5)
    client.define()
    numbers = client.submit(5)
    assert len(agent.tasks()) == 5
    harness.vanish(agent)
    harness.advance(12)
    results = client.results()
    assert sorted(results) == numbers[:2]
    status, payload = results[numbers[0]]
    assert status == m.Status.WORKER_DIED
    assert b"attempt 1 of 1" in payload
    assert b"agent agent" in payload
    other = Agent(harness, "other", capacity=10)
    assert [number for _, number, _ in other.tasks()] == numbers[2:]


def test_tasks_of_a_lost_agent_run_elsewhere_before_younger_ones() -> None:
    harness = Harness(worker_timeout_seconds=10)
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=2)
    client.define()
    numbers = client.submit(4)
    harness.vanish(agent)
    harness.advance(12)
    other = Agent(harness, "other", capacity=4)
    assert [number for _, number, _ in other.tasks()] == numbers


def test_an_agent_that_leaves_politely_costs_nobody_an_attempt() -> None:
    harness = Harness(max_task_attempts=1)
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    (number,) = client.submit()
    agent.connection.close("stopping")
    harness.settle()
    other = Agent(harness, "other")
    assert [n for _, n, _ in other.tasks()] == [number]


def test_a_draining_agent_gets_nothing_more_and_returns_what_it_has_not_started() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=3)
    client.define()
    numbers = client.submit(4)
    tasks = agent.tasks()
    agent.send(m.Drain())
    agent.send(m.TaskReturn(client.id, [number for _, number, _ in tasks[1:]], [1, 1]))
    agent.answer(tasks[:1])
    assert agent.tasks() == []
    other = Agent(harness, "other", capacity=9)
    assert other.tasks() == [(client.id, numbers[1], 2), (client.id, numbers[2], 2), (client.id, numbers[3], 1)]


class TestCancel:
    def test_a_waiting_task_is_answered_at_once(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        (number,) = client.submit()
        client.send(m.TaskCancel(client.id, [number]))
        assert client.results() == {number: (m.Status.CANCELED, b"")}
        agent = Agent(harness, "agent")
        assert agent.tasks() == []

    def test_an_assigned_task_is_stopped_by_its_agent(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        client.send(m.TaskCancel(client.id, [number]), m.TaskCancel(client.id, [number]))
        (cancel,) = agent.take(m.TaskCancel)
        assert (list(cancel.numbers), list(cancel.attempts)) == ([number], [1])
        assert client.results() == {}
        agent.answer(agent.tasks(), m.Status.CANCELED, b"")
        assert client.results() == {number: (m.Status.CANCELED, b"")}

    def test_a_result_that_crosses_the_cancellation_counts_as_cancelled(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        client.send(m.TaskCancel(client.id, [number]))
        agent.answer(agent.tasks())
        assert client.results() == {number: (m.Status.CANCELED, b"")}

    def test_a_cancelled_task_does_not_come_back_from_a_lost_agent(self) -> None:
        harness = Harness(worker_timeout_seconds=10)
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        client.send(m.TaskCancel(client.id, [number]))
        harness.vanish(agent)
        harness.advance(12)
        assert client.results() == {number: (m.Status.CANCELED, b"")}

    @pytest.mark.parametrize("comes_back", [True, False])
    def test_of_tasks_that_are_withdrawn_only_those_end_that_were_not_begun(self, comes_back: bool) -> None:
        harness = Harness(worker_timeout_seconds=10)
        client = Client(harness, "client")
        client.define()
        (waiting,) = client.submit()
        client.send(m.TaskCancel(client.id, [waiting], waiting_only=True))
        assert client.results() == {waiting: (m.Status.CANCELED, b"")}
        agent = Agent(harness, "agent")
        running, queued = client.submit(2)
        tasks = agent.tasks()
        client.send(m.TaskCancel(client.id, [running, queued], waiting_only=True))
        (cancel,) = agent.take(m.TaskCancel)
        assert (list(cancel.numbers), cancel.waiting_only) == ([running, queued], True)
        if comes_back:
            agent.send(m.TaskReturn(client.id, [queued], [1]))
            assert client.results() == {queued: (m.Status.CANCELED, b"")}
            agent.answer(tasks[:1])
            assert client.results()[running][0] == m.Status.SUCCESS
        else:
            harness.vanish(agent)
            harness.advance(12)
            assert set(client.results()) == {running, queued}

    def test_of_withdrawn_tasks_that_came_back_those_end_that_no_worker_has_begun(self) -> None:
        harness = Harness(recovery_grace_seconds=5)
        client = Client(harness, "client")
        client.define()
        running, queued, lost = client.submit(3, flags=m.TaskFlag.REANNOUNCED)
        client.send(m.TaskCancel(client.id, [running, queued, lost], waiting_only=True))
        assert client.results() == {}
        agent = Agent(harness, "agent")
        agent.send(m.Inventory(client.id, [running, queued], [1, 1], [1, 0]))
        (cancel,) = agent.take(m.TaskCancel)
        assert (list(cancel.numbers), list(cancel.attempts), cancel.waiting_only) == ([running, queued], [1, 1], True)
        agent.send(m.TaskReturn(client.id, [queued], [1]))
        assert client.results() == {queued: (m.Status.CANCELED, b"")}
        harness.advance(6)
        assert client.results() == {lost: (m.Status.CANCELED, b"")}
        agent.answer([(client.id, running, 1)])
        assert client.results() == {running: (m.Status.SUCCESS, b"Presult")}
        assert agent.tasks() == []

    def test_nor_from_balancing(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        client.send(m.TaskCancel(client.id, [number]))
        agent.send(m.TaskReturn(client.id, [number], [1]))
        assert client.results() == {number: (m.Status.CANCELED, b"")}

    def test_unknown_numbers_are_ignored(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        client.send(m.TaskCancel(client.id, [77]))
        assert client.results() == {}


class TestFairness:
    def test_a_client_with_much_work_does_not_delay_another_ones_single_task(self) -> None:
        harness = Harness()
        busy, light = Client(harness, "busy"), Client(harness, "light")
        agent = Agent(harness, "agent", capacity=4)
        busy.define()
        light.define()
        busy.submit(1000)
        agent.tasks()
        light.submit()
        assigned = [task for task in harness.seen(busy)["tasks"] if task["agent"] is not None]
        agent.answer([(busy.id, task["number"], task["times_assigned"]) for task in assigned[:2]])
        assert light.id in {client for client, _, _ in agent.tasks()}

    def test_deeper_tasks_go_first(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        client.define()
        shallow = client.submit(2)
        deep = client.submit(2, depth=3)
        middle = client.submit(1, depth=1)
        agent = Agent(harness, "agent", capacity=1)
        assert agent.run_all() == deep + middle + shallow


class TestWrongAddresses:
    def test_who_takes_it_for_an_object_storage_server_is_told(self) -> None:
        harness = Harness()
        hello = m.Hello(m.Role.CLIENT, "lost", identity("lost"), to_object_storage=True)
        peer = Peer(harness, identity("lost"), hello)
        assert not peer.connection.established
        assert harness.snapshot()["clients"] == []


class TestCapabilities:
    def test_a_task_goes_only_where_its_capabilities_are(self) -> None:
        harness = Harness(allocate_policy="capability")
        client = Client(harness, "client")
        plain = Agent(harness, "plain", capacity=10)
        gpu = Agent(harness, "gpu", capacity=10, capabilities=(("gpu", 4), ("linux", -1)))
        client.define()
        wanted = client.submit(3, capabilities=(("gpu", -1),))
        assert plain.tasks() == []
        assert [number for _, number, _ in gpu.tasks()] == wanted

    def test_an_unservable_task_blocks_nobody_and_is_reported_once(self) -> None:
        harness = Harness(allocate_policy="capability")
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        unservable = client.submit(2, capabilities=(("gpu", -1),))
        (number,) = client.submit()
        agent.run_all()
        assert list(client.results()) == [number]
        harness.advance(10)
        (notice,) = client.take(m.Notice)
        assert notice.kind == "unservable"
        assert "gpu" in notice.text
        assert list(notice.numbers) == unservable
        gpu = Agent(harness, "gpu", capabilities=(("gpu", 1),))
        assert gpu.run_all() == unservable

    def test_the_least_special_worker_is_preferred(self) -> None:
        harness = Harness(allocate_policy="capability")
        client = Client(harness, "client")
        gpu, plain = Agent(harness, "gpu", capabilities=(("gpu", 1),)), Agent(harness, "plain")
        client.define()
        client.submit(2)
        assert len(plain.tasks()) == 2
        assert gpu.tasks() == []

    def test_the_default_honours_them_and_carries_their_values(self) -> None:
        harness = Harness()
        client, plain = Client(harness, "client"), Agent(harness, "plain")
        gpu = Agent(harness, "gpu", capabilities=(("gpu", 1),))
        client.define()
        (number,) = client.submit(1, capabilities=(("gpu", 8),))
        assert plain.tasks() == []
        (batch,) = gpu.take(m.TaskBatch)
        assert (list(batch.numbers), batch.capabilities) == ([number], (("gpu", 8),))
        harness.advance(10)
        assert client.take(m.Notice) == []

    def test_the_even_policy_does_not_look_at_them_and_says_so_once(self) -> None:
        harness = Harness(allocate_policy="even")
        client, other, agent = Client(harness, "client"), Client(harness, "other"), Agent(harness, "agent")
        for each in (client, other):
            each.define()
        numbers = [*client.submit(1, capabilities=(("gpu", -1),)), *client.submit(1, capabilities=(("fpga", -1),))]
        client.send(
            m.GraphSubmit(
                client.id,
                functions=(FUNCTION,),
                payloads=Packed.of([b"Pa"]),
                dependency_counts=[0],
                dependencies=[],
                wanted=[0],
                capabilities=(("gpu", -1),),
                first_number=100,
            )
        )
        other.submit(1)
        assert [n for _, n, _ in agent.tasks()][:2] == numbers
        assert [notice.kind for notice in client.take(m.Notice)] == ["capabilities_ignored"]
        assert other.take(m.Notice) == []
        other.submit(1, capabilities=(("gpu", -1),))
        (notice,) = other.take(m.Notice)
        assert "--allocate-policy even" in notice.text


class TestBackPressure:
    def test_no_more_tasks_wait_than_allowed(self) -> None:
        harness = Harness(max_number_of_tasks_waiting=5)
        client = Client(harness, "client")
        (welcome,) = client.take(m.Welcome)
        assert welcome.task_credit == 0
        client.define()
        client.send(m.CreditRequest(20))
        (grant,) = client.take(m.CreditGrant)
        assert grant.count == 5
        client.submit(5)
        assert client.take(m.CreditGrant) == []
        agent = Agent(harness, "agent", capacity=3)
        (grant,) = client.take(m.CreditGrant)
        assert grant.count == 3
        assert len(agent.tasks()) == 3

    def test_tasks_that_wait_for_results_of_others_count(self) -> None:
        harness = Harness(max_number_of_tasks_waiting=5)
        client = Client(harness, "client")
        agent = Agent(harness, "agent", capacity=1)
        client.define()
        client.send(m.CreditRequest(20))
        chain = client.submit(1)
        permitted = -1
        while (permitted := permitted + sum(grant.count for grant in client.take(m.CreditGrant))) > 0:
            chain.append(link(client, chain[-1]))
            permitted -= 1
        assert len(chain) == 6, "one is at the agent"
        answered: list[int] = []
        while tasks := agent.tasks():
            agent.answer(tasks)
            answered += client.results()
        assert answered == chain
        assert client.take(m.CreditGrant)

    def test_those_that_end_with_what_they_waited_for_leave_room_at_once(self) -> None:
        harness = Harness(max_number_of_tasks_waiting=5)
        client = Client(harness, "client")
        agent = Agent(harness, "agent", capacity=1)
        client.define()
        client.send(m.CreditRequest(20))
        first = client.submit(1)
        assert agent.tasks()
        waiting = [link(client, first[0])]
        waiting += [link(client, waiting[0]) for _ in range(4)]
        assert [grant.count for grant in client.take(m.CreditGrant)] == [5, 1], "as many wait as may"
        client.send(m.TaskCancel(client.id, waiting[:1]))
        assert sorted(client.results()) == waiting
        assert [grant.count for grant in client.take(m.CreditGrant)] == [5]

    def test_clients_share_what_is_allowed(self) -> None:
        harness = Harness(max_number_of_tasks_waiting=5)
        first, second = Client(harness, "first"), Client(harness, "second")
        first.connection.send(m.CreditRequest(20))
        second.send(m.CreditRequest(20))
        assert sorted(c.take(m.CreditGrant)[0].count for c in (first, second)) == [2, 3]

    def test_tasks_that_nobody_can_run_hold_back_their_own_client_only(self) -> None:
        harness = Harness(max_number_of_tasks_waiting=5, allocate_policy="capability")
        stuck, other = Client(harness, "stuck"), Client(harness, "other")
        agent = Agent(harness, "agent", capacity=1)
        for client in (stuck, other):
            client.define()
        stuck.send(m.CreditRequest(20))
        assert [grant.count for grant in stuck.take(m.CreditGrant)] == [5]
        stuck.submit(5, capabilities=(("gpu", -1),))
        assert stuck.take(m.CreditGrant) == [], "as many of its tasks wait as may"
        done = 0
        other.send(m.CreditRequest(20))
        for _ in range(20):
            granted = sum(grant.count for grant in other.take(m.CreditGrant))
            assert len(other.submit(granted) if granted else []) <= 5
            done += len(agent.run_all())
        assert done == 20
        assert stuck.take(m.CreditGrant) == []
        gpu = Agent(harness, "gpu", capacity=3, capabilities=(("gpu", 1),))
        assert len(gpu.tasks()) == 3
        assert [grant.count for grant in stuck.take(m.CreditGrant)] == [3]

    def test_tasks_that_nobody_could_run_count_again_once_somebody_can(self) -> None:
        harness = Harness(max_number_of_tasks_waiting=5, allocate_policy="capability")
        stuck, other = Client(harness, "stuck"), Client(harness, "other")
        stuck.define()
        stuck.send(m.CreditRequest(5))
        stuck.submit(5, capabilities=(("gpu", -1),))
        Agent(harness, "gpu", capacity=1, capabilities=(("gpu", 1),))
        other.send(m.CreditRequest(20))
        assert [grant.count for grant in other.take(m.CreditGrant)] == [1]

    def test_permissions_that_are_not_used_keep_nobody_waiting_for_long(self) -> None:
        harness = Harness(max_number_of_tasks_waiting=5)
        first, second = Client(harness, "first"), Client(harness, "second")
        first.send(m.CreditRequest(5))
        second.send(m.CreditRequest(4))
        assert second.take(m.CreditGrant) == []
        harness.advance(3)
        assert [grant.count for grant in second.take(m.CreditGrant)] == [4]


class TestBalancing:
    def test_tasks_that_wait_at_a_busy_agent_are_recalled_for_an_idle_one(self) -> None:
        harness = Harness(load_balance_seconds=1, load_balance_trigger_times=2)
        client, busy = Client(harness, "client"), Agent(harness, "busy", capacity=10)
        client.define()
        numbers = client.submit(10)
        held = busy.tasks()
        idle = Agent(harness, "idle", capacity=10)
        harness.advance(1)
        assert busy.take(m.TaskRecall) == []
        harness.advance(1.5)
        (recall,) = busy.take(m.TaskRecall)
        assert recall.count == 5
        busy.send(m.TaskReturn(client.id, [n for _, n, _ in held[5:]], [a for _, _, a in held[5:]]))
        assert [number for _, number, _ in idle.tasks()] == numbers[5:]

    def test_tasks_that_no_idle_worker_has_the_capabilities_for_stay(self) -> None:
        harness = Harness(load_balance_seconds=1, load_balance_trigger_times=2)
        client, gpu = Client(harness, "client"), Agent(harness, "gpu", capacity=10, capabilities=(("gpu", 1),))
        Agent(harness, "idle", capacity=10)
        client.define()
        client.submit(10, capabilities=(("gpu", -1),))
        harness.advance(10)
        assert gpu.take(m.TaskRecall) == []
        more_gpu = Agent(harness, "more", capacity=10, capabilities=(("gpu", 1), ("linux", -1)))
        harness.advance(3)
        assert [recall.count for recall in gpu.take(m.TaskRecall)][:1] == [6]
        assert more_gpu.take(m.TaskRecall) == []

    def test_tasks_that_idle_workers_cannot_run_keep_nobody_from_balancing(self) -> None:
        harness = Harness(load_balance_seconds=1, load_balance_trigger_times=2)
        client = Client(harness, "client")
        Agent(harness, "gpu", capacity=1, capabilities=(("gpu", 1),))
        busy = Agent(harness, "busy", capacity=10)
        client.define()
        # One more than the worker that can run them takes: it waits at the scheduler.
        client.submit(2, capabilities=(("gpu", -1),))
        client.submit(10)
        assert len(busy.tasks()) == 10
        Agent(harness, "idle", capacity=10)
        harness.advance(3)
        assert busy.take(m.TaskRecall) != []

    def test_nobody_is_disturbed_while_no_worker_is_idle(self) -> None:
        harness = Harness()
        client = Client(harness, "client")
        first, second = Agent(harness, "first", capacity=10), Agent(harness, "second", capacity=10)
        client.define()
        client.submit(10)
        harness.advance(5)
        assert first.take(m.TaskRecall) == second.take(m.TaskRecall) == []


class TestClientsThatGo:
    def test_their_tasks_end_everywhere(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        client.submit(5)
        client.connection.close("done")
        harness.settle()
        assert [gone.client for gone in agent.take(m.ClientGone)] == [client.id]
        assert [type(message) for message in harness.to_store()] == [m.ClientGone]
        assert harness.count("ready") == 0
        assert harness.count("functions") == 0

    def test_a_silent_client_is_given_up_and_its_objects_are_kept_for_a_while(self) -> None:
        harness = Harness(client_timeout_seconds=10, object_retention_seconds=30)
        client = Client(harness, "client")
        client.define()
        client.submit()
        assert harness.core.known_clients() == (client.id,)
        harness.vanish(client)
        harness.advance(12)
        assert not harness.seen(client)
        assert harness.to_store() == []
        # Its end has still to be told.
        assert harness.core.known_clients() == (client.id,)
        harness.advance(31)
        assert harness.to_store() == [m.ClientGone(client.id)]
        assert harness.core.known_clients() == ()

    def test_a_client_of_which_agents_speak_is_known_until_it_did_not_come_back(self) -> None:
        harness = Harness(client_timeout_seconds=10)
        agent = Agent(harness, "agent")
        absent = identity("absent")
        agent.send(m.Inventory(absent, [1], [1], [0]))
        assert harness.core.known_clients() == (absent,)
        harness.advance(12)
        assert harness.to_store() == [m.ClientGone(absent)]
        assert harness.core.known_clients() == ()

    def test_objects_of_a_client_that_did_not_keep_up_are_kept_and_stay_when_it_is_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness, client = self._with_a_client_behind(monkeypatch)
        session = harness.seen(client)["session"]
        client.hears = True
        harness.advance(2)
        assert harness.seen(client)["session"] > session
        harness.advance(31)
        assert harness.to_store() == []

    def test_objects_of_a_client_that_did_not_keep_up_end_when_it_stays_away(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness, client = self._with_a_client_behind(monkeypatch)
        harness.vanish(client)
        harness.advance(2)
        assert not harness.seen(client)
        assert harness.to_store() == []
        harness.advance(31)
        assert harness.to_store() == [m.ClientGone(client.id)]

    def _with_a_client_behind(self, monkeypatch: pytest.MonkeyPatch) -> tuple[Harness, Client]:
        """Return a client for which more results wait than its session may hold."""
        monkeypatch.setattr("scaler_scheduler.core.sessions.Session", partial(Session, outbox_bytes_max=10_000))
        harness = Harness(object_retention_seconds=30)
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        client.submit(2)
        client.hears = False
        for task in agent.tasks():
            agent.answer([task], payload=bytes(8_000))
        return harness, client

    def test_a_nested_client_ends_with_its_agent(self) -> None:
        harness = Harness(worker_timeout_seconds=10)
        agent = Agent(harness, "agent")
        nested = Client(harness, "nested", relayed_by=agent)
        assert nested.connection.established
        nested.define()
        nested.submit()
        harness.vanish(agent)
        harness.vanish(nested)
        harness.advance(12)
        assert not harness.snapshot()["clients"]

    def test_what_goes_to_a_nested_client_does_not_announce_what_follows_it(self) -> None:
        harness = Harness()
        agent = Agent(harness, "agent", capacity=1)
        nested = Client(harness, "nested", relayed_by=agent)
        nested.define()
        nested.submit(2)
        heartbeats = harness.snapshot()["received"].get("Heartbeat", 0)
        # One turn sends the result to the client, by way of the agent, and then the next task to the agent itself.
        agent.answer(agent.tasks())
        assert len(nested.results()) == 1
        assert len(agent.tasks()) == 1
        # The agent missed nothing, so it asked for nothing.
        assert harness.snapshot()["received"].get("Heartbeat", 0) == heartbeats

    def test_only_its_own_agent_can_end_a_nested_client(self) -> None:
        harness = Harness()
        agent, other = Agent(harness, "agent"), Agent(harness, "other")
        nested = Client(harness, "nested", relayed_by=agent)
        other.send(m.ClientGone(nested.id))
        assert harness.seen(nested)
        agent.send(m.ClientGone(nested.id))
        assert not harness.seen(nested)


class TestBadPeers:
    @pytest.mark.parametrize(
        "message",
        [
            m.ResultBatch(identity("client"), [1], [1], Packed.of([b"P"])),
            m.TaskReturn(identity("client"), [1], [1]),
            m.Drain(),
            m.TaskBatch(identity("other"), [1], (FUNCTION,), Packed.of([b"P"])),
            m.TaskBatch(identity("client"), [1], (b"?" * 16,), Packed.of([b"P"])),
            m.CreditGrant(3),
        ],
        ids=lambda message: type(message).__name__,
    )
    def test_a_client_that_breaks_the_rules_loses_its_session_and_nothing_else_happens(
        self, message: m.Message
    ) -> None:
        harness = Harness()
        other = Client(harness, "other")
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        other.define()
        other.submit()
        client.connection.send(message)
        epoch = harness.seen(client)["session"]
        harness.settle()
        assert harness.seen(client)["session"] > epoch
        assert len(agent.tasks()) == 1

    def test_an_agent_cannot_submit(self) -> None:
        harness = Harness()
        agent = Agent(harness, "agent")
        agent.send(m.TaskBatch(agent.id, [1], (FUNCTION,), Packed.of([b"P"])))
        assert not harness.snapshot()["clients"]

    def test_shutdown_of_a_protected_scheduler_is_refused_with_a_notice(self) -> None:
        harness = Harness(protected=True)
        client = Client(harness, "client")
        client.send(m.Shutdown())
        (notice,) = client.take(m.Notice)
        assert notice.kind == "protected"
        assert not harness.snapshot()["stopping"]


def test_versions_must_match() -> None:
    harness = Harness()
    agent = Agent(harness, "agent")
    wrong_protocol = m.Hello(m.Role.CLIENT, "old", identity("old"), protocol_version=99)
    wrong_python = m.Hello(m.Role.CLIENT, "snake", identity("snake"), python_version="2.7")
    for hello, words in ((wrong_protocol, f"protocol version {PROTOCOL_VERSION}"), (wrong_python, "Python 2.7")):
        from harness import Peer

        peer = Peer(harness, hello.incarnation, hello)
        (event,) = peer.received
        assert isinstance(event, RefusedByPeer)
        assert words in event.reason
    assert agent.connection.established


def test_a_client_without_pickles_needs_no_python_version() -> None:
    harness = Harness()
    early = Peer(harness, identity("early"), m.Hello(m.Role.CLIENT, "early", identity("early"), python_version=""))
    agent = Agent(harness, "agent")
    late = Peer(harness, identity("late"), m.Hello(m.Role.CLIENT, "late", identity("late"), python_version=""))
    assert early.connection.established
    assert late.connection.established
    other = Peer(harness, identity("other"), m.Hello(m.Role.AGENT, "other", identity("other"), python_version=""))
    assert not other.connection.established
    assert agent.connection.established


def test_the_first_agent_decides_about_the_python_version() -> None:
    harness = Harness()
    snake = Peer(harness, identity("snake"), m.Hello(m.Role.CLIENT, "snake", identity("snake"), python_version="2.7"))
    assert snake.connection.established
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    (refused,) = snake.take(RefusedByPeer)
    assert "Python 2.7 does not fit this cluster, where agent runs" in refused.reason
    client.define()
    client.submit(1)
    assert agent.run_all() == [1]


def test_shutdown_tells_everybody() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.send(m.Shutdown())
    assert len(agent.take(m.Shutdown)) == len(client.take(m.Shutdown)) == 1
    assert any(isinstance(message, m.Shutdown) for message in harness.to_store())
    harness.core.handle(events.StopRequested("again"), harness.now)
    assert harness.core.take_effects() == []


def test_a_scheduler_that_is_stopped_leaves_the_cluster_standing_for_its_successor() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    harness.core.handle(events.StopRequested("SIGTERM"), harness.now)
    harness.settle()
    assert agent.take(m.Shutdown) == client.take(m.Shutdown) == []
    assert any(isinstance(effect, effects.Stop) for effect in harness.other_effects)


def test_a_scheduler_without_successor_ends_the_cluster_when_it_is_stopped() -> None:
    harness = Harness(ends_cluster=True)
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    assert client.connection.welcome is not None
    assert client.connection.welcome.ends_cluster
    harness.core.handle(events.StopRequested("SIGTERM"), harness.now)
    harness.settle()
    assert len(agent.take(m.Shutdown)) == len(client.take(m.Shutdown)) == 1
    assert any(isinstance(effect, effects.Stop) for effect in harness.other_effects)


def test_clients_hear_of_the_end_before_the_workers_do() -> None:
    harness = Harness(ends_cluster=True)
    client, agent = Client(harness, "client"), Agent(harness, "agent")
    client.define()
    client.submit()
    assert len(agent.tasks()) == 1
    harness.core.handle(events.StopAnnounced("SIGTERM"), harness.now)
    harness.settle()
    assert [message.text for message in client.take(m.Shutdown)] == ["SIGTERM"]
    assert agent.take(m.Shutdown) == []
    assert agent.take(m.TaskCancel) == []
    assert not any(isinstance(effect, effects.Stop) for effect in harness.other_effects)
    # Nobody waits for what has not started, nor begins to.
    client.submit()
    assert agent.tasks() == []
    (refused,) = Client(harness, "late").received
    assert isinstance(refused, RefusedByPeer)
    assert "stopping" in refused.reason
    harness.core.handle(events.StopRequested("SIGTERM"), harness.now)
    harness.settle()
    assert client.take(m.Shutdown) == []
    assert len(agent.take(m.Shutdown)) == 1
    assert any(isinstance(effect, effects.Stop) for effect in harness.other_effects)


def test_a_stop_that_is_announced_says_nothing_where_a_successor_may_come() -> None:
    harness = Harness()
    client = Client(harness, "client")
    harness.core.handle(events.StopAnnounced("SIGTERM"), harness.now)
    harness.settle()
    assert client.take(m.Shutdown) == []
    client.define()
    client.submit()
    assert len(Agent(harness, "agent").tasks()) == 1


class TestClosedConnections:
    def test_an_agent_whose_connection_closes_is_given_up_soon(self) -> None:
        harness = Harness(worker_timeout_seconds=60, disconnect_grace_seconds=5)
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        (number,) = client.submit()
        harness.vanish(agent)
        harness.core.handle(events.PeerUnreachable(agent.id, "gone"), harness.now)
        harness.advance(6)
        other = Agent(harness, "other")
        assert other.tasks() == [(client.id, number, 2)]

    def test_one_that_comes_back_keeps_its_tasks(self) -> None:
        harness = Harness(worker_timeout_seconds=60, disconnect_grace_seconds=5)
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        client.submit()
        tasks = agent.tasks()
        harness.core.handle(events.PeerUnreachable(agent.id, "gone"), harness.now)
        harness.advance(20)
        agent.answer(tasks)
        assert len(client.results()) == 1

    def test_after_a_long_silence_only_the_timeout_counts(self) -> None:
        harness = Harness(worker_timeout_seconds=60, disconnect_grace_seconds=5)
        agent = Agent(harness, "agent")
        harness.vanish(agent)
        harness.advance(20)
        harness.core.handle(events.PeerUnreachable(agent.id, "no answer"), harness.now)
        harness.advance(20)
        assert len(harness.snapshot()["agents"]) == 1
        harness.advance(25)
        assert len(harness.snapshot()["agents"]) == 0


class TestRestart:
    """The scheduler's state is soft: clients and agents bring it back."""

    def restarted(self, harness: Harness, **config: Any) -> None:
        harness.core = SchedulerCore(SchedulerConfig(incarnation=identity("second"), **config), harness.now)

    def test_what_agents_hold_is_adopted_and_the_rest_runs_after_the_grace(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=3)
        client.define()
        batch = client.batch(6)
        client.send(batch)
        held = agent.tasks()
        self.restarted(harness, recovery_grace_seconds=5)
        agent.answer(held[:1])
        agent.capacity = 10
        harness.advance(3)
        assert client.connection.established
        assert len(client.take(m.Welcome)) == 2
        # The agent comes first: one result the client never saw, two tasks it still holds.
        agent.send(m.Inventory(client.id, [n for _, n, _ in held[1:]], [1, 1], [0, 1]))
        agent.answer(held[:1])
        batch.flags = m.TaskFlag.REANNOUNCED
        client.define()
        client.send(batch)
        assert list(client.results()) == [held[0][1]]
        assert agent.tasks() == []
        agent.answer(held[1:])
        assert sorted(client.results()) == sorted(n for _, n, _ in held[1:])
        harness.advance(5)
        assert sorted(agent.run_all()) == list(batch.numbers[3:])
        assert sorted(client.results()) == list(batch.numbers[3:])

    def test_what_an_agent_gives_back_before_its_client_is_there_runs_elsewhere(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=3)
        client.define()
        batch = client.batch(2)
        client.send(batch)
        held = agent.tasks()
        self.restarted(harness, recovery_grace_seconds=5)
        agent.capacity = 10
        harness.advance(3)
        agent.send(m.Inventory(client.id, [n for _, n, _ in held], [1, 1], [0, 0]))
        agent.send(m.TaskReturn(client.id, [held[1][1]], [1]))
        batch.flags = m.TaskFlag.REANNOUNCED
        client.define()
        client.send(batch)
        harness.advance(5)
        assert [n for _, n, _ in agent.tasks()] == [held[1][1]]
        agent.answer(held)
        assert sorted(client.results()) == list(batch.numbers)

    def test_a_late_agent_is_told_to_stop_what_runs_elsewhere(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent")
        client.define()
        batch = client.batch(1)
        client.send(batch)
        ((_, number, _),) = agent.tasks()
        harness.vanish(agent)
        self.restarted(harness, recovery_grace_seconds=5)
        harness.advance(3)
        batch.flags = m.TaskFlag.REANNOUNCED
        client.define()
        client.send(batch)
        other = Agent(harness, "other")
        harness.advance(5)
        assert [n for _, n, _ in other.tasks()] == [number]
        late = Agent(harness, "late")
        late.send(m.Inventory(client.id, [number], [1], [1]))
        (cancel,) = late.take(m.TaskCancel)
        assert list(cancel.numbers) == [number]

    @pytest.mark.parametrize("portions_before", [0, 1, 2, 3])
    def test_an_inventory_in_portions_is_adopted_whenever_its_client_comes(self, portions_before: int) -> None:
        harness = Harness()
        rows = 2 * PORTION_ROWS + 9
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=rows)
        client.define()
        batch = client.batch(rows + 20)
        client.send(batch)
        held = agent.tasks()
        assert len(held) == rows
        self.restarted(harness, recovery_grace_seconds=5)
        agent.capacity = 0
        harness.advance(3)
        inventory = m.Inventory(client.id, [n for _, n, _ in held], [1] * rows, [0] * rows)
        portions = list(portions_of(inventory))
        assert len(portions) == 3
        for portion in portions[:portions_before]:
            agent.send(portion)
        batch.flags = m.TaskFlag.REANNOUNCED
        client.define()
        client.send(batch)
        for portion in portions[portions_before:]:
            agent.send(portion)
        assert agent.take(m.TaskCancel) == []
        other = Agent(harness, "other", capacity=1000)
        harness.advance(5)
        assert sorted(n for _, n, _ in other.tasks()) == list(batch.numbers[rows:])
        agent.answer(held)
        assert sorted(client.results()) == sorted(n for _, n, _ in held)

    def test_claims_that_their_client_does_not_announce_are_stopped_in_portions(self) -> None:
        harness = Harness(client_timeout_seconds=10)
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=0)
        harness.vanish(client)
        harness.advance(15)
        rows = PORTION_ROWS + 9
        numbers = list(range(1, rows + 1))
        for portion in portions_of(m.Inventory(client.id, numbers, [n % 5 for n in numbers], [0] * rows)):
            agent.send(portion)
        assert agent.take(m.TaskCancel) == []
        Client(harness, "client")
        harness.advance(30)
        stopped = agent.take(m.TaskCancel)
        assert [len(message.numbers) for message in stopped] == [PORTION_ROWS, 9]
        told = [row for message in stopped for row in zip(message.numbers, message.attempts, strict=True)]
        assert told == [(n, n % 5) for n in numbers]

    def test_an_agent_that_dies_between_portions_leaves_no_claims(self) -> None:
        harness = Harness(worker_timeout_seconds=10)
        rows = 2 * PORTION_ROWS
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=rows)
        client.define()
        batch = client.batch(rows)
        client.send(batch)
        held = agent.tasks()
        self.restarted(harness, recovery_grace_seconds=5, worker_timeout_seconds=10)
        harness.advance(3)
        inventory = m.Inventory(client.id, [n for _, n, _ in held], [1] * rows, [0] * rows)
        agent.send(next(portions_of(inventory)))
        harness.vanish(agent)
        harness.advance(12)
        batch.flags = m.TaskFlag.REANNOUNCED
        client.define()
        client.send(batch)
        other = Agent(harness, "other", capacity=rows)
        harness.advance(6)
        assert sorted(n for _, n, _ in other.tasks()) == list(batch.numbers)
        assert harness.count("absent_clients") == 0

    def test_what_is_not_wanted_of_a_long_inventory_is_stopped_in_portions(self) -> None:
        harness = Harness()
        client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=0)
        client.define()
        client.submit()
        harness.advance(harness.core.config.recovery_grace_seconds + 60)
        rows = 2 * PORTION_ROWS + 3
        # Of a peer that sends it all at once.
        agent.send(m.Inventory(client.id, range(1000, 1000 + rows), [1] * rows, [0] * rows))
        cancels = agent.take(m.TaskCancel)
        assert [len(cancel.numbers) for cancel in cancels] == [PORTION_ROWS, PORTION_ROWS, 3]
        assert [n for cancel in cancels for n in cancel.numbers] == list(range(1000, 1000 + rows))

    def test_tasks_of_a_client_that_never_returns_are_dropped(self) -> None:
        harness = Harness(client_timeout_seconds=20)
        agent = Agent(harness, "agent")
        agent.send(m.Inventory(identity("ghost"), [1, 2], [1, 1], [0, 1]))
        harness.advance(25)
        assert [gone.client for gone in agent.take(m.ClientGone)] == [identity("ghost")]
        assert harness.count("absent_clients") == 0


def test_a_claimed_task_that_comes_back_is_queued_once() -> None:
    harness = Harness()
    client, holder = Client(harness, "client"), Agent(harness, "holder", capacity=0)
    client.define()
    numbers = client.submit(3, flags=m.TaskFlag.REANNOUNCED)
    harness.advance(harness.core.config.recovery_grace_seconds + 1)
    holder.send(m.Inventory(client.id, numbers[:1], [1], [1]))
    holder.send(m.TaskReturn(client.id, numbers[:1], [1]))
    agent = Agent(harness, "agent", capacity=10)
    assert agent.tasks() == [(client.id, numbers[0], 2), (client.id, numbers[1], 1), (client.id, numbers[2], 1)]


def test_results_that_name_a_task_twice_count_it_once() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=2)
    client.define()
    (number, _) = client.submit(2)
    agent.send(m.ResultBatch(client.id, [number, number], [1, 1], Packed.of([b"P", b"P"]), capacity=2))
    seen = harness.seen(client)
    assert (seen["unfinished"], seen["assigned"], seen["finished"]) == (1, 1, 1)


def test_a_peer_that_missed_a_message_is_given_up_even_though_it_speaks() -> None:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", capacity=3)
    client.define()
    session = harness.seen(client)["session"]
    client.submit(3)
    large = bytes(OUTBOX_BYTES_MAX // 2 + 1)
    client.hears = False
    for task in agent.tasks():
        agent.send(m.ResultBatch(task[0], [task[1]], [task[2]], Packed((len(large),), large), capacity=3))
    client.connection.heartbeat(m.Heartbeat(), harness.now)
    harness.settle()
    assert harness.seen(client)["session"] == session
    client.hears = True
    harness.core.handle(events.Tick(), harness.now + 0.5)
    harness.settle()
    assert harness.seen(client)["session"] > session


def test_a_nested_client_is_reached_through_its_agent() -> None:
    harness = Harness()
    agent = Agent(harness, "agent", capacity=5)
    nested = Client(harness, "nested", relayed_by=agent)
    assert isinstance(nested.peer, events.RelayedPeer)
    nested.define()
    (number,) = nested.submit(1, depth=1)
    agent.answer(agent.tasks())
    assert list(nested.results()) == [number]


@pytest.mark.parametrize("status", [m.Status.PROCESSOR_DIED, m.Status.SKIPPED, m.Status.RETRY])
@pytest.mark.parametrize("kind", ["single", "graph", "linked"])
def test_a_task_that_died_at_two_agents_before_its_client_is_back_is_at_neither(kind: str, status: m.Status) -> None:
    harness = Harness(recovery_grace_seconds=10)
    one, other = Agent(harness, "one", capacity=0), Agent(harness, "other", capacity=0)
    task = (identity("client"), 1)
    # It was given to the other one when the first could not be reached.
    one.answer([(*task, 1)], status, b"1")
    other.send(m.Inventory(task[0], [1], [2], [1]))
    other.answer([(*task, 2)], status, b"2")
    client = Client(harness, "client")
    client.define()
    if kind == "single":
        client.submit(1, flags=m.TaskFlag.REANNOUNCED)
    elif kind == "graph":
        client.next_number = 2
        client.send(
            m.GraphSubmit(client.id, 1, (FUNCTION,), Packed.of([b"P"]), [0], [], [0], flags=m.TaskFlag.REANNOUNCED)
        )
    else:
        client.next_number = 50
        (needed,) = client.submit(1)
        client.next_number = 1
        link(client, needed, flags=m.TaskFlag.REANNOUNCED)
    other.capacity = 9
    harness.advance(12)
    given = [number for _, number, _ in other.tasks()]
    if status is m.Status.RETRY and kind == "single":
        # Without retries it has failed, and its error is the last one.
        assert (client.results(), given) == ({1: (m.Status.FAILED, b"2")}, [])
    else:
        # One that needs another goes with it.
        assert (client.results(), given) == ({}, [50, 1] if kind == "linked" else [1])


@pytest.mark.parametrize("status", [m.Status.TIMED_OUT, m.Status.PROCESSOR_DIED, m.Status.RETRY])
def test_a_later_attempt_may_have_succeeded_before_its_client_is_back(status: m.Status) -> None:
    harness = Harness(recovery_grace_seconds=10)
    one, other = Agent(harness, "one", capacity=0), Agent(harness, "other", capacity=0)
    one.answer([(identity("client"), 1, 1)], status, b"first")
    other.answer([(identity("client"), 1, 2)], payload=b"Psecond")
    client = Client(harness, "client")
    client.define()
    client.submit(1, flags=m.TaskFlag.REANNOUNCED)
    assert client.results() == {1: (0, b"Psecond")}


def test_a_result_gives_way_only_to_that_of_a_later_attempt() -> None:
    harness = Harness(recovery_grace_seconds=10)
    one, other = Agent(harness, "one", capacity=0), Agent(harness, "other", capacity=0)
    client_id = identity("client")
    for number in (1, 2):
        other.answer([(client_id, number, 2)], m.Status.SUCCESS if number == 1 else m.Status.SKIPPED, b"Pother")
        one.answer([(client_id, number, 3 if number == 1 else 1)], payload=b"Pone")
    client = Client(harness, "client")
    client.define()
    client.submit(2, flags=m.TaskFlag.REANNOUNCED)
    assert client.results() == {1: (0, b"Pother")}
    other.capacity = 9
    harness.advance(12)
    assert other.tasks() == [(client.id, 2, 1)]


def test_a_client_that_comes_back_is_not_ended_at_the_object_storage_server() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.connection.close("done")
    harness.settle()
    assert harness.to_store() == [m.ClientGone(client.id)]
    harness.other_effects.clear()
    Client(harness, "client")
    assert effects.KeepOwner(client.id) in harness.other_effects


def test_a_task_may_come_back_more_often_than_its_number_of_attempts_can_say() -> None:
    harness = Harness()
    client, holder = Client(harness, "client"), Agent(harness, "holder", capacity=0)
    client.define()
    (number,) = client.submit(1, flags=m.TaskFlag.REANNOUNCED)
    holder.send(m.Inventory(client.id, [number], [0xFFFE], [1]))
    agent = Agent(harness, "agent", capacity=4)
    holder.send(m.TaskReturn(client.id, [number], [0xFFFE]))
    for attempt, following in ((0xFFFF, 1), (1, 2)):
        assert agent.tasks() == [(client.id, number, attempt)]
        agent.send(m.TaskReturn(client.id, [number], [attempt]))
        assert harness.seen(client)["tasks"][0]["times_assigned"] == following
    agent.answer(agent.tasks())
    assert client.results() == {number: (m.Status.SUCCESS, b"Presult")}
