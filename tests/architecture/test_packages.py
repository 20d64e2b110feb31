"""What every package holds, whatever it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_imports import PACKAGES, ROOT, Module, modules

FOLDERS = sorted(path.parent for path in PACKAGES.glob("*/pyproject.toml"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_package_is_typed_explained_and_tested(folder: Path) -> None:
    assert list(folder.glob("src/*/py.typed"))
    assert len((folder / "README.md").read_text(encoding="utf-8").split()) > 5
    assert list(folder.glob("tests/**/test_*.py"))
    metadata = (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert not [tool for tool in ("ruff", "mypy", "pytest", "coverage") if f"[tool.{tool}" in metadata]


@pytest.mark.parametrize("module", [m for m in modules() if m.is_package], ids=lambda module: module.name)
def test_an_init_file_holds_imports_and_all_only(module: Module) -> None:
    for position, statement in enumerate(module.tree().body):
        is_docstring = position == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        is_import = isinstance(statement, ast.Import | ast.ImportFrom)
        is_all = isinstance(statement, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(statement)
        # A module's own __getattr__ (PEP 562) is how a package names what is not installed, or imports it late.
        is_late_import = isinstance(statement, ast.FunctionDef) and statement.name in ("__getattr__", "__dir__")
        assert is_docstring or is_import or is_all or is_late_import, f"{module.path}:{statement.lineno}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_every_module_says_what_it_is_for(module: Module) -> None:
    assert ast.get_docstring(module.tree()), f"{module.path} has no docstring"


def test_one_version_for_all() -> None:
    check = subprocess.run([sys.executable, ROOT / "scripts" / "check_versions.py"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
