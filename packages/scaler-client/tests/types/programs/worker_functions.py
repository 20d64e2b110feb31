"""What the programs beside this one run on workers."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

T = TypeVar("T")


def price(units: int, currency: str = "EUR", *, rate: float = 1.0) -> str:
    return f"{units * rate} {currency}"


def scaled(value: float, factor: float) -> float:
    return value * factor


def total(values: list[int]) -> int:
    return sum(values)


def largest(*values: int) -> int:
    return max(values)


def report(prices: dict[str, float]) -> str:
    return str(prices)


def same(value: T) -> T:
    return value


def untyped(value: Any, **options: Any) -> Any:
    return value, options


def nothing() -> None:
    return None


async def fetch(number: int) -> bytes:
    await asyncio.sleep(0)
    return bytes(number)


async def joined(left: int, right: str) -> tuple[int, str]:
    return left, right


class Model:
    """Can be called, and has a method."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, value: int) -> bool:
        return value > self.size

    def fit(self, data: list[float], steps: int = 1) -> complex:
        return sum(data) * steps + 0j
