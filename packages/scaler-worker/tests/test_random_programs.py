"""What an agent's core promises, under random programs: a fixed set of seeds, which the model can run many more of.

Each task ends once, with the attempt that it was given, with what its own processor said or for a reason that there was. A task
that may not run twice never does; what goes back has not begun; chains stay together; what is cancelled or whose client is gone
is handed to nobody; no more runs than the host offers; an inventory names what is held; what is to end does so in
time; a client inside a task is said to be gone once; and nothing is kept of clients that are gone. `agent_programs` judges all
this after every event.
"""

from __future__ import annotations

from collections import Counter

import agent_programs
import pytest

SEEDS = 48
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_the_core_keeps_its_promises(part: int) -> None:
    for seed in range(1 + part, 1 + SEEDS, PARTS):
        agent_programs.run(seed)


def test_programs_reach_all_ends() -> None:
    ends: Counter[str] = Counter()
    for seed in range(101, 109):
        ends += agent_programs.run(seed).record.ends
    assert {"SUCCESS", "CANCELED", "returned", "PROCESSOR_DIED", "SKIPPED", "RETRY"} <= ends.keys()
