"""`python -m tests.with_dask.compare [MODULE …]`: runs the tests that come with Dask on a cluster and on Dask's own schedulers.

Each module of tests is a portion: a process of its own for each scheduler, with a time limit. A test that hangs or crashes has
that as its outcome, and the portion goes on behind it. With `--state FOLDER` a run can be interrupted and continued: what has an
outcome there is not run again, except with `--again` what failed. Some tests compute for a minute and longer on a busy machine:
`--test-seconds` is how long each may take. At the end a table counts outcomes by package.

A portion imports libraries and starts a cluster, which takes longer than the tests of many modules: with `--together`, the
modules of each given name are one portion. With `--failed-only`, Dask's own schedulers run only what fails on the cluster.

What passes on processes and fails on the cluster is a fault of ours, or needs a reason in docs/dask.md. Status 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

from tests.with_dask.outcomes import read_outcomes

ROOT = Path(__file__).parents[2]
TEST_SECONDS = 120
GRACE_SECONDS = 30
"""For a test that does not obey its time limit, and for what comes before and after tests."""
PORTION_SECONDS = 900
BAD = ("failed", "hung", "crashed")
COLUMNS = ("passed", "failed", "hung", "crashed", "skipped", "xfailed", "xpassed")
NO_TESTS = 5
"""pytest's status for that."""


class Suite(NamedTuple):
    """Tests of a library, and on what they run."""

    plugin: str
    modules: list[str]
    """Modules and packages of tests."""
    schedulers: tuple[str, ...]
    """The cluster, the library's own that is most like it, and others. The plugin's `--scheduler` takes each."""


DASK = Suite(
    "tests.with_dask.shipped",
    ["dask.tests.test_delayed", "dask.bag", "dask.array", "dask.dataframe"],
    ("scaler", "processes", "threads"),
)


class Limits(NamedTuple):
    """How long things may take."""

    portion_s: float
    test_s: float


def main(suite: Suite = DASK) -> int:
    """Run, compare, print counts and what differs."""
    options = _options(suite)
    with contextlib.ExitStack() as stack:
        state = options.state or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        state.mkdir(parents=True, exist_ok=True)
        unfinished = []
        if not options.report:
            for name, modules in _portions(options.modules, options.together):
                for scheduler in options.schedulers:
                    if options.again:
                        _forget_failed(state, name, scheduler)
                    only = None if scheduler == "scaler" or not options.failed_only else state / f"{name}.failed"
                    if only is not None:
                        only.write_text(json.dumps(_failed(_outcomes(state, "scaler"))))
                    limits = Limits(options.portion_seconds, options.test_seconds)
                    if not _run_portion(suite.plugin, name, modules, scheduler, state, limits, only):
                        unfinished.append(f"{name} ({scheduler})")
        outcomes = {scheduler: _outcomes(state, scheduler) for scheduler in options.schedulers}
    _print_table(outcomes)
    if unfinished:
        print("the time limit ended:", ", ".join(unfinished))
    return 1 if _print_differences(outcomes, suite.schedulers[1]) else 0


def _options(suite: Suite) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Compares outcomes of tests on {', '.join(suite.schedulers)}.")
    names = " ".join(suite.modules)
    parser.add_argument("modules", nargs="*", default=suite.modules, help=f"modules and packages of tests: {names}")
    parser.add_argument("--state", type=Path, help="folder with outcomes, to continue a run")
    parser.add_argument("--schedulers", nargs="+", choices=suite.schedulers, default=suite.schedulers)
    parser.add_argument(
        "--portion-seconds", type=float, default=PORTION_SECONDS, help="limit for a module on a scheduler"
    )
    parser.add_argument("--test-seconds", type=float, default=TEST_SECONDS, help="limit for a test")
    parser.add_argument("--again", action="store_true", help="run again what failed in an earlier run")
    parser.add_argument("--together", action="store_true", help="one portion for all modules of a given name")
    parser.add_argument("--failed-only", action="store_true", help="on all others, only what fails on the cluster")
    parser.add_argument("--report", action="store_true", help="run nothing; report what --state has")
    return parser.parse_args()


