"""Files and folders of Python modules as zip archives, the same for the same content."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from io import BytesIO
from pathlib import Path
from typing import Any

from scaler_protocol.runtime.names import shown

_ARCHIVES = (".zip", ".whl", ".egg")
_COMPILED = (*EXTENSION_SUFFIXES, ".pyd", ".so", ".dll", ".dylib")
_LEFT_OUT = ("__pycache__",)
_DATE = (1980, 1, 1, 0, 0, 0)
_NOT_IMPORTED = frozenset(("__init__", "__main__"))
"""Top-level files that are no modules of their own: the second is the program of an archive that can be run."""

_NOT_REPLACED = frozenset(sys.stdlib_module_names) | {
    "cloudpickle",
    "scaler",
    "scaler_protocol",
    "scaler_worker",
}
"""What the processes of workers run on themselves."""


def checked_paths(paths: Any) -> list[str]:
    """Return absolute paths, of one path or several. Raises TypeError for what is none, FileNotFoundError."""
    listed: list[Any]
    if isinstance(paths, str | os.PathLike):
        listed = [paths]
    elif isinstance(paths, Iterable) and not isinstance(paths, bytes):
        listed = list(paths)
    else:
        raise TypeError(f"paths must be a path or a list of paths, not {shown(paths)}")
    found = []
    for path in listed:
        if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
            raise TypeError(f"{shown(path)} is no path of a module, a package or an archive")
        absolute = os.path.abspath(path)
        if not os.path.exists(absolute):
            raise FileNotFoundError(f"there is no file or folder {absolute}")
        found.append(absolute)
    return found


def archive_of(path: str) -> tuple[bytes, frozenset[str]]:
    """Return the zip archive that holds what is at `path`, and the top-level names of its modules.

    Raises ValueError for what is no pure Python: compiled modules, names that cannot be imported, damaged archives.
    """
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        root = path if suffix in _ARCHIVES else os.path.dirname(path)
        content = _packed(path, _files_below(path, root))
    elif suffix == ".py":
        if os.path.basename(path) == "__init__.py":
            raise ValueError(f"{path} is part of a package: upload its folder")
        content = _packed(path, [(os.path.basename(path), path)])
    elif suffix in _ARCHIVES:
        content = Path(path).read_bytes()
    else:
        raise ValueError(
            f"{path} is no Python module: upload a .py file, a package's folder, a .zip, a .whl or an .egg"
        )
    return content, _names(path, content)


def sources_of(path: str) -> list[str]:
    """Return the files whose edit changes what an upload of this path has: those of modules, or the archive."""
    if not os.path.isdir(path):
        return [path]
    return [full for _, full in _files_below(path, path) if full.endswith(".py")]


def _files_below(folder: str, root: str) -> Iterator[tuple[str, str]]:
    """Yield (name in the archive, path) of the files in a folder, in order. Links to folders are folders.

    Raises ValueError for a link to a folder that it is in, and for names that are no text.
    """
    above = {folder: frozenset((os.path.realpath(folder),))}
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("."))
        outer = above.pop(parent)
        for name in folders:
            full = os.path.join(parent, name)
            real = os.path.realpath(full)
            if real in outer:
                raise ValueError(f"{full!a} is a link to a folder that it is in")
            above[full] = outer | {real}
        for name in sorted(files):
            full = os.path.join(parent, name)
            if not name.startswith(".") and not name.endswith((".pyc", ".pyo")) and os.path.isfile(full):
                inside = os.path.relpath(full, root).replace(os.sep, "/")
                try:
                    inside.encode()
                except UnicodeEncodeError:
                    raise ValueError(f"{full!a} has a name that is no text, and no archive can have it") from None
                yield inside, full


def _packed(path: str, files: Iterable[tuple[str, str]]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, full in files:
            archive.writestr(zipfile.ZipInfo(name, _DATE), Path(full).read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _names(path: str, content: bytes) -> frozenset[str]:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            damaged = archive.testzip()
            entries = archive.namelist()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{path} is no zip archive that can be read: {error}") from None
    if damaged is not None:
        raise ValueError(f"{path} is damaged: {damaged} cannot be read")
    names: set[str] = set()
    for entry in entries:
        if entry.lower().endswith(_COMPILED):
            raise ValueError(f"{path} has the compiled file {entry}: only modules of pure Python can be uploaded")
        if entry.endswith(".py"):
            top = entry.partition("/")[0].removesuffix(".py")
            if top.isidentifier() and top not in _NOT_IMPORTED:
                names.add(top)
    if not names:
        raise ValueError(f"{path} has no module that could be imported: its name must be an identifier")
    own = sorted(names & _NOT_REPLACED)
    if own:
        raise ValueError(f"{path}: workers themselves need the module {own[0]}, and it cannot be replaced")
    return frozenset(names)
