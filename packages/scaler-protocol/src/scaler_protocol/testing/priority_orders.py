"""Orders in which tasks of many priorities come, for tests of the queues of schedulers and agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

TASKS = 5_000
"""So many tasks come, numbered from 0."""

PRIORITY_ORDERS: Mapping[str, Callable[[int], int]] = {
    "ascending": lambda number: number,
    "descending": lambda number: -number,
    "a hundred": lambda number: number % 100,
    "mixed": lambda number: number * 7919 % TASKS,
}
"""By name: a function that returns the priority of the task with a number."""
