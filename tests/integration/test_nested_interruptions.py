"""A task is interrupted while it submits tasks: none of them is lost, and none runs twice."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from scaler import Client, SchedulerClusterCombo

ROUNDS = 400
LONGEST_DELAY_SECONDS = 0.001
LOST_SECONDS = 2.0
# One falls into the thread that the first submit starts now and then, and one into a `__del__`.
LOST_MAX = 2


class Interrupted(Exception):
    """Sent to the thread that submits."""


def note(path: str, number: int) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\n" % number)
    os.close(descriptor)
    return number


def submit_while_interrupted(path: str, kind: str, seed: int) -> tuple[int, int, int]:
    """Return how many rounds ended, how many of them without an interrupt, and how many tasks were submitted for certain."""
    chance = random.Random(seed)
    client = Client()
    main = threading.get_ident()
    orders: SimpleQueue[float | None] = SimpleQueue()
    sent = 0
    numbers = iter(range(1_000_000))
    submitted: list[tuple[int, Any]] = []

    def submit() -> None:
        number = next(numbers)
        # One expression, so that a task that was submitted is known to be.
        submitted.append((number, client.submit(note, path, number)))

    def on_signal(_number: int, _frame: object) -> None:
        if kind == "reenter":
            submit()
        raise Interrupted

    def interrupt() -> None:
        nonlocal sent
        while (delay := orders.get()) is not None:
            time.sleep(delay)  # sleeps: the interrupt comes after a random time
            if kind == "exception":
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(Interrupted))
            else:
                signal.pthread_kill(main, signal.SIGUSR1)
            sent += 1

    before = signal.signal(signal.SIGUSR1, on_signal)
    helper = threading.Thread(target=interrupt)
    helper.start()
    interrupted = lost = 0
    for ended in range(ROUNDS):
        known = len(submitted)
        try:
            orders.put(chance.random() * LONGEST_DELAY_SECONDS)
            until = time.monotonic() + LOST_SECONDS
            while True:
                if sent > ended and time.monotonic() > until:
                    # Python gave it to a thread that this one was starting (see `scaler.client.steps.Start`).
                    lost += 1
                    raise Interrupted
                for _ in range(chance.randrange(1, 5)):
                    submit()
                time.sleep(0.0002)  # sleeps: leaves room for interrupts between calls
        except Interrupted:
            interrupted += 1
        for number, future in submitted[known:]:
            assert future.result(30.0) == number
    orders.put(None)
    helper.join()
    signal.signal(signal.SIGUSR1, before)
    return interrupted, lost, len(submitted)


def test_a_task_is_interrupted_while_it_submits(tmp_path: Path) -> None:
    seed = int(os.environ.get("SCALER_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"SCALER_SEED={seed}")
    with SchedulerClusterCombo(n_workers=2) as combo, Client(combo.get_address()) as client:
        for kind in ("exception", "signal", "reenter"):
            path = tmp_path / kind
            interrupted, lost, submitted = client.submit(submit_while_interrupted, str(path), kind, seed).result(120.0)
            assert interrupted == ROUNDS, (seed, kind)
            assert lost <= LOST_MAX, (seed, kind, lost)
            # An interrupt may keep the task from learning of a future, but a task runs once.
            ran = Counter(path.read_text().split())
            assert set(ran.values()) == {1}, (seed, kind, ran.most_common(3))
            assert submitted <= len(ran), (seed, kind)
