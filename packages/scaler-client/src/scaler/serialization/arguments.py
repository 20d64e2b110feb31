"""Calls to payload bytes, as `scaler_protocol.payloads.framing` describes them; large parts become objects in storage.

Everything is a snapshot: when a function of this module returns, nothing it made refers to memory the caller may change.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol, TypeVar

from scaler.client.future import ScalerFuture
from scaler.client.object_reference import InnerReferences, ObjectReference
from scaler.errors import ScalerError, SerializationError
from scaler.serialization.argument_list import ArgumentList, label_of
from scaler.serialization.faults import explain
from scaler.serialization.functions import FunctionCache
from scaler.serialization.future_arguments import FutureInputs
from scaler.serialization.pickled import Packed, Pickled
from scaler.serialization.pickling import NUMBERS, PROTOCOL, dumps, dumps_apart, is_plain, plain_items, size_hint
from scaler.serialization.repeated_values import RepeatedValues
from scaler.serialization.serializer import AnySerializer
from scaler.serialization.signatures import check_of
from scaler.serialization.split_functions import CalledFunctions
from scaler_protocol.ids import NO_ID, content_id
from scaler_protocol.objects.segments.batch_place import ITEMS_MAX
from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.environment_body import with_serializer
from scaler_protocol.payloads.expressions import HoldsItselfError
from scaler_protocol.payloads.framing import (
    CUSTOM,
    FRAMED,
    INLINE_BYTES_MAX,
    OBJECT,
    PICKLED,
    RAW_BYTEARRAY,
    RAW_BYTES,
    SHARED_BYTES_MIN,
    Argument,
    InputReference,
    Source,
    frame_arguments,
    frame_payloads,
)
from scaler_protocol.payloads.unpickled import (
    UNPICKLED_BYTES_MIN,
    BufferedPickle,
    LatePayload,
    PayloadParts,
    UnpickledBytes,
)
from scaler_protocol.runtime.coroutines import runs_function_of
from scaler_protocol.runtime.names import name_of, shown, shown_error, shown_type
from scaler_protocol.runtime.values import new_tuple
from scaler_protocol.wire.envelope import OBJECT_BYTES_MAX

_dumps = pickle.dumps
_dumps_plain = partial(pickle.dumps, protocol=PROTOCOL)

INPUT_INDEX_MAX = 0xFFFF
"""The largest index that an argument of `Source.INPUT` holds."""

Buffer = bytes | bytearray | memoryview

AnyPacked = TypeVar("AnyPacked", Packed, Pickled)


class ObjectSink(Protocol):
    """Where large values go. What `store`, `resolve` and `hold_inner` return is one more use of its object, for a task."""

    def store(self, buffers: Sequence[Buffer]) -> bytes:
        """Keep a copy of `buffers` (of all but `bytes`) and return its object id. Equal content may share an object."""

    def resolve(self, reference: ObjectReference) -> bytes:
        """Return the id of the object a reference names. Raises MissingObjects for one that is not valid any more."""

    def hold(self, object_id: bytes) -> bytes:
        """Return the id of an object that is in use, with one more use of it."""

    def hold_inner(self, references: Sequence[ObjectReference]) -> tuple[bytes, ...]:
        """Return the ids of the objects of references that are inside a value, but for other clients'. Raises as `resolve`."""

    def release(self, object_ids: Sequence[bytes]) -> None:
        """Undo one use each: nothing was submitted."""


