"""IBM's `soamapi` behind two calls and three callbacks: the only module that knows it.

Symphony calls back on threads of its own, and may do so before `send_task_input` has returned the id of the task. Both are
dealt with here: `on_ended` is called exactly once for each task, on any thread.
"""

from __future__ import annotations

import array
import importlib
import pickle
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cloudpickle

from scaler_adapters.symphony import task_runner
from scaler_adapters.symphony.sources import compressed_sources
from scaler_adapters.symphony.task_runner import RemoteResult, RemoteTask
from scaler_protocol.service.errors import ServiceError

# The service's host need not have this package: the runner travels inside the task.
cloudpickle.register_pickle_by_value(task_runner)

MODULES = compressed_sources("scaler_protocol.payloads.execution")
"""What payloads name and the runner uses, each after those it imports."""

PROFILE_MODULES = MODULES | compressed_sources("scaler_protocol.runtime.task_sampler")
"""Those, and what samples a task: sent along while a profile is taken."""

EARLY_RESPONSES_MAX = 10_000
"""Responses kept for tasks whose submission has not returned yet."""


def load_soamapi() -> ModuleType:
    """Import `soamapi` and initialize it. Raises ServiceError where that is not possible."""
    try:
        soamapi = importlib.import_module("soamapi")
    except ImportError as error:
        raise ServiceError(
            "the Python module soamapi is not installed; it comes with IBM Spectrum Symphony, not from a package "
            f"index, and exists for some Python versions only ({error})"
        ) from None
    soamapi.initialize()
    return soamapi


class SymphonySession:
    """One connection with one session. Methods block; call them from one thread."""

    def __init__(
        self,
        soamapi: Any,
        service_name: str,
        session_name: str,
        on_ended: Callable[[int, RemoteResult | None, str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Connect and open the session. Raises whatever soamapi raises."""
        self._soamapi = soamapi
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._keys: dict[Any, int] = {}
        self._early: dict[Any, tuple[RemoteResult | None, str]] = {}
        self._message_class = _make_message_class(soamapi)
        self._connection = soamapi.connect(service_name, soamapi.DefaultSecurityCallback("Guest", "Guest"))
        attributes = soamapi.SessionCreationAttributes()
        attributes.set_session_type("RecoverableAllHistoricalData")
        attributes.set_session_name(session_name)
        attributes.set_session_flags(soamapi.SessionFlags.PARTIAL_ASYNC)
        # Kept: the session need not hold a reference of its own to its callback.
        self._callback = _make_callback(soamapi, self)
        attributes.set_session_callback(self._callback)
        self._session = self._connection.create_session(attributes)

    def submit(self, key: int, task: RemoteTask) -> None:
        """Send one task. It ends with `on_ended(key, …)`, now or later."""
        try:
            modules = MODULES if task.profile is None else PROFILE_MODULES
            packed = cloudpickle.dumps((task_runner.run_task_with, modules, *task))
            attributes = self._soamapi.TaskSubmissionAttributes()
            attributes.set_task_input(self._message_class(packed))
            handle = self._session.send_task_input(attributes)
        except Exception as error:
            self._on_ended(key, None, f"it could not be sent: {_text(error)}")
            return
        with self._lock:
            task_id = handle.get_id()
            early = self._early.pop(task_id, None)
            if early is None:
                self._keys[task_id] = key
        if early is not None:
            self._on_ended(key, *early)

    def close(self) -> None:
        """Close session and connection, as far as they still can be."""
        for part in (self._session, self._connection):
            try:
                part.close()
            except Exception as error:
                self._on_lost(f"closing failed: {_text(error)}")

    def receive(self, handle: Any) -> None:
        """Called on a thread of Symphony's with the output of a task."""
        outcome: tuple[RemoteResult | None, str]
        try:
            if handle.is_successful():
                message = self._message_class()
                handle.populate_task_output(message)
                outcome = RemoteResult(*pickle.loads(message.get_payload())), ""
            else:
                outcome = None, _text(handle.get_exception())
        except Exception as error:
            outcome = None, f"its answer cannot be read: {_text(error)}"
        with self._lock:
            key = self._keys.pop(handle.get_id(), None)
            if key is None and len(self._early) < EARLY_RESPONSES_MAX:
                self._early[handle.get_id()] = outcome
        if key is not None:
            self._on_ended(key, *outcome)

    def fail(self, error: Any) -> None:
        """Called on a thread of Symphony's when the session or its connection has failed."""
        self._on_lost(_text(error))


def _make_callback(soamapi: Any, session: SymphonySession) -> Any:
    class Callback(soamapi.SessionCallback):  # type: ignore[misc]
        def on_response(self, task_output_handle: Any) -> None:
            session.receive(task_output_handle)

        def on_exception(self, exception: Any) -> None:
            session.fail(exception)

    return Callback()


def _make_message_class(soamapi: Any) -> Any:
    class Message(soamapi.Message):  # type: ignore[misc]
        """One byte array: what the service of Scaler's documentation reads and writes."""

        def __init__(self, payload: bytes = b"") -> None:
            super().__init__()
            self._payload = payload

        def get_payload(self) -> bytes:
            return bytes(self._payload)

        def on_serialize(self, stream: Any) -> None:
            payload_array = array.array("b", self._payload)
            stream.write_byte_array(payload_array, 0, len(payload_array))

        def on_deserialize(self, stream: Any) -> None:
            self._payload = stream.read_byte_array("b")

    return Message


def _text(error: Any) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
