"""Every message that crosses a process boundary, as typed values. `codec` turns them into frames and back.

The line below a field says what it means. `schema/scaler.capnp` says how it is written, for readers in other languages. Messages
are values: a receiver may keep them, and nobody changes one after it was sent.
"""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum
from typing import Any

from scaler_protocol.runtime.values import record
from scaler_protocol.version import PROTOCOL_VERSION, PYTHON_VERSION, SOFTWARE_VERSION
from scaler_protocol.wire.column_table import Hop, Shape, column
from scaler_protocol.wire.columns import EMPTY, Column, Packed
from scaler_protocol.wire.status import Status as Status

Capabilities = tuple[tuple[str, int], ...]
"""(name, value) pairs, sorted by name. The value is -1 if none was given."""


class Role(IntEnum):
    """What a peer is."""

    CLIENT = 0
    """It submits tasks: an application, or code inside a task."""
    AGENT = 1
    """It runs the tasks of one machine's workers."""
    SCHEDULER = 2
    """It assigns tasks to agents."""
    MONITOR = 3
    """It shows what a cluster does, and only listens."""


class TaskKind(IntEnum):
    """What the payload of a task holds."""

    CALL = 0
    """The arguments of one call."""
    MAP_CHUNK = 1
    """The arguments of many calls. The result has one outcome per item."""
    JOB_RESULT = 2
    """From a client only, with `TaskFlag.DETACHED`: a position in a job, of 8 bytes. The result is that of the task there."""


class TaskFlag(IntEnum):
    """Bits of `TaskBatch.flags` and `GraphSubmit.flags`."""

    PROFILE = 1
    """Measure the CPU time and peak memory of each task."""
    STREAM_OUTPUT = 2
    """Send what the tasks print and log to their client."""
    REANNOUNCED = 4
    """The client announces these tasks again, because the scheduler does not know its session; an agent may hold them."""
    DETACHED = 8
    """From a client only: the tasks belong to a job, which the options of each name, and go on when their client has gone."""


NO_SLOT = 0xFFFF
"""In columns of slots: no worker ran the task, or it is unknown which one did."""

NO_WORKER = 0xFFFF
"""In `MonitorEvents.workers`: the event concerns no worker."""


class HeldState(IntEnum):
    """In an `Inventory`: what the agent has done with a task."""

    QUEUED = 0
    """It has not started."""
    RUNNING = 1
    """A processor runs it."""


class ProcessorState(IntEnum):
    """What a processor does."""

    STARTING = 0
    """It cannot run tasks yet."""
    IDLE = 1
    """It runs no task."""
    RUNNING = 2
    """It runs a task."""
    BLOCKED = 3
    """Its task waits for a task of its own; the slot may be lent."""
    STOPPING = 4
    """It gets no more tasks."""


class ObjectStatus(IntEnum):
    """What the object storage server answers to a put or a delete."""

    DONE = 0
    """The request was carried out."""
    TOO_LARGE = 1
    """Refused: the object is larger than the limit for one object."""
    STORAGE_FULL = 2
    """Refused: it would exceed the memory limit."""
    MALFORMED = 3
    """Refused: the request contradicts itself."""
    NOT_YOURS = 4
    """Refused: the sender may not do this for that owner."""
    CONFLICT = 5
    """Refused: the id already stands for other bytes, and objects never change."""
    NO_SEGMENT = 6
    """Refused: the segment at `ObjectPut.place` cannot be opened. Send the bytes instead."""
    UNREACHED = 7
    """The answer to an `ObjectGet`: the object is in the store of another host, which does not answer."""


class BatchKind(IntEnum):
    """Which messages the rows of an `ObjectBatch` are."""

    PUTS = 0
    """`ObjectPut`, each with a place and without a name."""
    GETS = 1
    """`ObjectGet`."""
    DATA = 2
    """`ObjectData`, each with a place, or each with small buffers."""
    PUT_REPLIES = 3
    """`ObjectPutReply`, each with the status DONE."""
    DELETE_REPLIES = 4
    """`ObjectDeleteReply`, each with the status DONE."""


class TaskEvent(IntEnum):
    """In `MonitorEvents`: what happened to a task."""

    SUBMITTED = 0
    """The scheduler received it."""
    ASSIGNED = 1
    """It was sent to an agent."""
    SUCCESS = 2
    """It succeeded."""
    FAILED = 3
    """It failed."""
    CANCELED = 4
    """It was cancelled."""
    RETURNED = 5
    """An agent gave it back, and it is queued again."""


@record
class Hello:
    """The first message of every peer, sent again whenever it doubts that its session still exists."""

    role: Role
    """What the sender is."""
    name: str
    """A stable name, shown to people."""
    incarnation: bytes
    """16 random bytes that identify this process, or this client."""
    hostname: str = ""
    """The name of the sender's machine."""
    pid: int = 0
    """The sender's process id."""
    scheduler_incarnation: bytes = b""
    """The scheduler of the session to resume; empty for a new session."""
    worker_names: tuple[str, ...] = ()
    """Agents: the name of each worker."""
    capabilities: Capabilities = ()
    """Agents: what each of their workers offers."""
    capacity: int = 0
    """Agents: how many tasks they want to hold at first."""
    queue_limit: int = 0
    """Agents: how many tasks they ever accept for each worker."""
    stream_output: bool = False
    """Clients: whether they want what their tasks print and log."""
    timeout_seconds: float = 0.0
    """Silence after which the scheduler may give the sender up; 0: the scheduler's own setting."""
    protocol_version: int = PROTOCOL_VERSION
    """Must equal the scheduler's."""
    python_version: str = PYTHON_VERSION
    """Major and minor version, as in "3.11". That of the agents must be everybody's."""
    software_version: str = SOFTWARE_VERSION
    """The version of Scaler, shown to people."""
    hello_number: int = 0
    """Counts the sender's hellos. The answer names it, so that a late answer is recognised."""
    takes_chains: bool = False
    """Agents: whether their batches may contain chains."""
    to_object_storage: bool = False
    """Whether the sender takes the receiver for an object storage server; otherwise for a scheduler."""
    parent: bytes = b""
    """Clients inside a task: the client that submitted this task; empty: none."""
    group: str = ""
    """Clients: the group whose share their tasks count against; empty: none named."""
    term: int = 0
    """The highest term whose scheduler the sender has obeyed; 0: none yet."""
    resources: str = ""
    """Agents: what their host offers for all workers together, as in "cores=8,gpu=2,mem=64GiB"."""
    devices: tuple[str, ...] = ()
    """Agents: the GPUs among it."""
    user: str = ""
    """Clients: who runs them, as the system names them; empty: not known."""
    memory_bytes: int = 0
    """Agents: the memory that their host or container has; 0: not known."""
    processor_limit_bytes: int = 0
    """Agents: what one of their processors may use of it; 0: there is no limit."""


