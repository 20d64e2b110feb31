"""What an agent wants done. The shell (or a simulation) performs these in order; `Stop` is the last one ever."""

from __future__ import annotations

from scaler_protocol.runtime.values import value
from scaler_protocol.session import Outgoing
from scaler_protocol.wire import messages as m
from scaler_worker.core.slices import TaskSlice

Send = Outgoing
"""A message to the scheduler, in the envelope the session gave it."""


@value
class StartProcessor:
    """Start a processor for the worker in `slot`. Answered by `ProcessorReady` or `ProcessorExited`."""

    processor: int
    slot: int


@value
class SendTasks:
    """Hand the rows of `tasks` to a processor. The slice is this effect's own and does not change later.

    `first_index` is the index of the first row. `functions` are those it has not had yet, as (id, body); `forgotten` the
    ones it need not keep any longer.
    """

    processor: int
    generation: int
    first_index: int
    tasks: TaskSlice
    functions: tuple[tuple[bytes, bytes], ...] = ()
    forgotten: tuple[bytes, ...] = ()
    devices: tuple[str, ...] = ()
    """The GPUs of these tasks, if they ask for some."""


@value
class EndEnvironment:
    """A client has left: have a processor tear down the client's worker plugins, when it runs nothing."""

    processor: int
    client: bytes


@value
class CancelTask:
    """End the task of this index, or skip it where it has not begun, and answer it with `status` and `text`."""

    processor: int
    index: int
    status: int
    text: str = ""


@value
class TakeBack:
    """Drop all tasks not started and answer with `ProcessorGaveBack`."""

    processor: int


@value
class KillProcessor:
    """At once, with everything it started. `ProcessorExited` follows."""

    processor: int


@value
class StopProcessor:
    """An idle processor should end. `ProcessorExited` follows."""

    processor: int


@value
class DeliverRelay:
    """One message (envelope first) for a client inside this processor."""

    processor: int
    client: bytes
    frames: list[bytes]


@value
class RefuseClient:
    """Tell a client inside a processor that it can do no more, because the scheduler does not let this agent in."""

    processor: int
    client: bytes
    reason: str


@value
class UseStorage:
    """The object storage server is here (empty: there is none)."""

    address: str


@value
class FetchObject:
    """Get an object into the host's cache, and wait for it if it is still on its way. `ObjectFetched` follows.

    Unless `whole` is set, the cache may hold only where the object lies on this host. Without `waits`, it was waited for before:
    what is not there now is missing.
    """

    request: int
    id: bytes
    whole: bool = False
    waits: bool = True


@value
class PutObject:
    """Store an object of the host's cache, owned by a client. `ObjectStored` follows."""

    request: int
    id: bytes
    owner: bytes


@value
class AnswerObject:
    """The object a processor waits for is in the cache, or, with `status`, cannot be had for the reason in `text`."""

    processor: int
    id: bytes
    status: int = m.Status.SUCCESS
    text: str = ""


@value
class DropObject:
    """Remove an object from the host's cache. Processors that have it mapped keep it."""

    id: bytes


@value
class MeasureMemory:
    """Find out how much memory tasks have taken: processors with the indexes of their tasks. `MemoryMeasured` follows."""

    tasks: tuple[tuple[int, int], ...]


@value
class Log:
    """A line for people. `level` as in `logging`: 20 info, 30 warning, 40 error."""

    level: int
    text: str


@value
class ReadOutput:
    """Look up what is kept of a task's output, or of the agent's log (number 0). `OutputRead` follows."""

    request: int
    number: int
    client: bytes


@value
class MoveLink:
    """The scheduler is sought at another address: what follows is sent there."""

    address: str


@value
class SampleProcessors:
    """All processors, also those that are started meanwhile, should sample what their tasks run, for so long from now. With 0
    seconds they should do so no longer. `ProcessorSamples` follow, about one a second of each."""

    seconds: float
    rate: int


@value
class Stop:
    """The agent is done; end all processors and leave with this exit status."""

    reason: str
    status: int = 0


Effect = (
    Send
    | StartProcessor
    | SendTasks
    | EndEnvironment
    | CancelTask
    | TakeBack
    | KillProcessor
    | StopProcessor
    | DeliverRelay
    | RefuseClient
    | UseStorage
    | FetchObject
    | PutObject
    | AnswerObject
    | DropObject
    | MeasureMemory
    | Log
    | MoveLink
    | Stop
    | ReadOutput
    | SampleProcessors
)
