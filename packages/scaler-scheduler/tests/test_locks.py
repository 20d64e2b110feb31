"""Named locks and semaphores: the table, and what clients are answered."""

from __future__ import annotations

import random
from typing import Any

import pytest
from harness import Agent, Client, Harness

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.locks import CLIENT_LEASES_MAX, Lease, LockTable

ONE, TWO, THREE = (Lease(b"client-%d" % number, 1) for number in range(3))


def table(opens_at: float = 0.0) -> LockTable:
    return LockTable(opens_at)


def test_who_asks_first_is_served_first() -> None:
    locks = table()
    for lease in (ONE, TWO, THREE):
        assert locks.request(lease, "a", 1) == ""
    assert locks.grant(1) == [ONE]
    assert locks.grant(1) == []
    assert locks.release(ONE)
    assert locks.grant(1) == [TWO]
    assert locks.release(THREE), "who waits may leave the queue"
    assert locks.release(TWO)
    assert locks.grant(1) == []
    assert len(locks) == 0
    locks.check_invariants()


def test_a_semaphore_has_as_many_holders_as_it_says() -> None:
    locks = table()
    for lease in (ONE, TWO, THREE):
        locks.request(lease, "a", 2)
    assert locks.grant(1) == [ONE, TWO]
    locks.drop_client(ONE.client)
    assert locks.grant(1) == [THREE]
    assert "2 may hold it" in locks.request(ONE, "a", 3)
    assert locks.request(ONE, "b", 3) == ""


def test_other_names_are_other_locks() -> None:
    locks = table()
    locks.request(ONE, "a", 1)
    locks.request(TWO, "b", 1)
    assert locks.grant(1) == [ONE, TWO]


def test_nothing_is_granted_before_old_holders_have_had_time_to_come_back() -> None:
    locks = table(opens_at=6)
    locks.request(TWO, "a", 1)
    assert locks.grant(5) == []
    assert locks.next_deadline() == 6
    assert locks.claim(ONE, "a", 1, 5)
    assert not locks.claim(THREE, "a", 1, 5), "another has it"
    assert locks.grant(6) == [], "it is held"
    assert not locks.claim(THREE, "b", 1, 6), "too late: others may have held it since"
    locks.release(ONE)
    assert locks.grant(7) == [TWO]


@pytest.mark.parametrize(("name", "count"), [("", 1), ("a" * 201, 1), ("a", 0), ("a", 1_000_001)])
def test_impossible_requests_are_refused(name: str, count: int) -> None:
    locks = table()
    assert "accepted" in locks.request(ONE, name, count)
    assert len(locks) == 0


def test_a_client_has_so_many_leases_at_most() -> None:
    locks = table()
    for number in range(CLIENT_LEASES_MAX):
        assert locks.request(Lease(b"one", number), str(number), 1) == ""
    assert "at most 1000" in locks.request(Lease(b"one", CLIENT_LEASES_MAX), "another", 1)
    assert "in use" in locks.request(Lease(b"one", 0), "another", 1)
    assert locks.request(Lease(b"two", 0), "0", 1) == ""


@pytest.mark.parametrize("seed", range(20))
def test_random_use_never_has_too_many_holders(seed: int) -> None:
    chance = random.Random(seed)
    locks, held, waiting = table(), dict[Lease, str](), dict[Lease, str]()
    counts = {"a": 1, "b": 3}
    queue: dict[str, list[Lease]] = {"a": [], "b": []}
    for number in range(2000):
        lease = Lease(b"%d" % chance.randrange(5), number)
        action = chance.random()
        if action < 0.5:
            name = chance.choice("ab")
            assert locks.request(lease, name, counts[name]) == ""
            waiting[lease] = name
            queue[name].append(lease)
        elif action < 0.9 and (held or waiting):
            ended = chance.choice([*held, *waiting])
            assert locks.release(ended)
            _forget([ended], held, waiting, queue)
        else:
            locks.drop_client(lease.client)
            _forget([each for each in (*held, *waiting) if each.client == lease.client], held, waiting, queue)
        for granted in locks.grant(1):
            name = waiting.pop(granted)
            assert queue[name].pop(0) == granted
            held[granted] = name
        locks.check_invariants()
        for name, count in counts.items():
            holders = list(held.values()).count(name)
            assert holders <= count
            assert holders == count or not queue[name], "somebody waits although there is room"


