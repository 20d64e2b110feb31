"""A program that uses a client while its main thread is interrupted at random moments, and then looks whether all is well.

    python -m tests.integration.interruptions tcp://127.0.0.1:2345 --interrupts 2000 --seed 1

Three kinds: a real SIGINT, whose handler raises; an exception another thread sends; a signal whose handler calls the client
again. Meanwhile the collector runs often, and finds cycles with a `__del__` that calls the client as well. After every interrupt
a task must be answered. At the end every road must work, and nothing may be left: tasks, threads, descriptors. It prints one line
of JSON.
"""

from __future__ import annotations

import argparse
import concurrent.futures as cf
import contextlib
import ctypes
import faulthandler
import gc
import json
import operator
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any

from scaler import Client
from scaler.errors import MissingObjects
from scaler_protocol.testing.waiting import wait_until

CHECK_SECONDS = 30.0
"""How long the task after an interrupt may take. Most take a millisecond; others share this machine."""

LONGEST_DELAY_SECONDS = 0.004
"""Interrupts come up to so long after the action has begun: all but the slowest actions end sooner, and begin again."""

VANISHED_SECONDS = 10.0
"""After so long an interrupt that was sent has vanished: something has caught it and said nothing."""

KINDS = ("signal", "signal", "exception", "exception", "reenter")

SENT, LARGE, SEGMENT = 70_000, 300_000, 400_000
"""Bytes of values that become objects. Only those that `send_object` sends are too small for shared memory."""


class Interrupted(KeyboardInterrupt):
    """Sent to the main thread."""


