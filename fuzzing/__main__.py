"""Runs the fuzzers one after the other and prints how many inputs each took: `python -m fuzzing [--minutes N] [TARGET …]`.

`--replay FILE` runs one input of `fuzzing/regressions/TARGET` instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from fuzzing.one_target import REGRESSIONS
from fuzzing.targets import load, names

_COUNT = re.compile(r"stat::number_of_executed_units:\s*([0-9]+)")
GRACE_SECONDS = 120.0
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaler-fuzzing"


def main() -> int:
    """Returns the exit status: 1 if an input made a target fail."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all targets together (default: 5)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(names())}")
    parser.add_argument(
        "--corpus", type=Path, default=CACHE, metavar="DIR", help=f"where found inputs are kept (default: {CACHE})"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input only; its folder names the target")
    given = parser.parse_args()
    if given.replay is not None:
        path = given.replay.resolve()
        load(path.parent.name).run(path.read_bytes())
        return 0
    unknown = set(given.targets) - set(names())
    if unknown:
        parser.error(f"no target has the name {', '.join(sorted(unknown))}")
    chosen = given.targets or names()
    seconds = given.minutes * 60 / len(chosen)
    has_atheris = importlib.util.find_spec("atheris") is not None
    print(f"inputs are chosen by {'atheris' if has_atheris else 'random changes of seeds: atheris is not installed'}")
    total, failed = 0, []
    for name in chosen:
        known = _failures(name)
        done = subprocess.run(
            [sys.executable, "-m", "fuzzing.one_target", name, str(seconds), str(given.corpus / name)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=seconds + GRACE_SECONDS,
        )
        found = _COUNT.search(done.stderr)
        count = int(found.group(1)) if found else 0
        total += count
        print(f"{name:<24}{count:>12,} inputs{'' if done.returncode == 0 else '   FAILED'}", flush=True)
        if done.returncode or not count:
            failed.append(name)
            print(done.stderr[-4000:])
            for path in sorted(_failures(name) - known):
                print(f"to run this input again: python -m fuzzing --replay {os.path.relpath(path)}")
    print(f"{'all':<24}{total:>12,} inputs, {len(failed)} targets failed")
    if failed:
        print("what failed is in fuzzing/regressions; mend it, and commit the file, which is a test from then on")
    return 1 if failed else 0


def _failures(name: str) -> set[Path]:
    return set((REGRESSIONS / name).glob("*"))


if __name__ == "__main__":
    sys.exit(main())
