"""The first of two services in one process."""

from __future__ import annotations

from noting_part import NotingPart


class FirstPart(NotingPart):
    name = "first"


def part() -> FirstPart:
    return FirstPart()
