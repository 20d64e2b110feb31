"""The arguments of one call that is not sent as one pickle: each that is an object has its own place, the others share a pickle.

What becomes of an argument depends on sizes alone, not on what has been sent before: so whether two of them are one object in
the task is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from scaler.client.object_reference import ObjectReference
from scaler.errors import ScalerError, SerializationError
from scaler.serialization.faults import explain
from scaler.serialization.pickling import dumps, dumps_apart, is_tiny, size_hint
from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.framing import SHARED_BYTES_MIN, Argument, Source
from scaler_protocol.runtime.names import name_of, shown, shown_error

NOWHERE = Argument(Source.VALUE, b"")
"""Where an argument comes that is not known yet."""


class PackOne(Protocol):
    """See `Packer.argument`."""

    def __call__(self, function: Any, label: int | str, value: Any, objects: list[bytes], /) -> Argument:
        """Return one argument, packed by itself; objects it needs are appended to `objects`."""


class _Loose(NamedTuple):
    """One that is not packed yet. Of an expression, `pickled` is what is pickled instead of the value."""

    place: int
    label: int | str
    value: Any
    pickled: Any
    is_expression: bool


class ArgumentList:
    """See the module. `add` and its kin are called for each argument in turn, then `finish`.

    The names of `objects`, to which those are appended that the arguments need, have one use counted each.
    """

    def __init__(self, pack: PackOne, function: Any, objects: list[bytes], *, together: bool) -> None:
        """`together` False: each argument is pickled by itself, as a custom serializer needs it."""
        self.objects = objects
        self._pack = pack
        self._function = function
        self._together = together
        self._arguments: list[Argument] = []
        self._loose: list[_Loose] = []

    def add(self, argument: Argument) -> None:
        """Append one that is packed."""
        self._arguments.append(argument)

    def add_value(self, label: int | str, value: Any) -> None:
        """Append a value, or a reference."""
        if self._together and type(value) is not ObjectReference and size_hint(value) <= SHARED_BYTES_MIN:
            self._loose.append(_Loose(len(self._arguments), label, value, value, False))
            self._arguments.append(NOWHERE)
        else:
            self._arguments.append(self._pack(self._function, label, value, self.objects))

    def add_expression(self, label: int | str, value: Any, expression: Any) -> None:
        """Append an expression, which stands for `value`."""
        self._loose.append(_Loose(len(self._arguments), label, value, expression, True))
        self._arguments.append(NOWHERE)
        if not self._together:
            self._pack_loose_ones(lambda _: True)

    def finish(self) -> list[Argument]:
        """Return all, in their order. Raises SerializationError, which names the argument that cannot be pickled."""
        if len(self._loose) > 1 and not self._is_one_with_tiny_ones():
            shared = self._pickled_together(any_size=False)
            if shared is None:
                self._pack_loose_ones(_is_by_itself)
                shared = self._pickled_together(any_size=True)
            if shared is not None:
                for one in self._loose:
                    source = Source.SHARED_EXPRESSION if one.is_expression else Source.SHARED
                    self._arguments[one.place] = Argument(source, shared)
                    shared = b""
                return self._arguments
        self._pack_loose_ones(lambda _: True)
        return self._arguments

    def _is_one_with_tiny_ones(self) -> bool:
        """Whether at most one is more than a number or short text. They have no object in common, and one pickle of all may be
        too large and in vain."""
        return sum(one.is_expression or not is_tiny(one.value, levels=0) for one in self._loose) < 2

    def _pickled_together(self, *, any_size: bool) -> bytes | None:
        """Return one pickle of the loose ones. None for fewer than two and, but for `any_size`, where one may be large."""
        values = [one.pickled for one in self._loose]
        if len(values) < 2:
            return None
        try:
            if any_size:
                return dumps(values)
            pickled, buffers = dumps_apart(values)
            size = len(pickled) + sum(buffer.nbytes for buffer in buffers)
            if size > SHARED_BYTES_MIN and size > SHARED_BYTES_MIN + sum(map(size_hint, values)):
                return None
            return dumps(values) if buffers else pickled
        except ScalerError:
            raise
        except Exception as error:
            self._pack_loose_ones(lambda _: True)
            raise SerializationError(
                f"arguments of {name_of(self._function)} cannot be serialized: {shown_error(error)}"
            ) from error

    def _pack_loose_ones(self, is_wanted: Callable[[Argument], bool]) -> None:
        """Pack each loose one by itself. Those that come out as wanted stay so."""
        left = []
        for one in self._loose:
            argument = self._packed(one)
            if is_wanted(argument):
                self._arguments[one.place] = argument
            else:
                left.append(one)
        self._loose = left

    def _packed(self, one: _Loose) -> Argument:
        if not one.is_expression:
            return self._pack(self._function, one.label, one.value, self.objects)
        try:
            return Argument(Source.EXPRESSION, by_value.dumps(one.pickled))
        except Exception as error:
            raise SerializationError(
                explain(f"{label_of(one.label)} of {name_of(self._function)}", one.value, error)
            ) from error


def _is_by_itself(argument: Argument) -> bool:
    return argument.source is Source.OBJECT or len(argument.data) > SHARED_BYTES_MIN


def label_of(label: int | str) -> str:
    """Return how errors name an argument: by its position from 0, or its name."""
    return f"argument {label + 1}" if isinstance(label, int) else f"argument {shown(label)}"
