"""Every message that crosses a process boundary, as typed values. `codec` turns them into frames and back.

The meaning of each field stands in `schema/scaler.capnp`, beside the field. Messages are values: whoever receives one
may keep it, nobody changes it after it was sent.
"""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum
from typing import Any

from scaler_protocol.runtime.values import record
from scaler_protocol.version import PROTOCOL_VERSION, PYTHON_VERSION, SOFTWARE_VERSION
from scaler_protocol.wire.column_table import Hop, Shape, column
from scaler_protocol.wire.columns import EMPTY, Column, Packed

Capabilities = tuple[tuple[str, int], ...]
"""(name, value) pairs, sorted by name; value -1 where none was given."""


class Role(IntEnum):
    CLIENT = 0
    AGENT = 1
    SCHEDULER = 2
    MONITOR = 3


class TaskKind(IntEnum):
    CALL = 0
    """Payload is one call's arguments."""
    MAP_CHUNK = 1
    """Payload is many calls' arguments; the result has one outcome per item."""


class TaskFlag(IntEnum):
    PROFILE = 1
    STREAM_OUTPUT = 2
    REANNOUNCED = 4


class Status(IntEnum):
    SUCCESS = 0
    FAILED = 1
    CANCELED = 2
    PROCESSOR_DIED = 3
    TIMED_OUT = 4
    WORKER_DIED = 5
    NO_WORKER = 6
    MISSING_OBJECT = 7
    NOT_RUN = 8
    STORAGE_FAILED = 9
    SKIPPED = 10


NO_SLOT = 0xFFFF
"""In columns of slots: no worker ran the task, or it is not known which one did."""

NO_WORKER = 0xFFFF
"""In `MonitorEvents.workers`: no worker is concerned."""


class HeldState(IntEnum):
    """In an `Inventory`: how far a task has come at its agent."""

    QUEUED = 0
    RUNNING = 1


class ProcessorState(IntEnum):
    STARTING = 0
    IDLE = 1
    RUNNING = 2
    BLOCKED = 3
    STOPPING = 4


class ObjectStatus(IntEnum):
    DONE = 0
    TOO_LARGE = 1
    STORAGE_FULL = 2
    MALFORMED = 3
    NOT_YOURS = 4
    CONFLICT = 5
    """The id already stands for other bytes: objects never change."""
    NO_SEGMENT = 6
    """What was put is not at its place, or cannot be opened: its bytes may be sent instead."""


class TaskEvent(IntEnum):
    """In `MonitorEvents`: what happened to a task."""

    SUBMITTED = 0
    ASSIGNED = 1
    SUCCESS = 2
    FAILED = 3
    CANCELED = 4
    RETURNED = 5


@record
class Hello:
    role: Role
    name: str
    incarnation: bytes
    hostname: str = ""
    pid: int = 0
    scheduler_incarnation: bytes = b""
    worker_names: tuple[str, ...] = ()
    capabilities: Capabilities = ()
    capacity: int = 0
    queue_limit: int = 0
    stream_output: bool = False
    timeout_seconds: float = 0.0
    protocol_version: int = PROTOCOL_VERSION
    python_version: str = PYTHON_VERSION
    software_version: str = SOFTWARE_VERSION
    hello_number: int = 0
    takes_chains: bool = False
    to_object_storage: bool = False


@record
class Welcome:
    incarnation: bytes
    resumed: bool = False
    object_storage_address: str = ""
    monitor_address: str = ""
    heartbeat_seconds: float = 2.0
    timeout_seconds: float = 60.0
    protected: bool = False
    task_credit: int = -1
    protocol_version: int = PROTOCOL_VERSION
    software_version: str = SOFTWARE_VERSION
    capability_policy: bool = False
    hello_number: int = 0
    segment_offer: bytes = b""
    """Object storage: where a peer on the same host finds proof of it (see `objects.segments.offer`)."""
    ends_cluster: bool = False
    """A scheduler that has no successor: when it ends, so does its cluster."""


