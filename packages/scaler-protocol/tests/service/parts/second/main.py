"""The second of two services in one process."""

from __future__ import annotations

from noting_part import NotingPart


class SecondPart(NotingPart):
    name = "second"


def part() -> SecondPart:
    return SecondPart()