@record
class Welcome:
    """The answer to a `Hello` that is accepted."""

    incarnation: bytes
    """16 bytes that identify the scheduler or object storage server."""
    resumed: bool = False
    """Whether the session goes on. If not, counters start at 0, and the peer announces what it holds."""
    object_storage_address: str = ""
    """Where object storage is; empty: there is none."""
    monitor_address: str = ""
    """Where monitors connect; empty: nowhere."""
    heartbeat_seconds: float = 2.0
    """The peer must send something at least this often."""
    timeout_seconds: float = 60.0
    """Silence after which the peer is given up."""
    protected: bool = False
    """Whether clients may not shut the cluster down."""
    task_credit: int = -1
    """Clients: how many tasks they may submit without asking; -1: no limit."""
    protocol_version: int = PROTOCOL_VERSION
    """The sender's protocol version."""
    software_version: str = SOFTWARE_VERSION
    """The sender's version of Scaler."""
    capability_policy: bool = False
    """Whether the scheduler enforces capabilities."""
    hello_number: int = 0
    """The `hello_number` of the hello that this answers."""
    segment_offer: bytes = b""
    """Object storage: which file proves that a peer runs on the same machine (see `objects.segments.offer`)."""
    ends_cluster: bool = False
    """Whether the cluster ends with this scheduler. If so, peers do not wait for another one."""
    takes_homes: bool = False
    """Object storage: whether agents may send `ObjectsHeld`."""
    dashboard_url: str = ""
    """Where people see the cluster in a browser; empty: nowhere that the scheduler knows of."""
    term: int = 0
    """The scheduler's term: peers never go back to a scheduler with a lower one. 0: object storage."""


@record
class SchedulerStatus:
    """Which of two schedulers is first. Each answers the other's. A standby answers every `Hello` with it as well."""

    term: int
    """The sender's term if it is first, else the highest one that it knows of."""
    is_first: bool
    """Whether the sender accepts peers."""
    incarnation: bytes
    """16 bytes that identify the sender's process."""
    answers: bool = False
    """Whether this is an answer. Nobody answers it."""
    ends: bool = False
    """Whether the sender stops in order, so that another one need not wait until its lease is over."""


TERM_MAX = 2**62
"""Terms are below this. There is room above, so that no message of a peer can leave a scheduler without a higher one."""


@record
class Refused:
    """The answer to a `Hello` that is not accepted. No session was started."""

    text: str
    """Why, in one sentence."""


@record
class UnknownPeer:
    """The scheduler has no session with the sender of a message: it must say hello."""


@record
class Heartbeat:
    """Proof of life in either direction, with figures for monitors. The columns have one element per worker and come
    from agents only."""

    sent_at_seconds: float = 0.0
    """The sender's clock. The scheduler returns it unchanged in `echo_seconds`."""
    echo_seconds: float = 0.0
    """The `sent_at_seconds` of the heartbeat that this answers."""
    capacity: int = 0
    """Agents: how many tasks they want to hold now, running ones included."""
    cpu_percent: float = 0.0
    """CPU of the sending process; 100 is one core."""
    rss_bytes: int = 0
    """Resident memory of the sending process."""
    rss_free_bytes: int = 0
    """Free memory of its machine."""
    queued: int = 0
    """Agents: how many tasks they hold that have not started."""
    latency_seconds: float = 0.0
    """The last measured round trip to the scheduler."""
    processor_pids: Column = EMPTY
    """Process ids."""
    processor_cpu_percents: Column = EMPTY
    """CPU in tenths of a percent."""
    processor_rss_bytes: Column = EMPTY
    """Resident memory."""
    processor_states: Column = EMPTY
    """`ProcessorState`s."""
    processor_tasks: Column = EMPTY
    """Numbers of the running tasks; without meaning where none runs."""
    processor_functions: tuple[bytes, ...] = ()
    """Functions of the running tasks; 16 zeros where none runs."""
    processor_milliseconds: Column = EMPTY
    """How long the running tasks have run."""
    processor_environments: bytes = b""
    """UTF-8, one line for each: the names of the worker plugins and uploaded modules there; empty: there are none."""


@record
class Goodbye:
    """The session ends now."""

    text: str
    """Why, for people."""


_TASK = Hop.SUBMIT | Hop.ASSIGN
_TASK_AND_RUN = _TASK | Hop.RUN
_RESULT = Hop.RESULT | Hop.ANSWER
_REPORT_AND_RESULT = Hop.REPORT | _RESULT


@record
class TaskBatch:
    """Tasks, one per row. All rows share client, depth, kind, flags, capabilities and serializer."""

    client: bytes
    """The incarnation of the client that submitted the tasks."""
    numbers: Column = field(metadata=column(Shape.ROWS, _TASK_AND_RUN, "Q"))
    """One per row: the task's number, chosen by the client and used once."""
    functions: tuple[bytes, ...] = field(metadata=column(Shape.TABLE, _TASK_AND_RUN))
    """Ids of the functions that the rows use."""
    payloads: Packed = field(metadata=column(Shape.BLOBS, _TASK_AND_RUN))
    """One per row: the arguments."""
    attempts: Column = field(default=EMPTY, metadata=column(Shape.ROWS, Hop.ASSIGN, "H", absent=1))
    """One per row: the number of the dispatch, from 1."""
    function_indexes: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _TASK_AND_RUN, "H", absent=0))
    """One per row: its function's place in `functions`."""
    depth: int = 0
    """How deeply the tasks are nested: 0 from an application, 1 from its tasks, and so on."""
    kind: int = TaskKind.CALL
    """A `TaskKind`."""
    flags: int = 0
    """`TaskFlag`s."""
    capabilities: Capabilities = ()
    """What a worker must offer to run the tasks."""
    serializer: bytes = b""
    """Id of the function that is the client's serializer class; empty: the default serializer."""
    object_positions: Column = field(default=EMPTY, metadata=column(Shape.POSITIONS, _TASK, "I"))
    """Rows that `objects` belong to."""
    objects: tuple[bytes, ...] = field(
        default=(), metadata=column(Shape.SPARSE_IDS, _TASK, positions="object_positions")
    )
    """Objects that the arguments name."""
    input_positions: Column = field(default=EMPTY, metadata=column(Shape.POSITIONS, Hop.ASSIGN | Hop.RUN, "I"))
    """Rows that `inputs` belong to."""
    inputs: Packed = field(
        default_factory=Packed,
        metadata=column(Shape.SPARSE_BLOBS, Hop.ASSIGN | Hop.RUN, positions="input_positions"),
    )
    """Results of predecessors in a graph, in the order of the row's dependencies."""
    input_sources: Column = field(
        default=EMPTY,
        metadata=column(Shape.SPARSE_ROWS, Hop.ASSIGN | Hop.RUN, "I", absent=0, positions="input_positions"),
    )
    """For each input: n > 0 if it is the result of the task n rows before; then the input itself is empty."""
    chain_ends: Column = field(default=EMPTY, metadata=column(Shape.ENDS, Hop.ASSIGN, "I"))
    """The rows before each end are a chain, which one processor runs in order; empty: every row stands alone."""
    object_sizes: Column = field(
        default=EMPTY, metadata=column(Shape.SPARSE_ROWS, Hop.SUBMIT, "Q", absent=0, positions="object_positions")
    )
    """For each of `objects`: its bytes, 0 where the client does not know them."""
    options: bytes = b""
    """The options of the rows (see `call_options`): from clients those of each row, to agents one record for all of them, without
    what agents need not know. Empty where no row has any."""
    granted: str = ""
    """To agents: what each row has of the host's counted resources while it runs, as in "gpu=1,mem=8GiB"."""
    devices: str = ""
    """To agents: the GPUs that each row has, separated by commas."""