@record
class Refused:
    text: str


@record
class UnknownPeer:
    pass


@record
class Heartbeat:
    sent_at_seconds: float = 0.0
    echo_seconds: float = 0.0
    capacity: int = 0
    cpu_percent: float = 0.0
    rss_bytes: int = 0
    rss_free_bytes: int = 0
    queued: int = 0
    latency_seconds: float = 0.0
    processor_pids: Column = EMPTY
    processor_cpu_percents: Column = EMPTY
    processor_rss_bytes: Column = EMPTY
    processor_states: Column = EMPTY
    processor_tasks: Column = EMPTY
    processor_functions: tuple[bytes, ...] = ()
    processor_milliseconds: Column = EMPTY


@record
class Goodbye:
    text: str


_TASK = Hop.SUBMIT | Hop.ASSIGN
_TASK_AND_RUN = _TASK | Hop.RUN
_RESULT = Hop.RESULT | Hop.ANSWER
_REPORT_AND_RESULT = Hop.REPORT | _RESULT


@record
class TaskBatch:
    client: bytes
    numbers: Column = field(metadata=column(Shape.ROWS, _TASK_AND_RUN, "Q"))
    functions: tuple[bytes, ...] = field(metadata=column(Shape.TABLE, _TASK_AND_RUN))
    payloads: Packed = field(metadata=column(Shape.BLOBS, _TASK_AND_RUN))
    attempts: Column = field(default=EMPTY, metadata=column(Shape.ROWS, Hop.ASSIGN, "H", absent=1))
    function_indexes: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _TASK_AND_RUN, "H", absent=0))
    depth: int = 0
    kind: int = TaskKind.CALL
    flags: int = 0
    capabilities: Capabilities = ()
    serializer: bytes = b""
    object_positions: Column = field(default=EMPTY, metadata=column(Shape.POSITIONS, _TASK, "I"))
    objects: tuple[bytes, ...] = field(
        default=(), metadata=column(Shape.SPARSE_IDS, _TASK, positions="object_positions")
    )
    input_positions: Column = field(default=EMPTY, metadata=column(Shape.POSITIONS, Hop.ASSIGN | Hop.RUN, "I"))
    inputs: Packed = field(
        default_factory=Packed,
        metadata=column(Shape.SPARSE_BLOBS, Hop.ASSIGN | Hop.RUN, positions="input_positions"),
    )
    input_sources: Column = field(
        default=EMPTY,
        metadata=column(Shape.SPARSE_ROWS, Hop.ASSIGN | Hop.RUN, "I", absent=0, positions="input_positions"),
    )
    chain_ends: Column = field(default=EMPTY, metadata=column(Shape.ENDS, Hop.ASSIGN, "I"))


@record
class ResultBatch:
    client: bytes
    numbers: Column = field(metadata=column(Shape.ROWS, _RESULT, "Q"))
    attempts: Column = field(metadata=column(Shape.ROWS, _RESULT, "H"))
    payloads: Packed = field(metadata=column(Shape.BLOBS, _REPORT_AND_RESULT))
    statuses: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "B", absent=Status.SUCCESS))
    durations: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "I", absent=0))
    cpu_times: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "I", absent=0))
    memory_peaks: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "Q", absent=0))
    object_positions: Column = field(default=EMPTY, metadata=column(Shape.POSITIONS, _REPORT_AND_RESULT, "I"))
    objects: tuple[bytes, ...] = field(
        default=(), metadata=column(Shape.SPARSE_IDS, _REPORT_AND_RESULT, positions="object_positions")
    )
    capacity: int = 0
    slots: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _RESULT, "H", absent=NO_SLOT))
    frames: Any = field(default=None, compare=False, repr=False)
    """Header and payload frames as received, so that a batch passed on whole is not encoded again."""


