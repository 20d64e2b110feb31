"""Batches of a single task or result, which an idle system sends one at a time: the same bytes, five times as fast.

A message under load carries hundreds of rows, and what its columns cost does not matter. One there and back is seven times
written or read, by code that has slept before. For the forms that nearly all of those have, this is one `struct` call; every
other form is left to the general code, by returning None.
"""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol import messages as m
from scaler_protocol.columns import NO_ITEMS, Packed
from scaler_protocol.flat import FlatStruct
from scaler_protocol.wire import Frame

_ID, _NUMBER, _ATTEMPT, _LENGTH, _DURATION, _SLOT = "16s", "Q", "H", "I", "I", "H"


class OneTask:
    """`TaskBatch` with one task and nothing out of the ordinary."""

    def __init__(self, flat: FlatStruct) -> None:
        assert flat.number_names == ("depth", "kind", "flags")
        slots = flat.blob_slots
        client, number = (slots["client"], _ID), (slots["numbers"], _NUMBER)
        rest = [(slots["functions"], _ID), (slots["payloadLengths"], _LENGTH)]
        submitted = flat.fixed([client, number, *rest])
        assigned = flat.fixed([client, number, (slots["attempts"], _ATTEMPT), *rest])
        self._submitted, self._submitted_start, self._submitted_pointers = submitted
        self._assigned, self._assigned_start, self._assigned_pointers = assigned

    def write(self, batch: m.TaskBatch) -> list[Frame] | None:
        """Return the frames of `batch`, or None where it has another form."""
        numbers, functions, payload = batch.numbers, batch.functions, batch.payloads.data
        if (
            len(numbers) != 1
            or len(functions) != 1
            or batch.capabilities
            or batch.serializer
            or len(batch.function_indexes)
            or len(batch.object_positions)
            or len(batch.input_positions)
            or len(batch.chain_ends)
            or not payload
        ):
            return None
        attempts = batch.attempts
        if len(attempts):
            header = self._assigned.pack(
                self._assigned_start,
                batch.depth,
                batch.kind,
                batch.flags,
                self._assigned_pointers,
                batch.client,
                numbers[0],
                attempts[0],
                functions[0],
                len(payload),
            )
        else:
            header = self._submitted.pack(
                self._submitted_start,
                batch.depth,
                batch.kind,
                batch.flags,
                self._submitted_pointers,
                batch.client,
                numbers[0],
                functions[0],
                len(payload),
            )
        return [header, payload]

    def read(self, header: bytes, payload: Frame) -> m.TaskBatch | None:
        """Return the message, whose form needs no further check, or None where it has another form."""
        if len(header) == self._assigned.size:
            start, depth, kind, flags, pointers, client, number, attempt, function, size = self._assigned.unpack(header)
            if start != self._assigned_start or pointers != self._assigned_pointers or size != len(payload):
                return None
            attempts: Sequence[int] = (attempt,)
        elif len(header) == self._submitted.size:
            start, depth, kind, flags, pointers, client, number, function, size = self._submitted.unpack(header)
            if start != self._submitted_start or pointers != self._submitted_pointers or size != len(payload):
                return None
            attempts = ()
        else:
            return None
        return m.TaskBatch(
            client,
            (number,),
            (function,),
            Packed((size,), payload),
            attempts,
            (),
            depth,
            kind,
            flags,
            (),
            b"",
            (),
            (),
            (),
            NO_ITEMS,
        )


class OneResult:
    """`ResultBatch` with one success, as agents report them."""

    def __init__(self, flat: FlatStruct) -> None:
        assert flat.number_names == ("capacity",)
        slots = flat.blob_slots
        self._form, self._start, self._pointers = flat.fixed(
            [
                (slots["client"], _ID),
                (slots["numbers"], _NUMBER),
                (slots["attempts"], _ATTEMPT),
                (slots["slots"], _SLOT),
                (slots["durations"], _DURATION),
                (slots["payloadLengths"], _LENGTH),
            ]
        )

    def write(self, batch: m.ResultBatch) -> list[Frame] | None:
        """Return the frames of `batch`, or None where it has another form."""
        numbers, payload = batch.numbers, batch.payloads.data
        if (
            len(numbers) != 1
            or len(batch.statuses)
            or len(batch.durations) != 1
            or len(batch.slots) != 1
            or len(batch.cpu_times)
            or len(batch.memory_peaks)
            or len(batch.object_positions)
            or not payload
        ):
            return None
        header = self._form.pack(
            self._start,
            batch.capacity,
            self._pointers,
            batch.client,
            numbers[0],
            batch.attempts[0],
            batch.slots[0],
            batch.durations[0],
            len(payload),
        )
        return [header, payload]

    def read(self, header: bytes, payload: Frame) -> m.ResultBatch | None:
        """Return the message, whose form needs no further check, or None where it has another form."""
        if len(header) != self._form.size:
            return None
        start, capacity, pointers, client, number, attempt, slot, duration, size = self._form.unpack(header)
        if start != self._start or pointers != self._pointers or size != len(payload):
            return None
        return m.ResultBatch(
            client,
            (number,),
            (attempt,),
            Packed((size,), payload),
            (),
            (duration,),
            (),
            (),
            (),
            (),
            capacity,
            (slot,),
            [header, payload],
        )
