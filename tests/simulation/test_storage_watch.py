"""Object storage with a disk in the simulation: what must not happen to objects is noticed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from scaler_objstore.core import events
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.tiering import Tiering
from simulation.client import ClientDriver
from simulation.cluster import Cluster, Plan
from simulation.disk import DiskThreads, StoredRecord
from simulation.ledger import SimulationError


def spilling_seeds(count: int, *, kills: bool = False) -> list[int]:
    """The first seeds whose object storage spills, and is killed."""
    seeds: list[int] = []
    seed = 1
    while len(seeds) < count:
        plan = Plan.draw(Random(seed))
        if plan.spills and plan.storage_dies >= kills and not plan.homes:
            seeds.append(seed)
        seed += 1
    return seeds


WATCHED = ("spill", "load", "discard", "restored", "served", "refused")
ENOUGH = 10


def run_some(**wanted: bool) -> Counter[str]:
    """Run until everything has happened often enough, twelve seeds at most."""
    counts: Counter[str] = Counter()
    for seed in spilling_seeds(12, **wanted):
        cluster = Cluster(seed)
        cluster.run(1500)
        counts += cluster.storage_watch.counts
        if all(counts[what] > ENOUGH for what in WATCHED):
            break
    return counts


@pytest.mark.timeout(180)
def test_runs_write_read_delete_and_restore_records() -> None:
    counts = run_some(kills=True)
    for what in WATCHED:
        assert counts[what] > ENOUGH, counts


def test_other_bytes_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    write = DiskThreads._write

    def write_something_else(self: DiskThreads, name: str, record: StoredRecord) -> None:
        write(self, name, StoredRecord(record.header, (*record.buffers[:-1], bytes(len(record.buffers[-1])))))

    monkeypatch.setattr(DiskThreads, "_write", write_something_else)
    with pytest.raises(SimulationError, match="is served with other bytes"):
        run_some()


def test_an_object_that_vanishes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    # It says so, and writes nothing.
    monkeypatch.setattr(DiskThreads, "_write", lambda self, name, record: self._tell(events.Spilled(name)))
    monkeypatch.setattr(StoreState, "log", lambda self, text, *, is_error=True: None)
    with pytest.raises(SimulationError, match="has vanished, and nothing says so"):
        run_some()


def test_too_much_on_the_disk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiering, "most_bytes", 100)
    monkeypatch.setattr("scaler_objstore.core.invariants._check_tiering", lambda *_: None)
    with pytest.raises(SimulationError, match="are on the disk, and 100 are allowed"):
        run_some()


def run_with_lost_object(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Run a cluster whose storage is killed, without a disk, when all is over but what a client still refers to."""
    leave = Cluster.everybody_leaves

    def lose_something_first(cluster: Cluster) -> None:
        client = cluster.living_clients[0]

        def store() -> None:
            object_id = client.driver._store(b"what is at hand")
            client.driver.at_hand[object_id] = b"what is at hand"

        client.post(store)
        cluster.run_until(lambda: b"what is at hand" in client.driver.at_hand.values(), 1.0, None)
        cluster.run_until(lambda: not client.storage.pending_count, 20.0, None)
        assert cluster.storage is not None
        cluster.storage.end()
        cluster.storage = None
        cluster.ledger.excuses.store_deaths += 1
        cluster.revive_services()
        leave(cluster)

    monkeypatch.setattr(Cluster, "everybody_leaves", lose_something_first)
    befalls = dict.fromkeys(("cuts", "stalls", "scheduler_dies", "kills", "spills", "disk_faults", "shutdown"), False)
    cluster = Cluster(1, changes={**befalls, "disk_limit_bytes": None, "memory_limit_bytes": 100_000})
    cluster.run(200)
    return cluster


def test_what_clients_still_have_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with_lost_object(monkeypatch).ledger.kinds["objects sent again"] > 0


def test_what_is_not_sent_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientDriver, "send_again", lambda self: None)
    with pytest.raises(SimulationError, match="storage lacks objects that clients have"):
        run_with_lost_object(monkeypatch)
