"""What runs on workers and in their processors: tasks that say what they carry, and figures that they would not measure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from scaler import Client
from scaler_protocol.runtime.task_context import carried_by_task, current_task_context

Seen = tuple[int, int]


def seen(*_: object) -> Seen:
    """Return what the running task carries."""
    return carried_by_task("marks"), carried_by_task("weights")


def seen_before(*inputs: Any) -> list[Any]:
    """As `seen`, behind what the tasks before it have seen."""
    return [*inputs, seen()]


def seen_with_much(data: bytes) -> tuple[Seen, bytes]:
    """As `seen`, with a large value in both directions."""
    return seen(), data


def seen_at_second_attempt(marker: str) -> Seen:
    """As `seen`, but the first attempt kills its processor."""
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(3)
    return seen()


def seen_inside(address: str | None) -> tuple[Seen, Seen, list[Seen], list[Seen]]:
    """Return what this task carries, one inside it, one inside that has nothing, and many of both kinds.

    `address`: of the scheduler, where a client inside a task does not find it by itself.
    """
    with Client(address) as inner:
        one = submit(inner, seen, marks=11, weights=12).result()
        plain = inner.submit(seen).result()
        futures = [submit(inner, seen, **given(number)) for number in range(20)]
        return seen(), one, [plain], [future.result() for future in futures]


def submit(client: Client, fn: Any, *args: Any, **carried: int) -> Any:
    """Submit a task that carries these values. What a client's method for a new column would do."""
    operations = client.operations
    return operations.submit_verbose(client, fn, args, None, None, operations.no_options, **carried)


def given(number: int) -> dict[str, int]:
    """Return what the task of this number is given: one of the columns, both, or none."""
    return {key: value for key, value in (("marks", number), ("weights", 1 << 40 | number)) if number % 3 and value % 5}


def expected(number: int) -> Seen:
    """Return what it has to see."""
    values = given(number)
    return values.get("marks", 7), values.get("weights", 0)


def figures(number: int) -> dict[str, int]:
    """Return the figure of the task of this number; not all have one."""
    return {"faults": 1000 + number} if number % 3 else {}


def install_figures() -> None:
    """In a processor: measure them for each task that is profiled."""
    from scaler_worker.processor.measurement import Measurement

    measured = Measurement.figures

    def with_more(self: Measurement) -> dict[str, int]:
        context = current_task_context()
        assert context is not None
        return {**measured(self), **figures(context.task_number or 0)}

    Measurement.figures = with_more  # type: ignore[method-assign]
