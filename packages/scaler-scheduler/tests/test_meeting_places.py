"""Which rows of a graph an agent gets before others, for those that read their results."""

from __future__ import annotations

from scaler_scheduler.core.meeting_places import BEST, LEVELS, NOWHERE, PLACES_MAX, WORST, MeetingPlaces

HERE, THERE = "here", "there"


def test_the_nearest_reader_with_a_place_decides() -> None:
    places = MeetingPlaces[str]()
    assert places.rank([1, 2, 3], HERE) == NOWHERE
    assert places.rank([], HERE) == NOWHERE
    places.note([3], THERE)
    assert places.rank([1, 2, 3], HERE) == WORST - 2
    places.note([2], HERE)
    assert places.rank([1, 2, 3], HERE) == BEST + 1
    assert places.rank([1, 2, 3], THERE) == WORST - 1


def test_near_ones_here_come_first_and_near_ones_elsewhere_last() -> None:
    places = MeetingPlaces[str]()
    places.note([1, 2, 3], HERE)
    readers = ([1, 2, 3], [10, 2, 3], [10, 20, 3], [10, 20, 30])
    assert [places.rank(some, HERE) for some in readers] == [BEST, 1, 2, NOWHERE]
    assert [places.rank(some, THERE) for some in readers] == [WORST, WORST - 1, WORST - 2, NOWHERE]
    assert LEVELS - 1 < NOWHERE < WORST - (LEVELS - 1)


def test_the_first_place_of_a_reader_counts_until_there_are_too_many() -> None:
    places = MeetingPlaces[str]()
    places.note([0], HERE)
    places.note([0], THERE)
    assert places.rank([0], HERE) == BEST
    for reader in range(1, PLACES_MAX):
        places.note([reader], THERE)
    # What rows still go for stays.
    places.note([1, 0], HERE)
    places.note([PLACES_MAX], THERE)
    assert places.rank([0], HERE) == BEST
    assert places.rank([1], HERE) == WORST
    assert places.rank([2], HERE) == NOWHERE
