"""What simulated tasks and results have in the columns that the engine only passes on.

It is made from who they are, so that whoever gets them can tell whether it is theirs. Two of three have something.
"""

from __future__ import annotations

from collections.abc import Sequence

from scaler_protocol.wire.batch_rows import CARRIED, FIGURES_START, REPORTED, Carried, Reported, carried_value, carry
from scaler_protocol.wire.column_table import ColumnSpec

FIGURES = REPORTED[FIGURES_START:]


def carried_of(program: int) -> Carried:
    """Return what the task of a program carries."""
    return carry(_values(program, CARRIED))


def figures_of(number: int) -> dict[str, int]:
    """Return what is measured of the task of this number, by the names of columns."""
    return _values(number, FIGURES)


def arrived_unchanged(carried: Carried, program: int) -> bool:
    """Whether this is what the task of the program was submitted with, however its batch says it."""
    expected = carried_of(program)
    return all(carried_value(carried, spec.name) == carried_value(expected, spec.name) for spec in CARRIED)


def reported_unchanged(reported: Reported, row: int, number: int) -> bool:
    """Whether the figures in a row are those of the task of this number."""
    (profile,), figures = reported.cut(row, row + 1).profiles(1), figures_of(number)
    if profile is None or not figures:
        return profile is None and not figures
    return all(profile[name] == figure for name, figure in figures.items())


def _values(who: int, specs: Sequence[ColumnSpec]) -> dict[str, int]:
    if who % 3 == 0:
        return {}
    return {spec.name: 1 + (who * 7 + position) % 251 for position, spec in enumerate(specs)}