class Packer:
    """Turns the functions and arguments of one client into bytes. Safe to use from several threads.

    `serializer` None stands for pickle and cloudpickle. Errors in the values themselves are `SerializationError`.
    """

    def __init__(
        self,
        sink: ObjectSink,
        serializer: AnySerializer | None = None,
        alone_bytes_max: Callable[[], int] = lambda: INLINE_BYTES_MAX,
        repeated: RepeatedValues | None = None,
        *,
        leaves_unpickled: bool = False,
        environment: bytes = b"",
    ) -> None:
        """`alone_bytes_max` returns up to which size the only argument of a call, and the items of a chunk without `star`,
        are no object, for now.

        `repeated` knows which values many tasks get.
        `leaves_unpickled`: the payloads of single calls and chunks may be made late.
        `environment`: the body of what tasks find where they run (see `scaler_protocol.payloads.environments`); empty: nothing.
        """
        self._sink = sink
        self._leaves_unpickled = leaves_unpickled
        self._plain_bytes_max = UNPICKLED_BYTES_MIN - 1 if leaves_unpickled else SHARED_BYTES_MIN
        self._alone_bytes_max = alone_bytes_max
        self._serializer = serializer
        self._may_be_copied = (repeated or RepeatedValues()).may_be_copied
        # A custom serializer is to see all functions as they are.
        cache = (
            CalledFunctions(self._make_function, sink.release)
            if serializer is None
            else FunctionCache(self._make_function)
        )
        self.called_function = cache.get
        """As `function`, for a single call, whose arguments `Pickled.pack` packs."""
        self.function = FunctionCache(self._make_function, cache).get
        """Return what stands for a function. Where that names objects, each has one more use counted."""
        self.serializer_function: Pickled | None = None
        """How the custom serializer itself travels, and the environment, which then names it."""
        body = b""
        if serializer is not None:
            try:
                body = PICKLED + dumps(serializer)
            except Exception as error:
                raise SerializationError(explain("the serializer", serializer, error)) from error
        if environment:
            body = with_serializer(environment, body)
        if body:
            name = "environment" if environment else "serializer"
            self.serializer_function = Pickled(content_id(body), body, (), name, self.linked_call)

    # --- functions

    def _make_function(self, function: Any, tag: bytes) -> Pickled:
        with InnerReferences() as references:
            pickled = self._pickled_function(function, tag)
        return self._with_inner(pickled, references) if references else pickled

    def _pickled_function(self, function: Any, tag: bytes) -> Pickled:
        if not callable(function):
            raise TypeError(f"{shown(function)} is not callable")
        if runs_function_of(inspect.isasyncgenfunction, function):
            raise SerializationError(
                f"{name_of(function)} is an async generator function, whose values cannot be sent one by one: "
                "let it return a list of them"
            )
        try:
            if self._serializer is not None:
                body = CUSTOM + self._serialized(function)
                if len(body) > SHARED_BYTES_MIN:
                    return self._stored_function(function, tag, [body])
            else:
                pickled, buffers = dumps_apart(function)
                if len(pickled) + sum(buffer.nbytes for buffer in buffers) > SHARED_BYTES_MIN:
                    return self._stored_function(function, tag, [PICKLED + pickled, *buffers])
                body = PICKLED + (dumps(function) if buffers else pickled)
        except ScalerError:
            raise
        except Exception as error:
            raise SerializationError(self._explained(f"function {name_of(function)}", function, error)) from error
        body = tag + body
        return Pickled(self._id_of(body), body, (), name_of(function), self.linked_call, check_of(function))

    def _stored_function(self, function: Any, tag: bytes, buffers: Sequence[Buffer]) -> Pickled:
        object_id = self._store(buffers, f"function {name_of(function)}")
        body = tag + OBJECT + object_id
        return Pickled(self._id_of(body), body, (object_id,), name_of(function), self.linked_call, check_of(function))

    def _id_of(self, body: bytes) -> bytes:
        """Return the content address of a function: what its bytes mean depends on who reads them."""
        serializer = self.serializer_function
        return content_id(body, NO_ID if serializer is None else serializer.function_id)

    # --- calls

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        """Return the argument payload of `function(*args, **kwargs)`, where no argument may be a future."""
        # What is larger, only a task by itself may carry.
        packed = self.linked_call(function, args, kwargs, 0, INLINE_BYTES_MAX)
        if type(packed.payload) is not bytes:
            packed = packed._replace(payload=bytes(packed.payload))
        if packed.inputs is not None:
            self._sink.release(packed.objects)
            future = next(iter(packed.inputs.seen))
            raise self._explain_call(function, args, kwargs, TypeError(f"{future!r} cannot be sent here"))
        return packed

    def linked_call(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        hidden: int = 0,
        alone_bytes_max: int | None = None,
        /,
    ) -> Packed:
        """See `Pack`. `alone_bytes_max` is instead of the packer's."""
        if self._serializer is None:
            # The way of nearly all small tasks: worth every tenth of a microsecond, and so without a call for the loop.
            for value in args:
                if type(value) not in NUMBERS and not _is_small_and_plain(value, self._plain_bytes_max):
                    is_plain_call = False
                    break
            else:
                is_plain_call = not kwargs or all(map(_is_small_and_plain, kwargs.values()))
            if is_plain_call:
                pickled = _dumps((args, kwargs), PROTOCOL)
                if len(pickled) <= SHARED_BYTES_MIN:
                    return new_tuple(Packed, (PICKLED + pickled, (), 0, None))
            if alone_bytes_max is None:
                alone_bytes_max = self._alone_bytes_max()
            is_alone = len(args) == 1 and not kwargs
            if is_plain_call and not (is_alone and alone_bytes_max > INLINE_BYTES_MAX):
                return self._call_list(function, args, kwargs, hidden)
            if is_alone and self._leaves_unpickled and self._may_stay_unpickled(args, alone_bytes_max):
                return Packed(UnpickledBytes(args, is_chunk=False))
        inputs: FutureInputs | None = None
        with InnerReferences() as references:
            if any(map(_is_future, args)) or any(map(_is_future, kwargs.values())):
                inputs = FutureInputs()
                packed = self._call_list(function, args, kwargs, hidden, inputs)
            else:
                try:
                    packed = self._call_by_value(function, args, kwargs, hidden, alone_bytes_max)
                except SerializationError:
                    # Only a call that cannot be sent as it is has futures inside of its arguments.
                    inputs = FutureInputs()
                    if not inputs.find((*args, *kwargs.values())):
                        raise
                    references.clear()
                    packed = self._call_list(function, args, kwargs, hidden, inputs)
        if inputs is not None:
            packed = packed._replace(inputs=inputs)
        return self._with_inner(packed, references) if references else packed

    def _call_by_value(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        hidden: int,
        alone_bytes_max: int | None,
    ) -> Packed:
        """`alone_bytes_max` is None with a serializer only."""
        if alone_bytes_max is not None:
            values = (*args, *kwargs.values())
            bytes_max = alone_bytes_max if len(values) == 1 else None
            if not self._needs_list(values, bytes_max):
                packed = self._call_whole(function, args, kwargs, hidden, bytes_max or INLINE_BYTES_MAX)
                if packed is not None:
                    return packed
        return self._call_list(function, args, kwargs, hidden)

    def _with_inner(self, packed: AnyPacked, references: Sequence[ObjectReference]) -> AnyPacked:
        """Return `packed` with the objects of references inside its values, each with one use counted."""
        try:
            inner: tuple[bytes, ...] = self._sink.hold_inner(references)
        except BaseException:
            self._sink.release(packed.objects)
            raise
        return packed._replace(objects=(*packed.objects, *inner))

    def _needs_list(self, values: Sequence[Any], alone_bytes_max: int | None) -> bool:
        """Whether one of these is an argument by itself: a reference, or large. Only a list can name it apart.

        With `alone_bytes_max`, each is the only argument of its call, and an object only where it is larger than that or has
        come before.
        """
        large = [value for value in values if size_hint(value) > SHARED_BYTES_MIN or type(value) is ObjectReference]
        if not large:
            return False
        if alone_bytes_max is None:
            return True
        if any(size_hint(value) > alone_bytes_max or type(value) is ObjectReference for value in large):
            return True
        # All of them, so that each is noted.
        return not min(map(self._may_be_copied, large))

    def _may_stay_unpickled(self, values: Sequence[Any], bytes_max: int) -> bool:
        """Whether these, the only argument of a call or the items of a chunk, are `bytes` that need no pickle and no object."""
        if not 0 < len(values) <= ITEMS_MAX or any(type(value) is not bytes for value in values):
            return False
        sizes = list(map(len, values))
        total = sum(sizes)
        if total < UNPICKLED_BYTES_MIN or total > bytes_max:
            return False
        if len(values) > 1 and len(set(map(id, values))) < len(values):
            # A pickle has what occurs twice once.
            return False
        return max(sizes) <= SHARED_BYTES_MIN or not self._needs_list(values, bytes_max)

    def _pickled_payload(self, pickled: bytes) -> LatePayload:
        if self._leaves_unpickled and len(pickled) >= UNPICKLED_BYTES_MIN:
            return PayloadParts((PICKLED, pickled))
        return PICKLED + pickled

    def _buffered_payload(self, value: Any, pickled: bytes, buffers: Sequence[memoryview]) -> LatePayload:
        """Return the payload for a value of which `dumps_apart` returns this, with copies of the buffers."""
        if not buffers:
            return self._pickled_payload(pickled)
        if self._leaves_unpickled and len(buffers) < ITEMS_MAX:
            payload = BufferedPickle((PICKLED + pickled, *map(bytes, buffers)))
            if len(payload) >= UNPICKLED_BYTES_MIN:
                return payload
        return self._pickled_payload(dumps(value))

    def _call_whole(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: int, bytes_max: int
    ) -> Packed | None:
        """Return one pickle of all arguments, which keeps what they share; None when that would be large."""
        call = (args, kwargs)
        try:
            pickled, buffers = dumps_apart(call)
            size = len(pickled) + sum(buffer.nbytes for buffer in buffers)
            if size > bytes_max:
                return None
            if size > SHARED_BYTES_MIN and size > SHARED_BYTES_MIN + sum(map(size_hint, (*args, *kwargs.values()))):
                # What is large is inside of some argument, which is one by itself.
                if bytes_max <= INLINE_BYTES_MAX:
                    return None
                if not self._may_be_copied(pickled, *buffers):
                    return self._stored_pickle(pickled, buffers, f"the argument of {name_of(function)}")
            return Packed(self._buffered_payload(call, pickled, buffers))
        except ScalerError:
            raise
        except Exception as error:
            raise self._explain_call(function, args, kwargs, error, hidden) from error

    def _stored_pickle(self, pickled: bytes, buffers: Sequence[memoryview], what: str) -> Packed:
        """Return a payload that is an object with this pickle and its buffers."""
        object_id = self._store([PICKLED + pickled, *buffers], what)
        size = len(pickled) + sum(buffer.nbytes for buffer in buffers)
        return Packed(OBJECT + object_id, (object_id,), size)

    def _call_list(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        hidden: int,
        inputs: FutureInputs | None = None,
    ) -> Packed:
        objects: list[bytes] = []
        arguments = self.argument_list(function, objects)
        labelled: list[tuple[int | str, Any]] = [*enumerate(args, -hidden), *kwargs.items()]
        try:
            for label, value in labelled:
                if inputs is None:
                    arguments.add_value(label, value)
                else:
                    self._add_value_or_input(inputs, function, label, value, arguments)
            packed = arguments.finish()
            keyword = dict(zip(kwargs, packed[len(args) :], strict=True))
            what = f"the list of the arguments of {name_of(function)}"
            return self.framed(frame_arguments(packed[: len(args)], keyword), objects, what)
        except BaseException:
            self._sink.release(objects)
            raise

    def argument_list(self, function: Any, objects: list[bytes]) -> ArgumentList:
        """Return an empty list of arguments for a call of `function`; `objects` gets those it needs."""
        return ArgumentList(self.argument, function, objects, together=self._serializer is None)

    def framed(self, payload: bytes, objects: list[bytes], what: str) -> Packed:
        """Return a payload as it is, or as an object where it is large. `objects` are those it names."""
        if len(payload) <= INLINE_BYTES_MAX:
            return Packed(payload, tuple(objects))
        object_id = self._store([FRAMED + payload], what)
        objects.append(object_id)
        return Packed(OBJECT + object_id, tuple(objects))

    def argument(
        self, function: Any, label: int | str, value: Any, objects: list[bytes], what: str | None = None
    ) -> Argument:
        """Return one argument, pickled by itself; objects it needs are appended to `objects`, with their use counted.

        Errors call it `what`, or by default an argument of that function.
        """
        if type(value) is ObjectReference:
            object_id = self._sink.resolve(value)
        else:
            try:
                buffers = self._value_buffers(value)
            except ScalerError:
                raise
            except Exception as error:
                what = what or f"{label_of(label)} of {name_of(function)}"
                raise SerializationError(self._explained(what, value, error)) from error
            if isinstance(buffers, bytes):
                return Argument(Source.VALUE, buffers)
            object_id = self._store(buffers, what or f"{label_of(label)} of {name_of(function)}")
        objects.append(object_id)
        return Argument(Source.OBJECT, object_id)

    def _add_value_or_input(
        self, inputs: FutureInputs, function: Any, label: int | str, value: Any, arguments: ArgumentList
    ) -> None:
        """Append an argument that may be a future or have futures inside."""
        if isinstance(value, ScalerFuture):
            index = inputs.index_of(value)
            if index is None:
                arguments.add(self.result_of(function, label, value, arguments.objects))
            elif index <= INPUT_INDEX_MAX:
                arguments.add(Argument(Source.INPUT, index.to_bytes(2, "little")))
            else:
                arguments.add(Argument(Source.EXPRESSION, dumps(InputReference(index))))
            return
        try:
            expression = inputs.expression(value)
        except HoldsItselfError as error:
            what = f"{label_of(label)} of {name_of(function)}"
            raise SerializationError(f"{what}: a {shown_type(error.container)} that has futures holds itself") from None
        if expression is value:
            arguments.add_value(label, value)
        else:
            arguments.add_expression(label, value, expression)

    def result_of(self, function: Any, label: int | str, future: ScalerFuture, objects: list[bytes]) -> Argument:
        """Return the argument that the value of a successful future is, from the bytes of its answer where they are left."""
        stored = future.stored
        if stored is not None:
            # It stays where it is.
            objects.append(self._sink.hold(stored))
            return Argument(Source.OBJECT, bytes(stored))
        payload = future.answer()
        if payload is None:
            return self.argument(function, label, future.result(), objects)
        if not isinstance(payload, bytes):
            if payload[0] == RAW_BYTES and type(payload[1]) is bytes:
                return self.argument(function, label, payload[1], objects)
            object_id = self._store(payload, f"{label_of(label)} of {name_of(function)}")
            objects.append(object_id)
            return Argument(Source.OBJECT, object_id)
        if payload[:1] != (PICKLED if self._serializer is None else CUSTOM):
            return self.argument(function, label, future.result(), objects)
        return Argument(Source.VALUE, payload[1:])

    def _value_buffers(self, value: Any) -> bytes | list[Buffer]:
        """Return the bytes of a small value, or the buffers of a large one as it is stored."""
        if self._serializer is not None:
            data = self._serialized(value)
            return data if self._stays_inline(len(data), data) else [CUSTOM + data]
        if type(value) is bytes or type(value) is bytearray:
            return dumps(value) if self._stays_inline(len(value), value) else object_buffers(value)
        if size_hint(value) > INLINE_BYTES_MAX:
            return object_buffers(value)
        pickled, buffers = dumps_apart(value)
        # As `_needs_list` has seen it, where it has.
        parts = (value,) if size_hint(value) > SHARED_BYTES_MIN else (pickled, *buffers)
        if self._stays_inline(len(pickled) + sum(buffer.nbytes for buffer in buffers), *parts):
            return dumps(value) if buffers else pickled
        return [PICKLED + pickled, *buffers]

    def _stays_inline(self, size: int, *parts: Any) -> bool:
        return size <= SHARED_BYTES_MIN or (size <= INLINE_BYTES_MAX and self._may_be_copied(*parts))

    def _serialized(self, value: Any) -> bytes:
        """Return the bytes a custom serializer makes of a value. Raises what it raises, TypeError where it has none."""
        assert self._serializer is not None
        if isinstance(value, Future):
            # Whatever becomes of it there, nobody would ever complete the copy.
            raise TypeError("a future cannot be sent")
        data: Any = self._serializer.serialize(value)
        if isinstance(data, bytearray | memoryview):
            return bytes(data)
        if not isinstance(data, bytes):
            raise TypeError(f"{name_of(self._serializer)}.serialize returned a {shown_type(data)}, not bytes")
        return data

    def _store(self, buffers: Sequence[Buffer], what: str) -> bytes:
        require_storable(buffers, what)
        return self._sink.store(buffers)

    # --- maps

    def chunk(self, function: Any, star: bool, items: list[Any], first: int = 0) -> Packed:
        """Return the payload of a map chunk: `items` are tuples of arguments with `star`, else single arguments.

        `first` is the number of the first one among all items of the map, for error messages.
        """
        if self._serializer is None:
            bytes_max = None if star else self._alone_bytes_max()
            if self._leaves_unpickled and bytes_max is not None and self._may_stay_unpickled(items, bytes_max):
                return Packed(UnpickledBytes(tuple(items), is_chunk=True))
            arguments = [value for item in items for value in item] if star else items
            plain = plain_items(arguments)
            largest = max(map(size_hint, arguments), default=0)
            if (plain and largest <= SHARED_BYTES_MIN) or not self._needs_list(arguments, bytes_max):
                with InnerReferences() as references:
                    packed = self._chunk_whole(function, items, plain, first, largest, bytes_max)
                if packed is not None:
                    return self._with_inner(packed, references) if references else packed
        objects: list[bytes] = []
        payloads: list[bytes] = []
        try:
            for item in items:
                packed = self.call(function, tuple(item) if star else (item,), {})
                payloads.append(bytes(packed.payload))
                objects.extend(packed.objects)
            framed = self.framed(frame_payloads(payloads), objects, f"a chunk of items for {name_of(function)}")
            if not framed.objects:
                return framed
            sizes = [size_hint(value) for item in items for value in (item if star else (item,))]
            return framed._replace(stored_bytes=max(sum(sizes), sum(map(len, payloads))))
        except SerializationError as error:
            self._sink.release(objects)
            raise SerializationError(f"item {first + len(payloads)}: {error}") from error
        except BaseException:
            self._sink.release(objects)
            raise

    def _chunk_whole(
        self, function: Any, items: list[Any], plain: bool, first: int, largest: int, alone_bytes_max: int | None
    ) -> Packed | None:
        """Return one pickle of all items; None when that would be large and some item is large by itself.

        `alone_bytes_max`: up to this size they are no object; None for items that are tuples of arguments.
        `largest`: what the largest item has at least, 0 where that is not known. Small ones have no buffers beside the pickle.
        """
        star = alone_bytes_max is None
        chunk = (star, items)
        buffers: list[memoryview] = []
        try:
            if self._leaves_unpickled and not (plain and 0 < largest < by_value.APART_BYTES_MIN):
                pickled, buffers = by_value.dumps_apart(chunk, _dumps_plain if plain else by_value.dumps)
            else:
                pickled = _dumps(chunk, PROTOCOL) if plain else by_value.dumps(chunk)
            size = len(pickled) + sum(buffer.nbytes for buffer in buffers)
            if size <= INLINE_BYTES_MAX:
                return Packed(self._buffered_payload(chunk, pickled, buffers))
            if alone_bytes_max is not None and size <= alone_bytes_max:
                # Those whose size is known have been looked at.
                known = sum(map(size_hint, items))
                if size <= SHARED_BYTES_MIN + known or self._may_be_copied(pickled, *buffers):
                    return Packed(self._buffered_payload(chunk, pickled, buffers))
                return self._stored_pickle(pickled, buffers, f"a chunk of items for {name_of(function)}")
        except ScalerError:
            raise
        except Exception as error:
            raise self._explain_items(function, star, items, first, error) from error
        if size > INLINE_BYTES_MAX * len(items):
            return None
        return self._stored_pickle(pickled, buffers, f"a chunk of items for {name_of(function)}")

    # --- errors

    def _explained(self, what: str, value: Any, error: Exception) -> str:
        return explain(what, value, error, None if self._serializer is None else self._serialized)

    def _explain_items(
        self, function: Any, star: bool, items: list[Any], first: int, error: Exception
    ) -> SerializationError:
        """Find the item at fault."""
        for number, item in enumerate(items, first):
            try:
                dumps(item)
            except Exception as cause:
                if star:
                    return SerializationError(f"item {number}: {self._explain_call(function, tuple(item), {}, cause)}")
                return SerializationError(explain(f"item {number} for {name_of(function)}", item, cause))
        return SerializationError(f"items for {name_of(function)} cannot be serialized: {shown_error(error)}")

    def _explain_call(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception, hidden: int = 0
    ) -> SerializationError:
        """Find the argument at fault."""
        labelled: list[tuple[int | str, Any]] = [*enumerate(args, -hidden), *kwargs.items()]
        for label, value in labelled:
            try:
                dumps(value)
            except Exception as cause:
                return SerializationError(explain(f"{label_of(label)} of {name_of(function)}", value, cause))
        return SerializationError(f"arguments of {name_of(function)} cannot be serialized: {shown_error(error)}")


def require_storable(buffers: Sequence[Buffer], what: str) -> None:
    """Raise SerializationError for a value that is too large for an object in storage."""
    size = sum(map(_size_of, buffers))
    if size > OBJECT_BYTES_MAX:
        raise SerializationError(
            f"{what} takes {size:,} bytes; one value can have {OBJECT_BYTES_MAX:,} at most, which is 16 GiB: send it in "
            "parts"
        )


def _size_of(buffer: Buffer) -> int:
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


def object_buffers(value: Any) -> list[Buffer]:
    """Return the buffers under which `value` is kept in object storage: views of its own memory where it is large."""
    if type(value) is bytes:
        return [RAW_BYTES, value]
    if type(value) is bytearray:
        return [RAW_BYTEARRAY, memoryview(value)]
    pickled, buffers = dumps_apart(value)
    return [PICKLED + pickled, *buffers]


def _is_small_and_plain(value: Any, bytes_max: int = SHARED_BYTES_MIN) -> bool:
    return is_plain(value) and size_hint(value) <= (bytes_max if type(value) is bytes else SHARED_BYTES_MIN)


def _is_future(value: Any) -> bool:
    return isinstance(value, ScalerFuture)
