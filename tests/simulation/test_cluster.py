"""Whole clusters under the virtual clock: a few seeds of every kind, the same every time.

`nox -s sim -- --seed 1 --steps 2000 --seeds 1000` runs many more.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scaler_protocol.wire import messages as m
from simulation.__main__ import report
from simulation.cluster import Cluster, Plan, additions, changes_for, objects_held_by
from simulation.ledger import Entry, Excuses, SimulationError
from simulation.programs import Action, Library, value_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", range(1, 21))
def test_every_promise_is_kept(seed: int) -> None:
    Cluster(seed).run(600)


KINDS = (
    "graphs",
    "objects in graphs",
    "runs of prepared graphs",
    "values given to them",
    "futures as arguments",
    "graphs in tasks",
    "futures as arguments in tasks",
)


def test_graphs_of_every_kind_are_submitted() -> None:
    submitted: Counter[str] = Counter()
    for seed in range(1, 21):
        cluster = Cluster(seed)
        cluster.load(400)
        submitted += cluster.ledger.kinds
        if all(submitted[kind] for kind in KINDS):
            return
    pytest.fail(f"{submitted}")


def test_the_same_seed_gives_the_same_run_in_every_process() -> None:
    command = [sys.executable, "-m", "simulation", "--seed", "3", "--steps", "500", "--seeds", "2"]
    outputs = [subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout for _ in range(2)]
    counted = [[line.partition(" events in ")[0] for line in output.splitlines()] for output in outputs]
    assert counted[0] == counted[1]
    assert len(counted[0]) == 4


def test_what_no_seed_draws_is_added_and_named_for_the_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert additions() == ["options", "groups", "standby", "resources"]
    seen: list[Plan] = []

    def fail(cluster: Cluster, steps: int) -> None:
        seen.append(cluster.plan)
        raise SimulationError("as planned")

    monkeypatch.setattr(Cluster, "run", fail)
    report(7, 300, changes_for(["options", "standby", "homes"]))
    assert seen[0].options
    assert seen[0].standby
    assert not seen[0].groups
    assert seen[0].homes
    assert seen[0].home_memory_bytes > 0
    replay = "replay: python -m simulation --seed 7 --steps 300 --with options --with standby --with homes"
    assert replay in capsys.readouterr().out


EVERYTHING = [
    "options",
    "groups",
    "standby",
    "resources",
    "kills",
    "scheduler_dies",
    "results_lost",
    "homes",
    "homes_die",
]


@pytest.mark.parametrize("seed", [12, 93])
def test_what_is_rare_together(seed: int) -> None:
    """Such runs have shown that tasks which waited for the limit of a group or of the cluster could do so for ever."""
    Cluster(seed, changes=changes_for(EVERYTHING)).run(1000)


def test_the_command_adds_what_no_seed_draws() -> None:
    command = [sys.executable, "-m", "simulation", "--seed", "3", "--steps", "300"]
    added = ["--with", "options", "--with", "groups", "--with", "standby", "--with", "resources"]
    plain, more = (
        subprocess.run([*command, *rest], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for rest in ((), added)
    )
    assert plain.splitlines()[1:] != more.splitlines()[1:]


# --- the book of record notices what it is there to notice


def entry_of(cluster: Cluster, action: Action) -> Entry:
    program = cluster.library.add(action, 0.0)
    entry = Entry(b"c" * 16, program.number, cluster.library.expected(program.number), number=1)
    cluster.ledger.submitted(entry)
    return entry


def test_a_second_end_is_noticed() -> None:
    cluster = Cluster(1)
    entry = entry_of(cluster, Action.RETURN)
    assert entry.expected is not None
    cluster.ledger.completed(entry, m.Status.SUCCESS, entry.expected)
    with pytest.raises(SimulationError, match="now again"):
        cluster.ledger.completed(entry, m.Status.SUCCESS, entry.expected)


def test_an_answer_to_a_cancelled_task_is_noticed() -> None:
    cluster = Cluster(1)
    entry = entry_of(cluster, Action.RETURN)
    cluster.ledger.canceled(entry)
    with pytest.raises(SimulationError, match="now again"):
        cluster.ledger.completed(entry, m.Status.SUCCESS, b"")


@pytest.mark.parametrize(
    ("action", "status"),
    [
        (Action.RETURN, m.Status.SUCCESS),
        (Action.RETURN, m.Status.FAILED),
        (Action.RETURN, m.Status.PROCESSOR_DIED),
        (Action.RETURN, m.Status.WORKER_DIED),
        (Action.RETURN, m.Status.MISSING_OBJECT),
        (Action.RETURN, m.Status.NOT_RUN),
        (Action.FAIL, m.Status.SUCCESS),
    ],
)
def test_a_wrong_end_is_noticed(action: Action, status: m.Status) -> None:
    cluster = Cluster(1)
    cluster.ledger.excuses = Excuses()
    entry = entry_of(cluster, action)
    with pytest.raises(SimulationError):
        cluster.ledger.completed(entry, status, b"some other value")


def test_a_task_that_runs_twice_without_a_reason_is_noticed() -> None:
    cluster = Cluster(1)
    cluster.ledger.started((b"c" * 16, 1), "here")
    with pytest.raises(SimulationError, match="second time"):
        cluster.ledger.started((b"c" * 16, 1), "there")


def test_the_value_of_a_task_depends_on_all_that_goes_into_it() -> None:
    library = Library()
    first, second = library.add(Action.RETURN, 0.0), library.add(Action.RETURN, 0.0)
    values = {
        value_of(first, [], [], []),
        value_of(second, [], [], []),
        value_of(first, [b"a"], [], []),
        value_of(first, [], [b"a"], []),
        value_of(first, [], [], [b"a"]),
        value_of(first, [b"a", b"b"], [], []),
        value_of(first, [b"b", b"a"], [], []),
    }
    assert len(values) == 7


def test_a_failing_child_fails_its_parent() -> None:
    library = Library()
    child = library.add(Action.FAIL, 0.0)
    parent = library.add(Action.NEST, 0.0, children=(child.number,))
    assert library.expected(parent.number) is None
    assert not library.may_exit(parent.number)


def test_what_a_core_holds_can_be_counted() -> None:
    assert objects_held_by([object() for _ in range(100)]).total() == 101
