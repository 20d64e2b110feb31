"""Attempts at a cluster without keys, on one machine. Anybody may join it, but bytes and forgeries do not harm others' work."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import psutil
import pytest

from scaler import Client
from scaler_protocol.transport.zmtp import command_frame, greeting
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from tests.integration import functions as f
from tests.integration.attempts.intruders import (
    FalseWorker,
    Table,
    beside_honest_work,
    closed_after,
    connected_socket,
    framed,
    handshaken,
    heard,
    hello,
    is_closed,
    linked,
    said,
    snapshot,
)
from tests.integration.attempts.noises import NOISES
from tests.integration.deployment import Deployment, Service, wait_for

pytestmark = pytest.mark.without_keys("it is about clusters without keys")

FORGERIES = 1_000


@pytest.mark.chaos
@pytest.mark.timeout(180)
def test_nobody_gets_in_the_way_without_keys(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler)
    servers_and_agent = {scheduler.pid, *scheduler.children(), workers.pid}
    with beside_honest_work(scheduler.address, None) as (victim, table):
        servers = (("scheduler", scheduler.address), ("storage", str(scheduler.addresses["object_storage"])))
        for where, server in servers:
            try_bytes(where, server, table)
        try_monitors(str(scheduler.addresses["monitor"]), table)
        try_forgeries(scheduler, table, victim)
        try_objects(servers[1][1], table, victim)
        assert all(psutil.pid_exists(pid) for pid in servers_and_agent)


def try_bytes(where: str, server: str, table: Table) -> None:
    """Before and after the handshake."""
    for what, noise in NOISES.items():
        with connected_socket(server) as sock:
            sock.sendall(noise)
            assert is_closed(sock), what
        table.add(f"{what}, {where}", "connection closed")
    with connected_socket(server) as sock:
        sock.sendall(greeting(b"NULL")[:40])
    table.add(f"half a greeting, then gone, {where}", "nothing")
    for what, data in (
        ("a frame of 2^40 bytes", b"\2" + (2**40).to_bytes(8, "big")),
        ("a message of 1,025 frames", b"\1\0" * 1025),
        ("a frame with flags that there are not", b"\xf0\1x"),
        ("a million empty messages", bytes(2_000_000)),
        ("a million commands", b"\4\2\1A" * 1_000_000),
        ("a message that is noise", b"\1\x30" + os.urandom(48) + b"\0\xc8" + os.urandom(200)),
    ):
        sock, _ = handshaken(server, None)
        with sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(data)
            assert is_closed(sock), what
        table.add(f"{what}, {where}", "connection closed")
    halves = [handshaken(server, None) for _ in range(2)]
    halves[0][0].sendall(b"\2" + (2**30).to_bytes(8, "big") + bytes(100))
    halves[1][0].sendall(framed(halves[1][1], b"never ended", more=True))
    table.add(f"half a frame, and half a message, {where}", "nothing")
    for sock, _ in halves:
        sock.close()


def try_monitors(monitors: str, table: Table) -> None:
    subscribed = greeting(b"NULL") + command_frame(b"\5READY\x0bSocket-Type\0\0\0\3SUB")
    attempts = {
        **NOISES,
        "half a greeting": greeting(b"NULL")[:40],
        "a frame of 2^40 bytes": subscribed + b"\2" + (2**40).to_bytes(8, "big"),
        "half a frame": subscribed + b"\0\xc8half",
        "a message that is noise": subscribed + b"\0\xc8" + os.urandom(200),
    }
    floods = {
        "101 topics": b"".join(command_frame(b"\x09SUBSCRIBE%d" % number) for number in range(101)),
        "a topic of 300 bytes": command_frame(b"\x09SUBSCRIBE" + bytes(300)),
        "a million subscriptions": command_frame(b"\x09SUBSCRIBEtopic") * 1_000_000,
    }
    for what, data in floods.items():
        with connected_socket(monitors) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(subscribed + data)
            assert is_closed(sock), what
        table.add(f"{what}, monitors' port", "connection closed")
    with contextlib.ExitStack() as stack:
        for data in attempts.values():
            stack.enter_context(connected_socket(monitors)).sendall(data)
        # While their connections are still there, or closed by now.
        wait_for("monitors to hear", lambda: snapshot(monitors, None).workers)
    for what in attempts:
        table.add(f"{what}, monitors' port", "monitors go on hearing")


def try_forgeries(scheduler: Service, table: Table, victim: Client) -> None:
    """Of tasks that were not given, and in the name of peers that there are not."""
    monitors = str(scheduler.addresses["monitor"])
    futures = [victim.submit(f.sleep_and_return, 0.02, number) for number in range(100)]
    before = snapshot(monitors, None)
    forged = Packed.of([b"Pforged"])
    identity, nobody = os.urandom(16), os.urandom(16)
    with linked(scheduler.address, None, identity) as link:
        worker = FalseWorker(link, identity)
        for number in range(FORGERIES):
            worker.say(m.ResultBatch(victim.identity, [number % 200 + 1], [1], forged))
            worker.say(m.ResultBatch(nobody, [number], [1], forged))
            worker.say(m.Inventory(victim.identity, [number % 200 + 1], [1], [0]))
            worker.say(m.TaskReturn(victim.identity, [number % 200 + 1], [1]))
            worker.say(m.Output(nobody, number, 1, b"forged\n"))
            worker.say(m.ClientGone(victim.identity if number % 2 else nobody))
        worker.leave()
    wait_for("stale results", lambda: snapshot(monitors, None).stale_results - before.stale_results >= FORGERIES)
    assert [future.result(60) for future in futures] == list(range(100))
    table.add(f"{FORGERIES:,} forged results of tasks not given", "0 accepted, all counted as stale")
    table.add(f"{FORGERIES * 5:,} messages about others' or no clients' tasks", "received, without effect")
    for what, message in (
        ("cancelling in the name of another client", m.TaskCancel(victim.identity, [1])),
        ("a result from a client", m.ResultBatch(victim.identity, [1], [1], forged)),
        ("a message for object storage", m.ObjectGet(1, os.urandom(16))),
    ):
        identity = os.urandom(16)
        with linked(scheduler.address, None, identity) as link:
            table.add(what, closed_after(link, said(hello(identity)), said(message, 1)))


def try_objects(storage: str, table: Table, victim: Client) -> None:
    array = np.arange(100_000)
    reference = victim.send_object(array)
    identity = os.urandom(16)
    with linked(storage, None, identity) as link:
        link.send(said(hello(identity, to_object_storage=True)))
        for number in range(200):
            link.send(said(m.ObjectGet(3 * number + 1, os.urandom(16))))
            link.send(said(m.ObjectDelete(3 * number + 2, identity, (os.urandom(16), reference.object_id))))
            link.send(said(m.ObjectPut(3 * number + 3, reference.object_id, identity, [b"header", b"forged"])))
        answers = heard(link, lambda found: len(found) > 600, 30.0)
        data = [answer.missing for answer in answers if isinstance(answer, m.ObjectData)]
        replies = [answer.status for answer in answers if isinstance(answer, m.ObjectPutReply | m.ObjectDeleteReply)]
        assert data == [True] * 200
        assert replies == [m.ObjectStatus.NOT_YOURS] * 400
    assert victim.submit(f.sum_of, reference).result(30) == array.sum()
    table.add("guessing, replacing and deleting objects, 200 times each", "none found, none changed, none deleted")
