"""Attempts of workers with real keys to answer what they were not asked: results sent again, and 10,000 forgeries."""

from __future__ import annotations

import contextlib
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaler import Client, ScalerFuture
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.keys import pinned_id
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from tests.integration import functions as f
from tests.integration.attempts.intruders import (
    Cluster,
    FalseWorker,
    Table,
    beside_honest_work,
    closed_after,
    hello,
    linked,
    said,
    snapshot,
)
from tests.integration.deployment import wait_for

pytestmark = pytest.mark.without_keys("it makes its own keys")

FORGERIES = 10_000
CLOSING_TIMES = 20
"""How often each forgery is tried that costs its sender the connection."""

AGAIN = 100
FOR_FALSE_WORKERS = (("false", -1),)
"""A capability that no honest worker offers."""


@contextlib.contextmanager
def false_worker(cluster: Cluster, keys: PeerSecurity, capacity: int = 0) -> Iterator[FalseWorker]:
    identity = pinned_id(keys.own.public)
    with linked(cluster.address, keys, identity) as link:
        worker = FalseWorker(link, identity, FOR_FALSE_WORKERS, capacity)
        yield worker
        worker.leave()


def answers(batches: list[m.TaskBatch], payloads: dict[int, bytes]) -> list[m.ResultBatch]:
    """Return what a worker says that has run these tasks."""
    return [
        m.ResultBatch(
            batch.client,
            list(batch.numbers),
            list(batch.attempts) or [1] * len(batch.numbers),
            Packed.of([payloads[number] for number in batch.numbers]),
        )
        for batch in batches
    ]


