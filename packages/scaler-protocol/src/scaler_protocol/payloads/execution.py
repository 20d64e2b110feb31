"""What running a task means: restore, call, serialize. The simplest form, for runners that need no more.

`scaler.testing.InProcessCluster` and the service processes of the Symphony adapter run tasks with this module. The worker's
processor has its own faster form, which can cancel. `scaler_protocol.testing.payload_vectors` checks that all of them agree.

This module and its imports need only the standard library and cloudpickle, and neither the codec nor a transport, because the
Symphony adapter sends their source to hosts where no package of Scaler is installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from types import CodeType
from typing import Any

from scaler_protocol.failures import (
    brief_failure_payload,
    failure_payload,
    full_names_of,
    named_failure_payload,
    named_text_of,
    not_restored_payload,
    result_error,
)
from scaler_protocol.payloads import expressions, framing, main_module, plain, refilled, values
from scaler_protocol.payloads.environments import Environments, PluginFailedError
from scaler_protocol.payloads.expressions import CallFailedError
from scaler_protocol.payloads.framing import environment_owner, unframe_function
from scaler_protocol.payloads.main_module import lending
from scaler_protocol.payloads.plain import plain_failure
from scaler_protocol.payloads.values import (
    STOP_TEXT,
    Arguments,
    FetchObject,
    NotRestoredError,
    Outcome,
    Serializer,
    dump_pickle,
    dump_plain_outcome,
    dump_result,
    inline_or_object,
    is_plain_call,
    load_arguments,
    load_chunk,
    load_function,
    load_plain_arguments,
    load_value,
    serialized,
    unavailable_object,
)
from scaler_protocol.runtime import coroutines
from scaler_protocol.runtime.coroutines import completed
from scaler_protocol.runtime.worker_plugins import PluginWorker
from scaler_protocol.wire.status import Status


@dataclass(frozen=True)
class TaskPayloads:
    """The bytes of one task, as a `TaskBatch` and `FunctionDefine`s have them."""

    function: bytes
    """A function body."""
    arguments: bytes
    """An argument payload, or a map chunk."""
    inputs: Sequence[bytes] = ()
    """Results of its predecessors in a graph."""
    serializer: bytes = b""
    """The body of the client's serializer class; empty for none."""
    is_chunk: bool = False
    retried_after: Sequence[str] = ()
    """Full names of exception classes: after these, and those derived from them, the status is RETRY and not FAILED."""


