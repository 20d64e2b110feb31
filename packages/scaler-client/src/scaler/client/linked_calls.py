"""Calls that have futures among their arguments: rows that the scheduler holds back until what they need is done.

The results go from worker to worker by way of the scheduler or object storage, not through this client. Only where the
scheduler does not know a task any more, because its answer is on its way here, the client sends the value once it has it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

from scaler.client.completion import fail
from scaler.client.dependent_future import DependentFuture
from scaler.client.engine import Engine
from scaler.client.future import FutureSource, ScalerFuture
from scaler.client.object_reference import InnerReferences
from scaler.client.object_uses import take_out_inner
from scaler.core.task_history import Before
from scaler.core.tasks import TaskGroup
from scaler.errors import ClientCancelledException, ScalerError, SerializationError
from scaler.serialization.arguments import Packer
from scaler.serialization.future_arguments import FutureInputs
from scaler.serialization.pickled import Packed, Pickled
from scaler_protocol.payloads.framing import Argument, frame_arguments, identity
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried, carried_columns
from scaler_protocol.wire.call_options import join_records
from scaler_protocol.wire.columns import EMPTY
from scaler_protocol.wire.columns import Packed as PackedColumn

_submitting = threading.local()
"""`calls`: what this thread is submitting anew."""


def submit_linked(
    engine: Engine,
    packer: Packer,
    client: FutureSource,
    group: TaskGroup,
    function: Pickled,
    packed: Packed,
    objects: Sequence[bytes],
    carried: Carried,
) -> ScalerFuture:
    """Submit a call with futures among its arguments; `objects` are all those that it names, each with one use counted."""
    needed = [] if packed.inputs is None else packed.inputs.futures
    named, inner = take_out_inner(objects)
    future = DependentFuture(client)
    try:
        held = (*inner, *held_by(() if packed.inputs is None else packed.inputs.seen))
        if held:
            future.hold_until_restored(held)
        call = _Call(engine, packer, group, function, bytes(packed.payload), named, needed, carried, future)
        future.call = call
        call.submit(waits=True)
    except BaseException:
        engine.objects.release((*named, *inner))
        raise
    return future


def held_by(needed: Iterable[ScalerFuture]) -> Sequence[bytes]:
    """Return the uses of objects that references inside the values of these may stand for.

    Whoever needs the values refers to the uses too: references may be all that they do with them.
    """
    return tuple({one: one for future in needed for one in future.held_until_restored}.values())


def passed_on(
    engine: Engine, packer: Packer, future: ScalerFuture, objects: list[bytes]
) -> tuple[Argument, tuple[bytes, ...]]:
    """Return the value of a future that is done as an argument, and the uses of objects whose references are inside of it."""
    with InnerReferences() as references:
        argument = packer.result_of(identity, 0, future, objects)
    return argument, engine.objects.hold_inner(references) if references else ()


def require_own(client: FutureSource, function: Pickled, inputs: FutureInputs) -> None:
    """Raise SerializationError where another client's futures are among these."""
    for future in inputs.seen:
        require_own_future(client, future, f"among the arguments of {function.name} is")


def require_own_future(client: FutureSource, future: ScalerFuture, where: str) -> None:
    """Raise SerializationError for another client's future; the message begins with `where`."""
    if future.client is not client:
        raise SerializationError(
            f"{where} {future!r} of another client: the tasks of a client know its own futures only: call .result() first"
        )


class Submittable(Protocol):
    """What is submitted anew when the values that it needs are here."""

    def submit(self) -> None:
        """Submit it."""

    def end(self, error: Exception) -> None:
        """End its futures: it could not be submitted."""


