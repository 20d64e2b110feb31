"""When a client has left, nothing that agents' records list refers to it any more: its arguments and objects would stay."""

from __future__ import annotations

import gc
from collections import deque

import pytest
from harness import Agent, Client, Harness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions, encode_record, join_records
from scaler_scheduler.core.records import ClientRecord, Task

WORKER = join_records((encode_record(CallOptions().with_given({"worker": "agent-1"}, "test")),))


def kept_of_clients(harness: Harness) -> int:
    """Count records of clients and tasks that are reachable from the core."""
    seen: set[int] = set()
    waiting: list[object] = [harness.core]
    found = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        found += isinstance(one, ClientRecord | Task)
        if type(one).__module__.startswith("scaler_scheduler.core") or isinstance(
            one, dict | list | set | tuple | deque
        ):
            waiting += gc.get_referents(one)
    return found


@pytest.mark.parametrize("how", ["for a worker", "newcomer"])
def test_a_client_that_has_left_is_forgotten(how: str) -> None:
    harness = Harness()
    agent = Agent(harness, "agent", workers=2, capacity=8)
    if how == "newcomer":
        busy = Client(harness, "busy")
        busy.define()
        busy.submit(8)
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=WORKER if how == "for a worker" else b"")
    record = harness.core._state.agents.by_peer[agent.id]
    listed = [task for tasks in record.pinned.values() for task in tasks] + record.newcomers
    assert [task.options.client.id for task in listed] == [client.id]
    del listed
    agent.answer(agent.tasks())
    for peer in list(harness.peers.values()):
        if isinstance(peer, Client):
            peer.send(m.Goodbye("done"))
            del harness.peers[peer.peer]
    harness.advance(5)
    assert kept_of_clients(harness) == 0
    assert record.pinned == {}
    assert record.newcomers == []


def test_a_client_of_an_agent_that_has_left_is_forgotten() -> None:
    harness = Harness()
    agent = Agent(harness, "agent", workers=2, capacity=8)
    client = Client(harness, "client")
    client.define()
    client.submit(1, options=WORKER)
    record = harness.core._state.agents.by_peer[agent.id]
    assert record.pinned
    agent.send(m.Goodbye("stopped"))
    assert (record.pinned, record.newcomers) == ({}, [])
    client.send(m.Goodbye("done"))
    del harness.peers[client.peer]
    harness.advance(5)
    assert kept_of_clients(harness) == 0


@pytest.mark.parametrize("options", [b"", WORKER], ids=["for any worker", "for a worker"])
def test_what_is_cancelled_where_nobody_serves_it_is_forgotten(options: bytes) -> None:
    harness = Harness()
    client = Client(harness, "client")
    client.define()
    for _ in range(3):
        client.send(m.TaskCancel(client.id, client.submit(1, options=options)))
    harness.advance(1)
    # Only the record of the client itself.
    assert kept_of_clients(harness) == 1
