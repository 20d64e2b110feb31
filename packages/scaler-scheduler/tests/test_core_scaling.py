"""Workers come when there is work and go when there is none: the core with worker adapters that fail in every way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import Agent, Client, Harness

from scaler_protocol.capabilities import pin_to
from scaler_protocol.runtime.resources import parse_amounts
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions, encode_record, join_records
from scaler_scheduler.core import ScalingConfig, effects, events

URL = "http://adapter:8080"
COOL_DOWN = 5.0


class PretendedAdapter:
    """Answers webhook calls as the standard says, and has its workers connect after a while."""

    def __init__(self, cluster: ElasticCluster, url: str, groups_max: int = -1, offers: tuple[str, ...] = ()) -> None:
        self.cluster = cluster
        self.url = url
        self.groups_max = groups_max
        self.offers = offers
        self.groups: dict[str, Agent | None] = {}
        self.requests: dict[str, str] = {}
        self.capabilities: dict[str, tuple[str, ...]] = {}
        self.start_s = 2.0
        self.arrives = True
        self.pending = False
        self.states: dict[str, str] = {}
        self.lists = True
        self.extra_rows: list[Any] = []
        self.calls: list[str] = []
        self.stopped: list[str] = []
        self.fault: Callable[[effects.CallWebhook], tuple[int, Any] | str | None] = lambda call: None
        self.after_fault: Callable[[effects.CallWebhook], tuple[int, Any] | str | None] = lambda call: None

    def answer(self, call: effects.CallWebhook) -> tuple[int, Any] | str:
        action = "list" if call.body is None else str(call.body["action"])
        self.calls.append(action)
        fault = self.fault(call)
        if fault is not None:
            return fault
        answer = getattr(self, f"_{action}")(call)
        return self.after_fault(call) or answer

    def _get_worker_adapter_info(self, _call: effects.CallWebhook) -> tuple[int, Any]:
        return 200, {
            "max_worker_groups": self.groups_max,
            "workers_per_group": 1,
            "base_capabilities": dict.fromkeys(self.offers, -1),
        }

    def _list(self, _call: effects.CallWebhook) -> tuple[int, Any]:
        if not self.lists:
            return 405, None
        rows = [self._row(group_id) for group_id in self.groups]
        return 200, {"worker_groups": rows + self.extra_rows}

    def _row(self, group_id: str) -> dict[str, Any]:
        return {
            "worker_group_id": group_id,
            "worker_ids": [f"{group_id}-0"],
            "capabilities": dict.fromkeys((*self.offers, *self.capabilities[group_id]), -1),
            "state": self.states.get(group_id, "pending" if self.pending else "running"),
        }

    def _start_worker_group(self, call: effects.CallWebhook) -> tuple[int, Any]:
        assert call.body is not None
        metadata: Any = call.body["metadata"]
        wanted: Any = call.body.get("capabilities", {})
        request_id = metadata["request_id"]
        if request_id not in self.requests:
            if 0 <= self.groups_max <= len(self.groups):
                return 429, {"error": "full"}
            group_id = self.requests[request_id] = f"g{len(self.requests) + 1}"
            self.groups[group_id] = None
            self.capabilities[group_id] = tuple(wanted)
            if self.arrives:
                self.cluster.later(self.start_s, lambda: self._arrive(group_id))
        group_id = self.requests[request_id]
        return 200, {"status": "success", **self._row(group_id)}

    def _arrive(self, group_id: str) -> None:
        if group_id in self.groups:
            capabilities = tuple((name, -1) for name in sorted({*self.offers, *self.capabilities[group_id]}))
            self.groups[group_id] = self.cluster.agent(group_id, capabilities)

    def _shutdown_worker_group(self, call: effects.CallWebhook) -> tuple[int, Any]:
        assert call.body is not None
        group_id = str(call.body["worker_group_id"])
        if group_id not in self.groups:
            return 404, {"error": "no such group"}
        agent = self.groups.pop(group_id)
        assert agent not in self.cluster.running, "stopped before it was drained"
        self.stopped.append(group_id)
        return 200, {"status": "success", "worker_group_id": group_id}


class ElasticCluster:
    """A scheduler core, pretended adapters, and agents that take `task_s` for every task."""

    def __init__(self, strategy: str = "vanilla", adapters: int = 1, task_s: float = 1.0, **config: Any) -> None:
        urls = tuple(f"{URL}/{index}" for index in range(adapters))
        scaling = ScalingConfig(strategy, urls, arrival_seconds=20.0)
        self.harness = Harness(scaling=scaling, scaling_cool_down_seconds=COOL_DOWN, **config)
        self.adapters = [PretendedAdapter(self, url) for url in urls]
        self.task_s = task_s
        self.answer_s = 0.05
        self.start_answer_s = 0.05
        self.logs: list[str] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.running: dict[Agent | None, tuple[float, tuple[bytes, int, int]]] = {}
        self._queued: dict[Agent, list[tuple[bytes, int, int]]] = {}
        self._draining: set[Agent] = set()

    @property
    def adapter(self) -> PretendedAdapter:
        return self.adapters[0]

    def known_groups(self) -> list[dict[str, Any]]:
        """The groups of the first adapter, as the core knows them."""
        return list(self.harness.snapshot()["adapters"][0]["groups"])

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append((self.harness.now + seconds, action))

    def agent(self, group_id: str, capabilities: m.Capabilities = ()) -> Agent:
        agent = Agent(self.harness, group_id, capacity=1, capabilities=capabilities)
        self._queued[agent] = []
        return agent

    @property
    def agents(self) -> list[Agent]:
        return [agent for agent in self._queued if agent.peer in self.harness.peers]

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, up to `seconds`; return whether `until` became true."""
        end = self.harness.now + seconds
        while self.harness.now < end:
            if until():
                return True
            self.harness.advance(0.1, step=0.1)
            self._call_webhooks()
            due = [action for when, action in self._timers if when <= self.harness.now]
            self._timers = [(when, action) for when, action in self._timers if when > self.harness.now]
            for action in due:
                action()
            for agent in self.agents:
                self._work(agent)
        return until()

    def kill(self, agent: Agent) -> None:
        """The worker is gone, and its connection with it."""
        self.running.pop(agent, None)
        agent.connection.close("killed")
        self.harness.settle()
        self.harness.vanish(agent)

    def _call_webhooks(self) -> None:
        due, self.harness.other_effects = self.harness.other_effects, []
        for effect in due:
            if isinstance(effect, effects.Log):
                self.logs.append(effect.text)
            elif isinstance(effect, effects.CallWebhook):
                adapter = next(adapter for adapter in self.adapters if adapter.url == effect.url)
                answer = adapter.answer(effect)
                event = (
                    events.WebhookFailed(effect.call, answer)
                    if isinstance(answer, str)
                    else events.WebhookAnswered(effect.call, *answer)
                )
                starts = effect.body is not None and effect.body["action"] == "start_worker_group"
                seconds = self.start_answer_s if starts else self.answer_s
                self.later(seconds, lambda event=event: self._report(event))  # type: ignore[misc]
            else:
                self.harness.other_effects.append(effect)

    def _report(self, event: events.WebhookAnswered | events.WebhookFailed) -> None:
        self.harness.core.handle(event, self.harness.now)
        self.harness.settle()

    def _work(self, agent: Agent) -> None:
        queued = self._queued[agent]
        queued += agent.tasks()
        running = self.running.get(agent)
        if running is not None and self.harness.now >= running[0]:
            del self.running[agent]
            agent.answer([running[1]], durations=[int(self.task_s * 1e6)])
        if agent.take(m.Drain):
            self._draining.add(agent)
            agent.send(m.Drain())
            for client, number, attempt in queued:
                agent.send(m.TaskReturn(client, [number], [attempt]))
            queued.clear()
        if agent not in self.running and queued:
            self.running[agent] = (self.harness.now + self.task_s, queued.pop(0))
        if agent in self._draining and agent not in self.running:
            agent.connection.close("drained")
            self.harness.settle()
            self.harness.vanish(agent)


