"""Every message that crosses a process boundary, as typed values. `codec` turns them into frames and back.

The meaning of each field stands in `schema/scaler.capnp`, beside the field. Messages are values: whoever receives one
may keep it, nobody changes it after it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar, dataclass_transform

from scaler_protocol.columns import EMPTY, Column, Packed
from scaler_protocol.version import PROTOCOL_VERSION, PYTHON_VERSION, SOFTWARE_VERSION

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


class TaskEvent(IntEnum):
    """In `MonitorEvents`: what happened to a task."""

    SUBMITTED = 0
    ASSIGNED = 1
    SUCCESS = 2
    FAILED = 3
    CANCELED = 4
    RETURNED = 5


T = TypeVar("T")


class _Value:
    """Comparing and showing, once for all: made for each class, it was half of what importing this module costs."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # they can be changed, as far as Python knows

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


@dataclass_transform(field_specifiers=(field,))
def _message(message_type: type[T]) -> type[T]:
    # Without a docstring, a signature would be worked out to stand in for it.
    message_type.__doc__ = message_type.__doc__ or "See the schema."
    return dataclass(slots=True, eq=False, repr=False)(message_type)


@_message
class Hello(_Value):
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


@_message
class Welcome(_Value):
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


@_message
class Refused(_Value):
    text: str


@_message
class UnknownPeer(_Value):
    pass


@_message
class Heartbeat(_Value):
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


@_message
class Goodbye(_Value):
    text: str


@_message
class TaskBatch(_Value):
    client: bytes
    numbers: Column
    functions: tuple[bytes, ...]
    payloads: Packed
    attempts: Column = EMPTY
    function_indexes: Column = EMPTY
    depth: int = 0
    kind: int = TaskKind.CALL
    flags: int = 0
    capabilities: Capabilities = ()
    serializer: bytes = b""
    object_positions: Column = EMPTY
    objects: tuple[bytes, ...] = ()
    input_positions: Column = EMPTY
    inputs: Packed = field(default_factory=Packed)


@_message
class ResultBatch(_Value):
    client: bytes
    numbers: Column
    attempts: Column
    payloads: Packed
    statuses: Column = EMPTY
    durations: Column = EMPTY
    cpu_times: Column = EMPTY
    memory_peaks: Column = EMPTY
    object_positions: Column = EMPTY
    objects: tuple[bytes, ...] = ()
    capacity: int = 0
    slots: Column = EMPTY
    frames: Any = field(default=None, compare=False, repr=False)
    """Header and payload frames as received, so that a batch passed on whole is not encoded again."""


@_message
class FunctionDefine(_Value):
    client: bytes
    ids: tuple[bytes, ...]
    bodies: Packed
    names: tuple[str, ...] = ()


@_message
class TaskCancel(_Value):
    client: bytes
    numbers: Column
    attempts: Column = EMPTY


@_message
class TaskRecall(_Value):
    count: int


@_message
class TaskReturn(_Value):
    client: bytes
    numbers: Column
    attempts: Column = EMPTY


@_message
class Inventory(_Value):
    client: bytes
    numbers: Column
    attempts: Column
    states: Column


@_message
class GraphSubmit(_Value):
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


@_message
class ClientGone(_Value):
    client: bytes


@_message
class CreditRequest(_Value):
    count: int


@_message
class CreditGrant(_Value):
    count: int


@_message
class Shutdown(_Value):
    text: str = ""


@_message
class Notice(_Value):
    text: str
    level: int = 1
    numbers: Column = EMPTY
    kind: str = ""


@_message
class Output(_Value):
    client: bytes
    number: int
    stream: int
    data: bytes
    dropped_bytes: int = 0


@_message
class Relay(_Value):
    client: bytes
    inner: list[bytes]
    """Frames of the relayed message, its envelope first."""


@_message
class ObjectPut(_Value):
    request: int
    id: bytes
    owner: bytes
    buffers: list[Any]
    """The object's buffers: anything with the buffer protocol. On the wire one frame each."""
    name: str = ""


@_message
class ObjectPutReply(_Value):
    request: int
    status: int = ObjectStatus.DONE
    text: str = ""


@_message
class ObjectGet(_Value):
    request: int
    id: bytes
    wait_seconds: float = 0.0


@_message
class ObjectData(_Value):
    request: int
    id: bytes
    buffers: list[Any] = field(default_factory=list)
    missing: bool = False


@_message
class ObjectDelete(_Value):
    request: int
    owner: bytes
    ids: tuple[bytes, ...]


@_message
class ObjectDeleteReply(_Value):
    request: int
    status: int = ObjectStatus.DONE
    text: str = ""


@_message
class Counter(_Value):
    name: str
    count: int


@_message
class WorkerStatus(_Value):
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


@_message
class AgentStatus(_Value):
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


@_message
class ClientStatus(_Value):
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


@_message
class GraphStatus(_Value):
    client: bytes
    first_number: int
    rows: int = 0
    waiting: int = 0
    released: int = 0
    done: int = 0
    failed: int = 0
    held_results: int = 0


@_message
class AdapterStatus(_Value):
    url: str
    state: str = ""
    groups: int = 0
    groups_max: int = -1
    workers_per_group: int = 0
    wished_groups: int = 0
    starting_groups: int = 0
    capabilities: str = ""
    text: str = ""


@_message
class MonitorSnapshot(_Value):
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


@_message
class MonitorEvents(_Value):
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


@_message
class MonitorFailures(_Value):
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


@_message
class MonitorLog(_Value):
    incarnation: bytes
    first_number: int
    time_seconds: Any
    levels: Column
    texts: tuple[str, ...]


@_message
class MonitorDump(_Value):
    time_seconds: float
    json: str


@_message
class StoreStatusRequest(_Value):
    request: int


@_message
class StoreStatus(_Value):
    request: int
    object_count: int = 0
    used_bytes: int = 0
    limit_bytes: int = 0
    owners: tuple[bytes, ...] = ()
    owner_objects: Column = EMPTY
    owner_bytes: Column = EMPTY


@_message
class Drain(_Value):
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
