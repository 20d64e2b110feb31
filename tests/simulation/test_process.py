"""Simulated processes: turns take what has gathered, stalls postpone them, the dead do nothing."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from simulation.clock import Clock
from simulation.process import Process


class Counting(Process):
    def __init__(self, clock: Clock) -> None:
        super().__init__("counting", clock, Random(1))
        self.turns: list[list[Any]] = []
        self.deadline = float("inf")
        self.ended = 0

    def take_turn(self, mail: list[Any]) -> None:
        self.turns.append(mail)
        self.deadline = float("inf")

    def next_deadline(self) -> float:
        return self.deadline

    def after_end(self) -> None:
        self.ended += 1


def run(clock: Clock) -> None:
    while clock.step():
        pass


def test_timers_of_one_moment_happen_in_the_order_they_were_asked_for() -> None:
    clock = Clock()
    seen: list[int] = []
    for number in range(5):
        clock.at(1.0, partial(seen.append, number))
    clock.at(0.5, lambda: seen.append(-1)).cancel()
    run(clock)
    assert seen == [0, 1, 2, 3, 4]
    assert clock.now == 1.0


def test_a_turn_takes_everything_that_has_gathered() -> None:
    clock = Clock()
    process = Counting(clock)
    for event in range(3):
        process.post(event)
    run(clock)
    assert process.turns == [[0, 1, 2]]


def test_a_deadline_gives_a_turn_without_events() -> None:
    clock = Clock()
    process = Counting(clock)
    process.deadline = 7.0
    process.plan_deadline()
    run(clock)
    assert process.turns == [[]]
    assert clock.now >= 7.0


def test_a_stalled_process_takes_its_turn_afterwards() -> None:
    clock = Clock()
    process = Counting(clock)
    process.stall(5.0)
    process.post("late")
    run(clock)
    assert process.turns == [["late"]]
    assert clock.now >= 5.0


def test_a_dead_process_does_nothing_more_and_ends_once() -> None:
    clock = Clock()
    process = Counting(clock)
    process.post("unheard")
    process.end()
    process.end()
    process.post("unheard")
    run(clock)
    assert process.turns == []
    assert process.ended == 1
