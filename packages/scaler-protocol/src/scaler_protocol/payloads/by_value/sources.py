"""Code by value keeps the name of its file and brings its source lines along, so that tracebacks show them.

A code object does not contain its source, and its file may not exist where it is restored: it may be a cell of a notebook, or
a script on another machine. So the lines of each function travel with its code, once, and the standard library finds them. If
the receiver has a file of that name, the file is read instead.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import Any

from cloudpickle import cloudpickle as tracking

LINES_MAX, CHARACTERS_MAX = 500, 40_000
"""Most lines or characters of one function; a longer function travels without its lines."""

FILES_MAX = 2_000
_LINE_NUMBER_MAX = 1_000_000
_PLACEHOLDER = "<dynamic-code>"
"""The text that cloudpickle writes instead of all file names."""

_known: dict[str, dict[int, str]] = {}
"""By file name: the lines that came with code."""


def reduce_code(code: CodeType, written: dict[str, list[range]]) -> tuple[Any, ...]:
    """Return the reduction of a code object. `written` has the lines that this pickle contains already, by file."""
    make, arguments = tracking._code_reduce(code)
    # Joined to make a new string: pickles must not depend on whether other objects are this same string.
    filename = "".join(code.co_filename)
    arguments = tuple(filename if type(part) is str and part == _PLACEHOLDER else part for part in arguments)
    first, lines = _lines_of(code, written)
    return make_code, (make, arguments, first, lines) if lines else (make, arguments)


def make_code(make: Any, arguments: tuple[Any, ...], first: int = 0, lines: Sequence[str] = ()) -> CodeType:
    """Make a code object again, and keep the lines that came with it."""
    code: CodeType = make(*arguments)
    if lines:
        remember_lines(code.co_filename, first, lines)
    return code


def remember_lines(filename: str, first: int, lines: Sequence[str]) -> None:
    """Let the standard library find these lines of a file, unless the file exists here."""
    if not 1 <= first <= _LINE_NUMBER_MAX or (filename not in _known and len(_known) >= FILES_MAX):
        return
    known = _known.setdefault(filename, {})
    known.update(zip(range(first, first + len(lines)), lines, strict=False))
    entry = linecache.cache.get(filename)
    if entry is not None and len(entry) > 1 and entry[1] is not None:
        # The lines are read from the file itself.
        return
    if filename.startswith("<") and filename.endswith(">"):
        # The standard library searches no file with such a name, and does not try to load it later.
        found = _all_lines(filename)
        linecache.cache[filename] = (sum(map(len, found)), None, found, filename)
    else:
        linecache.cache[filename] = (lambda: "".join(_all_lines(filename)),)


def _all_lines(filename: str) -> list[str]:
    known = _known[filename]
    return [known.get(number, "\n") for number in range(1, max(known) + 1)]


def _lines_of(code: CodeType, written: dict[str, list[range]]) -> tuple[int, list[str]]:
    """Return the number of the first line and the lines of a function; no lines if they are unknown or already written."""
    try:
        numbers = list(_line_numbers(code))
        first, last = min(numbers), max(numbers)
        covered = written.setdefault(code.co_filename, [])
        if first < 1 or last - first >= LINES_MAX or any(first in lines and last in lines for lines in covered):
            return 0, []
        covered.append(range(first, last + 1))
        lines = linecache.getlines(code.co_filename)[first - 1 : last]
        return (first, lines) if sum(map(len, lines)) <= CHARACTERS_MAX else (0, [])
    except Exception:
        # Other code may have changed line numbers and line cache. Lines are not essential.
        return 0, []


def _line_numbers(code: CodeType) -> Iterator[int]:
    yield code.co_firstlineno
    for _, _, line in code.co_lines():
        if line is not None:
            yield line
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from _line_numbers(constant)