@pytest.fixture
def cluster() -> ElasticCluster:
    return ElasticCluster()


def client_of(cluster: ElasticCluster) -> Client:
    client = Client(cluster.harness, "client")
    client.define()
    return client


def test_workers_come_with_work_and_go_without(cluster: ElasticCluster) -> None:
    client = client_of(cluster)
    cluster.run(3.0)
    assert cluster.adapter.groups == {}
    client.submit(60)
    results: dict[int, Any] = {}

    def all_done() -> bool:
        results.update(client.results())
        return len(results) == 60

    assert cluster.run(60.0, all_done)
    assert len(cluster.adapter.groups) > 5
    assert not cluster.adapter.stopped, "nothing is stopped while work waits"
    assert cluster.run(COOL_DOWN + 10.0, lambda: not cluster.adapter.groups)
    assert all(status == m.Status.SUCCESS for status, _ in results.values())
    starts = cluster.adapter.calls.count("start_worker_group")
    cluster.run(30.0)
    assert cluster.adapter.calls.count("start_worker_group") == starts


@pytest.mark.parametrize("strategy", ["vanilla", "capability"])
def test_tasks_that_wait_for_one_worker_bring_no_others(strategy: str) -> None:
    cluster = ElasticCluster(strategy, task_s=1000.0)
    client = client_of(cluster)
    agent = cluster.agent("standing")
    client.submit(40, capabilities=pin_to(agent.id, 0))
    cluster.run(30.0)
    assert "start_worker_group" not in cluster.adapter.calls


