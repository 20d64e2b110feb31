"""Calls to payload bytes, as `scaler_protocol.payloads` describes them; large parts become objects in storage.

Everything is a snapshot: when a function of this module returns, nothing it made refers to memory the caller may change.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import cloudpickle

from scaler.client.object_reference import ObjectReference
from scaler.errors import ScalerError, SerializationError
from scaler.serialization.functions import FunctionCache, Pickled
from scaler.serialization.pickling import NUMBERS, PROTOCOL, dumps, dumps_apart, is_plain, plain_items, size_hint
from scaler.serialization.serializer import AnySerializer
from scaler_protocol.ids import content_id
from scaler_protocol.payloads import (
    CUSTOM,
    FRAMED,
    INLINE_BYTES_MAX,
    OBJECT,
    PICKLED,
    RAW_BYTEARRAY,
    RAW_BYTES,
    Argument,
    Source,
    frame_arguments,
    frame_payloads,
)
from scaler_protocol.values import new_tuple

Buffer = bytes | bytearray | memoryview


class ObjectSink(Protocol):
    """Where large values go. Both methods count one more use of the object; a task takes that use over."""

    def store(self, buffers: Sequence[Buffer]) -> bytes:
        """Keep a copy of `buffers` (of all but `bytes`) and return its object id. Equal content may share an object."""

    def resolve(self, reference: ObjectReference) -> bytes:
        """Return the id of the object a reference names. Raises MissingObjects for one that is not valid any more."""

    def release(self, object_ids: Sequence[bytes]) -> None:
        """Undo one use each: nothing was submitted."""


class Packed(NamedTuple):
    """A payload and the objects it names, each with one use counted."""

    payload: bytes
    objects: tuple[bytes, ...] = ()


class Packer:
    """Turns the functions and arguments of one client into bytes. Safe to use from several threads.

    `serializer` None stands for pickle and cloudpickle. Errors in the values themselves are `SerializationError`.
    """

    def __init__(self, sink: ObjectSink, serializer: AnySerializer | None = None) -> None:
        self._sink = sink
        self._serializer = serializer
        self._functions = FunctionCache(self._make_function)
        self.serializer_function: Pickled | None = None
        """How the custom serializer itself travels."""
        if serializer is not None:
            body = PICKLED + cloudpickle.dumps(serializer, PROTOCOL)
            self.serializer_function = Pickled(content_id(body), body, (), "serializer")

    # --- functions

    def function(self, function: Any) -> Pickled:
        """Return what stands for `function`. Where that names objects, each has one more use counted."""
        return self._functions.get(function)

    def _make_function(self, function: Any) -> Pickled:
        if not callable(function):
            raise TypeError(f"{function!r} is not callable")
        try:
            if self._serializer is not None:
                body = CUSTOM + self._serializer.serialize(function)
                if len(body) > INLINE_BYTES_MAX:
                    return self._stored_function(function, [body])
            else:
                pickled, buffers = dumps_apart(function)
                if len(pickled) + sum(buffer.nbytes for buffer in buffers) > INLINE_BYTES_MAX:
                    return self._stored_function(function, [PICKLED + pickled, *buffers])
                body = PICKLED + (cloudpickle.dumps(function, PROTOCOL) if buffers else pickled)
        except ScalerError:
            raise
        except Exception as error:
            raise SerializationError(f"function {name_of(function)} cannot be serialized: {error}") from error
        return Pickled(content_id(body), body, (), name_of(function))

    def _stored_function(self, function: Any, buffers: Sequence[Buffer]) -> Pickled:
        object_id = self._sink.store(buffers)
        body = OBJECT + object_id
        return Pickled(content_id(body), body, (object_id,), name_of(function))

    # --- calls

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        """Return the argument payload of `function(*args, **kwargs)`; the function is for error messages only."""
        if self._serializer is None:
            if _all_small_and_plain(args) and (not kwargs or _all_small_and_plain(kwargs.values())):
                # The way of nearly all small tasks: worth every tenth of a microsecond.
                pickled = pickle.dumps((args, kwargs), PROTOCOL)
                if len(pickled) <= INLINE_BYTES_MAX:
                    return new_tuple(Packed, (PICKLED + pickled, ()))
            elif not self._needs_list(args, kwargs):
                packed = self._call_whole(function, args, kwargs)
                if packed is not None:
                    return packed
        return self._call_list(function, args, kwargs)

    def _needs_list(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether an argument is large or a reference, which only an argument list can name apart."""
        return any(map(_is_large_or_reference, (*args, *kwargs.values())))

    def _call_whole(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed | None:
        """Return one pickle of all arguments, which keeps what they share; None when that would be large."""
        call = (args, kwargs)
        try:
            pickled, buffers = dumps_apart(call)
            if len(pickled) + sum(buffer.nbytes for buffer in buffers) > INLINE_BYTES_MAX:
                return None
            return Packed(PICKLED + (dumps(call) if buffers else pickled))
        except Exception as error:
            raise self._explain(function, args, kwargs, error) from error

    def _call_list(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        objects: list[bytes] = []
        try:
            positional = [self.argument(function, position, value, objects) for position, value in enumerate(args)]
            keyword = {name: self.argument(function, name, value, objects) for name, value in kwargs.items()}
            return self.framed(frame_arguments(positional, keyword), objects)
        except BaseException:
            self._sink.release(objects)
            raise

    def framed(self, payload: bytes, objects: list[bytes]) -> Packed:
        """Return a payload as it is, or as an object where it is large. `objects` are those it names."""
        if len(payload) <= INLINE_BYTES_MAX:
            return Packed(payload, tuple(objects))
        object_id = self._sink.store([FRAMED + payload])
        objects.append(object_id)
        return Packed(OBJECT + object_id, tuple(objects))

    def argument(self, function: Any, label: int | str, value: Any, objects: list[bytes]) -> Argument:
        """Return one argument of a list; objects it needs are appended to `objects`, with their use counted."""
        if type(value) is ObjectReference:
            object_id = self._sink.resolve(value)
        else:
            try:
                buffers = self._value_buffers(value)
            except ScalerError:
                raise
            except Exception as error:
                raise SerializationError(
                    f"{_label(label)} of {name_of(function)} cannot be serialized: {error}"
                ) from error
            if isinstance(buffers, bytes):
                return Argument(Source.VALUE, buffers)
            object_id = self._sink.store(buffers)
        objects.append(object_id)
        return Argument(Source.OBJECT, object_id)

    def _value_buffers(self, value: Any) -> bytes | list[Buffer]:
        """Return the bytes of a small value, or the buffers of a large one as it is stored."""
        if self._serializer is not None:
            data = self._serializer.serialize(value)
            return data if len(data) <= INLINE_BYTES_MAX else [CUSTOM + data]
        if size_hint(value) <= INLINE_BYTES_MAX:
            pickled, buffers = dumps_apart(value)
            if len(pickled) + sum(buffer.nbytes for buffer in buffers) <= INLINE_BYTES_MAX:
                return dumps(value) if buffers else pickled
            return [PICKLED + pickled, *buffers]
        return object_buffers(value)

    # --- maps

    def chunk(self, function: Any, star: bool, items: list[Any]) -> Packed:
        """Return the payload of a map chunk: `items` are tuples of arguments with `star`, else single arguments."""
        if self._serializer is None:
            arguments = [value for item in items for value in item] if star else items
            small = plain_items(arguments) and max(map(size_hint, arguments), default=0) <= INLINE_BYTES_MAX
            if small or not any(map(_is_large_or_reference, arguments)):
                packed = self._chunk_whole(function, star, items, small)
                if packed is not None:
                    return packed
        objects: list[bytes] = []
        try:
            payloads = []
            for item in items:
                packed = self.call(function, tuple(item) if star else (item,), {})
                payloads.append(packed.payload)
                objects.extend(packed.objects)
            return self.framed(frame_payloads(payloads), objects)
        except BaseException:
            self._sink.release(objects)
            raise

    def _chunk_whole(self, function: Any, star: bool, items: list[Any], plain: bool) -> Packed | None:
        """Return one pickle of all items; None when that would be large and some item is large by itself."""
        try:
            dump: Callable[..., bytes] = pickle.dumps if plain else cloudpickle.dumps
            pickled = dump((star, items), PROTOCOL)
        except Exception as error:
            raise SerializationError(f"an item for {name_of(function)} cannot be serialized: {error}") from error
        if len(pickled) <= INLINE_BYTES_MAX:
            return Packed(PICKLED + pickled)
        if len(pickled) > INLINE_BYTES_MAX * len(items):
            return None
        object_id = self._sink.store([PICKLED + pickled])
        return Packed(OBJECT + object_id, (object_id,))

    # --- errors

    def _explain(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: BaseException
    ) -> SerializationError:
        """Find the argument at fault."""
        labelled: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        for label, value in labelled:
            try:
                dumps(value)
            except Exception as cause:
                return SerializationError(f"{_label(label)} of {name_of(function)} cannot be serialized: {cause}")
        return SerializationError(f"arguments of {name_of(function)} cannot be serialized: {error}")


def object_buffers(value: Any) -> list[Buffer]:
    """Return the buffers under which `value` is kept in object storage: views of its own memory where it is large."""
    if type(value) is bytes:
        return [RAW_BYTES, value]
    if type(value) is bytearray:
        return [RAW_BYTEARRAY, memoryview(value)]
    pickled, buffers = dumps_apart(value)
    return [PICKLED + pickled, *buffers]


def name_of(function: Any) -> str:
    """Return `module.qualname` of a callable, for people."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}.{name}"


def _all_small_and_plain(values: Iterable[Any]) -> bool:
    # A generator for `all` would cost more than the whole check.
    for value in values:
        if type(value) not in NUMBERS and not (is_plain(value) and size_hint(value) <= INLINE_BYTES_MAX):
            return False
    return True


def _label(label: int | str) -> str:
    return f"argument {label + 1}" if isinstance(label, int) else f"argument {label!r}"


def _is_large_or_reference(value: Any) -> bool:
    return size_hint(value) > INLINE_BYTES_MAX or type(value) is ObjectReference
