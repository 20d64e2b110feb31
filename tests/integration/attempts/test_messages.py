"""Attempts with a real key: messages that are not its owner's to send, and bytes beyond the limits, at a cluster with keys."""

from __future__ import annotations

import os

import numpy as np
import psutil
import pytest

from scaler import Client
from scaler_protocol.security.keys import pinned_id
from scaler_protocol.wire import messages as m
from tests.integration import functions as f
from tests.integration.attempts.intruders import (
    Cluster,
    Table,
    beside_honest_work,
    closed_after,
    framed,
    handshaken,
    hello,
    is_closed,
    linked,
    refused,
    said,
    until,
)
from tests.integration.deployment import Service

pytestmark = pytest.mark.without_keys("it makes its own keys")


def resident_bytes(scheduler: Service) -> int:
    """Return the memory of a scheduler and of its object storage server."""
    return sum(psutil.Process(pid).memory_info().rss for pid in (scheduler.pid, *scheduler.children()))


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_nobody_gets_in_by_messages_of_others(cluster: Cluster) -> None:
    with beside_honest_work(cluster.address, cluster.keys) as (victim, table):
        try_sessions_of_workers(cluster, table, victim.identity)
        try_sessions_of_clients(cluster, table, victim.identity)
        try_objects(cluster, table, victim)
        try_limits(cluster, table)


def try_sessions_of_workers(cluster: Cluster, table: Table, victim: bytes) -> None:
    address, eve_worker, worker = cluster.address, cluster.own("eve-worker"), cluster.own("worker")
    worker_id, their_agent = pinned_id(eve_worker.own.public), pinned_id(worker.own.public)
    with linked(address, eve_worker, worker_id) as link:
        table.add("a worker's key as client", closed_after(link, said(hello(worker_id))))
    named = said(hello(their_agent, m.Role.AGENT, worker_names=("steady",), capacity=0))
    mine = said(hello(worker_id, m.Role.AGENT, worker_names=("eve",), capacity=0))
    with linked(address, worker, their_agent) as steady:
        steady.send(named)
        assert any(isinstance(answer, m.Welcome) for answer in until(steady, lambda: False, 1.0))
        for where, server in cluster.servers:
            with linked(server, eve_worker, their_agent) as link:
                table.add(f"identity of another worker with one's own key, {where}", refused(link))
        with linked(address, eve_worker, worker_id) as link:
            table.add("starting another worker's session anew", closed_after(link, named))
        with linked(address, eve_worker, worker_id) as link:
            gone = said(m.ClientGone(victim), 1)
            table.add("a worker says that another's client is gone", closed_after(link, mine, gone))
        with linked(address, eve_worker, worker_id) as link:
            link.send(mine)
            link.send(said(m.Goodbye("forged"), 1))
            until(link, lambda: False, 0.5)
        heard = until(steady, lambda: False, 0.5)
        assert steady.connected
        assert not any(isinstance(message, m.UnknownPeer | m.Refused | m.Shutdown) for message in heard), heard
        table.add("a worker's goodbye while another works", "ends its own session only")


def try_sessions_of_clients(cluster: Cluster, table: Table, victim: bytes) -> None:
    eve, monitor = cluster.own("eve"), cluster.own("monitor")
    me, monitor_id = pinned_id(eve.own.public), pinned_id(monitor.own.public)
    agent = hello(monitor_id, m.Role.AGENT, worker_names=("w",), capacity=10)
    with linked(cluster.address, monitor, monitor_id) as link:
        table.add("a monitor's key as worker", closed_after(link, said(agent)))
    for what, message in (
        ("disconnecting another's client", m.ClientGone(victim)),
        ("cancelling another's task", m.TaskCancel(victim, [1])),
        ("ending the cluster as client", m.Shutdown("bye")),
    ):
        with linked(cluster.address, eve, me) as link:
            table.add(what, closed_after(link, said(hello(me)), said(message, 1)))


def try_objects(cluster: Cluster, table: Table, victim: Client) -> None:
    eve, storage = cluster.own("eve"), cluster.storage
    me = pinned_id(eve.own.public)
    large = np.arange(100_000)
    reference = victim.send_object(large)
    assert victim.submit(f.sum_of, reference).result(30) == large.sum()
    object_id = reference.object_id
    introduction = said(hello(me, to_object_storage=True))
    with linked(storage, eve, me) as link:
        put = said(m.ObjectPut(1, object_id, victim.identity, [b"header", b"forged"]))
        table.add("overwriting another's object", closed_after(link, introduction, put))
    with linked(storage, eve, me) as link:
        delete = said(m.ObjectDelete(1, victim.identity, (object_id,)))
        table.add("deleting another's object", closed_after(link, introduction, delete))
    with linked(storage, eve, me) as link:
        link.send(introduction)
        for number in range(200):
            link.send(said(m.ObjectGet(number + 1, os.urandom(16))))
        answers = until(link, lambda: False, 1.0)
        data = [answer for answer in answers if isinstance(answer, m.ObjectData)]
        assert all(answer.missing for answer in data)
        table.add("reading objects by guessing, 200 times", f"{len(data)} answers, all: no such object")
    assert victim.submit(f.sum_of, reference).result(30) == large.sum()


def try_limits(cluster: Cluster, table: Table) -> None:
    eve = cluster.own("eve")
    for where, server in cluster.servers:
        for what, count in (("a frame of 2^40 bytes", 0), ("a message of 1,025 frames", 1025)):
            sock, decoder = handshaken(server, eve)
            with sock:
                frames = [framed(decoder, b"", more=True) for _ in range(count)]
                sock.sendall(b"".join(frames) if frames else b"\2" + (2**40).to_bytes(8, "big"))
                assert is_closed(sock), what
            table.add(f"{what}, with a key, {where}", "connection closed")
        halves = [handshaken(server, cluster.own(name)) for name in ("eve", "eve-worker")]
        before = resident_bytes(cluster.scheduler)
        halves[0][0].sendall(b"\2" + (2**30).to_bytes(8, "big") + bytes(100))
        halves[1][0].sendall(framed(halves[1][1], b"never ended", more=True))
        table.add(f"half a frame, and half a message, with a key, {where}", "nothing")
        assert resident_bytes(cluster.scheduler) < before + 2**28
        for sock, _ in halves:
            sock.close()