@record
class ResultBatch:
    """Results, one per row, of tasks of one client."""

    client: bytes
    """The client that submitted the tasks."""
    numbers: Column = field(metadata=column(Shape.ROWS, _RESULT, "Q"))
    """One per row: the task's number."""
    attempts: Column = field(metadata=column(Shape.ROWS, _RESULT, "H"))
    """One per row: the attempt that this result is of."""
    payloads: Packed = field(metadata=column(Shape.BLOBS, _REPORT_AND_RESULT))
    """One per row: result, exception or sentence (see `Status`)."""
    statuses: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "B", absent=Status.SUCCESS))
    """One per row: a `Status`."""
    object_bytes: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "Q", absent=0))
    """One per row: the bytes of the objects that the result names, all together; 0 where none are, or it is not known."""
    durations: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "Q", absent=0))
    """One per row: how long the function ran, in microseconds."""
    read_times: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "Q", absent=0))
    """One per row: microseconds before it, in which the worker fetched and restored the function and its arguments; 0 for
    less than a millisecond."""
    write_times: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "Q", absent=0))
    """One per row: microseconds after it, in which the worker serialized the result and wrote it; 0 for less than a
    millisecond."""
    cpu_times: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "Q", absent=0))
    """One per row: CPU time in microseconds; only with PROFILE."""
    memory_peaks: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _REPORT_AND_RESULT, "Q", absent=0))
    """One per row: peak memory in bytes; only with PROFILE."""
    object_positions: Column = field(default=EMPTY, metadata=column(Shape.POSITIONS, _REPORT_AND_RESULT, "I"))
    """Rows that `objects` belong to."""
    objects: tuple[bytes, ...] = field(
        default=(), metadata=column(Shape.SPARSE_IDS, _REPORT_AND_RESULT, positions="object_positions")
    )
    """Objects that the results name."""
    capacity: int = 0
    """To the scheduler: how many tasks the agent wants to hold now."""
    slots: Column = field(default=EMPTY, metadata=column(Shape.ROWS, _RESULT, "H", absent=NO_SLOT))
    """One per row: which worker of the agent ran the task."""
    frames: Any = field(default=None, compare=False, repr=False)
    """Header and payload frames as received, so that a batch passed on whole is not encoded again."""


@record
class FunctionDefine:
    """Bodies of functions. It comes before the first batch of a session that names them."""

    client: bytes
    """The client that needs the functions; when it has ended, they may be forgotten."""
    ids: tuple[bytes, ...]
    """16 bytes each, made from the content."""
    bodies: Packed
    """The pickled functions, in the order of `ids`."""
    names: tuple[str, ...] = ()
    """One per id, for people: "module.qualname". May be empty."""
    serializer: bytes = b""
    """Id of the client's serializer, if it has one: it is part of what the ids are made from, but for its own id."""


@record
class TaskCancel:
    """The client no longer wants these tasks. A running task is interrupted, unless only those that wait are to end."""

    client: bytes
    """The client that submitted the tasks."""
    numbers: Column
    """The tasks' numbers."""
    attempts: Column = EMPTY
    """One per row; empty from clients."""
    waiting_only: bool = False
    """Tasks that run, or that their processor was handed already, go on, and are answered as if nothing had been said."""


@record
class TaskRecall:
    """Scheduler to agent: give back tasks that have not started."""

    count: int
    """How many at most."""


@record
class TaskReturn:
    """Agent to scheduler: tasks given back. They have not started, or are the rest of a chain."""

    client: bytes
    """The client that submitted the tasks."""
    numbers: Column
    """The tasks' numbers."""
    attempts: Column = EMPTY
    """One per row: the attempt that ends unused."""


@record
class GrantsHeld:
    """The first message of an agent in a new session, if its host offers counted resources: the tasks there that have some."""

    clients: tuple[bytes, ...] = ()
    """One per row: the task's client."""
    numbers: Column = EMPTY
    """One per row: the task's number."""
    attempts: Column = EMPTY
    """One per row: its attempt."""
    depths: Column = EMPTY
    """One per row: how deeply it is nested."""
    amounts: tuple[str, ...] = ()
    """One per row: what it asks for."""
    devices: tuple[str, ...] = ()
    """One per row: its GPUs, separated by commas."""
    left: Column = EMPTY
    """One per row: 1 if its client is gone; `GrantsFreed` tells when the task is."""


@record
class GrantsFreed:
    """Agent to scheduler, once after each `ClientGone`: no task of this client uses counted resources here any more."""

    client: bytes
    """The client that is gone."""


@record
class Inventory:
    """The first message of an agent in a new session: which tasks of one client it holds. Finished results follow as
    batches."""

    client: bytes
    """The client that submitted the tasks."""
    numbers: Column
    """The tasks' numbers."""
    attempts: Column
    """One per row: its attempt."""
    states: Column
    """One per row: a `HeldState`."""


@record
class GraphSubmit:
    """A graph, or a portion of one. Row i of the graph is the task `first_number + i`.

    The portions of a graph come in order, and no other graph of the client between them: one that begins before the last
    portion has come replaces it.
    """

    client: bytes
    """The client that submits the graph."""
    first_number: int
    """The number of row 0."""
    functions: tuple[bytes, ...]
    """Ids of the functions that the rows use."""
    payloads: Packed
    """One per row: the arguments."""
    dependency_counts: Column
    """One per row: on how many rows it depends."""
    dependencies: Column
    """The rows of the graph, or `earlier` tasks, that each row depends on, all lists one after another.

    The j-th is the row's input j.
    """
    wanted: Column
    """The rows of this portion whose results the client wants."""
    function_indexes: Column = EMPTY
    """One per row: its function's place in `functions`; empty: all use the first."""
    capabilities: Capabilities = ()
    """What a worker must offer to run the rows."""
    serializer: bytes = b""
    """As in `TaskBatch`."""
    flags: int = 0
    """`TaskFlag`s."""
    depth: int = 0
    """As in `TaskBatch`."""
    object_positions: Column = EMPTY
    """Rows of this portion that `objects` belong to."""
    objects: tuple[bytes, ...] = ()
    """Objects that the arguments name."""
    object_sizes: Column = EMPTY
    """As in `TaskBatch`."""
    earlier: Column = EMPTY
    """Numbers of unanswered tasks of the same client. In `dependencies`, the number of rows + k stands for the k-th.

    A graph that names any comes in one portion.
    """
    first_row: int = 0
    """The row of the graph that this portion begins with."""
    row_count: int = 0
    """How many rows the whole graph has; 0: as many as this portion."""
    options: bytes = b""
    """One record of options, which all rows have (see `task_options`); empty: none."""


@record
class ClientGone:
    """A client incarnation has ended. The receiver forgets all that belongs to it."""

    client: bytes
    """The client that has ended."""


@record
class CreditRequest:
    """Client to scheduler: tasks wait for permission to be submitted."""

    count: int
    """How many wait."""


@record
class CreditGrant:
    """Scheduler to client: permission to submit further tasks."""

    count: int
    """How many more may be submitted."""


@record
class WorkerListRequest:
    """Client to scheduler: which workers are connected? One `WorkerList` answers each request, in their order."""


@record
class WorkerList:
    """Scheduler to client: the workers that are connected and stay, one per row."""

    agents: tuple[bytes, ...] = ()
    """One per row: the incarnation of its agent."""
    slots: Column = EMPTY
    """One per row: its number at its agent, from 0."""
    names: tuple[str, ...] = ()
    """One per row: its name. Workers of several agents may have the same."""