class StaleResults:
    """Waits until the scheduler has counted results that it did not accept."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._monitor = cluster.own("monitor")
        self._expected = self._count()

    def _count(self) -> int:
        return snapshot(self._cluster.monitors, self._monitor).stale_results

    def grow_by(self, rows: int) -> None:
        """Expect so many more, and none besides."""
        self._expected += rows
        counts: list[int] = []

        def all_counted() -> bool:
            counts.append(self._count())
            return counts[-1] >= self._expected

        wait_for("results to be counted as stale", all_counted)
        assert counts[-1] == self._expected


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_nobody_gets_in_by_results_that_were_right_once(cluster: Cluster) -> None:
    one, other = cluster.own("eve-worker"), cluster.own("worker")
    with beside_honest_work(cluster.address, cluster.keys) as (victim, table):
        stale = StaleResults(cluster)
        with false_worker(cluster, one, 10) as eve, false_worker(cluster, other) as accomplice:
            again = try_results_again(victim, table, stale, eve, accomplice)
        try_results_of_a_lost_attempt(cluster, victim, table, stale, again)


def try_results_again(
    victim: Client, table: Table, stale: StaleResults, eve: FalseWorker, accomplice: FalseWorker
) -> list[m.ResultBatch]:
    """Return the results that were accepted the first time."""
    futures = [submit_to_false(victim, value) for value in range(10)]
    batches = eve.given(10)
    numbers = sorted(number for batch in batches for number in batch.numbers)
    payloads = {number: b"P" + pickle.dumps(value**2) for value, number in enumerate(numbers)}
    results = answers(batches, payloads)
    for result in results:
        eve.say(result)
    assert [future.result(30) for future in futures] == [value**2 for value in range(10)]
    table.add("results of tasks that the worker was given", "accepted, once")

    for _ in range(AGAIN):
        for sequence, result in enumerate(results, 1):
            eve.say(result, sequence)
    eve.finish()
    stale.grow_by(0)
    table.add(f"the same bytes {AGAIN} times more, same numbers in the session", "dropped as repetitions")
    for what, sender in (("", eve), (", by another worker", accomplice)):
        for _ in range(AGAIN):
            for result in results:
                sender.say(result)
        sender.finish()
        stale.grow_by(10 * AGAIN)
        table.add(f"the same results {AGAIN} times more{what}", f"0 accepted, {10 * AGAIN:,} counted")
    assert victim.submit(f.square, 9).result(30) == 81
    # The worker is still given tasks, and its right answers still count.
    future = submit_to_false(victim, 7)
    for result in results:
        eve.say(result)
    (batch,) = eve.given(1)
    (late,) = answers([batch], dict.fromkeys(batch.numbers, b"P" + pickle.dumps(49)))
    eve.say(late)
    assert future.result(30) == 49
    stale.grow_by(10)
    table.add("the same results while the worker has another task", "0 accepted; the task's own result is")
    return results


def submit_to_false(client: Client, value: int) -> ScalerFuture:
    return client.submit_verbose(f.square, (value,), capabilities=dict(FOR_FALSE_WORKERS))


def try_results_of_a_lost_attempt(
    cluster: Cluster, victim: Client, table: Table, stale: StaleResults, again: list[m.ResultBatch]
) -> None:
    """A worker is given tasks and leaves; another one has them when the first comes back with results."""
    one, other = cluster.own("eve-worker"), cluster.own("worker")
    with false_worker(cluster, one, 5) as eve:
        futures = [submit_to_false(victim, value) for value in range(5)]
        batches = eve.given(5)
    with false_worker(cluster, other, 5) as holder:
        second = holder.given(5)
        with false_worker(cluster, one) as eve:
            wrong = dict.fromkeys((number for batch in batches for number in batch.numbers), b"P" + pickle.dumps(-1))
            forged = [*answers(batches, wrong), *answers(second, wrong), *again]
            for result in forged:
                eve.say(result)
            eve.finish()
            stale.grow_by(sum(len(result.numbers) for result in forged))
            assert not any(future.done() for future in futures)
            numbers = sorted(wrong)
            payloads = {number: b"P" + pickle.dumps(value**2) for value, number in enumerate(numbers)}
            for result in answers(second, payloads):
                holder.say(result)
            assert [future.result(30) for future in futures] == [value**2 for value in range(5)]
    table.add("results of an attempt that another worker has now", "0 accepted; the holder's are")


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_nobody_gets_in_by_ten_thousand_forgeries(cluster: Cluster) -> None:
    with beside_honest_work(cluster.address, cluster.keys) as (victim, table):
        monitor = cluster.own("monitor")
        tasks = [victim.submit(f.sleep_and_return, 0.05, number) for number in range(200)]
        before = snapshot(cluster.monitors, monitor)
        refused = try_closing(cluster, table, victim.identity)
        staying = FORGERIES - sum(refused.values())
        with false_worker(cluster, cluster.own("eve-worker")) as eve:
            sent = try_staying(eve, victim.identity, staying)
        relayed = sent["Relay"]

        def all_counted() -> bool:
            found = received(snapshot(cluster.monitors, monitor)) - received(before)
            return all(found[kind] >= count for kind, count in sent.items() if kind != "Relay")

        wait_for("all forgeries to be counted", all_counted)
        after = snapshot(cluster.monitors, monitor)
        counted = received(after) - received(before)
        # Honest workers send none of these here.
        assert all(counted[kind] == sent[kind] for kind in ("Inventory", "ChunkFailures", "Output"))
        assert after.stale_results - before.stale_results == sent["ResultBatch"]
        assert after.failed_items == before.failed_items
        names = {counter.name: counter.count for counter in after.sent}
        assert not names.get("Output")
        # Of those that relay though they may not, the message around and the one inside.
        twice = sum(count for kind, count in refused.items() if kind.startswith("Relay"))
        expected = sum(refused.values()) + twice + relayed

        def audited_now() -> Counter[str]:
            return cluster.refusals("eve", "eve-worker", "monitor")

        # What tasks repeat is written once a second.
        wait_for(f"{expected} refusals in the audit log", lambda: audited_now().total() >= expected)
        audited = audited_now()
        assert audited.total() == expected, audited
        assert len(cluster.audit_log.read_text(encoding="utf-8").splitlines()) < expected
        assert [task.result(120) for task in tasks] == list(range(200))
        for kind, count in sorted((sent - Counter({"Relay": relayed})).items()):
            outcome = "counted as stale" if kind == "ResultBatch" else "received, without effect"
            table.add(f"{count:,} forged {kind}", f"0 accepted, all {outcome}")
        table.add(
            f"{relayed:,} forged messages relayed for a client of its own", "0 accepted, all in the audit log; it stays"
        )
        table.add(
            f"{sum(refused.values()):,} messages of {len(refused)} kinds that the role may not send",
            "0 accepted, all in the audit log; each costs the connection",
        )
        for reason, count in sorted(audited.items()):
            print(f"audit log: {count:>6,} × {reason}")


def received(figures: m.MonitorSnapshot) -> Counter[str]:
    """Return how many messages the scheduler has received, by kind."""
    return Counter({counter.name: counter.count for counter in figures.received})


def try_staying(eve: FalseWorker, victim: bytes, count: int) -> Counter[str]:
    """Send what workers may send, about tasks that this one was not given; return how many of each kind."""
    rng = random.Random(1)
    mine = eve.identity[:8] + rng.randbytes(8)
    bad = Packed.of([b"Pforged"])
    # Rows that were skipped are no results, and not counted.
    statuses = [status for status in m.Status if status is not m.Status.SKIPPED]
    kinds: list[Callable[[int], m.Message]] = [
        lambda number: m.ResultBatch(victim, [number], [1], bad, durations=[10**9]),
        lambda number: m.ResultBatch(victim, [number], [rng.randrange(60_000)], bad),
        lambda number: m.ResultBatch(victim, [number + 10**6], [1], bad),
        lambda number: m.ResultBatch(victim, [number], [1], bad, [rng.choice(statuses)]),
        lambda number: m.Inventory(victim, [number], [1], [rng.randrange(2)]),
        lambda number: m.TaskReturn(victim, [number], [1]),
        lambda number: m.ChunkFailures(victim, number, 1, 5, b"Pforged"),
        lambda number: m.Output(victim, number, rng.randrange(1, 4), b"forged\n"),
        lambda number: m.Relay(mine, said(m.TaskCancel(victim, [number]), 1)),
        lambda number: m.Relay(mine, said(m.Shutdown("forged"), 1)),
        lambda number: m.Relay(mine, said(m.TaskBatch(victim, [number], (bytes(16),), bad), 1)),
        lambda number: m.Relay(mine, said(m.ResultBatch(victim, [number], [1], bad), 1)),
        lambda number: m.Relay(mine, said(hello(victim))),
    ]
    sent: Counter[str] = Counter()
    for number in range(count):
        message = kinds[number % len(kinds)](rng.randrange(1, 400))
        sent[type(message).__name__] += 1
        eve.say(message)
    eve.finish()
    return sent


def try_closing(cluster: Cluster, table: Table, victim: bytes) -> Counter[str]:
    """Send what a role may not send; return how many of each kind. Each must cost the connection."""
    bad = Packed.of([b"Pforged"])
    graph = m.GraphSubmit(victim, 1, (bytes(16),), bad, [0], [], [0])
    in_anothers_name: list[m.Message] = [
        m.TaskCancel(victim, [1]),
        m.TaskBatch(victim, [1], (bytes(16),), bad),
        graph,
        m.FunctionDefine(victim, (bytes(16),), bad),
    ]
    of_agents: list[m.Message] = [
        m.ResultBatch(victim, [1], [1], bad),
        m.Inventory(victim, [1], [1], [0]),
        m.TaskReturn(victim, [1], [1]),
        m.Output(victim, 1, 1, b"forged\n"),
        m.ClientGone(victim),
        m.Relay(victim, said(m.Goodbye(""), 1)),
    ]
    objects: list[m.Message] = [
        m.ObjectPut(1, bytes(16), victim, [b"forged"]),
        m.ObjectDelete(1, victim, (bytes(16),)),
        m.ObjectDelete(1, victim, ()),
        m.Shutdown("forged"),
    ]
    attempts: list[tuple[str, str, m.Role | None, list[m.Message]]] = [
        ("eve", cluster.address, m.Role.CLIENT, [*in_anothers_name, *of_agents, m.Shutdown("forged")]),
        ("eve-worker", cluster.address, m.Role.AGENT, [*in_anothers_name, *of_agents[4:], m.Shutdown("forged")]),
        # It may not even introduce itself.
        ("monitor", cluster.address, None, [hello(victim), m.TaskCancel(victim, [1])]),
        ("eve", cluster.storage, m.Role.CLIENT, objects),
        ("eve-worker", cluster.storage, m.Role.CLIENT, objects[1:]),
    ]
    sent: Counter[str] = Counter()
    for name, server, role, messages in attempts:
        keys = cluster.own(name)
        identity = pinned_id(keys.own.public)
        is_storage = server == cluster.storage
        workers: dict[str, Any] = {"worker_names": ("false",)} if role is m.Role.AGENT else {}
        introduction = [] if role is None else [said(hello(identity, role, to_object_storage=is_storage, **workers))]
        for message in messages:
            for _ in range(CLOSING_TIMES):
                with linked(server, keys, identity) as link:
                    closed_after(link, *introduction, said(message, 0 if is_storage else 1))
            sent[f"{type(message).__name__} of {name}, {'storage' if is_storage else 'scheduler'}"] += CLOSING_TIMES
    return sent
