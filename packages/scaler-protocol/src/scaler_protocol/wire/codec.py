"""Messages to frames and back. The one module that knows Cap'n Proto.

Each message kind is described once, in `_LAYOUTS`: which field is written how. `encode` and `decode` walk that table.
Decoding trusts nothing: any error in the bytes becomes a `MalformedMessageError`, and rows are counted before any code
uses them as indexes.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from enum import IntEnum
from itertools import pairwise
from typing import Any, NamedTuple

import capnp

from scaler_protocol.errors import MalformedMessageError, MessageTooLargeError, UnencodableMessageError, WireError
from scaler_protocol.ids import ID_BYTES
from scaler_protocol.objects.segments.place import PLACE_BYTES
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.column_table import Shape, columns_of, wire_name
from scaler_protocol.wire.columns import EMPTY, Packed, column_reader, pack_column, split_ids, unpack_column
from scaler_protocol.wire.envelope import (
    FRAMES_MAX,
    GRAPH_HEADER_BYTES_MAX,
    HEADER_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    OBJECT_BYTES_MAX,
    Frame,
    raw_view,
)
from scaler_protocol.wire.flat import SHAPE_START, FlatStruct, Reader
from scaler_protocol.wire.message_text import with_writable_text
from scaler_protocol.wire.one_row import one_row_of

TRAVERSALS_MAX = 4
TRAVERSAL_WORDS_MIN = 1024

ELEMENTS_MAX = 200_000
"""Most texts or structs of one list in a header. Each takes microseconds to read."""

BATCH_ROWS_MAX = 64
"""Most rows of an `ObjectBatch`."""

BATCHES_WITH_IDS = (m.BatchKind.PUTS, m.BatchKind.GETS, m.BatchKind.DATA)
BATCHES_WITH_PLACES = (m.BatchKind.PUTS, m.BatchKind.DATA)

CAPABILITIES_MAX = 10_000
"""Most capabilities that are read. A scheduler accepts a thousand, and says so."""

NESTING_MAX = 8
"""Deepest nesting of structs and lists in a header. The schema needs five: message, its kind, a list, a struct in it, a text."""


def _load_schema() -> Any:
    capnp.remove_import_hook()
    # Beside this module, as wheels and source trees have it; importlib.resources would be a tenth of this import.
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema", "scaler.capnp")
    with _existing_working_directory():
        return capnp.load(path)


@contextmanager
def _existing_working_directory() -> Iterator[None]:
    """Leave a removed working directory for a moment, because Cap'n Proto would end the process there."""
    try:
        os.getcwd()
    except OSError:
        gone = os.open(".", os.O_RDONLY)
        try:
            os.chdir("/")
            yield
            os.fchdir(gone)
        finally:
            os.close(gone)
    else:
        yield


_schema = _load_schema()
_Message = _schema.Message


# --- layouts ---------------------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    attribute: str
    wire: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    elements: tuple[_Field, ...] = ()
    """Fields of each element, where the field is a list of structs."""


def _same(value: Any) -> Any:
    return value


def _number_of_enum(value: Any) -> Any:
    # The library takes nothing but the built-in types themselves.
    return int(value) if isinstance(value, IntEnum) else value


def _plain(*attributes: str) -> list[_Field]:
    return [_Field(a, wire_name(a), _number_of_enum, _same) for a in attributes]


FIGURE_MAX = 2.0**53
"""The largest time or share that anybody sends or shows. Calendars, JSON and sums take everything up to it."""


def _checked_figure(value: float) -> float:
    # Written so that it also refuses what is not a number.
    if not -FIGURE_MAX <= value <= FIGURE_MAX:
        raise ValueError(f"{value} is not a figure")
    return value


