"""What the scheduler tells monitors: complete, bounded, and right."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from harness import FUNCTION, Agent, Client, Harness, Peer, definition, identity

from scaler_protocol.ids import content_id
from scaler_protocol.monitoring.topics import EVENTS, FIGURES, dump_topic, dumped_task
from scaler_protocol.payloads.framing import FAILURE_KEPT_BYTES_MAX
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, encode_record, join_records
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Frame
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.functions import FORMER_NAMES_MAX, FunctionRegistry
from scaler_scheduler.core.monitor import EVENTS_MAX, FAILURES_KEPT
from scaler_scheduler.core.object_listing import COUNTED_TASKS_MAX
from scaler_scheduler.core.snapshot import TASKS_MAX
from scaler_scheduler.monitor_feed import LINES_KEPT, MonitorFeed, RecentLog


def listen(harness: Harness, seconds: float = 1.1, *, joined: bool = False) -> list[m.Message]:
    """Let time pass while a monitor listens; return what it was told, as it arrives on the other side."""
    harness.now += seconds
    harness.core.handle(events.Tick(1.0, 2, 2, 5000.0, events=True, joined=joined), harness.now)
    harness.settle()
    told = [decode(encode(effect.message)) for effect in harness.other_effects if isinstance(effect, effects.Publish)]
    harness.other_effects.clear()
    return told


MessageType = TypeVar("MessageType")


def of_kind(messages: Sequence[object], kind: type[MessageType]) -> list[MessageType]:
    return [message for message in messages if isinstance(message, kind)]


def counts(counters: tuple[m.Counter, ...]) -> dict[str, int]:
    return {counter.name: counter.count for counter in counters}


def running(capacity: int = 10_000, workers: int = 2) -> tuple[Harness, Client, Agent]:
    harness = Harness()
    client, agent = Client(harness, "client"), Agent(harness, "agent", workers=workers, capacity=capacity)
    client.define()
    return harness, client, agent


def test_nobody_listens_and_nothing_is_kept() -> None:
    harness, client, agent = running()
    client.submit(50)
    agent.run_all()
    harness.advance(3)
    assert not [effect for effect in harness.other_effects if isinstance(effect, effects.Publish)]
    assert not of_kind(listen(harness), m.MonitorEvents)


def test_a_task_is_told_from_submission_to_its_end() -> None:
    harness, client, agent = running()
    listen(harness)
    client.submit(3)
    tasks = agent.tasks()
    agent.answer(tasks[:2], durations=[5, 6], slots=[1, 0])
    agent.answer(tasks[2:], status=m.Status.FAILED, payload=b"Pfailure", durations=[7], slots=[1])
    (events,) = of_kind(listen(harness), m.MonitorEvents)
    told = {
        (number, m.TaskEvent(state).name): (duration, slot)
        for number, state, duration, slot in zip(
            events.numbers, events.states, events.durations, events.slots, strict=True
        )
    }
    assert told == {
        **{(number, state): (0, 0xFFFF) for number in (1, 2, 3) for state in ("SUBMITTED", "ASSIGNED")},
        (1, "SUCCESS"): (5, 1),
        (2, "SUCCESS"): (6, 0),
        (3, "FAILED"): (7, 1),
    }
    assert events.client_table == (client.id,)
    assert events.worker_table == ("agent",)
    assert events.function_table == ("module.f",)
    assert (events.stride, events.dropped) == (1, 0)


def test_tasks_are_told_with_what_workers_took_around_them() -> None:
    harness, client, agent = running()
    listen(harness)
    client.submit(4)
    tasks = agent.tasks()
    agent.answer(tasks[:2], read_times=[5_000, 0])
    agent.answer(tasks[2:3], status=m.Status.FAILED, payload=b"Pfailure", write_times=[6_000])
    agent.answer(tasks[3:])
    (events,) = of_kind(listen(harness), m.MonitorEvents)
    rows = zip(events.numbers, events.states, events.read_times, events.write_times, strict=True)
    told = {(number, m.TaskEvent(state).name): times for number, state, *times in rows if any(times)}
    assert told == {(1, "SUCCESS"): [5_000, 0], (3, "FAILED"): [0, 6_000]}
    client.submit(1)
    agent.answer(agent.tasks())
    (events,) = of_kind(listen(harness), m.MonitorEvents)
    assert not len(events.read_times)
    assert not len(events.write_times)


def test_tasks_that_are_left_out_take_what_was_around_them_along() -> None:
    harness, client, agent = running(capacity=100_000)
    harness.checks_each_step = False
    listen(harness)
    client.submit(60_000)
    tasks = agent.tasks()
    agent.answer(tasks, read_times=[number for _, number, _ in tasks])
    told: dict[int, int] = {}
    for _ in range(3):
        for part in of_kind(listen(harness), m.MonitorEvents):
            if len(part.read_times):
                told.update(zip(part.numbers, part.read_times, strict=True))
    read = {number: time for number, time in told.items() if time}
    assert 0 < len(read) < 60_000
    assert all(number == time for number, time in read.items())


def test_tasks_of_a_client_that_has_left_have_the_names_of_their_functions() -> None:
    harness, client, agent = running()
    listen(harness)
    client.submit(1)
    agent.answer(agent.tasks())
    client.send(m.Goodbye("bye"))
    (events,) = of_kind(listen(harness), m.MonitorEvents)
    assert events.function_table == ("module.f",)


def test_each_task_of_a_message_is_told_with_the_host_that_it_asks_for() -> None:
    harness, client, _ = running()
    listen(harness)
    records = [
        encode_record(NO_OPTIONS.with_given(given, "test"))
        for given in ({"host": "one"}, {"host": "two"}, {"label": "x"})
    ]
    client.send(client.batch(4, options=join_records([*records, b""])))
    (events,) = of_kind(listen(harness), m.MonitorEvents)
    told = {
        number: events.capability_table[index]
        for number, index, state in zip(events.numbers, events.capabilities, events.states, strict=True)
        if state == m.TaskEvent.SUBMITTED
    }
    assert told == {1: "@host:one", 2: "@host:two", 3: "", 4: ""}
    harness.core.check_invariants()


def test_names_of_dropped_functions_are_kept_up_to_a_number() -> None:
    registry = FunctionRegistry()
    ids = []
    for number in range(FORMER_NAMES_MAX + 1):
        body = b"P%d" % number
        ids.append(content_id(body))
        registry.define(b"client", m.FunctionDefine(b"client", (ids[-1],), Packed.of([body]), (f"f{number}",)))
        registry.drop_client(b"client")
    assert len(registry) == 0
    assert registry.name(ids[0]) == ids[0][:4].hex()
    assert (registry.name(ids[1]), registry.name(ids[-1])) == ("f1", f"f{FORMER_NAMES_MAX}")


def test_far_too_many_events_are_thinned_by_whole_tasks_and_counted() -> None:
    harness, client, agent = running(capacity=100_000)
    harness.checks_each_step = False
    listen(harness)
    told = Counter[int]()
    omitted = 0
    for _ in range(6):
        client.submit(20_000)
        agent.answer(agent.tasks())
        for batch in of_kind(listen(harness), m.MonitorEvents):
            assert len(batch.numbers) <= EVENTS_MAX
            told.update(batch.states)
            omitted += batch.dropped
            stride = batch.stride
    assert stride > 1
    assert sum(told.values()) + omitted == 3 * 6 * 20_000
    last = of_kind(listen(harness), m.MonitorSnapshot)[-1]
    assert last.events_omitted == omitted
    assert counts(last.task_states)["success"] == 6 * 20_000
    client.submit(8)
    for _ in range(3):
        listen(harness)
    client.submit(8)
    (events,) = of_kind(listen(harness), m.MonitorEvents)
    assert len(events.numbers) == 16
    assert events.stride == 1
    harness.core.check_invariants()


def test_a_sampled_task_is_told_whole() -> None:
    harness, client, agent = running(capacity=100_000)
    harness.checks_each_step = False
    listen(harness)
    client.submit(40_000)
    agent.answer(agent.tasks())
    listen(harness)
    client.submit(40_000)
    agent.answer(list(reversed(agent.tasks())))
    (events,) = of_kind(listen(harness), m.MonitorEvents)
    states: dict[int, list[int]] = {}
    for number, state in zip(events.numbers, events.states, strict=True):
        states.setdefault(number, []).append(state)
    assert states
    assert all(found == [0, 1, 2] for found in states.values())
    harness.core.check_invariants()


def test_figures_add_up() -> None:
    harness, client, agent = running(capacity=6)
    other = Client(harness, "other")
    other.define()
    client.submit(9)
    other.submit(1)
    tasks = agent.tasks()
    agent.answer(tasks[:2])
    agent.answer(tasks[2:3], status=m.Status.FAILED)
    other.send(m.Goodbye("bye"))
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert counts(snapshot.task_states) == {
        "unassigned": 0,
        "running": 6,
        "success": 2,
        "failed": 1,
        "canceled": 1,
    }
    (agent_status,) = snapshot.agents
    assert (agent_status.assigned, agent_status.workers) == (6, 2)
    assert counts(agent_status.functions) == {"module.f": 6}
    assert counts(snapshot.functions) == {"module.f": 6}
    assert counts(snapshot.failed_functions) == {"module.f": 1}
    (client_status,) = snapshot.clients
    assert (client_status.finished, client_status.failed) == (2, 1)
    assert sum(worker.sent for worker in snapshot.workers) == 6


def test_what_a_worker_runs_now_is_shown() -> None:
    harness, _, agent = running()
    agent.connection.heartbeat(
        m.Heartbeat(
            capacity=4,
            processor_states=[2, 1],
            processor_tasks=[41, 0],
            processor_functions=(FUNCTION, bytes(16)),
            processor_milliseconds=[1500, 0],
            processor_environments=b"plugins: database\n",
        ),
        harness.now,
    )
    harness.settle()
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    busy, idle = snapshot.workers
    assert (busy.environment, idle.environment) == ("plugins: database", "")
    assert (busy.task, busy.function, busy.task_seconds) == (41, "module.f", 1.5)
    assert (idle.task, idle.function, idle.task_seconds) == (0, "", 0.0)


def test_the_tasks_an_agent_runs_are_shown_with_the_workers_that_run_them() -> None:
    harness, client, agent = running(workers=3)
    client.submit(4)
    agent.tasks()
    agent.connection.heartbeat(
        m.Heartbeat(
            capacity=9,
            queued=2,
            processor_states=[1, 2, 3],
            processor_tasks=[0, 1, 2],
            processor_functions=(bytes(16), FUNCTION, FUNCTION),
            processor_milliseconds=[0, 5, 5],
        ),
        harness.now,
    )
    harness.settle()
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert [(worker.sent - worker.queued, worker.queued) for worker in snapshot.workers] == [(0, 1), (1, 1), (1, 0)]


def test_each_client_is_shown_with_what_it_uses() -> None:
    harness, client, agent = running(workers=4)
    other = Client(harness, "other")
    other.define()
    client.submit(2)
    tasks = agent.tasks()
    agent.answer(tasks[:1], durations=[7_000_000])
    listen(harness)
    other.submit(2)
    others = agent.tasks()
    # Two numbers that both clients use, one of a task that has ended since, one that waits for tasks of its own.
    beat = m.Heartbeat(
        capacity=9,
        processor_states=[2, 2, 2, 3],
        processor_tasks=[2, 2, 77, 1],
        processor_functions=(FUNCTION,) * 4,
        processor_milliseconds=[1500, 1500, 9000, 250],
    )
    agent.connection.heartbeat(beat, harness.now)
    harness.settle()
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    shown = {status.name: (status.busy_workers, status.used_seconds) for status in snapshot.clients}
    # Nobody listened when the first task ended.
    assert shown == {"client": (2, 1.5), "other": (1, 1.75)}
    agent.answer(tasks[1:], durations=[2_000_000])
    agent.answer(others, durations=[3_000_000, 500_000], status=m.Status.FAILED)
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    shown = {status.name: (status.busy_workers, status.used_seconds) for status in snapshot.clients}
    assert shown == {"client": (0, 2.0), "other": (0, 3.5)}


def test_what_a_client_inside_a_task_has_used_goes_to_the_one_it_worked_for() -> None:
    harness, client, agent = running()
    listen(harness)
    inside = identity("inside")
    peer = Peer(
        harness, events.RelayedPeer(agent.id, inside), m.Hello(m.Role.CLIENT, "inside", inside, parent=client.id)
    )
    peer.send(definition(inside))
    peer.send(m.TaskBatch(inside, [1], (FUNCTION,), Packed.of([b"P1"])))
    agent.answer(agent.tasks(), durations=[4_000_000])
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert {status.name: status.used_seconds for status in snapshot.clients} == {"client": 0.0, "inside": 4.0}
    peer.send(m.Goodbye("bye"))
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert {status.name: status.used_seconds for status in snapshot.clients} == {"client": 4.0}


def test_an_attempt_is_a_run_that_began_and_not_a_hand_over() -> None:
    harness, client, agent = running()
    client.submit(3)
    # Handed over again and again, because agents gave them back.
    for _ in range(4):
        for client_id, number, attempt in agent.tasks():
            agent.send(m.TaskReturn(client_id, [number], [attempt]))
        harness.settle()
    tasks = sorted(agent.tasks(), key=lambda task: task[1])
    agent.answer(tasks[:1], status=m.Status.FAILED, payload=b"Pwhy")
    agent.answer(tasks[1:2], status=m.Status.PROCESSOR_DIED, payload=b"it died")
    agent.answer(agent.tasks(), status=m.Status.FAILED, payload=b"Pwhy")
    for _ in range(harness.core.config.max_task_attempts):
        agent.answer([*tasks[2:], *agent.tasks()], status=m.Status.PROCESSOR_DIED, payload=b"it died")
        tasks = tasks[:2]
    (told,) = of_kind(listen(harness, joined=True), m.MonitorFailures)
    assert dict(zip(told.numbers, told.attempts, strict=True)) == {1: 1, 2: 2, 3: harness.core.config.max_task_attempts}


def test_tasks_that_only_waited_at_a_lost_agent_are_told_to_have_come_back() -> None:
    harness, client, agent = running(workers=1)
    client.submit(3)
    agent.tasks()
    listen(harness)
    # Nothing an agent may ask for: it is given up.
    agent.send(m.CreditRequest(1))
    harness.settle()
    told = of_kind(listen(harness), m.MonitorEvents)
    returned = [
        number
        for events in told
        for number, state in zip(events.numbers, events.states, strict=True)
        if state == m.TaskEvent.RETURNED
    ]
    assert returned == [2, 3]


def test_failures_are_told_once_and_again_to_whoever_joins() -> None:
    harness, client, agent = running()
    listen(harness)
    client.submit(FAILURES_KEPT + 5)
    tasks = agent.tasks()
    agent.answer(tasks[:-1], status=m.Status.FAILED, payload=b"Pwhy", durations=[9] * (len(tasks) - 1))
    agent.answer(tasks[-1:], status=m.Status.FAILED, payload=b"P" + bytes(FAILURE_KEPT_BYTES_MAX))
    (told,) = of_kind(listen(harness), m.MonitorFailures)
    assert (told.first_number, len(told.numbers)) == (6, FAILURES_KEPT)
    assert told.payloads.split()[0] == b"Pwhy"
    assert told.payloads.split()[-1] == b""
    assert not of_kind(listen(harness), m.MonitorFailures)
    (again,) = of_kind(listen(harness, joined=True), m.MonitorFailures)
    assert (again.first_number, list(again.numbers)) == (6, list(told.numbers))


def test_graphs_in_progress_are_counted_by_row() -> None:
    harness, client, agent = running()
    client.send(m.GraphSubmit(client.id, 1, (FUNCTION,), Packed.of([b"P"] * 4), [0, 0, 2, 1], [0, 1, 2], [3]))
    agent.answer(agent.tasks()[:1])
    (graph,) = of_kind(listen(harness), m.MonitorSnapshot)[0].graphs
    assert (graph.rows, graph.waiting, graph.released, graph.done, graph.failed) == (4, 2, 1, 1, 0)
    assert graph.client == client.id


def test_what_the_object_store_says_is_passed_on() -> None:
    harness, client, _ = running()
    status = m.StoreStatus(1, 3, 1000, 5000, (client.id, identity("gone")), [2, 1], [800, 200])
    harness.core.handle(events.StoreReported(status), harness.now)
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert (snapshot.object_count, snapshot.object_bytes, snapshot.object_limit_bytes) == (3, 1000, 5000)
    assert (snapshot.clients[0].object_count, snapshot.clients[0].object_bytes) == (2, 800)


def test_objects_are_told_with_the_tasks_that_need_them() -> None:
    harness, client, agent = running(capacity=1)
    argument, literal, unused = identity("argument"), identity("literal"), identity("unused")
    client.submit(3, object_positions=[0, 0, 2], objects=(argument, argument, argument))
    rows = Packed.of([b"P0", b"P1"])
    client.send(
        m.GraphSubmit(client.id, 100, (FUNCTION,), rows, [0, 1], [0], [1], object_positions=[1], objects=(literal,))
    )
    gone = identity("somebody who has left")
    listed = [
        m.StoredObjectStatus(argument, client.id, "prices", 900, 1.5, "disk", readers_waiting=2),
        m.StoredObjectStatus(literal, client.id, "", 100, 2.5, "memory"),
        m.StoredObjectStatus(unused, client.id, "", 10, 2.5, "memory"),
        m.StoredObjectStatus(argument, gone, "", 1, 1.0, "memory"),
    ]
    harness.core.handle(events.StoreReported(m.StoreStatus(1, 4, objects=tuple(listed))), harness.now)
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert [one.tasks for one in snapshot.objects] == [2, 1, 0, -1]
    assert snapshot.objects[0] == dataclasses.replace(listed[0], id=argument[:4], tasks=2)
    # Whoever has an id can read the object.
    assert argument not in b"".join(map(bytes, encode(snapshot)))
    agent.answer(agent.tasks())
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert [one.tasks for one in snapshot.objects] == [1, 1, 0, -1]


def test_tasks_of_clients_with_very_many_are_not_counted_for_objects() -> None:
    harness, client, _ = running()
    client.submit(COUNTED_TASKS_MAX + 1)
    listed = (m.StoredObjectStatus(identity("object"), client.id),)
    harness.core.handle(events.StoreReported(m.StoreStatus(1, 1, objects=listed)), harness.now)
    (snapshot,) = of_kind(listen(harness), m.MonitorSnapshot)
    assert [one.tasks for one in snapshot.objects] == [-1]


def test_who_joins_gets_no_snapshot_before_the_object_store_has_answered() -> None:
    harness, _, _ = running()
    harness.now += 1.1
    tick = events.Tick(monitors=1, joined=True, store_asked=True)
    harness.core.handle(tick, harness.now)
    harness.settle()
    assert not of_kind(
        [effect.message for effect in harness.other_effects if isinstance(effect, effects.Publish)], m.MonitorSnapshot
    )
    harness.core.handle(events.StoreReported(m.StoreStatus(1, 3, 1000, 5000)), harness.now + 0.01)
    assert harness.core.next_deadline() <= harness.now + 0.01
    (snapshot,) = of_kind(listen(harness, 0.01), m.MonitorSnapshot)
    assert snapshot.object_count == 3


def test_who_joins_does_not_wait_for_an_object_store_that_does_not_answer() -> None:
    harness, _, _ = running()
    harness.now += 1.1
    harness.core.handle(events.Tick(monitors=1, joined=True, store_asked=True), harness.now)
    assert harness.core.next_deadline() <= harness.now + 0.5
    assert of_kind(listen(harness, 0.5), m.MonitorSnapshot)


def test_a_dump_is_json_bounded_and_finds_a_task() -> None:
    harness, client, _ = running(capacity=4)
    client.submit(TASKS_MAX + 100)
    data = json.loads(json.dumps(harness.core.snapshot(harness.now, 2)))
    assert data["clients"][0]["unfinished"] == TASKS_MAX + 100
    assert len(data["clients"][0]["tasks"]) == TASKS_MAX
    (story,) = data["tasks_asked_for"]
    assert (story["number"], story["state"], story["agent"], story["attempt"]) == (2, "assigned", "agent", 1)
    assert data["agents"][0]["assigned_by_function"] == {"module.f": 4}


def test_topics_are_told_apart() -> None:
    assert dumped_task(dump_topic(7)) == 7
    assert dumped_task(dump_topic()) == 0
    assert [dumped_task(topic) for topic in (FIGURES, EVENTS, b"", b"x")] == [None] * 4


def test_the_last_log_lines_are_kept_and_numbered() -> None:
    log = RecentLog()
    logger = logging.Logger("here")
    logger.addHandler(log)
    for number in range(LINES_KEPT + 10):
        logger.warning("line %d", number)
    told = log.take(b"i" * 16, all_kept=False)
    assert told is not None
    assert (told.first_number, len(told.texts), told.texts[-1]) == (11, LINES_KEPT, f"line {LINES_KEPT + 9}")
    assert log.take(b"i" * 16, all_kept=False) is None
    logger.info("one more")
    told = log.take(b"i" * 16, all_kept=False)
    assert told is not None
    assert (told.first_number, told.texts, list(told.levels)) == (LINES_KEPT + 11, ("one more",), [20])
    again = log.take(b"i" * 16, all_kept=True)
    assert again is not None
    assert len(again.texts) == LINES_KEPT


class FakePublisher(Publisher):
    """Has a subscription to a dump, and a new one at each look."""

    def __init__(self) -> None:
        self.subscriptions_made = 0
        self.sent: list[bytes] = []

    def update_subscribers(self) -> int:
        self.subscriptions_made += 1
        return 1

    def topics(self) -> list[bytes]:
        return [dump_topic(7)]

    def wanted(self, first_frame: bytes) -> bool:
        return False

    def send(self, frames: Sequence[Frame]) -> None:
        self.sent.append(bytes(frames[0]))


def test_who_subscribes_all_the_time_has_nothing_made_more_often() -> None:
    harness, _, _ = running()
    publisher, log = FakePublisher(), RecentLog()
    log.emit(logging.LogRecord("here", logging.INFO, "", 1, "a line", None, None))
    feed = MonitorFeed(publisher, log)
    # Ten seconds, twenty looks in each.
    for look in range(200):
        _, _, joined = feed.update(look / 20)
        feed.publish_own(harness.core, look / 20, 0.0, joined=joined)
    assert Counter(publisher.sent) == {dump_topic(7): 10, FIGURES: 20}


def test_failed_items_of_chunks_are_counted_and_told() -> None:
    harness, client, agent = running()
    listen(harness)
    client.submit(2)
    tasks = agent.tasks()
    (_, first, _), (_, second, _) = tasks
    agent.send(m.ChunkFailures(client.id, first, 1, 3, b"why"))
    for stale in (m.ChunkFailures(client.id, second, 2, 9, b""), m.ChunkFailures(client.id, 99, 1, 9, b"")):
        agent.send(stale)
    agent.answer(tasks)
    told = listen(harness)
    (failures,) = of_kind(told, m.MonitorFailures)
    assert (list(failures.numbers), list(failures.items), failures.payloads.split()) == ([first], [3], [b"why"])
    (snapshot,) = of_kind(told, m.MonitorSnapshot)
    assert (snapshot.failed_items, snapshot.clients[0].failed_items) == (3, 3)
    assert counts(snapshot.task_states)["success"] == 2


def test_a_failure_that_is_too_large_is_told_in_its_short_form() -> None:
    harness, client, agent = running()
    listen(harness)
    client.submit(3)
    tasks = agent.tasks()
    (_, first, _), (_, second, _), (_, third, _) = tasks
    large = b"P" + bytes(FAILURE_KEPT_BYTES_MAX)
    agent.send(m.ChunkFailures(client.id, first, 1, 0, b"short"))
    agent.send(m.ChunkFailures(client.id, second, 1, 0, bytes(FAILURE_KEPT_BYTES_MAX + 1)))
    agent.send(m.ChunkFailures(client.id, 99, 1, 0, b"of no task"))
    agent.answer(tasks[:2], status=m.Status.FAILED, payload=large)
    agent.send(m.ChunkFailures(client.id, third, 1, 0, b"of a task that ends otherwise"))
    agent.answer(tasks[2:])
    told = listen(harness)
    (failures,) = of_kind(told, m.MonitorFailures)
    assert list(failures.numbers) == [first, second]
    assert failures.payloads.split() == [b"short", b""]
    assert list(failures.items) == [0, 0]
    (snapshot,) = of_kind(told, m.MonitorSnapshot)
    assert snapshot.failed_items == 0


def test_a_short_form_belongs_to_one_attempt() -> None:
    harness, client, agent = running(workers=1)
    listen(harness)
    client.submit()
    ((_, number, attempt),) = agent.tasks()
    agent.send(m.ChunkFailures(client.id, number, attempt, 0, b"of the first attempt"))
    agent.connection.close("done")
    harness.settle()
    other = Agent(harness, "other")
    other.answer(other.tasks(), status=m.Status.FAILED, payload=b"Pof the second attempt")
    (failures,) = of_kind(listen(harness), m.MonitorFailures)
    assert failures.payloads.split() == [b"Pof the second attempt"]


def test_short_forms_go_with_their_client() -> None:
    harness, client, agent = running(workers=1)
    listen(harness)
    client.submit()
    ((_, number, attempt),) = agent.tasks()
    agent.send(m.ChunkFailures(client.id, number, attempt, 0, b"of a task that is gone"))
    client.connection.close("done")
    harness.settle()
    again = Client(harness, "client")
    again.define()
    again.submit()
    agent.answer(agent.tasks(), status=m.Status.FAILED, payload=b"Pof another task")
    (failures,) = of_kind(listen(harness), m.MonitorFailures)
    assert failures.payloads.split() == [b"Pof another task"]


def test_a_burst_is_thinned_within_its_first_second() -> None:
    harness, client, _agent = running(capacity=200)
    listen(harness)
    for _ in range(20):
        client.submit(1_000)
    (events,) = of_kind(listen(harness, 0.5), m.MonitorEvents)
    told = [number for number, state in zip(events.numbers, events.states, strict=True) if state == 0]
    assert 4_000 <= len(told) < 15_000
    assert len(told) + events.dropped >= 20_000
    assert events.stride >= 4
    assert not any(number % events.stride for number in told[-10:])
