"""Reads who imports what from the source text, without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "packages"
PROGRAMS = ("benchmarks", "simulation")
"""Folders at the root that are packages of their own, though not installed."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module. `at_start` is false inside functions and under `if TYPE_CHECKING`, so late or never."""

    module: str
    at_start: bool
    line: int


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file of a package's `src` folder, or of a program."""

    name: str
    path: Path
    distribution: str

    @property
    def top(self) -> str:
        """The import name of its distribution."""
        return self.name.partition(".")[0]

    @property
    def is_package(self) -> bool:
        """Whether it is an `__init__` file."""
        return self.path.name == "__init__.py"

    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.path.read_text(encoding="utf-8"), str(self.path))


@cache
def modules() -> tuple[Module, ...]:
    """All modules of all packages."""
    found: list[Module] = []
    for package in sorted(PACKAGES.glob("*/src")):
        found += _modules_in(package, package, package.parent.name)
    return tuple(found)


@cache
def program_modules(program: str) -> tuple[Module, ...]:
    """All modules of a program at the root."""
    return tuple(_modules_in(ROOT / program, ROOT, program))


def _modules_in(folder: Path, root: Path, distribution: str) -> Iterator[Module]:
    for path in sorted(folder.rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield Module(".".join(parts), path, distribution)


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Everything the module imports, with `from a import b` given as `a.b` and relative names resolved."""
    return tuple(_walk(module, module.tree().body, at_start=True))


def _walk(module: Module, body: list[ast.stmt], *, at_start: bool) -> Iterator[Import]:
    for statement in body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield Import(alias.name, at_start, statement.lineno)
        elif isinstance(statement, ast.ImportFrom):
            base = _absolute(module, statement)
            for alias in statement.names:
                yield Import(f"{base}.{alias.name}", at_start, statement.lineno)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(module, statement.body, at_start=False)
        else:
            only_for_types = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test)
            for part in ast.iter_child_nodes(statement):
                inner = [part] if isinstance(part, ast.stmt) else getattr(part, "body", [])
                if isinstance(inner, list):
                    yield from _walk(module, inner, at_start=at_start and not only_for_types)


def _absolute(module: Module, statement: ast.ImportFrom) -> str:
    if statement.level == 0:
        return statement.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - statement.level + (1 if module.is_package else 0)]
    return ".".join([*parts, *([statement.module] if statement.module else [])])


def is_within(name: str, *packages: str) -> bool:
    """Whether `name` is one of these modules or lies in one of them."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def resolve(name: str, among: tuple[Module, ...] | None = None) -> str | None:
    """The module of ours that importing `name` runs: itself, or its parent when it is something defined in there."""
    names = {module.name for module in among or modules()}
    while name and name not in names:
        name = name.rpartition(".")[0]
    return name or None
