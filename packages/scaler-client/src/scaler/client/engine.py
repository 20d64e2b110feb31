"""One client core with everything around it that is the same however its messages travel: lock, futures, objects."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Protocol, TypeVar

from scaler import errors
from scaler.client.blocking import TaskBlocks
from scaler.client.future import ScalerFuture, answer_futures
from scaler.client.object_channel import ObjectChannel
from scaler.client.object_reference import ObjectReference
from scaler.client.object_uses import HeldObject, ObjectUse, UsesByReference
from scaler.client.sent_ahead import SentAhead, SentAheads, Submission
from scaler.client.sleepers import Sleepers
from scaler.client.snapshots import Buffer, Key, Snapshot, Snapshots, flat, key_of
from scaler.client.steps import Answer, OwnersLock, Step, Steps
from scaler.client.task_output import show_output
from scaler.core import effects as e
from scaler.core.client_core import COMPANY_TASKS, ClientCore
from scaler.core.tasks import Task, TaskGroup
from scaler.serialization.arguments import Packer, object_buffers, require_storable
from scaler.serialization.faults import explain
from scaler.serialization.functions import Pickled
from scaler.serialization.results import load_error, load_value
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.errors import WireError
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.runtime.task_context import TaskContext, current_task_context
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Frame, decode_envelope, encode_envelope

logger = logging.getLogger("scaler")

WAIT_SECONDS = 1.0
"""Longest sleep at once of a thread that waits: Windows delivers Ctrl-C only in between."""

ANSWER_GRACE_SECONDS = 30.0
"""How much longer than its own timeout the owner's thread may take to answer a question, before it counts as dead."""

TURN_SECONDS = 0.01
"""How long a thread that submits without pause waits for the owner's thread to send what it has submitted."""

TURN_TASKS = COMPANY_TASKS
"""Submitted tasks that wait for the owner's thread, before the thread that submits them lets it have its turn."""

T = TypeVar("T")

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Answered(Protocol):
    """What is given to `submit` in place of a future, and told the answer itself."""

    number: int
    """The task's, set by `submit`."""

    def on_answer(self, status: int, payload: e.Payload, duration: int) -> None:
        """The task ended with this; `duration` in microseconds, 0 where unknown."""

    def on_abandoned(self, error: errors.ScalerError) -> None:
        """The task will not be answered."""


