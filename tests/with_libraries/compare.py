"""`python -m tests.with_libraries.compare [NAME …]`: the published tests and examples of libraries that were written for Scaler.

They come from the source archives on PyPI, unchanged, and run with the `scaler` of this repository. `on_scaler` says how each
library comes to use it. Every library has an environment of its own, as two of them have the same import name. A table counts
outcomes, and what failed is listed. Status 1 if any of that is ours: not if it is a test of a backend other than Scaler, or an
example that needs the internet where there is none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SETUP_SECONDS = 1800
TEST_SECONDS = 300
EXAMPLE_SECONDS = 300
OTHER_BACKENDS = ("test_dask", "test_local_multiprocessing", "test_local_single_process")
"""Modules of tests that have nothing to do with Scaler."""
OFFLINE = ("URLError", "ConnectionError", "gaierror", "HTTPError", "Name or service not known", "timed out")
PACKAGES = ("scaler-protocol[service]", "scaler-client", "scaler-scheduler", "scaler-objstore", "scaler-worker")
TESTED = ("pytest", "pytest-timeout")

_PARFUN = (
    "psutil>=7", "attrs", "scikit-learn>=1.6.1", "pandas", "dask>=2025.5.1", "distributed>=2025.5.1", "matplotlib",
)  # fmt: skip


class Library(NamedTuple):
    """One that is on PyPI."""

    distribution: str
    version: str
    requirements: tuple[str, ...]
    """What it and its tests need, but for Scaler: it must be this one."""
    text_examples: tuple[str, ...] = ()
    """Examples that read a text from an address, which `--text-url` says."""


LIBRARIES = {
    "opengris-parfun": Library("opengris-parfun", "7.4.0", _PARFUN, ("examples.count_bigrams.main",)),
    "parfun": Library("parfun", "7.2.2", _PARFUN),
    # Its GraphBLAS calls a function that NumPy 2.4 has no more.
    "pargraph": Library(
        "pargraph",
        "0.9.6",
        ("bidict", "jsonschema", "loky", "cloudpickle", "msgpack", "pydot", "pandas", "pyarrow", "numpy<2.4", "python-graphblas"),
    ),
}  # fmt: skip


class Outcome(NamedTuple):
    """Of one test or example."""

    name: str
    kind: str
    """`passed`, `failed`, `skipped`, or `offline` for an example."""
    message: str = ""


def main() -> int:
    """Run what is asked for; print the table and what failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("libraries", nargs="*", metavar="NAME", help=" ".join(LIBRARIES))
    parser.add_argument("--folder", type=Path, help="keep environments and sources there (default: a temporary folder)")
    options = parser.parse_args()
    unknown = set(options.libraries) - LIBRARIES.keys()
    if unknown:
        parser.error(f"unknown: {' '.join(sorted(unknown))}; known are: {' '.join(LIBRARIES)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [LIBRARIES[name] for name in options.libraries or LIBRARIES]
        found = {library: _run_library(library, folder) for library in chosen}
    return _report(found)


def _run_library(library: Library, folder: Path) -> tuple[list[Outcome], list[Outcome]]:
    """Return the outcomes of its tests and of its examples."""
    python = _environment(library, folder / f"{library.distribution}-env")
    source = _source(library, python, folder)
    print(f"== {library.distribution} {library.version}: tests", flush=True)
    tests = _run_tests(python, source)
    print(f"== {library.distribution} {library.version}: examples", flush=True)
    return tests, list(_run_examples(library, python, source))


def _environment(library: Library, folder: Path) -> Path:
    """Return the Python of an environment with the library, its requirements, and Scaler as it is here."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        _call(sys.executable, "-m", "venv", "--clear", str(folder))
        editable = [word for name in PACKAGES for word in ("-e", str(ROOT / "packages" / name))]
        _install(python, *editable, *TESTED, *library.requirements, "setuptools")
        _install(python, "--no-deps", f"{library.distribution}=={library.version}")
        (folder / "complete").touch()
    return python


def _source(library: Library, python: Path, folder: Path) -> Path:
    """Return the unpacked source archive of the library."""
    name = f"{library.distribution.replace('-', '_')}-{library.version}"
    if not (folder / name).exists():
        words = ("download", "-q", "--no-deps", "--no-binary=:all:", "--no-build-isolation", "-d", str(folder))
        _call(str(python), "-m", "pip", *words, f"{library.distribution}=={library.version}")
        with tarfile.open(folder / f"{name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return folder / name


def _install(python: Path, *words: str) -> None:
    _call(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *words)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=SETUP_SECONDS)


def _run_tests(python: Path, source: Path) -> list[Outcome]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [str(python), "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={source}", "-p", "no:cacheprovider"]
        command += ["-p", "on_scaler", f"--timeout={TEST_SECONDS}", f"--junitxml={report}", "--tb=short", "tests"]
        subprocess.run(command, cwd=source, env=_surroundings(source), check=False)
        return list(_read(report))


def _read(report: Path) -> Iterator[Outcome]:
    """Yield the outcomes in a JUnit report."""
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        ends = [(kinds[child.tag], child.get("message") or "") for child in case if child.tag in kinds]
        yield Outcome(name, *(ends[0] if ends else ("passed", "")))


def _run_examples(library: Library, python: Path, source: Path) -> Iterator[Outcome]:
    for path in sorted((source / "examples").rglob("*.py")):
        if path.name == "__init__.py":
            continue
        name = ".".join(path.relative_to(source).with_suffix("").parts)
        words = ["--text-url", (source / "README.md").as_uri()] if name in library.text_examples else []
        yield _run_example(name, [str(python), str(ROOT / "tests/with_libraries/on_scaler.py"), name, *words], source)


def _run_example(name: str, command: Sequence[str], source: Path) -> Outcome:
    try:
        run = subprocess.run(
            command, cwd=source, env=_surroundings(source), capture_output=True, text=True, timeout=EXAMPLE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return Outcome(name, "failed", f"ran longer than {EXAMPLE_SECONDS} s")
    if run.returncode == 0:
        return Outcome(name, "passed")
    last = (run.stderr.strip().splitlines() or [""])[-1]
    return Outcome(name, "offline" if any(word in run.stderr for word in OFFLINE) else "failed", last)


def _surroundings(source: Path) -> dict[str, str]:
    # The module is found by its own name: a folder `tests` is in the archives, too.
    path = os.pathsep.join((str(source), str(ROOT / "tests" / "with_libraries")))
    return {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}


def _report(found: dict[Library, tuple[list[Outcome], list[Outcome]]]) -> int:
    print("\n| library | | passed | failed | skipped | needs the internet |\n|---|---|---|---|---|---|")
    ours = 0
    for library, kinds in found.items():
        for what, outcomes in zip(("tests", "examples"), kinds, strict=True):
            counts = Counter(outcome.kind for outcome in outcomes)
            figures = " | ".join(str(counts[kind]) for kind in ("passed", "failed", "skipped", "offline"))
            print(f"| {library.distribution} {library.version} | {what} | {figures} |")
            # None at all means that they could not be run.
            ours += not outcomes
    for library, kinds in found.items():
        for outcome in (outcome for outcomes in kinds for outcome in outcomes if outcome.kind in ("failed", "offline")):
            is_other = outcome.kind == "offline" or any(part in OTHER_BACKENDS for part in outcome.name.split("."))
            ours += not is_other
            print(f"{outcome.kind}{', not ours' if is_other else ''}: {library.distribution} {outcome.name}")
            print(f"    {' '.join(outcome.message.split())[:300]}")
    return 1 if ours else 0


if __name__ == "__main__":
    sys.exit(main())
