"""What simulated tasks do, and what must come out.

A task's payload names a program; the value of a task is a digest over its program, its inputs and its objects, so a
result that went to the wrong task, or was computed from the wrong input, is told from the right one.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from scaler_protocol.payloads.framing import OBJECT, PICKLED

_PAYLOAD = struct.Struct("<cI")


class Action(Enum):
    RETURN = "return"
    FAIL = "fail"
    EXIT = "exit"
    """Ends its processor every time, at a moment of its own: see `Death`."""
    NEST = "nest"
    """Submits its children from inside the task and waits until all are answered."""


class Death(Enum):
    """When a program that ends its processor does so."""

    READING = "reading"
    """Before the task has begun, while the processor takes it from its channel."""
    LOADING = "loading"
    RUNNING = "running"
    ANSWERING = "answering"
    """The task has ended: what became of it is described, pickled or about to be sent."""


@dataclass(slots=True, frozen=True)
class Program:
    """One task's behaviour."""

    number: int
    action: Action
    duration_s: float
    stubborn: bool = False
    """Does not react to a cooperative cancellation."""
    large_result: bool = False
    children: tuple[int, ...] = ()
    needs: tuple[tuple[int, ...], ...] = ()
    """Of each child, the earlier children whose results it needs; empty where none needs any."""
    links_children: bool = False
    """Whether those that need others are submitted one by one, with futures as arguments; else all of them are one graph."""
    death: Death = Death.RUNNING
    silent: bool = False
    """Waits for its children without saying so: by an event, say, which nobody outside the task knows of."""

    @property
    def payload(self) -> bytes:
        return _PAYLOAD.pack(PICKLED, self.number)


def program_number(payload: bytes) -> int:
    tag, number = _PAYLOAD.unpack(payload)
    assert tag == PICKLED
    return int(number)


def in_order(dependencies: Sequence[Sequence[int]]) -> list[int]:
    """Return the rows of a graph in an order in which each comes after those it needs."""
    ordered: dict[int, None] = {}
    for first in range(len(dependencies)):
        stack = [(first, False)]
        while stack:
            row, is_ready = stack.pop()
            if is_ready:
                ordered[row] = None
            elif row not in ordered:
                stack.append((row, True))
                stack.extend((needed, False) for needed in dependencies[row])
    return list(ordered)


def value_of(program: Program, inputs: Sequence[bytes], contents: Sequence[bytes], children: Sequence[bytes]) -> bytes:
    """The value this program computes: what its result payload, or the object it stands for, must be."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(program.payload)
    for part in (inputs, contents, children):
        digest.update(len(part).to_bytes(4, "little"))
        for item in part:
            digest.update(len(item).to_bytes(4, "little") + bytes(item))
    return PICKLED + digest.digest()


def is_object(payload: bytes) -> bool:
    return bytes(payload[:1]) == OBJECT


class Library:
    """All programs of one run."""

    def __init__(self) -> None:
        self._programs: list[Program] = []

    def add(
        self,
        action: Action,
        duration_s: float,
        *,
        stubborn: bool = False,
        large_result: bool = False,
        children: tuple[int, ...] = (),
        needs: tuple[tuple[int, ...], ...] = (),
        links_children: bool = False,
        death: Death = Death.RUNNING,
        silent: bool = False,
    ) -> Program:
        program = Program(
            len(self._programs),
            action,
            duration_s,
            stubborn,
            large_result,
            children,
            needs,
            links_children,
            death,
            silent,
        )
        self._programs.append(program)
        return program

    def __getitem__(self, number: int) -> Program:
        return self._programs[number]

    def may_exit(self, number: int) -> bool:
        """Whether running this program, or anything it runs, ends a processor."""
        program = self._programs[number]
        return program.action is Action.EXIT or any(self.may_exit(child) for child in program.children)

    def expected(self, number: int, inputs: Sequence[bytes] = (), contents: Sequence[bytes] = ()) -> bytes | None:
        """The value of a task, or None where it must end in an exception."""
        program = self._programs[number]
        if program.action in (Action.FAIL, Action.EXIT):
            return None
        children: list[bytes] = []
        for place, child in enumerate(program.children):
            needed = [children[one] for one in program.needs[place]] if program.needs else ()
            value = self.expected(child, needed)
            if value is None:
                return None
            children.append(value)
        return value_of(program, inputs, contents, children)
