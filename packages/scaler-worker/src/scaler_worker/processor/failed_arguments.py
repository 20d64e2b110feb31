"""The arguments of a call that failed, as `repr` shows them, for monitors: kept beside what the task has printed.

Made only when a task fails, and only once its result has been sent: `repr` runs users' code, which may end the process. Whatever
it does, nothing here raises, and it has a second.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from itertools import islice
from reprlib import Repr
from types import CodeType, SimpleNamespace, TracebackType
from typing import Any

from scaler_protocol.failures import type_name_of
from scaler_protocol.failures.facts import traceback_of
from scaler_protocol.monitoring.kept_output import ARGUMENTS
from scaler_worker.processor.kept_output import KeptOutput
from scaler_worker.processor.time_limit import TimeLimit

SECONDS_MAX = 1.0
ARGUMENTS_MAX = 20
CHARACTERS_MAX = 300
"""Of one argument."""


_HARMLESS = frozenset((bool, bytes, float, int, type(None), str))

_MAPPINGS = collections.Counter, collections.OrderedDict, collections.defaultdict
_SHORTENED_MODULES = "builtins", "collections", "array"
"""Whose types `Repr` shortens. It goes by names, which a task's own types may have too."""


class _Short(Repr):
    """As `repr`, but with a bound for what is large; strings keep their beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = (
            self.maxdict
        ) = 10
        self.maxstring = self.maxother = self.maxlong = CHARACTERS_MAX - 50

    def repr1(self, x: Any, level: int) -> str:
        """Show the beginning of what is large. `repr` of all of it would take gigabytes, and nothing interrupts it."""
        kind: Any = type(x)
        shown_by: Any = kind.__repr__
        # All but the last element of these are shown, and then that there are more.
        if shown_by is dict.__repr__:
            return self.repr_dict(dict(islice(dict.items(x), self.maxdict + 1)), level)
        if shown_by is list.__repr__:
            return self.repr_list(list(islice(list.__iter__(x), self.maxlist + 1)), level)
        if shown_by is tuple.__repr__:
            return self.repr_tuple(tuple(islice(tuple.__iter__(x), self.maxtuple + 1)), level)
        if shown_by is set.__repr__:
            text = self.repr_set(set(islice(set.__iter__(x), self.maxset + 1)), level)
            return text if kind is set else f"{kind.__name__}({text})"
        if shown_by is frozenset.__repr__:
            text = self.repr_frozenset(frozenset(islice(frozenset.__iter__(x), self.maxfrozenset + 1)), level)
            return text if kind is frozenset else f"{kind.__name__}({text})"
        if shown_by is collections.deque.__repr__:
            few = list(islice(collections.deque.__iter__(x), self.maxdeque + 1))
            return f"{kind.__name__}({self.repr_list(few, level)})"
        for mapping in _MAPPINGS:
            if shown_by is mapping.__repr__:
                entries = dict(islice(mapping.items(x), self.maxdict + 1))
                return f"{kind.__name__}({self.repr_dict(entries, level)})"
        if shown_by is str.__repr__:
            return self.repr_str(str.__getitem__(x, slice(self.maxstring + 1)), level)
        if shown_by is bytes.__repr__:
            return self._cut(bytes.__getitem__(x, slice(self.maxother)), bytes.__len__(x))
        if shown_by is bytearray.__repr__:
            return self._cut(bytearray.__getitem__(x, slice(self.maxother)), bytearray.__len__(x))
        fields = _fields_of(x, kind, shown_by)
        if fields is not None:
            return self._record(x, kind, fields, level)
        return super().repr1(x, level) if kind.__module__ in _SHORTENED_MODULES else self.repr_instance(x, level)

    def _record(self, x: Any, kind: type, fields: Sequence[str], level: int) -> str:
        if level <= 0:
            return f"{kind.__qualname__}(...)"
        shown = [f"{name}={self.repr1(getattr(x, name), level - 1)}" for name in fields[: self.maxlist]]
        return f"{kind.__qualname__}({', '.join([*shown, '...'] if len(fields) > len(shown) else shown)})"

    def _cut(self, beginning: bytes | bytearray, size: int) -> str:
        text = repr(beginning)
        if len(beginning) == size and len(text) <= self.maxother:
            return text
        return f"{text[: self.maxother]}… [{size:,} bytes]"


def _fields_of(x: Any, kind: Any, shown_by: Any) -> Sequence[str] | None:
    """Return the names of what is shown of a record; None: it shows itself in its own way."""
    if shown_by is SimpleNamespace.__repr__:
        return list(vars(x))
    # Made by `dataclass` and `namedtuple`: other functions come from other files.
    made_from = getattr(getattr(shown_by, "__wrapped__", shown_by), "__code__", None)
    if made_from is None:
        return None
    if hasattr(kind, "__dataclass_fields__") and made_from.co_filename == "<string>":
        from dataclasses import fields

        return [field.name for field in fields(kind) if field.repr]
    if issubclass(kind, tuple) and made_from.co_filename == collections.namedtuple.__code__.co_filename:
        return list(kind._fields)
    return None


_SHORT = _Short()


class FailedArguments:
    """Keeps the arguments of calls that failed."""

    def __init__(self, kept: KeptOutput, limit: TimeLimit) -> None:
        self.due: list[tuple[Sequence[Any], Mapping[str, Any], str]] = []
        """Arguments and a title: `keep_due` is to be called once the result of the task that has ended is sent."""
        self._kept = kept
        self._limit = limit

    def note_of(self, error: BaseException, codes: Sequence[CodeType]) -> None:
        """Note the arguments that the task was called with. They are in the frame of one of our functions, with these codes."""
        try:
            found = _arguments_in(traceback_of(error), codes)
        except Exception:
            return
        if found is not None:
            self.due.append((*found, ""))

    def note_item(self, items: Any, index: int, star: bool) -> None:
        """Note the arguments of a failed item of a map chunk."""
        if type(items) in (list, tuple) and index < len(items):
            item = items[index]
            self.due.append((item if star and type(item) is tuple else (item,), {}, f"item {index} of the chunk"))

    @property
    def may_end_the_process(self) -> bool:
        """Whether what is due is shown by code of a user's, or holds other objects that may be."""
        return not all(type(value) in _HARMLESS for args, kwargs, _ in self.due for value in (*args, *kwargs.values()))

    def keep_due(self) -> None:
        """Keep what was noted."""
        # Taken first: what a cancelled task's signal interrupts is not tried again.
        due, self.due[:] = self.due[:], []
        for noted in due:
            self.keep(*noted)

    def keep(self, args: Sequence[Any], kwargs: Mapping[str, Any], title: str = "") -> None:
        """Keep these arguments."""
        self._limit.begin(SECONDS_MAX)
        try:
            named = [*((str(place), value) for place, value in enumerate(args)), *kwargs.items()]
            lines = [f"{title}\n"] if title else []
            lines += [f"{name} = {self._shown(value)}\n" for name, value in named[:ARGUMENTS_MAX]]
            if len(named) > ARGUMENTS_MAX:
                lines.append(f"and {len(named) - ARGUMENTS_MAX:,} more\n")
            self._kept.write(ARGUMENTS, "".join(lines).encode("utf-8", "backslashreplace"))
        except Exception:
            # A task may have done anything to this process.
            return
        finally:
            self._limit.end()

    def _shown(self, value: Any) -> str:
        try:
            text = self._limit.run(_SHORT.repr, value)
            shown = text if type(text) is str else str.__str__(text)
        # Users' code, or the limit of time.
        except BaseException as error:
            return f"<{type_name_of(type(value))}, whose repr raised {type_name_of(type(error))}>"
        return shown if len(shown) <= CHARACTERS_MAX else f"{shown[:CHARACTERS_MAX]}… [{len(shown):,} characters]"


def _arguments_in(
    frames: TracebackType | None, codes: Sequence[CodeType]
) -> tuple[Sequence[Any], Mapping[str, Any]] | None:
    found: tuple[Sequence[Any], Mapping[str, Any]] | None = None
    # Ours come first; the task's own are behind them.
    while frames is not None and frames.tb_frame.f_code in codes:
        known = frames.tb_frame.f_locals
        args, kwargs = known.get("args"), known.get("kwargs")
        if isinstance(args, list | tuple) and isinstance(kwargs, dict):
            found = args, kwargs
        frames = frames.tb_next
    return found
