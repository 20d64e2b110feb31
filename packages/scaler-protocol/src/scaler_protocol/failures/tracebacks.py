"""Tracebacks as plain values: taken from frames, shown as text, and made into real tracebacks again elsewhere."""

from __future__ import annotations

import functools
import linecache
import pickle
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, NamedTuple

from scaler_protocol.payloads.by_value.sources import remember_lines

FRAMES_MAX = 1_200
"""Most frames of one traceback that travel, the outermost and innermost ones. A recursion that the interpreter ends has fewer."""

_OUTER_FRAMES = 600
_LINE_MAX = 2_000
_FURTHER_LINES_MAX = 100
_ALL_LINES_SHOWN = sys.version_info >= (3, 13)
"""Whether the interpreter shows all lines of a statement, and not the first one alone."""
_REPEATED_SHOWN = 3
_PLACES_MAX = 512


class Place(NamedTuple):
    """Where a frame was. Columns are the interpreter's: bytes from the beginning of the line; None if unknown."""

    filename: str
    function: str
    line: int
    end_line: int | None
    column: int | None
    end_column: int | None
    source: str
    """The source line as it is in the file; empty if unknown."""
    module: str


Frames = list[tuple[tuple[Any, ...], str]]
"""The fields of a `Place`, and the lines that show it. Equal places are one object, so pickle writes each once."""

_STACK_FRAMES_MAX, _STACK_BYTES_MAX = 32, 16 * 1024
"""Tracebacks that are longer are described, and made, anew each time."""


class Stack(NamedTuple):
    """The frames of a traceback in all the forms that failures need."""

    frames: Frames
    text: str
    """With the line above them; empty where there are no frames."""
    places: bytes
    """For `load_traceback`."""


_Key = tuple[Any, ...]

_stacks: dict[_Key, tuple[list[CodeType], Stack]] = {}
"""What `stack_of` has returned, by which frames are left out, and code and instruction of each frame. A function that fails often
mostly fails at the same place. The code objects are kept: while they are, no others have these numbers."""

_loaded: dict[bytes, tuple[tuple[Place, FrameType, int], ...]] = {}
"""What `load_traceback` makes tracebacks of, innermost frame first."""

_places: dict[tuple[int, int], tuple[CodeType, tuple[Any, ...], str]] = {}
"""Known places by (code, instruction). A function that fails often mostly fails at the same place."""

_frames: dict[tuple[Any, ...], tuple[FrameType, int]] = {}
"""Frames made before, by place, and which instruction of them it is. Tracebacks of many failures share them."""


def _none(_: CodeType) -> bool:
    return False


def stack_of(frames: TracebackType | None, is_own: Callable[[CodeType], bool] = _none) -> Stack:
    """Return the frames of a traceback. Leading frames with `is_own` true are left out."""
    codes: list[CodeType] = []
    key: list[Any] = [is_own]
    one = frames
    while one is not None and len(codes) <= _STACK_FRAMES_MAX:
        code = one.tb_frame.f_code
        codes.append(code)
        key += (id(code), one.tb_lasti)
        one = one.tb_next
    if one is not None:
        return _make_stack(frames, is_own)
    known = _stacks.get(tuple(key))
    if known is None:
        known = codes, _make_stack(frames, is_own)
        if len(_stacks) >= _PLACES_MAX:
            _stacks.clear()
        _stacks[tuple(key)] = known
    return known[1]


def _make_stack(traceback: TracebackType | None, is_own: Callable[[CodeType], bool]) -> Stack:
    frames = frames_of(traceback, is_own)
    text = "Traceback (most recent call last):\n" + stack_text(frames) if frames else ""
    return Stack(frames, text, pickle.dumps(places_of(frames), 5) if frames else b"")


def places_of(frames: Frames) -> tuple[tuple[Any, ...], ...]:
    """Return what `make_traceback` needs."""
    return tuple([place for place, _ in frames])


def frames_of(frames: TracebackType | None, is_own: Callable[[CodeType], bool] = _none) -> Frames:
    """Return (place, text) of the frames of a traceback, outermost first. Leading frames with `is_own` true are left out."""
    while frames is not None and is_own(frames.tb_frame.f_code):
        frames = frames.tb_next
    found: Frames = []
    last: deque[TracebackType] = deque(maxlen=FRAMES_MAX - _OUTER_FRAMES)
    while frames is not None:
        if len(found) < _OUTER_FRAMES:
            found.append(_look_up(frames))
        else:
            last.append(frames)
        frames = frames.tb_next
    found += map(_look_up, last)
    return found


def stack_text(frames: Frames) -> str:
    """Return the lines of a traceback's frames as the standard library shows them, which counts repeated ones."""
    parts: list[str] = []
    last: tuple[str, int, str] | None = None
    count = 0
    for (filename, function, line, *_), text in frames:
        at = (filename, line, function)
        if at != last:
            parts.append(_repeated(count))
            last, count = at, 0
        count += 1
        if count <= _REPEATED_SHOWN:
            parts.append(text)
    parts.append(_repeated(count))
    return "".join(parts)


def make_traceback(places: Sequence[tuple[Any, ...]]) -> TracebackType | None:
    """Return a traceback that reads like the one that these places came from."""
    return _join([_frame_at(Place(*fields)) for fields in reversed(places)])


def load_traceback(pickled: bytes) -> TracebackType | None:
    """Return what `make_traceback` makes of the places of a `Stack`. Raises any error of unpickling."""
    if not pickled:
        return None
    known = _loaded.get(pickled)
    if known is None:
        known = tuple([_frame_at(Place(*fields)) for fields in reversed(pickle.loads(pickled))])
        if len(pickled) <= _STACK_BYTES_MAX:
            if len(_loaded) >= _PLACES_MAX:
                _loaded.clear()
            _loaded[pickled] = known
    return _join(known)


