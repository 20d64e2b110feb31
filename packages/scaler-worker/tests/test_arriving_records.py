"""What an agent holds of records of its processors: real channels, into which anything is written."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import pytest

from scaler_protocol.service.reactor import Reactor
from scaler_protocol.testing.waiting import wait_until
from scaler_worker.core import events
from scaler_worker.processor.records import PACKET_BYTES_MAX, Kind, packets, relay_parts
from scaler_worker.processor.result_records import RESULT_BYTES_MAX
from scaler_worker.processor.task_loop import FLUSH_RESULTS_MAX
from scaler_worker.shell import arriving_records
from scaler_worker.shell.arriving_records import (
    MESSAGE_OVERHEAD_BYTES,
    OTHER_BYTES_MAX,
    RECORD_BYTES_MAX,
    RELAY_BYTES_MAX,
    UNSENT_BYTES_MAX,
    ArrivingRecords,
    RecordAssembler,
    UnsentMessages,
)
from scaler_worker.shell.processor_link import ProcessorLink

MIB = 1024**2
CLIENT = b"c" * 16


def part(kind: int) -> bytes:
    """A packet of a record that goes on."""
    return bytes((kind, 1)).ljust(PACKET_BYTES_MAX, b"x")


# --- one record


@pytest.mark.parametrize(
    ("kind", "bytes_max"),
    [(Kind.RESULTS, RECORD_BYTES_MAX), (Kind.RELAY, RELAY_BYTES_MAX), (Kind.OUTPUT, OTHER_BYTES_MAX)],
)
def test_a_record_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch, kind: int, bytes_max: int) -> None:
    # A part of the real bounds.
    for name in ("RECORD_BYTES_MAX", "RELAY_BYTES_MAX", "OTHER_BYTES_MAX"):
        monkeypatch.setattr(arriving_records, name, getattr(arriving_records, name) // 1024 * 64)
    fitting = bytes_max // 1024 * 64 // PACKET_BYTES_MAX
    noted: list[int] = []
    assembler = RecordAssembler(noted.append)
    for _ in range(fitting):
        assert assembler.add(part(kind)) is None
    assert noted == [(number + 1) * PACKET_BYTES_MAX for number in range(fitting)]
    with pytest.raises(ValueError, match=r"^more than \d+ MiB in one record$"):
        assembler.add(part(kind))
    assert noted[-1] == 0
    # Nothing is left of it.
    assert assembler.add(bytes((7, 0)) + b"next") == (7, b"next")


def test_as_many_results_as_leave_together_fit_into_a_record() -> None:
    assert FLUSH_RESULTS_MAX * RESULT_BYTES_MAX < RECORD_BYTES_MAX


def test_a_record_is_no_larger_than_its_processor_can_be() -> None:
    assembler = RecordAssembler(lambda _held: None, 16 * MIB)
    for _ in range(16 * MIB // PACKET_BYTES_MAX):
        assert assembler.add(part(Kind.RELAY)) is None
    with pytest.raises(ValueError, match="more than 16 MiB in one record"):
        assembler.add(part(Kind.RELAY))


def test_a_record_of_small_parts_is_not_kept() -> None:
    with pytest.raises(ValueError, match="a part of 2 bytes, though more follow"):
        RecordAssembler(lambda _held: None).add(bytes((Kind.RESULTS, 1)))


def test_parts_of_a_record_are_of_one_kind() -> None:
    assembler = RecordAssembler(lambda _held: None)
    body = part(Kind.RELAY)[2:]
    assert assembler.add(part(Kind.RELAY)) is None
    with pytest.raises(ValueError, match="several kinds"):
        assembler.add(bytes((Kind.RESULTS, 0)) + b"end")
    assert assembler.add(part(Kind.RELAY)) is None
    with pytest.raises(ValueError, match="several kinds"):
        assembler.add(part(Kind.RESULTS))
    assert assembler.add(part(Kind.RELAY)) is None
    assert assembler.add(bytes((Kind.RELAY, 0)) + b"end") == (Kind.RELAY, body + b"end")


# --- those of several processors


class Processor:
    """A processor whose end of the channel is ours."""

    def __init__(self, number: int, reactor: Reactor, arriving: ArrivingRecords, unsent: UnsentMessages) -> None:
        self.events: list[events.Event] = []
        self.link = ProcessorLink(number, 0, reactor, self.events.append, lambda _module: None, arriving, unsent)
        tasks_end, *others = self.link.child_descriptors
        for descriptor in others:
            os.close(descriptor)
        self.channel = socket.socket(fileno=tasks_end)
        self.channel.setblocking(False)
        self.unsent: list[bytes] = []
        self.sent_bytes = 0

    def send(self) -> None:
        """Send what the agent takes now."""
        while self.unsent:
            try:
                self.channel.send(self.unsent[0])
            except BlockingIOError:
                return
            self.sent_bytes += len(self.unsent.pop(0))

    def kinds(self) -> list[type[events.Event]]:
        return [type(event) for event in self.events]

    def close(self) -> None:
        self.link.close()
        self.channel.close()


def whole_relay(size: int) -> list[bytes]:
    return packets(Kind.RELAY, relay_parts(CLIENT, [b"e" * 48, bytes(size)]))


class Agent:
    """Links to some processors, and the event loop they live in."""

    def __init__(self, count: int, *, is_behind: bool = False) -> None:
        self.runner = asyncio.Runner()
        self.loop = self.runner.get_loop()
        self.runner.run(self._make(count, is_behind))

    async def _make(self, count: int, is_behind: bool) -> None:
        self.reactor = Reactor()
        self.arriving = ArrivingRecords(held_bytes_max=8 * MIB, stall_seconds=0.5)
        unsent = UnsentMessages(lambda: is_behind)
        self.processors = [Processor(number, self.reactor, self.arriving, unsent) for number in range(count)]

    def run_until(self, condition: Callable[[], object], what: str) -> None:
        def step() -> None:
            for processor in self.processors:
                processor.send()
            self.runner.run(asyncio.sleep(0))

        wait_until(condition, 20, step=step, what=what)

    def close(self) -> None:
        async def close() -> None:
            for processor in self.processors:
                processor.close()
            self.arriving.close()
            self.reactor.close()

        self.runner.run(close())
        self.runner.close()


def test_while_too_much_has_arrived_in_part_one_record_at_a_time_arrives() -> None:
    agent = Agent(4)
    try:
        first, second, third, small = agent.processors
        for processor in (first, second, third):
            # None of them ends.
            processor.unsent = whole_relay(32 * MIB)[:-1]
        agent.run_until(lambda: not first.unsent, "the record that began first does not go on arriving")
        # What lies in the sockets, and what was read in one turn, beside the bound.
        assert second.sent_bytes + third.sent_bytes < 8 * MIB + 4 * 4 * MIB
        small.unsent = whole_relay(1000)
        agent.run_until(lambda: small.kinds() == [events.RelayFrames], "a small record waits for large ones")
        first.unsent = whole_relay(32 * MIB)[-1:]
        agent.run_until(lambda: first.kinds() == [events.RelayFrames], "the first one")
        agent.run_until(lambda: not second.unsent or not third.unsent, "the next one does not go on")
    finally:
        agent.close()


def test_a_record_that_stops_gives_way_to_others_and_ends_its_processor() -> None:
    agent = Agent(3)
    try:
        first, second, third = agent.processors
        first.unsent = whole_relay(32 * MIB)[: 10 * MIB // PACKET_BYTES_MAX]
        agent.run_until(lambda: not first.unsent, "the first one")
        second.unsent = whole_relay(32 * MIB)
        third.unsent = whole_relay(32 * MIB)
        agent.run_until(lambda: second.events and third.events, "nothing comes after a record that has stopped")
        (fault,) = first.events
        assert isinstance(fault, events.ProcessorFaulty)
        assert fault.fault == "stops in the middle of a record, for which others wait"
        assert (second.kinds(), third.kinds()) == ([events.RelayFrames], [events.RelayFrames])
        # What it sends after that is read and dropped: it is not held up until it is killed.
        first.unsent = whole_relay(MIB)
        agent.run_until(lambda: not first.unsent, "it is not read any more")
        assert len(first.events) == 1
    finally:
        agent.close()


def test_a_processor_that_ends_in_the_middle_of_a_record_makes_room() -> None:
    agent = Agent(2)
    try:
        first, second = agent.processors
        first.unsent = whole_relay(32 * MIB)[:-1]
        agent.run_until(lambda: not first.unsent, "the first one")
        second.unsent = whole_relay(MIB)
        first.channel.close()
        agent.loop.run_until_complete(_end(first))
        agent.run_until(lambda: second.kinds() == [events.RelayFrames], "the second one")
        agent.processors.remove(first)
    finally:
        agent.close()


async def _end(processor: Processor) -> None:
    processor.link.end(-9, 0)


# --- what the scheduler does not take


def test_what_may_be_lost_is_dropped_while_the_scheduler_takes_nothing() -> None:
    behind = False
    unsent = UnsentMessages(lambda: behind)
    assert all(unsent.admits(UNSENT_BYTES_MAX) for _ in range(3))
    behind = True
    unsent = UnsentMessages(lambda: behind)
    # A single one may have any size.
    assert unsent.admits(2 * UNSENT_BYTES_MAX)
    assert not unsent.admits(0)
    behind = False
    assert unsent.admits(100)
    behind = True
    admitted = 0
    while unsent.admits(0):
        admitted += 1
    assert admitted == (UNSENT_BYTES_MAX - 100 - MESSAGE_OVERHEAD_BYTES) // MESSAGE_OVERHEAD_BYTES


def test_clients_that_come_and_go_while_the_scheduler_takes_nothing_are_not_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arriving_records, "UNSENT_BYTES_MAX", 16 * MIB)
    agent = Agent(1, is_behind=True)
    try:
        (processor,) = agent.processors
        processor.unsent = whole_relay(16 * MIB)
        agent.run_until(lambda: processor.events, "the first one")
        processor.unsent = [*whole_relay(10), *packets(Kind.OUTPUT, [bytes(8), b"\x01", bytes(8), b"text"])]
        processor.unsent += packets(Kind.RELAY_CLOSE, [CLIENT])
        agent.run_until(lambda: len(processor.events) > 1, "the last one")
        assert processor.kinds() == [events.RelayFrames, events.RelayClosed]
    finally:
        agent.close()
