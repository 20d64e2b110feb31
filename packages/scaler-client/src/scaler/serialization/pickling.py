"""Pickle where it is enough, `scaler_protocol.payloads.by_value` where it is not.

Pickle is ten times faster and refers to classes and functions by name; that is right only for what every worker has. So it
is used for plain values alone, told by their exact types. Everything else goes by value where it must.
"""

from __future__ import annotations

import pickle
import sys
from functools import partial
from typing import Any

from scaler.serialization.scalars import is_scalar
from scaler_protocol.payloads import by_value

PROTOCOL = by_value.PROTOCOL

NUMBERS = frozenset({int, float, bool, type(None), complex})
"""Exact types that pickle is right for and that are small, but for integers of absurd length."""

_ATOMS = NUMBERS | {str, bytes}
_ITEMS_MAX = 32
"""Larger containers are not looked through: what another pickler costs per call does not matter beside theirs."""

_dump_plain = partial(pickle.dumps, protocol=PROTOCOL)


_LEVELS_MAX = 10
"""Containers nested more deeply likewise; pickle takes far more levels than looking through them here could."""


def is_plain(value: Any, levels: int = _LEVELS_MAX) -> bool:
    """Whether pickle alone is certainly right for `value`: built-in values, scalars, clients, small containers, number arrays."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is tuple or kind is list:
        return (
            len(value) <= _ITEMS_MAX
            and levels > 0
            and all(type(item) in _ATOMS or is_plain(item, levels - 1) for item in value)
        )
    if kind is dict:
        return (
            len(value) <= _ITEMS_MAX
            and levels > 0
            and all(
                type(key) in _ATOMS and (type(item) in _ATOMS or is_plain(item, levels - 1))
                for key, item in value.items()
            )
        )
    if kind is _array_type():
        return not value.dtype.hasobject
    if kind is _client_type():
        # Tasks that submit tasks hand their client on, with every one.
        _, (_, address, settings, *_) = value.__reduce__()
        return is_plain((address, settings))
    return is_scalar(value)


_TINY_BYTES = 200
_TINY_ITEMS = 8


def is_tiny(value: Any, levels: int = 2) -> bool:
    """Whether `value` is plain, cannot change, and is so small that it may travel with every call."""
    kind = type(value)
    if kind in NUMBERS:
        return True
    if kind is str or kind is bytes:
        return len(value) <= _TINY_BYTES
    if kind is tuple:
        return len(value) <= _TINY_ITEMS and levels > 0 and all(is_tiny(item, levels - 1) for item in value)
    return False


def plain_items(items: list[Any]) -> bool:
    """As `is_plain` for a list of any length, cheaper for one kind of item."""
    kinds = set(map(type, items))
    return kinds <= _ATOMS or all(map(is_plain, items))


def dumps(value: Any) -> bytes:
    """Return a pickle of `value`, everything inside it."""
    if is_plain(value):
        return pickle.dumps(value, PROTOCOL)
    return by_value.dumps(value)


def dumps_apart(value: Any) -> tuple[bytes, list[memoryview]]:
    """Return a pickle of `value` and its large buffers beside it, which are views of the value's own memory."""
    return by_value.dumps_apart(value, _dump_plain if is_plain(value) else by_value.dumps)


def size_hint(value: Any) -> int:
    """Return about how many bytes a top-level argument has where that is known without pickling it, else 0."""
    kind = type(value)
    if kind is bytes or kind is bytearray or kind is str:
        return len(value)
    if kind is _array_type():
        return int(value.nbytes)
    return 0


def _array_type() -> Any:
    """Return numpy's array type if the program uses numpy; numpy is never imported for its own sake."""
    numpy = sys.modules.get("numpy")
    return getattr(numpy, "ndarray", _None)


def _client_type() -> Any:
    """Return `Client`, whose module, for its own annotations, imports from this package."""
    return getattr(sys.modules.get("scaler.client.client"), "Client", _None)


class _None:
    """The type of no value."""
