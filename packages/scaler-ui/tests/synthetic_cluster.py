"""A cluster that does not exist, told to monitors as a scheduler would: every figure is known beforehand."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Sequence
from itertools import accumulate
from random import Random

from scaler_protocol.monitoring.topics import EVENTS, FIGURES, listed_objects
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import Frame

INCARNATION = b"first scheduler.".ljust(16)[:16]
ALICE, BOB = b"alice".ljust(16, b"."), b"bob".ljust(16, b".")
FUNCTIONS = ("pricing.simulate", "risk.aggregate", "features.extract", "models.fit_tree", "io.load_block")
UNIX = 1_790_000_000.0


def failure_payload(kind: str = "ValueError", text: str = "no such instrument: 'XYZ'") -> bytes:
    """The answer of a task that raised, as a worker makes it."""
    traceback = (
        "Traceback (most recent call last):\n"
        '  File "pricing.py", line 41, in simulate\n    curve = curves[instrument]\n'
        f"{kind}: {text}\n"
    )
    return b"P" + pickle.dumps((b"", kind, text, traceback))


def worker(agent: int, slot: int, **figures: object) -> m.WorkerStatus:
    """One worker of one agent."""
    status = m.WorkerStatus(
        name=f"node{agent:02}-{slot}",
        agent=f"node{agent:02}",
        hostname=f"node{agent:02}.example.org",
        pid=4000 + agent * 100 + slot,
        state=m.ProcessorState.RUNNING,
        agent_cpu_percent=3.5,
        agent_rss_bytes=38 * 1024**2,
        cpu_percent=60.0 + (agent * 7 + slot * 13) % 40,
        rss_bytes=(90 + (agent * 31 + slot * 17) % 400) * 1024**2,
        rss_free_bytes=24 * 1024**3,
        free=996,
        sent=4,
        queued=3,
        capabilities="linux" if agent % 2 else "gpu,linux",
        latency_seconds=0.0004,
        last_seen_seconds=0.3,
        task=agent * 100 + slot,
        function=FUNCTIONS[(agent + slot) % len(FUNCTIONS)],
        task_seconds=1.25,
    )
    for name, value in figures.items():
        setattr(status, name, value)
    return status


def snapshot(
    sequence: int, *, agents: int = 2, slots: int = 4, success: int = 0, **fields: object
) -> m.MonitorSnapshot:
    """A whole cluster with work under way; `sequence` counts seconds."""
    workers = tuple(worker(agent, slot) for agent in range(agents) for slot in range(slots))
    made = m.MonitorSnapshot(
        sequence=sequence,
        time_seconds=UNIX + sequence,
        incarnation=INCARNATION,
        cpu_percent=12.5,
        rss_bytes=37 * 1024**2,
        task_states=(
            m.Counter("unassigned", 120),
            m.Counter("running", 4 * len(workers)),
            m.Counter("success", success),
            m.Counter("failed", 3),
            m.Counter("canceled", 7),
        ),
        sent=(m.Counter("TaskBatch", 40 + sequence), m.Counter("ResultBatch", 38 + sequence)),
        received=(m.Counter("TaskBatch", 9 + sequence), m.Counter("ResultBatch", 40 + sequence)),
        workers=workers,
        agents=tuple(
            m.AgentStatus(
                name=f"node{agent:02}",
                hostname=f"node{agent:02}.example.org",
                pid=4000 + agent * 100,
                workers=slots,
                capacity=16,
                assigned=4 * slots,
                queued=3 * slots,
                cpu_percent=3.5,
                rss_bytes=38 * 1024**2,
                rss_free_bytes=24 * 1024**3,
                latency_seconds=0.0004,
                last_seen_seconds=0.3,
                capabilities="linux" if agent % 2 else "gpu,linux",
                resources=f"cores={slots},gpu=2,mem=64GiB",
                resources_used="gpu=0.5,mem=8GiB",
                functions=(m.Counter(FUNCTIONS[0], 3 * slots), m.Counter(FUNCTIONS[1], slots)),
                incarnation=b"agent%02d" % agent + bytes(9),
            )
            for agent in range(agents)
        ),
        clients=(
            m.ClientStatus(
                "alice",
                ALICE,
                "desk.example.org",
                812,
                100,
                20,
                success,
                3,
                0.4,
                False,
                1,
                12,
                3 * 1024**2,
                61,
                used_seconds=9.0 * sequence,
                busy_workers=3 * len(workers) // 4,
            ),
            m.ClientStatus(
                "bob",
                BOB,
                "desk.example.org",
                977,
                20,
                12,
                0,
                0,
                1.2,
                True,
                0,
                1,
                1024,
                5,
                used_seconds=3.0 * sequence,
                busy_workers=len(workers) // 4,
            ),
        ),
        client_names=(m.Tally("alice", 120, success, 3), m.Tally("", 32, 0, 0)),
        labels=(m.Tally("curves", 12, 30, 1),),
        groups=(
            m.GroupStatus("pricing", 3.0, 1, 100, 20, 1234.5678, max_running=20),
            m.GroupStatus("default", 1.0, 1, 20, 12, 400.0, max_waiting=20, refused=7),
        ),
        functions=(m.Counter(FUNCTIONS[0], 100), m.Counter(FUNCTIONS[1], 52)),
        failed_functions=(m.Counter(FUNCTIONS[0], 3),),
        graphs=(m.GraphStatus(ALICE, 5_000, 1_000, 420, 60, 515, 5, 33, began_seconds=UNIX - 40),),
        ended_graphs=(
            m.GraphStatus(ALICE, 4_000, 200, done=200, began_seconds=UNIX - 90, ended_seconds=UNIX - 47.5),
            m.GraphStatus(ALICE, 4_500, 14, done=10, failed=4, began_seconds=UNIX - 46, ended_seconds=UNIX - 41.25),
        ),
        objects=(
            m.StoredObjectStatus(b"big1", ALICE, "quotes", 2 * 1024**2, 75.0, "shared memory", tasks=20),
            m.StoredObjectStatus(b"big2", BOB, "", 1024, 3.0, "disk", readers_waiting=1),
        ),
        jobs=(
            m.JobStatus(
                name="overnight",
                owner="client|desk|812",
                client=b"overnight".ljust(16, b"."),
                waiting=3,
                running=2,
                done=90,
                failed=4,
                lost=1,
                size_bytes=5 * 1024**2,
                closed=True,
                started_seconds=UNIX - 3600,
                notice="tasks wait for workers with the capabilities {gpu}, which no connected worker offers",
            ),
            m.JobStatus("<b>bold</b>", "bob", bytes(16), done=7, started_seconds=UNIX, expires_seconds=UNIX + 7200),
        ),
        job_count=2,
        object_count=13,
        object_bytes=3 * 1024**2,
        object_limit_bytes=1024**3,
        started_seconds=UNIX - 60,
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def events(
    sequence: int, rows: Sequence[tuple[float, bytes, int, m.TaskEvent, str, str, int, int]], **fields: object
) -> m.MonitorEvents:
    """Task events from rows of (time, client, number, state, agent, function, microseconds, slot)."""
    clients = list(dict.fromkeys(row[1] for row in rows))
    agents = list(dict.fromkeys(row[4] for row in rows if row[4]))
    functions = list(dict.fromkeys(row[5] for row in rows))
    made = m.MonitorEvents(
        sequence=sequence,
        time_seconds=[row[0] for row in rows],
        clients=[clients.index(row[1]) for row in rows],
        client_table=tuple(clients),
        numbers=[row[2] for row in rows],
        states=[int(row[3]) for row in rows],
        workers=[agents.index(row[4]) if row[4] else 0xFFFF for row in rows],
        worker_table=tuple(agents),
        functions=[functions.index(row[5]) for row in rows],
        function_table=tuple(functions),
        durations=[row[6] for row in rows],
        slots=[row[7] if row[7] >= 0 else 0xFFFF for row in rows],
        incarnation=INCARNATION,
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def finished_tasks(
    count: int, *, agents: int = 2, slots: int = 4, seed: int = 1, first_number: int = 1, began: float = UNIX
) -> m.MonitorEvents:
    """Tasks that ran one after another on each worker, from `began` on; each as an event of its end."""
    random = Random(seed)
    ends = {(agent, slot): began for agent in range(agents) for slot in range(slots)}
    rows = []
    for number in range(first_number, first_number + count):
        agent, slot = min(ends, key=lambda place: ends[place]) if agents * slots < 50 else random.choice(list(ends))
        function = FUNCTIONS[min(len(FUNCTIONS) - 1, int(random.expovariate(0.7)))]
        microseconds = int(random.uniform(5e4, 9e5))
        ends[agent, slot] += microseconds / 1e6 + 0.004
        state = m.TaskEvent.FAILED if random.random() < 0.01 else m.TaskEvent.SUCCESS
        rows.append((ends[agent, slot], ALICE, number, state, f"node{agent:02}", function, microseconds, slot))
    return events(1, rows)


def graph(
    needs: Sequence[Sequence[int]],
    states: Sequence[int],
    first_number: int,
    *,
    functions: Sequence[int] = (),
    **more: object,
) -> m.MonitorGraph:
    """The rows of a graph of alice: what each needs, and its state."""
    ends = list(accumulate(map(len, needs)))
    made = m.MonitorGraph(
        time_seconds=UNIX,
        incarnation=INCARNATION,
        client=ALICE,
        first_number=first_number,
        row_count=len(needs),
        states=list(states),
        functions=list(functions) or [0] * len(needs),
        dependency_ends=ends,
        dependencies=[one for own in needs for one in own],
        function_table=FUNCTIONS,
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


def large_graph(first_number: int = 5_000) -> m.MonitorGraph:
    """A thousand rows: 600 that load, 300 that make features of two each, 99 that fit, and one that has them all."""
    needs: list[Sequence[int]] = [() for _ in range(600)]
    needs += [(2 * row, 2 * row + 1) for row in range(300)]
    needs += [tuple(600 + 3 * row + one for one in range(3)) for row in range(99)]
    needs += [tuple(range(900, 999))]
    states = [2] * 515 + [3] * 5 + [1] * 60 + [0] * 420
    return graph(needs, states, first_number, functions=[4] * 600 + [2] * 300 + [3] * 99 + [1])


def small_graph(first_number: int = 4_500) -> m.MonitorGraph:
    """Fourteen rows in five layers; one of the second has failed, and so will those that need it."""
    needs = [(), (), (), (), (), (0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (6, 7), (7, 8), (9, 10, 11), (12,)]
    states = [2] * 8 + [3] + [2, 2, 0, 0, 0]
    return graph(needs, states, first_number, functions=[4] * 5 + [2] * 4 + [3] * 3 + [0, 1])


def failures(first_number: int, count: int, **fields: object) -> m.MonitorFailures:
    """Failed tasks of alice, with readable errors."""
    made = m.MonitorFailures(
        incarnation=INCARNATION,
        first_number=first_number,
        time_seconds=[UNIX + row for row in range(count)],
        clients=(ALICE,) * count,
        numbers=[900 + first_number + row for row in range(count)],
        attempts=[1] * count,
        statuses=[int(m.Status.FAILED)] * count,
        functions=(FUNCTIONS[0],) * count,
        workers=("node00",) * count,
        durations=[1500] * count,
        payloads=Packed.of([failure_payload()] * count),
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def log(first_number: int, *lines: tuple[int, str]) -> m.MonitorLog:
    """Log lines of the scheduler: (level, text)."""
    return m.MonitorLog(
        incarnation=INCARNATION,
        first_number=first_number,
        time_seconds=[UNIX + row for row in range(len(lines))],
        levels=[level for level, _ in lines],
        texts=tuple(text for _, text in lines),
    )


class SyntheticScheduler:
    """Publishes messages at an address of its own."""

    def __init__(self, address: str = "tcp://127.0.0.1:0") -> None:
        # It tells at once what a scheduler tells in many minutes.
        self._publisher = Publisher(address, queue_messages=10_000)
        self.address = self._publisher.address
        self._had_monitors = False

    def __enter__(self) -> SyntheticScheduler:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._publisher.close()

    def wait_for_monitor(self, topics: int = 2) -> None:
        """Wait until somebody has subscribed to so many streams."""
        wait_until(lambda: self._publisher.update_subscribers() >= topics, 20)
        self._had_monitors = True

    def topics(self) -> list[bytes]:
        """What is subscribed to."""
        self._publisher.update_subscribers()
        return self._publisher.topics()

    def publish(self, *messages: m.Message) -> None:
        """Send messages as a scheduler does, but once only: where a monitor is connecting again, it is waited for."""
        if self._had_monitors:
            # Where none comes any more, nobody gets it.
            with contextlib.suppress(AssertionError):
                wait_until(self._publisher.update_subscribers, 5)
        for message in messages:
            self._publisher.send([EVENTS if isinstance(message, m.MonitorEvents) else FIGURES, *encode(message)])

    def answer_objects(self, objects: Sequence[m.StoredObjectStatus], number: int) -> int:
        """Answer whoever has subscribed to pages of these objects, which are sorted by size. Return how many have.

        Each answer has its own request number, from `number` on.
        """
        asked = [(topic, page) for topic in self.topics() if (page := listed_objects(topic)) is not None]
        for topic, page in asked:
            found = [one for one in objects if page.words in one.name and (not page.owner or one.owner == page.owner)]
            found = found if page.descending else found[::-1]
            shown = tuple(found[page.offset : page.offset + 100])
            self._publisher.send([topic, *encode(m.ObjectList(number, page.offset, len(found), len(objects), shown))])
        return len(asked)

    def publish_raw(self, *frames: Frame) -> None:
        """Send anything."""
        self._publisher.send(frames)
