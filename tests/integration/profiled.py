"""What runs while a profile is taken. Workers import little with it, so that little else is in the profile."""

from __future__ import annotations

import asyncio
import builtins
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from scaler import Client


def spin(rounds: int) -> int:
    """Counted, not timed: while the machine does something else, no more is done here."""
    count = 0
    for number in range(rounds):
        count += number & 1
    return count


def three_quarters() -> int:
    return spin(300_000)


def one_quarter() -> int:
    return spin(100_000)


def divided(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        three_quarters()
        one_quarter()


def multiply(seconds: float) -> float:
    import numpy

    matrix = numpy.random.default_rng(1).normal(size=(300, 300))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        matrix = matrix @ matrix
        matrix /= numpy.abs(matrix).max()
    return float(matrix[0, 0])


async def pause() -> None:
    await asyncio.sleep(0.005)  # sleeps: it is what is seen


async def pause_in_a_loop(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.gather(pause(), pause())
        spin(100_000)


def with_a_thread(seconds: float) -> None:
    thread = threading.Thread(target=divided, args=(seconds,))
    thread.start()
    with ThreadPoolExecutor(1) as idle:
        idle.submit(int).result()
        thread.join()


def spoil(rounds: int) -> None:
    """Replaces what a profile might use for the time of the task."""
    import json

    kept = [dict(vars(module)) for module in (builtins, json, sys, threading, time)]
    sys._current_frames = json.dumps = time.monotonic = time.sleep = None  # type: ignore[assignment]
    threading.get_ident = threading.Lock = None  # type: ignore[assignment]
    names = ("BaseException", "Exception", "int", "isinstance", "len", "list", "map", "max", "sorted", "sum", "zip")
    for name in names:
        setattr(builtins, name, None)
    try:
        count = 0
        while count < rounds:
            count += 1
    finally:
        for module, values in (
            (builtins, kept[0]),
            (json, kept[1]),
            (sys, kept[2]),
            (threading, kept[3]),
            (time, kept[4]),
        ):
            vars(module).update(values)


def die_soon(seconds: float) -> None:
    divided(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def outer(seconds: float) -> None:
    with Client() as client:
        client.submit(divided, seconds).result()


def deep(depth: int, seconds: float) -> None:
    if depth:
        deep(depth - 1, seconds)
    else:
        divided(seconds)


def few_milliseconds() -> tuple[int, float, float]:
    """Return its process, how long it took, and how soon threads are switched in it, both in seconds."""
    began = time.monotonic()
    spin(60_000)
    return os.getpid(), time.monotonic() - began, sys.getswitchinterval()


def threads_here() -> int:
    return len(os.listdir("/proc/self/task"))