def test_no_more_groups_than_the_adapter_has(cluster: ElasticCluster) -> None:
    cluster.adapter.groups_max = 3
    client_of(cluster).submit(100)
    cluster.run(15.0)
    assert len(cluster.adapter.groups) == 3
    assert cluster.adapter.calls.count("start_worker_group") == 3


def test_a_running_task_is_finished_before_its_worker_is_stopped() -> None:
    cluster = ElasticCluster(task_s=30.0)
    client = client_of(cluster)
    client.submit(4)
    assert cluster.run(15.0, lambda: len(cluster.adapter.groups) == 4)
    assert cluster.run(60.0, lambda: not cluster.adapter.groups)
    assert len(client.results()) == 4


def test_a_lost_answer_is_asked_for_again_and_starts_nothing_twice(cluster: ElasticCluster) -> None:
    lost = iter([True, True, False, False, False, False])

    def lose(call: effects.CallWebhook) -> str | None:
        is_start = call.body is not None and call.body["action"] == "start_worker_group"
        return "no answer within 60 s" if is_start and next(lost) else None

    cluster.adapter.after_fault = lose
    client = client_of(cluster)
    client.submit(1)
    assert cluster.run(20.0, lambda: bool(client.results()))
    assert len(cluster.adapter.requests) == 1


def test_a_group_that_is_listed_before_its_start_is_answered_is_not_one_too_many(cluster: ElasticCluster) -> None:
    cluster.start_answer_s = 8.0
    cluster.adapter.start_s = 15.0
    client = client_of(cluster)
    client.submit(1)
    assert cluster.run(60.0, lambda: bool(client.results()))
    assert cluster.adapter.stopped == []
    assert len(cluster.adapter.requests) == 1


@pytest.mark.parametrize(
    "answer",
    ["connection refused", (500, {"error": "no power"}), (200, "garbage"), (200, None), (302, None), (401, None)],
)
def test_an_adapter_in_trouble_is_asked_less_and_less_often(cluster: ElasticCluster, answer: Any) -> None:
    cluster.run(2.0)
    cluster.adapter.fault = lambda _call: answer
    client = client_of(cluster)
    client.submit(5)
    cluster.run(120.0)
    assert len(cluster.adapter.calls) < 40
    notices = client.take(m.Notice)
    assert {notice.kind for notice in notices} <= {"workers_coming", "workers_delayed"}
    cluster.adapter.fault = lambda _call: None
    assert cluster.run(120.0, lambda: len(cluster.adapter.groups) > 0 and bool(client.results()))
    assert any("answers again" in line for line in cluster.logs)


