"""Sizes of map chunks, in numbers."""

from __future__ import annotations

import pytest

from scaler.core.chunking import IN_FLIGHT_MAX, IN_FLIGHT_START, TARGET_SECONDS, ChunkPlanner
from scaler_protocol.objects.segments.batch_place import ITEMS_MAX as PLACED_ITEMS_MAX
from scaler_protocol.payloads.unpickled import UNPICKLED_BYTES_MIN


def run(planner: ChunkPlanner, item_seconds: float, items: int, workers: int = 2, item_bytes: int = 4) -> list[int]:
    """Feed a map through `workers` of one speed; return the sizes of its chunks."""
    sizes: list[int] = []
    under_way: list[tuple[float, float, int]] = []
    free_at = [0.0] * workers
    now = 0.0
    while items or under_way:
        while items and planner.may_send():
            size = min(items, planner.next_size(now))
            items -= size
            sizes.append(size)
            planner.on_sent(size, size * item_bytes)
            worker = free_at.index(min(free_at))
            free_at[worker] = max(now, free_at[worker]) + size * item_seconds
            under_way.append((free_at[worker], now, size))
        under_way.sort()
        done_at, sent_at, size = under_way.pop(0)
        now = max(now, done_at)
        planner.on_completed(size, size * item_seconds, now - sent_at, size * item_bytes)
    return sizes


def test_the_first_chunks_are_single_items() -> None:
    planner = ChunkPlanner(None)
    assert planner.next_size(0.0) == 1


def test_short_items_travel_in_large_chunks() -> None:
    sizes = run(ChunkPlanner(1_000_000), 1e-6, 1_000_000)
    assert len(sizes) < 600
    assert max(sizes) > 4000


def test_long_items_travel_alone() -> None:
    assert set(run(ChunkPlanner(200), 0.1, 200)) == {1}


def test_chunks_take_about_the_target_time() -> None:
    sizes = run(ChunkPlanner(None), 1e-3, 5_000)
    assert max(sizes) == pytest.approx(TARGET_SECONDS / 1e-3, rel=0.1)


def test_chunks_shrink_towards_the_end() -> None:
    sizes = run(ChunkPlanner(5_000), 1e-3, 5_000)
    assert sizes[-1] <= 2


def test_large_items_make_small_chunks() -> None:
    sizes = run(ChunkPlanner(None), 1e-6, 2_000, item_bytes=20_000)
    assert max(sizes) <= 10


@pytest.mark.parametrize(("kibibytes", "items"), [(48, 4), (64, 3), (96, 2), (128, 2), (130, 1), (192, 1), (300, 1)])
def test_of_few_items_one_more_fits(kibibytes: int, items: int) -> None:
    assert max(run(ChunkPlanner(None), 1e-6, 200, item_bytes=kibibytes * 1024 + 20)) == items


@pytest.mark.parametrize(("sent", "came", "most"), [(True, True, 5), (True, False, 2), (False, True, 2)])
def test_chunks_that_are_not_inside_of_messages_may_be_larger(sent: bool, came: bool, most: int) -> None:
    planner = ChunkPlanner(None)
    planner.on_sent(1, 100_000, placed=sent)
    planner.on_completed(1, 1e-6, 1e-6, 100_000, placed=came)
    assert planner.next_size(0.0) == most
    # One that travels inside makes the next ones small again.
    planner.on_sent(1, 100_000)
    assert planner.next_size(0.0) == 2


@pytest.mark.parametrize(
    ("item_bytes", "items", "placed"),
    [(1000, 197, False), (2500, 79, False), (3000, 66, False), (4096, 64, True), (8192, 64, True), (20_000, 26, True)],
)
def test_chunks_of_one_map_are_all_alike(item_bytes: int, items: int, placed: bool) -> None:
    """A chunk that is too long for one form would otherwise be followed by one that is short enough, and so on."""
    planner = ChunkPlanner(None)
    size, sizes = 1, []
    for _ in range(12):
        size = planner.next_size(0.0)
        fits = size <= PLACED_ITEMS_MAX and size * item_bytes >= UNPICKLED_BYTES_MIN
        planner.on_sent(size, size * item_bytes, placed=fits)
        planner.on_completed(size, size * 1e-6, 1e-5, size * item_bytes, placed=fits)
        sizes.append((size, fits))
    assert sizes[-8:] == [(items, placed)] * 8


def test_more_chunks_are_under_way_while_nothing_comes_back() -> None:
    planner = ChunkPlanner(None)
    assert planner.limit == IN_FLIGHT_START
    for _ in range(20):
        planner.on_nothing_completed()
    assert planner.limit == IN_FLIGHT_MAX


def test_two_workers_do_not_get_thousands_of_chunks() -> None:
    planner = ChunkPlanner(None)
    run(planner, 1e-3, 50_000)
    assert planner.limit < 4 * IN_FLIGHT_START


def test_fewer_chunks_are_under_way_where_nobody_waits_for_results() -> None:
    planner = ChunkPlanner(None)
    start = planner.limit
    for was_awaited, change in ((True, 1), (True, 1), (False, -1), (False, -1), (False, 0)):
        before = planner.limit
        planner.on_sent(1, 10)
        planner.on_completed(1, 0.001, 0.002, 10, was_awaited=was_awaited)
        assert planner.limit == before + change
    assert planner.limit == start
