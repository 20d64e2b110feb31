"""`python -m simulation --seed N --steps M [--seeds K]`: runs K seeds from N on, replays the first failure and tells it.

No seed draws options, groups, a standby or counted resources: `--with` adds them to every run, and what seeds draw for some.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from typing import Any

from simulation.cluster import Cluster, changes_for, choices
from simulation.ledger import SimulationError

STORY_LINES_MAX = 400
PROGRESS_SEEDS = 100


def main() -> int:
    # Sets of ids iterate in the order of their hashes, which Python salts per process: without this, no replay.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]])
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--steps", type=int, default=2000, help="steps under load and faults, before everything heals")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run, one after the other")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, and list those that failed")
    parser.add_argument(
        "--with",
        dest="added",
        action="append",
        default=[],
        choices=choices(),
        help="have this in every run as well; may be given several times",
    )
    arguments = parser.parse_args()
    changes = changes_for(arguments.added)
    failed: list[int] = []
    ends: Counter[str] = Counter()
    storage: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    steps = 0
    started = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        cluster = None
        try:
            cluster = Cluster(seed, changes=changes)
            cluster.run(arguments.steps)
        except Exception as error:
            failed.append(seed)
            # A failed assertion says nothing.
            first_line = str(error).partition("\n")[0]
            print(f"seed {seed}: {type(error).__name__}: {first_line[:200]}", flush=True)
        if cluster is not None:
            steps += cluster.clock.steps
            ends += cluster.ledger.ends
            storage += cluster.storage_watch.counts
            kinds += cluster.ledger.kinds
        if failed and not arguments.keep_going:
            report(seed, arguments.steps, changes)
            return 1
        done = seed - arguments.seed + 1
        if done % PROGRESS_SEEDS == 0 and done < arguments.seeds:
            print(f"{done} of {arguments.seeds} seeds, {len(failed)} failed", flush=True)
    seconds = time.perf_counter() - started
    print(f"{arguments.seeds} seeds, {steps} events in {seconds:.1f} s: {steps / seconds:,.0f} events/s")
    print(", ".join(f"{count} {how}" for how, count in ends.most_common()))
    print("submitted: " + ", ".join(f"{count} {what}" for what, count in sorted(kinds.items())))
    print("objects: " + ", ".join(f"{count} {what}" for what, count in sorted(storage.items())))
    if failed:
        print(f"{len(failed)} seeds failed: {' '.join(map(str, failed))}")
    return 1 if failed else 0


def report(seed: int, steps: int, changes: dict[str, Any]) -> None:
    """Run a failing seed again and tell the story of the task concerned."""
    cluster = Cluster(seed, telling=True, changes=changes)
    try:
        cluster.run(steps)
    except Exception as error:
        task = error.task if isinstance(error, SimulationError) else None
        lines = cluster.ledger.story(task).splitlines()
        print("\n".join(lines[-STORY_LINES_MAX:]))
        traceback.print_exc()
        print(f"\nseed {seed} failed at step {cluster.clock.steps}, {cluster.clock.now:.6f} s: {error}")
        added = "".join(f" --with {name}" for name, value in changes.items() if value is True)
        print(f"replay: python -m simulation --seed {seed} --steps {steps}{added}")
        return
    print(f"seed {seed} failed, and passes when it is told: the run is not deterministic")


if __name__ == "__main__":
    sys.exit(main())
