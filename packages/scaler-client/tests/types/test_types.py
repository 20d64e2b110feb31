"""Type checkers infer what the programs beside this module say, and refuse each of their lines with `type: ignore`.

They read the package as it is installed, as they do for users. An ignored line that they would take is an error too, as is a
result that is not exactly the one asserted.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import scaler

PROGRAMS = Path(__file__).parent / "programs"
NAMES = ("plain_client.py", "asyncio_client.py", "standard_executor.py")
REFUSED = "# type: ignore"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The programs alone, where no settings of this repository are found."""
    copied = tmp_path / "programs"
    shutil.copytree(PROGRAMS, copied, ignore=shutil.ignore_patterns("__pycache__"))
    return copied


def refused_lines(folder: Path) -> set[tuple[str, int]]:
    return {
        (name, number)
        for name in NAMES
        for number, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith(REFUSED)
    }


def let_all_be_told(folder: Path) -> None:
    for name in NAMES:
        file = folder / name
        file.write_text(file.read_text(encoding="utf-8").replace(REFUSED, "# wrong"), encoding="utf-8")


def test_types_are_shipped() -> None:
    assert (Path(scaler.__file__).parent / "py.typed").exists()


# --- mypy


def mypy(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        # The package and its libraries are read once, for both tests.
        str(folder.parent.parent / "mypy-cache"),
        *NAMES,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_mypy_infers_results(programs: Path) -> None:
    checked = mypy(programs)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_mypy_refuses_wrong_arguments(programs: Path) -> None:
    wanted = refused_lines(programs)
    assert len(wanted) > 50
    let_all_be_told(programs)
    lines = mypy(programs).stdout.splitlines()
    told = {(line.split(":")[0], int(line.split(":")[1])) for line in lines if ": error: " in line}
    assert told == wanted, "\n".join(lines)


# --- pyright


@pytest.fixture(scope="module")
def pyright_errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What it says of the programs as they are (`right`), and where it is to tell all (`wrong`).

    One run for both: most of its time it reads the package and its libraries.
    """
    folder = tmp_path_factory.mktemp("pyright")
    for name in ("right", "wrong"):
        shutil.copytree(PROGRAMS, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    let_all_be_told(folder / "wrong")
    return pyright(folder, ["right", "wrong"])


def pyright(folder: Path, parts: list[str]) -> dict[str, list[str]]:
    """Return its errors in each of these folders, each as file:line: text."""
    if find_spec("pyright") is None or shutil.which("node") is None:
        pytest.skip("pyright is not installed, or node is missing, which it needs")
    settings = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}
    # Strict about the programs, not about what is meant to be untyped.
    settings |= dict.fromkeys(
        ("reportUnknownArgumentType", "reportUnknownLambdaType", "reportUnknownVariableType"), "none"
    )
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    command += [f"{part}/{name}" for part in parts for name in NAMES]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert checked.stdout, f"pyright {version('pyright')}: {checked.stderr}"
    errors: dict[str, list[str]] = {part: [] for part in parts}
    for told in json.loads(checked.stdout)["generalDiagnostics"]:
        if told["severity"] == "error":
            file = Path(told["file"])
            errors[file.parent.name].append(f"{file.name}:{told['range']['start']['line'] + 1}: {told['message']}")
    return errors


def test_pyright_infers_results(pyright_errors: dict[str, list[str]]) -> None:
    assert pyright_errors["right"] == []


def test_pyright_refuses_wrong_arguments(pyright_errors: dict[str, list[str]]) -> None:
    wanted = refused_lines(PROGRAMS)
    errors = pyright_errors["wrong"]
    told = {(error.split(":")[0], int(error.split(":")[1])) for error in errors}
    assert told == wanted, "\n".join(errors)
