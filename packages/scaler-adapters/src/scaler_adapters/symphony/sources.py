"""The modules of ours that a Symphony service needs, as source: it may have nothing of ours installed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import zlib
from collections.abc import Iterator

_OWN = "scaler_protocol."


def compressed_sources(name: str) -> dict[str, bytes]:
    """Return the compressed sources of a module of `scaler_protocol` and of all it imports, each after those it imports."""
    found: dict[str, bytes] = {}
    _add(name, found, set())
    return found


def _add(name: str, found: dict[str, bytes], seen: set[str]) -> None:
    if name in seen:
        return
    seen.add(name)
    source = inspect.getsource(importlib.import_module(name))
    for imported in _imports(source):
        _add(imported, found, seen)
    found[name] = zlib.compress(source.encode())


def _imports(source: str) -> Iterator[str]:
    """Yield the modules of `scaler_protocol` that a source imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith(_OWN):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                # What is imported from a package may be a module in it.
                yield submodule if _is_module(node.module, submodule) else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(_OWN))


def _is_module(package: str, name: str) -> bool:
    return hasattr(importlib.import_module(package), "__path__") and importlib.util.find_spec(name) is not None
