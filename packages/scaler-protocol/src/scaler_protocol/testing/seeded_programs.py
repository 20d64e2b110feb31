"""The command line of random programs: seeds are run one after the other, and one that fails is told with its story."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable

SEEDS_NAMED = 20
"""So many of the seeds that failed are named at the end."""


def run_seeds(run: Callable[[int, int | None], Counter[str]], failure: type[Exception], description: str) -> int:
    """Run what the command line of this process asks for; return the exit status.

    `run` takes a seed and a number of steps, None where none was given, and returns how many tasks ended in which way. It
    raises `failure`, whose text begins with a line that says what is wrong, and goes on with the story.
    """
    # Sets of ids iterate in the order of their hashes, which Python salts per process: without this, no replay.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run, one after the other")
    parser.add_argument("--steps", type=int, help="random steps before everything comes to rest")
    parser.add_argument("--keep-going", action="store_true", help="run all seeds, and list those that failed")
    arguments = parser.parse_args()
    ends: Counter[str] = Counter()
    failed: list[int] = []
    started = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        try:
            ends += run(seed, arguments.steps)
        except failure as error:
            failed.append(seed)
            if not arguments.keep_going:
                if error.__cause__ is not None:
                    traceback.print_exception(error.__cause__)
                steps = "" if arguments.steps is None else f" --steps {arguments.steps}"
                print(f"{error}\nreplay: python {sys.argv[0]} --seed {seed}{steps}")
                return 1
            print(str(error).partition("\n")[0][:300], flush=True)
    print(
        f"{arguments.seeds} seeds in {time.perf_counter() - started:.1f} s, {len(failed)} failed: {failed[:SEEDS_NAMED]}"
    )
    print(", ".join(f"{count} {how}" for how, count in ends.most_common()))
    return 1 if failed else 0
