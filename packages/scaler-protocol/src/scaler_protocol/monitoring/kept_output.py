"""What agents keep of the output of tasks, and of their own logs, as they tell it to monitors: a JSON object.

Agents write it and monitors read it; the scheduler passes it on unread. Tasks may have written any of it, so nothing is believed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

STDOUT, STDERR, LOG, NOTE, ARGUMENTS = 1, 2, 3, 4, 5
"""Where a piece was written to. `NOTE`: a remark of the processor, how much was left out. `ARGUMENTS`: of a call that failed."""

TEXT_BYTES_MAX = 256 * 1024
"""Most text of one answer, about; older pieces are left out."""

_FIGURE_MAX = 2.0**53


class Piece(NamedTuple):
    """Something that was written at once, or lines of a log."""

    stream: int
    """`STDOUT`, `STDERR`, `LOG`, `NOTE`, `ARGUMENTS`; in an agent's log the level, as in Python's logging."""
    at: float
    """Unix time."""
    text: str


@dataclass(frozen=True, slots=True)
class KeptPart:
    """What one processor has kept of a task, or an agent of its own log. Pieces are in the order in which they were written."""

    worker: str
    pid: int
    ended: str
    """How the processor has ended; empty: it runs."""
    dropped: bool
    """Whether older output was dropped, because there was too much."""
    pieces: tuple[Piece, ...]


def write_parts(parts: Sequence[KeptPart]) -> bytes:
    """Return the JSON object; of more than `TEXT_BYTES_MAX`, the newest pieces. Empty where there are no parts."""
    left = TEXT_BYTES_MAX
    told: list[dict[str, Any]] = []
    for part in reversed(parts):
        pieces: list[Piece] = []
        for piece in reversed(part.pieces):
            left -= len(piece.text)
            if left < 0:
                break
            pieces.append(piece)
        dropped = part.dropped or len(pieces) < len(part.pieces)
        told.append(
            {
                "worker": part.worker,
                "pid": part.pid,
                "ended": part.ended,
                "dropped": dropped,
                "pieces": [*reversed(pieces)],
            }
        )
    return json.dumps({"parts": [*reversed(told)]}, separators=(",", ":")).encode() if told else b""


def read_parts(data: bytes) -> list[KeptPart]:
    """Return the parts in a JSON object. Raises ValueError where it is none, or none of these."""
    try:
        return [_read_part(each) for each in json.loads(data)["parts"]]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"this is no output of a task: {error!r}") from None


def _read_part(told: Any) -> KeptPart:
    return KeptPart(
        str(told["worker"]),
        int(told["pid"]),
        str(told["ended"]),
        bool(told["dropped"]),
        tuple(Piece(int(stream), _figure(at), str(text)) for stream, at, text in told["pieces"]),
    )


def _figure(value: Any) -> float:
    figure = float(value)
    # Written so that it also refuses what is not a number, which is no JSON for browsers.
    if not -_FIGURE_MAX <= figure <= _FIGURE_MAX:
        raise ValueError(f"{value!r} is not a time")
    return figure