class Engine(ABC):
    """Owns a `ClientCore`.

    Threads of the application may be interrupted between any two bytecodes, by Ctrl-C, by an exception another thread sends, by
    a signal handler or a `__del__` that call the client again. So they never touch the core. What they want is a *step*: they
    append it to a deque, which is one operation that nothing interrupts, and the owner's thread takes it. Before the append
    nothing has happened; after it everything will. See `scaler.client.steps`.

    Every use of the core is under `_lock`, by threads of our own; futures complete and user code runs without it. A thread of the
    application that sends a task on ahead takes no lock, and changes nothing in the core.
    """

    def __init__(self, core: ClientCore, hello: m.Hello, *, timeout_seconds: float, object_address: str | None) -> None:
        self.client_id = core.client_id
        self.timeout_seconds = timeout_seconds
        self.forked = False
        self._hello = hello
        self._core = core
        self._lock = OwnersLock()
        self._steps = Steps()
        self._take_number = core.table.take_number
        self._start: Callable[[], None] = lambda: None
        """Starts the owner's thread, where it has not started."""
        self._aheads = SentAheads()
        """Tasks that have left before their steps were taken, or are about to."""
        self._without_credit: deque[Submission] = deque()
        """Submitted by several threads for one permission: those it was not enough for."""
        self._uses = UsesByReference(self._steps.queue.append)
        self._holder: weakref.ref[object] | None = None
        """The client, where the engine is its alone."""
        self._changed = Sleepers()
        """Woken when the session begins or ends."""
        self._credit = Sleepers()
        """Threads that wait for permission to submit."""
        self._waiting = 0
        """Tasks in the core that wait to leave."""
        self._known_deadline: float | None = None
        """The core's next deadline, as the thread that keeps it knows it; None where nobody does, or it may have come nearer."""
        self._others: deque[e.Effect | Step] = deque()
        self._welcome: m.Welcome | None = None
        self._confirmations: dict[int, Confirmation] = {}
        self._object_address = object_address
        self._channel: ObjectChannel | None = None
        self._snapshots = Snapshots()
        self._references: Counter[bytes] = Counter()
        self._task_context = current_task_context()
        """The processor this engine was made in. It is told whether there are unanswered tasks."""
        self._told_unfinished = False
        _engines.add(self)

    # --- how messages travel

    @abstractmethod
    def _transmit(self, frames: list[Frame]) -> None:
        """Send one message. Called with the lock held."""

    @abstractmethod
    def must_not_wait(self) -> bool:
        """Whether the current thread is the one that completes futures."""

    def close_when_idle(self) -> None:
        """Called when nobody holds the client any more; from any thread, with any lock held."""
        return

    _sends_several_ahead = False
    """Whether `_send_ahead` may be called while there are other tasks."""

    def _send_ahead(self, submission: Submission) -> bool:
        """Send a task from this thread, if it can leave at once. Where not, its step does."""
        return False

    def _has_left(self, entry: SentAhead) -> bool:
        """Whether the message of an attempt has been sent. With the lock held."""
        return bool(entry.ahead.outcome())

    def wait_seconds(self) -> float:
        """How long a waiting thread may sleep before `_attend` is due."""
        return WAIT_SECONDS

    # --- the session

    @property
    def welcome(self) -> m.Welcome | None:
        """What the scheduler last said of itself."""
        return self._welcome

    @property
    def unusable(self) -> errors.ScalerError | None:
        """Why nothing can be submitted, or None."""
        return self._core.unusable

    @property
    def unanswered_count(self) -> int:
        """Tasks whose answer has not come."""
        return self._core.unanswered_count

    def wait_connected(self, timeout: float) -> None:
        """Wait for the session to begin. Raises what ended it, or DisconnectedError after `timeout` seconds."""
        deadline = time.monotonic() + timeout

        def is_settled() -> bool:
            return self._welcome is not None or self._core.unusable is not None

        while not is_settled() and (remaining := deadline - time.monotonic()) > 0:
            self._changed.sleep(is_settled, min(remaining, WAIT_SECONDS))
            self._start()
        if self._core.unusable is not None:
            raise self._core.unusable.with_traceback(None)
        if self._welcome is None:
            raise errors.DisconnectedError("no answer from the scheduler")

    def check_process(self) -> None:
        """Raise ClientForkedError in a child made by fork."""
        if self.forked:
            raise errors.ClientForkedError(
                f"this client belongs to the process that made it and cannot be used in process {os.getpid()}, "
                "which was forked from it: make a new Client there"
            )

    # --- tasks

    def group(
        self,
        *,
        kind: int = m.TaskKind.CALL,
        depth: int = 0,
        capabilities: m.Capabilities = (),
        serializer: Pickled | None = None,
        flags: int = 0,
    ) -> TaskGroup:
        """Return the core's group of tasks with these properties."""
        self.check_process()
        if serializer is not None:
            self.define(serializer)
        return self._core.group(
            kind=kind,
            depth=depth,
            capabilities=capabilities,
            serializer=serializer.function_id if serializer is not None else b"",
            flags=flags,
        )

    def define(self, function: Pickled) -> None:
        """Make a function known before a graph that names it."""
        self._core.define_function(function.function_id, function.body, function.name)

    def submit(
        self,
        group: TaskGroup,
        function: Pickled,
        payload: bytes,
        objects: tuple[bytes, ...],
        token: ScalerFuture | Answered,
        carried: Carried = (),
    ) -> int:
        """Submit one task and return its number. `objects` have a use counted each, which the task takes over.

        Waits for the scheduler's permission where it limits waiting tasks. Raises the core's `unusable`, or
        TooManyTasksError.
        """
        if self.forked:
            self.check_process()
        core, steps = self._core, self._steps
        if core.unusable is not None:
            raise core.unusable.with_traceback(None)
        if core.credit.left is not None and not self._has_credit():
            self._wait_for_credit()
        queue = steps.queue
        token.number = number = self._take_number()
        submission = (
            number,
            function,
            new_tuple(Task, (group, function.function_id, payload, objects, token, carried)),
        )
        alone = not queue and not core.table.tasks
        # From here on it is submitted.
        queue.append(submission)
        if objects or not ((alone or self._sends_several_ahead) and self._send_ahead(submission)):
            many = len(queue) >= TURN_TASKS
            if many or not steps.looks_soon:
                steps.wake()
            if many and not steps.is_owner:
                # Let the owner have its turn, or workers would wait until this thread does something else.
                steps.wait_for_turn(TURN_SECONDS)
        return number

    def may_submit_now(self) -> bool:
        """Whether the scheduler permits one more task without waiting; where not, ask for it."""
        if self._has_credit():
            return True
        self._steps.do(partial(self._ask_credit, 1))
        return False

    def submit_graph(self, submit: m.GraphSubmit, tokens: Sequence[object]) -> int:
        """Submit a graph and return its first number; `tokens` has one element per wanted row."""
        self.check_process()
        if self._core.unusable is not None:
            raise self._core.unusable.with_traceback(None)
        first = submit.first_number = self._core.table.take_numbers(len(submit.payloads))
        for row, token in zip(submit.wanted, tokens, strict=True):
            if isinstance(token, ScalerFuture):
                token.number = first + row
        self._steps.do(partial(self._take_graph, submit, tokens))
        return first

    def cancel_numbers(self, numbers: Sequence[int]) -> None:
        """Stop tasks that are not answered; nobody is told their end."""
        self._steps.do(partial(self._cancel_numbers, numbers))

    def unanswered(self) -> list[tuple[int, object]]:
        """Return (number, token) of all tasks that are not answered."""
        return self._ask(self._list_unanswered)

    def _list_unanswered(self) -> list[tuple[int, object]]:
        core = self._core
        pending = [(number, task.token) for number, task in core.table.tasks.items()]
        pending += [(number, task.token) for number, _, task in self._without_credit]
        return pending + [(number, task.token) for number, (task, _) in core.fetching.items()]

    def _has_credit(self) -> bool:
        left = self._core.credit.left
        return left is None or left > len(self._steps.queue) + len(self._without_credit)

    def _wait_for_credit(self) -> None:
        """Wait until one task may be submitted."""
        deadline = time.monotonic() + self.timeout_seconds
        core = self._core
        while not self._has_credit():
            if core.unusable is not None:
                raise core.unusable.with_traceback(None)
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise errors.TooManyTasksError(
                    f"the scheduler's limit of waiting tasks was reached, and no room came free for "
                    f"{self.timeout_seconds:g} s"
                )
            self._steps.do(partial(self._ask_credit, 1))
            self.wait(self._credit, self._credit_arrived, min(remaining, WAIT_SECONDS))

    def _credit_arrived(self) -> bool:
        return self._has_credit() or self._core.unusable is not None

    # --- steps: the owner's thread takes them

    def _ask(self, step: Callable[[], T]) -> T:
        """Have the owner's thread call `step`, with the lock held, and return what it returns."""
        if not self.must_not_wait():
            try:
                return self._steps.ask(step, self.timeout_seconds + ANSWER_GRACE_SECONDS)
            except TimeoutError:
                raise self._core.unusable or errors.DisconnectedError(
                    "the client's connection thread has ended"
                ) from None
        answer = Answer(step)
        self._steps.queue.append(answer.take)
        self._take_steps_here()
        return answer.value()

    def _take_steps_here(self) -> None:
        """In the owner's thread: take the steps now. Raises in the middle of the core, where only the collector calls this."""
        if self._lock.held:
            raise errors.ScalerError(
                "the garbage collector ran this in the middle of the client: it cannot wait for the client here"
            )
        with self._lock:
            self._take_steps()
            self._send_effects()

    def _take_steps(self) -> None:
        """Take all steps, before anything else happens to the core. Lock held."""
        core, queue = self._core, self._steps.queue
        while queue:
            if type(queue[0]) is tuple and not self._aheads and core.table.tasks and core.takes_more:
                self._take_company()
                continue
            step = queue.popleft()
            if type(step) is tuple:
                self._take_submission(step)
            elif type(step) is weakref.ref:
                if step is self._holder:
                    self.close_when_idle()
                else:
                    self._release(self._uses.died(step))
            else:
                try:
                    step()
                except Exception as error:
                    # It fails one call, never the client.
                    logger.exception("the client could not do what it was asked: %r", error)

    def _take_company(self) -> None:
        """Take the submissions that come next, as `_take_submission`, while others are under way and nothing limits them."""
        core, queue = self._core, self._steps.queue
        bodies, take = core.functions.bodies, core.take
        waiting = self._waiting
        while queue and type(queue[0]) is tuple:
            number, function, task = queue.popleft()
            if function.function_id not in bodies:
                core.define_function(function.function_id, function.body, function.name)
            if task.objects:
                task = task._replace(objects=self._uses.take_over(task.objects))
            take(number, task)
            waiting += 1
            if waiting >= COMPANY_TASKS:
                core.flush()
                waiting = 0
        self._waiting = waiting

    def _take_submission(self, submission: Submission) -> None:
        core = self._core
        number, function, task = submission
        if self._aheads:
            # Now that the submission is taken out, no attempt begins any more; one that has begun ends soon.
            entry = self._aheads.take(submission)
            if entry is not None and self._has_left(entry):
                core.submit_ahead(number, task, entry.message)
                return
            self._aheads.forget_stale(self._steps.queue)
        if core.unusable is not None:
            # The session ended while it was on its way here: it ends as all the others have.
            self._others.append(partial(_fail, task.token, _copy_of(core.unusable)))
            return
        if core.credit.left is not None and not core.may_submit():
            self._without_credit.append(submission)
            self._ask_credit(0)
            return
        if function.function_id not in core.functions.bodies:
            core.define_function(function.function_id, function.body, function.name)
        leaves_at_once = not core.table.tasks
        if task.objects:
            task = task._replace(objects=self._uses.take_over(task.objects))
        core.take(number, task)
        self._waiting += 1
        if leaves_at_once or self._waiting >= COMPANY_TASKS:
            core.flush()
            self._waiting = 0

    def _take_graph(self, submit: m.GraphSubmit, tokens: Sequence[object]) -> None:
        core = self._core
        if core.unusable is not None:
            for token in tokens:
                self._others.append(partial(_fail, token, _copy_of(core.unusable)))
            return
        submit.objects = self._uses.take_over(submit.objects)
        core.submit_graph(submit, tokens)
        core.flush()
        self._waiting = 0

    def _cancel_numbers(self, numbers: Sequence[int]) -> None:
        self._without_credit = deque(x for x in self._without_credit if x[0] not in numbers)
        self._core.cancel(numbers)

    def _cancel_futures(
        self, futures: Sequence[ScalerFuture], error: Exception | None, confirmation: Confirmation
    ) -> None:
        numbers = [future.number for future in futures]
        self._cancel_numbers(numbers)
        for number in numbers:
            if number in self._core.cancelling:
                confirmation.left.add(number)
                self._confirmations[number] = confirmation
        if not confirmation.left:
            confirmation.sleepers.wake()
        confirmation.is_taken = True
        self._others.append(partial(_end_cancelled, futures, error))

    def _ask_credit(self, count: int) -> None:
        """Ask for permission for all that wait for it, and at least so many."""
        core = self._core
        core.ask_credit(max(count, len(self._credit) + len(self._without_credit)))
        core.flush()
        self._waiting = core.table.waiting_count()

    def _use_credit(self) -> None:
        """Credit has arrived, or the session has ended: take what waits for it."""
        waiting, self._without_credit = self._without_credit, deque()
        for submission in waiting:
            self._take_submission(submission)

    def _release(self, object_ids: Sequence[bytes]) -> None:
        if object_ids:
            self._core.release_objects(object_ids)

    # --- what futures ask

    def before_wait(self) -> None:
        if self.forked:
            self.check_process()

    def restore(
        self, status: int, payload: e.Payload, number: int, serializer: AnySerializer | None
    ) -> tuple[Any, BaseException | None]:
        if status != m.Status.SUCCESS:
            return None, load_error(status, payload, number)
        try:
            return load_value(payload, serializer), None
        except errors.DeserializeObjectError as error:
            return None, error

    def cancel(self, futures: Sequence[ScalerFuture], timeout: float | None) -> None:
        confirmation = self._cancel(futures, None)
        if timeout is not None:
            self.wait(confirmation.sleepers, confirmation.done, timeout)

    def end_futures(self, futures: Sequence[ScalerFuture], error: Exception) -> None:
        """Cancel these futures, whose `result` raises `error` then, and stop their tasks."""
        self._cancel(futures, error)

    def _cancel(self, futures: Sequence[ScalerFuture], error: Exception | None) -> Confirmation:
        self.check_process()
        confirmation = Confirmation()
        # First the step, which also does what an interrupt keeps this thread from doing.
        self._steps.do(partial(self._cancel_futures, tuple(futures), error, confirmation))
        for future in futures:
            future.mark_cancelled(error)
        return confirmation

    def wait(self, sleepers: Sleepers, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()`, or so many seconds. Inside a task, its processor is told that the task blocks."""
        self._wait(partial(sleepers.sleep, done), done, timeout)

    def sleep(self, sleeper: threading.Lock, done: Callable[[], bool], timeout: float | None) -> None:
        """As `wait`, by a lock that is released when `done()` becomes true."""
        self._wait(partial(sleeper.acquire, True), done, timeout)

    def _wait(self, pause: Callable[[float], object], done: Callable[[], bool], timeout: float | None) -> None:
        if self.forked:
            self.check_process()
        if self.must_not_wait():
            raise errors.ScalerError("a callback of a future waits for another one: only its own thread completes it")
        if current_task_context() is None:
            self._pause(pause, done, timeout)
        elif not done():
            with self.blocking():
                self._pause(pause, done, timeout)

    def _pause(self, pause: Callable[[float], object], done: Callable[[], bool], timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = self.wait_seconds()
            if deadline is not None:
                remaining = min(remaining, deadline - time.monotonic())
            if remaining > 0:
                pause(remaining)
            if done():
                return
            if deadline is not None and time.monotonic() >= deadline:
                return
            self.on_waited()

    def blocking(self) -> TaskBlocks:
        return TaskBlocks()

    def on_waited(self) -> None:
        """A waiting thread has slept as long as `wait_seconds` allows."""
        return

    # --- objects (the sink of `serialization.arguments`)

    def packer(self, serializer: AnySerializer | None) -> Packer:
        """Return what turns calls into bytes, for a client with this serializer."""
        return Packer(self, serializer)

    def store(self, buffers: Sequence[Buffer]) -> bytes:
        """Keep a copy of `buffers` in object storage and count one use of it. Equal content is sent once."""
        return self._store(buffers, "")

    def resolve(self, reference: ObjectReference) -> bytes:
        """Count one use of a reference's object. Raises MissingObjects for one that was cleared."""
        object_id = reference.object_id
        use = ObjectUse(object_id)
        if not self._ask(partial(self._count_reference, reference, use)):
            label = f" {reference.name!r}" if reference.name else ""
            raise errors.MissingObjects(f"object reference{label} ({object_id.hex()}) was cleared")
        return HeldObject(use)

    def _count_reference(self, reference: ObjectReference, use: ObjectUse) -> bool:
        object_id = reference.object_id
        if reference.owner == self.client_id and object_id not in self._references:
            return False
        if reference.owner != self.client_id and object_id not in self._core.uses.counts:
            # Another client's: never ours to delete, so one use of it stays counted.
            self._core.hold_object(object_id)
        self._count(use)
        return True

    def hold(self, object_id: bytes) -> bytes:
        """Count one more use of an object that has one, and return it."""
        use = ObjectUse(object_id)
        self._steps.do(partial(self._count, use))
        return HeldObject(use)

    def _count(self, use: ObjectUse) -> None:
        self._core.hold_object(use.object_id)
        self._uses.count(use)

    def release(self, object_ids: Sequence[bytes]) -> None:
        """Undo one use of each now. It ends by itself when the last reference to what `store` and the others returned is gone."""
        if object_ids:
            self._steps.do(partial(self._release_uses, tuple(object_ids)))

    def _release_uses(self, object_ids: Sequence[bytes]) -> None:
        self._release(self._uses.take_over(object_ids))

    def send_object(self, value: Any, name: str, references: deque[bytes]) -> ObjectReference:
        """Store `value`; it stays until the reference is cleared. Its id is appended to `references`."""
        try:
            buffers = object_buffers(value)
        except Exception as error:
            raise errors.SerializationError(explain("the object", value, error)) from error
        require_storable(buffers, "the object")
        held = self._store(buffers, name)
        object_id = bytes(held)
        reference = ObjectReference(
            object_id, self.client_id, name, sum(memoryview(buffer).nbytes for buffer in buffers)
        )
        self._ask(partial(self._keep_reference, held, references))
        return reference

    def drop_references(self, references: deque[bytes]) -> None:
        """References to these objects are not valid any more. Takes them out of `references`."""
        self._steps.do(partial(self._drop_references, references))

    def _keep_reference(self, held: bytes, references: deque[bytes]) -> None:
        (object_id,) = self._uses.take_over((held,))
        self._references[object_id] += 1
        references.append(object_id)

    def _drop_references(self, references: deque[bytes]) -> None:
        while references:
            object_id = references.popleft()
            self._references[object_id] -= 1
            if not self._references[object_id]:
                del self._references[object_id]
            self._release((object_id,))

    def _store(self, buffers: Sequence[Buffer], name: str) -> bytes:
        self.check_process()
        if self._core.unusable is not None:
            raise self._core.unusable.with_traceback(None)
        if not self._storage_address() and self._welcome is None and not self.must_not_wait():
            # A client inside a task is used before the scheduler has answered it, and only that answer says where.
            self.wait_connected(self.timeout_seconds)
        channel = self._channel
        if channel is None or channel.address != self._storage_address():
            channel = self._ask(self._open_channel)
        flattened = [flat(buffer) for buffer in buffers]
        key = key_of(flattened)
        # Compared in this thread: it takes as long as reading the object.
        for held, kept in self._ask(partial(self._hold_candidates, key)):
            if kept.equals(flattened):
                return held
        use = ObjectUse(new_id())
        held = HeldObject(use)
        # Counted before it is stored: should this thread be interrupted, the end of the use is what has it deleted again.
        self._steps.do(partial(self._count, use))
        copy = channel.put(held, flattened, name)
        self._steps.do(partial(self._keep_copy, held, key, copy))
        return held

    def _hold_candidates(self, key: Key) -> list[tuple[HeldObject, Snapshot]]:
        found = []
        for object_id, kept in self._snapshots.candidates(key):
            use = ObjectUse(object_id)
            self._count(use)
            found.append((HeldObject(use), kept))
        return found

    def _keep_copy(self, held: bytes, key: Key, copy: Snapshot) -> None:
        self._snapshots.add(bytes(held), key, copy)

    def _storage_address(self) -> str:
        """Return where large values go; empty where that is nowhere."""
        welcome = self._welcome
        return self._object_address or (welcome.object_storage_address if welcome is not None else "")

    def _open_channel(self) -> ObjectChannel:
        """Return the channel to where large values go now; made when it is first needed. By the owner's thread."""
        address = self._storage_address()
        if self._channel is not None:
            # A scheduler that was started again may have its object storage elsewhere.
            self._channel.move_to(address or self._channel.address)
        elif address:
            self._channel = ObjectChannel(address, self._hello, self, timeout_seconds=self.timeout_seconds)
        else:
            raise errors.ObjectStorageException(
                "this cluster has no object storage server, and the value is too large to travel without one"
            )
        return self._channel

    def _follow_storage(self) -> None:
        """Have what waits for an answer of object storage asked where it is now."""
        if self._channel is not None:
            self._open_channel()

    def on_object_fetched(self, number: int, buffers: Sequence[Frame]) -> None:
        self._handle(e.ObjectFetched(number, buffers))

    def on_fetch_failed(self, number: int, status: m.Status, text: str) -> None:
        self._handle(e.ObjectFetchFailed(number, status, text))

    def on_object_refused(self, object_id: bytes, text: str) -> None:
        with self._lock:
            self._snapshots.drop(object_id)
        self._handle(e.ObjectRefused(object_id, text))

    def on_store_changed(self) -> None:
        """The new server has none of our objects: give it those that are still at hand."""
        with self._lock:
            kept = self._snapshots.all()
        logger.warning("the object storage server was replaced; %d recent objects are sent to it again", len(kept))
        threading.Thread(target=self._store_again, args=(kept,), name="scaler-objects-again", daemon=True).start()

    def _store_again(self, kept: Sequence[tuple[bytes, Snapshot]]) -> None:
        channel = self._channel
        for object_id, copy in kept:
            with self._lock:
                wanted = object_id in self._core.uses.counts
            if channel is not None and wanted:
                try:
                    channel.put_again(object_id, copy)
                except errors.ObjectStorageException as error:
                    self.on_object_refused(object_id, str(error))

    def on_channel_ended(self, error: BaseException) -> None:
        logger.error("the connection to object storage ended: %r", error)

    def _close_channel(self) -> None:
        channel = self._channel
        if channel is not None:
            channel.close()

    # --- events and effects

    def _handle(self, event: e.Event) -> None:
        with self._lock:
            self._take_steps()
            self._core.handle(event, time.monotonic())
            self._send_effects()
        self._perform_others()

    def on_messages(self, messages: Sequence[list[Frame]]) -> None:
        """Take messages of the scheduler in; `_perform_others` is the caller's to call."""
        incoming = []
        for frames in messages:
            try:
                incoming.append(new_tuple(e.Incoming, (decode_envelope(frames[0]), decode(frames[1:]))))
            except (WireError, IndexError) as error:
                logger.error("the scheduler sent something that is no message: %s", error)
        now = time.monotonic()
        core = self._core
        with self._lock:
            if self._steps.queue:
                self._take_steps()
            for event in incoming:
                core.handle(event, now)
                if type(event.message) is not m.ResultBatch:
                    self._known_deadline = None
            self._waiting = core.table.waiting_count() if core.table.tasks else 0
            if self._waiting:
                self._known_deadline = None
            self._send_effects()

    def _tick(self) -> None:
        """Do what is due, and send what waits; `_perform_others` is the caller's to call."""
        now = time.monotonic()
        with self._lock:
            # Before it looks: who still saw it set has its step taken now.
            self._steps.looks_soon = False
            stepped = bool(self._steps.queue)
            if stepped:
                self._take_steps()
            deadline = self._known_deadline
            due = now >= (self._core.next_deadline() if deadline is None else deadline)
            if due:
                self._core.handle(e.Tick(), now)
            if self._waiting:
                self._core.flush_unhurried(now)
                self._waiting = self._core.table.waiting_count()
            elif not due and not stepped:
                return
            self._known_deadline = None
            self._send_effects()

    def _send_effects(self) -> None:
        """Send what the core wants sent, and keep what else there is to do, without the lock."""
        if self._task_context is not None:
            # Before what is sent, so that word of it can travel along.
            self._tell_unfinished(self._task_context)
        unsendable = False
        for effect in self._core.take_effects():
            if type(effect) is e.Send:
                envelope = effect.envelope
                try:
                    frames = encode(effect.message)
                except WireError as error:
                    frames = encode(self._core.fail_unsendable(envelope, effect.message, str(error)))
                    unsendable = True
                self._transmit([encode_envelope(envelope), *frames])
            else:
                if isinstance(effect, e.DeleteObjects):
                    # Here, where no use of them can begin.
                    for object_id in effect.object_ids:
                        self._snapshots.drop(object_id)
                self._others.append(effect)
        if unsendable:
            # Its tasks have failed, which is an effect as well.
            self._send_effects()

    def _tell_unfinished(self, context: TaskContext) -> None:
        """Tell the processor when the first task is unanswered, and when none is any more."""
        unfinished = self._core.unanswered_count > 0
        if unfinished is not self._told_unfinished and not self.forked:
            self._told_unfinished = unfinished
            context.note_unfinished(self.client_id, unfinished)

    def _perform_others(self) -> None:
        """Perform, without the lock, all effects that are no messages."""
        others = self._others
        while others:
            try:
                effect = others.popleft()
            except IndexError:
                return
            self._perform(effect)

    def _perform(self, effect: e.Effect | Step) -> None:
        if type(effect) is e.Completed:
            self._complete(effect)
        elif callable(effect):
            effect()
        elif isinstance(effect, e.FetchObject):
            try:
                with self._lock:
                    channel = self._open_channel()
                channel.fetch(effect.number, effect.object_id)
            except errors.ScalerError as error:
                self.on_fetch_failed(effect.number, m.Status.STORAGE_FAILED, str(error))
        elif isinstance(effect, e.DeleteObjects):
            if self._channel is not None:
                self._channel.delete(effect.object_ids)
        elif isinstance(effect, e.Abandoned):
            self._abandon(effect)
        elif isinstance(effect, e.WriteOutput):
            show_output(effect)
        elif isinstance(effect, e.ShowNotice):
            logger.log(logging.WARNING if effect.level else logging.INFO, "%s", effect.text)
        elif isinstance(effect, e.CancelConfirmed):
            for number in effect.numbers:
                confirmation = self._confirmations.pop(number, None)
                if confirmation is not None:
                    confirmation.left.discard(number)
                    if not confirmation.left:
                        confirmation.sleepers.wake()
        else:
            if isinstance(effect, e.Connected):
                self._welcome = effect.welcome
                self._follow_storage()
            if isinstance(effect, e.CreditArrived):
                if self._without_credit:
                    self._steps.do(self._use_credit)
                self._credit.wake()
            self._changed.wake()

    def _complete(self, completed: e.Completed) -> None:
        tokens = completed.tokens
        reported = completed.reported
        statuses, durations = reported.statuses, reported.durations
        if type(tokens[0]) is ScalerFuture and (
            len(tokens) == 1 or all(type(token) is ScalerFuture for token in tokens)
        ):
            profiles = None
            if len(reported.cpu_times) and len(durations):
                peaks = reported.memory_peaks if len(reported.memory_peaks) else [0] * len(tokens)
                profiles = list(zip(durations, reported.cpu_times, peaks, strict=True))
            answer_futures(tokens, completed.payloads, statuses, profiles)  # type: ignore[arg-type]
            return
        for position, token in enumerate(tokens):
            if isinstance(token, ScalerFuture):
                one = e.Completed(
                    [completed.numbers[position]],
                    [token],
                    [completed.payloads[position]],
                    completed.reported.cut(position, position + 1),
                )
                self._complete(one)
                continue
            duration = durations[position] if len(durations) else 0
            status = statuses[position] if len(statuses) else m.Status.SUCCESS
            token.on_answer(status, completed.payloads[position], duration)  # type: ignore[attr-defined]

    def _abandon(self, abandoned: e.Abandoned) -> None:
        for token in abandoned.tokens:
            _fail(token, _abandoned_error(abandoned))


class Confirmation:
    """Tells whoever waits that cancelled tasks do not run any more."""

    def __init__(self) -> None:
        self.left: set[int] = set()
        self.is_taken = False
        self.sleepers = Sleepers()

    def done(self) -> bool:
        return self.is_taken and not self.left


def _end_cancelled(futures: Sequence[ScalerFuture], error: Exception | None) -> None:
    for future in futures:
        future.end_cancelled(error)


def _copy_of(error: errors.ScalerError) -> errors.ScalerError:
    """Return the same error for somebody else to raise: each has a traceback of its own."""
    return type(error)(*error.args)


def _fail(token: object, error: errors.ScalerError) -> None:
    """End what will not be answered. Where that is because somebody left or cleared it, it is cancelled."""
    if not isinstance(token, ScalerFuture):
        token.on_abandoned(error)  # type: ignore[attr-defined]
    elif isinstance(error, CancelledError):
        token.end_cancelled(error)
    else:
        token.end_failed(error)


_ABANDONED: dict[e.Cause, type[errors.ScalerError]] = {
    e.Cause.DISCONNECTED: errors.DisconnectedError,
    e.Cause.REFUSED: errors.ConnectionRefusedByScheduler,
    e.Cause.CLEARED: errors.ClientCancelledException,
    e.Cause.CLOSED: errors.ClientQuitException,
    e.Cause.SHUT_DOWN: errors.ClientShutdownException,
}


def _abandoned_error(abandoned: e.Abandoned) -> errors.ScalerError:
    return _ABANDONED[abandoned.cause](abandoned.text)


def _mark_forked() -> None:
    for engine in list(_engines):
        engine.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)
