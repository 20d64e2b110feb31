"""An exception with its causes, context and notes as one bounded text, as the interpreter would show it.

The standard library's formatter runs code of the exceptions and has no bound. This one shows only what `facts` and
`tracebacks` have read.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from types import CodeType

from scaler_protocol.failures.facts import (
    Run,
    cause_of,
    context_of,
    members_of_group,
    notes_of,
    run,
    suppresses_context,
    text_of,
    traceback_of,
    type_name_of,
)
from scaler_protocol.failures.tracebacks import Stack, stack_of

LINES_MAX = 64_000
"""Most characters of a whole text. Its end is always kept, because it has the exception itself."""

CHAIN_MAX = 50
"""Most causes and contexts of one exception that are shown."""

EXCEPTIONS_MAX = 500
"""Most exceptions that are shown in all."""

_GROUP_WIDTH_MAX, _GROUP_DEPTH_MAX = 15, 10
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def full_text(
    error: BaseException,
    text: str,
    run: Run = run,
    is_own: Callable[[CodeType], bool] = lambda _: False,
    stack: Stack | None = None,
) -> str:
    """Return the lines of `error`, whose own text is `text`; never raises. Leading frames with `is_own` true are left out.

    `stack` has its others, where they are known.
    """
    if _next_of(error) is None and not issubclass(type(error), BaseExceptionGroup):
        lines = (_stack(error, is_own) if stack is None else stack.text) + _ending(error, text, run)
    else:
        lines = "".join(_Lines(run, is_own).chain(error, text, 0))
    if len(lines) <= LINES_MAX:
        return lines
    return f"{lines[: LINES_MAX // 4]}\n… [{len(lines):,} characters, cut] …\n{lines[-LINES_MAX * 3 // 4 :]}"


class _Lines:
    """Yields the lines of one exception with its causes, contexts and members."""

    def __init__(self, run: Run, is_own: Callable[[CodeType], bool]) -> None:
        self._run = run
        self._is_own = is_own
        self._seen: set[int] = set()
        self._left = EXCEPTIONS_MAX

    def chain(self, error: BaseException, text: str | None, depth: int) -> Iterator[str]:
        """Yield the lines of the causes and contexts of `error`, then its own. `text` is its text, if that is known.

        `depth` is the number of groups around it.
        """
        shown: list[tuple[BaseException, str]] = [(error, "")]
        self._seen.add(id(error))
        while len(shown) < CHAIN_MAX:
            following = _next_of(shown[-1][0])
            if following is None or id(following[0]) in self._seen:
                break
            self._seen.add(id(following[0]))
            shown.append(following)
        for position in range(len(shown) - 1, -1, -1):
            one, link = shown[position]
            self._left -= 1
            own_text = text if position == 0 and text is not None else text_of(one, self._run)
            members = members_of_group(one)
            if members is None:
                yield _indented(_stack(one, self._is_own) + _ending(one, own_text, self._run), depth)
            elif depth > _GROUP_DEPTH_MAX:
                yield _indented(f"... (max_group_depth is {_GROUP_DEPTH_MAX})\n", depth)
            else:
                yield from self._group(one, own_text, members, depth)
            # The sentence that links this one to the next, of which it is the cause or context.
            yield _indented(link, depth)

    def _group(self, error: BaseException, text: str, members: tuple[BaseException, ...], depth: int) -> Iterator[str]:
        level = max(depth, 1)
        stack = _stack(error, self._is_own).replace("Traceback", "Exception Group Traceback", 1)
        head = _indented(stack + _ending(error, text, self._run), level)
        # The outermost group's lines begin with a cross.
        yield head.replace("|", "+", 1) if stack and depth == 0 else head
        margin = "  " * level
        # A group may contain one exception many times, also in other groups, so all of them have one bound.
        shown = members[: _GROUP_WIDTH_MAX if self._left > 0 else 1]
        for number, member in enumerate(shown, 1):
            yield f"{margin}{'+-' if number == 1 else '  '}+---------------- {number} ----------------\n"
            yield from self.chain(member, None, level + 1)
        more = len(members) - len(shown)
        if more:
            yield f"{margin}  +---------------- ... ----------------\n"
            yield _indented(f"and {more} more exception{'s' if more > 1 else ''}\n", level + 1)
        if more or members_of_group(shown[-1]) is None or level >= _GROUP_DEPTH_MAX:
            # A group at the end has closed the groups around it.
            yield f"{margin}  +------------------------------------\n"


def _indented(lines: str, depth: int) -> str:
    if not depth or not lines:
        return lines
    return "".join(f"{'  ' * depth}| {line}" for line in lines.splitlines(keepends=True))


def _next_of(error: BaseException) -> tuple[BaseException, str] | None:
    cause = cause_of(error)
    if cause is not None:
        return cause, _CAUSE
    context = context_of(error)
    if context is not None and not suppresses_context(error):
        return context, _CONTEXT
    return None


def _stack(error: BaseException, is_own: Callable[[CodeType], bool]) -> str:
    return stack_of(traceback_of(error), is_own).text


def _ending(error: BaseException, text: str, run: Run) -> str:
    """Return the lines with the exception itself and its notes."""
    kind = type(error)
    name = type_name_of(kind)
    lines = f"{name}: {text}\n" if text else f"{name}\n"
    if issubclass(kind, SyntaxError):
        try:
            # A SyntaxError shows the wrong line. Its fields may be anything.
            lines = "".join(run(traceback.format_exception_only, error))[:LINES_MAX]
        except BaseException:
            return lines
        return lines
    for note in notes_of(error):
        lines += note + "\n"
    return lines
