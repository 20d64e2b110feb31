"""Modules that a client has uploaded, in the process that runs its tasks.

They are imported from memory, out of zip archives. A process may run tasks of several clients, and of one client before and after
it has uploaded a module again. Each *view* is one set of archives: while it is shown, the top-level names in its archives mean
those archives, whatever else the process has under these names, and `sys.modules` has the view's own modules. When another view
is shown, or none, they are put aside, and what was there before is put back.

A module that was not uploaded, and imports one that was, belongs to the view as well if it was imported while the view was shown:
it holds what others must not see.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.abc import InspectLoader, MetaPathFinder, ResourceLoader
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import decode_source
from io import BytesIO
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from scaler_protocol.runtime.origins import origin_of, origin_of_class, source_of

_INIT = "/__init__.py"
_EXTENSIONS = tuple(EXTENSION_SUFFIXES)


class Source(NamedTuple):
    """Where a module is: an archive, the entry in it (empty for a package without code), and its folder if it is a package."""

    archive: Archive
    entry: str
    folder: str


class Archive:
    """A zip file in memory. `digest` tells its content from others'."""

    def __init__(self, content: bytes) -> None:
        self.digest = sha256(content).hexdigest()
        self._zip = zipfile.ZipFile(BytesIO(content))
        self.sources = _sources(self, self._zip.namelist())

    @property
    def top_level(self) -> set[str]:
        """The top-level names of its modules."""
        return {name for name in self.sources if "." not in name}

    def path_of(self, entry: str) -> str:
        """Return what stands for a file's path: other content has another one."""
        return f"uploaded-{self.digest[:8]}/{entry}"

    def read(self, entry: str) -> bytes:
        """Return the content of a file. Raises KeyError."""
        return self._zip.read(entry)

    def traversable(self, folder: str) -> Any:
        """Return a folder for `importlib.resources`."""
        return zipfile.Path(self._zip, f"{folder}/")


def _sources(archive: Archive, entries: Iterable[str]) -> dict[str, Source]:
    """Return the modules in an archive by their full names."""
    found: dict[str, Source] = {}
    for entry in entries:
        if not entry.endswith(".py"):
            continue
        is_package = entry == _INIT[1:] or entry.endswith(_INIT)
        path = entry[: -len(_INIT)] if is_package else entry[:-3]
        parts = path.split("/")
        if not all(part.isidentifier() for part in parts) or parts[0] == "__main__":
            # That one is the program of an archive that can be run. The process has a `__main__` of its own.
            continue
        for count in range(1, len(parts)):
            # Folders without `__init__.py`.
            found.setdefault(".".join(parts[:count]), Source(archive, "", "/".join(parts[:count])))
        name = ".".join(parts)
        if is_package or name not in found:
            # A package goes before a module of the same name, as for Python.
            found[name] = Source(archive, entry, path if is_package else "")
    return found


class _Loader(InspectLoader, ResourceLoader):
    """Loads one module out of an archive."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def is_package(self, fullname: str) -> bool:
        return bool(self._source.folder)

    def get_source(self, fullname: str) -> str:
        return decode_source(self._source.archive.read(self._source.entry))

    def get_code(self, fullname: str) -> CodeType:
        source = self._source
        return self.source_to_code(source.archive.read(source.entry), source.archive.path_of(source.entry))

    def get_data(self, path: str | bytes) -> bytes:
        text = path if isinstance(path, str) else path.decode()
        try:
            return self._source.archive.read(text.removeprefix(self._source.archive.path_of("")))
        except KeyError:
            raise FileNotFoundError(f"{text} was not uploaded") from None

    def get_resource_reader(self, fullname: str) -> Any:
        from importlib.resources.abc import TraversableResources

        source = self._source

        class Reader(TraversableResources):
            def files(self) -> Any:
                return source.archive.traversable(source.folder)

        return Reader() if source.folder else None


class View:
    """The modules of some archives, of which the later go before the earlier, name by name."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.archives = tuple(archives)
        self.sources: dict[str, Source] = {}
        self.top_level: set[str] = set()
        for archive in archives:
            new = archive.top_level
            self.sources = {name: source for name, source in self.sources.items() if _top(name) not in new}
            self.sources.update(archive.sources)
            self.top_level |= new
        self.modules: dict[str, ModuleType] = {}
        """Those that were imported, while the view is not shown."""


