"""What is compared must be described rightly: else the table finds differences that are none, or misses some."""

from __future__ import annotations

import pickle
import uuid
from typing import Any

import pytest

from tests.conformance.describing import describe, renumbered
from tests.conformance.user_code import Pair

_FIRST, _SECOND = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.mark.parametrize(
    "part",
    [
        {(_FIRST, _SECOND)},
        {(_FIRST, _FIRST), _SECOND},
        frozenset({(_FIRST, frozenset({(_SECOND, _FIRST)}))}),
        [{(_FIRST, _SECOND)}, _FIRST, _FIRST],
        Pair({(_FIRST, _SECOND)}, [_SECOND, _SECOND]),
        lambda value: value in {(1, 2), (3, 4)},
    ],
    ids=["tuple in a set", "shared in a set", "sets in sets", "set beside shared", "set of an object", "function"],
)
def test_a_part_is_described_as_if_it_were_the_whole(part: Any) -> None:
    whole = describe([part])

    assert renumbered(whole[1], 1) == describe(part)


def test_members_of_sets_are_described_alike_in_any_order() -> None:
    members = [(_FIRST, _SECOND), (_SECOND, _SECOND), *((uuid.UUID(int=number), number) for number in range(40))]

    descriptions = {describe(set(order)) for order in (members, members[::-1], members[7:] + members[:7])}

    assert len(descriptions) == 1
    assert describe(pickle.loads(pickle.dumps(set(members)))) in descriptions


def test_lost_sharing_shows() -> None:
    assert describe([_FIRST, _FIRST]) != describe([_FIRST, uuid.UUID(int=1)])
    assert describe({(_FIRST, _FIRST)}) != describe({(_FIRST, uuid.UUID(int=1))})
