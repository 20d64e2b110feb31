"""`python -m tests.with_dask.compare [MODULE …]`: runs the tests that come with Dask on a cluster.

Files with failures run on Dask's own processes as well. What passes there and fails on the cluster is a fault of ours, or needs a
reason in docs/dask.md. Status 1 if there is any.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = ["dask.bag", "dask.tests.test_delayed", "dask.array", "dask.dataframe"]
TEST_SECONDS = 120
OUTCOMES = ("failure", "error", "skipped")


def run(scheduler: str, tests: list[str], folder: Path) -> dict[str, str]:
    """Run tests on a scheduler; return the outcome of each: passed, failure, error or skipped."""
    report = folder / f"{scheduler}.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.with_dask.shipped",
        "--scheduler",
        scheduler,
        "-c",
        "/dev/null",
    ]
    command += [
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        f"--timeout={TEST_SECONDS}",
        "-W",
        "ignore",
        "--tb=line",
    ]
    subprocess.run([*command, f"--junitxml={report}", "--pyargs", *tests], cwd=ROOT, check=False)
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = [kind for kind in OUTCOMES if case.find(kind) is not None]
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = kinds[0] if kinds else "passed"
    return outcomes


def main() -> int:
    """Run, compare, print counts and what differs."""
    modules = sys.argv[1:] or MODULES
    with tempfile.TemporaryDirectory() as folder:
        ours = run("scaler", modules, Path(folder))
        failed = [name for name, outcome in ours.items() if outcome in ("failure", "error")]
        files = sorted({name.partition("::")[0] for name in failed})
        theirs = run("processes", [_importable(name) for name in files], Path(folder)) if files else {}
    print("on the cluster:", ", ".join(f"{count} {outcome}" for outcome, count in Counter(ours.values()).most_common()))
    different = [name for name in failed if theirs.get(name) == "passed"]
    for name in failed:
        print("fails here only:" if name in different else "fails on both:", name)
    return 1 if different else 0


def _importable(name: str) -> str:
    """Return the module of a class name as JUnit's reports have it, which begins with the path of the packages."""
    return name[name.index("dask.") :]


if __name__ == "__main__":
    sys.exit(main())
