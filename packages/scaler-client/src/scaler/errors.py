"""Everything that the client raises, one tree.

ScalerError
├── DisconnectedError           no scheduler answers, or it ended the session
│   ├── ConnectionRefusedByScheduler    the scheduler will not have this client; also a ConnectionRefusedError
│   └── ClientForkedError       a client was used in a child made by fork
├── ClientQuitException         the client was disconnected while the future was pending; also a CancelledError
├── ClientShutdownException     the cluster was shut down while the future was pending; also a CancelledError
├── ClientCancelledException    the future was cancelled by `Client.clear` or an operator; also a CancelledError
├── TaskNotFoundError           the scheduler does not know the task
├── TaskTimeoutError            the task ran longer than it may; also a TimeoutError
├── TaskNotRunError             the task was refused before it ran
│   └── GroupLimitError         as many tasks of the client's group wait as may
├── TooManyTasksError           the scheduler takes no more tasks at the moment
├── WorkerDiedError             the worker that ran the task was lost
├── ProcessorDiedError          the process that ran the task ended
├── NoWorkerError               there is no worker that could run the task
├── WorkerRunError              a call on every worker failed on some of them; has the results of the others
├── JobError                    a job refuses a request or a task; the text says why
│   └── JobNotFoundError        there is no job of that name; also a KeyError
├── WorkerPluginError           a worker plugin could not be set up where a task was to run
├── LockError                   a named lock or semaphore cannot be had
│   ├── LockTimeoutError        it was not free in time; also a TimeoutError
│   └── LockLostError           it was lost while a block ran that was to hold it
├── RemoteTaskError             the task raised an exception that cannot be restored here
├── GraphError                  a graph that cannot be computed; also a ValueError
│   ├── GraphKeyError           a key that is not in the graph, or asked for twice; also a KeyError
│   └── GraphCycleError         nodes that need each other; also a graphlib.CycleError
├── SerializationError          an argument or function cannot be sent; also a TypeError
├── DeserializeObjectError      a result cannot be restored here
└── ObjectStorageException      object storage does not answer or refuses
    └── MissingObjects          an object is not, or no longer, in object storage

An exception raised inside a task is not in this tree: it arrives as itself.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from graphlib import CycleError
from typing import Any


class ScalerError(Exception):
    """Base of all errors of this package. `str(error)` is one sentence that says what happened and to what."""


class DisconnectedError(ScalerError):
    """The scheduler does not answer, or has ended the session; the text says for how long, and at which address."""


class ConnectionRefusedByScheduler(DisconnectedError, ConnectionRefusedError):
    """The scheduler refuses this client, for example because of its version; trying again will not help."""


class ClientForkedError(DisconnectedError):
    """A client was used in a process made by `os.fork`; its connection belongs to the parent."""


class ClientQuitException(ScalerError, CancelledError):
    """The client was disconnected before the task was answered, or is used after it was disconnected."""


class ClientShutdownException(ScalerError, CancelledError):
    """The cluster was shut down through this client before the task was answered."""


class ClientCancelledException(ScalerError, CancelledError):
    """The task was cancelled by `Client.clear`, or by an operator of the cluster."""


class TaskNotFoundError(ScalerError):
    """The scheduler does not know this task."""


class TaskTimeoutError(ScalerError, TimeoutError):
    """The task ran longer than it may and was ended, or was not done when its deadline was over; the text says which."""


class TaskNotRunError(ScalerError):
    """The task was refused before it ran; the text says why."""


class GroupLimitError(TaskNotRunError):
    """As many tasks of the client's group wait as may; the text names group, limit and figure. Submit it again later."""


class TooManyTasksError(ScalerError, TimeoutError):
    """The scheduler's limit of waiting tasks was reached, and no room came free within the client's timeout."""


class WorkerDiedError(ScalerError):
    """The worker that ran the task was lost, and the task may not be tried again."""


class ProcessorDiedError(ScalerError):
    """The process that ran the task ended; the text has process id, signal or exit code, and its last output."""


class NoWorkerError(ScalerError):
    """No worker can run the task."""


class WorkerRunError(ScalerError):
    """`Client.run` failed on some workers. `results` and `errors` have what the workers returned and raised, by their names."""

    def __init__(self, results: dict[str, Any], errors: dict[str, BaseException]) -> None:
        super().__init__(results, errors)
        self.results = results
        self.errors = errors

    def __str__(self) -> str:
        name, error = next(iter(self.errors.items()))
        count = len(self.errors) + len(self.results)
        return f"{len(self.errors)} of {count} workers failed; {name}: {type(error).__name__}: {error}"


class JobError(ScalerError):
    """A job, which is a set of tasks that outlives its client, does not take a request: the text says why."""


class JobNotFoundError(JobError, KeyError):
    """There is no job of that name, or not any more."""

    def __str__(self) -> str:
        # KeyError would show the representation of the text.
        return str(self.args[0])


class WorkerPluginError(ScalerError):
    """A worker plugin could not be set up on the worker that was to run the task, so the task has not run.

    The text names plugin, worker and error; a note has the remote traceback. The set-up is tried again for the next task there.
    """


class LockError(ScalerError):
    """A named lock or semaphore cannot be had; the text says why."""


class LockTimeoutError(LockError, TimeoutError):
    """A named lock or semaphore was not free within the caller's timeout."""


class LockLostError(LockError):
    """A block that was to hold a named lock or semaphore did not hold it until its end: another may have held it meanwhile.

    What the block has done is done.
    """


class RemoteTaskError(ScalerError):
    """The task raised an exception that cannot be restored in this process. This says all that is known of it.

    `type_name` is its class with its module, `text` what `str()` says of it, `traceback_text` the remote traceback with the
    causes, `arguments_text` the representation of its `args`, `reason` why it could not be restored. Very long texts are cut
    in the middle. Its notes are notes of this exception; its cause and context, where they can be restored, are this
    exception's.
    """

    def __init__(
        self, type_name: str, text: str, traceback_text: str, arguments_text: str = "", reason: str = ""
    ) -> None:
        super().__init__(type_name, text, traceback_text, arguments_text, reason)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text
        self.arguments_text = arguments_text
        self.reason = reason

    def __str__(self) -> str:
        parts = [f"{self.type_name}: {self.text}"]
        if self.reason:
            parts.append(f"It arrives as a RemoteTaskError because {self.reason}.")
        if self.arguments_text:
            parts.append(f"Its arguments: {self.arguments_text}")
        return "\n\n".join([*parts, f"Traceback in the task:\n{self.traceback_text}"])


class SerializationError(ScalerError, TypeError):
    """A function or an argument cannot be serialized; the text says which one and why. Nothing was submitted."""


class GraphError(ScalerError, ValueError):
    """A graph that cannot be computed; the text names the keys at fault. Nothing was submitted."""


class GraphKeyError(GraphError, KeyError):
    """A key was asked for that is not in the graph, or twice."""

    def __str__(self) -> str:
        # KeyError would show the representation of the text.
        return str(self.args[0])


class GraphCycleError(GraphError, CycleError):
    """Nodes need each other. `args[1]` is the list of their keys, the first of them again at its end, as in graphlib."""

    def __str__(self) -> str:
        return str(self.args[0])


class DeserializeObjectError(ScalerError):
    """The bytes of a result or an object arrived and cannot be turned back into a value."""


class ObjectStorageException(ScalerError):
    """The object storage server does not answer, or refused a request; the text has its reason."""


class MissingObjects(ObjectStorageException):
    """An object that a task or a reference names is not in object storage. The text has its id."""
