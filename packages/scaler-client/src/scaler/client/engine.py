"""One client core with everything around it that is the same however its messages travel."""

from __future__ import annotations

import logging
import os
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from scaler import errors
from scaler.client.completion import abandon, complete, take_progress
from scaler.client.future_requests import FutureRequests
from scaler.client.job_answers import take_reply
from scaler.client.locks import take_change
from scaler.client.placed_payloads import PlacedPayloads
from scaler.client.sent_ahead import SentAheads
from scaler.client.sleepers import Sleepers
from scaler.client.steps import Answer, OwnersLock, Step, Steps
from scaler.client.stored_objects import StoredObjects
from scaler.client.task_intake import TaskIntake
from scaler.client.task_output import show_output
from scaler.client.waiting import WAIT_SECONDS, Waiting
from scaler.client.worker_lists import take_list
from scaler.core import effects, events
from scaler.core.client_core import ClientCore
from scaler.serialization.arguments import Packer
from scaler.serialization.repeated_values import RepeatedValues
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.errors import WireError
from scaler_protocol.runtime.task_context import TaskContext, current_task_context
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Frame, decode_envelope, encode_envelope

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

logger = logging.getLogger("scaler")

WAITING_TOLD_SECONDS = 2.0
"""Who waits for a session is told after so long what is waited for, and again after `WAITING_TOLD_AGAIN_SECONDS`."""

WAITING_TOLD_AGAIN_SECONDS = 10.0

DETACHED = int(m.TaskFlag.DETACHED)

ANSWER_GRACE_SECONDS = 30.0
"""How much longer than its own timeout the owner's thread may take to answer a question, before it counts as dead."""

