"""Results that are objects in storage: which stay there until somebody asks for them, and for how long the others do.

A future whose result is an object holds one use of it, as a task does that names one. As an argument it stands for the object,
which so goes from store to worker. The client fetches the object when somebody wants the future's value, be it only whether it
is done. Then the use ends, or with the future if tasks have named that.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from functools import partial
from itertools import islice

from scaler import errors
from scaler.client.completion import fail
from scaler.client.core_owner import CoreOwner
from scaler.client.future import ScalerFuture
from scaler.client.object_uses import HeldObject, ObjectUse, UsesByReference
from scaler.core import effects

KEPT_BYTES_MAX = 64 * 1024 * 1024
"""Fetched results that stay in storage as well, of futures that tasks have named: so many bytes, the latest ones."""

LEFT_SECONDS = 5.0
"""A result that no task has named is fetched after this time, so that storage has room for others."""

AHEAD_MAX = 16
"""Whoever asks for one result soon asks for the next ones: so many are fetched with it, unless tasks have named them."""


class LeftAnswer:
    """Stands for a future among the unanswered tasks, which so do not keep it. An `AnswerReceiver`."""

    def __init__(self, future: ScalerFuture) -> None:
        self.number = future.number
        self._reference = weakref.ref(future)

    @property
    def future(self) -> ScalerFuture | None:
        """The future, unless it is gone."""
        return self._reference()

    def on_answer(self, status: int, payload: effects.Payload, duration: int) -> None:
        """Never called: its answer is fetched for the future itself."""

    def on_abandoned(self, error: errors.ScalerError) -> None:
        """The task will not be answered."""
        future = self._reference()
        if future is not None:
            fail(future, error)


class StoredResults:
    """See the module. Of one client."""

    def __init__(self, owner: CoreOwner, uses: UsesByReference) -> None:
        """`uses`: where uses of objects are counted, and which tells `use_ended`."""
        self._owner = owner
        self._core = owner.core
        self._uses = uses
        self._numbers: dict[weakref.ref[ObjectUse], int] = {}
        """The tasks, by the uses of their results."""
        self._left: dict[int, tuple[weakref.ref[ScalerFuture], float]] = {}
        """Futures whose values were not fetched, and since when, by their tasks, oldest first."""
        self._kept: OrderedDict[int, tuple[weakref.ref[ScalerFuture], int]] = OrderedDict()
        """Futures whose values are here and in storage, and how many bytes that is; latest last."""
        self._kept_bytes = 0

    # --- from the client's threads, without the lock

    def leave(self, fetch: effects.FetchObject) -> bool:
        """Leave the value of a task in storage, as long as nobody wants it. False: it is to be fetched now."""
        future = fetch.token
        if not isinstance(future, ScalerFuture) or future.is_wanted:
            return False
        with self._owner.lock:
            if not self._core.leave(fetch.number, LeftAnswer(future)):
                # Cancelled just now: the core has it deleted.
                return True
            use = self._count(fetch.number, fetch.object_id)
            self._left[fetch.number] = (weakref.ref(future), time.monotonic())
        future.leave_in_storage(HeldObject(use), self._fetch)
        return True

    # --- from any thread

    def _fetch(self, future: ScalerFuture) -> None:
        self._owner.steps.do(partial(self._fetch_left, future))

    # --- the owner's, with the lock held

    def use_ended(self, reference: weakref.ref[ObjectUse]) -> None:
        """A use has ended: if it was that of a future, nobody wants its value any more."""
        number = self._numbers.pop(reference, None)
        if number is None:
            return
        self._left.pop(number, None)
        kept = self._kept.pop(number, None)
        if kept is not None:
            self._kept_bytes -= kept[1]
        if self._core.is_left(number):
            self._core.cancel((number,))

    def note_fetched(self, number: int, size: int) -> None:
        """The value of a task has come: it stays in storage, too, if tasks name its future, for others that do."""
        future, object_id = self._core.stored_value(number) or (None, b"")
        if not isinstance(future, ScalerFuture):
            return
        if size > KEPT_BYTES_MAX or not future.is_named:
            future.forget_stored()
            return
        if future.stored is None:
            future.keep_stored(HeldObject(self._count(number, object_id)))
        self._kept[number] = (weakref.ref(future), size)
        self._kept_bytes += size
        while self._kept_bytes > KEPT_BYTES_MAX:
            _, (reference, size) = self._kept.popitem(last=False)
            self._kept_bytes -= size
            one = reference()
            if one is not None:
                one.forget_stored()

    def forget_kept(self) -> None:
        """Object storage has lost what it had: values that are here are sent again when tasks name them."""
        for reference, _ in self._kept.values():
            future = reference()
            if future is not None:
                future.forget_stored()
        self._kept.clear()
        self._kept_bytes = 0

    def fetch_old(self) -> None:
        """Have values fetched that no task has named for a while. Not with the lock held."""
        now = time.monotonic()
        old = []
        for reference, since in self._left.values():
            if now < since + LEFT_SECONDS:
                break
            old.append(reference)
        for reference in old:
            future = reference()
            if future is not None and not future.is_named:
                future.want()

    def _fetch_left(self, future: ScalerFuture) -> None:
        number = future.number
        if self._left.pop(number, None) is None:
            return
        self._core.fetch_left(number, future)
        for following, (reference, _) in list(islice(self._left.items(), AHEAD_MAX)):
            one = reference()
            if one is not None and following > number and not one.is_named:
                # Takes the step after this one.
                one.want()

    def _count(self, number: int, object_id: bytes) -> ObjectUse:
        use = ObjectUse(object_id)
        self._core.hold_object(object_id)
        self._core.note_result(object_id)
        self._uses.count(use)
        assert use.reference is not None
        self._numbers[use.reference] = number
        # Its thread may sleep, and is to look for the end of this use from now on.
        self._owner.steps.wake()
        return use

    def __bool__(self) -> bool:
        """Whether there is a future that may be gone any moment."""
        return bool(self._numbers)
