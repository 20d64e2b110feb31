"""What a client wants its tasks to find where they run: worker plugins that are set up, modules that can be imported.

It travels as the body of a function, in the place of the client's serializer (see `framing`): so it reaches each process before
the first task that needs it, once, whatever joined late or was replaced. `Environments` is the receiving end.

Which modules a task finds is exactly what its environment says. Of plugins, a process has what the newest environment says that
it has seen of a client: environments have serial numbers, and tasks that were submitted before a plugin was registered may find
it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from scaler_protocol.payloads.environment_body import EnvironmentParts, PluginPart, unframe_environment
from scaler_protocol.payloads.main_module import lending
from scaler_protocol.payloads.uploaded_modules import Archive, UploadedModules, View
from scaler_protocol.payloads.values import (
    FetchObject,
    NotRestoredError,
    ObjectUnavailableError,
    Serializer,
    load_value,
)
from scaler_protocol.runtime.coroutines import completed
from scaler_protocol.runtime.worker_plugins import PluginWorker, set_plugins_here

logger = logging.getLogger(__name__)

DESCRIPTION_CHARACTERS_MAX = 500

_VIEWS_MAX = 2
"""So many sets of modules are kept for each client: the newest, and the one before it, whose tasks may still come."""

_LOADED_MAX = 8
"""So many environments of each client are kept loaded: it may have several serializers at a time."""


class PluginFailedError(Exception):
    """A worker plugin cannot be set up here; `cause` is what its `setup`, or restoring it, has raised."""

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(name)
        self.name = name
        self.cause = cause

    def text(self, worker_name: str, cause: str) -> str:
        """Return the sentence for people."""
        return f"worker plugin {self.name!r} could not be set up on worker {worker_name}: {cause}"


class _SetUp(NamedTuple):
    digest: bytes
    plugin: Any


class _Owner:
    """What there is of a client: its plugins that are set up, in this order, and its modules."""

    def __init__(self) -> None:
        self.serial = -1
        self.plugins: dict[str, _SetUp] = {}
        self.by_name: dict[str, Any] = {}
        self.views: dict[tuple[str, ...], View] = {}


class _Loaded(NamedTuple):
    parts: EnvironmentParts
    serializer: Serializer | None
    view: View | None


def _without_own_frames(error: BaseException) -> BaseException:
    """Have a traceback begin where the user's code does, if it gets that far."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN_FILES:
        trace = trace.tb_next
    return error if trace is None else error.with_traceback(trace)


def _call_at_once(action: Callable[[], None]) -> None:
    action()


def _do_nothing() -> None:
    pass


