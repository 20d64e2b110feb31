"""Tasks go to the host that holds most of their bytes: what clients send, and what earlier tasks made."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness import FUNCTION, Agent, Client, Harness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_scheduler.core.object_places import HOLDERS_MAX, LARGE_BYTES_MIN, OBJECTS_MAX, ObjectPlaces
from scaler_scheduler.core.waiting_tasks import NEAR_TAKEN_MAX
from scaler_scheduler.policy.locality import AgentFigures, better_agent

MIB = 1024 * 1024
LARGE, OTHER, SMALL = b"l" * 16, b"o" * 16, b"s" * 16


def held(places: ObjectPlaces[str], *objects: bytes) -> dict[str, int]:
    counts: Counter[str] = Counter()
    places.count_held(objects, counts)
    return dict(counts)


def test_who_made_or_reads_an_object_holds_its_bytes() -> None:
    places: ObjectPlaces[str] = ObjectPlaces()
    places.note_sizes([LARGE, OTHER, SMALL], [8 * MIB, MIB, LARGE_BYTES_MIN - 1])
    assert held(places, LARGE, OTHER, SMALL) == {}
    places.note_reader([LARGE, SMALL], "one")
    places.note_reader([LARGE, OTHER], "two")
    places.note_reader([LARGE], "two")
    assert held(places, LARGE, OTHER, SMALL) == {"one": 8 * MIB, "two": 9 * MIB}
    # Named once more, by a task that makes nothing of its size known.
    places.note_sizes([LARGE], ())
    assert held(places, LARGE) == {"one": 8 * MIB, "two": 8 * MIB}
    places.note_made([b"made" * 4], 2 * MIB, "three")
    assert held(places, b"made" * 4, OTHER) == {"two": MIB, "three": 2 * MIB}


def test_what_is_known_of_objects_is_bounded() -> None:
    places: ObjectPlaces[str] = ObjectPlaces()
    for number in range(OBJECTS_MAX + 1):
        places.note_made([b"%016d" % number], MIB, "maker")
    assert held(places, b"%016d" % 0) == {}
    assert held(places, b"%016d" % OBJECTS_MAX) == {"maker": MIB}
    for number in range(2 * HOLDERS_MAX):
        places.note_reader([b"%016d" % 1], f"reader {number}")
    assert len(held(places, b"%016d" % 1)) == HOLDERS_MAX


def submit(client: Client, *objects: bytes, sizes: Any = ()) -> int:
    positions = [0] * len(objects)
    (number,) = client.submit(object_positions=positions, objects=objects, object_sizes=sizes)
    return number


def submit_graph(client: Client, dependencies: list[list[int]], wanted: list[int], **columns: Any) -> int:
    first = client.next_number
    client.next_number += len(dependencies)
    flat = [dependency for of_row in dependencies for dependency in of_row]
    payloads = Packed.of([b"P%d" % row for row in range(len(dependencies))])
    counts = [len(of_row) for of_row in dependencies]
    client.send(m.GraphSubmit(client.id, first, (FUNCTION,), payloads, counts, flat, wanted, **columns))
    return first


def cluster_of_two(slots: int = 2) -> tuple[Client, Agent, Agent]:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    one, two = (Agent(harness, name, workers=slots, capacity=2 * slots) for name in ("one", "two"))
    return client, one, two


def where(one: Agent, two: Agent) -> Agent:
    return one if one.tasks() else two


def test_a_task_follows_the_largest_of_its_arguments() -> None:
    client, one, two = cluster_of_two()
    submit(client, LARGE, sizes=[64 * MIB])
    holder = where(one, two)
    other = two if holder is one else one
    # By load it is the other one's turn, which has the smaller argument from here on.
    submit(client, OTHER, sizes=[MIB])
    assert other.tasks()
    submit(client, OTHER, LARGE, sizes=[MIB, 64 * MIB])
    assert holder.tasks()
    submit(client, OTHER, LARGE)
    assert other.tasks(), "both workers of the holder are busy, and the other one's are not"


def test_one_host_is_not_swamped_by_tasks_that_read_one_object() -> None:
    client, one, two = cluster_of_two()
    for _ in range(8):
        submit(client, LARGE, sizes=[64 * MIB])
    assert len(one.tasks()) == len(two.tasks()) == 4


def test_a_small_object_draws_no_task() -> None:
    client, one, two = cluster_of_two()
    submit(client, SMALL, sizes=[1000])
    submit(client, SMALL, sizes=[1000])
    assert len(one.tasks()) == len(two.tasks()) == 1


def test_a_row_goes_where_most_bytes_of_its_inputs_are() -> None:
    client, one, two = cluster_of_two(slots=4)
    first = submit_graph(client, [[], [], [], [0, 1, 2]], [3])
    rows = {agent: agent.tasks() for agent in (one, two)}
    few, many = sorted(rows, key=lambda agent: len(rows[agent]))
    for agent, size in ((many, MIB), (few, 64 * MIB)):
        for _, number, attempt in rows[agent]:
            made = b"%016d" % number
            agent.answer(
                [(client.id, number, attempt)],
                payload=b"O" + made,
                object_positions=[0],
                objects=(made,),
                object_bytes=[size],
            )
    assert [number for _, number, _ in few.tasks()] == [first + 3], "it has one input of three, and most of the bytes"


def test_a_later_graph_goes_where_results_that_its_client_keeps_were_made() -> None:
    client, one, two = cluster_of_two()
    submit_graph(client, [[]], [0])
    maker = one if (tasks := one.tasks()) else two
    tasks = tasks or two.tasks()
    maker.answer(tasks, payload=b"O" + LARGE, object_positions=[0], objects=(LARGE,), object_bytes=[64 * MIB])
    for _ in range(2):
        submit(client, LARGE)
        assert maker.tasks()


def test_rows_of_graphs_follow_their_clients_objects() -> None:
    client, one, two = cluster_of_two()
    submit(client, LARGE, sizes=[64 * MIB])
    holder = where(one, two)
    other = two if holder is one else one
    submit(client)
    assert other.tasks()
    submit(client)
    late = where(one, two)
    # Both have as much to do, or the holder has more: a worker of it is free, or it is no busier.
    client.send(m.TaskCancel(client.id, [client.next_number - 1]))
    late.answer([(client.id, client.next_number - 1, 1)], m.Status.CANCELED)
    submit_graph(client, [[]], [0], object_positions=[0], objects=(LARGE,))
    assert holder.tasks()


def test_inputs_of_one_row_are_made_at_one_host() -> None:
    """Each of four rows reads four others, and hosts take two tasks at a time: without a plan, each would make half of them."""
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    agents = [Agent(harness, name, workers=1, capacity=2) for name in ("one", "two")]
    readers = 4
    rows: list[list[int]] = [[] for _ in range(4 * readers)]
    rows += [[4 * reader + place for place in range(4)] for reader in range(readers)]
    first = submit_graph(client, rows, list(range(4 * readers, 5 * readers)))
    made_at: dict[int, Agent] = {}
    read_at: dict[int, Agent] = {}
    queues: dict[Agent, list[tuple[bytes, int, int]]] = {agent: [] for agent in agents}
    for _ in range(5 * readers):
        for agent, queue in queues.items():
            queue += agent.tasks()
            for client_id, number, attempt in [queue.pop(0)] if queue else []:
                row = number - first
                if row < 4 * readers:
                    made_at[row] = agent
                    made = b"%016d" % number
                    agent.answer(
                        [(client_id, number, attempt)],
                        payload=b"O" + made,
                        object_positions=[0],
                        objects=(made,),
                        object_bytes=[64 * MIB],
                    )
                else:
                    read_at[row - 4 * readers] = agent
                    agent.answer([(client_id, number, attempt)])
                harness.core.check_invariants()
    assert len(made_at) == 4 * readers
    for reader, agent in read_at.items():
        assert {made_at[4 * reader + place] for place in range(4)} == {agent}
    assert {list(read_at.values()).count(agent) for agent in agents} == {readers // 2}


def test_a_row_waits_for_the_host_of_its_inputs_as_long_as_they_would_take_to_come() -> None:
    busy = AgentFigures(held_bytes=0, busy=2, slots=1, spare=2)
    # Ten seconds' worth of bytes, and tasks of a second.
    assert better_agent(busy, [AgentFigures(1_250_000_000, 12, 1, 1)], 1.0) == 0
    assert better_agent(busy, [AgentFigures(1_250_000_000, 13, 1, 1)], 1.0) is None
    # Also beyond what that host wants to hold, unless it is about to leave.
    assert better_agent(busy, [AgentFigures(1_250_000_000, 12, 1, 0)], 1.0) == 0
    assert better_agent(busy, [AgentFigures(1_250_000_000, 12, 1, 0, is_open=False)], 1.0) is None
    # Whoever is idle waits for nobody, and has a copy for the next task; not where nobody else will read it.
    idle, holder = busy._replace(busy=0), AgentFigures(1_250_000_000, 10, 1, 1)
    assert better_agent(idle, [holder], 1.0) is None
    assert better_agent(idle, [holder], 1.0, is_last_reader=True) == 0
    assert better_agent(idle, [holder._replace(busy=11)], 1.0, is_last_reader=True) is None


def test_a_row_that_has_waited_in_vain_goes_where_a_worker_is_free() -> None:
    """Its inputs lie on one host, whose other task takes longer than the tasks before it: what that takes is not known."""
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    one, two = (Agent(harness, name, workers=1, capacity=2, takes_chains=False) for name in ("one", "two"))
    submit_graph(client, [[], [0]], [1])
    first = one.tasks()
    holder, other = (one, two) if first else (two, one)
    maker = first or two.tasks()
    client.submit(2)
    others = other.tasks()
    client.submit(1)
    assert len(holder.tasks()) == 1  # The long one.
    other.answer(others)
    holder.answer(maker, payload=b"O" + LARGE, object_positions=[0], objects=(LARGE,), object_bytes=[256 * MIB])
    waiting = holder.tasks()
    assert len(waiting) == 1
    assert not other.tasks()
    while not holder.take(m.TaskRecall):
        harness.advance(1)
    ((_, number, attempt),) = waiting
    holder.send(m.TaskReturn(client.id, [number], [attempt]))
    assert not holder.tasks()
    assert [task for _, task, _ in other.tasks()] == [number]


def test_rows_that_make_objects_are_chosen_for_few_agents_in_a_step() -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    agents = [Agent(harness, name, workers=1, capacity=2) for name in ("one", "two")]
    first = submit_graph(client, [[] for _ in range(200)] + [list(range(200))], [200])
    seen: set[int] = set()
    while len(seen) < 200:
        for agent in agents:
            tasks = agent.tasks()
            assert len(tasks) <= NEAR_TAKEN_MAX * 2
            seen.update(number - first for _, number, _ in tasks)
            for task in tasks:
                made = b"%016d" % task[1]
                agent.answer([task], payload=b"O" + made, object_positions=[0], objects=(made,), object_bytes=[MIB])
        harness.core.check_invariants()


def test_hosts_begin_in_branches_of_a_graph_that_are_far_from_each_other() -> None:
    """A tree of 16 leaves for two hosts, each of which makes one half of it; only the last sum has inputs on both."""
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    agents = [Agent(harness, name, workers=1, capacity=2) for name in ("one", "two")]
    rows: list[list[int]] = [[] for _ in range(16)]
    level = list(range(16))
    while len(level) > 1:
        rows += [[level[place], level[place + 1]] for place in range(0, len(level), 2)]
        level = list(range(len(rows) - len(level) // 2, len(rows)))
    first = submit_graph(client, rows, level)
    made_at: dict[int, Agent] = {}
    queues: dict[Agent, list[tuple[bytes, int, int]]] = {agent: [] for agent in agents}
    while len(made_at) < len(rows):
        before = len(made_at)
        for agent, queue in queues.items():
            queue += agent.tasks()
            for client_id, number, attempt in [queue.pop(0)] if queue else []:
                made_at[number - first] = agent
                made = b"%016d" % number
                agent.answer(
                    [(client_id, number, attempt)],
                    payload=b"O" + made,
                    object_positions=[0],
                    objects=(made,),
                    object_bytes=[64 * MIB],
                )
                harness.core.check_invariants()
        assert len(made_at) > before
    moved = [(row, one) for row, inputs in enumerate(rows) for one in inputs if made_at[one] is not made_at[row]]
    assert len(moved) == 1
    assert moved[0][0] == len(rows) - 1
