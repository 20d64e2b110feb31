"""The output of a task as lines of text, as `scaler_top` draws it. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.text import Text

from scaler_protocol.monitoring.kept_output import ARGUMENTS, LOG, NOTE, STDERR, STDOUT
from scaler_protocol.runtime.counted import counted
from scaler_protocol.runtime.log_lines import harmless_cell

LINES_MAX = 1_000
"""Most lines that are drawn, the last ones."""

CHARACTERS_MAX = 4_000
"""Most of one line that is drawn."""

_STREAMS = {STDOUT: "stdout", STDERR: "stderr", LOG: "log", NOTE: "note", ARGUMENTS: "called"}
_STYLES = {STDERR: "yellow", LOG: "cyan", NOTE: "italic", ARGUMENTS: "bright_black"}

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Programs colour their output for terminals of their own."""


class Line(NamedTuple):
    """One line: where it was written to, when (Unix time), and what."""

    stream: int
    at: float
    text: str


def lines_of(pieces: Sequence[Sequence[Any]]) -> list[Line]:
    """Return the lines of (stream, time, text) pieces. A piece that does not end with a line goes on in the next of its stream.

    Of a line that is written over with carriage returns, as progress bars are, the last state is left.
    """
    lines: list[list[Any]] = []
    unfinished: dict[int, list[Any]] = {}
    for stream, at, text in pieces:
        texts = _COLOURS.sub("", text).split("\n")
        for index, one in enumerate(texts):
            is_last = index == len(texts) - 1
            line = unfinished.get(stream)
            if line is not None:
                line[2] += one
            elif one or not is_last:
                line = unfinished[stream] = [stream, at, one]
                lines.append(line)
            if not is_last:
                unfinished.pop(stream, None)
    return [Line(stream, at, text.rstrip("\r").rpartition("\r")[2]) for stream, at, text in lines]


def output_text(data: dict[str, Any]) -> Text:
    """Return what `output_data` tells as text: for each process a line about it, and the lines that it has kept."""
    shown: list[Text] = []
    room = LINES_MAX
    for part in reversed(data["parts"] or ()):
        lines = lines_of(part["pieces"])
        kept = lines[-room:] if room else []
        room -= len(kept)
        shown.append(_part_text(part, kept, len(lines) - len(kept)))
    return Text("\n").join(reversed(shown))


def _part_text(part: dict[str, Any], lines: Sequence[Line], left_out: int) -> Text:
    text = Text(harmless_cell(f"{part['worker'] or part['agent']}, process {part['pid']}"), style="bold")
    if part["ended"]:
        text.append(harmless_cell(f", has ended: {part['ended']}"))
    if part["dropped"]:
        text.append("\nolder output was dropped")
    if left_out:
        text.append(f"\n{counted(left_out, 'earlier line')} not shown: scaler_dump --tasks and the pages have them")
    drawn = Text().append_text(text)
    for line in lines:
        clock = time.strftime("%H:%M:%S", time.localtime(line.at))
        drawn.append(f"\n{clock} {_STREAMS.get(line.stream, ''):<6} ", "bright_black")
        cut = line.text[:CHARACTERS_MAX] + ("…" if len(line.text) > CHARACTERS_MAX else "")
        drawn.append(harmless_cell(cut), _STYLES.get(line.stream, ""))
    return drawn


def output_notes(data: dict[str, Any] | None, gone: str, asked_s: float) -> str:
    """Return what is to be said beside it; empty: nothing. `gone`: the agent that had the task, if it has left."""
    if data is None:
        return f"asking the workers… ({asked_s:.0f} s)" if asked_s >= 1 else "asking the workers…"
    told = []
    if gone:
        told.append(f"the worker is gone: {gone} has ended, and what it kept with it")
    elif not data["parts"]:
        told.append("nothing is kept: the task has printed nothing yet, or newer output has overwritten it")
    if data["silent"]:
        told.append(f"no answer from {', '.join(data['silent'])}")
    if data["unreadable"]:
        told.append(f"no readable answer from {', '.join(data['unreadable'])}")
    if data["omitted"]:
        told.append(f"{counted(data['omitted'], 'answer')} left out: all together are too large")
    return harmless_cell("; ".join(told))
