"""What is bounded so that thousands of agents and clients keep nobody waiting: each step does a little, and it all gets done."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from harness import Agent, Client, Harness, identity

from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.session import Session
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED
from scaler_scheduler.core import effects, events, rebalancing
from scaler_scheduler.core.agents import SMALL_HEAP, STALE_ENTRIES, AgentPool
from scaler_scheduler.core.lifecycle import RECOVERED_MAX
from scaler_scheduler.core.placement import ASSIGNMENT_WORK, PASS_WORK_MAX
from scaler_scheduler.core.ready import CLIENTS_MAX, ReadyQueues
from scaler_scheduler.core.records import FEW_FUNCTIONS, AgentRecord, ClientRecord, PeerRecord, Task
from scaler_scheduler.core.rounds import WORK_MAX, PeerRounds
from scaler_scheduler.core.storage_pressure import StoragePressure
from scaler_scheduler.policy.balancing import Load
from scaler_scheduler.policy.resources import ResourceRules

MESSAGES_MAX = PASS_WORK_MAX // ASSIGNMENT_WORK + CLIENTS_MAX


def sent(harness: Harness) -> int:
    """How many messages with tasks the core wants to send now."""
    due = harness.core.take_effects()
    return sum(isinstance(effect, effects.Send) and isinstance(effect.message, m.TaskBatch) for effect in due)


def test_one_pass_gives_tasks_to_some_agents_and_the_next_ones_to_the_others() -> None:
    harness = Harness()
    agents = 4 * MESSAGES_MAX
    client = Client(harness, "client")
    client.define()
    client.submit(agents)
    for number in range(agents):
        harness.core.handle(agent_hello(number), harness.now)
    passes = [sent(harness)]
    assert harness.core.has_more
    while harness.core.has_more:
        assert harness.core.next_deadline() <= harness.now
        passes.append(sent(harness))
        harness.core.check_invariants()
    assert sum(passes) == agents
    assert max(passes) <= MESSAGES_MAX
    assert harness.core.next_deadline() > harness.now
    assert harness.count("ready") == 0


def agent_hello(number: int) -> events.Incoming:
    name = f"agent-{number}"
    hello = m.Hello(
        m.Role.AGENT, name, identity(name), worker_names=(name,), capacity=1, queue_limit=10, hello_number=1
    )
    return events.Incoming(identity(name), UNSEQUENCED, hello)


def test_once_a_stop_is_announced_nothing_more_is_placed() -> None:
    harness = Harness(ends_cluster=True)
    client = Client(harness, "client")
    client.define()
    client.submit(2 * MESSAGES_MAX)
    for number in range(2 * MESSAGES_MAX):
        harness.core.handle(agent_hello(number), harness.now)
    sent(harness)
    assert harness.core.has_more
    harness.core.handle(events.StopAnnounced("test"), harness.now)
    assert not harness.core.has_more
    assert sent(harness) == 0


def test_an_agent_is_given_the_tasks_of_few_clients_at_once() -> None:
    harness = Harness()
    clients = [Client(harness, f"client-{number}") for number in range(3 * CLIENTS_MAX)]
    for client in clients:
        client.define()
        client.submit(2)
    queues = ReadyQueues(StoragePressure())
    for number in range(3 * CLIENTS_MAX):
        record = ClientRecord(identity(f"c{number}"), hello(f"c{number}"), Session(), 0.0)
        options = record.options_for(0, 0, 0, (), b"", True)
        queues.add_all([Task(row, b"f" * 16, b"P", options) for row in (1, 2)])
    (queue,) = queues.non_empty()
    taken = []
    while queue.count:
        some = queues.take(queue, 1000)
        assert 0 < len({task.options.client.id for task in some}) <= CLIENTS_MAX
        taken += some
    assert len(taken) == 6 * CLIENTS_MAX
    # And in a cluster nobody is forgotten.
    Agent(harness, "agent", workers=2, capacity=100).run_all()
    assert all(len(client.results()) == 2 for client in clients)


def test_where_nobody_holds_more_than_it_runs_the_loads_of_all_agents_are_not_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed: list[Load] = []

    def load(assigned: int, slots: int, movable: int) -> Load:
        listed.append(Load(assigned, slots, movable))
        return listed[-1]

    monkeypatch.setattr(rebalancing, "Load", load)
    harness = Harness(load_balance_seconds=1.0)
    client = Client(harness, "client")
    client.define()
    agents = [Agent(harness, f"agent-{number}", workers=2, capacity=10) for number in range(20)]
    client.submit(20)
    harness.advance(3.0)
    assert not listed
    assert sum(len(agent.tasks()) for agent in agents) == 20


def hello(name: str) -> m.Hello:
    return m.Hello(m.Role.CLIENT, name, identity(name))


def test_tasks_that_no_agent_has_claimed_are_queued_some_at_a_time() -> None:
    harness = Harness(recovery_grace_seconds=3.0)
    client = Client(harness, "client")
    client.define()
    numbers = client.submit(2 * RECOVERED_MAX + 1, flags=m.TaskFlag.REANNOUNCED)
    agent = Agent(harness, "agent", workers=10, capacity=250)
    assert agent.tasks() == []
    harness.advance(2.5)
    assert harness.count("ready") == 0
    harness.advance(0.5)
    assert harness.count("ready") == RECOVERED_MAX - 250
    assert harness.core.next_deadline() <= harness.now
    harness.advance(0.03, step=0.01)
    assert agent.run_all() == numbers
    assert len(client.results()) == len(numbers)


def test_a_client_that_leaves_before_its_tasks_are_claimed_leaves_nothing() -> None:
    harness = Harness(recovery_grace_seconds=3.0)
    client, other = Client(harness, "client"), Client(harness, "other")
    for each in (client, other):
        each.define()
        each.submit(5, flags=m.TaskFlag.REANNOUNCED)
    client.connection.close("it leaves")
    harness.settle()
    agent = Agent(harness, "agent", capacity=100)
    harness.advance(3.5)
    assert {client_id for client_id, _, _ in agent.tasks()} == {other.id}


class Rounds:
    """Peers, of which some are to be removed, and what is asked about them."""

    def __init__(self, count: int) -> None:
        self.peers: dict[object, PeerRecord] = {
            identity(f"c{number}"): ClientRecord(identity(f"c{number}"), hello(f"c{number}"), Session(), 0.0)
            for number in range(count)
        }
        self.lost: set[bytes] = set()
        self.asked: list[bytes] = []
        self.rounds = PeerRounds(self.peers, self.look_after, 0.5)  # type: ignore[arg-type]

    def look_after(self, record: PeerRecord, now: float) -> bool:
        self.asked.append(record.id)
        if record.id in self.lost:
            del self.peers[record.peer]
            return False
        return True


def test_few_peers_are_looked_after_together() -> None:
    rounds = Rounds(3)
    assert rounds.rounds.go_on(10.0) == (10.5, True)
    assert sorted(rounds.asked) == sorted(peer.id for peer in rounds.peers.values())
    assert Rounds(0).rounds.go_on(10.0) == (10.5, True)


def test_many_peers_are_looked_after_in_parts_of_the_same_round() -> None:
    rounds = Rounds(5 * WORK_MAX // 2)
    now, over, parts = 10.0, False, 0
    while not over:
        now, over = rounds.rounds.go_on(now)
        parts += 1
        assert len(rounds.asked) <= parts * WORK_MAX
    assert parts == 3
    assert now == pytest.approx(10.5)
    assert len(set(rounds.asked)) == len(rounds.asked) == len(rounds.peers)


def test_a_peer_that_has_gone_meanwhile_is_not_asked_about() -> None:
    rounds = Rounds(2 * WORK_MAX)
    rounds.rounds.go_on(10.0)
    gone = [peer for peer in rounds.peers if peer not in rounds.asked][:7]
    for peer in gone:
        del rounds.peers[peer]
    rounds.rounds.go_on(10.0)
    assert not set(gone) & set(rounds.asked)


def test_removals_count_for_more_and_the_next_ones_follow_at_once() -> None:
    rounds = Rounds(WORK_MAX)
    rounds.lost = {record.id for record in rounds.peers.values()}
    parts, now, over = 0, 10.0, False
    while not over:
        before = len(rounds.asked)
        now, over = rounds.rounds.go_on(now)
        assert len(rounds.asked) - before < WORK_MAX // 16
        assert over or now == 10.0
        parts += 1
    assert parts > 16
    assert not rounds.peers


def test_a_heap_of_agents_does_not_grow_with_the_number_of_changes() -> None:
    pool = AgentPool(ResourceRules())
    agents = []
    for number in range(100):
        name = f"agent-{number}"
        hello_ = m.Hello(m.Role.AGENT, name, new_id(), worker_names=("w",), capacity=10)
        agents.append(AgentRecord(hello_.incarnation, hello_, Session(), 0.0))
        pool.add(agents[-1])
    pool.refresh()
    (group,) = pool.groups_for(frozenset())
    task = Task(
        1, b"f" * 16, b"P", ClientRecord(b"c" * 16, hello("c"), Session(), 0.0).options_for(0, 0, 0, (), b"", True)
    )
    for _ in range(100):
        for agent in agents:
            agent.tasks[task] = None
            pool.reinsert(agent)
            del agent.tasks[task]
            pool.reinsert(agent)
        assert len(group.heap) <= max(SMALL_HEAP, STALE_ENTRIES * len(agents))
    assert group.least_loaded() is agents[0]
    agents[0].tasks.update(dict.fromkeys([task]))
    pool.reinsert(agents[0])
    assert group.least_loaded() is agents[1]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("count", [0, 1, FEW_FUNCTIONS, FEW_FUNCTIONS + 1, 50])
def test_an_agent_is_known_to_have_each_function_that_it_was_sent(count: int, together: bool) -> None:
    agent = AgentRecord(b"a" * 16, m.Hello(m.Role.AGENT, "agent", b"a" * 16, worker_names=("w",)), Session(), 0.0)
    functions = tuple(number.to_bytes(16, "big") for number in range(count))
    lacked = agent.note_functions(b"c" * 16, functions) if together else []
    for function in () if together else functions:
        lacked += agent.note_functions(b"c" * 16, (function,))
    assert tuple(lacked) == functions
    assert agent.note_functions(b"c" * 16, functions) == []
    assert agent.note_functions(b"d" * 16, functions) == list(functions)
    assert agent.note_functions(b"e" * 16) == []
    assert all(agent.forget_functions(client * 16) for client in (b"c", b"d", b"e"))
    assert not agent.forget_functions(b"c" * 16)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def _records() -> list[object]:
    # By their types: other tests have objects that do not let anybody ask for their class.
    return [known for known in gc.get_objects() if issubclass(type(known), (ClientRecord, AgentRecord, Task))]


def test_records_of_peers_that_have_left_are_freed_without_the_garbage_collector() -> None:
    # What earlier tests have left, or still hold, is not meant.
    gc.collect()
    earlier = _records()
    not_meant = set(map(id, earlier))
    harness = Harness()
    for number in range(3):
        client, agent = Client(harness, f"client-{number}"), Agent(harness, f"agent-{number}", capacity=100)
        client.define()
        client.submit(3)
        client.submit(3, capabilities=(("gpu", -1),))
        agent.answer(agent.tasks()[:2])
        for peer in (client, agent):
            peer.connection.close("it leaves")
        harness.settle()
        del harness.peers[client.peer], harness.peers[agent.peer]
    harness.advance(1.0)
    assert [known for known in _records() if id(known) not in not_meant] == []
