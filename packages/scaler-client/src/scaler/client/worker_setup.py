"""Worker plugins and uploaded modules of one client: what its tasks find where they run.

Together they are the client's environment (see `scaler_protocol.payloads.environments`), which travels with its tasks. Whatever
changes in it makes a new one, for the tasks that are submitted from then on.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from typing import Any, NamedTuple, Protocol

from scaler import errors
from scaler.client.engine import Engine
from scaler.client.future import FutureSource, ScalerFuture
from scaler.client.module_archives import archive_of, checked_paths, sources_of
from scaler.client.object_reference import InnerReferences
from scaler.client.surroundings import Surroundings
from scaler.client.worker_lists import listed_workers
from scaler.client.worker_run import checked_run_seconds, submitted_everywhere
from scaler.serialization.edited_modules import EDITED_MODULES, stamps_of
from scaler.serialization.faults import explain
from scaler.serialization.pickling import dumps
from scaler_protocol.ids import ObjectId, content_id
from scaler_protocol.payloads.environment_body import EnvironmentParts, PluginPart, frame_environment
from scaler_protocol.payloads.framing import PICKLED, SHARED_BYTES_MIN, frame_object, identity
from scaler_protocol.runtime.names import shown
from scaler_protocol.wire import messages as m

NAME_CHARACTERS_MAX = 200

_LOST = (errors.WorkerDiedError, errors.NoWorkerError)
"""Of a worker that has gone meanwhile: there is nothing to set up any more."""


class _Plugin(NamedTuple):
    plugin: Any
    part: PluginPart
    held: tuple[bytes, ...]
    """Uses of the objects that it names."""


class _Upload(NamedTuple):
    payload: bytes
    names: frozenset[str]
    """The top-level names of its modules."""
    held: tuple[bytes, ...]


class SetupOwner(Protocol):
    """What a client's operations have for this."""

    engine: Engine
    surroundings: Surroundings
    inherits: bool

    def require_open(self) -> None:
        """Raise what the client was closed with."""

    def surround(self, environment: bytes, held: tuple[bytes, ...]) -> None:
        """Have the tasks that are submitted from now on find another environment."""

    def submit_pinned(
        self, client: FutureSource, pin: m.Capabilities, fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> ScalerFuture:
        """Submit a call for one worker."""
        raise NotImplementedError


class WorkerSetup:
    """See the module. Any number of threads may use it."""

    def __init__(self, operations: SetupOwner) -> None:
        self._operations = operations
        self._lock = threading.RLock()
        self._serials = itertools.count()
        self._plugins: dict[str, _Plugin] = {}
        self._uploads: dict[str, _Upload] = {}
        self._replaced: list[Surroundings] = []
        """Of tasks that may not have ended: they need the objects of these."""

    # --- plugins

    @property
    def plugins(self) -> dict[str, Any]:
        """The registered plugins by their names."""
        return {name: known.plugin for name, known in self._plugins.items()}

    def register(self, client: FutureSource, plugin: Any, name: Any, timeout: Any) -> list[str]:
        """See `Client.register_worker_plugin`."""
        seconds = checked_run_seconds(timeout)
        self._require_own()
        name = _checked_name(plugin, name)
        with self._lock:
            new = self._packed(plugin, name)
            before = self._plugins
            known = before.get(name)
            if known is None or known.part.digest != new.part.digest:
                self._put(plugins={**before, name: new})
            try:
                done, failed = self._set_up_everywhere(client, seconds)
                if failed:
                    raise errors.WorkerRunError(dict.fromkeys(done), failed) from next(iter(failed.values()))
            except BaseException:
                if self._plugins is not before:
                    self._put(plugins=before)
                    self._tell_workers(client)
                raise
            return done

    def unregister(self, client: FutureSource, name: Any, timeout: Any) -> list[str]:
        """See `Client.unregister_worker_plugin`."""
        seconds = checked_run_seconds(timeout)
        self._require_own()
        with self._lock:
            if name not in self._plugins:
                known = ", ".join(map(repr, self._plugins)) or "there is none"
                raise ValueError(f"no worker plugin {shown(name)} is registered; {known}")
            self._put(plugins={other: known for other, known in self._plugins.items() if other != name})
            return self._set_up_everywhere(client, seconds)[0]

    def _packed(self, plugin: Any, name: str) -> _Plugin:
        with InnerReferences() as references:
            try:
                content = dumps(plugin)
            except errors.ScalerError:
                raise
            except Exception as error:
                raise errors.SerializationError(explain(f"worker plugin {name!r}", plugin, error)) from error
        held = tuple(self._operations.engine.objects.hold_inner(references)) if references else ()
        digest = content_id(content)
        known = self._plugins.get(name)
        if known is not None and known.part.digest == digest:
            return known
        payload, held_too = self._payload(content)
        return _Plugin(plugin, PluginPart(name, digest, payload), held + held_too)

    # --- modules

    def upload(self, paths: Any) -> None:
        """See `Client.upload_modules`."""
        self._require_own()
        listed = checked_paths(paths)
        # Before the files are read: an edit that comes meanwhile is one after the upload.
        stamps = [stamped for path in listed for stamped in stamps_of(sources_of(path))]
        contents = {path: archive_of(path) for path in listed}
        _require_apart(contents)
        with self._lock:
            # At once: the engine, which wakes up for what is stored, looks for edits.
            EDITED_MODULES.note_upload(stamps)
            uploads = dict(self._uploads)
            for path, (content, names) in contents.items():
                # As the newest: it goes before others that have the same modules.
                uploads.pop(path, None)
                payload, held = self._payload(dumps(content))
                uploads = {other: upload for other, upload in uploads.items() if not upload.names <= names}
                uploads[path] = _Upload(payload, names, held)
            if [upload.payload for upload in uploads.values()] != [each.payload for each in self._uploads.values()]:
                self._put(uploads=uploads)

    # --- internal

    def _require_own(self) -> None:
        operations = self._operations
        operations.require_open()
        if operations.inherits:
            raise ValueError(
                "inside a task, worker plugins and modules are those of the client that has submitted it: "
                "register and upload them there"
            )

    def _payload(self, pickled: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a value payload, and the use of the object it names, if it does."""
        if len(pickled) <= SHARED_BYTES_MIN:
            return PICKLED + pickled, ()
        # Equal content has the same object, as long as somebody uses it.
        held = self._operations.engine.objects.store([PICKLED + pickled])
        return frame_object(ObjectId(held)), (held,)

    def _put(self, plugins: Mapping[str, _Plugin] | None = None, uploads: Mapping[str, _Upload] | None = None) -> None:
        """Have the tasks that are submitted from now on find this."""
        operations = self._operations
        plugins = dict(self._plugins if plugins is None else plugins)
        uploads = dict(self._uploads if uploads is None else uploads)
        body = frame_environment(
            EnvironmentParts(
                operations.engine.client_id,
                next(self._serials),
                b"",
                tuple(known.part for known in plugins.values()),
                tuple(upload.payload for upload in uploads.values()),
            )
        )
        held = [use for known in plugins.values() for use in known.held]
        held += [use for upload in uploads.values() for use in upload.held]
        if not operations.engine.unanswered_count:
            # Not yet that which is replaced now: another thread may be about to submit in it.
            self._replaced.clear()
        self._replaced.append(operations.surroundings)
        operations.surround(body, tuple(held))
        self._plugins, self._uploads = plugins, uploads

    def _set_up_everywhere(self, client: FutureSource, seconds: float) -> tuple[list[str], dict[str, BaseException]]:
        """Have each connected worker make the environment its own; return those that have, and what others have raised.

        What has not answered in time does so before its next task.
        """
        deadline = time.monotonic() + seconds
        futures = self._tell_workers(client, deadline)
        operations = self._operations
        with operations.engine.waiting.blocking():
            wait(futures.values(), max(0.0, deadline - time.monotonic()))
        done: list[str] = []
        failed: dict[str, BaseException] = {}
        for name, future in futures.items():
            if not future.done():
                continue
            error = future.exception()
            if error is None:
                done.append(name)
            elif not isinstance(error, _LOST):
                failed[name] = error
        return done, failed

    def _tell_workers(self, client: FutureSource, deadline: float | None = None) -> dict[str, ScalerFuture]:
        """Submit a task that does nothing to each worker, which so comes to know of the environment."""
        operations = self._operations
        deadline = time.monotonic() + operations.engine.timeout_seconds if deadline is None else deadline
        workers = listed_workers(operations.engine, deadline)

        def submit(pin: m.Capabilities) -> ScalerFuture:
            return operations.submit_pinned(client, pin, identity, (None,))

        return submitted_everywhere(workers, submit, operations.engine.futures.cancel)


def _require_apart(contents: Mapping[str, tuple[bytes, frozenset[str]]]) -> None:
    """Raise ValueError where two paths of one call have the same module: one of them would be left out."""
    paths: dict[str, str] = {}
    for path, (_, names) in contents.items():
        for name in sorted(names):
            other = paths.setdefault(name, path)
            if other != path:
                raise ValueError(
                    f"{other} and {path} both have the module {name}: upload one of them, or one archive of both"
                )


def _checked_name(plugin: Any, name: Any) -> str:
    """Return the name of a plugin. Raises TypeError for what is none, ValueError for a bad name."""
    if isinstance(plugin, type):
        raise TypeError(f"register an object, {plugin.__name__}(), not the class {plugin.__name__}")
    if not callable(getattr(plugin, "setup", None)) and not callable(getattr(plugin, "teardown", None)):
        raise TypeError(f"{shown(plugin)} is no worker plugin: it has no method setup, and none teardown")
    if name is None:
        name = getattr(plugin, "name", None)
        name = type(plugin).__name__ if name is None else name
    if not isinstance(name, str):
        raise TypeError(f"the name of a worker plugin must be a str, not {shown(name)}")
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise ValueError(f"{shown(name)} is no name: it needs 1 to {NAME_CHARACTERS_MAX} printable characters")
    return name
