"""Ctrl-C at a line of one's choice, so that a test can try every line of a program in turn."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any


def interrupted_at(number: int, act: Callable[[], object], folder_or_file: str) -> bool:
    """Do `act` with a KeyboardInterrupt at the so many-th line, from 1 on, that it runs in these files of sources.

    Returns whether there was such a line. Exceptions of `act` get through, but for this interrupt.
    """
    lines = 0

    def look(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(folder_or_file):
            return None
        if event == "line":
            lines += 1
            if lines == number:
                sys.settrace(None)
                raise KeyboardInterrupt
        return look

    def acting() -> Generator[object, None, None]:
        yield act()

    # An interrupt at the `return` of an `except` block, which no signal can cause, leaves the exception of that block
    # behind as the one being handled. It would be the context of all later exceptions of this thread. A generator has a
    # state of its own for this, which ends with it.
    acts = acting()
    # Else the collector could end something of an earlier test in there, whose lines would be counted and interrupted too.
    gc.disable()
    sys.settrace(look)
    try:
        next(acts)
    except KeyboardInterrupt:
        if lines != number:
            raise
    finally:
        sys.settrace(None)
        gc.enable()
    return lines >= number