def _portions(names: Iterable[str], together: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield portions: their names, and the modules of tests in them."""
    for name in names:
        if together:
            yield name, [*_modules([name])]
        else:
            yield from ((module, [module]) for module in _modules([name]))


def _modules(names: Iterable[str]) -> Iterator[str]:
    """Yield the modules of tests that names stand for."""
    for name in names:
        package = importlib.import_module(name)
        if not hasattr(package, "__path__"):
            yield name
            continue
        found = walk_packages(package.__path__, f"{name}.", onerror=lambda _: None)
        yield from sorted(each.name for each in found if each.name.rpartition(".")[2].startswith("test_"))


def _forget_failed(state: Path, name: str, scheduler: str) -> None:
    """Remove the outcomes of what failed, so that it runs again."""
    path = state / f"{name}.{scheduler}.jsonl"
    known = read_outcomes(path)
    if failed := set(_failed(known)):
        path.write_text("".join(json.dumps(line) + "\n" for test, line in known.items() if test not in failed))
        (state / f"{name}.{scheduler}.done").unlink(missing_ok=True)


def _run_portion(
    plugin: str, name: str, modules: list[str], scheduler: str, state: Path, limits: Limits, only: Path | None
) -> bool:
    """Run what has no outcome yet of a portion on a scheduler. Return whether all of it has one now."""
    path = state / f"{name}.{scheduler}.jsonl"
    done = state / f"{name}.{scheduler}.done"
    if done.exists():
        return True
    end = time.monotonic() + limits.portion_s
    while time.monotonic() < end:
        left = Limits(end - time.monotonic(), limits.test_s)
        status = _run_process(plugin, modules, scheduler, path, left, only)
        begun = [test for test, line in read_outcomes(path).items() if "outcome" not in line]
        for test in begun:
            outcome = "hung" if status is None else "crashed"
            with path.open("a") as file:
                file.write(json.dumps({"test": test, "outcome": outcome, "message": f"status {status}"}) + "\n")
        if not begun and status is not None:
            # 0 and 1: all have run. 2: the time was over, or the module cannot be imported.
            if status in (0, 1, NO_TESTS):
                done.touch()
                return True
            return False
    return False


def _run_process(
    plugin: str, modules: list[str], scheduler: str, path: Path, limits: Limits, only: Path | None
) -> int | None:
    """Run pytest. Return its status, or None if one test took so long that the process was killed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-c", os.devnull]
    command += ["--scheduler", scheduler, "--outcomes", str(path)]
    command += [f"--seconds={limits.portion_s}", f"--timeout={limits.test_s}"]
    command += ["-p", "no:cacheprovider", f"--rootdir={path.parent}", "-W", "ignore", "--tb=no", "--no-header"]
    command += ["--only", str(only)] if only else []
    command += ["--pyargs", *modules]
    print(f"== {path.stem}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # In a folder of its own: Dask's tests write files where they run.
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process,
    ):
        try:
            printed, _ = process.communicate(timeout=limits.portion_s + limits.test_s + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return None
        print("\n".join(printed.strip().splitlines()[-1:]), flush=True)
        return process.returncode


def _outcomes(state: Path, scheduler: str) -> dict[str, dict[str, Any]]:
    outcomes: dict[str, dict[str, Any]] = {}
    for path in sorted(state.glob(f"*.{scheduler}.jsonl")):
        outcomes.update((test, line) for test, line in read_outcomes(path).items() if "outcome" in line)
    return outcomes


def _failed(outcomes: dict[str, dict[str, Any]]) -> list[str]:
    return [test for test, line in outcomes.items() if line.get("outcome") in BAD]


def _print_table(outcomes: dict[str, dict[str, dict[str, Any]]]) -> None:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for scheduler, lines in outcomes.items():
        for test, line in lines.items():
            package = test.partition("::")[0].removeprefix("dask.").removeprefix("sklearn.").partition(".")[0]
            package = (
                test.partition("::")[0].rpartition(".")[2].removeprefix("test_") if package == "tests" else package
            )
            counts.setdefault((package, scheduler), Counter())[line["outcome"]] += 1
    print("\n| tests of | on | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for (package, scheduler), counter in sorted(counts.items()):
        print(f"| {package} | {scheduler} | " + " | ".join(str(counter[column]) for column in COLUMNS) + " |")


def _print_differences(outcomes: dict[str, dict[str, dict[str, Any]]], peer: str) -> int:
    """Print what does not pass on the cluster, with the outcomes elsewhere. Return how many of these pass on the peer."""
    different = 0
    here = outcomes.get("scaler", {})
    for test in _failed(here):
        line = here[test]
        others = {
            name: lines.get(test, {}).get("outcome", "not run") for name, lines in outcomes.items() if name != "scaler"
        }
        different += others.get(peer) == "passed"
        elsewhere = ", ".join(f"{outcome} on {name}" for name, outcome in others.items())
        print(f"{line['outcome']} here, {elsewhere}: {test}\n    {' '.join(line.get('message', '').split())}")
    return different


if __name__ == "__main__":
    sys.exit(main())
