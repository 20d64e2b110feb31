"""Values: what of a dataclass they keep, and what they leave out."""

from __future__ import annotations

import inspect
from dataclasses import field, fields, replace

import pytest

from scaler_protocol.runtime.values import record, value


@value
class Point:
    """Somewhere."""

    x: int
    y: int = 2
    tags: tuple[str, ...] = field(default=())


@value
class Spot:
    x: int
    y: int = 2


@record
class Count:
    number: int = 0


def test_they_are_made_compared_and_shown_as_dataclasses_are() -> None:
    assert Point(1) == Point(1, 2, ())
    assert Point(1) != Point(1, 3)
    others: list[object] = [Spot(1), (1, 2, ())]
    assert Point(1) not in others
    assert repr(Spot(1)) == "Spot(x=1, y=2)"
    assert replace(Point(1), y=5) == Point(1, 5)
    assert [each.name for each in fields(Point)] == ["x", "y", "tags"]
    match Point(3, 4):
        case Point(x, y):
            assert (x, y) == (3, 4)


def test_they_have_slots_and_no_hash() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="unhashable"):
        hash(Spot(1))


def test_documentation_stays() -> None:
    assert Point.__doc__ == "Somewhere."
    assert Spot.__doc__ == "Spot"


def test_its_constructor_is_that_of_a_dataclass_from_the_first_call_on() -> None:
    @record
    class Basket:
        owner: str
        content: list[int] = field(default_factory=list)

        def __post_init__(self) -> None:
            self.content.append(1)

    with pytest.raises(TypeError, match=r"Basket\.__init__\(\) missing 1 required positional argument: 'owner'"):
        Basket()  # type: ignore[call-arg]
    first, second = Basket("one"), Basket(owner="two", content=[5])
    assert (first.content, second.content) == ([1], [5, 1])
    assert Basket("three").content is not first.content
    assert list(inspect.signature(Basket).parameters) == ["owner", "content"]


def test_a_value_that_follows_another_has_its_fields_first() -> None:
    @value
    class Place(Spot):
        name: str = ""

    assert Place(1, 2, "here") == Place(x=1, y=2, name="here")
    assert repr(Place(4)) == f"{Place.__qualname__.rpartition('.')[2]}(x=4, y=2, name='')"


def test_a_record_changes() -> None:
    count = Count()
    count.number += 1
    assert count == Count(1)