def test_no_capacity_is_believed_for_a_while(cluster: ElasticCluster) -> None:
    cluster.run(2.0)
    cluster.adapter.groups_max = 2
    client_of(cluster).submit(100)
    cluster.run(20.0)
    assert len(cluster.adapter.groups) == 2
    # One 429 each half minute, not one each half second.
    assert cluster.adapter.calls.count("start_worker_group") <= 2 + 16


@pytest.mark.parametrize("announced", [True, False], ids=["limit announced", "limit found out"])
def test_groups_that_leave_take_room_until_they_are_gone(cluster: ElasticCluster, announced: bool) -> None:
    """Work comes back just as the last workers are on their way out."""
    adapter = cluster.adapter
    if announced:
        adapter.groups_max = 2
    else:

        def full(call: effects.CallWebhook) -> tuple[int, Any] | None:
            starts = call.body is not None and call.body["action"] == "start_worker_group"
            return (429, {"error": "full"}) if starts and len(adapter.groups) >= 2 else None

        adapter.fault = full
    client = client_of(cluster)
    cluster.run(2.0)
    client.submit(20)
    assert cluster.run(60.0, lambda: len(client.results()) > 0 and len(adapter.groups) == 2)

    def both_leave() -> bool:
        return [group["leaving"] for group in cluster.known_groups()] == [True, True]

    assert cluster.run(60.0, both_leave)
    client.results()
    client.submit(20)
    asked = adapter.calls.count("start_worker_group")
    before = {*cluster.agents}
    assert cluster.run(8.0, lambda: len({*cluster.agents} - before) == 2), "they are replaced as soon as there is room"
    assert cluster.run(20.0, lambda: not cluster.harness.core.unfinished_count)
    # Two starts, and no more than the refusals that it takes to find out.
    assert adapter.calls.count("start_worker_group") - asked <= (2 if announced else 2 + 2)


def test_workers_that_never_arrive_are_noticed(cluster: ElasticCluster) -> None:
    cluster.adapter.arrives = False
    client_of(cluster).submit(5)
    cluster.run(40.0)
    assert any("no worker of group g1 connected within 20 s" in line for line in cluster.logs)
    assert "g1" in cluster.adapter.stopped


def test_workers_that_end_as_soon_as_they_arrive_are_not_started_without_end(cluster: ElasticCluster) -> None:
    cluster.task_s = 60.0
    client_of(cluster).submit(5)
    for _ in range(1200):
        cluster.run(0.1)
        for agent in cluster.agents:
            group_id = next(group_id for group_id, each in cluster.adapter.groups.items() if each is agent)
            cluster.kill(agent)
            del cluster.adapter.groups[group_id]
    # Two minutes: without pauses there would be one every few seconds.
    assert 3 <= cluster.adapter.calls.count("start_worker_group") <= 12
    assert any("none is started for" in line for line in cluster.logs)


def test_groups_that_wait_for_their_machines_are_given_time(cluster: ElasticCluster) -> None:
    cluster.adapter.pending = True
    cluster.adapter.arrives = False
    client = client_of(cluster)
    client.submit(5)
    cluster.run(60.0)
    assert list(cluster.adapter.groups) == ["g1"]
    assert [notice.kind for notice in client.take(m.Notice)] == ["workers_coming"]


def test_a_scheduler_that_starts_anew_finds_what_exists(cluster: ElasticCluster) -> None:
    for group_id in ("g1", "g2"):
        cluster.adapter.requests[group_id] = group_id
        cluster.adapter.capabilities[group_id] = ()
        cluster.adapter.groups[group_id] = cluster.agent(group_id)
    cluster.run(3.0)
    assert len(cluster.agents) == 2, "clients may come back with work"
    assert cluster.run(COOL_DOWN + 10.0, lambda: not cluster.adapter.groups)
    assert "start_worker_group" not in cluster.adapter.calls


def test_an_adapter_that_forgot_its_groups_is_believed(cluster: ElasticCluster) -> None:
    client = client_of(cluster)
    client.submit(3)
    assert cluster.run(20.0, lambda: bool(client.results()))
    for agent in cluster.agents:
        cluster.harness.vanish(agent)
    cluster.adapter.groups.clear()
    client.submit(3)
    assert cluster.run(20.0, lambda: bool(cluster.adapter.groups))