T = TypeVar("T")

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine(ABC):
    """Owns a `ClientCore`, and takes the steps that threads of the application append.

    Threads of the application may be interrupted between any two bytecodes, by Ctrl-C, by an exception another thread sends, by
    a signal handler or a `__del__` that call the client again. So they never touch the core. What they want is a *step*: they
    append it to a deque, which is one operation that nothing interrupts, and the owner's thread takes it. Before the append
    nothing has happened; after it everything will. See `scaler.client.steps`.

    Every use of the core is under `lock`, by threads of our own; futures complete and user code runs without it. A task's thread
    that sends tasks itself (see `scaler.client.sent_ahead`) takes no lock, and changes nothing in the core.
    """

    def __init__(
        self,
        core: ClientCore,
        hello: m.Hello,
        *,
        timeout_seconds: float,
        object_address: str | None,
    ) -> None:
        """`object_address`: where large values go, if not where the scheduler says."""
        self.core = core
        self.client_id = core.client_id
        self.timeout_seconds = timeout_seconds
        self.forked = False
        self.lock = OwnersLock()
        self.steps = Steps()
        self.objects = StoredObjects(self, hello, self._storage_address, self.storage_security)
        """Large values, and references to them."""
        self.waiting = self._make_waiting()
        """Lets threads of the application wait."""
        self.aheads = self._make_aheads()
        self.tasks = TaskIntake(self, self.waiting, aheads=self.aheads, take_over=self.objects.take_over)
        """Submits tasks."""
        self.futures = FutureRequests(self, self.tasks, self.waiting)
        """What futures ask."""
        self.welcome: m.Welcome | None = None
        """What the scheduler last said of itself."""
        self._start: Callable[[], None] = lambda: None
        """Starts the owner's thread, where it has not started."""
        self._holder: weakref.ref[object] | None = None
        """The client, where the engine is its alone."""
        self._changed = Sleepers()
        """Woken when the session begins or ends."""
        self._later: deque[effects.Effect | Step] = deque()
        """What is to be done without the lock, in order."""
        self._object_address = object_address
        self._task_context = current_task_context()
        """The processor this engine was made in. It is told whether there are unanswered tasks."""
        self._told_unfinished = False
        self._placed: PlacedPayloads | None = None
        """Carries large payloads; None where they travel in messages only."""
        _engines.add(self)

    # --- how messages travel

    @abstractmethod
    def _transmit(self, frames: list[Frame]) -> None:
        """Send one message. Called with the lock held."""

    def _move_link(self, address: str) -> None:
        """Send to this scheduler from now on. Called with the lock held; only where there are several."""
        raise NotImplementedError

    @property
    @abstractmethod
    def address_in_use(self) -> str:
        """The address of the scheduler that is spoken to, of several ones."""

    @abstractmethod
    def must_not_wait(self) -> bool:
        """Whether the current thread is the one that completes futures."""

    def close_when_idle(self) -> None:
        """Called when nobody holds the client any more; from any thread, with any lock held."""
        return

    def _tell_waiting(self, seconds: float) -> None:
        """The session has not begun for so long: say so, where nobody else does."""
        return

    def _make_aheads(self) -> SentAheads | None:
        """Return what lets threads send tasks themselves; None where only the owner sends."""
        return None

    def _make_waiting(self) -> Waiting:
        """Return what lets threads wait."""
        return Waiting(self)

    def _storage_address(self) -> str:
        """Return where large values go; empty where that is nowhere."""
        welcome = self.welcome
        return self._object_address or (welcome.object_storage_address if welcome is not None else "")

    def storage_security(self) -> PeerSecurity | None:
        """Return the keys for object storage; None without keys. Raises ValueError if they cannot be read."""
        return None

    def note_parent(self) -> None:
        """The running task submits something, which is cancelled with it where the engine sees to that."""
        return

    def packer(self, serializer: AnySerializer | None, environment: bytes = b"") -> Packer:
        """Return what turns calls into bytes, for a client with this serializer, whose tasks find this environment."""
        placed = self._placed
        if placed is None or serializer is not None:
            return Packer(self.objects, serializer, repeated=self._repeated_values(), environment=environment)
        repeated = self._repeated_values(lambda: placed.copies_bytes_max)
        return Packer(
            self.objects,
            None,
            lambda: placed.alone_bytes_max,
            repeated,
            leaves_unpickled=True,
            environment=environment,
        )

    def _repeated_values(self, copies_bytes_max: Callable[[], int] = lambda: 0) -> RepeatedValues:
        core = self.core
        return RepeatedValues(core.next_number, core.is_under_way, copies_bytes_max)

    @property
    def places_payloads(self) -> bool:
        """Whether large payloads lie where workers can read them, as far as is known."""
        return self._placed is not None and not self._placed.is_over

    # --- the session

    @property
    def unusable(self) -> errors.ScalerError | None:
        """Why nothing can be submitted, or None."""
        return self.core.unusable

    @property
    def unanswered_count(self) -> int:
        """Tasks whose answer has not come."""
        return self.core.unanswered_count

    def wait_connected(self, timeout: float) -> None:
        """Wait for the session to begin. Raises what ended it, or DisconnectedError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        core = self.core

        def is_settled() -> bool:
            return self.welcome is not None or core.unusable is not None

        told_at = deadline - timeout + WAITING_TOLD_SECONDS
        while not is_settled() and (remaining := deadline - (now := time.monotonic())) > 0:
            if now >= told_at:
                told_at = now + WAITING_TOLD_AGAIN_SECONDS
                self._tell_waiting(timeout - remaining)
            self._changed.sleep(is_settled, min(remaining, WAIT_SECONDS, told_at - now))
            self._start()
        core.admission.require_usable()
        if self.welcome is None:
            raise errors.DisconnectedError("no answer from the scheduler")

    def check_process(self) -> None:
        """Raise ClientForkedError in a child made by fork."""
        if self.forked:
            raise errors.ClientForkedError(
                f"this client belongs to the process that made it and cannot be used in process {os.getpid()}, "
                "which was forked from it: make a new Client there"
            )

    # --- steps: the owner's thread takes them

    def ask(self, step: Callable[[], T]) -> T:
        """Have the owner's thread call `step`, with the lock held, and return what it returns."""
        if not self.must_not_wait():
            try:
                return self.steps.ask(step, self.timeout_seconds + ANSWER_GRACE_SECONDS)
            except TimeoutError:
                raise self.core.unusable or errors.DisconnectedError(
                    "the client's connection thread has ended"
                ) from None
        answer = Answer(step)
        self.steps.queue.append(answer.take)
        self._take_steps_here()
        return answer.value()

    def _take_steps_here(self) -> None:
        """In the owner's thread: take the steps now. Raises in the middle of the core, where only the collector calls this."""
        if self.lock.held:
            raise errors.ScalerError(
                "the garbage collector ran this in the middle of the client: it cannot wait for the client here"
            )
        with self.lock:
            self._take_steps()
            self._send_effects()

    def _take_steps(self) -> None:
        """Take all steps, before anything else happens to the core. Lock held."""
        queue = self.steps.queue
        while queue:
            step = queue[0]
            if type(step) is tuple:
                self.tasks.take_submissions()
                continue
            queue.popleft()
            if type(step) is weakref.ref:
                if step is self._holder:
                    self.close_when_idle()
                else:
                    self.objects.use_ended(step)
                continue
            try:
                step()
            except Exception as error:
                # It fails one call, never the client.
                logger.exception("the client could not carry out a request: %r", error)

    # --- turns: what has happened goes into the core, what follows comes out

    def handle(self, event: events.Event) -> None:
        """Give an event to the core, and perform what follows. From any thread of the client; takes the lock."""
        with self.lock:
            self._take_steps()
            self.core.handle(event, time.monotonic())
            self._send_effects()
        self._perform_later()

    def on_messages(self, messages: Sequence[list[Frame]]) -> None:
        """Take messages of the scheduler in; `_perform_later` is the caller's to call."""
        incoming = []
        for frames in messages:
            try:
                incoming.append(new_tuple(events.Incoming, (decode_envelope(frames[0]), decode(frames[1:]))))
            except (WireError, IndexError) as error:
                logger.error("the scheduler sent a malformed message: %s", error)
        now = time.monotonic()
        handle = self.core.handle
        with self.lock:
            if self.steps.queue:
                self._take_steps()
            for event in incoming:
                if self._placed is not None and type(event.message) is m.ResultBatch:
                    self._placed.take(event.message)
                handle(event, now)
            self._send_effects()

    def _tick(self) -> float:
        """Take steps, do what is due, send what waits; return when to come back. `_perform_later` is the caller's to call."""
        now = time.monotonic()
        core, steps = self.core, self.steps
        with self.lock:
            # Before it looks: who still saw it set has its step taken now.
            steps.looks_soon = False
            stepped = bool(steps.queue)
            if stepped:
                self._take_steps()
            deadline = core.next_deadline()
            if now >= deadline:
                core.handle(events.Tick(), now)
            elif stepped or not core.idle:
                core.flush_or_hold(now)
            else:
                return deadline
            self._send_effects()
            return core.next_deadline()

    def _send_effects(self) -> None:
        """Send what the core wants sent, and keep what else there is to do, without the lock."""
        if self._task_context is not None:
            # Before what is sent, so that word of it can travel along.
            self._tell_unfinished(self._task_context)
        unsendable = False
        for effect in self.core.take_effects():
            if type(effect) is effects.MoveLink:
                self._move_link(effect.address)
            elif type(effect) is effects.Send:
                envelope = effect.envelope
                message = effect.message
                if self._placed is not None and type(message) is m.TaskBatch and not message.flags & DETACHED:
                    self._placed.place(message)
                try:
                    frames = encode(effect.message)
                except WireError as error:
                    frames = encode(self.core.fail_unsendable(envelope, effect.message, str(error)))
                    unsendable = True
                self._transmit([encode_envelope(envelope), *frames])
            else:
                if isinstance(effect, effects.DeleteObjects):
                    # Here, where no use of them can begin.
                    self.objects.forget(effect.object_ids)
                self._later.append(effect)
        if unsendable:
            # Its tasks have failed, which is an effect as well.
            self._send_effects()

    def _tell_unfinished(self, context: TaskContext) -> None:
        """Tell the processor when the first task is unanswered, and when none is any more."""
        unfinished = self.core.unanswered_count > 0
        if unfinished is not self._told_unfinished and not self.forked:
            self._told_unfinished = unfinished
            context.note_unfinished(self.client_id, unfinished)

    def perform_later(self, call: Callable[[], object]) -> None:
        """Have `call` made without the lock, after what was decided before. With the lock held."""
        self._later.append(call)

    def _perform_later(self) -> None:
        """Perform, without the lock, all effects that are no messages."""
        later = self._later
        while later:
            try:
                effect = later.popleft()
            except IndexError:
                # Another thread performs them as well.
                return
            self._perform(effect)

    def _perform(self, effect: effects.Effect | Step) -> None:
        if type(effect) is effects.Completed:
            complete(effect)
        elif callable(effect):
            effect()
        elif isinstance(effect, effects.FetchObject):
            self.objects.fetch(effect)
        elif isinstance(effect, effects.DeleteObjects):
            self.objects.delete(self.core.own_objects(effect.object_ids))
        elif isinstance(effect, effects.Abandoned):
            abandon(effect)
        elif isinstance(effect, effects.WriteOutput):
            show_output(effect)
        elif isinstance(effect, effects.ShowNotice):
            logger.log(logging.WARNING if effect.level else logging.INFO, "%s", effect.text)
        elif isinstance(effect, effects.CancelConfirmed):
            self.futures.on_confirmed(effect.numbers)
        elif isinstance(effect, effects.WorkersListed):
            take_list(effect)
        elif isinstance(effect, effects.JobAnswered):
            take_reply(effect)
        elif isinstance(effect, effects.LeaseChanged):
            take_change(effect)
        elif isinstance(effect, effects.Progressed):
            take_progress(effect)
        else:
            if isinstance(effect, effects.Connected):
                self.welcome = effect.welcome
                self.objects.follow_storage()
            if isinstance(effect, effects.CreditArrived):
                self.tasks.on_credit()
            self._changed.wake()


def _mark_forked() -> None:
    for engine in list(_engines):
        engine.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)
