"""The workflow that runs the tests of client and protocol on Windows and macOS, where no machine of ours can run it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github/workflows/client.yml"
PACKAGES = ("scaler-protocol", "scaler-client")

COLLECT = """
import sys
import pytest
# Of pytest, its plugins and the libraries of tests: what they import once the system has another name they would look for there.
import _pytest.capture, _pytest.pathlib, _pytest.terminal, _pytest.tmpdir, _pytest.unraisableexception
import httpx, hypothesis.stateful, numpy, pandas, psutil

exec(open(sys.argv[1]).read())
sys.exit(pytest.main(["--collect-only", "-qq", "-s", "-p", "no:cacheprovider", "-p", "no:faulthandler", sys.argv[2]]))
"""


def workflow() -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return content


def classified(package: str) -> list[str]:
    """The versions of Python that a package's classifiers name."""
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    matches = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each) for each in project["classifiers"])
    return [match[1] for match in matches if match]


@pytest.mark.parametrize("package", PACKAGES)
def test_it_runs_the_versions_of_the_classifiers(package: str) -> None:
    assert workflow()["jobs"]["tests"]["strategy"]["matrix"]["python"] == classified(package)


def test_it_runs_on_windows_and_macos() -> None:
    job = workflow()["jobs"]["tests"]
    assert job["strategy"]["matrix"]["system"] == ["windows-latest", "macos-latest"]
    assert job["runs-on"] == "${{ matrix.system }}"
    (setup,) = [step for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert setup["with"]["python-version"] == "${{ matrix.python }}"


def test_it_begins_with_changes_of_files_that_exist() -> None:
    # YAML reads the key `on` as a truth value.
    paths = workflow()[True]["pull_request"]["paths"]
    assert [path for path in paths if not (ROOT / path.removesuffix("/**")).exists()] == []


def test_it_runs_sessions_that_exist() -> None:
    commands = [step["run"] for step in workflow()["jobs"]["tests"]["steps"] if "run" in step]
    sessions = [name for command in commands for name in re.findall(r'"([^"]+)"', command)]
    assert sessions == [f"tests_alone({package})" for package in PACKAGES]
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    assert 'nox.parametrize("package", PACKAGES, ids=PACKAGES)\ndef tests_alone(' in noxfile
    assert all(f'"{package}",' in noxfile for package in PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_it_runs_can_be_imported_there(package: str) -> None:
    pretence = ROOT / "packages/scaler-client/tests/as_on_windows.py"
    run = subprocess.run(
        [sys.executable, "-c", COLLECT, str(pretence), f"packages/{package}/tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "/service/" not in run.stdout