def test_a_group_whose_workers_are_gone_is_stopped_and_replaced(cluster: ElasticCluster) -> None:
    cluster.task_s = 300.0
    client = client_of(cluster)
    client.submit(1)
    assert cluster.run(20.0, lambda: bool(cluster.agents))
    cluster.kill(cluster.agents[0])
    assert cluster.run(30.0, lambda: "g1" in cluster.adapter.stopped and bool(cluster.agents))


def test_a_group_whose_machines_go_away_is_drained_and_replaced(cluster: ElasticCluster) -> None:
    cluster.task_s = 3.0
    client = client_of(cluster)
    client.submit(10)
    assert cluster.run(20.0, lambda: bool(cluster.agents))
    cluster.adapter.states["g1"] = "ending"
    assert cluster.run(30.0, lambda: "g1" in cluster.adapter.stopped and len(cluster.agents) > 0)
    done: dict[int, Any] = {}
    assert cluster.run(60.0, lambda: bool(done.update(client.results())) or len(done) == 10)


def test_an_adapter_without_a_list_works_by_its_answers(cluster: ElasticCluster) -> None:
    cluster.adapter.lists = False
    client = client_of(cluster)
    client.submit(3)
    assert cluster.run(20.0, lambda: bool(client.results()))
    assert cluster.run(COOL_DOWN + 15.0, lambda: not cluster.adapter.groups)
    assert cluster.adapter.calls.count("list") == 1


def test_rows_that_make_no_sense_are_passed_over(cluster: ElasticCluster) -> None:
    cluster.adapter.extra_rows = [None, 3, {}, {"worker_group_id": 7}, {"worker_group_id": "x", "worker_ids": 5}]
    client = client_of(cluster)
    client.submit(3)
    assert cluster.run(40.0, lambda: bool(client.results()))
    assert any("no worker of group x connected" in line for line in cluster.logs)


def test_a_request_accepted_and_not_finished_is_repeated(cluster: ElasticCluster) -> None:
    accepted = iter([True, True, True])

    def accept(call: effects.CallWebhook) -> tuple[int, Any] | None:
        is_start = call.body is not None and call.body["action"] == "start_worker_group"
        return (202, {"status": "pending"}) if is_start and next(accepted, False) else None

    cluster.adapter.fault = accept
    client = client_of(cluster)
    client.submit(1)
    assert cluster.run(20.0, lambda: bool(client.results()))
    assert cluster.adapter.calls.count("start_worker_group") == 4


def test_the_first_adapter_is_filled_first_and_the_second_shrinks_first() -> None:
    cluster = ElasticCluster("fixed_elastic", adapters=2, task_s=2.0)
    cluster.adapters[0].groups_max = 2
    client = client_of(cluster)
    client.submit(100)
    assert cluster.run(30.0, lambda: len(cluster.adapters[1].groups) >= 2)
    assert len(cluster.adapters[0].groups) == 2
    assert cluster.run(200.0, lambda: not cluster.adapters[1].groups)
    assert cluster.run(60.0, lambda: not cluster.adapters[0].groups)


def test_capabilities_are_brought_for_those_who_ask() -> None:
    cluster = ElasticCluster("capability", allocate_policy="capability")
    client = client_of(cluster)
    client.submit(2, capabilities=(("gpu", -1),))
    client.submit(2)
    assert cluster.run(20.0, lambda: set(cluster.adapter.capabilities.values()) == {("gpu",), ()})
    cluster.run(10.0)
    assert len(client.results()) == 4
    assert cluster.run(40.0, lambda: not cluster.adapter.groups)
    assert {notice.kind for notice in client.take(m.Notice)} == {"workers_coming"}


