"""The seeds of all fuzzers, small changes of them, and whatever once made one fail."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzzing.one_target import COMMITTED, REGRESSIONS
from fuzzing.targets import load, names

CHANGES = 30
FEWER_CHANGES = {"settings": 5, "key_commands": 10}
"""Of inputs that take tens of milliseconds each: a whole command line is read. `nox -s soak` makes as many as of the others."""


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, FEWER_CHANGES.get(name, CHANGES)) for name in names()]
    + [pytest.param(name, CHANGES, marks=pytest.mark.soak) for name in FEWER_CHANGES],
)
def test_seeds_and_small_changes(name: str, changes: int) -> None:
    target, rng = load(name), random.Random(1)
    for seed in target.seeds():
        target.run(seed)
        for _ in range(changes):
            changed = bytearray(seed)
            for _ in range(rng.randrange(1, 4)):
                if changed:
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
            target.run(bytes(changed))


@pytest.mark.parametrize("name", names())
def test_what_earlier_runs_found(name: str) -> None:
    target = load(name)
    for path in sorted((COMMITTED / name).glob("*")):
        target.run(path.read_bytes())


def test_every_committed_input_belongs_to_a_target_and_is_small() -> None:
    assert {path.name for path in COMMITTED.iterdir()} <= set(names())
    assert sum(path.stat().st_size for path in COMMITTED.glob("*/*")) < 512 * 1024


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_failed_once(path: Path) -> None:
    load(path.parent.name).run(path.read_bytes())
