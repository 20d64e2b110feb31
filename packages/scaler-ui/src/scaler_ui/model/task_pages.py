"""Single tasks, filtered and in any order, a page at a time.

A page begins after the last row of the page before (its *cursor*), and not after so many rows: tasks that arrive or leave
meanwhile move nothing, and no row is shown twice or left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from heapq import nlargest, nsmallest
from typing import Any

from scaler_ui.model.bars import Lane
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.figures import task_data
from scaler_ui.model.progress import said_now
from scaler_ui.model.tasks import STATES, WAITING, TaskRow
from scaler_ui.model.waiting import KINDS, task_reasons

Key = tuple[int, Any, int]
"""Whether there is a value, the value, and the task's place among all: so no two are equal."""

COLUMNS = (
    "number",
    "function",
    "state",
    "duration_seconds",
    "waited_seconds",
    "worker",
    "client_name",
    "label",
    "tags",
    "capabilities",
    "submitted_at",
    "ended_at",
    "sequence",
)
"""What may be sorted by. `sequence`: the order in which tasks were first seen."""

SORT_PATTERN = f"^(-?({'|'.join(COLUMNS)}))?$"

WHY_PATTERN = f"^({'|'.join(KINDS)})?$"

ORDERS = {
    "newest": "-sequence",
    "oldest": "sequence",
    "longest": "-duration_seconds",
    "waited": "-waited_seconds",
}
"""Usual orders by name."""


def find_tasks(
    model: ClusterModel,
    *,
    search: str = "",
    state: str = "",
    why: str = "",
    function: str = "",
    client: bytes = b"",
    label: str = "",
    order: str = "newest",
    sort: str = "",
    after: str = "",
    before: str = "",
    limit: int = 200,
    offset: int = 0,
) -> dict[str, Any]:
    """Return the tasks whose function, worker, agent, client, capability, number, label or tags contain `search`.

    `state`, `function`, `client`, `label`: only such tasks; `why`: only those that wait for a reason of this kind (see
    `waiting.KINDS`). `sort`: one of `COLUMNS`, with "-" before it for descending. Tasks
    without a value come last. `after`, `before`: a cursor, of which the next rows, or those before it, are returned.

    `states` counts the tasks of each state that fit all that is asked for but `state` and `why`; `reasons`, by kind, those of
    them that wait. `waiting_for_tasks` are not among them: these wait for the results of others, and have no rows yet.
    """
    names, said, reason_of = model.worker_names(), said_now(model), task_reasons(model)
    column = (sort or ORDERS[order]).lstrip("-")
    descending = (sort or ORDERS[order]).startswith("-")
    value_of = _value_of(column, model, names)
    missing: Any = "" if column in _TEXTS else 0.0

    def key_of(row: TaskRow) -> Key:
        value = value_of(row)
        # Those without a value are last in both directions.
        has_value = value is not None and value != ""
        return (int(has_value == descending), value if has_value else missing, row.sequence)

    # A task that came back before it began waits like one that was never assigned.
    states_asked = WAITING if state == "submitted" else (state,)
    states, reasons = dict.fromkeys(STATES, 0), dict.fromkeys(KINDS, 0)
    keyed = []
    for row in _matching(model, names, search, function, client, label):
        states[row.state] += 1
        reason = reason_of(row)
        if reason is not None:
            reasons[reason.kind] += 1
        if why and (reason is None or reason.kind != why):
            continue
        if not state or row.state in states_asked:
            keyed.append((key_of(row), row))
    start, end = read_cursor(after), read_cursor(before)
    fits = [cursor for cursor in (start, end) if cursor is not None and type(cursor[1]) is type(missing)]
    if end is not None and end in fits:
        rows = [pair for pair in keyed if (pair[0] > end if descending else pair[0] < end)]
        page = (nsmallest if descending else nlargest)(limit, rows, key=_key)[::-1]
    else:
        rows = keyed
        if start is not None and start in fits:
            rows = [pair for pair in keyed if (pair[0] < start if descending else pair[0] > start)]
        page = (nlargest if descending else nsmallest)(offset + limit, rows, key=_key)[offset:]
    ahead = sum(pair[0] > page[0][0] if descending else pair[0] < page[0][0] for pair in keyed) if page else 0
    clients = model.snapshot.clients if model.snapshot is not None else ()
    return {
        "known": len(model.tasks),
        "matching": len(keyed),
        "states": states,
        "reasons": reasons,
        "waiting_for_tasks": sum(client.waiting_for_tasks for client in clients),
        "stride": model.stride,
        "offset": ahead,
        "previous": _cursor(page[0][0]) if ahead else None,
        "next": _cursor(page[-1][0]) if page and ahead + len(page) < len(keyed) else None,
        "tasks": [task_data(model, row, names, said, reason_of) for _, row in page],
    }


def read_cursor(text: str) -> Key | None:
    """Return the key that a cursor stands for; None: it stands for none."""
    try:
        has_value, value, sequence = json.loads(base64.urlsafe_b64decode(text.encode("ascii")))
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        # Whatever somebody has written there.
        return None
    if has_value not in (0, 1) or type(sequence) is not int or not (isinstance(value, str) or number is not None):
        return None
    return (int(has_value), value if isinstance(value, str) else number, sequence)


def _cursor(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode("ascii")


def _key(pair: tuple[Key, TaskRow]) -> Key:
    return pair[0]


_NEVER = 1e11
"""Unix time when nothing waits any more."""

_TEXTS = frozenset({"function", "state", "worker", "client_name", "label", "tags", "capabilities"})


def _value_of(column: str, model: ClusterModel, names: Mapping[Lane, str]) -> Callable[[TaskRow], Any]:
    if column == "worker":
        return lambda row: (names.get(Lane(row.agent, row.slot)) or row.agent).lower()
    if column == "client_name":
        known: dict[bytes, str] = {}
        for row in model.tasks.newest_first():
            if row.client not in known:
                known[row.client] = model.client_name(row.client).lower()
        return lambda row: known[row.client]
    if column == "duration_seconds":
        return lambda row: float(row.duration_s) if row.ended_at else None
    if column == "waited_seconds":
        # Those that still wait count as the longest: so their places stay the same while time passes.
        return lambda row: row.waited_s(_NEVER) if row.state in WAITING else row.waited_s(0.0)
    if column == "submitted_at":
        # Of those that came before this monitor did, the first moment that is known.
        return lambda row: row.submitted_at or row.assigned_at or row.ended_at or None
    if column == "ended_at":
        return lambda row: row.ended_at or None
    if column in _TEXTS:
        return lambda row: str(getattr(row, column)).lower()
    return lambda row: float(getattr(row, column))


def _matching(
    model: ClusterModel,
    worker_names: Mapping[Lane, str],
    search: str,
    function: str,
    client: bytes,
    label: str,
) -> Iterator[TaskRow]:
    words = search.lower().split()
    names: dict[bytes, str] = {}
    for row in model.tasks.newest_first():
        if (function and row.function != function) or (client and row.client != client):
            continue
        if label and row.label != label:
            continue
        if words:
            name = names.get(row.client)
            if name is None:
                name = names[row.client] = model.client_name(row.client)
            worker = worker_names.get(Lane(row.agent, row.slot), "")
            text = f"{row.function} {row.agent} {worker} {name} {row.capabilities}"
            text = f"{text} {row.number} {row.state} {row.label} {row.tags} {row.resources}"
            if not all(word in text.lower() for word in words):
                continue
        yield row