class UploadedModules(MetaPathFinder):
    """The finder of uploaded modules, and which of them this process shows now. On the thread that runs tasks."""

    def __init__(self) -> None:
        self.shown: View | None = None
        self._hidden: dict[str, ModuleType] = {}
        """What was in the places of the shown view's modules."""
        self._names_before: set[str] = set()

    def install(self) -> None:
        """Look for modules here before anywhere else."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def show(self, view: View | None) -> None:
        """Have `import`, and `sys.modules`, mean these modules."""
        if view is self.shown:
            return
        if self.shown is not None:
            self._hide(self.shown)
        if view is not None and view.sources:
            self._hidden = {**_put_aside(view.modules), **_taken(view.top_level)}
            # Without the view's own, which go with it again.
            self._names_before = set(sys.modules)
            _put_back(view.modules)
            view.modules = {}
            self.shown = view

    def _hide(self, view: View) -> None:
        self.shown = None
        view.modules = {**_dependent_modules(view, set(sys.modules) - self._names_before), **_taken(view.top_level)}
        _put_aside(view.modules)
        hidden, self._hidden = self._hidden, {}
        _put_back(hidden)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where an uploaded module is; None for all others."""
        view = self.shown
        if view is None:
            return None
        source = view.sources.get(fullname)
        if source is None:
            return None
        archive = source.archive
        loader = _Loader(source) if source.entry else None
        spec = ModuleSpec(fullname, loader, origin=archive.path_of(source.entry), is_package=bool(source.folder))
        spec.has_location = bool(source.entry)
        if source.folder:
            spec.submodule_search_locations = [archive.path_of(source.folder)]
        return spec


def _top(name: str) -> str:
    return name.partition(".")[0]


def _taken(top_level: set[str]) -> dict[str, ModuleType]:
    """Remove the modules under these names from `sys.modules`, and return them."""
    names = [name for name in list(sys.modules) if name.partition(".")[0] in top_level]
    return {name: sys.modules.pop(name) for name in names}


def _put_aside(names: Iterable[str]) -> dict[str, ModuleType]:
    """Remove modules from `sys.modules`, and from packages that stay there, and return them."""
    taken = {name: sys.modules.pop(name) for name in list(names) if name in sys.modules}
    for name, module in taken.items():
        package, _, last = name.rpartition(".")
        attributes = _attributes(package)
        if attributes is not None and attributes.get(last) is module:
            # `from package import module` asks the package first.
            del attributes[last]
    return taken


def _put_back(modules: Mapping[str, ModuleType]) -> None:
    """Have modules in `sys.modules` that were put aside, and in the packages that stayed."""
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, last = name.rpartition(".")
        attributes = _attributes(package) if package not in modules else None
        if attributes is not None:
            attributes.setdefault(last, module)


def _attributes(package: str) -> dict[str, Any] | None:
    module = sys.modules.get(package) if package else None
    return vars(module) if type(module) is ModuleType else None


def _dependent_modules(view: View, new: Iterable[str]) -> dict[str, ModuleType]:
    """Return the modules of other origin among `new` ones that hold something of the view's, or of such a module."""
    tops = set(view.top_level)
    left = {name: sys.modules[name] for name in new if _top(name) not in tops}
    found: dict[str, ModuleType] = {}
    names: set[str] = set()
    while True:
        more = {
            name: module for name, module in left.items() if name not in found and _holds(name, module, tops, names)
        }
        if not more:
            return found
        found.update(more)
        names.update(more)


def _holds(name: str, module: Any, tops: set[str], names: set[str]) -> bool:
    if type(module) is not ModuleType or source_of(name).endswith(_EXTENSIONS):
        # What is compiled cannot be imported twice.
        return False
    for value in list(vars(module).values()):
        origin = origin_of(value) or origin_of_class(type(value))
        if _top(origin) in tops or origin in names:
            return True
    return False
