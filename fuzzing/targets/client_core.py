"""The client's core: any messages of a scheduler, between tasks that come and go, with its invariants checked."""

from __future__ import annotations

import contextlib

from fuzzing.frames import frames_of, golden, joined, messages_of
from scaler.core import ClientCore, effects, events
from scaler_protocol.errors import SessionError, WireError
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.columns import Packed

CLIENT, FUNCTION = b"c" * 16, b"f" * 16
TASKS = 8
MESSAGES, TICK, SUBMIT, CANCEL, FETCHED, GRAPH, SESSION = 8, 8, 9, 10, 11, 12, 13
"""What the low four bits of the byte before a message say: below `MESSAGES` it is sent, all others are steps instead of it."""


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    steps = [bytes([step]) for step in range(TICK, SESSION + 1)]
    one = [bytes([0]) + message for message in golden()]
    return [joined(one), joined([each for message in one for each in (message, *steps)])]


class _Client:
    def __init__(self) -> None:
        self.core = ClientCore(CLIENT, m.Hello(m.Role.CLIENT, "c", CLIENT), timeout_seconds=20.0)
        self.peer = SessionPeer()
        self.now = 0.0
        self.fetches: list[int] = []
        self.numbers: list[int] = []
        self.core.define_function(FUNCTION, b"body", "module.name")
        self.core.start(self.now)
        self.settle()

    def settle(self) -> None:
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                with contextlib.suppress(SessionError):
                    # A welcome that the fuzzer wrote has replaced the session.
                    self.peer.receive(effect.envelope, effect.message, self.now)
            elif isinstance(effect, effects.FetchObject):
                self.fetches.append(effect.number)
        self.core.check_invariants()

    def step(self, what: int) -> None:
        core = self.core
        if what == TICK:
            self.now = max(self.now, min(core.next_deadline(), self.now + 60.0))
            core.handle(events.Tick(), self.now)
        elif what == SESSION:
            core.handle(events.Incoming(*self.peer.welcome()), self.now)
        elif what == FETCHED and self.fetches:
            core.handle(events.ObjectFetched(self.fetches.pop(), [b"P", b"value"]), self.now)
        elif core.unusable is not None:
            return
        elif what == SUBMIT:
            self.numbers += [core.submit(core.group(), FUNCTION, b"P") for _ in range(TASKS)]
            core.flush()
        elif what == GRAPH:
            graph = m.GraphSubmit(
                CLIENT, 0, (FUNCTION,), Packed.of([b"P", b"P"]), dependency_counts=[0, 1], dependencies=[0], wanted=[1]
            )
            self.numbers.append(core.submit_graph(graph, ["token"]) + 1)
            core.flush()
        elif what == CANCEL and self.numbers:
            core.cancel([self.numbers.pop()])


def run(data: bytes) -> None:
    """See `fuzzing`. Before each message stands a byte: what happens, and how far the clock moves."""
    client = _Client()
    client.step(SESSION)
    client.step(SUBMIT)
    client.settle()
    for piece in messages_of(data):
        if not piece:
            continue
        client.now += (piece[0] >> 4) * 0.5
        what = piece[0] & 15
        if what < MESSAGES:
            try:
                message = decode(frames_of(piece[1:])[1:])
            except WireError:
                continue
            out = client.peer.say_plain(message) if what & 1 else client.peer.say(message)
            client.core.handle(events.Incoming(*out), client.now)
        else:
            client.step(what)
        client.settle()
