"""What can happen to an agent. The shell (or a simulation) makes these and passes them to `AgentCore.handle`.

Processors are known by a number the core chose in `effects.StartProcessor`. Tasks handed to a processor are numbered 0, 1, …
in the order of handing over, for that processor: their *index*. A processor runs and answers them in this order.
"""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from scaler_protocol.monitoring.profile_tree import CallTable
from scaler_protocol.runtime.values import value
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.columns import EMPTY, Column
from scaler_protocol.wire.envelope import Envelope, Frame


@value
class Start:
    """The agent begins, and says hello to the scheduler. This is the first event."""


@value
class Tick:
    """Time has passed: `next_deadline` is reached."""


class Incoming(NamedTuple):
    """A message from the scheduler, decoded."""

    envelope: Envelope
    message: m.Message


@value
class ProcessorReady:
    """A started processor takes tasks now; its preload, if any, is done."""

    processor: int
    pid: int


@value
class ProcessorResults:
    """The next `count` tasks of this processor have ended. Columns as in `ResultBatch`.

    `objects` are results the processor has put into the host's object cache, `object_sizes` their bytes: they are
    uploaded before their tasks are answered.
    """

    processor: int
    first_index: int
    count: int
    payload_lengths: Column
    payloads: bytes | memoryview
    reported: Reported
    object_positions: Column = EMPTY
    objects: tuple[bytes, ...] = ()
    object_sizes: Column = EMPTY


@value
class ProcessorBlocked:
    """The running task waits for a task of its own.

    The processor has dropped every task from `next_index` on (the first one not started), and drops what is still under
    way to it: it takes only what is sent with this `generation`, which it has just raised by one.
    """

    processor: int
    generation: int
    next_index: int


@value
class ProcessorTeardown:
    """A processor has begun, or ended, to tear down the plugins of clients that have left; it runs no task meanwhile."""

    processor: int
    begins: bool


@value
class ProcessorEnvironment:
    """The worker plugins and uploaded modules in a processor are others now; `text` names them, for people."""

    processor: int
    text: str


@value
class ProcessorSamples:
    """What a processor has sampled of its tasks since the last of these. The names of roots are the ids of functions, in
    hexadecimal digits. `cost_microseconds` is the processor time that its sampler has used so far."""

    processor: int
    samples: int
    cost_microseconds: int
    calls: CallTable


@value
class ProcessorUnblocked:
    """The blocked task goes on. `unfinished`: clients inside still have unanswered tasks."""

    processor: int
    unfinished: bool = False


@value
class ProcessorUnfinished:
    """Clients inside this processor have unanswered tasks, or have none any more."""

    processor: int
    unfinished: bool


@value
class ProcessorGaveBack:
    """Answer to `effects.TakeBack`: fields as in `ProcessorBlocked`."""

    processor: int
    generation: int
    next_index: int


@value
class ProcessorExited:
    """A processor has ended, for whatever reason; nothing more comes from it.

    `begun_index` is the last task it began (None: it began none), whether that has been answered or not. So an end while it
    describes, pickles or sends what became of a task counts as one inside the task. `reason` says pid, exit code or signal,
    memory and last lines of stderr, as part of a sentence. `fatal` means that another one would end the same way (a
    preload that fails): the agent stops. `retired` means that it ended by itself after it had answered, because a task left
    the process in a state that no other task should run in. `exceeded`: the task took more than one task may, so that it would
    end the same way again.
    """

    processor: int
    begun_index: int | None
    reason: str
    fatal: bool = False
    retired: bool = False
    exceeded: bool = False


@value
class ProcessorFaulty:
    """A processor does what none should, such as writing records nobody can read. `fault` is the end of a sentence."""

    processor: int
    fault: str


@value
class ProcessorOutput:
    """The task of this index wrote something. `stream` is 1 for stdout, 2 for stderr, 3 for log records."""

    processor: int
    index: int
    stream: int
    data: bytes
    dropped_bytes: int = 0


@value
class ProcessorProgress:
    """The task of this index says how far it is; -1 as `total` where it does not know."""

    processor: int
    index: int
    done: float
    total: float
    note: str


@value
class ChunkFailures:
    """`count` items of the map chunk of this index failed, the first with `payload`; the chunk's result follows.

    With a `count` of 0 the task itself failed, and `payload` is the short form of its failure.
    """

    processor: int
    index: int
    count: int
    payload: bytes


@value
class RelayOpened:
    """A client was made inside this processor."""

    processor: int
    client: bytes


@value
class RelayFrames:
    """A client inside this processor sends one message (envelope first).

    `unfinished`: clients inside have unanswered tasks from now on, as in `ProcessorUnfinished`.
    """

    processor: int
    client: bytes
    frames: list[Frame]
    unfinished: bool = False


@value
class RelayClosed:
    """A client inside this processor has ended."""

    processor: int
    client: bytes


@value
class ObjectWanted:
    """The running task of this processor waits for an object.

    `place_gone`: the cache says where it lies on this host, and there it cannot be opened (any more).
    """

    processor: int
    id: bytes
    place_gone: bool = False


@value
class ObjectFetched:
    """Answer to `effects.FetchObject`. Unless `missing` or `error` is set, the object is in the host's cache now.

    With both, the object is lost, and `error` says with whom.
    """

    request: int
    size_bytes: int = 0
    missing: bool = False
    error: str = ""


@value
class ObjectStored:
    """Answer to `effects.PutObject`. Unless `error` is set, the object is in storage.

    `lost`: nothing is wrong with storage, but the processor that held the object in its memory has it no more: it has died.
    """

    request: int
    error: str = ""
    lost: bool = False


@value
class ProcessorFigures:
    """What one processor uses. CPU in percent of one core, memory in bytes."""

    cpu_percent: float
    rss_bytes: int


@value
class Figures:
    """What the host and the processes use; goes into the next heartbeat."""

    cpu_percent: float = 0.0
    rss_bytes: int = 0
    rss_free_bytes: int = 0
    processors: dict[int, ProcessorFigures] = field(default_factory=dict)


@value
class MemoryMeasured:
    """How much memory tasks have taken that were asked about: by processor, the index of its task and the bytes."""

    used: dict[int, tuple[int, int]]


@value
class LinkRefused:
    """The scheduler does not let a connection of this agent in, after it had let in others. Reported each time."""

    reason: str


@value
class StopRequested:
    """Somebody on this host asks the agent to end: running tasks get `grace_seconds` to finish."""

    reason: str
    grace_seconds: float


@value
class OutputRead:
    """Answer to `effects.ReadOutput`: what the monitor that asked is to get."""

    request: int
    data: bytes


Event = (
    Start
    | Tick
    | Incoming
    | ProcessorReady
    | ProcessorResults
    | ProcessorBlocked
    | ProcessorTeardown
    | ProcessorEnvironment
    | ProcessorUnblocked
    | ProcessorUnfinished
    | ProcessorGaveBack
    | ProcessorExited
    | ProcessorFaulty
    | ProcessorOutput
    | ChunkFailures
    | RelayOpened
    | RelayFrames
    | RelayClosed
    | ObjectWanted
    | ObjectFetched
    | ObjectStored
    | Figures
    | MemoryMeasured
    | LinkRefused
    | StopRequested
    | ProcessorProgress
    | OutputRead
    | ProcessorSamples
)
