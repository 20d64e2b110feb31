"""Whatever a message holds, it means the same on the other side. And the library reads what we write by hand."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler_protocol.errors import MessageTooLargeError, UnencodableMessageError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import FIGURE_MAX, decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.object_batches import joined

ROWS_MAX = 20

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
I32, I64 = (st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (32, 64))
F64 = st.floats(allow_nan=False)
FIGURES = st.floats(-FIGURE_MAX, FIGURE_MAX)
"""Times and shares that monitors get: they refuse what calendars cannot hold."""
FIGURES_32 = st.floats(-FIGURE_MAX, FIGURE_MAX, width=32)
WAITS = st.floats(0)
IDS = st.binary(min_size=16, max_size=16)
TEXTS = st.text(max_size=20)
PLACES = st.binary(min_size=24, max_size=24)
BLOBS = st.binary(max_size=40)
A_BATCH = m.ObjectBatch(m.BatchKind.DELETE_REPLIES, [1, 2])
BYTES = st.sampled_from([b"", b"0123456789abcdef"])
ELEMENTS = {"B": U8, "H": U16, "I": U32, "Q": U64, "d": F64}
CAPABILITIES = st.lists(st.tuples(TEXTS, I64), max_size=3).map(tuple)


def column(typecode: str, rows: int | None = None, *, optional: bool = False) -> st.SearchStrategy[Any]:
    """A column of so many rows (any number: None), in one of the forms senders use; empty too where it may be."""
    lists = st.lists(ELEMENTS[typecode], min_size=rows or 0, max_size=ROWS_MAX if rows is None else rows)
    filled = st.one_of(lists, lists.map(tuple), lists.map(lambda values: array(typecode, values)))
    return st.one_of(st.just(()), filled) if optional else filled


def moments(rows: int) -> st.SearchStrategy[Any]:
    """A column of times in a message to monitors."""
    return st.lists(FIGURES, min_size=rows, max_size=rows)


def ids(rows: int | None = None) -> st.SearchStrategy[Any]:
    return st.lists(IDS, min_size=rows or 0, max_size=5 if rows is None else rows).map(tuple)


def texts(rows: int | None = None) -> st.SearchStrategy[Any]:
    return st.lists(TEXTS, min_size=rows or 0, max_size=5 if rows is None else rows).map(tuple)


def packed(rows: int) -> st.SearchStrategy[Packed]:
    return st.lists(BLOBS, min_size=rows, max_size=rows).map(Packed.of)


@st.composite
def sparse(draw: st.DrawFn, rows: int) -> list[int]:
    return sorted(draw(st.lists(st.integers(0, rows - 1), max_size=5))) if rows else []


@st.composite
def chains(draw: st.DrawFn, rows: int) -> list[int]:
    return sorted({*draw(st.lists(st.integers(1, rows), max_size=5)), rows}) if rows else []


@st.composite
def task_batches(draw: st.DrawFn) -> m.TaskBatch:
    rows = draw(st.integers(0, ROWS_MAX))
    functions = draw(st.lists(IDS, min_size=1, max_size=4))
    objects, inputs = draw(sparse(rows)), draw(sparse(rows))
    indexes = st.lists(st.integers(0, len(functions) - 1), min_size=rows, max_size=rows)
    chain_ends = draw(st.one_of(st.just([]), chains(rows)))
    sources = [draw(st.integers(0, row - max([0, *(e for e in chain_ends if e <= row)]))) for row in inputs]
    lengths = draw(packed(len(inputs))).split()
    return m.TaskBatch(
        client=draw(IDS),
        numbers=draw(st.one_of(column("Q", rows), st.just(range(5, 5 + rows)))),
        functions=tuple(functions),
        payloads=draw(packed(rows)),
        attempts=draw(column("H", rows, optional=True)),
        function_indexes=draw(st.one_of(st.just([]), indexes)),
        depth=draw(U16),
        kind=draw(st.sampled_from(m.TaskKind)),
        flags=draw(U8),
        capabilities=draw(CAPABILITIES),
        serializer=draw(BYTES),
        object_positions=objects,
        objects=draw(ids(len(objects))),
        input_positions=inputs,
        inputs=Packed.of([b"" if chain_ends and n else raw for n, raw in zip(sources, lengths, strict=True)]),
        input_sources=sources if chain_ends else [],
        chain_ends=chain_ends,
    )


@st.composite
def result_batches(draw: st.DrawFn) -> m.ResultBatch:
    rows = draw(st.integers(0, ROWS_MAX))
    objects = draw(sparse(rows))
    return m.ResultBatch(
        client=draw(IDS),
        numbers=draw(column("Q", rows)),
        attempts=draw(column("H", rows)),
        payloads=draw(packed(rows)),
        statuses=draw(column("B", rows, optional=True)),
        durations=draw(column("I", rows, optional=True)),
        read_times=draw(column("I", rows, optional=True)),
        write_times=draw(column("I", rows, optional=True)),
        cpu_times=draw(column("I", rows, optional=True)),
        memory_peaks=draw(column("Q", rows, optional=True)),
        object_positions=objects,
        objects=draw(ids(len(objects))),
        capacity=draw(U32),
        slots=draw(column("H", rows, optional=True)),
    )


@st.composite
def graphs(draw: st.DrawFn) -> m.GraphSubmit:
    rows = draw(st.integers(1, ROWS_MAX))
    row = st.integers(0, rows - 1)
    earlier = draw(st.lists(U64, max_size=3))
    needed = st.integers(0, rows + len(earlier) - 1)
    counts = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    objects = draw(sparse(rows))
    return m.GraphSubmit(
        client=draw(IDS),
        first_number=draw(U64),
        functions=draw(ids(2)),
        payloads=draw(packed(rows)),
        dependency_counts=counts,
        dependencies=draw(st.lists(needed, min_size=sum(counts), max_size=sum(counts))),
        wanted=draw(st.lists(row, max_size=rows)),
        function_indexes=draw(st.one_of(st.just([]), st.lists(st.integers(0, 1), min_size=rows, max_size=rows))),
        capabilities=draw(CAPABILITIES),
        serializer=draw(BYTES),
        flags=draw(U8),
        depth=draw(U16),
        object_positions=objects,
        objects=draw(ids(len(objects))),
        earlier=earlier,
    )


@st.composite
def monitor_events(draw: st.DrawFn) -> m.MonitorEvents:
    rows = draw(st.integers(0, ROWS_MAX))

    def indexes(table: int) -> st.SearchStrategy[list[int]]:
        return st.lists(st.integers(0, table - 1), min_size=rows, max_size=rows)

    return m.MonitorEvents(
        sequence=draw(U64),
        time_seconds=draw(moments(rows)),
        clients=draw(indexes(2)),
        client_table=draw(ids(2)),
        numbers=draw(column("Q", rows)),
        states=draw(column("B", rows)),
        workers=draw(st.lists(st.sampled_from([0, 1, 0xFFFF]), min_size=rows, max_size=rows)),
        worker_table=draw(texts(2)),
        functions=draw(indexes(3)),
        function_table=draw(texts(3)),
        durations=draw(column("I", rows)),
        dropped=draw(U64),
        slots=draw(column("H", rows, optional=True)),
        stride=draw(U32),
        incarnation=draw(BYTES),
        capabilities=draw(st.one_of(st.just([]), indexes(1))),
        capability_table=draw(texts(1)),
        notes=draw(st.one_of(st.just([]), indexes(2))),
        label_table=draw(texts(2)),
        tag_table=draw(texts(2)),
        resources=draw(st.one_of(st.just([]), indexes(2))),
        resource_table=draw(texts(2)),
        read_times=draw(column("Q", rows, optional=True)),
        write_times=draw(column("Q", rows, optional=True)),
    )


@st.composite
def monitor_failures(draw: st.DrawFn) -> m.MonitorFailures:
    rows = draw(st.integers(0, ROWS_MAX))
    return m.MonitorFailures(
        incarnation=draw(BYTES),
        first_number=draw(U64),
        time_seconds=draw(moments(rows)),
        clients=draw(ids(rows)),
        numbers=draw(column("Q", rows)),
        attempts=draw(column("H", rows)),
        statuses=draw(column("B", rows)),
        functions=draw(texts(rows)),
        workers=draw(texts(rows)),
        durations=draw(column("I", rows)),
        payloads=draw(packed(rows)),
        items=draw(column("I", rows)),
        labels=draw(st.one_of(st.just(()), texts(rows))),
        tags=draw(st.one_of(st.just(()), texts(rows))),
    )


def with_rows(build: Any) -> st.SearchStrategy[Any]:
    """A strategy that depends on a number of rows."""
    return st.integers(0, ROWS_MAX).flatmap(build)


@st.composite
def calls(draw: st.DrawFn, rows: int) -> dict[str, Any]:
    """The columns of a tree of calls."""
    table = draw(texts(5))
    place = st.integers(0, 4)
    return {
        "parents": [draw(st.integers(0, row)) for row in range(rows)],
        **{name: draw(st.lists(place, min_size=rows, max_size=rows)) for name in ("names", "files")},
        "lines": draw(column("I", rows)),
        "microseconds": draw(column("Q", rows)),
        "texts": table,
    }


def profiles(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Messages of this kind with a tree of calls."""

    def build(columns: dict[str, Any]) -> st.SearchStrategy[Any]:
        others = {
            field.name: {"int": U32, "float": FIGURES, "bool": st.booleans()}[str(field.type)]
            for field in dataclasses.fields(kind)
            if field.name not in columns
        }
        return st.builds(kind, **others, **{name: st.just(column) for name, column in columns.items()})

    return with_rows(calls).flatmap(build)


