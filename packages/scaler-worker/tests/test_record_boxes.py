"""Long records between agent and processor go through boxes: whole, and only while one is free."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from scaler_worker.processor.page import RunningPage
from scaler_worker.processor.record_boxes import BOX_BYTES, BOXED_BYTES_MIN, BOXES, RecordBoxes
from scaler_worker.processor.records import BOXED, PACKET_BYTES_MAX, Assembler, Kind, packets
from scaler_worker.shell.arriving_records import RecordAssembler

Ends = tuple[RecordBoxes, RecordBoxes]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return the boxes as the agent has them, and as the processor does."""
    descriptor = RunningPage.create()
    agent, processor = RunningPage.boxes_for_agent(descriptor), RunningPage.boxes_for_processor(descriptor)
    os.close(descriptor)
    yield agent, processor
    agent.close()
    processor.close()


def body(size: int, seed: int = 1) -> bytes:
    return bytes((seed + at) % 251 for at in range(997)) * (size // 997 + 1)


def test_a_long_record_is_one_packet_each_way(ends: Ends) -> None:
    agent, processor = ends
    parts: list[bytes | bytearray | memoryview] = [body(BOXED_BYTES_MIN), b"", memoryview(b"end")]
    (packet,) = packets(Kind.TASKS, parts, agent.to_processor)
    assert len(packet) < 20
    assert Assembler(processor.to_processor).add(packet) == (Kind.TASKS, b"".join(parts))
    (packet,) = packets(Kind.RESULTS, parts, processor.to_agent)
    noted: list[int] = []
    assert RecordAssembler(noted.append, boxes=agent.to_agent).add(packet) == (Kind.RESULTS, b"".join(parts))
    assert noted == []


def test_the_longest_fits_and_longer_ones_travel_in_packets(ends: Ends) -> None:
    agent, processor = ends
    longest = body(BOX_BYTES)[:BOX_BYTES]
    (packet,) = packets(Kind.RESULTS, [longest], processor.to_agent)
    assert agent.to_agent.empty(packet[2:]) == longest
    assert len(packets(Kind.RESULTS, [longest, b"."], processor.to_agent)) > 1
    assert len(packets(Kind.RESULTS, [longest[: BOXED_BYTES_MIN - 1]], processor.to_agent)) > 1
    # The bounds of what other records hold are lower.
    assert len(packets(Kind.OUTPUT, [longest], processor.to_agent)) > 1


def test_records_travel_in_packets_while_all_boxes_are_full_and_order_is_kept(ends: Ends) -> None:
    agent, processor = ends
    reader = Assembler(processor.to_processor)
    records = [body(BOXED_BYTES_MIN, seed) for seed in range(BOXES + 2)]
    sent = [packets(Kind.TASKS, [record], agent.to_processor) for record in records]
    assert [len(cut) == 1 for cut in sent] == [True] * BOXES + [False] * 2
    found = [reader.add(packet) for cut in sent for packet in cut]
    assert [record for record in found if record is not None] == [(Kind.TASKS, record) for record in records]
    # They are free again.
    assert len(packets(Kind.TASKS, [records[0]], agent.to_processor)) == 1


@pytest.mark.parametrize(
    "packet",
    [
        bytes((Kind.RESULTS, BOXED)),
        bytes((Kind.RESULTS, BOXED)) + struct.pack("=BI", BOXES, 10),
        bytes((Kind.RESULTS, BOXED)) + struct.pack("=BI", 0, BOX_BYTES + 1),
        bytes((Kind.RESULTS, BOXED)) + struct.pack("=BIB", 0, 10, 0),
        bytes((Kind.OUTPUT, BOXED)) + struct.pack("=BI", 0, 10),
    ],
)
def test_what_no_processor_sends_is_refused(ends: Ends, packet: bytes) -> None:
    assembler = RecordAssembler(lambda _held: None, boxes=ends[0].to_agent)
    with pytest.raises(ValueError, match=r"box|part"):
        assembler.add(packet)


def test_a_boxed_record_may_not_come_within_another(ends: Ends) -> None:
    agent, processor = ends
    assembler = RecordAssembler(lambda _held: None, boxes=agent.to_agent)
    begun = bytes((Kind.RESULTS, 1)).ljust(PACKET_BYTES_MAX, b".")
    assert assembler.add(begun) is None
    (packet,) = packets(Kind.RESULTS, [body(BOXED_BYTES_MIN)], processor.to_agent)
    with pytest.raises(ValueError, match="part of"):
        assembler.add(packet)


def test_memory_of_free_boxes_is_given_back_and_can_be_used_again(ends: Ends) -> None:
    agent, processor = ends
    record = body(BOXED_BYTES_MIN)
    full, free = (
        packets(Kind.TASKS, [record], agent.to_processor)[0],
        packets(Kind.TASKS, [record], agent.to_processor)[0],
    )
    assert processor.to_processor.empty(free[2:]) == record
    for _ in range(2):
        agent.to_processor.give_back_idle()
    assert processor.to_processor.empty(full[2:]) == record
    (again,) = packets(Kind.TASKS, [record], agent.to_processor)
    assert processor.to_processor.empty(again[2:]) == record
