"""Runs the fuzzers one after the other and prints how many inputs each took: `python -m fuzzing [--minutes N] [TARGET …]`."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys

from fuzzing.targets import names

_COUNT = re.compile(r"stat::number_of_executed_units:\s*([0-9]+)")
GRACE_SECONDS = 120.0


def main() -> int:
    """Returns the exit status: 1 if an input made a target fail."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all targets together (default: 5)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(names())}")
    given = parser.parse_args()
    unknown = set(given.targets) - set(names())
    if unknown:
        parser.error(f"no target has the name {', '.join(sorted(unknown))}")
    chosen = given.targets or names()
    seconds = given.minutes * 60 / len(chosen)
    has_atheris = importlib.util.find_spec("atheris") is not None
    print(f"inputs are chosen by {'atheris' if has_atheris else 'random changes of seeds: atheris is not installed'}")
    total, failed = 0, []
    for name in chosen:
        done = subprocess.run(
            [sys.executable, "-m", "fuzzing.one_target", name, str(seconds)],
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
    print(f"{'all':<24}{total:>12,} inputs, {len(failed)} targets failed")
    if failed:
        print("what failed is in fuzzing/crashes; mend it, and move the file to fuzzing/regressions/TARGET")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