def test_a_capability_nobody_can_bring_is_told_and_ends_after_the_set_time() -> None:
    cluster = ElasticCluster("capability", allocate_policy="capability", no_worker_timeout_seconds=10.0)
    cluster.adapter.fault = lambda call: (
        (400, {"error": "no gpu here"}) if call.body is not None and "capabilities" in call.body else None
    )
    client = client_of(cluster)
    (number,) = client.submit(1, capabilities=(("gpu", -1),))
    cluster.run(8.0)
    (notice,) = client.take(m.Notice)
    assert notice.kind == "unservable"
    assert notice.level == 1
    assert "{gpu}" in notice.text
    assert "no worker adapter can bring" in notice.text
    assert not client.results()
    cluster.run(5.0)
    status, payload = client.results()[number]
    assert status == m.Status.NO_WORKER
    assert b"gave up after 10 s" in payload


def test_without_adapters_a_task_may_fail_after_the_set_time_too() -> None:
    harness = Harness(no_worker_timeout_seconds=5.0)
    client = Client(harness, "client")
    client.define()
    (number,) = client.submit(1)
    harness.advance(4.0)
    assert not client.results()
    harness.advance(2.0)
    assert client.results()[number][0] == m.Status.NO_WORKER


def test_monitors_are_told_of_adapters(cluster: ElasticCluster) -> None:
    client_of(cluster).submit(50)
    cluster.run(10.0)
    cluster.harness.core.handle(events.Tick(monitors=1), cluster.harness.now)
    cluster.harness.settle()
    published = [effect.message for effect in cluster.harness.other_effects if isinstance(effect, effects.Publish)]
    (snapshot,) = [message for message in published if isinstance(message, m.MonitorSnapshot)]
    (status,) = snapshot.adapters
    assert (status.url, status.state) == (f"{URL}/0", "ok")
    assert status.requested_groups >= status.groups > 0


def test_no_workers_are_started_for_amounts_that_never_come() -> None:
    cluster = ElasticCluster(resources="licence=1")
    client = Client(cluster.harness, "client")
    client.define()

    def submit(count: int, amounts: str) -> None:
        record = encode_record(CallOptions(resources=parse_amounts(amounts)))
        client.submit(count, options=join_records((record,)))

    submit(1, "licence=2")
    cluster.run(10.0)
    assert not cluster.adapter.groups
    # Nobody has ever offered any GPU: the first worker may.
    submit(40, "gpu=1")
    assert cluster.run(30.0, lambda: bool(cluster.adapter.groups))
    cluster.run(6 * COOL_DOWN)
    assert not cluster.adapter.groups, "it did not, so it is not kept, and no other one is started"


def test_no_more_workers_are_started_than_the_limits_of_the_cluster_let_run() -> None:
    cluster = ElasticCluster(resources="licence=2", task_s=5.0)
    client = Client(cluster.harness, "client")
    client.define()
    client.submit(50, options=join_records((encode_record(CallOptions(resources=parse_amounts("licence=1"))),)))
    cluster.run(20.0)
    assert 0 < len(cluster.adapter.groups) <= 2


def test_monitors_are_told_who_wanted_how_many_workers_and_what_came(cluster: ElasticCluster) -> None:
    client = client_of(cluster)
    client.submit(40)
    assert cluster.run(COOL_DOWN + 120, lambda: bool(cluster.adapter.stopped) and not cluster.adapter.groups)
    cluster.run(10)
    cluster.harness.core.handle(events.Tick(monitors=1, unix_time=5_000_000.0), cluster.harness.now)
    snapshots = [
        effect.message
        for effect in cluster.harness.core.take_effects()
        if isinstance(effect, effects.Publish) and isinstance(effect.message, m.MonitorSnapshot)
    ]
    told = snapshots[-1].scaling_events
    kinds = [event.kind for event in told]
    assert kinds[0] == "requested"
    assert "tasks, about" in told[0].reason
    assert "0 existed or had been asked for" in told[0].reason
    started = sum(event.groups for event in told if event.kind == "requested")
    assert started > 0
    # Every group that came has connected, was told to leave, and has ended: each is an event of its own.
    for kind in ("connected", "leaving", "ended"):
        assert kinds.count(kind) == started, (kind, told)
    assert [event.number for event in told] == list(range(1, len(told) + 1))
    assert all(told[0].time_seconds <= event.time_seconds <= 5_000_000.0 for event in told)
