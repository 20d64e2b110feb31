"""Groups of clients share core seconds by their weights, within their limits."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import Any

import pytest
from harness import FUNCTION, Agent, Client, Harness, identity

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core import events
from scaler_scheduler.core.groups import CREDIT_SECONDS, Groups
from scaler_scheduler.group_shares import GroupShare, parse_shares, share_texts

PAYLOAD = b"Presult"


class GroupClient(Client):
    """A client that names a group, and keeps so many tasks waiting that each takes a time of its own."""

    def __init__(self, harness: Harness, name: str, group: str = "", *, peer: Any = None, parent: bytes = b"") -> None:
        hello = m.Hello(m.Role.CLIENT, name, identity(name), group=group, parent=parent)
        super(Client, self).__init__(harness, identity(name) if peer is None else peer, hello)
        self.next_number = 1
        self.seconds: list[float] = [0.01]
        self.wanted = 0
        self.unfinished = 0
        self.options: dict[str, Any] = {}

    def keep_busy(self, tasks: int, *seconds: float, **options: Any) -> GroupClient:
        """Have so many tasks unfinished from now on, which take these times in turn."""
        self.wanted, self.options = tasks, options
        if seconds:
            self.seconds = list(seconds)
            self.define()
        self.refill()
        return self

    def refill(self) -> None:
        if self.wanted and self.unfinished <= self.wanted * 3 // 4:
            count = max(self.wanted - self.unfinished, 1)
            self.unfinished += count
            self.submit(count, **self.options)


class Cluster:
    """Agents that run what they hold, oldest first, one task on each slot, in virtual time."""

    def __init__(self, shares: object, *slots: int, ahead: int = 0, **config: Any) -> None:
        texts = share_texts(shares)
        assert isinstance(texts, list)
        self.harness = harness = Harness(shares=parse_shares(texts), **config)
        harness.checks_each_step = False
        self.clients: dict[bytes, GroupClient] = {}
        self.agents: list[Agent] = []
        self.held: dict[Agent, list[tuple[bytes, int, int]]] = {}
        self.free: dict[Agent, int] = {}
        for each in slots:
            self.add_agent(each, each + ahead)
        self.endings: list[tuple[float, int, Agent, tuple[bytes, int, int], float]] = []
        self.used: defaultdict[str, float] = defaultdict(float)
        self.running: Counter[str] = Counter()
        self.most_running: Counter[str] = Counter()
        self.groups: dict[bytes, str] = {}
        """By client, as far as was asked for since the last one came."""
        self.started = 0
        self.checked_at = harness.now

    def add_agent(self, slots: int, capacity: int) -> None:
        agent = Agent(self.harness, f"agent{len(self.agents)}", slots, capacity)
        self.agents.append(agent)
        self.held[agent], self.free[agent] = [], slots

    def lose_agent(self, index: int) -> None:
        """What it holds runs elsewhere."""
        agent = self.agents.pop(index)
        for at, order, other, task, took in self.endings[:]:
            if other is agent:
                self.endings.remove((at, order, other, task, took))
                self.running[self.group_of(self.clients[task[0]])] -= 1
        heapify(self.endings)
        del self.held[agent]
        agent.send(m.Goodbye("it leaves"))
        self.harness.vanish(agent)

    def client(self, name: str, group: str = "", **more: Any) -> GroupClient:
        self.groups.clear()
        client = self.clients[identity(name)] = GroupClient(self.harness, name, group, **more)
        return client

    def run(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        until = self.harness.now + seconds
        self.begin()
        while self.endings and self.endings[0][0] <= until:
            at, _, agent, task, took = heappop(self.endings)
            self.pass_time(at)
            client = self.clients[task[0]]
            client.unfinished -= 1
            self.free[agent] += 1
            group = self.group_of(client)
            self.running[group] -= 1
            agent.answer([task], payload=PAYLOAD, durations=[round(took * 1e6)])
            client.refill()
            self.begin()
            if self.harness.now > self.checked_at + 3.0:
                self.checked_at = self.harness.now
                self.harness.core.check_invariants()
                self.beat()
        self.pass_time(until)
        self.beat()

    def pass_time(self, until: float) -> None:
        for group, count in self.running.items():
            self.used[group] += count * (until - self.harness.now)
        self.harness.now = until

    def beat(self) -> None:
        self.harness.core.handle(events.Tick(), self.harness.now)
        for peer in self.harness.peers.values():
            capacity = getattr(peer, "capacity", 0)
            states = [1] if isinstance(peer, Agent) else []
            peer.connection.heartbeat(m.Heartbeat(capacity=capacity, processor_states=states), self.harness.now)
        self.harness.settle()

    def begin(self) -> None:
        for agent, held in self.held.items():
            held += agent.tasks()
            while held and self.free[agent]:
                task = held.pop(0)
                client = self.clients[task[0]]
                took = client.seconds[task[1] % len(client.seconds)]
                self.free[agent] -= 1
                group = self.group_of(client)
                self.running[group] += 1
                self.most_running[group] = max(self.most_running[group], self.running[group])
                self.started += 1
                heappush(self.endings, (self.harness.now + took, self.started, agent, task, took))

    def group_of(self, client: GroupClient) -> str:
        if client.id not in self.groups:
            named = {one: group["name"] for group in self.harness.snapshot()["groups"] for one in group["clients"]}
            self.groups[client.id] = str(named[client.id.hex()])
        return self.groups[client.id]

    def figures(self, group: str) -> dict[str, Any]:
        found = next(one for one in self.harness.snapshot()["groups"] if one["name"] == group)
        assert isinstance(found, dict)
        return found


def assert_shared(used: Mapping[str, float], weights: Mapping[str, float], within: float = 0.05) -> None:
    """Each pair of groups has core seconds in the proportion of their weights."""
    least = {group: used[group] / weight for group, weight in weights.items()}
    assert max(least.values()) <= min(least.values()) * (1 + within), f"{dict(used)} for {weights}"


@pytest.mark.parametrize("slots", [(1,), (2,), (4,), (3, 2, 8)])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((0.02,), (0.02,)),
        ((0.01,), (0.4,)),
        ((0.4,), (0.01,)),
        ((0.001, 0.3), (0.05,)),
        ((2.0, 0.01), (0.5, 0.1, 1.0)),
    ],
)
def test_core_seconds_are_shared_three_to_one(
    slots: tuple[int, ...], a: tuple[float, ...], b: tuple[float, ...]
) -> None:
    cluster = Cluster("pricing=3,research=1", *slots)
    for name, group, seconds in (("p", "pricing", a), ("r", "research", b)):
        cluster.client(name, group).keep_busy(40, *seconds)
    # The first one has had all until the second one came.
    cluster.run(3 * max(a + b))
    cluster.used.clear()
    cluster.run(max(1.0, 160 * max(a + b) / sum(slots)))
    assert_shared(cluster.used, {"pricing": 3, "research": 1})


def test_clients_of_a_group_share_what_it_has() -> None:
    cluster = Cluster("pricing=3,research=1", 4)
    cluster.client("p", "pricing").keep_busy(40, 0.05)
    for name in ("r1", "r2", "r3"):
        cluster.client(name, "research").keep_busy(40, 0.02)
    cluster.run(60)
    assert_shared(cluster.used, {"pricing": 3, "research": 1})
    finished = [cluster.harness.seen(cluster.clients[identity(name)])["finished"] for name in ("r1", "r2", "r3")]
    assert max(finished) <= 1.1 * min(finished)


def test_tasks_that_agents_hold_ahead_do_not_count_as_running_for_longer_than_they_do() -> None:
    cluster = Cluster("pricing=3,research=1", 2, ahead=50)
    cluster.client("p", "pricing").keep_busy(500, 0.001)
    cluster.client("r", "research").keep_busy(500, 0.004)
    cluster.run(3)
    assert_shared(cluster.used, {"pricing": 3, "research": 1})


def test_a_host_that_was_stuck_for_a_while_costs_no_group_its_share_afterwards() -> None:
    """While results come late, all tasks at an agent look as if they ran. A group that comes later must not wait for that."""
    cluster = Cluster("pricing=3,research=1", 4, ahead=64)
    cluster.client("p", "pricing").keep_busy(500, 0.005)
    cluster.run(1)
    cluster.harness.now += 1.0
    cluster.endings = [(at + 1.0, a, b, c, d) for at, a, b, c, d in cluster.endings]
    cluster.beat()
    cluster.run(0.5)
    cluster.client("r", "research").keep_busy(100, 0.1)
    cluster.used.clear()
    cluster.run(8)
    assert_shared(cluster.used, {"pricing": 3, "research": 1})


def test_while_a_host_is_stuck_no_more_of_its_tasks_count_as_running_than_it_has_slots() -> None:
    cluster = Cluster("pricing=3,research=1", 4, ahead=64)
    cluster.client("p", "pricing").keep_busy(500, 0.005)
    cluster.run(1)
    cluster.endings = [(at + 1.5, a, b, c, d) for at, a, b, c, d in cluster.endings]
    cluster.run(1)
    # What comes now begins beside pricing, with what that seems to have run: four core seconds, not 68.
    cluster.client("r", "research").keep_busy(100, 0.1)
    cluster.run(0.5)
    cluster.used.clear()
    cluster.run(4)
    assert cluster.used["research"] > 2.5


def test_what_nobody_else_uses_is_lent_and_nothing_is_owed_for_it() -> None:
    cluster = Cluster("pricing=3,research=1", 4)
    research = cluster.client("r", "research").keep_busy(40, 0.1)
    cluster.run(20)
    assert cluster.used["research"] == pytest.approx(80, rel=0.01)
    # From now on both wait. Research owes nothing for what it had, and pricing has saved up little.
    cluster.client("p", "pricing").keep_busy(40, 0.1)
    cluster.used.clear()
    cluster.run(5)
    assert cluster.used["pricing"] <= 3 / 4 * 4 * (5 + CREDIT_SECONDS) + 1
    cluster.run(10)
    cluster.used.clear()
    cluster.run(20)
    assert_shared(cluster.used, {"pricing": 3, "research": 1})
    # Now the other way round, with research gone for a while.
    research.keep_busy(0)
    cluster.run(20)
    research.keep_busy(40)
    cluster.run(20)
    cluster.used.clear()
    cluster.run(20)
    assert_shared(cluster.used, {"pricing": 3, "research": 1})


def test_long_tasks_keep_no_other_group_waiting_for_what_they_have_not_used_yet() -> None:
    """On four cores, three run hours of pricing and one runs research: not all four first, for as long as that takes."""
    cluster = Cluster("pricing=3,research=1")
    cluster.client("p", "pricing").keep_busy(20, 3600.0)
    cluster.client("r", "research").keep_busy(20, 1.0)
    cluster.add_agent(4, 4)
    cluster.run(60)
    assert cluster.running == {"pricing": 3, "research": 1}
    assert cluster.used["research"] == pytest.approx(60, abs=6)


def test_a_client_without_a_group_is_in_the_default_group() -> None:
    cluster = Cluster("pricing=3", 4)
    cluster.client("p", "pricing").keep_busy(40, 0.05)
    cluster.client("x").keep_busy(40, 0.05)
    cluster.run(30)
    assert_shared(cluster.used, {"pricing": 3, "default": 1})


def test_an_unknown_group_is_refused_by_name() -> None:
    cluster = Cluster("pricing=3,research=1", 1)
    lost = cluster.client("x", "prising")
    assert any(
        "no group 'prising'; the scheduler's --share names default, pricing, research" in str(got)
        for got in lost.received
    )
    assert not cluster.harness.seen(lost)


def test_without_shares_any_group_is_taken() -> None:
    harness = Harness()
    client = GroupClient(harness, "x", "pricing")
    assert harness.seen(client)
    assert harness.snapshot()["groups"] == []


def test_with_keys_the_name_of_the_key_is_the_group() -> None:
    cluster = Cluster("pricing=3,research=1", 1)
    core = cluster.harness.core
    for name, key in (("p", "pricing"), ("x", "somebody"), ("liar", "research"), ("same", "research")):
        core.note_key(identity(name), key)
    assert cluster.group_of(cluster.client("p")) == "pricing"
    assert cluster.group_of(cluster.client("x")) == "default"
    assert cluster.group_of(cluster.client("same", "research")) == "research"
    liar = cluster.client("liar", "pricing")
    words = "the key 'research' belongs to group 'research', so this client cannot be in 'pricing'"
    assert any(words in str(got) for got in liar.received)
    # Nor does it help to call oneself a client inside another one's task.
    core.note_key(identity("sly"), "research")
    assert cluster.group_of(cluster.client("sly", parent=identity("p"))) == "research"


def test_names_of_keys_do_not_pile_up() -> None:
    groups = Groups(parse_shares(["pricing=1"]), 0.0)
    for number in range(10_000):
        groups.note_key(b"%d" % number, "pricing")
    assert groups.refusal(b"9999", "default") is not None
    assert groups.refusal(b"0", "default") is None


def nested(cluster: Cluster, name: str, parent: Client) -> GroupClient:
    return cluster.client(name, peer=events.RelayedPeer(cluster.agents[0].id, identity(name)), parent=parent.id)


def test_nested_tasks_are_of_the_group_of_the_first_client() -> None:
    cluster = Cluster("pricing=3,research=1", 4)
    root = cluster.client("p", "pricing")
    inner = nested(cluster, "inner", root)
    innermost = nested(cluster, "innermost", inner)
    assert {cluster.group_of(one) for one in (root, inner, innermost)} == {"pricing"}
    inner.keep_busy(40, 0.05, depth=1)
    cluster.client("r", "research").keep_busy(40, 0.05)
    cluster.used.clear()
    cluster.run(10)
    # They stay ahead of what is not nested, whoever has used how much.
    assert cluster.used["research"] == 0
    inner.keep_busy(0)
    root.keep_busy(40, 0.05)
    cluster.run(40)
    assert cluster.used["research"] > 0


def test_after_a_restart_a_nested_client_may_come_before_its_parent() -> None:
    cluster = Cluster("pricing=3,research=1", 4)
    parent, middle = identity("p"), identity("middle")
    late = cluster.client("late", peer=events.RelayedPeer(cluster.agents[0].id, identity("late")), parent=middle)
    late.keep_busy(10, 0.1, depth=2)
    cluster.begin()
    assert cluster.group_of(late) == "default"
    nested_client = cluster.client("middle", peer=events.RelayedPeer(cluster.agents[0].id, middle), parent=parent)
    assert cluster.group_of(nested_client) == "default"
    cluster.running.clear()
    cluster.client("p", "pricing")
    assert cluster.group_of(late) == cluster.group_of(nested_client) == "pricing"
    cluster.harness.core.check_invariants()
    assert cluster.figures("pricing")["running"] == 4
    late.keep_busy(0)
    cluster.run(5)
    cluster.harness.core.check_invariants()
    assert cluster.figures("pricing")["running"] == 0


def test_no_more_run_than_may_and_others_have_the_rest() -> None:
    cluster = Cluster("pricing=3:max_running=2,research=1", 8)
    cluster.client("p", "pricing").keep_busy(40, 0.05)
    cluster.run(1)
    assert cluster.running["pricing"] == 2
    cluster.client("r", "research").keep_busy(40, 0.03)
    cluster.run(20)
    assert cluster.most_running == {"pricing": 2, "research": 6}
    assert cluster.used["research"] > 100
    assert cluster.figures("pricing")["held_for_seconds"] > 10


def test_a_group_that_is_held_back_ends_its_tasks_all_the_same() -> None:
    cluster = Cluster("pricing=3:max_running=1,research=1", 8)
    pricing = cluster.client("p", "pricing").keep_busy(40, 0.05)
    cluster.client("r", "research").keep_busy(40, 0.05)
    cluster.run(20)
    pricing.keep_busy(0)
    cluster.run(20)
    cluster.harness.core.check_invariants()
    assert cluster.figures("pricing")["running"] == 0


def test_clients_are_told_once_why_their_tasks_wait() -> None:
    cluster = Cluster("pricing=3:max_running=2,research=1", 8)
    client = cluster.client("p", "pricing").keep_busy(20, 5.0)
    cluster.run(4)
    client.unfinished = 10**9
    cluster.run(8)
    (notice,) = client.take(m.Notice)
    text = "tasks wait because 2 tasks of group 'pricing' run, at most 2 may at once (max_running)"
    assert (notice.text, notice.level, notice.kind) == (text, 0, "group_limit")


def test_nested_tasks_are_not_kept_from_running_by_those_that_wait_for_them() -> None:
    cluster = Cluster("pricing=1:max_running=1", 4)
    root = cluster.client("p", "pricing").keep_busy(3, 1e6)
    inner = nested(cluster, "inner", root)
    cluster.run(1)
    assert cluster.running["pricing"] == 1
    inner.keep_busy(5, 0.1, depth=1)
    cluster.run(1)
    assert cluster.used["pricing"] > 0.5
    assert cluster.most_running["pricing"] == 2


def test_what_a_group_may_not_run_keeps_nobody_of_another_depth_waiting() -> None:
    cluster = Cluster("pricing=1:max_running=1,research=1", 4)
    inner = nested(cluster, "inner", cluster.client("p", "pricing"))
    inner.keep_busy(5, 100.0, depth=1)
    cluster.client("r", "research").keep_busy(5, 0.1)
    cluster.run(1)
    assert cluster.running == {"pricing": 1, "research": 3}


def test_rows_of_graphs_count_one_by_one() -> None:
    cluster = Cluster("pricing=1:max_running=2", 8)
    client = cluster.client("p", "pricing")
    client.define()
    client.seconds = [0.1]
    chains = [
        m.GraphSubmit(
            client.id,
            1 + 10 * index,
            (FUNCTION,),
            Packed.of([b"P"] * 10),
            dependencies=list(range(9)),
            dependency_counts=[0, *[1] * 9],
            wanted=[9],
        )
        for index in range(5)
    ]
    client.send(*chains)
    cluster.run(60)
    assert cluster.most_running["pricing"] == 2
    assert len(client.results()) == 5
    cluster.harness.core.check_invariants()


def test_what_would_wait_beyond_the_limit_is_refused_with_the_figures() -> None:
    cluster = Cluster("pricing=1:max_waiting=5,research=1", 2)
    client = cluster.client("p", "pricing")
    client.define()
    numbers = client.submit(10)
    refused = client.results()
    assert sorted(refused) == numbers[5:]
    status, text = refused[numbers[-1]]
    assert status == m.Status.GROUP_LIMIT
    assert text == b"5 tasks of group 'pricing' wait, at most 5 may (max_waiting)"
    assert cluster.figures("pricing")["refused"] == 5
    # Two run by now.
    client.submit(2)
    assert not client.results()
    (last,) = client.submit(1)
    assert client.results() == {last: (status, text)}
    other = cluster.client("r", "research")
    other.define()
    other.submit(100)
    assert not other.results()
    cluster.harness.core.check_invariants()


def test_a_graph_is_refused_as_a_whole() -> None:
    cluster = Cluster("pricing=1:max_waiting=5", 2)
    client = cluster.client("p", "pricing")
    client.define()
    graph = m.GraphSubmit(
        client.id,
        1,
        (FUNCTION,),
        Packed.of([b"P"] * 6),
        dependencies=[0, 1, 2, 3, 4],
        dependency_counts=[0, 1, 1, 1, 1, 1],
        wanted=[5, 2],
    )
    client.send(graph)
    text = b"a graph of 6 tasks is refused: 0 tasks of group 'pricing' wait, at most 5 may (max_waiting)"
    assert client.results() == {3: (m.Status.GROUP_LIMIT, text), 6: (m.Status.GROUP_LIMIT, text)}
    assert not cluster.agents[0].tasks()
    assert cluster.figures("pricing")["waiting"] == 0
    client.next_number = 7
    client.submit(5)
    assert not client.results()


def test_tasks_announced_again_after_a_restart_are_not_refused() -> None:
    cluster = Cluster("pricing=1:max_waiting=5", 1)
    client = cluster.client("p", "pricing")
    client.define()
    client.submit(10, flags=m.TaskFlag.REANNOUNCED)
    assert not client.results()
    assert cluster.figures("pricing")["waiting"] == 10


def test_what_ends_with_an_error_counts_as_used() -> None:
    cluster = Cluster("pricing=1", 1)
    client = cluster.client("p", "pricing")
    client.define()
    client.submit(1)
    (task,) = cluster.agents[0].tasks()
    cluster.agents[0].answer([task], m.Status.FAILED, durations=[2_000_000])
    assert cluster.figures("pricing")["used_seconds"] == pytest.approx(2.0)
    cluster.harness.core.check_invariants()


def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    cluster = Cluster("pricing=1,research=1", 2)
    client = cluster.client("p", "pricing").keep_busy(10, 0.1)
    client.send(m.Goodbye("done"))
    figures = cluster.figures("pricing")
    assert (figures["running"], figures["waiting"], figures["clients"]) == (0, 0, [])
    cluster.harness.core.check_invariants()


@pytest.mark.parametrize("seed", range(12))
def test_random_groups_get_their_shares_and_exceed_no_limit(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = [f"g{index}" for index in range(rng.randint(2, 4))]
    weights = {name: rng.choice([0.5, 1.0, 2.0, 3.0, 5.0]) for name in names}
    limits = {name: rng.randint(1, 3) if rng.random() < 0.3 else 0 for name in names[1:]}
    said = {
        name: {"weight": weight, **({"max_running": limits[name]} if limits.get(name) else {})}
        for name, weight in weights.items()
    }
    cluster = Cluster(said, *[rng.randint(1, 4) for _ in range(rng.randint(1, 3))])
    longest = 0.0
    for name in names:
        for index in range(rng.randint(1, 3)):
            seconds = [rng.choice([0.02, 0.05, 0.1, 0.5]) for _ in range(rng.randint(1, 3))]
            longest = max(longest, *seconds)
            cluster.client(f"{name}c{index}", name).keep_busy(100, *seconds)
    cluster.run(20)
    cluster.lose_agent(0)
    cluster.run(5)
    cluster.add_agent(3, 3)
    cluster.run(35)
    for name, limit in limits.items():
        assert not limit or cluster.most_running[name] <= limit
    free = {name: weight for name, weight in weights.items() if not limits.get(name)}
    assert_shared({name: cluster.used[name] for name in free}, free)
    cluster.harness.core.check_invariants()


def test_a_group_says_what_it_is() -> None:
    assert str(GroupShare("pricing", 3.0, 100)) == "pricing=3:max_running=100"
