"""Scalars of the standard library, numpy and pandas: objects that pickle writes as every worker reads them.

Libraries are never imported for their own sake. Whoever has a scalar has its library.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

_OF_LIBRARIES = {
    "datetime": ("date", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "pandas": ("Timedelta",),
    "uuid": ("UUID",),
}
_WITH_TIME_ZONE = {"datetime": ("datetime", "time"), "pandas": ("Timestamp",)}
_NUMPY_CODES = "?bhilqpBHILQPefdgFDGmM"
"""Of numpy's numbers and times."""

_known: dict[type, bool] = {}
"""Types of scalars that were seen: whether their values have a time zone."""

_others: weakref.WeakSet[type] = weakref.WeakSet()
"""All other types that were seen. Their modules had them by then, so they are of no scalars later either."""


def is_scalar(value: Any) -> bool:
    """Whether `value` is a scalar that pickle alone is certainly right for."""
    kind = type(value)
    has_time_zone = _known.get(kind)
    if has_time_zone is None:
        if kind in _others:
            return False
        has_time_zone = _look_up(kind)
        if has_time_zone is None:
            _others.add(kind)
            return False
        _known[kind] = has_time_zone
    # Time zones may be of classes of the program's own.
    return not has_time_zone or value.tzinfo is None or type(value.tzinfo) is sys.modules["datetime"].timezone


def _look_up(kind: type) -> bool | None:
    """Return what `_known` is to have of a type; None if it is not one of scalars."""
    for has_time_zone, libraries in ((False, _OF_LIBRARIES), (True, _WITH_TIME_ZONE)):
        for library, names in libraries.items():
            module = sys.modules.get(library)
            if any(getattr(module, name, None) is kind for name in names):
                return has_time_zone
    return False if _is_number_of_numpy(kind) else None


def _is_number_of_numpy(kind: type) -> bool:
    numpy: Any = sys.modules.get("numpy")
    try:
        return issubclass(kind, numpy.generic) and kind in {numpy.dtype(code).type for code in _NUMPY_CODES}
    except AttributeError:
        # There is none, it is being imported, or it is another module of that name.
        return False
