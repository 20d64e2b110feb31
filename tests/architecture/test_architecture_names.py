"""The folders, files and functions that ARCHITECTURE.md names exist.

A name in code marks is checked where it is a path (`scaler_worker/core/queue.py`, also shortened: `core/queue`), a dotted name
of a module or of something in it (`scaler.client.steps`, `service.module_path`), or stands behind a path in the same table
row or sentence: `…/dispatch.py` and then `Dispatch.send`.
In a table headed "module of" a package, the first column has its modules.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "ARCHITECTURE.md"
SOURCES = sorted((ROOT / "packages").glob("*/src"))
SUFFIXES = (".py", ".capnp", ".js", "")

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?")
_DOTTED = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)+")
_MODULES = re.compile(r"\| module of `([\w.]+)`")
_QUALIFIED = re.compile(r"_?[A-Z]\w*(\._?\w+)?|[a-z_]\w*")


def folders() -> frozenset[str]:
    """The names of all folders in which packages have modules."""
    return frozenset(part for found in modules() for part in found.split("/")[:-1])


@cache
def modules() -> tuple[str, ...]:
    """All modules and folders of the packages, as in `scaler_worker/core/queue`."""
    found = []
    for source in SOURCES:
        for path in source.rglob("*"):
            name = path.relative_to(source).as_posix()
            if "__pycache__" not in name and ".egg-info" not in name:
                found.append(name.removesuffix(".py"))
    return tuple(found)


def path_of(name: str) -> Path | None:
    """Where a path lies: below the repository, or below a package's sources, with or without the folders before it."""
    for folder in (ROOT, *SOURCES):
        for suffix in SUFFIXES:
            if (folder / f"{name}{suffix}").exists():
                return folder / f"{name}{suffix}"
    name = name.removesuffix("/").removesuffix(".py")
    for module in modules():
        if module.endswith(f"/{name}"):
            return next(path for source in SOURCES if (path := path_of_module(source, module)) is not None)
    return None


def path_of_module(source: Path, module: str) -> Path | None:
    for path in (source / f"{module}.py", source / module):
        if path.exists():
            return path
    return None


@cache
def names_in(path: Path) -> frozenset[str]:
    """The classes, functions and constants of a module, and the methods of its classes, as in `Queue.take`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for name in _names_of(node):
            found.add(name)
            if isinstance(node, ast.ClassDef):
                found.update(f"{name}.{inner}" for statement in node.body for inner in _names_of(statement))
    return frozenset(found)


def _names_of(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
        if isinstance(target, ast.Name):
            yield target.id


@cache
def all_names() -> frozenset[str]:
    """All names of all modules."""
    return frozenset(
        name for source in SOURCES for path in source.rglob("*.py") for name in names_in(path) if path.is_file()
    )


def is_dotted(name: str) -> bool:
    """Whether a dotted name is a module, or something in one; also without the packages before it."""
    path = name.replace(".", "/")
    if path_of(path) is not None:
        return True
    module, _, attribute = path.rpartition("/")
    found = path_of(module)
    if found is not None and found.is_dir():
        found = found / "__init__.py"
        return found.exists() and attribute in names_in(found)
    return found is not None and found.suffix == ".py" and attribute in names_in(found)


def unknown_names(text: str) -> Iterator[str]:
    """The names in a document that nothing in the repository has."""
    known_folders = folders()
    package = ""
    for line in _FENCE.sub("", text).split("\n"):
        file: Path | None = None
        if not line.startswith("|"):
            package = ""
        elif heading := _MODULES.match(line):
            package = heading[1].replace(".", "/")
        elif package:
            for code in _CODE.findall(line.split("|")[1]):
                if path_of(f"{package}/{code}") is None:
                    yield f"{package}/{code}"
        for code in _CODE.findall(line):
            if _PATH.fullmatch(code) and not code.startswith(("-", "dev/", "/", "packages/*")):
                file = path_of(code)
                if file is None:
                    yield code
            elif _DOTTED.fullmatch(code) and code.split(".")[0] in known_folders:
                if not is_dotted(code):
                    yield code
            elif re.fullmatch(r"_?[A-Z]\w*\._?[a-z]\w*", code) and file is not None and file.suffix == ".py":
                if code not in names_in(file) and code not in all_names():
                    yield code
            elif (
                line.startswith("|")
                and _QUALIFIED.fullmatch(code)
                and file is not None
                and file.suffix == ".py"
                and code not in names_in(file)
            ):
                yield f"{file.name}: {code}"


def test_everything_that_is_named_exists() -> None:
    assert list(unknown_names(DOCUMENT.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "`scaler_worker/core/nowhere.py`",
        "`core/nowhere`",
        "`scaler.client.nowhere`",
        "`service.nowhere`",
        "`scaler_worker/core/queue.py` `TaskQueue.nothing`",
        "| x | `scaler_worker/core/queue.py` | `NoQueue` |",
        "| x | `scaler/client/completion.py` | `nothing` |",
        "| module of `scaler_worker.core` | decides |\n|---|---|\n| `queue`, `nothing` | x |",
    ],
)
def test_a_name_that_is_nowhere_is_seen(text: str) -> None:
    assert list(unknown_names(text))


def test_names_that_exist_are_found() -> None:
    text = (
        "`scaler_worker/core/queue.py` `TaskQueue.take` `core/queue` `scaler.client.steps` `service.module_path` `x.y`\n"
        "| `scaler/client/completion.py` | `complete` |\n```\n`core/nowhere`\n```\n`scaler_protocol/wire/schema/scaler.capnp`"
    )
    assert list(unknown_names(text)) == []
