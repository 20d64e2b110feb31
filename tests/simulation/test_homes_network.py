"""Stores on several hosts under cuts, crashes and a killed centre: right bytes or an error, never silence, nothing left."""

from __future__ import annotations

import os
import re
from functools import partial

import pytest

from scaler_protocol.objects.storage import Completion, Done, Missing, Refused, StoreRequests
from scaler_protocol.wire import messages as m
from scaler_worker.core import events
from tests.simulation.homes_network import CENTRE, Host, Network

SEEDS = int(os.environ.get("SCALER_HOMES_SEEDS", "30"))
NAMED = re.compile(
    r"object [0-9a-f]{32} is (in the store of host-\d(, host-\d)*, which does not answer"
    r"|lost: it was in the store of host-\d, which has ended)"
)
"""The errors with which a read may end. Each names object and host."""

PATIENCE_SECONDS = 400.0
"""Longer than all requests of one read after one another may take."""


def content_of(object_id: bytes) -> bytes:
    """Every other object is large, and travels in pieces."""
    return object_id * (20 if object_id[0] % 2 else 3)


def delete(ids: list[bytes], owner: bytes, requests: StoreRequests, now: float) -> int:
    return requests.delete(ids, owner, now)


def put(object_id: bytes, owner: bytes, requests: StoreRequests, now: float) -> int:
    return requests.put(object_id, owner, [content_of(object_id)], now)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_reads_get_the_right_bytes_or_an_error_and_deletes_reach_every_store(seed: int) -> None:
    network = Network(seed)
    draw = network.random
    network.start_store(CENTRE)
    hosts = [Host(network, f"host-{number}") for number in range(4)]
    owner = network.new_id()
    client = network.connect(CENTRE, m.Role.CLIENT, owner, "client")
    network.run(1.0)
    objects: list[bytes] = []
    makers: dict[bytes, tuple[Host | None, int]] = {}
    puts: list[Completion | None] = []
    deleted: list[Completion] = []
    reads: list[tuple[Host, int, bytes]] = []
    gets: dict[int, Completion | None] = {}

    def get(object_id: bytes) -> None:
        number = len(gets)
        gets[number] = None
        network.ask(
            client, lambda requests, now: requests.get(object_id, now), lambda done: gets.__setitem__(number, done)
        )

    def is_known(maker: Host | None, request: int) -> bool:
        return puts[request] is not None if maker is None else request in maker.reported

    was_killed = False
    may_kill_centre = draw.random() < 0.3
    for _ in range(40):
        living = [host for host in hosts if host.is_alive]
        host, what = draw.choice(living), draw.random()
        if what < 0.35 or not objects:
            objects.append(network.new_id())
            makers[objects[-1]] = host, host.make(objects[-1], owner, content_of(objects[-1]))
        elif what < 0.45:
            object_id = draw.choice(objects)
            reads.append((host, host.read(object_id), object_id))
        elif what < 0.55:
            object_id = draw.choice(objects)
            reads += [(each, each.read(object_id), object_id) for each in living]
        elif what < 0.65:
            # A client sends something.
            objects.append(network.new_id())
            sent = len(puts)
            puts.append(None)
            makers[objects[-1]] = None, sent
            network.ask(
                client,
                partial(put, objects[-1], owner),
                lambda done, sent=sent: puts.__setitem__(sent, done),  # type: ignore[misc]
            )
        elif what < 0.75:
            get(draw.choice(objects))
        elif what < 0.85:
            host.cut(is_cut=not host.centre.is_cut)
        elif what < 0.92:
            # Like a client: it deletes only what was reported.
            known = [one for one in objects if is_known(*makers[one])]
            if known:
                objects.remove(known[0])
                network.ask(client, partial(delete, known[:1], owner), deleted.append)
        elif what < 0.95 and len(living) > 1:
            host.die()
        elif what < 0.98 and may_kill_centre:
            network.start_store(CENTRE)
            was_killed = True
        network.run(draw.choice((0.0, 0.1, 2.0)))
    living = [host for host in hosts if host.is_alive]
    for host in living:
        host.cut(is_cut=False)
    network.run(PATIENCE_SECONDS)

    for host, request, object_id in reads:
        if not host.is_alive:
            continue
        event = host.reported.get(request)
        assert event is not None, f"seed {seed}: a read was never answered"
        if not getattr(event, "missing", False) and not event.error:
            assert host.cache[object_id] == content_of(object_id)
        elif event.error:
            assert NAMED.search(event.error), f"seed {seed}: {event.error}"
    right = {content_of(object_id) for object_id in makers}
    for done in gets.values():
        assert done is not None, f"seed {seed}: a get was never answered"
        if isinstance(done, Done):
            assert bytes(done.buffers[0]) in right
        elif not isinstance(done, Missing):
            assert isinstance(done, Refused), f"seed {seed}: {done}"
            assert NAMED.match(done.text), f"seed {seed}: {done}"

    if objects:
        network.ask(client, partial(delete, objects, owner), deleted.append)
    network.run(30.0)
    assert all(isinstance(done, Done) for done in deleted)
    if was_killed:
        # What it had to tell homes died with it: such objects end with their client, as those do that it kept on disk.
        scheduler = network.connect(CENTRE, m.Role.SCHEDULER, network.new_id(), "scheduler")
        network.ask(scheduler, lambda requests, now: requests.end_owner(owner, now), deleted.append)
        network.run(30.0)
    assert [network.stores[name].core.snapshot().object_count for name in (CENTRE, *(one.name for one in living))] == [
        0
    ] * (1 + len(living)), f"seed {seed}: objects are left"
    assert not any(network.stores[host.name].core.snapshot().growing_count for host in living)
    assert all(not host.homes.held for host in living)


