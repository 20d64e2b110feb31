"""What a client core knows at a moment, for tests and the simulation. Nothing in it changes afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scaler.core.answers import Answers
from scaler.core.endings import Endings
from scaler.core.holdings import ObjectUses
from scaler.core.tasks import TaskTable


@dataclass(frozen=True, slots=True)
class ClientSnapshot:
    """See the module. Task numbers are ascending."""

    established: bool
    """Whether a session with the scheduler stands."""
    unanswered: tuple[int, ...]
    """Tasks that were not answered, wanted rows of graphs among them."""
    waiting: tuple[int, ...]
    """Tasks that have not left in this session, without rows of graphs. May name tasks that were cancelled since."""
    graphs: tuple[int, ...]
    """First numbers of the graphs that have unanswered rows."""
    fetching: tuple[int, ...]
    """Answered tasks whose answer is being fetched from object storage."""
    unconfirmed: tuple[int, ...]
    """Cancelled tasks that may still run."""
    object_uses: Mapping[bytes, int]
    """How many uses are counted of each object."""
    functions_defined: frozenset[bytes]
    """Functions that the scheduler of this session knows."""
    credit_left: int | None
    """How many more tasks the scheduler permits; None where it sets no limit."""


def snapshot_of(
    established: bool,
    table: TaskTable,
    answers: Answers,
    endings: Endings,
    uses: ObjectUses,
    functions_defined: Iterable[bytes],
    credit_left: int | None,
) -> ClientSnapshot:
    """Return what the parts of a client core know now."""
    return ClientSnapshot(
        established=established,
        unanswered=tuple(sorted(table.tasks)),
        waiting=tuple(sorted(number for group in table.groups() for number in (*group.pending, *group.again))),
        graphs=tuple(sorted(table.graphs)),
        fetching=tuple(sorted(answers.fetching)),
        unconfirmed=tuple(sorted(endings.unconfirmed)),
        object_uses=dict(uses.counts),
        functions_defined=frozenset(functions_defined),
        credit_left=credit_left,
    )
