"""What each client uses: of the last minutes, with the clients inside its tasks, and after it has left."""

from __future__ import annotations

from typing import Any

from synthetic_cluster import ALICE, BOB, snapshot, worker

from scaler_protocol.wire import messages as m
from scaler_ui.model import ClusterModel, activity

INSIDE = b"inside".ljust(16, b".")
WORKERS = tuple(worker(0, slot) for slot in range(4))


def client(
    name: str, client_id: bytes, used_seconds: float, finished: int = 0, failed: int = 0, **more: Any
) -> m.ClientStatus:
    return m.ClientStatus(name, client_id, finished=finished, failed=failed, used_seconds=used_seconds, **more)


def model_of(*seconds: tuple[int, tuple[m.ClientStatus, ...]], **fields: Any) -> ClusterModel:
    model = ClusterModel()
    for second, clients in seconds:
        model.accept(snapshot(second, clients=clients, workers=WORKERS, **fields), float(second))
    return model


def used(model: ClusterModel, seconds: int = 0) -> dict[str, tuple[float, int, int]]:
    rows = activity.client_use(model, seconds)["clients"]
    return {row["name"]: (row["core_seconds"], row["ended"], row["failed"]) for row in rows}


def test_the_range_has_what_was_used_in_it() -> None:
    steps = [
        (at, (client("alice", ALICE, 100 + 2.0 * at, 10 * at, at), client("bob", BOB, 1.0 * at, at)))
        for at in range(0, 1200, 10)
    ]
    model = model_of(*steps)
    # What was used before this monitor came is not known to it.
    assert used(model) == {"alice": (2380.0, 13090, 1190), "bob": (1190.0, 1190, 0)}
    assert used(model, 60) == {"alice": (140.0, 770, 70), "bob": (70.0, 70, 0)}
    shown = activity.client_use(model, 60)
    assert [(row["name"], round(row["share"], 3)) for row in shown["clients"]] == [("alice", 0.667), ("bob", 0.333)]
    assert (shown["used_core_seconds"], shown["available_core_seconds"], shown["slots"]) == (210.0, 280.0, 4)
    assert activity.client_use(model)["available_core_seconds"] == 4 * 1190


def test_clients_inside_tasks_count_with_theirs_also_when_they_have_left() -> None:
    inside = {"nested": True, "parent": ALICE, "parent_name": "alice", "waiting": 3, "running": 2, "busy_workers": 2}
    model = model_of(
        (1, (client("alice", ALICE, 5.0),)),
        (2, (client("alice", ALICE, 6.0, busy_workers=1), client("", INSIDE, 4.0, 8, 1, object_bytes=9, **inside))),
    )
    (row,) = activity.client_use(model)["clients"]
    assert (row["name"], row["core_seconds"], row["ended"], row["failed"]) == ("alice", 5.0, 9, 1)
    assert (row["busy_workers"], row["waiting"], row["running"], row["object_bytes"]) == (3, 3, 2, 9)
    assert row["nested_clients"] == 1
    # The scheduler adds up what it has used.
    model.accept(snapshot(3, clients=(client("alice", ALICE, 10.5),), workers=WORKERS), 3.0)
    assert used(model) == {"alice": (5.5, 9, 1)}


def test_who_has_left_stays_and_a_new_scheduler_counts_anew() -> None:
    model = model_of(
        (1, (client("alice", ALICE, 5.0), client("bob", BOB, 50.0))),
        (2, (client("alice", ALICE, 7.0), client("bob", BOB, 60.0))),
        (3, (client("alice", ALICE, 7.0),)),
    )
    rows = {row["name"]: row for row in activity.client_use(model, 60)["clients"]}
    assert (rows["bob"]["connected"], rows["bob"]["core_seconds"]) == (False, 10.0)
    assert (rows["alice"]["connected"], rows["alice"]["core_seconds"]) == (True, 2.0)
    other = b"second scheduler".ljust(16)[:16]
    for second, seconds in ((4, 3.0), (5, 3.5)):
        clients = (client("alice", ALICE, seconds),)
        model.accept(snapshot(second, clients=clients, workers=WORKERS, incarnation=other), float(second))
    assert used(model)["alice"][0] == 2.5


def test_time_that_is_taken_back_is_no_use() -> None:
    # A task ran for a while, and then its process died.
    model = model_of(
        (1, (client("alice", ALICE, 0.0),)), (2, (client("alice", ALICE, 9.0),)), (3, (client("alice", ALICE, 0.0),))
    )
    assert used(model)["alice"][0] == 9.0
    assert used(ClusterModel()) == {}
