"""One client core with everything around it that is the same however its messages travel: lock, futures, objects."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from scaler import errors
from scaler.client.future import ScalerFuture, answer_futures
from scaler.client.object_channel import ObjectChannel
from scaler.client.object_reference import ObjectReference
from scaler.client.snapshots import Buffer, Snapshot, Snapshots, flat, key_of
from scaler.client.task_output import show_output
from scaler.core import effects as e
from scaler.core.client_core import COMPANY_TASKS, ClientCore
from scaler.core.tasks import TaskGroup
from scaler.serialization.arguments import object_buffers, require_storable
from scaler.serialization.faults import explain
from scaler.serialization.functions import Pickled
from scaler.serialization.results import load_error, load_value
from scaler.serialization.serializer import AnySerializer
from scaler_protocol import messages as m
from scaler_protocol.codec import decode, encode
from scaler_protocol.errors import WireError
from scaler_protocol.random_ids import new_id
from scaler_protocol.task_context import TaskContext, current_task_context
from scaler_protocol.values import new_tuple
from scaler_protocol.wire import Frame, decode_envelope, encode_envelope

logger = logging.getLogger("scaler")

WAIT_SECONDS = 1.0
"""Longest sleep at once of a thread that waits: Windows delivers Ctrl-C only in between."""

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Answered(Protocol):
    """What is given to `submit` in place of a future, and told the answer itself."""

    def on_answer(self, status: int, payload: e.Payload, duration: int) -> None:
        """The task ended with this; `duration` in microseconds, 0 where unknown."""

    def on_abandoned(self, error: errors.ScalerError) -> None:
        """The task will not be answered."""


class Engine(ABC):
    """Owns a `ClientCore`. Every use of the core is under `_lock`; futures complete and user code runs without it."""

    def __init__(self, core: ClientCore, hello: m.Hello, *, timeout_seconds: float, object_address: str | None) -> None:
        self.client_id = core.client_id
        self.timeout_seconds = timeout_seconds
        self.forked = False
        self._hello = hello
        self._core = core
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        """Notified when the session begins or ends, when credit arrives, when a cancel is confirmed."""
        self._waiting = 0
        """Tasks that were submitted since the last flush."""
        self._known_deadline: float | None = None
        """The core's next deadline, as the thread that keeps it knows it; None where nobody does, or it may have come nearer."""
        self._others: deque[e.Effect] = deque()
        self._welcome: m.Welcome | None = None
        self._credit_waiters = 0
        self._confirmations: dict[int, bool] = {}
        self._object_address = object_address
        self._channel: ObjectChannel | None = None
        self._channel_lock = threading.Lock()
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
    def _attend(self) -> None:
        """See to it that waiting tasks leave and other effects are performed. Called without the lock."""

    @abstractmethod
    def must_not_wait(self) -> bool:
        """Whether the current thread is the one that completes futures."""

    @property
    @abstractmethod
    def flushes_each(self) -> bool:
        """Whether every submitted task leaves at once, because no thread would send it later."""

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
        with self._changed:
            self._changed.wait_for(lambda: self._welcome is not None or self._core.unusable is not None, timeout)
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
        with self._lock:
            if serializer is not None:
                self._core.define_function(serializer.function_id, serializer.body, serializer.name)
            return self._core.group(
                kind=kind,
                depth=depth,
                capabilities=capabilities,
                serializer=serializer.function_id if serializer is not None else b"",
                flags=flags,
            )

    def define(self, function: Pickled) -> None:
        """Make a function known before a graph that names it."""
        with self._lock:
            self._core.define_function(function.function_id, function.body, function.name)

    def submit(
        self,
        group: TaskGroup,
        function: Pickled,
        payload: bytes,
        objects: tuple[bytes, ...],
        token: ScalerFuture | Answered,
    ) -> int:
        """Submit one task and return its number. `objects` have a use counted each, which the task takes over.

        Waits for the scheduler's permission where it limits waiting tasks. Raises the core's `unusable`, or
        TooManyTasksError.
        """
        if self.forked:
            self.check_process()
        core = self._core
        with self._lock:
            if core.credit.left is not None and not core.may_submit():
                self._wait_for_credit()
            if function.function_id not in core.functions.bodies:
                core.define_function(function.function_id, function.body, function.name)
            waiting = self._waiting + 1
            if core.idle:
                number = core.submit_alone(group, function.function_id, payload, objects, token)
                waiting = 0
            else:
                number = core.submit(group, function.function_id, payload, objects, token)
                if waiting >= COMPANY_TASKS or self.flushes_each:
                    core.flush()
                    waiting = 0
            if type(token) is ScalerFuture:
                token.number = number
            self._waiting = waiting
            attend = waiting == 1 if waiting else self._send_effects()
        if attend:
            self._attend()
        return number

    def may_submit_now(self) -> bool:
        """Whether the scheduler permits one more task without waiting; where not, ask for it."""
        core = self._core
        if core.credit.left is None:
            return True
        with self._lock:
            allowed = core.may_submit()
            if not allowed:
                core.ask_credit(1)
                self._send_effects()
        return allowed

    def submit_graph(self, submit: m.GraphSubmit, tokens: Sequence[object]) -> int:
        """Submit a graph and return its first number; `tokens` has one element per wanted row."""
        self.check_process()
        with self._lock:
            first = self._core.submit_graph(submit, tokens)
            for row, token in zip(submit.wanted, tokens, strict=True):
                if isinstance(token, ScalerFuture):
                    token.number = first + row
            self._core.flush()
            attend = self._send_effects()
        if attend:
            self._attend()
        return first

    def flush(self) -> None:
        """Send all waiting tasks now, from this thread."""
        if self.forked:
            self.check_process()
        if self._waiting:
            with self._lock:
                self._waiting = 0
                self._core.flush()
                attend = self._send_effects()
            if attend:
                self._attend()

    def cancel_numbers(self, numbers: Sequence[int]) -> list[int]:
        """Stop tasks; return those that had not been answered."""
        self.check_process()
        with self._lock:
            cancelled = self._core.cancel(numbers)
            attend = self._send_effects()
        if attend:
            self._attend()
        return cancelled

    def unanswered(self) -> list[tuple[int, object]]:
        """Return (number, token) of all tasks that are not answered."""
        with self._lock:
            core = self._core
            pending = [(number, task.token) for number, task in core.table.tasks.items()]
            return pending + [(number, task.token) for number, (task, _) in core.fetching.items()]

    def _wait_for_credit(self) -> None:
        """Wait until one task may be submitted. Lock held before and after, not in between."""
        deadline = time.monotonic() + self.timeout_seconds
        core = self._core
        self._credit_waiters += 1
        try:
            while not core.may_submit():
                if core.unusable is not None:
                    raise core.unusable.with_traceback(None)
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise errors.TooManyTasksError(
                        f"the scheduler's limit of waiting tasks was reached, and no room came free for "
                        f"{self.timeout_seconds:g} s"
                    )
                core.ask_credit(self._credit_waiters)
                core.flush()
                self._waiting = 0
                attend = self._send_effects()
                self._lock.release()
                try:
                    if attend:
                        self._attend()
                    self.wait(self._changed, self._credit_arrived, min(remaining, WAIT_SECONDS))
                finally:
                    self._lock.acquire()
        finally:
            self._credit_waiters -= 1

    def _credit_arrived(self) -> bool:
        return self._core.may_submit() or self._core.unusable is not None

    # --- what futures ask

    def before_wait(self) -> None:
        self.flush()

    def restore(
        self, status: int, payload: e.Payload, number: int, serializer: AnySerializer | None
    ) -> tuple[Any, BaseException | None]:
        if status != m.Status.SUCCESS:
            return None, load_error(status, payload, number)
        try:
            return load_value(payload, serializer), None
        except errors.DeserializeObjectError as error:
            return None, error

    def cancel(self, futures: Sequence[ScalerFuture], timeout: float | None) -> list[ScalerFuture]:
        self.check_process()
        by_number = {future.number: future for future in futures}
        if timeout is not None:
            with self._lock:
                self._confirmations.update(dict.fromkeys(by_number, False))
        cancelled = self.cancel_numbers(list(by_number))
        ended = [by_number[number] for number in cancelled]
        for future in ended:
            future.end_cancelled()
        if timeout is not None:
            self.wait(self._changed, lambda: all(self._confirmations[number] for number in cancelled), timeout)
            with self._lock:
                for number in by_number:
                    self._confirmations.pop(number, None)
        return ended

    def wait(self, condition: threading.Condition, done: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `done()`, or so many seconds. Inside a task, its processor is told that the task blocks."""

        def pause(seconds: float) -> None:
            with condition:
                if not done():
                    condition.wait(seconds)

        self._wait(pause, done, timeout)

    def sleep(self, sleeper: threading.Lock, done: Callable[[], bool], timeout: float | None) -> None:
        """As `wait`, by a lock that is released when `done()` becomes true."""
        self._wait(partial(sleeper.acquire, True), done, timeout)

    def _wait(self, pause: Callable[[float], object], done: Callable[[], bool], timeout: float | None) -> None:
        if self.forked:
            self.check_process()
        if self.must_not_wait():
            raise errors.ScalerError("a callback of a future waits for another one: only its own thread completes it")
        if self._waiting:
            self.flush()
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

    @contextlib.contextmanager
    def blocking(self) -> Iterator[None]:
        context = current_task_context()
        # Only the task's own thread blocks the task; threads it started do not.
        if context is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        context.enter_blocked()
        try:
            yield
        finally:
            context.exit_blocked()

    def on_waited(self) -> None:
        """A waiting thread has slept as long as `wait_seconds` allows."""
        return

    # --- objects (the sink of `serialization.arguments`)

    def store(self, buffers: Sequence[Buffer]) -> bytes:
        """Keep a copy of `buffers` in object storage and count one use of it. Equal content is sent once."""
        return self._store(buffers, "")

    def resolve(self, reference: ObjectReference) -> bytes:
        """Count one use of a reference's object. Raises MissingObjects for one that was cleared."""
        object_id = reference.object_id
        with self._lock:
            if reference.owner == self.client_id and object_id not in self._references:
                label = f" {reference.name!r}" if reference.name else ""
                raise errors.MissingObjects(f"object reference{label} ({object_id.hex()}) was cleared")
            if reference.owner != self.client_id and object_id not in self._core.uses.counts:
                # Another client's: never ours to delete, so one use of it stays counted.
                self._core.hold_object(object_id)
            self._core.hold_object(object_id)
        return object_id

    def hold(self, object_id: bytes) -> None:
        """Count one more use of an object that has one."""
        with self._lock:
            self._core.hold_object(object_id)

    def release(self, object_ids: Sequence[bytes]) -> None:
        """Undo one use of each."""
        if object_ids:
            with self._lock:
                self._core.release_objects(object_ids)
                self._send_effects()
            self._attend()

    def send_object(self, value: Any, name: str) -> ObjectReference:
        """Store `value`; it stays until the reference is cleared."""
        try:
            buffers = object_buffers(value)
        except Exception as error:
            raise errors.SerializationError(explain("the object", value, error)) from error
        require_storable(buffers, "the object")
        object_id = self._store(buffers, name)
        with self._lock:
            self._references[object_id] += 1
        return ObjectReference(object_id, self.client_id, name, sum(memoryview(buffer).nbytes for buffer in buffers))

    def drop_references(self, object_ids: Sequence[bytes]) -> None:
        """References with these ids are not valid any more."""
        with self._lock:
            for object_id in object_ids:
                self._references[object_id] -= 1
                if not self._references[object_id]:
                    del self._references[object_id]
        self.release(object_ids)

    def _store(self, buffers: Sequence[Buffer], name: str) -> bytes:
        self.check_process()
        channel = self._open_channel()
        flattened = [flat(buffer) for buffer in buffers]
        key = key_of(flattened)
        with self._lock:
            if self._core.unusable is not None:
                raise self._core.unusable.with_traceback(None)
            candidates = self._snapshots.candidates(key)
            for candidate, _ in candidates:
                self._core.hold_object(candidate)
        # Compared without the lock: this takes as long as reading the object.
        found = next((candidate for candidate, kept in candidates if kept.equals(flattened)), None)
        self.release([candidate for candidate, _ in candidates if candidate != found])
        if found is not None:
            return found
        object_id: bytes = new_id()
        copy = channel.snapshot(object_id, flattened)
        with self._lock:
            self._core.hold_object(object_id)
            self._snapshots.add(object_id, key, copy)
        try:
            channel.put(object_id, copy, name)
        except BaseException:
            self.release([object_id])
            raise
        return object_id

    def _open_channel(self) -> ObjectChannel:
        with self._channel_lock:
            if self._channel is None:
                welcome = self._welcome
                address = self._object_address or (welcome.object_storage_address if welcome is not None else "")
                if not address:
                    raise errors.ObjectStorageException(
                        "this cluster has no object storage server, and the value is too large to travel without one"
                    )
                self._channel = ObjectChannel(address, self._hello, self, timeout_seconds=self.timeout_seconds)
            return self._channel

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
                    channel.put(object_id, copy)
                except errors.ObjectStorageException as error:
                    self.on_object_refused(object_id, str(error))

    def on_channel_ended(self, error: BaseException) -> None:
        logger.error("the connection to object storage ended: %r", error)

    def _close_channel(self) -> None:
        with self._channel_lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    # --- events and effects

    def _handle(self, event: e.Event) -> None:
        with self._lock:
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
            deadline = self._known_deadline
            due = now >= (self._core.next_deadline() if deadline is None else deadline)
            if due:
                self._core.handle(e.Tick(), now)
            if self._waiting:
                self._core.flush_unhurried(now)
                self._waiting = self._core.table.waiting_count()
            elif not due:
                return
            self._known_deadline = None
            self._send_effects()

    def _send_effects(self) -> bool:
        """Send what the core wants sent; return whether there is something else to do, without the lock."""
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
            return self._send_effects()
        return bool(self._others)

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

    def _perform(self, effect: e.Effect) -> None:
        if type(effect) is e.Completed:
            self._complete(effect)
        elif isinstance(effect, e.FetchObject):
            try:
                self._open_channel().fetch(effect.number, effect.object_id)
            except errors.ScalerError as error:
                self.on_fetch_failed(effect.number, m.Status.STORAGE_FAILED, str(error))
        elif isinstance(effect, e.DeleteObjects):
            channel = self._channel
            if channel is not None:
                channel.delete(effect.object_ids)
        elif isinstance(effect, e.Abandoned):
            self._abandon(effect)
        elif isinstance(effect, e.WriteOutput):
            show_output(effect)
        elif isinstance(effect, e.ShowNotice):
            logger.log(logging.WARNING if effect.level else logging.INFO, "%s", effect.text)
        elif isinstance(effect, e.CancelConfirmed):
            with self._changed:
                for number in effect.numbers:
                    if number in self._confirmations:
                        self._confirmations[number] = True
                self._changed.notify_all()
        else:
            with self._changed:
                if isinstance(effect, e.Connected):
                    self._welcome = effect.welcome
                self._changed.notify_all()

    def _complete(self, completed: e.Completed) -> None:
        tokens = completed.tokens
        statuses, durations = completed.statuses, completed.durations
        if type(tokens[0]) is ScalerFuture and (
            len(tokens) == 1 or all(type(token) is ScalerFuture for token in tokens)
        ):
            profiles = None
            if len(completed.cpu_times) and len(durations):
                peaks = completed.memory_peaks if len(completed.memory_peaks) else [0] * len(tokens)
                profiles = list(zip(durations, completed.cpu_times, peaks, strict=True))
            answer_futures(tokens, completed.payloads, statuses, profiles)  # type: ignore[arg-type]
            return
        for position, token in enumerate(tokens):
            if isinstance(token, ScalerFuture):
                one = e.Completed(
                    [completed.numbers[position]],
                    [token],
                    [completed.payloads[position]],
                    *(
                        column[position : position + 1]
                        for column in (statuses, durations, completed.cpu_times, completed.memory_peaks)
                    ),
                )
                self._complete(one)
                continue
            duration = durations[position] if len(durations) else 0
            status = statuses[position] if len(statuses) else m.Status.SUCCESS
            token.on_answer(status, completed.payloads[position], duration)  # type: ignore[attr-defined]

    def _abandon(self, abandoned: e.Abandoned) -> None:
        for token in abandoned.tokens:
            error = _abandoned_error(abandoned)
            if isinstance(token, ScalerFuture):
                token.end_failed(error)
            else:
                token.on_abandoned(error)  # type: ignore[attr-defined]


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
