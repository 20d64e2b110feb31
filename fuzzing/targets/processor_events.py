"""Records that a task wrote into its processor's channel, from the agent's link to its core, with the core's invariants checked.

The link is a real one with sockets of its own. It is never told to kill: a record may name any process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence

from fuzzing.frames import joined, messages_of
from scaler_protocol.service.reactor import Reactor
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed
from scaler_worker.core import AgentCore, AgentOptions, effects, events
from scaler_worker.processor import records
from scaler_worker.processor.records import Kind
from scaler_worker.processor.result_records import one_result_parts, results_parts
from scaler_worker.shell.arriving_records import ArrivingRecords, UnsentMessages
from scaler_worker.shell.processor_link import ProcessorLink

CLIENT, FUNCTION = b"c" * 16, b"f" * 16
TASKS = 4
PACKETS_MAX = 32


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    found: list[tuple[Kind, Sequence[records.Bytes]]] = [
        (Kind.READY, [(123).to_bytes(4, "little")]),
        (Kind.READY, []),
        (Kind.START_FAILED, [b"no such module"]),
        (Kind.ONE_RESULT, one_result_parts((0, b"Pone", 12, None))),
        (Kind.RESULTS, results_parts([(0, b"Pone", 12, None), (1, b"Ptwo", 13, None)])),
        (Kind.BLOCKED, records.given_back_parts(1, 2)),
        (Kind.UNBLOCKED, [b"\1"]),
        (Kind.UNFINISHED, [b"\1"]),
        (Kind.GAVE_BACK, records.given_back_parts(1, 2)),
        (Kind.OUTPUT, records.output_parts(1, 1, b"hello", 0)),
        (Kind.CHUNK_FAILURES, records.chunk_failures_parts(0, 2, b"payload")),
        (Kind.RELAY_OPEN, [CLIENT, b"module"]),
        (Kind.RELAY, records.relay_parts(CLIENT, [b"e" * 48, b"header"])),
        (Kind.RELAY_UNFINISHED, records.relay_parts(CLIENT, [b"e" * 48, b"header"])),
        (Kind.RELAY_CLOSE, [CLIENT]),
        (
            Kind.SEVERAL,
            records.several_parts(
                [(Kind.UNBLOCKED, [b"\1"]), (Kind.ONE_RESULT, one_result_parts((0, b"Pone", 12, None)))]
            ),
        ),
        (Kind.OBJECT_WANTED, records.object_wanted_parts(b"o" * 16, True)),
        (Kind.RETIRED, [b"it is old"]),
    ]
    packets = [packet for kind, parts in found for packet in records.packets(kind, parts)]
    packets += [bytes((kind, records.BOXED)) + b"\0\xff\0\0\0" for kind in (Kind.RESULTS, Kind.RELAY, Kind.OUTPUT)]
    return [joined([packet]) for packet in packets] + [joined(packets), joined(packets[::-1])]


class _Agent:
    """An agent with one processor, which has tasks."""

    def __init__(self, reactor: Reactor) -> None:
        self.now = 100.0
        self.core = AgentCore(AgentOptions("agent", b"a" * 16, ("w0",)))
        self.peer = SessionPeer()
        self.started: list[tuple[int, int]] = []
        self.step(events.Start())
        self.step(events.Incoming(*self.peer.welcome(object_storage_address="tcp://127.0.0.1:1")))
        number, slot = self.started.pop()
        self.link = ProcessorLink(
            number,
            slot,
            reactor,
            self.step,
            lambda _module: None,
            ArrivingRecords(),
            UnsentMessages(lambda: False),
        )
        self.step(events.ProcessorReady(number, 1000))
        self.step(events.Incoming(*self.peer.say(m.FunctionDefine(CLIENT, (FUNCTION,), Packed.of([b"P"])))))
        tasks = m.TaskBatch(CLIENT, range(TASKS), (FUNCTION,), Packed.of([b"P"] * TASKS), attempts=[1] * TASKS)
        self.step(events.Incoming(*self.peer.say(tasks)))

    def step(self, event: events.Event) -> None:
        self.core.handle(event, self.now)
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                self.peer.receive(effect.envelope, effect.message, self.now)
            elif isinstance(effect, effects.StartProcessor):
                self.started.append((effect.processor, effect.slot))
        self.core.check_invariants()


async def _run(data: bytes) -> None:
    reactor = Reactor()
    agent = _Agent(reactor)
    link = agent.link
    tasks_end, *others = link.child_descriptors
    with socket.socket(fileno=tasks_end) as channel:
        channel.setblocking(False)
        for packet in messages_of(data, PACKETS_MAX):
            if packet:
                with contextlib.suppress(BlockingIOError):
                    channel.send(packet)
    for descriptor in others:
        os.close(descriptor)
    # As when the processor has ended: what it sent last is read first.
    agent.step(link.end(1, 0))
    agent.now = max(agent.now, min(agent.core.next_deadline(), agent.now + 60.0))
    agent.step(events.Tick())
    reactor.close()


def run(data: bytes) -> None:
    """See `fuzzing`."""
    with asyncio.Runner() as runner:
        runner.run(_run(data))