COUNTERS = st.lists(st.builds(m.Counter, TEXTS, U64), max_size=3).map(tuple)
TALLIES = st.lists(st.builds(m.Tally, TEXTS, U64, U64, U64), max_size=3).map(tuple)

BUFFERS = st.lists(st.one_of(BLOBS, BLOBS.map(bytearray), BLOBS.map(lambda blob: memoryview(blob))), max_size=5)


def fields_of(kind: type[Any], **given_strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A dataclass whose other fields are texts, booleans or ids, told apart by their annotations."""
    by_annotation = {
        "str": TEXTS,
        "bool": st.booleans(),
        "bytes": BYTES,
        "tuple[str, ...]": st.lists(TEXTS, max_size=3).map(tuple),
        "tuple[Counter, ...]": COUNTERS,
        "tuple[Tally, ...]": TALLIES,
    }
    missing = {
        field.name: by_annotation[str(field.type)]
        for field in dataclasses.fields(kind)
        if field.name not in given_strategies
    }
    return st.builds(kind, **given_strategies, **missing)


def numbers_of(kind: type[Any], **special: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """As `fields_of`; integers that no strategy is given for are unsigned 32-bit ones, floats are figures."""
    plain = {
        field.name: {"int": U32, "float": FIGURES}[str(field.type)]
        for field in dataclasses.fields(kind)
        if field.name not in special and str(field.type) in ("int", "float")
    }
    return fields_of(kind, **{**plain, **special})


OBJECT_STATUSES = numbers_of(m.StoredObjectStatus, tasks=I64)

STRATEGIES: dict[type[Any], st.SearchStrategy[Any]] = {
    m.Hello: numbers_of(
        m.Hello,
        role=st.sampled_from(m.Role),
        incarnation=IDS,
        worker_names=texts(),
        capabilities=CAPABILITIES,
        protocol_version=U16,
        timeout_seconds=WAITS,
    ),
    m.Welcome: numbers_of(
        m.Welcome, task_credit=I64, protocol_version=U16, heartbeat_seconds=WAITS, timeout_seconds=WAITS
    ),
    m.Refused: st.builds(m.Refused, TEXTS),
    m.UnknownPeer: st.builds(m.UnknownPeer),
    m.SchedulerStatus: numbers_of(m.SchedulerStatus, incarnation=IDS),
    m.Heartbeat: with_rows(
        lambda rows: numbers_of(
            m.Heartbeat,
            cpu_percent=FIGURES_32,
            rss_bytes=U64,
            rss_free_bytes=U64,
            processor_pids=column("I", rows),
            processor_cpu_percents=column("H", rows),
            processor_rss_bytes=column("Q", rows),
            processor_states=column("B", rows),
            processor_tasks=column("Q", rows),
            processor_milliseconds=column("I", rows),
            processor_functions=ids(rows),
            processor_environments=st.binary(max_size=20),
        )
    ),
    m.Goodbye: st.builds(m.Goodbye, TEXTS),
    m.TaskBatch: task_batches(),
    m.ResultBatch: result_batches(),
    m.FunctionDefine: with_rows(
        lambda rows: st.builds(
            m.FunctionDefine,
            IDS,
            ids(rows),
            packed(rows),
            st.one_of(st.just(()), texts(rows)),
            st.one_of(st.just(b""), IDS),
        )
    ),
    m.TaskCancel: with_rows(
        lambda rows: st.builds(m.TaskCancel, IDS, column("Q", rows), column("H", rows, optional=True), st.booleans())
    ),
    m.TaskRecall: st.builds(m.TaskRecall, U32),
    m.TaskReturn: with_rows(
        lambda rows: st.builds(m.TaskReturn, IDS, column("Q", rows), column("H", rows, optional=True))
    ),
    m.Inventory: with_rows(
        lambda rows: st.builds(m.Inventory, IDS, column("Q", rows), column("H", rows), column("B", rows))
    ),
    m.GrantsHeld: with_rows(
        lambda rows: st.builds(
            m.GrantsHeld,
            st.tuples(*[IDS] * rows),
            column("Q", rows),
            column("H", rows),
            column("H", rows),
            st.tuples(*[TEXTS] * rows),
            st.tuples(*[TEXTS] * rows),
            column("B", rows),
        )
    ),
    m.GrantsFreed: st.builds(m.GrantsFreed, IDS),
    m.GraphSubmit: graphs(),
    m.ClientGone: st.builds(m.ClientGone, IDS),
    m.CreditRequest: st.builds(m.CreditRequest, U32),
    m.CreditGrant: st.builds(m.CreditGrant, U32),
    m.WorkerListRequest: st.builds(m.WorkerListRequest),
    m.WorkerList: with_rows(
        lambda rows: st.builds(
            m.WorkerList,
            st.tuples(*[IDS] * rows),
            column("H", rows),
            st.tuples(*[TEXTS] * rows),
        )
    ),
    m.JobRequest: st.builds(m.JobRequest, U64, TEXTS, TEXTS, FIGURES),
    m.JobReply: st.builds(m.JobReply, U64, TEXTS, TEXTS, TEXTS),
    m.LockRequest: st.builds(m.LockRequest, U64, TEXTS, U32, st.booleans()),
    m.LockRelease: st.builds(m.LockRelease, U64),
    m.LockAnswer: st.builds(m.LockAnswer, U64, st.sampled_from(m.LockState).map(int), TEXTS),
    m.TaskProgress: st.builds(m.TaskProgress, IDS, U64, FIGURES, FIGURES, TEXTS),
    m.CancelRequest: st.builds(m.CancelRequest, U64, IDS, column("Q"), TEXTS, TEXTS),
    m.CancelReply: st.builds(m.CancelReply, U64, U64, TEXTS),
    m.Shutdown: st.builds(m.Shutdown, TEXTS),
    m.Notice: st.builds(m.Notice, TEXTS, U8, column("Q"), TEXTS),
    m.Output: st.builds(m.Output, IDS, U64, U8, BLOBS, U64),
    m.ChunkFailures: st.builds(m.ChunkFailures, IDS, U64, U16, U32, BLOBS),
    m.Relay: st.builds(m.Relay, IDS, st.lists(BLOBS, max_size=5)),
    m.ObjectPut: st.builds(m.ObjectPut, U64, IDS, IDS, BUFFERS, TEXTS, st.just(b""), st.booleans(), U64),
    m.ObjectPutReply: st.builds(m.ObjectPutReply, U64, U8, TEXTS),
    m.ObjectGet: st.builds(m.ObjectGet, U64, IDS, WAITS, *[st.booleans()] * 3, U64, U64, TEXTS),
    m.ObjectData: st.builds(m.ObjectData, U64, IDS, BUFFERS, st.booleans()),
    m.ObjectDelete: st.builds(m.ObjectDelete, U64, IDS, ids()),
    m.ObjectDeleteReply: st.builds(m.ObjectDeleteReply, U64, U8, TEXTS),
    m.ObjectsHeld: st.builds(m.ObjectsHeld, U64, IDS, ids(), TEXTS, st.booleans()),
    m.ObjectLayout: st.builds(m.ObjectLayout, U64, IDS, IDS, st.lists(U32, max_size=5).map(partial(array, "Q"))),
    m.ObjectHomes: st.builds(m.ObjectHomes, U64, IDS, st.lists(TEXTS, min_size=1, max_size=3).map(tuple)),
    m.ObjectWanted: st.builds(m.ObjectWanted, IDS),
    m.ObjectsGone: st.builds(m.ObjectsGone, ids()),
    m.ClientsKnown: st.builds(m.ClientsKnown, ids(), st.booleans()),
    m.ObjectsLost: st.builds(m.ObjectsLost, TEXTS, ids()),
    m.ObjectBatch: st.lists(
        st.one_of(
            st.builds(m.ObjectPut, U64, IDS, st.just(b"o" * 16), st.just([]), st.just(""), PLACES),
            st.builds(m.ObjectGet, U64, IDS, st.just(2.5)),
            st.builds(m.ObjectData, U64, IDS, st.just([]), st.just(False), PLACES),
            st.builds(m.ObjectData, U64, IDS, st.lists(BLOBS, max_size=3)),
            st.builds(m.ObjectDeleteReply, U64),
        ),
        min_size=2,
        max_size=5,
    )
    .map(joined)
    .map(lambda messages: next((each for each in messages if isinstance(each, m.ObjectBatch)), A_BATCH)),
    m.MonitorSnapshot: numbers_of(
        m.MonitorSnapshot,
        cpu_percent=FIGURES_32,
        workers=st.lists(
            numbers_of(m.WorkerStatus, state=U8, agent_cpu_percent=FIGURES_32, cpu_percent=FIGURES_32), max_size=2
        ).map(tuple),
        clients=st.lists(numbers_of(m.ClientStatus), max_size=2).map(tuple),
        agents=st.lists(numbers_of(m.AgentStatus, cpu_percent=FIGURES_32), max_size=2).map(tuple),
        graphs=st.lists(numbers_of(m.GraphStatus), max_size=2).map(tuple),
        ended_graphs=st.lists(numbers_of(m.GraphStatus), max_size=2).map(tuple),
        adapters=st.lists(numbers_of(m.AdapterStatus, groups_max=I32), max_size=2).map(tuple),
        objects=st.lists(OBJECT_STATUSES, max_size=2).map(tuple),
        groups=st.lists(numbers_of(m.GroupStatus), max_size=2).map(tuple),
        progress=st.lists(numbers_of(m.ProgressStatus), max_size=2).map(tuple),
        jobs=st.lists(numbers_of(m.JobStatus), max_size=2).map(tuple),
        scaling_events=st.lists(numbers_of(m.ScalingEvent), max_size=2).map(tuple),
        resource_waits=st.lists(numbers_of(m.ResourceWait), max_size=2).map(tuple),
    ),
    m.MonitorEvents: monitor_events(),
    m.MonitorFailures: monitor_failures(),
    m.MonitorLog: with_rows(
        lambda rows: st.builds(m.MonitorLog, BYTES, U64, moments(rows), column("B", rows), texts(rows))
    ),
    m.MonitorDump: st.builds(m.MonitorDump, FIGURES, TEXTS),
    m.OutputRequest: st.builds(m.OutputRequest, U64, U64, st.one_of(st.just(b""), IDS)),
    m.OutputReply: st.builds(m.OutputReply, U64, BLOBS),
    m.MonitorOutput: with_rows(
        lambda rows: st.builds(m.MonitorOutput, FIGURES, U64, IDS, texts(rows), packed(rows), U32, texts(2), U32)
    ),
    m.MonitorGraph: with_rows(
        lambda rows: st.builds(
            m.MonitorGraph,
            FIGURES,
            BYTES,
            BYTES,
            U64,
            U64,
            column("B", rows),
            st.just([0] * rows),
            st.just([2 * row + 2 for row in range(rows)]),
            column("I", 2 * rows),
            st.just(("one",)),
        )
    ),
    m.StoreStatusRequest: st.builds(m.StoreStatusRequest, U64),
    m.StoreStatus: with_rows(
        lambda rows: st.builds(
            m.StoreStatus,
            U64,
            U64,
            U64,
            U64,
            ids(rows),
            column("Q", rows),
            column("Q", rows),
            st.lists(OBJECT_STATUSES, max_size=2).map(tuple),
        )
    ),
    m.ObjectListRequest: numbers_of(m.ObjectListRequest, order=st.integers(0, 0xFF)),
    m.ObjectList: st.builds(m.ObjectList, U64, U64, U64, U64, st.lists(OBJECT_STATUSES, max_size=2).map(tuple)),
    m.Drain: st.builds(m.Drain),
    m.ProfileRequest: st.builds(m.ProfileRequest, WAITS, U32, U32),
    m.ProfileSamples: profiles(m.ProfileSamples),
    m.MonitorProfile: profiles(m.MonitorProfile),
}


def test_there_is_a_strategy_for_every_kind() -> None:
    assert set(STRATEGIES) == set(get_args(m.Message))


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_message_comes_back_as_it_was(
    kind: type[Any], canonical: Callable[[Any], Any], data: st.DataObject
) -> None:
    message = data.draw(STRATEGIES[kind])
    assert canonical(decode(encode(message))) == canonical(message)


@given(result_batches())
def test_a_result_batch_is_passed_on_in_the_frames_it_came_in(batch: m.ResultBatch) -> None:
    frames = encode(batch)
    assert [bytes(frame) for frame in encode(decode(frames))] == [bytes(frame) for frame in frames]


def test_text_that_utf8_cannot_hold_is_written_with_question_marks() -> None:
    define = m.FunctionDefine(bytes(16), (bytes(16),), Packed.of([b"P"]), ("work\udcff",))
    again = decode(encode(define))
    assert isinstance(again, m.FunctionDefine)
    assert again.names == ("work?",)
    assert decode(encode(m.Goodbye("\ud800 is gone"))) == m.Goodbye("? is gone")
    counted = decode(encode(m.MonitorSnapshot(1, 1.0, bytes(16), functions=(m.Counter("work\udcff", 3),))))
    assert isinstance(counted, m.MonitorSnapshot)
    assert counted.functions == (m.Counter("work?", 3),)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (m.TaskBatch(bytes(16), [1], (bytes(16),), Packed.of([b"P"]), capabilities=(("gpu", 2**70),)), "capabilities"),
        (m.TaskBatch(bytes(16), [1], (bytes(16),), Packed.of([b"P"]), depth=70_000), "depth"),
        (m.TaskBatch(bytes(16), [-1], (bytes(16),), Packed.of([b"P"])), "numbers"),
        (m.Notice("text", numbers=[2**64]), "numbers"),
        (m.CreditRequest(-1), "CreditRequest"),
    ],
)
def test_a_value_that_does_not_fit_is_named(message: m.Message, named: str) -> None:
    with pytest.raises(UnencodableMessageError, match=named):
        encode(message)


def test_what_no_peer_would_accept_is_not_sent() -> None:
    with pytest.raises(MessageTooLargeError):
        encode(m.ObjectPut(1, bytes(16), bytes(16), [b""] * 2000))
