"""What is in the wheels and source archives, and what their metadata says."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.architecture.source_imports import PACKAGES, ROOT

FOLDERS = sorted(path.parent for path in PACKAGES.glob("*/pyproject.toml"))
LICENCE = (ROOT / "LICENSE").read_bytes()
WHEEL_BYTES_MAX = 1_000_000
DOCUMENTED_EXTRAS = {"local", "all", "dask", "joblib", "graphblas", "progress", "security"}


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A package's folder, its wheel and its source archive."""
    target = tmp_path_factory.mktemp("dist")
    folder: Path = request.param
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", target], cwd=folder, check=True, timeout=50)
    (wheel,), (archive,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return folder, wheel, archive


def project_of(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(opened.read(name).decode())


def test_metadata(built: tuple[Path, Path, Path]) -> None:
    folder, wheel, _ = built
    metadata = metadata_of(wheel)
    assert metadata["Name"] == folder.name
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert len(metadata["Keywords"].split(",")) >= 3
    classifiers = metadata.get_all("Classifier") or []
    assert "Typing :: Typed" in classifiers
    assert "Operating System :: POSIX :: Linux" in classifiers
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert f"# {folder.name}" in str(metadata.get_payload())


def test_contents_of_the_wheel(built: tuple[Path, Path, Path]) -> None:
    folder, wheel, _ = built
    assert wheel.stat().st_size < WHEEL_BYTES_MAX
    (source,) = [path for path in (folder / "src").iterdir() if path.is_dir()]
    expected = {
        path.relative_to(folder / "src").as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    commands = project_of(folder).get("scripts", {})
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        (licence,) = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert opened.read(licence) == LICENCE
    inside = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert inside == expected
    assert f"{source.name}/py.typed" in inside
    shared = {PurePosixPath(name.partition(".data/data/")[2]) for name in names if ".data/data/" in name}
    bash, zsh = PurePosixPath("share/bash-completion/completions"), PurePosixPath("share/zsh/site-functions")
    assert shared == {path for command in commands for path in (bash / command, zsh / f"_{command}")}


def test_contents_of_the_source_archive(built: tuple[Path, Path, Path]) -> None:
    _folder, _, archive = built
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "PKG-INFO", "README.md", "LICENSE"} <= names
    assert {name.partition("/")[0] for name in names} <= {
        *("src", "tests", "completions", "pyproject.toml", "PKG-INFO", "README.md", "LICENSE", ".gitignore"),
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_client_has_the_documented_extras() -> None:
    folder = PACKAGES / "scaler-client"
    assert set(project_of(folder)["optional-dependencies"]) == DOCUMENTED_EXTRAS
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for extra in DOCUMENTED_EXTRAS:
        assert f"scaler-client[{extra}]" in readme or f"extra `{extra}`" in readme, extra


def test_all_has_every_package() -> None:
    project = project_of(PACKAGES / "scaler-client")
    extras = project["optional-dependencies"]
    named = " ".join([*extras["all"], *extras["local"], *project["dependencies"]])
    for folder in FOLDERS:
        assert folder.name in named