class _Call:
    """See `dependent_future.LinkedCall`."""

    def __init__(
        self,
        engine: Engine,
        packer: Packer,
        group: TaskGroup,
        function: Pickled,
        payload: bytes,
        objects: Sequence[bytes],
        inputs: Sequence[ScalerFuture],
        carried: Carried,
        future: DependentFuture,
    ) -> None:
        self.inputs = inputs
        self._engine = engine
        self._packer = packer
        self._group = group
        self._function = function
        self._payload = payload
        self._objects = objects
        """Each with one use, which ends with this."""
        self._carried = carried
        self._future = future
        self._first_number = 0
        """That of its first row, where it was submitted last."""

    # --- asked for by the scheduler

    def send_values_of(self, numbers: Sequence[int]) -> None:
        """See `LinkedCall`."""
        unknown = set(numbers)
        waiting = [one for one in self.inputs if one.number in unknown and not (one.has_ended or one.has_value)]
        submit_when_done(self, waiting)

    # --- submitting

    def end(self, error: Exception) -> None:
        """See `Submittable`."""
        end_with(self._future, error)

    def submit(self, *, waits: bool = False) -> None:
        """Submit it, or end its future where that will never have a value. `waits` and errors: see `TaskIntake.submit_graph`."""
        future = self._future
        if future.has_ended:
            return
        for one in self.inputs:
            if one.cancelled():
                future.end_cancelled(ClientCancelledException(f"task {one.number}, which it needs, was cancelled"))
                return
            if one.has_ended and one.failed:
                future.end_failed_by(one)
                return
        number, message = future.number, self._message()
        row = len(message.payloads) - 1
        before = Before(self._first_number, {row: number}) if number else None
        submit = self._engine.tasks.submit_graph
        first = submit(message, [future], waits=waits and bool(self.inputs), before=before)
        # It may have been answered, and submitted once more, before this thread comes here.
        self._first_number = max(self._first_number, first)

    def _message(self) -> m.GraphSubmit:
        """Return the call as a row that needs earlier tasks. What is done by now, or became so meanwhile, goes with it."""
        engine, packer, inputs = self._engine, self._packer, self.inputs
        done = [index for index, future in enumerate(inputs) if future.has_value]
        objects: list[bytes] = []
        rows: list[bytes] = []
        positions: list[int] = []
        sources: dict[int, int] = {}
        earlier: list[int] = []
        for index in done:
            # A row of its own that passes the value on: the payload names inputs by number.
            argument, inner = passed_on(engine, packer, inputs[index], objects)
            if inner:
                self._future.hold_until_restored(inner)
            positions.extend([len(rows)] * (len(objects) - len(positions)))
            sources[index] = len(rows)
            rows.append(frame_arguments([argument], {}))
        count = len(rows) + 1
        for index, future in enumerate(inputs):
            if index not in sources:
                sources[index] = count + len(earlier)
                earlier.append(future.number)
        objects.extend(engine.objects.hold(one) for one in self._objects)
        positions.extend([len(rows)] * (len(objects) - len(positions)))
        functions = [self._function.function_id]
        engine.tasks.define(self._function)
        if rows:
            passing_on = packer.function(identity)
            engine.tasks.define(passing_on)
            functions.append(passing_on.function_id)
        return m.GraphSubmit(
            client=engine.client_id,
            first_number=0,
            functions=tuple(functions),
            payloads=PackedColumn.of([*rows, self._payload]),
            dependency_counts=[*[0] * len(rows), len(inputs)],
            dependencies=[sources[index] for index in range(len(inputs))],
            wanted=[len(rows)],
            function_indexes=[*[1] * len(rows), 0] if rows else EMPTY,
            capabilities=self._group.capabilities,
            serializer=self._group.serializer,
            flags=self._group.flags,
            depth=self._group.depth,
            options=join_records([self._group.options]),
            object_positions=positions,
            objects=tuple(objects),
            earlier=earlier,
            **carried_columns([self._carried] * count),
        )


def submit_when_done(call: Submittable, waiting: Sequence[ScalerFuture]) -> None:
    """Submit a call anew once these are done, or their values lie in storage; at once where there are none."""
    once = deque([call])
    if not waiting:
        _submit_once(once)
        return
    left = set(waiting)
    for future in waiting:
        future.follow(partial(_one_less, left, once))


def _one_less(left: set[ScalerFuture], once: deque[Submittable], future: ScalerFuture) -> None:
    left.discard(future)
    if not left:
        _submit_once(once)


def _submit_once(once: deque[Submittable]) -> None:
    """Submit a call anew, whoever comes first.

    Where that ends its future at once, calls that wait for it come here again. They are submitted after it, not within: of a
    chain of many, each would be a few frames deeper than the one before.
    """
    try:
        call = once.popleft()
    except IndexError:
        return
    calls = getattr(_submitting, "calls", None)
    if calls is not None:
        calls.append(call)
        return
    calls = _submitting.calls = deque([call])
    try:
        while calls:
            one = calls.popleft()
            try:
                one.submit()
            except Exception as error:
                # Nobody is there to be told, and its futures must end.
                one.end(error)
    finally:
        del _submitting.calls


def end_with(future: ScalerFuture, error: Exception) -> None:
    """End a future whose call could not be submitted."""
    if isinstance(error, ScalerError):
        fail(future, error)
    else:
        future.end_failed(error)