class LockState(IntEnum):
    """What has become of a lease."""

    HELD = 0
    """The client holds the lock from now on."""
    RELEASED = 1
    """It was held, or waited for, until the client gave it back."""
    LOST = 2
    """It had ended before: somebody else may have held the lock meanwhile."""
    REFUSED = 3
    """It is neither held nor waited for; the answer's text says why."""


@record
class LockRequest:
    """Client to scheduler: hold a named lock or semaphore, or wait for it. A `LockAnswer` follows when it is held."""

    lease: int
    """The client's number for this hold; it uses each once."""
    name: str
    """The lock's name, the same for all clients."""
    count: int = 1
    """How many may hold it at once: 1 for a lock. The same for all who use it at the time."""
    held: bool = False
    """The client held it in the session before, which the scheduler does not know."""


@record
class LockRelease:
    """Client to scheduler: a lease ends, held or not. A `LockAnswer` follows."""

    lease: int
    """The client's number for it."""


@record
class LockAnswer:
    """Scheduler to client: what has become of a lease."""

    lease: int
    """The client's number for it."""
    state: int
    """A `LockState`."""
    text: str = ""
    """Why it was refused."""


@record
class CancelRequest:
    """Operator to scheduler: cancel tasks of others, those that fit everything that is named here. One `CancelReply` answers it.

    The clients of these tasks are told. A request that names nothing is refused.
    """

    request: int
    """Chosen by the sender, and repeated in the answer."""
    owner: bytes = b""
    """The client whose tasks; empty: any client's."""
    numbers: Column = EMPTY
    """Only the owner's tasks of these numbers; empty: of all."""
    function: str = ""
    """Only tasks of functions of this name; empty: of any."""
    label: str = ""
    """Only tasks of this label; empty: of any."""


@record
class CancelReply:
    """The answer to a `CancelRequest`, once all its tasks are cancelled, or told to stop."""

    request: int
    """The number of the request."""
    count: int = 0
    """How many tasks."""
    error: str = ""
    """Why none was cancelled; empty: it was done."""


@record
class JobRequest:
    """Client to scheduler: do something about jobs, or say what is known of them. One `JobReply` answers it."""

    request: int
    """Chosen by the client, and repeated in the answer."""
    action: str
    """"open", "close", "list", "status", "cancel" or "forget"."""
    name: str = ""
    """The job; empty for "list"."""
    keep_seconds: float = 0.0
    """With "open": how long the job is kept after its last change; 0: as long as the scheduler's settings say."""


@record
class JobReply:
    """Scheduler to client: the answer to a `JobRequest`."""

    request: int
    """That of the request."""
    error: str = ""
    """Why nothing was done, for people; empty: it was."""
    kind: str = ""
    """With an error, a stable word for programs, as in "unknown"."""
    json: str = ""
    """A list of what is known of jobs, as `scaler_scheduler.core.jobs.description` writes it."""


@record
class Shutdown:
    """From a client: stop the cluster. To an agent or the object storage server: stop."""

    text: str = ""
    """The reason, for people."""


@record
class Notice:
    """Scheduler to client: something people should know, which is not a result."""

    text: str
    """The notice itself."""
    level: int = 1
    """0: information, 1: warning."""
    numbers: Column = EMPTY
    """The tasks concerned; may be empty."""
    kind: str = ""
    """A stable word for programs, as in "unservable"."""


@record
class Output:
    """What a task printed or logged, in the order in which it did."""

    client: bytes
    """The client that submitted the task."""
    number: int
    """The task's number."""
    stream: int
    """1: stdout, 2: stderr, 3: log records, one JSON object a line (the schema lists its keys)."""
    data: bytes
    """The bytes of this piece."""
    dropped_bytes: int = 0
    """How many bytes were left out because the task's budget is used up."""


@record
class TaskProgress:
    """Agent to scheduler to client: how far a running task says that it is. Only the newest counts, and it may be lost."""

    client: bytes
    """The client that submitted the task."""
    number: int
    """The task's number."""
    done: float
    """How much is done."""
    total: float = -1.0
    """Of how much; -1: the task has not said."""
    note: str = ""
    """What the task says about it, for people."""


@record
class ChunkFailures:
    """Agent to scheduler, for monitors only: items of a map chunk failed. The chunk's own result is a success and
    follows. Or the task itself failed, with more than monitors get: what follows is its failure."""

    client: bytes
    """The client that submitted the chunk."""
    number: int
    """The chunk's task number."""
    attempt: int
    """Its attempt."""
    count: int
    """How many items failed; 0: the task itself."""
    payload: bytes
    """The failure of the first failed item, or the task's: without the exception itself, long texts cut."""


@record
class Relay:
    """Between agent and scheduler: a message of a client that lives inside a task of this agent."""

    client: bytes
    """That client."""
    inner: list[bytes]
    """Frames of the relayed message, its envelope first."""


@record
class ObjectPut:
    """Store an object."""

    request: int
    """Returned in the answer. A repeated request is answered again, and carried out once."""
    id: bytes
    """The object's 16 bytes."""
    owner: bytes
    """The client incarnation with which the object ends."""
    buffers: list[Any]
    """The object's buffers: anything with the buffer protocol. On the wire one frame each."""
    name: str = ""
    """A name for people; may be empty."""
    place: bytes = b""
    """Where the buffers lie in a segment of this host (see `objects.segments`), instead of in frames."""
    incomplete: bool = False
    """Of a put with a place, or one that repeats its id with request 0: only the first `filled` bytes are there by now."""
    filled: int = 0
    """How many bytes from the beginning of the place on are there, where `incomplete`."""


@record
class ObjectPutReply:
    """The answer to `ObjectPut`."""

    request: int
    """The number of the request."""
    status: int = ObjectStatus.DONE
    """An `ObjectStatus`."""
    text: str = ""
    """Why it was refused, in one sentence."""


@record
class ObjectGet:
    """Ask for an object."""

    request: int
    """Returned in the answer."""
    id: bytes
    """The object's 16 bytes."""
    wait_seconds: float = 0.0
    """How long the server may wait for an object that has not arrived yet; 0: answer now."""
    mappable: bool = False
    """Whether the receiver can map a segment, so that `ObjectData.place` is enough."""
    follows_homes: bool = False
    """Whether `ObjectHomes` is an answer for the sender."""
    pieces: bool = False
    """Whether `ObjectLayout` is."""
    size: int = 0
    """Not 0: a piece of so many bytes is asked for, of all buffers one after another."""
    offset: int = 0
    """Where it begins."""
    keeps_at: str = ""
    """Not empty: the sender fetches the object in pieces into the store at this address, and asks from where (`ObjectHomes`)."""


@record
class ObjectData:
    """The answer to `ObjectGet`."""

    request: int
    """The number of the request."""
    id: bytes
    """The object's 16 bytes."""
    buffers: list[Any] = field(default_factory=list)
    """The object's buffers, in the order in which they were put."""
    missing: bool = False
    """Whether there is no such object."""
    place: bytes = b""
    """Where the buffers lie in a segment of this host, instead of in frames."""
    may_come: bool = False
    """With `missing`: whether objects of clients are on their way to the server, and this one may be among them."""
    gone: bool = False
    """With `missing`: whether its client has said that it will not come, so that nobody need wait for it."""


