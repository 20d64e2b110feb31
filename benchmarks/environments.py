"""A virtual environment for each system, made when it is first needed and kept.

Versions are what the package index has at that time (but for what a system pins); they are recorded with the results.
`--renew` makes the environments anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.system import System

COMMON = ("numpy", "psutil")
"""What the workloads themselves need."""

_READY = "benchmark-ready.json"
_VERSIONS = """
import importlib.metadata, json, platform, sys
names = [distribution.metadata["Name"] for distribution in importlib.metadata.distributions()]
versions = {name: importlib.metadata.version(name) for name in sys.argv[1:] if name in names}
print(json.dumps({"python": platform.python_version(), **versions}))
"""


# What pip does when it installs, and uv does not; packages installed from this repository lie elsewhere.
_COMPILE = """
import compileall, sys, sysconfig
paths = sysconfig.get_paths()
added = [folder for folder in sys.path if folder and not folder.startswith(paths["stdlib"])]
for folder in {paths["purelib"], paths["platlib"], *added}:
    compileall.compile_dir(folder, quiet=2)
"""


class EnvironmentFailed(Exception):
    """The system cannot be installed here; the text is the installer's last words."""


@dataclass(frozen=True, slots=True)
class Environment:
    python: Path
    versions: dict[str, str]


def prepare(system: System, folder: Path, *, renew: bool = False) -> Environment:
    """Return the environment of a system, made if need be. Raises EnvironmentFailed."""
    python = (
        Path(sys.executable)
        if system.requirements is None
        else _installed(system.requirements, folder / system.name, renew)
    )
    _compile(python)
    return _described(python, system)


def _installed(of_system: Sequence[str], place: Path, renew: bool) -> Path:
    requirements = [*COMMON, *of_system]
    # Peers run on the interpreter this program runs on: how it was built makes a quarter of what a small task takes.
    wanted = {"python": sys.version, "requirements": requirements}
    marker = place / _READY
    python = place / "bin" / "python"
    if renew or not marker.exists() or json.loads(marker.read_text(encoding="utf-8")) != wanted:
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        uv = _uv()
        if uv is not None:
            _install([uv, "venv", "--quiet", "--python", sys.executable, str(place)])
            _install([uv, "pip", "install", "--quiet", "--python", str(python), *requirements])
        else:
            _install([sys.executable, "-m", "venv", str(place)])
            _install([str(python), "-m", "pip", "install", "--quiet", *requirements])
        # Written last: an installation that was interrupted has none and is made anew.
        marker.write_text(json.dumps(wanted), encoding="utf-8")
    return python


def _compile(python: Path) -> None:
    """Let start-up times be those of what a user has installed, whatever this environment says about bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    _install([str(python), "-c", _COMPILE], environment)


def _uv() -> str | None:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


def _install(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailed(str(error)) from None
    if done.returncode:
        raise EnvironmentFailed("; ".join(done.stderr.strip().splitlines()[-3:]))


def _described(python: Path, system: System) -> Environment:
    command = [str(python), "-c", _VERSIONS, *system.distributions, "numpy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise EnvironmentFailed(done.stderr.strip().splitlines()[-1])
    versions: dict[str, str] = json.loads(done.stdout)
    return Environment(python, versions)
