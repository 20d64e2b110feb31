"""What a `ClientCore` asks its owner to do. Values without behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from scaler_protocol.runtime.values import record, value
from scaler_protocol.session import Outgoing
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import NOTHING_REPORTED, Reported
from scaler_protocol.wire.envelope import Frame

Send = Outgoing
"""(envelope, message): send this to the scheduler, in this order."""

Payload = bytes | Sequence[Frame]
"""An answer: payload bytes as in `scaler_protocol.payloads.framing`, or the buffers of the object it was stored as."""


@record
class Completed:
    """Tasks were answered. All sequences have one element per task."""

    numbers: list[int]
    tokens: list[object]
    """What was given to `submit` for each task."""
    payloads: Sequence[Payload]
    reported: Reported = NOTHING_REPORTED
    """What their processors say of them, columns as in `ResultBatch`: where all succeeded, the statuses are empty."""


class Cause(Enum):
    """Why tasks end without an answer."""

    DISCONNECTED = "disconnected"
    REFUSED = "refused"
    CLEARED = "cleared"
    CLOSED = "closed"
    SHUT_DOWN = "shut down"


@record
class Abandoned:
    """These tasks will never be answered."""

    numbers: list[int]
    tokens: list[object]
    cause: Cause
    text: str


@value
class CancelConfirmed:
    """These cancelled tasks do not run any more, or will never start."""

    numbers: tuple[int, ...]


@value
class Connected:
    """A session stands."""

    welcome: m.Welcome
    resumed: bool


@value
class Unusable:
    """From now on `submit` raises; pending tasks were abandoned. `final`: the core will not recover."""

    cause: Cause
    text: str
    final: bool


@value
class CreditArrived:
    """Whoever waits to submit may look again."""


@value
class FetchObject:
    """Get this object, which is the answer of a task; then tell `ObjectFetched` or `ObjectFetchFailed`."""

    number: int
    object_id: bytes
    token: object = None
    """The task's, where the object is its value: who needs it later may leave it where it is, see `ClientCore.leave`."""


@value
class DeleteObjects:
    """Nobody needs these objects of ours any more."""

    object_ids: tuple[bytes, ...]


@value
class WriteOutput:
    """A task printed or logged: stream 1 is stdout, 2 stderr, 3 log records. `dropped_bytes` were left out before it."""

    number: int
    stream: int
    data: bytes
    dropped_bytes: int


@value
class ShowNotice:
    """Something people should know. Level 0 information, 1 warning."""

    level: int
    text: str
    kind: str


@value
class WorkersListed:
    """The answer to `ClientCore.ask_workers`."""

    token: object
    workers: m.WorkerList


@value
class MoveLink:
    """The scheduler is sought at another address: what follows is sent there."""

    address: str


@value
class JobAnswered:
    """The answer to `ClientCore.ask_job`."""

    token: object
    reply: m.JobReply


@value
class LeaseChanged:
    """What has become of a lock that was asked for with `Leases.acquire`."""

    token: object
    state: m.LockState
    text: str


@value
class Progressed:
    """A running task says how far it is; -1 as `total` where it does not know. The token is that of its `submit`."""

    token: object
    done: float
    total: float
    note: str


Effect = (
    Send
    | MoveLink
    | Completed
    | Abandoned
    | CancelConfirmed
    | Connected
    | Unusable
    | CreditArrived
    | FetchObject
    | DeleteObjects
    | WriteOutput
    | ShowNotice
    | WorkersListed
    | JobAnswered
    | LeaseChanged
    | Progressed
)