def _join(frames: Sequence[tuple[Place, FrameType, int]]) -> TracebackType | None:
    """Return a new traceback of frames, the innermost of which comes first: whoever gets it may change it."""
    top: TracebackType | None = None
    for place, frame, instruction in frames:
        if place.filename not in linecache.cache:
            # Others may have emptied it since.
            _remember_line(place)
        top = TracebackType(top, frame, instruction, place.line)
    return top


def _frame_at(place: Place) -> tuple[Place, FrameType, int]:
    _remember_line(place)
    known = _frames.get(place)
    if known is None:
        known = _make_frame(place)
        if len(_frames) >= _PLACES_MAX:
            _frames.clear()
        _frames[place] = known
    return place, *known


def _look_up(frames: TracebackType) -> tuple[tuple[Any, ...], str]:
    code, instruction = frames.tb_frame.f_code, frames.tb_lasti
    key = (id(code), instruction)
    known = _places.get(key)
    if known is not None and known[0] is code:
        return known[1], known[2]
    found = _place_of(frames)
    place, text = tuple(found), _text_of(found)
    if len(_places) >= _PLACES_MAX:
        _places.clear()
    _places[key] = (code, place, text)
    return place, text


def _place_of(frames: TracebackType) -> Place:
    frame, code = frames.tb_frame, frames.tb_frame.f_code
    line: int = frames.tb_lineno or code.co_firstlineno
    end_line = column = end_column = None
    for start_line, end_line, column, end_column in islice(code.co_positions(), frames.tb_lasti // 2, None):
        if start_line != line:
            end_line = column = end_column = None
        break
    filename = str.__str__(code.co_filename)
    module = dict.get(frame.f_globals, "__name__")
    source = _source(filename, line, end_line or line, frame)
    return Place(
        filename,
        str.__str__(code.co_name),
        line,
        end_line,
        column,
        end_column,
        source,
        str.__str__(module) if issubclass(type(module), str) else "",
    )


def _source(filename: str, line: int, end_line: int, frame: FrameType) -> str:
    """Return the source that the interpreter shows; empty where it is not known."""
    try:
        linecache.checkcache(filename)
        # The lines of modules in archives come from their loader.
        linecache.lazycache(filename, frame.f_globals)
        first = linecache.getline(filename, line)[:_LINE_MAX]
        if not _ALL_LINES_SHOWN or end_line - line > _FURTHER_LINES_MAX:
            return first
        lines = first + "".join(linecache.getline(filename, number) for number in range(line + 1, end_line + 1))
    except Exception:
        # A module's loader may be any code.
        return ""
    return lines if len(lines) <= _LINE_MAX else first


def _text_of(place: Place) -> str:
    plain = f'  File "{place.filename}", line {place.line}, in {place.function}\n'
    if not place.source.strip():
        return plain
    try:
        summary = traceback.FrameSummary(
            place.filename,
            place.line,
            place.function,
            lookup_line=False,
            line=place.source,
            end_lineno=place.end_line,
            colno=place.column,
            end_colno=place.end_column,
        )
        return "".join(traceback.StackSummary.from_list([summary]).format())
    except Exception:
        # Positions may belong to another version of the line. The line alone is always right.
        return f"{plain}    {place.source.strip().splitlines()[0]}\n"


def _repeated(count: int) -> str:
    more = count - _REPEATED_SHOWN
    return f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n" if more > 0 else ""


def _remember_line(place: Place) -> None:
    """Let the standard library find a line of a file that exists only elsewhere."""
    if not place.source.strip():
        return
    try:
        if linecache.getline(place.filename, place.line):
            return
        remember_lines(place.filename, place.line, place.source.splitlines(keepends=True))
    except Exception:
        # Other code has changed the line cache. Then only lines are missing.
        return


def _make_frame(place: Place) -> tuple[FrameType, int]:
    """Return a frame, and its instruction that is at this place."""
    lines = (place.end_line or place.line) - place.line
    known = place.column is not None and place.end_column is not None and lines >= 0
    # Without columns, no part of the line is marked.
    code, instruction = _stub(lines, place.column or 0, place.end_column or 0) if known else _stub(0, 0, 0)
    code = code.replace(
        co_filename=place.filename, co_name=place.function, co_qualname=place.function, co_firstlineno=place.line
    )
    # Of a generator that never begins: such a frame refers to none of those that called us, and so keeps nothing alive.
    generator = FunctionType(code, {"__name__": place.module, "__file__": place.filename})()
    return generator.gi_frame, instruction


@functools.lru_cache(_PLACES_MAX)
def _stub(lines: int, column: int, end_column: int) -> tuple[CodeType, int]:
    """Return code with an instruction at these columns of its first line, which spans this many further lines."""
    # Compiled here, because it takes long and most processes restore no exception.
    import ast

    where: Any = {"lineno": 1, "end_lineno": 1 + lines, "col_offset": column, "end_col_offset": end_column}
    body: list[ast.stmt] = [ast.Expr(ast.Yield(**where), **where)]
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    function = ast.FunctionDef("stub", nothing, body, [], **where)
    module = compile(ast.Module(body=[function], type_ignores=[]), "<raised elsewhere>", "exec")
    code = next(constant for constant in module.co_consts if type(constant) is CodeType)
    position = (1, 1 + lines, column, end_column)
    return code, 2 * next((index for index, at in enumerate(code.co_positions()) if at == position), 0)
