"""Records between agent and processor: a task may have written anything into the channel of its process."""

from __future__ import annotations

import contextlib
import struct

from fuzzing.frames import joined, messages_of
from scaler_worker.processor import records
from scaler_worker.processor.result_records import one_result_parts, read_one_result, read_results, results_parts
from scaler_worker.processor.task_records import read_tasks
from scaler_worker.shell.arriving_records import RecordAssembler

READERS = (
    read_one_result,
    read_results,
    read_tasks,
    records.read_cancel,
    records.read_chunk_failures,
    records.read_given_back,
    records.read_object_answer,
    records.read_object_wanted,
    records.read_output,
    records.read_relay,
    records.read_several,
)


def seeds() -> list[bytes]:
    """See `fuzzing`."""
    bodies = [
        one_result_parts((0, b"Pone", 12, None)),
        results_parts([(0, b"Pone", 12, None), (1, b"Ptwo", 13, None)]),
        records.cancel_parts(1, 2, "text"),
        records.chunk_failures_parts(1, 2, b"payload"),
        records.given_back_parts(1, 2),
        records.object_answer_parts(b"o" * 16, 0, "text"),
        records.object_wanted_parts(b"o" * 16, True),
        records.output_parts(1, 1, b"hello", 0),
        records.relay_parts(b"c" * 16, [b"e" * 48, b"header"]),
        records.several_parts([(36, [b"\1"]), (44, one_result_parts((0, b"Pone", 12, None)))]),
    ]
    return [joined(records.packets(1, parts)) for parts in bodies]


def run(data: bytes) -> None:
    """See `fuzzing`. The errors are those after which an agent replaces the processor."""
    assembler = RecordAssembler(lambda _held: None)
    for packet in messages_of(data):
        if not packet:
            # As for a closed channel.
            continue
        with contextlib.suppress(ValueError, IndexError, struct.error):
            record = assembler.add(packet)
            if record is None:
                continue
            for read in READERS:
                with contextlib.suppress(ValueError, IndexError, struct.error):
                    read(record[1])