@record
class FunctionDefine:
    client: bytes
    ids: tuple[bytes, ...]
    bodies: Packed
    names: tuple[str, ...] = ()


@record
class TaskCancel:
    client: bytes
    numbers: Column
    attempts: Column = EMPTY


@record
class TaskRecall:
    count: int


@record
class TaskReturn:
    client: bytes
    numbers: Column
    attempts: Column = EMPTY


@record
class Inventory:
    client: bytes
    numbers: Column
    attempts: Column
    states: Column


@record
class GraphSubmit:
    client: bytes
    first_number: int
    functions: tuple[bytes, ...]
    payloads: Packed
    dependency_counts: Column
    dependencies: Column
    wanted: Column
    function_indexes: Column = EMPTY
    capabilities: Capabilities = ()
    serializer: bytes = b""
    flags: int = 0
    depth: int = 0
    object_positions: Column = EMPTY
    objects: tuple[bytes, ...] = ()


@record
class ClientGone:
    client: bytes


@record
class CreditRequest:
    count: int


@record
class CreditGrant:
    count: int


@record
class Shutdown:
    text: str = ""


@record
class Notice:
    text: str
    level: int = 1
    numbers: Column = EMPTY
    kind: str = ""


@record
class Output:
    client: bytes
    number: int
    stream: int
    data: bytes
    dropped_bytes: int = 0


@record
class ChunkFailures:
    client: bytes
    number: int
    attempt: int
    count: int
    payload: bytes
    """The failure of the first failed item."""


@record
class Relay:
    client: bytes
    inner: list[bytes]
    """Frames of the relayed message, its envelope first."""


@record
class ObjectPut:
    request: int
    id: bytes
    owner: bytes
    buffers: list[Any]
    """The object's buffers: anything with the buffer protocol. On the wire one frame each."""
    name: str = ""
    place: bytes = b""
    """Where the buffers lie in a segment of this host (see `objects.segments`), instead of in frames."""


@record
class ObjectPutReply:
    request: int
    status: int = ObjectStatus.DONE
    text: str = ""


@record
class ObjectGet:
    request: int
    id: bytes
    wait_seconds: float = 0.0
    mappable: bool = False
    """Whether a place will do."""


@record
class ObjectData:
    request: int
    id: bytes
    buffers: list[Any] = field(default_factory=list)
    missing: bool = False
    place: bytes = b""
    """Where the buffers lie in a segment of this host, instead of in frames."""


@record
class ObjectDelete:
    request: int
    owner: bytes
    ids: tuple[bytes, ...]


@record
class ObjectDeleteReply:
    request: int
    status: int = ObjectStatus.DONE
    text: str = ""


@record
class Counter:
    name: str
    count: int


@record
class WorkerStatus:
    name: str
    agent: str
    hostname: str = ""
    pid: int = 0
    state: int = 0
    agent_cpu_percent: float = 0.0
    agent_rss_bytes: int = 0
    cpu_percent: float = 0.0
    rss_bytes: int = 0
    rss_free_bytes: int = 0
    free: int = 0
    sent: int = 0
    queued: int = 0
    capabilities: str = ""
    latency_seconds: float = 0.0
    last_seen_seconds: float = 0.0
    task: int = 0
    function: str = ""
    task_seconds: float = 0.0


@record
class AgentStatus:
    name: str
    hostname: str = ""
    pid: int = 0
    workers: int = 0
    capacity: int = 0
    assigned: int = 0
    queued: int = 0
    cpu_percent: float = 0.0
    rss_bytes: int = 0
    rss_free_bytes: int = 0
    latency_seconds: float = 0.0
    last_seen_seconds: float = 0.0
    draining: bool = False
    capabilities: str = ""
    functions: tuple[Counter, ...] = ()
    incarnation: bytes = b""