class Execution:
    """Runs tasks of one client. It keeps restored functions whose bodies are not PER_CALL."""

    def __init__(
        self,
        fetch: FetchObject,
        open_scope: Callable[[], None] = lambda: None,
        environments: Environments | None = None,
        worker_name: str = "?",
    ) -> None:
        """`fetch` gets the objects that payloads name; `open_scope` is called before functions are restored.

        It begins a new scope for classes that travel by value (see `by_value.classes.set_scope`). `environments` are those of
        this process, where they outlive this object.
        """
        self._fetch = fetch
        self._open_scope = open_scope
        self._restored: dict[tuple[bytes, bytes], Any] = {}
        self._worker_name = worker_name
        self._environments = environments or Environments(PluginWorker(worker_name))
        # Tasks may run in threads.
        self._lock = threading.RLock()

    def close(self) -> None:
        """The client has left: tear its worker plugins down."""
        with self._lock:
            self._environments.end_all()

    def run(self, task: TaskPayloads) -> tuple[Status, Outcome]:
        """Return the task's status and its answer: the result or a failure. Never raises.

        If an object is unavailable that the task needs before it begins, the status is that of ObjectUnavailableError.
        """
        try:
            return self._run(task)
        except BaseException as error:
            # Users' code may raise anything. Not even SystemExit may end the process that runs tasks.
            unavailable = unavailable_object(error)
            if unavailable is not None:
                return Status(unavailable.status), Outcome(str(unavailable).encode("utf-8", "replace"))
            if type(error) is _NotSentError:
                return Status.FAILED, inline_or_object(self._failure(error.cause))
            failure = self._failure(error)
            is_plain = is_plain_call(task.function, task.arguments)
            status = Status.RETRY if _is_retried(task, type(error)) else Status.FAILED
            return status, inline_or_object(plain_failure(failure) if is_plain else failure)

    def _failure(self, error: BaseException) -> bytes:
        if type(error) is PluginFailedError:
            text = error.text(self._worker_name, named_text_of(error.cause))
            return named_failure_payload("WorkerPluginError", text, error.cause)
        return _failure(error)

    def _run(self, task: TaskPayloads) -> tuple[Status, Outcome]:
        serializer = self._serializer(task.serializer)
        function = self._function(task.function, task.serializer, serializer)
        if task.is_chunk:
            chunk = _restored("the arguments", lambda: load_chunk(task.arguments, self._fetch))
            results, failures, kind = copy_context().run(self._run_chunk, function, chunk, serializer)
            is_retried = kind is not None and _is_retried(task, kind)
            return Status.RETRY if is_retried else Status.SUCCESS, _dump_chunk(results, failures)
        is_plain = is_plain_call(task.function, task.arguments)
        if is_plain:
            args, kwargs = _restored(
                "the arguments", lambda: load_plain_arguments(task.arguments, task.inputs, self._fetch)
            )
        else:
            args, kwargs = self._arguments(task.arguments, task.inputs, serializer)
        # In a new context, so that decimal contexts and the like end with their task.
        value = completed(copy_context().run(function, *args, **kwargs))
        if is_plain:
            return Status.SUCCESS, dump_plain_outcome(value)
        try:
            return Status.SUCCESS, dump_result(value, serializer)
        except Exception as error:
            unserializable = result_error(value, error)
        raise _NotSentError(unserializable)

    def _serializer(self, body: bytes) -> Serializer | None:
        if environment_owner(body):
            with self._lock:
                return self._environments.enter(body, body, self._fetch)
        if self._environments.current:
            with self._lock:
                self._environments.leave()
        if not body:
            return None
        key = (body, b"")
        if key not in self._restored:
            self._restored[key] = _restored("the serializer", lambda: load_value(body, None, self._fetch))
        serializer: Serializer = self._restored[key]
        return serializer

    def _function(self, body: bytes, serializer_body: bytes, serializer: Serializer | None) -> Callable[..., Any]:
        per_call, code = unframe_function(body)

        def load() -> Callable[..., Any]:
            self._open_scope()
            loaded: Callable[..., Any] = load_function(code, serializer, self._fetch)
            return loaded

        def restore_and_call(*args: Any, **kwargs: Any) -> Any:
            return lending(_restored("the function", load))(*args, **kwargs)

        if per_call:
            return restore_and_call
        key = (body, serializer_body)
        if key not in self._restored:
            self._restored[key] = lending(_restored("the function", load))
        function: Callable[..., Any] = self._restored[key]
        return function

    def _arguments(self, payload: bytes, inputs: Sequence[bytes], serializer: Serializer | None) -> Arguments:
        try:
            arguments: Arguments = _restored(
                "the arguments", lambda: load_arguments(payload, inputs, serializer, self._fetch)
            )
            return arguments
        except NotRestoredError as error:
            if type(error.cause) is not CallFailedError:
                raise
            error_of_call = error.cause.error
        # A call inside the arguments has raised; the arguments themselves are right. Raised after the handler, because inside
        # it the interpreter would set the handled exception as the context of this one.
        raise error_of_call

    def _run_chunk(
        self,
        function: Callable[..., Any],
        chunk: tuple[bool, Sequence[Any]] | list[bytes],
        serializer: Serializer | None,
    ) -> tuple[list[Any], dict[int, bytes], type[BaseException] | None]:
        """Return the values of all items, the failures by item, and the class of the last failure."""
        items: Sequence[Any]
        if isinstance(chunk, list):
            star, items = True, chunk
        else:
            star, items = chunk

        def call(item: Any) -> Any:
            kwargs: dict[str, Any] = {}
            if isinstance(chunk, list):
                args, kwargs = self._arguments(item, (), serializer)
            else:
                args = tuple(item) if star else (item,)
            value = completed(function(*args, **kwargs))
            return value if serializer is None else serialized(value, serializer)

        results: list[Any] = []
        failures: dict[int, bytes] = {}
        kind: type[BaseException] | None = None
        for index, item in enumerate(items):
            try:
                results.append(call(item))
            except BaseException as error:
                results.append(None)
                kind = type(error)
                failed = RuntimeError(STOP_TEXT) if type(error) is StopIteration else error
                # The caller of `map` gets the first failure. Of the others only the number matters.
                failures[index] = _brief_failure(failed) if failures else _failure(failed)
        return results, failures, kind


class _NotSentError(Exception):
    """A result cannot be serialized."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


_NOT_THEIR_OWN = frozenset((NotRestoredError, PluginFailedError))
"""A task that ended with one of these would end so again."""


def _is_retried(task: TaskPayloads, kind: type[BaseException]) -> bool:
    """Whether a task is to run again after an exception of this class."""
    retried_after = task.retried_after
    return bool(retried_after) and kind not in _NOT_THEIR_OWN and not set(retried_after).isdisjoint(full_names_of(kind))


def _restored(what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:
        raise NotRestoredError(what, error) from error


def _dump_chunk(results: list[Any], failures: dict[int, bytes]) -> Outcome:
    try:
        return dump_result((results, failures), None)
    except BaseException:
        # Find the values that cannot be pickled, so that the others still arrive.
        for index, value in enumerate(results):
            try:
                dump_pickle(value)
            except BaseException as error:
                results[index], failures[index] = None, _failure(result_error(value, error))
        return dump_result((results, failures), None)


def _failure(error: BaseException) -> bytes:
    """Return the failure payload of the exception of a task or of an item of a map chunk."""
    unavailable = unavailable_object(error)
    if unavailable is not None:
        return unavailable.failure_payload()
    if type(error) is NotRestoredError:
        return not_restored_payload(error.what, error.cause)
    return failure_payload(error, is_own_code=_is_own_code)


def _brief_failure(error: BaseException) -> bytes:
    known = unavailable_object(error) is not None or type(error) is NotRestoredError
    return _failure(error) if known else brief_failure_payload(error)


_OWN_FILES = frozenset(
    function.__code__.co_filename
    for function in (
        Execution.run,
        expressions.evaluate,
        framing.unframe_function,
        values.load_value,
        plain.named_function,
        coroutines.completed,
        main_module.lending,
        refilled.RefilledFunction.__call__,
    )
)
"""The file names in Scaler's code objects. They are not these modules' paths if the modules travelled as source."""


def _is_own_code(code: CodeType) -> bool:
    """Whether a frame belongs to Scaler, outside the user's code."""
    return code.co_filename in _OWN_FILES