def _forget(ended: list[Lease], held: dict[Lease, str], waiting: dict[Lease, str], queue: dict[str, Any]) -> None:
    for lease in ended:
        held.pop(lease, None)
        if lease in waiting:
            queue[waiting.pop(lease)].remove(lease)


# --- what clients are answered


def answers(client: Client) -> list[tuple[int, int]]:
    return [(answer.lease, answer.state) for answer in client.take(m.LockAnswer)]


def ready() -> Harness:
    return Harness(recovery_grace_seconds=0)


def test_clients_are_told_when_they_hold_it_and_when_not_any_more() -> None:
    harness = ready()
    one, two = Client(harness, "one"), Client(harness, "two")
    one.send(m.LockRequest(1, "a"))
    two.send(m.LockRequest(1, "a"))
    assert (answers(one), answers(two)) == ([(1, m.LockState.HELD)], [])
    described = harness.core.snapshot(harness.now)["locks"]
    assert described == [{"name": "a", "count": 1, "holders": [one.id.hex()], "waiting": 1}]
    one.send(m.LockRelease(1))
    assert (answers(one), answers(two)) == ([(1, m.LockState.RELEASED)], [(1, m.LockState.HELD)])
    one.send(m.LockRelease(1), m.LockRequest(2, "a", 5))
    assert answers(one) == [(1, m.LockState.LOST), (2, m.LockState.REFUSED)]


@pytest.mark.parametrize("how", ["leaves", "silent", "processor", "agent"])
def test_a_lock_is_freed_with_its_client(how: str) -> None:
    harness = ready()
    agent = Agent(harness, "agent")
    inside = how in ("processor", "agent")
    one, two = Client(harness, "one", agent if inside else None), Client(harness, "two")
    one.send(m.LockRequest(1, "a"))
    two.send(m.LockRequest(1, "a"))
    if how == "leaves":
        one.send(m.Goodbye("done"))
    elif how == "silent":
        one.reachable = False
        harness.advance(harness.core.config.client_timeout_seconds + 5)
    elif how == "processor":
        agent.send(m.ClientGone(one.id))
    else:
        agent.send(m.Goodbye("stopped"))
    assert answers(two) == [(1, m.LockState.HELD)]


def test_after_a_start_old_holders_come_first() -> None:
    harness = Harness(recovery_grace_seconds=5)
    new, old, late = (Client(harness, name) for name in ("new", "old", "late"))
    new.send(m.LockRequest(1, "a"))
    harness.advance(1)
    old.send(m.LockRequest(7, "a", held=True))
    assert answers(old) == [(7, m.LockState.HELD)]
    harness.advance(10)
    assert answers(new) == []
    late.send(m.LockRequest(3, "b", held=True))
    assert answers(late) == [(3, m.LockState.LOST)]
    old.send(m.LockRelease(7))
    assert answers(new) == [(1, m.LockState.HELD)]


def test_after_a_start_it_is_granted_once_nobody_can_come_back() -> None:
    harness = Harness(recovery_grace_seconds=5)
    client = Client(harness, "client")
    client.send(m.LockRequest(1, "a"))
    harness.advance(4)
    assert answers(client) == []
    harness.advance(2)
    assert answers(client) == [(1, m.LockState.HELD)]


def test_a_cluster_that_ends_with_its_scheduler_grants_at_once() -> None:
    harness = Harness(ends_cluster=True, recovery_grace_seconds=5)
    client = Client(harness, "client")
    client.send(m.LockRequest(1, "a"))
    assert answers(client) == [(1, m.LockState.HELD)]