class Environments:
    """The environments of this process. On the thread that runs tasks."""

    def __init__(
        self,
        worker: PluginWorker,
        shield: Callable[[Callable[[], None]], None] = _call_at_once,
        on_change: Callable[[], None] = _do_nothing,
    ) -> None:
        """`shield` calls what must not be interrupted halfway; `on_change` is called when `description` may have changed."""
        self.current: bytes = b""
        """The id of the environment that tasks find now; empty: none."""
        self.body: bytes = b""
        """Its body."""
        self._worker = worker
        self._shield = shield
        self._on_change = on_change
        self._modules = UploadedModules()
        self._owners: dict[bytes, _Owner] = {}
        self._loaded: dict[bytes, _Loaded] = {}
        self._archives: dict[bytes, Archive] = {}

    @property
    def description(self) -> str:
        """The names of the plugins that are set up and of the uploaded modules, for people; empty where there are none."""
        owners = self._owners.values()
        views = [view for owner in owners for view in owner.views.values()]
        modules = {name for view in views for archive in view.archives for name in archive.top_level}
        kinds = {
            "plugins": list(dict.fromkeys(name for owner in owners for name in owner.plugins)),
            "modules": sorted(modules),
        }
        text = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names)
        return text if len(text) <= DESCRIPTION_CHARACTERS_MAX else f"{text[: DESCRIPTION_CHARACTERS_MAX - 1]}…"

    # --- for each task

    def leave(self) -> None:
        """The next task has no environment."""
        self._show(None)
        self.current = self.body = b""
        set_plugins_here({})

    def enter(self, key: bytes, body: bytes, fetch: FetchObject) -> Serializer | None:
        """Have the next task find this environment; return its serializer.

        Raises PluginFailedError, and for the next task again unless that finds it mended; NotRestoredError.
        """
        if key == self.current:
            return self._loaded[key].serializer
        self.leave()
        try:
            loaded = self._loaded.get(key)
            if loaded is None:
                loaded = self._loaded[key] = self._load(body, fetch)
                self._drop_oldest(loaded.parts.owner)
            parts = loaded.parts
            owner = self._owners[parts.owner]
            self._show(loaded.view)
            if parts.serial > owner.serial:
                self._change_plugins(owner, parts.plugins, fetch)
                owner.serial = parts.serial
        except BaseException:
            self._show(None)
            raise
        set_plugins_here(owner.by_name)
        self.current, self.body = key, body
        return loaded.serializer

    def _show(self, view: View | None) -> None:
        if view is not self._modules.shown:
            if view is not None:
                self._modules.install()
            self._shield(lambda: self._modules.show(view))

    def _load(self, body: bytes, fetch: FetchObject) -> _Loaded:
        try:
            parts = unframe_environment(body)
            owner = self._owners.setdefault(parts.owner, _Owner())
            view = self._view(owner, [self._archive(payload, fetch) for payload in parts.modules])
            # The serializer's class may be in a module that was uploaded.
            self._show(view)
            serializer = load_value(parts.serializer, None, fetch) if parts.serializer else None
        except Exception as error:
            raise NotRestoredError("the environment", error) from error
        if view is not None:
            self._on_change()
        return _Loaded(parts, serializer, view)

    def _drop_oldest(self, owner_id: bytes) -> None:
        """Drop what was loaded first of a client's environments. Whoever needs it yet loads it again."""
        keys = [key for key, loaded in self._loaded.items() if loaded.parts.owner == owner_id]
        for key in keys[:-_LOADED_MAX]:
            del self._loaded[key]

    def _archive(self, payload: bytes, fetch: FetchObject) -> Archive:
        archive = self._archives.get(payload)
        if archive is None:
            archive = self._archives[payload] = Archive(load_value(payload, None, fetch))
        return archive

    def _view(self, owner: _Owner, archives: Sequence[Archive]) -> View | None:
        if not archives:
            return None
        key = tuple(archive.digest for archive in archives)
        view = owner.views.pop(key, None)
        owner.views[key] = view = view or View(archives)
        while len(owner.views) > _VIEWS_MAX:
            old = owner.views.pop(next(iter(owner.views)))
            # Whoever needs them yet loads them again.
            self._loaded = {name: loaded for name, loaded in self._loaded.items() if loaded.view is not old}
            self._drop_archives()
        return view

    def _drop_archives(self) -> None:
        """Keep those that are in a client's modules."""
        views = [view for owner in self._owners.values() for view in owner.views.values()]
        used = {archive for view in views for archive in view.archives}
        self._archives = {name: archive for name, archive in self._archives.items() if archive in used}

    # --- plugins

    def _change_plugins(self, owner: _Owner, wanted: Sequence[PluginPart], fetch: FetchObject) -> None:
        """Tear down what is not wanted any more, or replaced, and set up what is new."""
        digests = {part.name: part.digest for part in wanted}
        try:
            for name, known in reversed(list(owner.plugins.items())):
                if digests.get(name) != known.digest:
                    self._tear_down(owner, name)
            for part in wanted:
                if part.name not in owner.plugins:
                    plugin = self._set_up(part, fetch)
                    owner.plugins[part.name] = _SetUp(part.digest, plugin)
                    owner.by_name[part.name] = plugin
        finally:
            self._on_change()

    def _set_up(self, part: PluginPart, fetch: FetchObject) -> Any:
        try:
            plugin = load_value(part.payload, None, fetch)
            self._call(plugin, "setup")
        except ObjectUnavailableError as error:
            raise NotRestoredError(f"worker plugin {part.name!r}", error) from error
        except (Exception, SystemExit) as error:
            raise PluginFailedError(part.name, _without_own_frames(error)) from error
        return plugin

    def _tear_down(self, owner: _Owner, name: str) -> None:
        """Tear one down. What it raises is logged: there is nobody to tell."""
        known = owner.plugins.pop(name)
        owner.by_name.pop(name, None)
        try:
            self._call(known.plugin, "teardown")
        except (Exception, SystemExit) as error:
            # What else there is ends the task before which this happens.
            self._log_teardown(name, error)

    def _log_teardown(self, name: str, error: BaseException) -> None:
        logger.warning("worker plugin %r: its teardown failed on worker %s", name, self._worker.name, exc_info=error)

    def _call(self, plugin: Any, method: str) -> None:
        function = getattr(plugin, method, None)
        if function is not None:
            completed(lending(function)(self._worker))

    # --- ends

    def end(self, owner_id: bytes) -> None:
        """A client has left: tear its plugins down, the last first, and drop its modules."""
        owner = self._owners.get(owner_id)
        if owner is None:
            return
        self.leave()
        views = list(owner.views.values())
        for name in reversed(list(owner.plugins)):
            # It may import modules that it has been set up with.
            self._show(views[-1] if views else None)
            try:
                self._tear_down(owner, name)
            except BaseException as error:
                # No task runs that this could end.
                self._log_teardown(name, error)
        self._show(None)
        del self._owners[owner_id]
        self._loaded = {key: loaded for key, loaded in self._loaded.items() if loaded.parts.owner != owner_id}
        self._drop_archives()
        self._on_change()

    def end_all(self) -> None:
        """The process ends."""
        for owner in list(self._owners):
            self.end(owner)

    def has_plugins_of(self, owners: Iterable[bytes]) -> bool:
        """Whether something of these clients is set up."""
        return any(owner in self._owners and self._owners[owner].plugins for owner in owners)

    @property
    def has_plugins(self) -> bool:
        """Whether something is set up that has to be torn down."""
        return any(owner.plugins for owner in self._owners.values())


_OWN_FILES = frozenset(
    function.__code__.co_filename for function in (Environments.enter, lending, load_value, completed)
)

_of_this_process: list[Environments] = []


def environments_of_this_process(worker: PluginWorker) -> Environments:
    """Return one that outlives those who ask for it, made for this worker the first time."""
    if not _of_this_process:
        _of_this_process.append(Environments(worker))
    return _of_this_process[0]


def body_in_this_process() -> bytes:
    """Return the body of the environment in which tasks run here now, as far as `environments_of_this_process` knows."""
    return _of_this_process[0].body if _of_this_process else b""
