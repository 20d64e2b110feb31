"""What a plain task is. Shorter forms that exist for plain tasks only ask here.

A plain task has nothing but its number, its attempt, its function and its arguments: its values for all other columns are
absent, it reads no results of other tasks, and it is pickled by the usual serializer.
"""

from __future__ import annotations

from collections.abc import Sized

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.column_table import Hop, columns_of

PLAIN_COLUMNS = ("numbers", "attempts", "functions", "payloads")
"""What a plain task has, in the order in which it is written. Clients leave the attempt out."""

_BEYOND_IN_RUN = tuple(
    spec.name
    for spec in columns_of(m.TaskBatch)
    if Hop.RUN in spec.hops
    # Says which function of the batch a row calls. Sparse columns are filled where their positions are.
    and spec.name not in (*PLAIN_COLUMNS, "function_indexes")
    and not spec.positions
)


def is_plain(serializer: bytes, objects: Sized, carried: Carried, graph: object | None) -> bool:
    """Whether a task is plain that is not a row of a batch yet; `graph` is the one it is a row of, or None."""
    return not (serializer or objects or carried or graph is not None)


def run_plainly(batch: m.TaskBatch) -> bool:
    """Whether the tasks of a batch are plain in what a processor gets of them."""
    return not batch.serializer and not batch.options and not any(len(getattr(batch, name)) for name in _BEYOND_IN_RUN)