@pytest.mark.parametrize("is_sent", [False, True], ids=["made on a host", "sent by a client"])
def test_a_broadcast_leaves_each_store_once_and_a_result_its_home_twice(is_sent: bool) -> None:
    network = Network(7)
    network.start_store(CENTRE)
    hosts = [Host(network, f"host-{number}") for number in range(5)]
    owner, object_id = network.new_id(), b"\x01" * 16
    client = network.connect(CENTRE, m.Role.CLIENT, owner, "client")
    network.run(1.0)
    if is_sent:
        network.ask(client, partial(put, object_id, owner), lambda _done: None)
    else:
        hosts[0].make(object_id, owner, content_of(object_id))
    network.run(1.0)
    readers = hosts if is_sent else hosts[1:]
    requests = [host.read(object_id) for host in readers]
    network.run(5.0)
    for host, request in zip(readers, requests, strict=True):
        assert isinstance(host.reported[request], events.ObjectFetched)
        assert host.cache[object_id] == content_of(object_id)
    # The first host that reads a result gets it whole: mostly it is the only one.
    assert sum(host.copies_made for host in readers) == (len(readers) if is_sent else len(readers) - 1)
    sent = [network.sent_bytes(name, object_id) for name in (CENTRE, *(host.name for host in hosts))]
    assert sum(sent) == len(readers) * len(content_of(object_id))
    assert max(sent) == len(content_of(object_id)) * (1 if is_sent else 2)


def test_a_copy_is_left_when_the_host_that_made_an_object_dies() -> None:
    network = Network(7)
    network.start_store(CENTRE)
    hosts = [Host(network, f"host-{number}") for number in range(4)]
    owner, object_id = network.new_id(), b"\x01" * 16
    network.connect(CENTRE, m.Role.CLIENT, owner, "client")
    network.run(1.0)
    hosts[0].make(object_id, owner, content_of(object_id))
    network.run(1.0)
    for host in hosts[1:3]:
        host.read(object_id)
    network.run(1.0)
    hosts[0].die()
    network.drop_connection(hosts[0].incarnation)
    network.run(1.0)
    request = hosts[3].read(object_id)
    network.run(30.0)
    assert hosts[3].reported[request] == events.ObjectFetched(request, len(content_of(object_id)))
    assert hosts[3].cache[object_id] == content_of(object_id)