class Interrupter:
    """Interrupts the main thread once for each order, from a thread of its own."""

    def __init__(self) -> None:
        self.reentered = 0
        self.swallowed = 0
        self.vanished = 0
        self._sent = 0
        self._main = threading.get_ident()
        self._orders: SimpleQueue[tuple[str, float] | None] = SimpleQueue()
        self._inside: Callable[[], object] = int
        self._thread = threading.Thread(target=self._run, name="interrupter", daemon=True)
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGUSR1, self._on_reenter)
        sys.unraisablehook = self._on_unraisable
        self._thread.start()

    def during(self, action: Callable[[], object], kind: str, delay: float, inside: Callable[[], object]) -> None:
        """Do `action` again and again until it was interrupted. `inside` is what a signal handler does then, for "reenter"."""
        self._inside = inside
        reentered, swallowed, sent = self.reentered, self.swallowed, self._sent
        try:
            self._orders.put((kind, delay))
            while self._sent == sent:
                action()
            # Python raises it before this thread does anything more, unless it has been caught. Not to do the action again
            # matters: in ten seconds an action that waits for nothing submits more tasks than are run within the next thirty.
            until = time.monotonic() + VANISHED_SECONDS
            while self.reentered == reentered and self.swallowed == swallowed:
                if time.monotonic() > until:
                    self.vanished += 1
                    print("  it has vanished", file=sys.stderr)
                    return
                time.sleep(0.001)  # sleeps: the exception may be raised in between
        except Interrupted:
            return

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})
        while (order := self._orders.get()) is not None:
            kind, delay = order
            time.sleep(delay)  # sleeps: the interrupt comes after a random time
            if kind == "exception":
                exception = ctypes.py_object(Interrupted)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._main), exception)
            else:
                signal.pthread_kill(self._main, signal.SIGINT if kind == "signal" else signal.SIGUSR1)
            self._sent += 1

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    def _on_reenter(self, _number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(cf.CancelledError, MissingObjects):
            self._inside()
        self.reentered += 1

    def _on_unraisable(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            # It fell into a `__del__`, where Python can only say so.
            self.swallowed += 1
            return
        sys.__unraisablehook__(unraisable)


class Cycle:
    """Garbage that calls the client when the collector finds it."""

    def __init__(self, last_words: Callable[[], object]) -> None:
        self.last_words = last_words
        self.myself = self

    def __del__(self) -> None:
        self.last_words()


class Roads:
    """What an application does with a client, in short."""

    def __init__(self, client: Client, address: str, chance: random.Random) -> None:
        self.client = client
        self.address = address
        self.chance = chance
        self.number = 0
        self.actions: list[Callable[[], object]] = [
            self.submit,
            self.submit_many,
            self.result,
            self.large,
            self.segment,
            self.map,
            self.map_large,
            self.get,
            self.send_object,
            self.cancel,
            self.cancel_confirmed,
            self.wait,
            self.as_completed,
            self.callbacks,
            self.clear,
            self.garbage,
        ]
        self.seldom: list[Callable[[], object]] = [self.with_exit, self.disconnect]

    def fresh(self, size: int) -> bytes:
        """A value nobody has sent before."""
        self.number += 1
        return self.number.to_bytes(8, "little") * (size // 8)

    def submit(self) -> None:
        self.client.submit(abs, -1)

    def submit_many(self) -> None:
        futures = [self.client.submit(abs, -number) for number in range(300)]
        assert [future.result(CHECK_SECONDS) for future in futures] == list(range(300))

    def result(self) -> None:
        assert self.client.submit(abs, -1).result(CHECK_SECONDS) == 1

    def large(self) -> None:
        assert self.client.submit(len, self.fresh(LARGE)).result(CHECK_SECONDS) == LARGE

    def segment(self) -> None:
        value = self.fresh(SEGMENT)
        first, second = self.client.submit(len, value), self.client.submit(len, value)
        assert first.result(CHECK_SECONDS) == second.result(CHECK_SECONDS) == SEGMENT

    def map(self) -> None:
        assert self.client.map(abs, range(-500, 0)) == list(range(500, 0, -1))

    def map_large(self) -> None:
        assert self.client.map(len, [self.fresh(LARGE) for _ in range(3)]) == [LARGE] * 3

    def get(self) -> None:
        graph = {"large": self.fresh(LARGE), "a": (len, "large"), "b": (operator.add, "a", 1), "c": (len, "large")}
        assert self.client.get(graph, ["b", "c"]) == {"b": LARGE + 1, "c": LARGE}

    def send_object(self) -> None:
        reference = self.client.send_object(self.fresh(SENT), name="value")
        assert self.client.submit(len, reference).result(CHECK_SECONDS) == SENT

    def cancel(self) -> None:
        self.client.submit(time.sleep, 0.01).cancel()

    def cancel_confirmed(self) -> None:
        future = self.client.submit(abs, -1)
        assert future.cancel(timeout=0.5) or future.result(CHECK_SECONDS) == 1

    def wait(self) -> None:
        futures = [self.client.submit(abs, -number) for number in range(10)]
        assert len(cf.wait(futures, timeout=CHECK_SECONDS).done) == 10

    def as_completed(self) -> None:
        futures = [self.client.submit(abs, -number) for number in range(10)]
        assert sorted(future.result() for future in cf.as_completed(futures, CHECK_SECONDS)) == list(range(10))

    def callbacks(self) -> None:
        called: list[object] = []
        future = self.client.submit(abs, -1)
        future.add_done_callback(called.append)
        future.add_done_callback(lambda _: self.client.submit(abs, -2))
        future.result(CHECK_SECONDS)

    def clear(self) -> None:
        pending = [self.client.submit(abs, -number) for number in range(3)]
        self.client.clear()
        for future in pending:
            with contextlib.suppress(cf.CancelledError):
                future.result(CHECK_SECONDS)

    def garbage(self) -> None:
        pending = self.client.submit(time.sleep, 0.001)
        last_words: list[Callable[[], object]] = [pending.cancel, self.submit, lambda: pending.cancel(timeout=0)]
        Cycle(self.chance.choice(last_words))

    def with_exit(self) -> None:
        with Client(self.address) as client:
            assert client.submit(abs, -1).result(CHECK_SECONDS) == 1

    def disconnect(self) -> None:
        client = Client(self.address)
        future = client.submit(time.sleep, 0.01)
        client.disconnect()
        assert future.done()

    def check(self) -> None:
        """Every road works."""
        for action in (*self.actions, *self.seldom):
            with contextlib.suppress(cf.CancelledError):
                action()


def run(address: str, interrupts: int, seed: int) -> dict[str, Any]:
    """Interrupt a client so many times; return what was seen. Raises, or ends the process with all stacks, where it is broken."""
    chance = random.Random(seed)
    with Client(address) as client:
        roads = Roads(client, address, chance)
        roads.check()
        gc.collect()
        threads, descriptors = _threads(), _descriptors()
        interrupter = Interrupter()
        gc.set_threshold(50, 5, 5)
        slowest, slow = 0.0, 0
        for number in range(interrupts):
            faulthandler.dump_traceback_later(2 * CHECK_SECONDS, exit=True)
            action = chance.choice(roads.seldom if chance.random() < 0.03 else roads.actions)
            inside = chance.choice(roads.actions)
            kind = chance.choice(KINDS)
            print(f"{number}: {kind} in {action.__name__}, {inside.__name__}", file=sys.stderr)
            with contextlib.suppress(cf.CancelledError, MissingObjects):
                interrupter.during(action, kind, chance.uniform(0, LONGEST_DELAY_SECONDS), inside)
            begin = time.perf_counter()
            while True:
                # Garbage found meanwhile may clear the client.
                with contextlib.suppress(cf.CancelledError):
                    assert client.submit(abs, -3).result(CHECK_SECONDS) == 3
                    break
            slowest = max(slowest, time.perf_counter() - begin)
            slow += time.perf_counter() - begin > 1.0
        interrupter.close()
        gc.set_threshold(700, 10, 10)
        gc.collect()
        roads.check()
        client.clear()
        _wait_for(lambda: " 0 unanswered" in repr(client), "tasks are left")
        _wait_for(lambda: _threads() <= threads, "threads are left")
        _wait_for(lambda: _descriptors() <= descriptors, "descriptors are left")
    return {
        "seed": seed,
        "interrupts": interrupts,
        "swallowed": interrupter.swallowed,
        "reentered": interrupter.reentered,
        "vanished": interrupter.vanished,
        "slowest_s": round(slowest, 3),
        "slower_than_1_s": slow,
    }


def _threads() -> int:
    return sum(thread.name != "interrupter" for thread in threading.enumerate())


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _wait_for(look: Callable[[], bool], what: str) -> None:
    def state() -> str:
        return f"{what}: {[thread.name for thread in threading.enumerate()]}, {_descriptors()} descriptors"

    wait_until(look, 20.0, what=state, pause_seconds=0.05)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--interrupts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.address, arguments.interrupts, arguments.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