def _checked_wait(value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{value} is not a time to wait")
    return value


def _waits(*attributes: str) -> list[_Field]:
    """Return times to wait: from 0 to infinite."""
    return [field._replace(read=_checked_wait) for field in _plain(*attributes)]


def _figures(*attributes: str) -> list[_Field]:
    """As `_plain`, for times and shares that are computed with and shown: monitors refuse a snapshot with others."""
    return [
        field._replace(read=_checked_figure) if field.attribute.endswith(("_seconds", "_percent")) else field
        for field in _plain(*attributes)
    ]


def _amounts(*attributes: str) -> list[_Field]:
    """Return numbers that monitors show, see `_checked_figure`."""
    return [field._replace(read=_checked_figure) for field in _plain(*attributes)]


def _moments(attribute: str) -> list[_Field]:
    """Return a column of times, in a message to monitors."""
    read_column = column_reader("d")

    def read(raw: bytes) -> Any:
        column = read_column(raw)
        for value in column:
            _checked_figure(value)
        return column

    return [field._replace(read=read) for field in _column("d", attribute)]


def _column(typecode: str, *attributes: str) -> list[_Field]:
    def write(values: Any) -> bytes:
        return pack_column(typecode, values)

    return [_Field(a, wire_name(a), write, column_reader(typecode)) for a in attributes]


_read_lengths = column_reader("I")


def _ids(*attributes: str) -> list[_Field]:
    def read(raw: bytes) -> tuple[bytes, ...]:
        # Most tables contain one function.
        return (raw,) if len(raw) == ID_BYTES else tuple(split_ids(raw))

    return [_Field(a, wire_name(a), b"".join, read) for a in attributes]


_BLOB_SHAPES = (Shape.BLOBS, Shape.SPARSE_BLOBS)

_WRITING_ORDER = "QHBI"
"""Typecodes of columns in the order in which these are written; ids follow. Any order will do, this one is pinned."""


def _places(*attributes: str) -> list[_Field]:
    def read(raw: bytes) -> tuple[bytes, ...]:
        return tuple(split_ids(raw, PLACE_BYTES))

    return [_Field(a, wire_name(a), b"".join, read) for a in attributes]


def _declared(message_type: type[Any]) -> list[_Field]:
    """Return the columns that are declared with a message type, but for its byte strings."""
    specs = [spec for spec in columns_of(message_type) if spec.shape not in _BLOB_SHAPES]
    integers = sorted((spec for spec in specs if spec.typecode), key=lambda spec: _WRITING_ORDER.index(spec.typecode))
    written = [field for spec in integers for field in _column(spec.typecode, spec.name)]
    return written + [field for spec in specs if not spec.typecode for field in _ids(spec.name)]


def _declared_blobs(message_type: type[Any]) -> tuple[tuple[str, str], ...]:
    """Return (attribute, wire name of the lengths) of the byte strings that are declared with a message type."""
    return tuple((spec.name, spec.wire) for spec in columns_of(message_type) if spec.shape in _BLOB_SHAPES)


class _Capability(NamedTuple):
    name: str
    value: int


def _write_capabilities(value: m.Capabilities) -> list[_Capability]:
    return [_Capability(name, amount) for name, amount in value]


def _limit_elements(value: Any, limit: int = ELEMENTS_MAX) -> Any:
    """Return a list of texts or structs. Raises ValueError if it is too long, before any element is read."""
    if len(value) > limit:
        raise ValueError(f"a list of {len(value)} elements; at most {limit} are accepted")
    return value


def _read_capabilities(value: Any) -> m.Capabilities:
    _limit_elements(value, CAPABILITIES_MAX)
    return tuple((item.name, item.value) for item in value)


def _capabilities() -> list[_Field]:
    elements = tuple(_plain(*_Capability._fields))
    return [_Field("capabilities", "capabilities", _write_capabilities, _read_capabilities, elements)]


def _texts(*attributes: str) -> list[_Field]:
    def read(value: Any) -> tuple[str, ...]:
        return tuple(str(text) for text in _limit_elements(value))

    return [_Field(a, wire_name(a), list, read) for a in attributes]


def _structs(message_type: type[Any], fields: Sequence[_Field], *attributes: str) -> list[_Field]:
    def read(values: Any) -> tuple[Any, ...]:
        return tuple(
            message_type(**{f.attribute: f.read(getattr(value, f.wire)) for f in fields})
            for value in _limit_elements(values)
        )

    return [_Field(a, wire_name(a), _same, read, tuple(fields)) for a in attributes]


class _Layout(NamedTuple):
    """How one message kind is written: its union member, its header fields, and what rides in payload frames."""

    member: str
    message_type: type[Any]
    fields: tuple[_Field, ...]
    packed: tuple[tuple[str, str], ...] = ()
    """(attribute, wire name of the lengths column), one payload frame each; trailing empty frames are left out."""
    buffers: bool = False
    """Payload frames are `buffers`, with a U64 `lengths` column."""
    raw: str = ""
    """Attribute that is the single payload frame."""
    check: Callable[[Any], None] | None = None
    flat: bool = False
    """The message is sent for every task, or for many of them, so its header is written and read without the library if
    possible (see `flat`)."""


def _check_rows(message: Any, rows: int, *columns: str) -> None:
    for name in columns:
        column = getattr(message, name)
        if column and len(column) != rows:
            raise MalformedMessageError(f"{type(message).__name__}.{name} has {len(column)} elements for {rows} rows")


def _check_sparse(message: Any, rows: int, positions: str, values: str) -> None:
    column = getattr(message, positions)
    if len(column) != len(getattr(message, values)):
        raise MalformedMessageError(f"{type(message).__name__}: {positions} and {values} differ in length")
    if len(column) and (max(column) >= rows or any(a > b for a, b in pairwise(column))):
        raise MalformedMessageError(f"{type(message).__name__}.{positions} is not an ascending list of rows")


def _check_id(message: Any, *attributes: str) -> None:
    for name in attributes:
        if len(getattr(message, name)) != ID_BYTES:
            raise MalformedMessageError(f"{type(message).__name__}.{name} is not {ID_BYTES} bytes")


def _check_functions(message: Any, rows: int) -> None:
    table = len(message.functions)
    indexes = message.function_indexes
    _check_rows(message, rows, "function_indexes")
    if rows and (table == 0 or (len(indexes) and max(indexes) >= table)):
        raise MalformedMessageError(f"{type(message).__name__} names a function outside its table of {table}")


class _ColumnCheck:
    """Counts the rows of every declared column of a batch, before anybody indexes with them."""

    def __init__(self, message_type: type[Any]) -> None:
        specs = columns_of(message_type)
        self._blobs = [spec.name for spec in specs if spec.shape is Shape.BLOBS]
        rows = [spec for spec in specs if spec.shape is Shape.ROWS and spec.name != "numbers"]
        self._required = [spec.name for spec in rows if spec.absent is None]
        self._optional = [spec.name for spec in rows if spec.absent is not None]
        self._sparse_blobs = [spec.name for spec in specs if spec.shape is Shape.SPARSE_BLOBS]
        self._sparse = [
            (spec.name, [(other.name, other.shape) for other in specs if other.positions == spec.name])
            for spec in specs
            if spec.shape is Shape.POSITIONS
        ]

    def __call__(self, message: Any) -> None:
        """Raise MalformedMessageError or ValueError where a column does not fit the batch's rows."""
        rows = len(message.numbers)
        for name in self._blobs:
            getattr(message, name).check(rows)
        _check_exact(message, rows, *self._required)
        _check_rows(message, rows, *self._optional)
        for name in self._sparse_blobs:
            getattr(message, name).check()
        for positions, columns in self._sparse:
            # Most batches have none of these.
            if len(getattr(message, positions)) or any(len(getattr(message, name)) for name, _ in columns):
                for name, shape in columns:
                    if shape is not Shape.SPARSE_ROWS or len(getattr(message, name)):
                        _check_sparse(message, rows, positions, name)


_check_task_columns = _ColumnCheck(m.TaskBatch)
_check_result_columns = _ColumnCheck(m.ResultBatch)


def _check_tasks(message: m.TaskBatch) -> None:
    _check_id(message, "client")
    _check_task_columns(message)
    _check_functions(message, len(message.numbers))
    if message.input_sources or message.chain_ends:
        _check_chains(message, len(message.numbers))


def _check_chains(message: m.TaskBatch, rows: int) -> None:
    """Check that chains cover all rows, and that tasks take results only from tasks of their own chain."""
    ends = message.chain_ends
    if len(ends) == 0 or ends[-1] != rows or any(a >= b for a, b in pairwise((0, *ends))):
        raise MalformedMessageError(f"TaskBatch.chain_ends does not divide its {rows} rows")
    sources = message.input_sources
    for position, source, length in zip(message.input_positions, sources, message.inputs.lengths, strict=False):
        before = bisect_right(ends, position)
        if source and (length or source > position - (ends[before - 1] if before else 0)):
            raise MalformedMessageError(f"TaskBatch: an input of row {position} is from outside its chain")


def _check_results(message: m.ResultBatch) -> None:
    _check_id(message, "client")
    _check_result_columns(message)


_GRAPH_COLUMNS = [spec.name for spec in columns_of(m.GraphSubmit)]


def _check_graph(message: m.GraphSubmit) -> None:
    rows = len(message.payloads)
    total = message.row_count or message.first_row + rows
    if message.first_row + rows > total:
        raise MalformedMessageError(f"GraphSubmit: rows {message.first_row} to {message.first_row + rows} of {total}")
    _check_id(message, "client")
    message.payloads.check()
    _check_functions(message, rows)
    _check_sparse(message, rows, "object_positions", "objects")
    if len(message.object_sizes):
        _check_sparse(message, rows, "object_positions", "object_sizes")
    _check_rows(message, rows, *_GRAPH_COLUMNS)
    if len(message.dependency_counts) != rows or sum(message.dependency_counts) != len(message.dependencies):
        raise MalformedMessageError("GraphSubmit: dependency counts do not match its rows and dependencies")
    if len(message.earlier) and total != rows:
        raise MalformedMessageError("GraphSubmit: a portion of a graph names earlier tasks")
    for name, limit in (("dependencies", total + len(message.earlier)), ("wanted", rows)):
        column = getattr(message, name)
        if len(column) and max(column) >= limit:
            raise MalformedMessageError(f"GraphSubmit.{name} names a row outside its {limit} rows")


def _check_functions_defined(message: m.FunctionDefine) -> None:
    _check_id(message, "client")
    message.bodies.check(len(message.ids))
    if message.serializer:
        _check_id(message, "serializer")


def _check_task_list(message: Any) -> None:
    _check_id(message, "client")
    _check_rows(message, len(message.numbers), "attempts")


def _check_inventory(message: m.Inventory) -> None:
    _check_id(message, "client")
    if not len(message.numbers) == len(message.attempts) == len(message.states):
        raise MalformedMessageError("Inventory: its columns differ in length")


def _check_client(message: Any) -> None:
    _check_id(message, "client")


def _check_hello(message: m.Hello) -> None:
    _check_id(message, "incarnation")


def _check_scheduler_status(message: m.SchedulerStatus) -> None:
    _check_id(message, "incarnation")


def _check_object(message: Any) -> None:
    _check_id(message, "id")


def _check_object_put(message: m.ObjectPut) -> None:
    _check_id(message, "id", "owner")
    _check_place(message)


def _check_objects_held(message: m.ObjectsHeld) -> None:
    _check_id(message, "owner")


def _check_homes(message: m.ObjectHomes) -> None:
    _check_id(message, "id")
    if not message.addresses:
        raise MalformedMessageError("ObjectHomes names no address")


def _check_worker_list(message: m.WorkerList) -> None:
    if not len(message.agents) == len(message.slots) == len(message.names):
        raise MalformedMessageError("WorkerList has columns of different lengths")


def _check_grants(message: m.GrantsHeld) -> None:
    rows = len(message.clients)
    columns = (message.numbers, message.attempts, message.depths, message.amounts, message.devices, message.left)
    if any(len(values) != rows for values in columns):
        raise MalformedMessageError("GrantsHeld has columns of different lengths")


def _check_lock_answer(message: m.LockAnswer) -> None:
    if message.state not in _LOCK_STATES:
        raise MalformedMessageError(f"LockAnswer with the state {message.state}")


_LOCK_STATES = frozenset(m.LockState)


def _check_output_request(message: m.OutputRequest) -> None:
    if message.client:
        _check_id(message, "client")


def _check_monitor_output(message: m.MonitorOutput) -> None:
    _check_id(message, "subject")
    _check_exact(message, len(message.agents), "payloads")


def _check_cancel_request(message: m.CancelRequest) -> None:
    if message.owner:
        _check_id(message, "owner")
    elif len(message.numbers):
        raise MalformedMessageError("CancelRequest names tasks, and no client that they are of")


def _check_layout(message: m.ObjectLayout) -> None:
    _check_id(message, "id", "owner")
    if len(message.lengths) > FRAMES_MAX or sum(message.lengths) > OBJECT_BYTES_MAX:
        raise MalformedMessageError("ObjectLayout describes an object that no put can carry")


def _check_object_data(message: m.ObjectData) -> None:
    _check_id(message, "id")
    _check_place(message)


def _check_place(message: m.ObjectPut | m.ObjectData) -> None:
    if message.place and (len(message.place) != PLACE_BYTES or message.buffers):
        raise MalformedMessageError(
            f"{type(message).__name__}: a place has {PLACE_BYTES} bytes and no buffers beside it"
        )


def _check_object_batch(message: m.ObjectBatch) -> None:
    rows = len(message.requests)
    if not 0 < rows <= BATCH_ROWS_MAX:
        raise MalformedMessageError(f"ObjectBatch with {rows} rows; at most {BATCH_ROWS_MAX} are accepted")
    if message.kind not in m.BatchKind.__members__.values():
        raise MalformedMessageError(f"ObjectBatch of kind {message.kind}, which there is not")
    kind = m.BatchKind(message.kind)
    _check_exact(message, rows if kind in BATCHES_WITH_IDS else 0, "ids")
    has_buffers = kind is m.BatchKind.DATA and not message.places
    _check_exact(message, rows if kind in BATCHES_WITH_PLACES and not has_buffers else 0, "places")
    _check_exact(message, rows if has_buffers else 0, "buffer_counts")
    message.contents.check(sum(message.buffer_counts))
    if kind is m.BatchKind.PUTS:
        _check_id(message, "owner")


def _check_exact(message: Any, rows: int, *columns: str) -> None:
    for name in columns:
        if len(getattr(message, name)) != rows:
            raise MalformedMessageError(
                f"{type(message).__name__}.{name} has {len(getattr(message, name))} elements for {rows} rows"
            )


def _check_events(message: m.MonitorEvents) -> None:
    rows = len(message.numbers)
    _check_exact(message, rows, "time_seconds", "clients", "states", "workers", "functions", "durations")
    _check_rows(message, rows, "slots", "capabilities", "notes", "resources", "read_times", "write_times")
    if len(message.label_table) != len(message.tag_table):
        raise MalformedMessageError("MonitorEvents: its tables of labels and tags differ in length")
    for column, table in (
        (message.notes, message.label_table),
        (message.clients, message.client_table),
        (message.functions, message.function_table),
        (message.capabilities, message.capability_table),
        (message.resources, message.resource_table),
    ):
        if len(column) and max(column) >= len(table):
            raise MalformedMessageError("MonitorEvents: a row names something outside its table")
    if any(len(message.worker_table) <= worker != m.NO_WORKER for worker in set(message.workers)):
        raise MalformedMessageError("MonitorEvents: a row names a worker outside its table")


def _check_failures(message: m.MonitorFailures) -> None:
    rows = len(message.numbers)
    message.payloads.check(rows)
    _check_exact(message, rows, "time_seconds", "clients", "attempts", "statuses", "functions", "workers", "durations")
    _check_rows(message, rows, "items", "labels", "tags")


def _check_log(message: m.MonitorLog) -> None:
    _check_exact(message, len(message.texts), "time_seconds", "levels")


def _check_graph_rows(message: m.MonitorGraph) -> None:
    rows = len(message.states)
    _check_exact(message, rows, "functions", "dependency_ends")
    ends = message.dependency_ends
    if rows and (max(message.functions) >= len(message.function_table) or ends[-1] != len(message.dependencies)):
        raise MalformedMessageError("MonitorGraph: its rows name something outside its tables")
    if any(later < earlier for earlier, later in pairwise(ends)):
        raise MalformedMessageError("MonitorGraph: its dependencies are not in order")


def _check_store_status(message: m.StoreStatus) -> None:
    _check_exact(message, len(message.owners), "owner_objects", "owner_bytes")


def _check_calls(message: m.ProfileSamples | m.MonitorProfile) -> None:
    rows = len(message.parents)
    _check_exact(message, rows, "names", "files", "lines", "microseconds")
    if any(parent > row for row, parent in enumerate(message.parents)):
        raise MalformedMessageError(f"{type(message).__name__}: a call comes before its caller")
    if rows and max(max(message.names), max(message.files)) >= len(message.texts):
        raise MalformedMessageError(f"{type(message).__name__}: a row names something outside its table")


_CALLS = (*_column("I", "parents", "names", "files", "lines"), *_column("Q", "microseconds"), *_texts("texts"))
"""A tree of calls, as in `monitoring.profile_tree.CallTable`."""

_COUNTER = _plain("name", "count")
_TALLY = _plain(*m.Tally.__dataclass_fields__)
_WORKER_STATUS = _figures(*m.WorkerStatus.__dataclass_fields__)
_CLIENT_STATUS = _figures(*m.ClientStatus.__dataclass_fields__)
_OBJECT_STATUS = (
    *_figures(*(name for name in m.StoredObjectStatus.__dataclass_fields__ if name != "homes")),
    *_texts("homes"),
)
_SCALING_EVENT = _figures(*m.ScalingEvent.__dataclass_fields__)
_GROUP_STATUS = _figures(*m.GroupStatus.__dataclass_fields__)
_PROGRESS_STATUS = [
    *_plain("client", "number", "note", "function", "agent"),
    *_amounts("done", "total", "age_seconds"),
]
_JOB_STATUS = _figures(*m.JobStatus.__dataclass_fields__)
_RESOURCE_WAIT = _plain(*m.ResourceWait.__dataclass_fields__)
_GRAPH_STATUS = _figures(*m.GraphStatus.__dataclass_fields__)
_ADAPTER_STATUS = _figures(*m.AdapterStatus.__dataclass_fields__)
_AGENT_STATUS = (
    *_figures(*(name for name in m.AgentStatus.__dataclass_fields__ if name not in ("functions", "devices"))),
    *_structs(m.Counter, _COUNTER, "functions"),
    *_texts("devices"),
)


def _task_list(member: str, message_type: type[Any], *further: _Field) -> _Layout:
    fields = (*_plain("client"), *further, *_column("Q", "numbers"), *_column("H", "attempts"))
    return _Layout(member, message_type, fields, check=_check_task_list, flat=True)


def _object_reply(member: str, message_type: type[Any]) -> _Layout:
    return _Layout(member, message_type, tuple(_plain("request", "status", "text")))


_LAYOUTS: tuple[_Layout, ...] = (
    _Layout(
        "hello",
        m.Hello,
        (
            _Field("role", "role", int, lambda value: m.Role(value.raw)),
            *_plain("protocol_version", "python_version", "software_version", "name", "incarnation", "hostname"),
            *_plain("pid", "scheduler_incarnation", "capacity", "queue_limit", "stream_output"),
            *_waits("timeout_seconds"),
            *_plain("hello_number", "takes_chains", "to_object_storage", "parent", "group", "term", "resources"),
            *_plain("user", "memory_bytes", "processor_limit_bytes"),
            *_texts("worker_names", "devices"),
            *_capabilities(),
        ),
        check=_check_hello,
    ),
    _Layout(
        "welcome",
        m.Welcome,
        (
            *_plain("incarnation", "resumed", "object_storage_address", "monitor_address"),
            *_waits("heartbeat_seconds", "timeout_seconds"),
            *_plain("protected", "task_credit", "protocol_version", "software_version", "capability_policy"),
            *_plain("hello_number", "segment_offer", "ends_cluster", "takes_homes", "dashboard_url", "term"),
        ),
    ),
    _Layout("unknownPeer", m.UnknownPeer, ()),
    _Layout(
        "heartbeat",
        m.Heartbeat,
        (
            *_figures("sent_at_seconds", "echo_seconds", "capacity", "cpu_percent", "rss_bytes", "rss_free_bytes"),
            *_figures("queued", "latency_seconds"),
            *_column("I", "processor_pids"),
            *_column("H", "processor_cpu_percents"),
            *_column("Q", "processor_rss_bytes"),
            *_column("B", "processor_states"),
            *_column("Q", "processor_tasks"),
            *_column("I", "processor_milliseconds"),
            *_ids("processor_functions"),
            *_plain("processor_environments"),
        ),
        flat=True,
    ),
    _Layout(
        "taskBatch",
        m.TaskBatch,
        (
            *_plain("client", "depth", "kind", "flags", "serializer", "options", "granted", "devices"),
            *_declared(m.TaskBatch),
            *_capabilities(),
        ),
        packed=_declared_blobs(m.TaskBatch),
        check=_check_tasks,
        flat=True,
    ),
    _Layout(
        "resultBatch",
        m.ResultBatch,
        (*_plain("client", "capacity"), *_declared(m.ResultBatch)),
        packed=_declared_blobs(m.ResultBatch),
        check=_check_results,
        flat=True,
    ),
    _Layout(
        "functionDefine",
        m.FunctionDefine,
        (*_plain("client", "serializer"), *_ids("ids"), *_texts("names")),
        packed=(("bodies", "lengths"),),
        check=_check_functions_defined,
    ),
    _task_list("taskCancel", m.TaskCancel, _Field("waiting_only", "waitingOnly", int, bool)),
    _task_list("taskReturn", m.TaskReturn),
    _Layout(
        "inventory",
        m.Inventory,
        (*_plain("client"), *_column("Q", "numbers"), *_column("H", "attempts"), *_column("B", "states")),
        check=_check_inventory,
    ),
    _Layout(
        "graphSubmit",
        m.GraphSubmit,
        (
            *_plain("client", "first_number", "serializer", "flags", "depth", "first_row", "row_count", "options"),
            *_ids("functions", "objects"),
            *_column("H", "function_indexes"),
            *_column("I", "dependency_counts", "dependencies", "wanted", "object_positions"),
            *_column("Q", "earlier", "object_sizes"),
            *_declared(m.GraphSubmit),
            *_capabilities(),
        ),
        packed=(("payloads", "payloadLengths"),),
        check=_check_graph,
    ),
    _Layout("notice", m.Notice, (*_plain("level", "text", "kind"), *_column("Q", "numbers"))),
    _Layout(
        "output",
        m.Output,
        tuple(_plain("client", "number", "stream", "dropped_bytes")),
        raw="data",
        check=_check_client,
    ),
    _Layout(
        "chunkFailures",
        m.ChunkFailures,
        tuple(_plain("client", "number", "attempt", "count")),
        raw="payload",
        check=_check_client,
    ),
    _Layout("relay", m.Relay, tuple(_plain("client")), raw="inner", check=_check_client),
    _Layout(
        "objectPut",
        m.ObjectPut,
        tuple(_plain("request", "id", "owner", "name", "place", "incomplete", "filled")),
        buffers=True,
        check=_check_object_put,
    ),
    _object_reply("objectPutReply", m.ObjectPutReply),
    _Layout(
        "objectGet",
        m.ObjectGet,
        (
            *_plain("request", "id", "mappable", "follows_homes", "pieces", "size", "offset", "keeps_at"),
            *_waits("wait_seconds"),
        ),
        check=_check_object,
    ),
    _Layout(
        "objectData",
        m.ObjectData,
        tuple(_plain("request", "id", "missing", "place", "may_come", "gone")),
        buffers=True,
        check=_check_object_data,
    ),
    _Layout("objectDelete", m.ObjectDelete, (*_plain("request", "owner"), *_ids("ids"))),
    _object_reply("objectDeleteReply", m.ObjectDeleteReply),
    _Layout(
        "objectsHeld",
        m.ObjectsHeld,
        (*_plain("request", "owner", "address", "are_copies"), *_ids("ids")),
        check=_check_objects_held,
    ),
    _Layout(
        "objectLayout",
        m.ObjectLayout,
        (*_plain("request", "id", "owner"), *_column("Q", "lengths")),
        check=_check_layout,
    ),
    _Layout("objectHomes", m.ObjectHomes, (*_plain("request", "id"), *_texts("addresses")), check=_check_homes),
    _Layout("objectWanted", m.ObjectWanted, tuple(_plain("id")), check=_check_object),
    _Layout("objectsGone", m.ObjectsGone, tuple(_ids("ids"))),
    _Layout("clientsKnown", m.ClientsKnown, (*_plain("everybody"), *_ids("clients"))),
    _Layout("objectsLost", m.ObjectsLost, (*_plain("host"), *_ids("ids"))),
    _Layout(
        "objectBatch",
        m.ObjectBatch,
        (
            *_plain("kind", "owner", "mappable", "follows_homes", "pieces"),
            *_column("Q", "requests"),
            *_column("I", "buffer_counts"),
            *_ids("ids"),
            *_places("places"),
            *_waits("wait_seconds"),
        ),
        packed=(("contents", "contentLengths"),),
        check=_check_object_batch,
    ),
    _Layout(
        "monitorSnapshot",
        m.MonitorSnapshot,
        (
            *_figures("sequence", "time_seconds", "incarnation", "cpu_percent", "rss_bytes"),
            *_figures("object_count", "object_bytes", "object_limit_bytes", "started_seconds", "stale_results"),
            *_plain("scaling_strategy", "events_omitted", "failed_items", "standby", "job_count"),
            *_plain("scheduler_address", "protected"),
            *_structs(m.Counter, _COUNTER, "task_states", "sent", "received", "functions", "failed_functions"),
            *_structs(m.WorkerStatus, _WORKER_STATUS, "workers"),
            *_structs(m.AgentStatus, _AGENT_STATUS, "agents"),
            *_structs(m.ClientStatus, _CLIENT_STATUS, "clients"),
            *_structs(m.GraphStatus, _GRAPH_STATUS, "graphs", "ended_graphs"),
            *_structs(m.AdapterStatus, _ADAPTER_STATUS, "adapters"),
            *_structs(m.StoredObjectStatus, _OBJECT_STATUS, "objects"),
            *_structs(m.Tally, _TALLY, "client_names", "labels"),
            *_structs(m.GroupStatus, _GROUP_STATUS, "groups"),
            *_structs(m.ProgressStatus, _PROGRESS_STATUS, "progress"),
            *_structs(m.JobStatus, _JOB_STATUS, "jobs"),
            *_structs(m.ResourceWait, _RESOURCE_WAIT, "resource_waits"),
            *_structs(m.ScalingEvent, _SCALING_EVENT, "scaling_events"),
        ),
    ),
    _Layout(
        "monitorEvents",
        m.MonitorEvents,
        (
            *_plain("sequence", "dropped", "stride", "incarnation"),
            *_moments("time_seconds"),
            *_column("H", "clients", "workers", "functions", "slots", "capabilities", "notes", "resources"),
            *_column("Q", "numbers", "durations", "read_times", "write_times"),
            *_column("B", "states"),
            *_ids("client_table"),
            *_texts("worker_table", "function_table", "capability_table", "label_table", "tag_table", "resource_table"),
        ),
        check=_check_events,
    ),
    _Layout(
        "monitorFailures",
        m.MonitorFailures,
        (
            *_plain("incarnation", "first_number"),
            *_moments("time_seconds"),
            *_column("Q", "numbers", "durations"),
            *_column("H", "attempts"),
            *_column("B", "statuses"),
            *_column("I", "items"),
            *_ids("clients"),
            *_texts("functions", "workers", "labels", "tags"),
        ),
        packed=(("payloads", "payloadLengths"),),
        check=_check_failures,
    ),
    _Layout(
        "monitorLog",
        m.MonitorLog,
        (
            *_plain("incarnation", "first_number"),
            *_moments("time_seconds"),
            *_column("B", "levels"),
            *_texts("texts"),
        ),
        check=_check_log,
    ),
    _Layout("monitorDump", m.MonitorDump, tuple(_figures("time_seconds", "json"))),
    _Layout(
        "monitorGraph",
        m.MonitorGraph,
        (
            *_figures("time_seconds"),
            *_plain("incarnation", "client", "first_number", "row_count"),
            *_column("B", "states"),
            *_column("H", "functions"),
            *_column("Q", "dependency_ends"),
            *_column("I", "dependencies"),
            *_texts("function_table"),
        ),
        check=_check_graph_rows,
    ),
    _Layout(
        "storeStatus",
        m.StoreStatus,
        (
            *_plain("request", "object_count", "used_bytes", "limit_bytes"),
            *_ids("owners"),
            *_column("Q", "owner_objects", "owner_bytes"),
            *_structs(m.StoredObjectStatus, _OBJECT_STATUS, "objects"),
        ),
        check=_check_store_status,
    ),
    _Layout(
        "objectListRequest",
        m.ObjectListRequest,
        tuple(_plain("request", "offset", "order", "descending", "owner", "words")),
    ),
    _Layout(
        "objectList",
        m.ObjectList,
        (
            *_plain("request", "offset", "matching", "looked_at"),
            *_structs(m.StoredObjectStatus, _OBJECT_STATUS, "objects"),
        ),
    ),
    _Layout("drain", m.Drain, ()),
    _Layout(
        "schedulerStatus",
        m.SchedulerStatus,
        tuple(_plain("term", "is_first", "incarnation", "answers", "ends")),
        check=_check_scheduler_status,
    ),
    _Layout("workerListRequest", m.WorkerListRequest, ()),
    _Layout(
        "workerList",
        m.WorkerList,
        (*_ids("agents"), *_column("H", "slots"), *_texts("names")),
        check=_check_worker_list,
    ),
    _Layout("jobRequest", m.JobRequest, tuple(_figures("request", "action", "name", "keep_seconds"))),
    _Layout("jobReply", m.JobReply, tuple(_plain("request", "error", "kind", "json"))),
    _Layout(
        "grantsHeld",
        m.GrantsHeld,
        (
            *_ids("clients"),
            *_column("Q", "numbers"),
            *_column("H", "attempts", "depths"),
            *_texts("amounts", "devices"),
            *_column("B", "left"),
        ),
        check=_check_grants,
    ),
    _Layout("lockRequest", m.LockRequest, tuple(_plain("lease", "name", "count", "held"))),
    _Layout("lockAnswer", m.LockAnswer, tuple(_plain("lease", "state", "text")), check=_check_lock_answer),
    _Layout(
        "taskProgress",
        m.TaskProgress,
        (*_plain("client", "number", "note"), *_amounts("done", "total")),
        check=_check_client,
    ),
    _Layout(
        "outputRequest",
        m.OutputRequest,
        tuple(_plain("request", "number", "client")),
        check=_check_output_request,
    ),
    _Layout("outputReply", m.OutputReply, tuple(_plain("request")), raw="data"),
    _Layout(
        "monitorOutput",
        m.MonitorOutput,
        (
            *_figures("time_seconds"),
            *_plain("number", "subject", "asked", "omitted"),
            *_texts("agents", "silent"),
        ),
        packed=(("payloads", "payloadLengths"),),
        check=_check_monitor_output,
    ),
    _Layout(
        "cancelRequest",
        m.CancelRequest,
        (*_plain("request", "owner", "function", "label"), *_column("Q", "numbers")),
        check=_check_cancel_request,
    ),
    _Layout("cancelReply", m.CancelReply, tuple(_plain("request", "count", "error"))),
    _Layout("profileRequest", m.ProfileRequest, (*_waits("seconds"), *_plain("rate", "nodes"))),
    _Layout(
        "profileSamples",
        m.ProfileSamples,
        (
            *_plain("processors", "samples", "cost_microseconds"),
            *_CALLS,
        ),
        check=_check_calls,
    ),
    _Layout(
        "monitorProfile",
        m.MonitorProfile,
        (
            *_figures("token", "rate", "seconds", "elapsed_seconds", "done", "agents", "answered", "processors"),
            *_plain("samples", "cost_microseconds"),
            *_CALLS,
        ),
        check=_check_calls,
    ),
)

# Messages of one value: the union member is the value itself.
_SCALARS: tuple[tuple[str, type[Any], str], ...] = (
    ("refused", m.Refused, "text"),
    ("goodbye", m.Goodbye, "text"),
    ("taskRecall", m.TaskRecall, "count"),
    ("clientGone", m.ClientGone, "client"),
    ("grantsFreed", m.GrantsFreed, "client"),
    ("creditRequest", m.CreditRequest, "count"),
    ("creditGrant", m.CreditGrant, "count"),
    ("shutdown", m.Shutdown, "text"),
    ("storeStatusRequest", m.StoreStatusRequest, "request"),
    ("lockRelease", m.LockRelease, "lease"),
)

_BY_TYPE = {layout.message_type: layout for layout in _LAYOUTS}
_BY_MEMBER = {layout.member: layout for layout in _LAYOUTS}
_SCALAR_BY_TYPE = {message_type: (member, attribute) for member, message_type, attribute in _SCALARS}
_SCALAR_BY_MEMBER = {member: (message_type, attribute) for member, message_type, attribute in _SCALARS}


class _Blob(NamedTuple):
    attribute: str
    slot: int
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


class _FlatLayout:
    """A layout whose header `FlatStruct` can write and read, with what turns attributes into bytes and back."""

    def __init__(self, layout: _Layout, struct: FlatStruct) -> None:
        self.layout = layout
        self.struct = struct
        attributes = {field.wire: field.attribute for field in layout.fields}
        self.numbers = tuple(attributes[name] for name in struct.number_names)
        reads = {field.wire: field.read for field in layout.fields}
        self.checked = [(attributes[name], reads[name]) for name in struct.number_names if reads[name] is not _same]
        """Numbers of which not every value is accepted, and what raises for the others."""
        self.blobs = [
            _Blob(field.attribute, struct.blob_slots[field.wire], field.write, field.read)
            for field in layout.fields
            if field.wire in struct.blob_slots
        ]
        self.packed = [(attribute, struct.blob_slots[lengths]) for attribute, lengths in layout.packed]
        readers: dict[int, Reader] = {blob.slot: (blob.attribute, blob.read) for blob in self.blobs}
        readers.update({slot: (attribute, _read_lengths) for attribute, slot in self.packed})
        self.readers = [readers.get(slot) for slot in range(struct.pointer_count)]
        # Fields that are neither. Unless they are empty, the library encodes the message.
        self.others = [
            field.attribute
            for field in layout.fields
            if field.wire not in struct.blob_slots and field.wire not in struct.number_names
        ]
        assert len(self.blobs) + len(self.packed) == len(struct.blob_slots), layout.member
        # Empty fields with a default are left out.
        required = {field.name for field in fields(layout.message_type) if field.default is MISSING}
        self.required = [(blob.attribute, blob.read(b"")) for blob in self.blobs if blob.attribute in required]

        self.one_row = one_row_of(layout.message_type, struct)

    def encode(self, message: Any) -> list[Frame] | None:
        """Return the frames of `message`, or None if the library must encode it."""
        for name in self.others:
            if getattr(message, name):
                return None
        blobs = []
        for attribute, slot, write, _ in self.blobs:
            value = getattr(message, attribute)
            if value:
                blobs.append((slot, write(value)))
        payload: list[Frame] = []
        for attribute, slot in self.packed:
            packed = getattr(message, attribute)
            if packed.lengths:
                blobs.append((slot, pack_column("I", packed.lengths)))
            payload.append(packed.data)
        while payload and not len(payload[-1]):
            payload.pop()
        header = self.struct.write([getattr(message, name) for name in self.numbers], blobs)
        if len(header) > HEADER_BYTES_MAX:
            check_limits([header], HEADER_BYTES_MAX)
        return [header, *payload]

    def decode(self, header: bytes, payload: Sequence[Frame]) -> Any | None:
        """Return the message, not checked yet, or None if the library must decode its header."""
        values = self.struct.read(header, self.numbers, self.readers)
        if values is None:
            return None
        for name, empty in self.required:
            if name not in values:
                values[name] = empty
        for name, read in self.checked:
            values[name] = read(values[name])
        _add_payloads(values, self.layout, payload)
        return self.layout.message_type(**values)


_FLAT_BY_TYPE = {
    layout.message_type: _FlatLayout(
        layout,
        FlatStruct(_Message.schema.node, layout.member, _Message.schema.fields[layout.member].schema.node),
    )
    for layout in _LAYOUTS
    if layout.flat
}
_FLAT_BY_SHAPE = {flat.struct.shape: flat for flat in _FLAT_BY_TYPE.values()}
(_SHAPE_BYTES,) = {len(shape) for shape in _FLAT_BY_SHAPE}

_RELAY = FlatStruct(_Message.schema.node, _BY_TYPE[m.Relay].member, _schema.Relay.schema.node)
_RELAY_START = _RELAY.write((), ((_RELAY.blob_slots["client"], bytes(ID_BYTES)),))[:-ID_BYTES]
"""How the header of a relayed message begins; the client's id ends it. One is sent, and one received, for every nested task."""
_RELAY_BYTES = len(_RELAY_START) + ID_BYTES

KIND_NAMES: dict[type[Any], str] = {
    message_type: message_type.__name__ for message_type in (*_BY_TYPE, *_SCALAR_BY_TYPE)
}
"""Message type to the name shown by monitors."""


# --- encode ----------------------------------------------------------------------------------------------------------


def encode(message: m.Message) -> list[Frame]:
    """Return header and payload frames of `message` (the caller puts the envelope in front).

    Text that UTF-8 cannot hold (lone surrogates) is written with question marks. Raises UnencodableMessageError for any
    other value that does not fit, MessageTooLargeError for what no peer would accept, and nothing else.
    """
    if type(message) is m.ResultBatch and message.frames is not None:
        return list(message.frames)
    try:
        flat = _FLAT_BY_TYPE.get(type(message))
        if flat is not None:
            frames = flat.one_row.write(message) or flat.encode(message)
            if frames is not None:
                return frames
        elif type(message) is m.Relay:
            return _encode_relay(message)
        return encode_with_library(message)
    except WireError:
        raise
    except Exception:
        return _encode_repaired(message)


def _encode_relay(message: m.Relay) -> list[Frame]:
    client, inner = message.client, message.inner
    if type(client) is not bytes or len(client) != ID_BYTES or type(inner) is not list:
        return encode_with_library(message)
    frames: list[Frame] = [_RELAY_START + client, *inner]
    check_limits(frames, HEADER_BYTES_MAX)
    return frames


def _encode_repaired(message: m.Message) -> list[Frame]:
    """Encode a message that the first attempt refused: replace its lone surrogates, or raise an error that names the field."""
    repaired = with_writable_text(message)
    try:
        return encode_with_library(repaired)
    except WireError:
        raise
    except Exception as error:
        field = _field_at_fault(repaired)
        # The text before that names a line in the library's own source.
        text = str(error).partition("\n")[0].rpartition(": failed: ")[2] or type(error).__name__
        raise UnencodableMessageError(f"{type(message).__name__}{field} cannot be written: {text}") from None


def _field_at_fault(message: m.Message) -> str:
    layout = _BY_TYPE.get(type(message))
    if layout is None:
        return ""
    for field in layout.fields:
        try:
            _set(_Message.new_message().init(layout.member), field, field.write(getattr(message, field.attribute)))
        except Exception:
            return f".{field.attribute}"
    return ""


def encode_with_library(message: m.Message) -> list[Frame]:
    """As `encode`, always through the Cap'n Proto library, which raises various errors for values that do not fit."""
    scalar = _SCALAR_BY_TYPE.get(type(message))
    builder = _Message.new_message()
    if scalar is not None:
        member, attribute = scalar
        setattr(builder, member, getattr(message, attribute))
        return [builder.to_bytes()]
    layout = _BY_TYPE[type(message)]
    if not layout.fields:
        setattr(builder, layout.member, None)
        return [builder.to_bytes()]
    body = builder.init(layout.member)
    for field in layout.fields:
        value = field.write(getattr(message, field.attribute))
        # Fields that are zero or empty are left out: unset means the same on the wire.
        if value:
            _set(body, field, value)
    payload: list[Frame] = []
    for attribute, lengths_name in layout.packed:
        packed = getattr(message, attribute)
        if len(packed.lengths):
            setattr(body, lengths_name, pack_column("I", packed.lengths))
        payload.append(packed.data)
    while payload and not len(payload[-1]):
        payload.pop()
    if layout.buffers:
        payload = [raw_view(buffer) for buffer in message.buffers]  # type: ignore[union-attr]
        body.lengths = pack_column("Q", [len(frame) for frame in payload])
    elif layout.raw:
        value = getattr(message, layout.raw)
        payload = list(value) if isinstance(value, list) else [value]
    frames: list[Frame] = [builder.to_bytes(), *payload]
    # A receiver would close the connection because of a larger one, and then be sent the same again.
    check_limits(frames, _header_bytes_max(layout.message_type))
    return frames


def _set(builder: Any, field: _Field, value: Any) -> None:
    if not field.elements:
        setattr(builder, field.wire, value)
        return
    # Element by element. Given dictionaries, the library describes the whole struct anew for each of them: that takes several
    # times as long, and the descriptions refer to themselves, so they stay until the collector comes.
    rows = builder.init(field.wire, len(value))
    for index, element in enumerate(value):
        row = rows[index]
        for inner in field.elements:
            _set(row, inner, inner.write(getattr(element, inner.attribute)))


# --- decode ----------------------------------------------------------------------------------------------------------


def decode(frames: Sequence[Frame]) -> m.Message:
    """Return the message in `frames`: header first, no envelope.

    Raises MalformedMessageError or MessageTooLargeError, and nothing else, whatever the bytes are.
    """
    header, payload = frames if len(frames) == 2 else (b"", b"")
    if type(header) is bytes:
        # The usual message of an idle system: its header has a certain size, and no frame is larger than a message may be.
        flat = _FLAT_BY_SHAPE.get(header[SHAPE_START : SHAPE_START + _SHAPE_BYTES])
        if flat is not None and (one := flat.one_row.read(header, payload)) is not None:
            return one  # type: ignore[no-any-return]
    header = bytes(frames[0]) if frames else b""
    flat = _FLAT_BY_SHAPE.get(header[SHAPE_START : SHAPE_START + _SHAPE_BYTES])
    if flat is not None:
        check_limits(frames, HEADER_BYTES_MAX)
        try:
            message = flat.decode(header, frames[1:])
            if message is not None:
                return _finish(message, flat.layout, frames)
        except ValueError as error:
            raise MalformedMessageError(f"not a message of this protocol: {error}") from None
    elif len(header) == _RELAY_BYTES and header.startswith(_RELAY_START):
        check_limits(frames, HEADER_BYTES_MAX)
        return m.Relay(header[-ID_BYTES:], list(frames[1:]))  # type: ignore[arg-type]
    return decode_with_library(frames)


def decode_with_library(frames: Sequence[Frame]) -> m.Message:
    """As `decode`, always through the Cap'n Proto library."""
    check_limits(frames, GRAPH_HEADER_BYTES_MAX)
    header = bytes(frames[0])
    # Every word is read about once. A list of 2²⁹ elements without size takes one word and minutes to walk: the library
    # counts its elements against this limit.
    words = TRAVERSALS_MAX * (len(header) // 8) + TRAVERSAL_WORDS_MIN
    try:
        with _Message.from_bytes(header, traversal_limit_in_words=words, nesting_limit=NESTING_MAX) as reader:
            return _decode(str(reader.which()), reader, frames)
    except (MalformedMessageError, MessageTooLargeError):
        raise
    except (capnp.KjException, ValueError, TypeError, AttributeError, OverflowError, UnicodeDecodeError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MalformedMessageError(f"not a message of this protocol: {text}") from None


_WITH_LARGE_HEADERS = (m.GraphSubmit, m.MonitorDump)
"""A graph is one message, and the text of a dump is in its header."""


def _header_bytes_max(message_type: type[Any]) -> int:
    return GRAPH_HEADER_BYTES_MAX if message_type in _WITH_LARGE_HEADERS else HEADER_BYTES_MAX


def check_limits(frames: Sequence[Frame], header_bytes_max: int) -> None:
    """Raise unless there are frames, and not too many or too large ones."""
    count = len(frames)
    if count == 0:
        raise MalformedMessageError("a message without frames")
    if count > FRAMES_MAX:
        raise MessageTooLargeError(f"{count} frames in one message; at most {FRAMES_MAX} are accepted")
    if len(frames[0]) > header_bytes_max:
        raise MessageTooLargeError(f"a header of {len(frames[0])} bytes; at most {header_bytes_max} are accepted")
    if count > 1 and sum(map(len, frames)) > MESSAGE_BYTES_MAX:
        raise MessageTooLargeError(f"a message over {MESSAGE_BYTES_MAX} bytes")


def _decode(member: str, reader: Any, frames: Sequence[Frame]) -> m.Message:
    scalar = _SCALAR_BY_MEMBER.get(member)
    if scalar is not None:
        message_type, attribute = scalar
        message = message_type(**{attribute: getattr(reader, member)})
        if message_type is m.ClientGone:
            _check_client(message)
        return message  # type: ignore[no-any-return]
    layout = _BY_MEMBER[member]
    check_limits(frames, _header_bytes_max(layout.message_type))
    if not layout.fields:
        return layout.message_type()  # type: ignore[no-any-return]
    body = getattr(reader, member)
    values = {field.attribute: field.read(getattr(body, field.wire)) for field in layout.fields}
    payload = frames[1:]
    if layout.packed:
        values.update({attribute: _read_lengths(getattr(body, lengths)) for attribute, lengths in layout.packed})
        _add_payloads(values, layout, payload)
    elif layout.buffers:
        lengths = unpack_column("Q", body.lengths)
        if list(lengths) != [len(frame) for frame in payload]:
            raise MalformedMessageError(f"{member}: lengths do not match its {len(payload)} payload frames")
        values["buffers"] = list(payload)
    elif layout.raw == "inner":
        values["inner"] = list(payload)
    elif layout.raw:
        values[layout.raw] = bytes(payload[0]) if payload else b""
    return _finish(layout.message_type(**values), layout, frames)


def _add_payloads(values: dict[str, Any], layout: _Layout, payload: Sequence[Frame]) -> None:
    """Replace lengths by the byte strings that they describe."""
    given = len(payload)
    if given > len(layout.packed):
        raise MalformedMessageError(f"{layout.member} with {given} payload frames")
    for position, (attribute, _) in enumerate(layout.packed):
        lengths = values.get(attribute, EMPTY)
        values[attribute] = Packed(lengths, payload[position] if position < given else b"")


def _finish(message: Any, layout: _Layout, frames: Sequence[Frame]) -> m.Message:
    if layout.check is not None:
        layout.check(message)
    if layout.message_type is m.ResultBatch:
        message.frames = list(frames)
    return message  # type: ignore[no-any-return]