@record
class ObjectDelete:
    """Delete objects. An owner deletes its own; the scheduler may delete for any owner."""

    request: int
    """Returned in the answer; 0: no answer is wanted."""
    owner: bytes
    """Whose objects they are."""
    ids: tuple[bytes, ...]
    """The objects. None, from a scheduler: the owner has ended, and all its objects are deleted."""


@record
class ObjectDeleteReply:
    """The answer to `ObjectDelete`."""

    request: int
    """The number of the request."""
    status: int = ObjectStatus.DONE
    """An `ObjectStatus`."""
    text: str = ""
    """Why it was refused, in one sentence."""


@record
class ObjectBatch:
    """Several requests to object storage, or answers, that left together. See `wire.object_batches`."""

    kind: int
    """A `BatchKind`: which messages the rows are."""
    requests: Column
    """The number of each row's request."""
    ids: tuple[bytes, ...] = ()
    """The object of each row, 16 bytes each. Replies have none."""
    owner: bytes = b""
    """Of puts: the client incarnation with which all these objects end."""
    places: tuple[bytes, ...] = ()
    """Of puts and data: where each object lies; empty where the data have buffers."""
    wait_seconds: float = 0.0
    """Of gets, as in `ObjectGet`."""
    mappable: bool = False
    """Of gets, as in `ObjectGet`."""
    follows_homes: bool = False
    """Of gets, as in `ObjectGet`."""
    pieces: bool = False
    """Of gets, as in `ObjectGet`."""
    buffer_counts: Column = EMPTY
    """Of data without places: how many buffers each object has."""
    contents: Packed = field(default_factory=Packed)
    """Of data without places: the buffers, those of all objects one after another."""


@record
class ObjectsHeld:
    """Agent to object storage: objects are in the store of the agent's host. The answer is an `ObjectPutReply`."""

    request: int
    """Returned in the answer; 0: no answer is wanted."""
    owner: bytes
    """The client incarnation with which the objects end."""
    ids: tuple[bytes, ...]
    """16 bytes each."""
    address: str
    """Where other hosts reach that store."""
    are_copies: bool = False
    """Whether they were fetched from elsewhere: then they are refused if they were deleted meanwhile."""


@record
class ObjectLayout:
    """The answer to an `ObjectGet` that accepts pieces: the object is large, and can be fetched piece by piece."""

    request: int
    """The number of the request."""
    id: bytes
    """The object's 16 bytes."""
    owner: bytes
    """The client incarnation with which it ends."""
    lengths: Any
    """The bytes of each buffer; U64 each."""


@record
class ObjectHomes:
    """The answer to an `ObjectGet` that follows homes, or keeps what it gets: these stores have the object.

    The empty address means the sender of this.
    """

    request: int
    """The number of the request."""
    id: bytes
    """The object's 16 bytes."""
    addresses: tuple[str, ...]
    """At least one."""


@record
class ObjectWanted:
    """Object storage to agent: put this object, which the store of your host has."""

    id: bytes
    """The object's 16 bytes."""


@record
class ObjectsGone:
    """Agent to object storage: the store of this host does not have these objects, or has deleted them as told.

    Client to object storage that is new to it: these objects of mine were stored before, and I have no copy to send again;
    workers have stored the results among them. Scheduler likewise: these results of rows, which others need, were stored before.
    """

    ids: tuple[bytes, ...]
    """16 bytes each."""


@record
class ClientsKnown:
    """Scheduler to object storage, before a hello: all the clients whose end it will tell. It replaces what was said before."""

    clients: tuple[bytes, ...]
    """Their incarnations, 16 bytes each."""
    everybody: bool = False
    """Whether all others are meant too: an agent passes on to the store of its host what another server says of owners."""


@record
class ObjectsLost:
    """Object storage to scheduler: no store has these objects any more, or none that can be reached."""

    host: str
    """The worker host whose store had them last, for people."""
    ids: tuple[bytes, ...]
    """16 bytes each."""


@record
class Counter:
    """A name and how many there are of it."""

    name: str
    """What is counted."""
    count: int
    """How many."""


@record
class Tally:
    """Tasks that have something in common, and how they ended since the scheduler started."""

    name: str
    """What they have in common. "(other)" stands for all that had no place any more."""
    unfinished: int = 0
    """Tasks that are not answered."""
    succeeded: int = 0
    """Tasks that succeeded."""
    failed: int = 0
    """Tasks that failed."""


@record
class WorkerStatus:
    """One worker, as monitors see it."""

    name: str
    """The worker's name."""
    agent: str
    """The name of its agent."""
    hostname: str = ""
    """The name of its machine."""
    pid: int = 0
    """The processor's process id."""
    state: int = 0
    """A `ProcessorState`."""
    agent_cpu_percent: float = 0.0
    """CPU of the agent; 100 is one core."""
    agent_rss_bytes: int = 0
    """Resident memory of the agent."""
    cpu_percent: float = 0.0
    """CPU of the processor; 100 is one core."""
    rss_bytes: int = 0
    """Resident memory of the processor."""
    rss_free_bytes: int = 0
    """Free memory of the machine."""
    free: int = 0
    """How many more tasks it would accept."""
    sent: int = 0
    """Assigned tasks without a result."""
    queued: int = 0
    """How many of these have not started."""
    capabilities: str = ""
    """What it offers, as text."""
    latency_seconds: float = 0.0
    """The last round trip between agent and scheduler."""
    last_seen_seconds: float = 0.0
    """Seconds since the agent's last message."""
    task: int = 0
    """The number of the running task; without meaning where `function` is empty."""
    function: str = ""
    """The name of the running task's function; empty: none runs."""
    task_seconds: float = 0.0
    """How long that task has run."""
    environment: str = ""
    """The names of the worker plugins and uploaded modules there, for people; empty: there are none."""


@record
class AgentStatus:
    """One agent, as monitors see it."""

    name: str
    """The agent's name."""
    hostname: str = ""
    """The name of its machine."""
    pid: int = 0
    """Its process id."""
    workers: int = 0
    """How many workers it has."""
    capacity: int = 0
    """How many tasks it wants to hold now."""
    assigned: int = 0
    """Tasks assigned to it without a result."""
    queued: int = 0
    """How many of these have not started."""
    cpu_percent: float = 0.0
    """CPU of the agent's own process; 100 is one core."""
    rss_bytes: int = 0
    """Resident memory of that process."""
    rss_free_bytes: int = 0
    """Free memory of the machine."""
    latency_seconds: float = 0.0
    """The last round trip to the scheduler."""
    last_seen_seconds: float = 0.0
    """Seconds since its last message."""
    draining: bool = False
    """Whether it gets no more tasks because it is leaving."""
    capabilities: str = ""
    """What its workers offer, as text."""
    functions: tuple[Counter, ...] = ()
    """Assigned tasks by function name."""
    incarnation: bytes = b""
    """The agent's 16 bytes."""
    resources: str = ""
    """What its host offers, as in "cores=8,gpu=2"."""
    resources_used: str = ""
    """What of this its tasks are using."""
    devices: tuple[str, ...] = ()
    """The GPUs of its host."""
    software_version: str = ""
    """Its version of Scaler."""
    python_version: str = ""
    """Its version of Python, as in "3.11"."""
    memory_bytes: int = 0
    """The memory that its host or container has; 0: not known."""
    processor_limit_bytes: int = 0
    """What one of its processors may use of it; 0: there is no limit."""


