"""Functions that only workers can import, by their names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from scaler_protocol.payloads.plain import call_named, check_name


def by_name(name: str) -> Callable[..., Any]:
    """Return a function that calls the function of this name where it runs, and imports it there: "package.module:function".

    For functions that this program cannot import, or should not: `client.submit(scaler.by_name("pricing.models:value"), 5)`.
    Arguments and results are pickled as always. If the name leads nowhere, the task raises what the import raises,
    AttributeError, or TypeError for what cannot be called. Nobody here knows its arguments, so all keywords of `submit` are
    its own, `profiling=True` too: to measure such tasks, make the client with `profiling=True`. Raises ValueError at once for
    what is no such name.
    """
    check_name(name)
    return functools.partial(call_named, name)
