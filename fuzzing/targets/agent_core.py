"""The agent's core: any messages of a scheduler, between processors that start, answer and die, with its invariants checked."""

from __future__ import annotations

import contextlib

from fuzzing.frames import frames_of, golden, joined, messages_of
from scaler_protocol.errors import SessionError, WireError
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.codec import decode
from scaler_worker.core import AgentCore, AgentOptions, effects, events

MESSAGES, TICK, READY, ANSWER, EXIT, FETCHED, STORED, SESSION = 8, 8, 9, 10, 11, 12, 13, 14
"""What the low four bits of the byte before a message say: below `MESSAGES` it is sent, all others are steps instead of it."""


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    steps = [bytes([step]) for step in range(TICK, SESSION + 1)]
    one = [bytes([0]) + message for message in golden()]
    return [joined(one), joined([each for message in one for each in (message, *steps)])]


class _Agent:
    def __init__(self) -> None:
        self.core = AgentCore(AgentOptions("agent", b"a" * 16, ("w0", "w1")))
        self.peer = SessionPeer()
        self.now = 100.0
        self.starting: list[int] = []
        self.handed: dict[int, list[int]] = {}
        """Of each processor that is ready: the indexes of the tasks that it has not answered."""
        self.fetches: list[int] = []
        self.puts: list[int] = []
        self.step(events.Start())

    def step(self, event: events.Event) -> None:
        self.core.handle(event, self.now)
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                with contextlib.suppress(SessionError):
                    # A welcome that the fuzzer wrote has replaced the session.
                    self.peer.receive(effect.envelope, effect.message, self.now)
            elif isinstance(effect, effects.StartProcessor):
                self.starting.append(effect.processor)
            elif isinstance(effect, effects.SendTasks):
                count = len(effect.tasks.numbers)
                self.handed.setdefault(effect.processor, []).extend(
                    range(effect.first_index, effect.first_index + count)
                )
            elif isinstance(effect, effects.FetchObject):
                self.fetches.append(effect.request)
            elif isinstance(effect, effects.PutObject):
                self.puts.append(effect.request)
        self.core.check_invariants()

    def happen(self, what: int) -> None:
        if what == TICK:
            self.now = max(self.now, min(self.core.next_deadline(), self.now + 60.0))
            self.step(events.Tick())
        elif what == SESSION and self.peer.hello is not None:
            self.step(events.Incoming(*self.peer.welcome(object_storage_address="tcp://127.0.0.1:1")))
        elif what == READY and self.starting:
            processor = self.starting.pop()
            self.handed.setdefault(processor, [])
            self.step(events.ProcessorReady(processor, 1000 + processor))
        elif what == ANSWER:
            busy = [processor for processor, tasks in self.handed.items() if tasks]
            if busy:
                index = self.handed[busy[0]].pop(0)
                self.step(events.ProcessorResults(busy[0], index, 1, [2], b"Pr", Reported((), [100])))
        elif what == EXIT and self.handed:
            processor, tasks = self.handed.popitem()
            self.step(events.ProcessorExited(processor, tasks[0] if tasks else None, "killed"))
        elif what == FETCHED and self.fetches:
            self.step(events.ObjectFetched(self.fetches.pop(), 10))
        elif what == STORED and self.puts:
            self.step(events.ObjectStored(self.puts.pop()))


def run(data: bytes) -> None:
    """See `fuzzing`. Before each message stands a byte: what happens, and how far the clock moves."""
    agent = _Agent()
    for what in (SESSION, READY, READY):
        agent.happen(what)
    for piece in messages_of(data):
        if not piece:
            continue
        agent.now += (piece[0] >> 4) * 0.5
        what = piece[0] & 15
        if what >= MESSAGES:
            agent.happen(what)
            continue
        try:
            message = decode(frames_of(piece[1:])[1:])
        except WireError:
            continue
        said = agent.peer.say_plain(message) if what & 1 else agent.peer.say(message)
        agent.step(events.Incoming(*said))