@record
class ClientStatus:
    """One client, as monitors see it."""

    name: str
    """The client's name."""
    incarnation: bytes
    """The client's 16 bytes."""
    hostname: str = ""
    """The name of its machine."""
    pid: int = 0
    """Its process id."""
    waiting: int = 0
    """Tasks that are not assigned."""
    running: int = 0
    """Tasks that are assigned to agents."""
    finished: int = 0
    """Tasks that succeeded."""
    failed: int = 0
    """Tasks that failed."""
    last_seen_seconds: float = 0.0
    """Seconds since its last message."""
    nested: bool = False
    """Whether it lives inside a task."""
    graphs: int = 0
    """Its unfinished graphs."""
    object_count: int = 0
    """Objects it owns."""
    object_bytes: int = 0
    """Bytes of these, each object in full."""
    connected_seconds: float = 0.0
    """Seconds since it connected."""
    failed_items: int = 0
    """Failed items of its map chunks."""
    parent: bytes = b""
    """Nested: the client for which it works; empty: not known."""
    parent_name: str = ""
    """Nested: the name of that client."""
    group: str = ""
    """The group whose share its tasks count against; empty: the scheduler has no groups."""
    user: str = ""
    """Who runs it, as its system names them; empty: not known."""
    used_seconds: float = 0.0
    """What its tasks have taken of workers, in core seconds, those included that run now: since a monitor began to listen to
    task events. What clients inside its tasks used is among it when they have left."""
    busy_workers: int = 0
    """Workers that run its tasks now."""
    waiting_for_tasks: int = 0
    """Of `waiting`, those that wait for the results of others: rows of graphs, and calls with futures as arguments."""


@record
class StoredObjectStatus:
    """One object in storage, as monitors see it."""

    id: bytes
    """The object's 16 bytes; to monitors the first 4 of them, because whoever has all can read the object."""
    owner: bytes
    """The client that it belongs to."""
    name: str = ""
    """What `send_object` was given, for people."""
    size_bytes: int = 0
    """Bytes of its buffers."""
    age_seconds: float = 0.0
    """Seconds since this server has it."""
    place: str = ""
    """Where its bytes are: memory, shared memory, or disk."""
    readers_waiting: int = 0
    """Requests that wait until it is read from the disk."""
    tasks: int = -1
    """Unfinished tasks of its owner that name it; -1: the owner has too many tasks to count."""
    homes: tuple[str, ...] = ()
    """Hosts whose own stores have it too."""


@record
class GraphStatus:
    """One unfinished graph, as monitors see it."""

    client: bytes
    """The client that submitted it."""
    first_number: int
    """The task number of its row 0."""
    rows: int = 0
    """How many rows it has."""
    waiting: int = 0
    """Rows that wait for other rows."""
    released: int = 0
    """Rows that are queued or assigned."""
    done: int = 0
    """Rows that succeeded."""
    failed: int = 0
    """Rows that failed."""
    held_results: int = 0
    """Results in memory that other rows will read."""
    began_seconds: float = 0.0
    """Unix time at which all of it was here; 0: not known."""
    ended_seconds: float = 0.0
    """Unix time at which its last row ended and was read; 0: it has not ended."""


@record
class AdapterStatus:
    """One worker adapter, as the scaling policy sees it."""

    url: str
    """Where its webhook is."""
    state: str = ""
    """One word: "ok", "unreachable" and the like."""
    groups: int = 0
    """Worker groups that exist."""
    groups_max: int = -1
    """How many groups it can have; -1: no limit."""
    workers_per_group: int = 0
    """Workers in each group."""
    requested_groups: int = 0
    """How many groups the scaling policy wants now."""
    starting_groups: int = 0
    """Groups that were requested and do not exist yet."""
    capabilities: str = ""
    """What its workers offer, as text."""
    text: str = ""
    """Its last error, for people; empty: none."""


@record
class ScalingEvent:
    """One thing that happened while workers were started or stopped, as monitors see it."""

    number: int
    """Counts the scheduler's events, from 1."""
    time_seconds: float
    """Unix time."""
    kind: str
    """"requested", "connected", "refused", "leaving", "ended" or "failed"."""
    adapter: str = ""
    """The webhook of the worker adapter."""
    groups: int = 0
    """How many worker groups it was about."""
    reason: str = ""
    """Why, for people."""


@record
class GroupStatus:
    """One group of clients that share the cluster with others, as monitors see it."""

    name: str
    """The group's name."""
    weight: float = 1.0
    """Its share is this, of the sum of the weights of all groups with waiting tasks."""
    clients: int = 0
    """Its connected clients, those inside its tasks included."""
    waiting: int = 0
    """Tasks that are not assigned."""
    running: int = 0
    """Tasks that are assigned to agents."""
    used_seconds: float = 0.0
    """Core seconds of its tasks that have ended since the scheduler started."""
    max_running: int = 0
    """Most tasks that may run at once; 0: no limit."""
    max_waiting: int = 0
    """Most tasks that may wait; 0: no limit."""
    refused: int = 0
    """Tasks refused because of `max_waiting`, since the scheduler started."""


@record
class ProgressStatus:
    """How far a running task says that it is, as monitors see it."""

    client: bytes
    """The client that submitted it."""
    number: int
    """The task's number."""
    done: float = 0.0
    """How much is done."""
    total: float = -1.0
    """Of how much; -1: the task has not said."""
    note: str = ""
    """What the task says about it."""
    age_seconds: float = 0.0
    """Seconds since it said so."""
    function: str = ""
    """The name of its function."""
    agent: str = ""
    """The name of the agent that has it."""


@record
class JobStatus:
    """One job, as monitors see it."""

    name: str
    """The job's name."""
    owner: str = ""
    """The name of the client that made it."""
    client: bytes = b""
    """The 16 bytes under which its tasks are shown."""
    waiting: int = 0
    """Tasks that wait for a worker."""
    running: int = 0
    """Tasks that are assigned to agents."""
    done: int = 0
    """Tasks with a result."""
    failed: int = 0
    """Tasks that failed."""
    canceled: int = 0
    """Tasks that were cancelled."""
    lost: int = 0
    """Tasks whose result is lost."""
    size_bytes: int = 0
    """Arguments and results that the scheduler keeps for it."""
    closed: bool = False
    """Whether it takes no other tasks any more."""
    started_seconds: float = 0.0
    """Unix time at which it was made."""
    expires_seconds: float = -1.0
    """Unix time at which it is forgotten; -1: not before its tasks have ended."""
    notice: str = ""
    """Why tasks of it cannot run, for people; empty: nothing is known."""


@record
class ResourceWait:
    """Ready tasks that ask for the same amounts of counted resources, which are not free."""

    resources: str
    """What each of them asks for, as in `licence=1,mem=8GiB`."""
    count: int = 0
    """How many they are."""
    offered: bool = False
    """Whether a connected host has as much, and other tasks use it. False: no host has."""


