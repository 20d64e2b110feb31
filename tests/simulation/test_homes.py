"""Clusters with stores on worker hosts in the simulation: they are used, die and are left empty, and faults are noticed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import count
from random import Random

import pytest

from scaler_protocol.objects.storage import Done
from scaler_worker.core.homes import Homes
from scaler_worker.core.pieces import Piece
from simulation.cluster import Cluster, Plan
from simulation.host_storage import HostStorage
from simulation.ledger import SimulationError
from simulation.piece_fetch import PieceFetch

WATCHED = (
    *("answered with homes", "uploads wanted", "deletes at homes", "killed at homes", "losses told"),
    # Of objects that come in pieces.
    *("copies begun", "copies made", "pieces from hosts", "pieces refused", "killed in the middle"),
)
SEEDS_MAX = 30
SOAK_SEEDS = int(os.environ.get("SCALER_SIMULATION_SEEDS", "1000"))


def seeds_with_homes() -> Iterator[int]:
    """The seeds of clusters in which hosts have stores that die."""
    return (seed for seed in count(1) if Plan.draw(Random(seed)).homes_die)


def run_some(watched: tuple[str, ...] = WATCHED) -> Counter[str]:
    """Run until everything has happened, `SEEDS_MAX` seeds at most."""
    counts: Counter[str] = Counter()
    for _, seed in zip(range(SEEDS_MAX), seeds_with_homes(), strict=False):
        cluster = Cluster(seed)
        # What is rare needs many objects under way at a time, as there are after a while.
        cluster.run(1300)
        counts += cluster.storage_watch.counts
        if all(counts[what] for what in watched):
            break
    return counts


def test_stores_of_hosts_are_read_asked_to_upload_pass_on_pieces_are_killed_and_emptied() -> None:
    counts = run_some()
    for what in WATCHED:
        assert counts[what], counts


def test_other_bytes_in_a_piece_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    on_answer = PieceFetch._on_answer

    def keep_something_else(self: PieceFetch, piece: Piece, completion: object) -> None:
        if isinstance(completion, Done) and piece.offset:
            completion = Done(completion.request, [bytes(piece.size)])
        on_answer(self, piece, completion)  # type: ignore[arg-type]

    monkeypatch.setattr(PieceFetch, "_on_answer", keep_something_else)
    with pytest.raises(SimulationError, match=r"is (sent|served) with other bytes"):
        run_some(("never",))


def test_tasks_go_to_the_host_that_holds_most_of_their_bytes() -> None:
    kinds: Counter[str] = Counter()
    for _, seed in zip(range(SEEDS_MAX), seeds_with_homes(), strict=False):
        cluster = Cluster(seed)
        # The watch in it raises where a task goes to a host that has less, or where it would wait longer.
        cluster.run(600)
        kinds += cluster.ledger.kinds
        if kinds["tasks sent to their bytes"] >= 3:
            return
    raise AssertionError(kinds)


def test_other_bytes_from_a_host_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    on_read = HostStorage._on_read

    def read_something_else(self: HostStorage, step: object, completion: object) -> None:
        if isinstance(completion, Done):
            completion = Done(completion.request, [*completion.buffers[:-1], bytes(len(completion.buffers[-1]))])
        on_read(self, step, completion)  # type: ignore[arg-type]

    monkeypatch.setattr(HostStorage, "_on_read", read_something_else)
    with pytest.raises(SimulationError, match="is sent with other bytes than before"):
        run_some(("never",))


def test_what_stays_in_the_store_of_a_host_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Homes, "on_delete", lambda self, owner, ids: None)
    with pytest.raises(SimulationError, match="objects outlive their clients"):
        run_some(("never",))


@pytest.mark.soak
def test_a_thousand_seeds() -> None:
    for seed in range(1, SOAK_SEEDS + 1):
        cluster = Cluster(seed)
        try:
            cluster.run(1000)
        except Exception as error:
            raise AssertionError(f"replay: python -m simulation --seed {seed} --steps 1000") from error
