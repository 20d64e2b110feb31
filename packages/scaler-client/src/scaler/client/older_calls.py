"""Calls in the forms of earlier versions, told from those of today by what the function takes."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from scaler.client.mapped_items import MappedItems, called_items
from scaler.serialization.signatures import check_of
from scaler_protocol.runtime.names import name_of, shown
from scaler_protocol.wire.call_options import CallOptions

OPTION_NAMES = frozenset(CallOptions._fields)

_CALLER = 5
"""The frame of the program that has called `Client.map`, seen from `_warn`."""


def mapped_items(fn: Callable[..., Any], iterables: Sequence[Iterable[Any]]) -> MappedItems:
    """Return the items of `Client.map`, with tuples as arguments where the function cannot take them as its only one.

    Up to version 1.13, `map` over one iterable of tuples always did so. Raises as `called_items`.
    """
    items = called_items("map", iterables)
    if len(iterables) != 1 or _has_no_tuples(iterables[0]):
        return items
    name = name_of(fn).rpartition(".")[2]
    if _takes(fn, (None,), {}) is not False:
        if _is_to_be_told(iterables[0]):
            _warn(
                f"each item of this map() is a tuple of one, and {name} gets it as a tuple. Up to version 1.13, map() "
                f"unpacked it: if that is meant, use client.starmap({name}, …), or give values without tuples (said once)",
                UserWarning,
            )
        return items
    first = list(islice(items.items, 1))
    again = chain(first, items.items)
    if not first or not isinstance(first[0], tuple) or not _takes(fn, first[0], {}):
        return items._replace(items=again)
    _warn(
        f"{name} takes no single argument, so map() unpacks the tuples of its iterable, as it did up to version 1.13: "
        f"use client.starmap({name}, …), or client.map({name}, …) with one iterable for each argument",
        DeprecationWarning,
    )
    return MappedItems(map(_unpacked, again), True, items.total)


def _unpacked(item: Any) -> tuple[Any, ...]:
    if isinstance(item, tuple):
        return tuple(item)
    raise TypeError(f"map() unpacks tuples here, as its first item is one, and another item is {shown(item)}")


def _has_no_tuples(iterable: Iterable[Any]) -> bool:
    """Return whether the first item is no tuple, where that can be told at once. Asking the function may take longer."""
    if type(iterable) is list or type(iterable) is tuple:
        return not iterable or not isinstance(iterable[0], tuple)
    return type(iterable) is range


def without_profiling(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the keyword arguments without `profiling`, where that is an option of `submit` and no argument of `fn`."""
    if not isinstance(kwargs["profiling"], bool) or _takes(fn, args, kwargs) is not False:
        return None
    others = {name: value for name, value in kwargs.items() if name != "profiling"}
    return others if _takes(fn, args, others) else None


def refuse_options(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError where a call can only fail because options are among its keywords, which belong to the function."""
    options = [name for name in kwargs if name in OPTION_NAMES]
    others = {name: value for name, value in kwargs.items() if name not in OPTION_NAMES}
    if _takes(fn, args, kwargs) is False and _takes(fn, args, others):
        name = name_of(fn).rpartition(".")[2]
        shown_options = ", ".join(f"{option}=…" for option in options)
        raise TypeError(
            f"{name} takes no argument {', '.join(options)}, and the keywords of submit() are the function's: write "
            f"client.with_options({shown_options}).submit({name}, …), or client.submit_verbose({name}, (…,), {shown_options})"
        )


def _takes(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool | None:
    """Return whether a function takes these arguments, None where that is not known."""
    check = check_of(fn)
    try:
        if check is None:
            if not isinstance(fn, types.BuiltinFunctionType):
                return None
            try:
                check = inspect.signature(fn).bind
            except ValueError:
                return None
        check(*args, **kwargs)
    except TypeError:
        return False
    return True


_has_told = False
"""Whether this process was told that a tuple of one is an argument."""


def _is_to_be_told(iterable: Iterable[Any]) -> bool:
    global _has_told
    if _has_told or not isinstance(iterable, list | tuple) or not iterable:
        return False
    _has_told = all(type(item) is tuple and len(item) == 1 for item in iterable)
    return _has_told


def _warn(text: str, category: type[Warning]) -> None:
    warnings.warn(text, category, stacklevel=_CALLER)