@record
class MonitorSnapshot:
    """Figures of the whole cluster, published about once a second while a monitor subscribes."""

    sequence: int
    """Counts snapshots: a gap means that messages were lost."""
    time_seconds: float
    """Unix time."""
    incarnation: bytes
    """The scheduler's 16 bytes."""
    cpu_percent: float = 0.0
    """CPU of the scheduler; 100 is one core."""
    rss_bytes: int = 0
    """Resident memory of the scheduler."""
    task_states: tuple[Counter, ...] = ()
    """Tasks by state: unassigned, running, success, failed, canceled."""
    sent: tuple[Counter, ...] = ()
    """Messages sent since the scheduler started, by kind."""
    received: tuple[Counter, ...] = ()
    """Messages received since the scheduler started, by kind."""
    workers: tuple[WorkerStatus, ...] = ()
    """Connected workers."""
    clients: tuple[ClientStatus, ...] = ()
    """Connected clients."""
    functions: tuple[Counter, ...] = ()
    """Unfinished tasks by function name."""
    object_count: int = 0
    """Objects in object storage."""
    object_bytes: int = 0
    """Bytes they use."""
    object_limit_bytes: int = 0
    """The memory limit of object storage; 0: not known."""
    agents: tuple[AgentStatus, ...] = ()
    """Connected agents."""
    graphs: tuple[GraphStatus, ...] = ()
    """Unfinished graphs, at most 1,000."""
    adapters: tuple[AdapterStatus, ...] = ()
    """Worker adapters."""
    started_seconds: float = 0.0
    """Unix time at which the scheduler started."""
    stale_results: int = 0
    """Results dropped because the task was answered, cancelled or assigned elsewhere."""
    scaling_strategy: str = ""
    """The scaling strategy; empty: none."""
    events_omitted: int = 0
    """Task events left out of the stream of events since the scheduler started."""
    failed_functions: tuple[Counter, ...] = ()
    """Failed tasks by function name."""
    failed_items: int = 0
    """Failed items of map chunks since the scheduler started. Their tasks count as successes."""
    objects: tuple[StoredObjectStatus, ...] = ()
    """The largest objects in storage, at most 100, with their owner's unfinished tasks that name them."""
    client_names: tuple[Tally, ...] = ()
    """Tasks by the name that was given to their client; the empty name: none was."""
    labels: tuple[Tally, ...] = ()
    """Tasks by label."""
    groups: tuple[GroupStatus, ...] = ()
    """Groups of clients with shares; empty: the scheduler has none."""
    standby: bool = False
    """Whether the scheduler is the standby of another one, and accepts no peers."""
    progress: tuple[ProgressStatus, ...] = ()
    """Running tasks that have said how far they are, at most 1,000: those that spoke last."""
    jobs: tuple[JobStatus, ...] = ()
    """Jobs, at most 1,000: those that changed last."""
    job_count: int = 0
    """How many jobs there are."""
    scheduler_address: str = ""
    """Where clients connect to the scheduler; a wildcard stands for the host of the monitor address."""
    protected: bool = False
    """Whether nobody may cancel tasks of others, or shut the cluster down."""
    scaling_events: tuple[ScalingEvent, ...] = ()
    """What happened while workers were started or stopped, at most the last 100."""
    ended_graphs: tuple[GraphStatus, ...] = ()
    """The graphs that ended last, at most 50, the newest last. Those of clients that left before are not in it."""
    resource_waits: tuple[ResourceWait, ...] = ()
    """Ready tasks that wait for counted resources rather than for a worker, at most 100 kinds of them: the most tasks first."""


@record
class MonitorEvents:
    """Changes of tasks, one per row. When there are too many, tasks whose number is not a multiple of `stride` are
    left out."""

    sequence: int
    """Counts these messages: a gap means that messages were lost."""
    time_seconds: Any
    """One per row: Unix time at the scheduler."""
    clients: Column
    """One per row: its place in `client_table`."""
    client_table: tuple[bytes, ...]
    """Client incarnations."""
    numbers: Column
    """One per row: the task's number."""
    states: Column
    """One per row: a `TaskEvent`."""
    workers: Column
    """One per row: its place in `worker_table`, or `NO_WORKER`."""
    worker_table: tuple[str, ...]
    """Names of agents."""
    functions: Column
    """One per row: its place in `function_table`."""
    function_table: tuple[str, ...]
    """Names of functions."""
    durations: Column
    """One per row: microseconds that a finished task ran. Of a returned one that failed by itself and runs again, how long it
    waits before that, 1 at least; of others 0."""
    dropped: int = 0
    """Events left out since the last message."""
    slots: Column = EMPTY
    """One per row: which worker of the agent ran the task, or `NO_SLOT`."""
    stride: int = 1
    """1: no task is left out."""
    incarnation: bytes = b""
    """The scheduler's 16 bytes."""
    capabilities: Column = EMPTY
    """One per row: its place in `capability_table`."""
    capability_table: tuple[str, ...] = ()
    """What tasks ask for, as in "gpu,linux"; may contain the empty text."""
    notes: Column = EMPTY
    """One per row: its place in `label_table` and `tag_table`; empty where no row has a label or tags."""
    label_table: tuple[str, ...] = ()
    """Labels; may contain the empty text."""
    tag_table: tuple[str, ...] = ()
    """Tags, as in "desk=rates,run=17"; may contain the empty text."""
    resources: Column = EMPTY
    """One per row: its place in `resource_table`; empty where no submitted task asks for counted resources."""
    resource_table: tuple[str, ...] = ()
    """What submitted tasks ask for, as in "licence=1,mem=8GiB"; may contain the empty text, which other events have."""
    read_times: Column = EMPTY
    """One per row: microseconds before the task, see `ResultBatch`; empty where no row has any."""
    write_times: Column = EMPTY
    """One per row: microseconds after the task, see `ResultBatch`; empty where no row has any."""


@record
class MonitorFailures:
    """Failed tasks, one per row, with what their client received. The last ones are sent again whenever a monitor
    connects."""

    incarnation: bytes
    """The scheduler's 16 bytes."""
    first_number: int
    """The number of row 0. Failures are numbered from 1."""
    time_seconds: Any
    """One per row: Unix time."""
    clients: tuple[bytes, ...]
    """One per row: the client's incarnation."""
    numbers: Column
    """One per row: the task's number."""
    attempts: Column
    """One per row: the attempt that failed."""
    statuses: Column
    """One per row: a `Status`."""
    functions: tuple[str, ...]
    """One per row: the function's name."""
    workers: tuple[str, ...]
    """One per row: the agent's name."""
    durations: Column
    """One per row: microseconds that the task ran."""
    payloads: Packed
    """One per row: the failure; empty where it was too large to keep."""
    items: Column = EMPTY
    """One per row: 0 if the task failed; otherwise it is a map chunk, and this many of its items failed."""
    labels: tuple[str, ...] = ()
    """One per row: the task's label; empty where no row has any."""
    tags: tuple[str, ...] = ()
    """One per row: the task's tags, as text; empty where no row has any."""


@record
class MonitorLog:
    """Lines that the scheduler logged. The last ones are sent again whenever a monitor connects."""

    incarnation: bytes
    """The scheduler's 16 bytes."""
    first_number: int
    """The number of row 0. Lines are numbered from 1."""
    time_seconds: Any
    """One per row: Unix time."""
    levels: Column
    """One per row: the level, as in Python's logging (10 debug … 50 critical)."""
    texts: tuple[str, ...]
    """One per row: the line."""


@record
class MonitorDump:
    """The scheduler's tables at one moment, for people and programs that look into a problem."""

    time_seconds: float
    """Unix time."""
    json: str
    """The tables as a JSON object."""


@record
class OutputRequest:
    """Scheduler to agent, because a monitor asks: what was kept of a task's output, or of the agent's own log?"""

    request: int
    """Returned in the answer."""
    number: int = 0
    """The task's number; 0: the log of the agent itself."""
    client: bytes = b""
    """The client that submitted the task; empty: tasks of any client with this number."""


