"""Which values never change. Their exact types decide."""

from __future__ import annotations

from typing import Any

_ATOMS = frozenset(
    {int, float, str, bytes, bool, complex, type(None), type(Ellipsis), type(NotImplemented), range}
)  # fmt: skip
_BY_NAME = frozenset(
    {
        "re.Pattern",
        "datetime.date",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
        "fractions.Fraction",
        "uuid.UUID",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
        "numpy.bool",
        "numpy.int32",
        "numpy.int64",
        "numpy.float32",
        "numpy.float64",
        # Pickled by its name, so every process has its own.
        "logging.Logger",
    }
)
"""Types by name, so that their modules need not be imported."""


def is_immutable(value: Any) -> bool:
    """Whether no part of `value` can change."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(is_immutable, value))
    return f"{kind.__module__}.{kind.__qualname__}" in _BY_NAME