@record
class ClientStatus:
    name: str
    incarnation: bytes
    hostname: str = ""
    pid: int = 0
    waiting: int = 0
    running: int = 0
    finished: int = 0
    failed: int = 0
    last_seen_seconds: float = 0.0
    nested: bool = False
    graphs: int = 0
    object_count: int = 0
    object_bytes: int = 0
    connected_seconds: float = 0.0
    failed_items: int = 0


@record
class GraphStatus:
    client: bytes
    first_number: int
    rows: int = 0
    waiting: int = 0
    released: int = 0
    done: int = 0
    failed: int = 0
    held_results: int = 0


@record
class AdapterStatus:
    url: str
    state: str = ""
    groups: int = 0
    groups_max: int = -1
    workers_per_group: int = 0
    wished_groups: int = 0
    starting_groups: int = 0
    capabilities: str = ""
    text: str = ""


@record
class MonitorSnapshot:
    sequence: int
    time_seconds: float
    incarnation: bytes
    cpu_percent: float = 0.0
    rss_bytes: int = 0
    task_states: tuple[Counter, ...] = ()
    sent: tuple[Counter, ...] = ()
    received: tuple[Counter, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    clients: tuple[ClientStatus, ...] = ()
    functions: tuple[Counter, ...] = ()
    object_count: int = 0
    object_bytes: int = 0
    object_limit_bytes: int = 0
    agents: tuple[AgentStatus, ...] = ()
    graphs: tuple[GraphStatus, ...] = ()
    adapters: tuple[AdapterStatus, ...] = ()
    started_seconds: float = 0.0
    stale_results: int = 0
    scaling_strategy: str = ""
    events_omitted: int = 0
    failed_functions: tuple[Counter, ...] = ()
    failed_items: int = 0


@record
class MonitorEvents:
    sequence: int
    time_seconds: Any
    clients: Column
    client_table: tuple[bytes, ...]
    numbers: Column
    states: Column
    workers: Column
    worker_table: tuple[str, ...]
    functions: Column
    function_table: tuple[str, ...]
    durations: Column
    dropped: int = 0
    slots: Column = EMPTY
    stride: int = 1
    incarnation: bytes = b""
    capabilities: Column = EMPTY
    capability_table: tuple[str, ...] = ()


@record
class MonitorFailures:
    incarnation: bytes
    first_number: int
    time_seconds: Any
    clients: tuple[bytes, ...]
    numbers: Column
    attempts: Column
    statuses: Column
    functions: tuple[str, ...]
    workers: tuple[str, ...]
    durations: Column
    payloads: Packed
    items: Column = EMPTY


@record
class MonitorLog:
    incarnation: bytes
    first_number: int
    time_seconds: Any
    levels: Column
    texts: tuple[str, ...]


@record
class MonitorDump:
    time_seconds: float
    json: str


@record
class StoreStatusRequest:
    request: int


@record
class StoreStatus:
    request: int
    object_count: int = 0
    used_bytes: int = 0
    limit_bytes: int = 0
    owners: tuple[bytes, ...] = ()
    owner_objects: Column = EMPTY
    owner_bytes: Column = EMPTY


@record
class Drain:
    pass


Message = (
    Hello
    | Welcome
    | Refused
    | UnknownPeer
    | Heartbeat
    | Goodbye
    | TaskBatch
    | ResultBatch
    | FunctionDefine
    | TaskCancel
    | TaskRecall
    | TaskReturn
    | Inventory
    | GraphSubmit
    | ClientGone
    | CreditRequest
    | CreditGrant
    | Shutdown
    | Notice
    | Output
    | ChunkFailures
    | Relay
    | ObjectPut
    | ObjectPutReply
    | ObjectGet
    | ObjectData
    | ObjectDelete
    | ObjectDeleteReply
    | MonitorSnapshot
    | MonitorEvents
    | MonitorFailures
    | MonitorLog
    | MonitorDump
    | StoreStatusRequest
    | StoreStatus
    | Drain
)
