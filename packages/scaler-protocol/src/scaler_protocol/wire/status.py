"""How tasks end. This is a separate module because its source travels to hosts where no package of ours is installed: see
`scaler_protocol.payloads.execution`."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How a task ended. The payload of a success is the result, that of FAILED the exception; all others have one
    UTF-8 sentence."""

    SUCCESS = 0
    """The function returned."""
    FAILED = 1
    """The function raised."""
    CANCELED = 2
    """The client cancelled the task."""
    PROCESSOR_DIED = 3
    """The processor that ran the task died."""
    TIMED_OUT = 4
    """The task ran longer than its time limit."""
    WORKER_DIED = 5
    """The agent that held the task was lost."""
    NO_WORKER = 6
    """No worker could run the task in time."""
    MISSING_OBJECT = 7
    """An object that the task needs does not exist."""
    NOT_RUN = 8
    """The task was refused before it ran."""
    STORAGE_FAILED = 9
    """Object storage refused the result, or did not answer."""
    SKIPPED = 10
    """To the scheduler only: a link of a chain whose predecessor has no result. It did not run."""
    LIMIT_EXCEEDED = 11
    """The task used up what one task may take on its worker's host, and was ended. Another attempt would end the same way."""
    UNREADABLE = 12
    """To the client only: who should run the task cannot read its payload where that lies (PLACED in
    `scaler_protocol.payloads.framing`). It did not run, and its client sends it again with the payload in the message."""
    RETRY = 13
    """To the scheduler: the function raised, and its options ask for another attempt after such an exception. The payload is
    what the client gets if there is none: a failure, or what a map's chunk is answered with. To the client: no answer; the
    payload says, in digits, how often the task has failed that is tried again."""
    GROUP_LIMIT = 14
    """As many tasks of its client's group wait as may, so that this one was refused."""
