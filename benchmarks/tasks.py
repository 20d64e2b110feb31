"""The functions that run as tasks. Every system imports them by name, so none is favoured by how it pickles functions."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

PAGE_FLOATS = 512
"""Numbers of eight bytes in one page of memory."""


def identity(value: Any) -> Any:
    return value


def add(left: int, right: int) -> int:
    return left + right


def total(*values: int) -> int:
    return sum(values)


def add_keywords(*, left: int, right: int) -> int:
    return left + right


def fail(value: int) -> None:
    raise ValueError(f"no {value}")


def increment(value: int) -> int:
    return value + 1


def busy(seconds: float) -> float:
    """Compute for so much processor time.

    Processor time, not time on the clock: a task that was put to sleep because the engine needed the core has not done
    its work, and counting it as done would hide what the engine costs.
    """
    end = time.thread_time() + seconds
    now = time.thread_time()
    while now < end:
        now = time.thread_time()
    return seconds


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def pid_after(seconds: float) -> int:
    """Return the number of the process that runs tasks here, busy for so long that others must take their part."""
    time.sleep(seconds)
    return os.getpid()


def read_pages(array: FloatArray, index: int) -> float:
    """Touch every page of the array; return one element and a sum that only the whole array gives."""
    return float(array[index]) + float(array[::PAGE_FLOATS].sum())


def fibonacci(client: Any, n: int) -> int:
    """As in the README of the engines whose clients may be arguments."""
    if n < 2:
        return n
    left = client.submit(fibonacci, client, n - 1)
    right = client.submit(fibonacci, client, n - 2)
    return int(left.result() + right.result())