@record
class OutputReply:
    """Agent to scheduler: the answer to `OutputRequest`."""

    request: int
    """The number of the request."""
    data: bytes
    """A JSON object, see `scaler_protocol.monitoring.kept_output`; empty: there is nothing of it here."""


@record
class MonitorOutput:
    """To monitors that have subscribed to it: what agents have kept of a task's output, or the log of one of them."""

    time_seconds: float
    """Unix time."""
    number: int
    """The task's number; 0: this is the log of an agent."""
    subject: bytes
    """The client that submitted the task (16 zero bytes: any client), or the agent whose log this is."""
    agents: tuple[str, ...]
    """Names of the agents that had some of it, one per row."""
    payloads: Packed
    """One per row: what the agent said, a JSON object."""
    asked: int = 0
    """How many agents were asked."""
    silent: tuple[str, ...] = ()
    """Names of agents that did not answer in time; at most sixteen."""
    omitted: int = 0
    """How many answers were left out because all together were too large."""


@record
class MonitorGraph:
    """The rows of one graph that has not ended, for monitors that draw it: the first ones, if it has too many."""

    time_seconds: float
    """Unix time."""
    incarnation: bytes
    """The scheduler's."""
    client: bytes
    """The client that submitted it."""
    first_number: int
    """The task number of its row 0."""
    row_count: int
    """How many rows it has; the columns may have fewer."""
    states: Column
    """One per row: 0 waiting for other rows, 1 queued or assigned, 2 done, 3 failed or cancelled."""
    functions: Column
    """One per row: its index in `function_table`."""
    dependency_ends: Column
    """One per row: where its part of `dependencies` ends."""
    dependencies: Column
    """Rows that each row needs, one row's after the other's. They may be rows that are not in the columns."""
    function_table: tuple[str, ...] = ()
    """Names of functions."""


@record
class StoreStatusRequest:
    """Scheduler to object storage: how much is stored?"""

    request: int
    """Returned in the answer."""


@record
class StoreStatus:
    """The answer to `StoreStatusRequest`."""

    request: int
    """The number of the request."""
    object_count: int = 0
    """How many objects there are."""
    used_bytes: int = 0
    """Memory they use; identical contents count once."""
    limit_bytes: int = 0
    """The memory limit."""
    owners: tuple[bytes, ...] = ()
    """Client incarnations that own objects."""
    owner_objects: Column = EMPTY
    """One per owner: how many objects."""
    owner_bytes: Column = EMPTY
    """One per owner: bytes of these, each object in full."""
    objects: tuple[StoredObjectStatus, ...] = ()
    """The largest ones, at most 100; where there are very many, of the oldest."""


class ObjectOrder(IntEnum):
    """By what objects are listed."""

    SIZE = 0
    """Bytes of its buffers."""
    AGE = 1
    """How long it is there."""
    NAME = 2
    """Its name for people, in any case."""
    OWNER = 3
    """The owner's id: so those of one owner stand together."""
    PLACE = 4
    """Where its bytes are, in words."""
    READERS = 5
    """How many requests wait until it is read from the disk."""
    HOMES = 6
    """How many hosts have it too."""


@record
class ObjectListRequest:
    """Scheduler to object storage: which objects are there? One `ObjectList` answers it."""

    request: int
    """Returned in the answer."""
    offset: int = 0
    """How many objects of that order are left out."""
    order: int = 0
    """An `ObjectOrder`; one that is not known stands for `SIZE`."""
    descending: bool = False
    """Whether the largest, oldest or last comes first."""
    owner: bytes = b""
    """Only objects of this client; empty: of any."""
    words: str = ""
    """Only objects whose names have all these words, in any case."""


@record
class ObjectList:
    """The answer to `ObjectListRequest`; and what monitors get of it, who have subscribed to it."""

    request: int
    """The number of the request."""
    offset: int = 0
    """How many objects come before these."""
    matching: int = 0
    """How many objects of those that were looked at are asked for."""
    looked_at: int = 0
    """Where there are very many objects, only the oldest are looked at."""
    objects: tuple[StoredObjectStatus, ...] = ()
    """At most 100."""


@record
class Drain:
    """Agent to scheduler: send no more tasks, I am about to leave. Scheduler to agent: finish what you have and leave."""


@record
class ProfileRequest:
    """Scheduler to agent: sample what processors run. Each request replaces the one before."""

    seconds: float
    """For how long from now; 0: no longer."""
    rate: int = 0
    """Samples a second."""
    nodes: int = 0
    """About how many nodes each answer may have."""


@record
class ProfileSamples:
    """Agent to scheduler: calls that its processors were in since the last of these, about once a second. Columns as in
    `monitoring.profile_tree.CallTable`; the name of a root is the id of a task's function in hexadecimal digits."""

    processors: int = 0
    """How many have reported."""
    samples: int = 0
    """How many samples this is made of."""
    cost_microseconds: int = 0
    """Processor time that sampling took."""
    parents: Column = EMPTY
    """One per node."""
    names: Column = EMPTY
    """One per node."""
    files: Column = EMPTY
    """One per node."""
    lines: Column = EMPTY
    """One per node."""
    microseconds: Column = EMPTY
    """One per node."""
    texts: tuple[str, ...] = ()
    """What `names` and `files` refer to."""


@record
class MonitorProfile:
    """What workers have run since a profile began. Columns as in `monitoring.profile_tree.CallTable`; the name of a root is
    that of a task's function."""

    token: int
    """This, `rate` and `seconds` as in the topic."""
    rate: int
    """Samples a second."""
    seconds: int
    """How long it takes."""
    elapsed_seconds: float = 0.0
    """How long it has taken so far."""
    done: bool = False
    """Whether nothing is added any more."""
    agents: int = 0
    """How many agents were asked."""
    answered: int = 0
    """How many of these have sent samples, or that there are none."""
    processors: int = 0
    """The largest number of processors that have reported within a second."""
    samples: int = 0
    """How many samples this is made of."""
    cost_microseconds: int = 0
    """Processor time that sampling took on all workers."""
    parents: Column = EMPTY
    """One per node."""
    names: Column = EMPTY
    """One per node."""
    files: Column = EMPTY
    """One per node."""
    lines: Column = EMPTY
    """One per node."""
    microseconds: Column = EMPTY
    """One per node."""
    texts: tuple[str, ...] = ()
    """What `names` and `files` refer to."""


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
    | GrantsHeld
    | GrantsFreed
    | GraphSubmit
    | ClientGone
    | CreditRequest
    | CreditGrant
    | WorkerListRequest
    | WorkerList
    | JobRequest
    | JobReply
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
    | ObjectsHeld
    | ObjectHomes
    | ObjectLayout
    | ObjectWanted
    | ObjectsGone
    | ClientsKnown
    | ObjectsLost
    | ObjectBatch
    | MonitorSnapshot
    | MonitorEvents
    | MonitorFailures
    | MonitorLog
    | MonitorDump
    | StoreStatusRequest
    | StoreStatus
    | ObjectListRequest
    | ObjectList
    | Drain
    | SchedulerStatus
    | LockRequest
    | LockRelease
    | LockAnswer
    | TaskProgress
    | OutputRequest
    | OutputReply
    | MonitorOutput
    | CancelRequest
    | CancelReply
    | ProfileRequest
    | ProfileSamples
    | MonitorProfile
    | MonitorGraph
)
