"""Runs a batch of calls on a worker, with the large arguments that its client sent apart. Every worker can import it.

The batch is joblib's, which this module needs not know: something with `items`, that is a list of (function, arguments, keyword
arguments), which is called to run them.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


class Batch(Protocol):
    """See the module."""

    items: list[Call]

    def __call__(self) -> list[Any]:
        """Run the calls, one after the other."""


class Place(NamedTuple):
    """Where one of the values goes."""

    call: int
    key: int | str
    """The position of a positional argument, or the name of a keyword argument."""
    value: int
    """Its position among the values."""


class Work(NamedTuple):
    """All but the values. It is one argument, as several would be pickled together first, and one by one if that gets large."""

    batch: Batch
    places: Sequence[Place]
    threads: int | None
    """So many threads may the pools of BLAS and OpenMP have meanwhile, where threadpoolctl is installed. None: no limit."""


def call_batch(work: Work, /, *values: Any) -> list[Any]:
    """Put the values where they belong, and return the results of the batch's calls."""
    batch, places, threads = work
    for call, key, value in places:
        function, positional, keyword = batch.items[call]
        if isinstance(key, int):
            positional = (*positional[:key], values[value], *positional[key + 1 :])
        else:
            keyword = {**keyword, key: values[value]}
        batch.items[call] = function, positional, keyword
    with _limited(threads):
        return batch()


def _limited(threads: int | None) -> AbstractContextManager[object]:
    if threads is None:
        return nullcontext()
    controller = _controller(len(sys.modules))
    if controller is None:
        return nullcontext()
    limits: AbstractContextManager[object] = controller.limit(limits=threads)
    return limits


@functools.lru_cache(maxsize=1)
def _controller(modules: int) -> Any:
    """Return what limits the pools of all libraries that are loaded now. To look for them takes milliseconds.

    `modules`: how many modules there are. Libraries come with them.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
