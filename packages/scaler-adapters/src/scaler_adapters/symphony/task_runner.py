"""What runs inside a Symphony service: one Scaler task, from payload bytes to payload bytes.

This module travels by value inside each task: a service that was deployed for Scaler needs `cloudpickle` and nothing of
ours. So it imports the standard library only, except where a task brings more itself: `scaler_protocol.payloads.by_value`,
which payloads name, and `scaler_protocol.failures` come along as source. Formats are those of
`scaler_protocol.payloads.framing`.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pickle
import struct
import sys
import time
import types
import zlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import CodeType
from typing import Any, NamedTuple

SUCCESS, FAILED = 0, 1


class RemoteTask(NamedTuple):
    """A task with everything it needs. Payloads and buffers are bytes."""

    function: bytes
    arguments: bytes
    inputs: Sequence[bytes]
    serializer: bytes
    """Body of the serializer class; empty for none."""
    objects: Mapping[bytes, Sequence[bytes]]
    """Buffers of the objects named, by id."""
    is_chunk: bool
    number: int
    depth: int
    scheduler_address: str
    object_storage_address: str
    """The adapter's setting; empty where clients inside the task ask the scheduler, whose object storage may move."""


class RemoteResult(NamedTuple):
    """What became of it. Times in microseconds."""

    status: int
    payload: bytes
    duration: int
    cpu_time: int
    memory_peak_bytes: int


def run_task_with(modules: Mapping[str, bytes], *fields: Any) -> tuple[Any, ...]:
    """As `run_task`, with compressed sources of modules of ours that payloads name and that may not be installed here."""
    _provide(modules)
    return run_task(*fields)


def _provide(modules: Mapping[str, bytes]) -> None:
    """Make modules from their sources, in this order, where they cannot be imported."""
    try:
        for name in modules:
            importlib.import_module(name)
    except ImportError:
        for name, source in modules.items():
            parent = name.rpartition(".")[0]
            while parent and parent not in sys.modules:
                package = sys.modules[parent] = types.ModuleType(parent)
                package.__path__ = []
                parent = parent.rpartition(".")[0]
            module = sys.modules[name] = sys.modules.get(name) or types.ModuleType(name)
            exec(compile(zlib.decompress(source), f"<{name}>", "exec"), module.__dict__)


def _open_class_scope() -> None:
    """Have classes that payloads restore from now on be what these payloads say.

    See `scaler_protocol.payloads.by_value`.
    """
    classes = sys.modules.get("scaler_protocol.payloads.by_value.classes")
    if classes is not None:
        scope = object()
        classes.set_scope(lambda: scope)


def run_task(*fields: Any) -> tuple[Any, ...]:
    """Run the task of these fields of `RemoteTask` and return the fields of a `RemoteResult`. Never raises."""
    task = RemoteTask(*fields)
    process = os.getpid()
    started, cpu_started = time.perf_counter(), time.process_time()
    with _task_context(task):
        # Inside: a context manager may not be able to pass an exception on that forbids assignments.
        status, payload = _Values(task).run()
    if os.getpid() != process:
        # A process that the task has forked came back out of its code: only the one that was handed the task answers.
        os._exit(status)
    duration = int((time.perf_counter() - started) * 1e6)
    cpu_time = int((time.process_time() - cpu_started) * 1e6)
    return tuple(RemoteResult(status, payload, duration, cpu_time, _memory_peak_bytes()))


class _InputReference:
    """Stands in for `scaler_protocol.payloads.framing.InputReference`, which may not be installed here."""

    index: int

    def __setstate__(self, fields: Sequence[Any]) -> None:
        (self.index,) = fields


class _Call:
    """Stands in for `scaler_protocol.payloads.framing.Call`."""

    function: Any
    arguments: tuple[Any, ...]

    def __setstate__(self, fields: Sequence[Any]) -> None:
        self.function, self.arguments = fields


class _ExpressionUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_ins = {"InputReference": _InputReference, "Call": _Call}
        if module == "scaler_protocol.payloads.framing" and name in stand_ins:
            return stand_ins[name]
        return super().find_class(module, name)


class _Values:
    """Payload bytes to values and back, for one task."""

    def __init__(self, task: RemoteTask) -> None:
        self._task = task
        self._serializer: Any = None

    def run(self) -> tuple[int, bytes]:
        """Return status and payload. Never raises: what a task raises to end its program is its failure, too."""
        from scaler_protocol import failures

        task = self._task
        try:
            try:
                if task.serializer:
                    self._serializer = self.load(task.serializer)
                _open_class_scope()
                per_call, body = task.function[:1] == b"N", task.function
                if per_call:
                    body = body[1:]
                function = self.load(body)
            except Exception as error:
                return FAILED, failures.not_restored_payload("the function", error)
            try:
                calls = self._calls(task.arguments) if task.is_chunk else []
                args, kwargs = ((), {}) if task.is_chunk else self._arguments(task.arguments)
            except _CallFailedError as error:
                return FAILED, failures.failure_payload(error.error, is_own_code=_is_own_code)
            except Exception as error:
                return FAILED, failures.not_restored_payload("the arguments", error)
            if task.is_chunk:
                return SUCCESS, _dump_chunk(*self._run_chunk(function, calls, body if per_call else b""))
            value = _completed(function(*args, **kwargs))
            try:
                return SUCCESS, self._dump(value)
            except Exception as error:
                return FAILED, failures.failure_payload(failures.result_error(value, error))
        except BaseException as error:
            return FAILED, failures.failure_payload(error, is_own_code=_is_own_code)

    def _run_chunk(
        self,
        function: Any,
        calls: Sequence[Callable[[], tuple[Sequence[Any], Mapping[str, Any]]]],
        body: bytes,
    ) -> tuple[list[Any], dict[int, bytes]]:
        """Return values and failures by index. With a `body` the function is restored for each item."""
        from scaler_protocol.failures import failure_payload, not_restored_payload

        values: list[Any] = []
        failures: dict[int, bytes] = {}
        for index, call in enumerate(calls):
            values.append(None)
            try:
                if body and index:
                    _open_class_scope()
                    function = self.load(body)
                args, kwargs = call()
            except Exception as error:
                failures[index] = not_restored_payload("the arguments", error)
                continue
            try:
                value = _completed(function(*args, **kwargs))
                values[index] = value if self._serializer is None else self._serializer.serialize(value)
            except BaseException as error:
                failures[index] = failure_payload(error, is_own_code=_is_own_code)
        return values, failures

    def load(self, payload: bytes) -> Any:
        tag = payload[:1]
        if tag == b"P":
            return pickle.loads(payload[1:])
        if tag == b"S":
            return self._serializer.deserialize(payload[1:])
        return self._load_object(payload[1:])

    def _load_object(self, object_id: bytes) -> Any:
        buffers = self._task.objects[bytes(object_id)]
        header, rest = bytes(buffers[0]), buffers[1:]
        if header[:1] == b"P":
            return pickle.loads(header[1:], buffers=[bytearray(buffer) for buffer in rest])
        if header[:1] == b"b":
            return bytes(rest[0])
        if header[:1] == b"a":
            return bytearray(rest[0])
        if header[:1] == b"S":
            return self._serializer.deserialize(header[1:])
        return self.load(header[1:])

    def _whole(self, payload: bytes) -> tuple[bytes, list[bytearray]]:
        """The payload itself, where it went into storage as a whole, with its out-of-band buffers."""
        if payload[:1] != b"O":
            return payload, []
        buffers = self._task.objects[bytes(payload[1:])]
        header = bytes(buffers[0])
        if header[:1] == b"F":
            return header[1:], []
        return header, [bytearray(buffer) for buffer in buffers[1:]]

    def _arguments(self, payload: bytes) -> tuple[Sequence[Any], Mapping[str, Any]]:
        payload, buffers = self._whole(payload)
        if payload[:1] == b"P":
            args, kwargs = pickle.loads(payload[1:], buffers=buffers)
            return args, kwargs
        positional_count, keyword_count = struct.unpack_from("<II", payload, 1)
        at = 9
        names = []
        for _ in range(keyword_count):
            (length,) = struct.unpack_from("<I", payload, at)
            names.append(payload[at + 4 : at + 4 + length].decode("utf-8", "surrogatepass"))
            at += 4 + length
        values = []
        for _ in range(positional_count + keyword_count):
            source, length = struct.unpack_from("<BQ", payload, at)
            values.append(self._argument(source, payload[at + 9 : at + 9 + length]))
            at += 9 + length
        return values[:positional_count], dict(zip(names, values[positional_count:]))  # noqa: B905 - Python 3.9

    def _argument(self, source: int, data: bytes) -> Any:
        if source == 0:
            return pickle.loads(data) if self._serializer is None else self._serializer.deserialize(data)
        if source == 1:
            return self._load_object(data)
        if source == 2:
            return self._input(struct.unpack("<H", data)[0])
        return self._evaluate(_ExpressionUnpickler(io.BytesIO(data)).load())

    def _input(self, index: int) -> Any:
        return self.load(self._task.inputs[index])

    def _evaluate(self, expression: Any) -> Any:
        """As `scaler_protocol.payloads.expressions.evaluate`: without recursion, what occurs twice evaluated once."""
        finished: dict[int, Any] = {}
        frames: list[tuple[Any, Sequence[Any], list[Any]]] = []
        pending = expression
        while True:
            kind = type(pending)
            is_open = False
            result = pending
            if kind is _InputReference:
                result = self._input(pending.index)
            elif kind is _Call:
                frames.append((pending, pending.arguments, []))
                is_open = True
            elif kind in (list, tuple, dict):
                is_open = id(pending) not in finished
                if is_open:
                    finished[id(pending)] = pending
                    frames.append((pending, list(pending.values()) if kind is dict else pending, []))
                else:
                    result = finished[id(pending)]
            while True:
                if not is_open:
                    if not frames:
                        return result
                    frames[-1][2].append(result)
                original, parts, values = frames[-1]
                if len(values) < len(parts):
                    pending = parts[len(values)]
                    break
                frames.pop()
                is_open = False
                if type(original) is _Call:
                    result = _call(original.function, values)
                elif type(original) is dict:
                    result = finished[id(original)] = dict(zip(original, values))  # noqa: B905 - Python 3.9
                else:
                    result = finished[id(original)] = type(original)(values)

    def _calls(self, payload: bytes) -> list[Callable[[], tuple[Sequence[Any], Mapping[str, Any]]]]:
        """One thunk per item of a map chunk, so that an item that cannot be restored fails alone."""
        payload, buffers = self._whole(payload)
        if payload[:1] == b"P":
            star, items = pickle.loads(payload[1:], buffers=buffers)
            return [partial(_as_is, item if star else (item,)) for item in items]
        (count,) = struct.unpack_from("<I", payload, 1)
        lengths = struct.unpack_from(f"<{count}I", payload, 5)
        at = 5 + 4 * count
        pieces = []
        for length in lengths:
            pieces.append(payload[at : at + length])
            at += length
        return [partial(self._arguments, piece) for piece in pieces]

    def _dump(self, value: Any) -> bytes:
        if self._serializer is not None:
            return b"S" + bytes(self._serializer.serialize(value))
        return b"P" + _dumps(value)


def _completed(value: Any) -> Any:
    """What a coroutine comes to; any other value as it is."""
    if not isinstance(value, Coroutine):
        return value
    import asyncio

    return asyncio.run(value)


class _CallFailedError(Exception):
    """A call that an argument consists of has failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _call(function: Any, arguments: Sequence[Any]) -> Any:
    try:
        return _completed(function(*arguments))
    except Exception as error:
        raise _CallFailedError(error) from None


def _as_is(args: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    return args, {}


def _dumps(value: Any) -> bytes:
    try:
        return pickle.dumps(value, 5)
    except Exception:
        return _by_value(value)


def _by_value(value: Any) -> bytes:
    from scaler_protocol.payloads import by_value

    return by_value.dumps(value)


def _dump_chunk(values: list[Any], failures: dict[int, bytes]) -> bytes:
    from scaler_protocol.failures import failure_payload, result_error

    try:
        return b"P" + _dumps((values, failures))
    except Exception:
        # Find out which ones it is that cannot be pickled; the others are not to suffer.
        for index, value in enumerate(values):
            try:
                _dumps(value)
            except Exception as error:
                failures[index] = failure_payload(result_error(value, error))
                values[index] = None
        return b"P" + _dumps((values, failures))


def _is_own_code(code: CodeType) -> bool:
    """Whether a frame is one of this module: what the user's code was called from is of no use to the user."""
    # The file alone does not tell: all code that travels by value may claim the same one.
    own = run_task.__code__
    return code.co_filename == own.co_filename and code.co_qualname.partition(".")[0] in (
        "run_task",
        "_Values",
        "_call",
        "_completed",
    )


def _memory_peak_bytes() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _task_context(task: RemoteTask) -> Any:
    """Lets clients inside the task know where they are, where Scaler is installed at all."""
    try:
        from scaler_protocol.runtime import task_context
    except ImportError:
        yield
        return
    # A service process runs many tasks; clients made in an earlier one go on over the line they have.
    context: Any = task_context.current_task_context()
    if not hasattr(context, "begin_task") or not context.serves(task):
        context = _make_context(task)
    context.begin_task(task.number, task.depth)
    task_context.set_task_context(context)
    try:
        yield
    finally:
        context.end_task()


def _make_context(task: RemoteTask) -> Any:
    """A task context whose clients reach the scheduler over a connection of their own: there is no agent on this host."""
    import threading

    from scaler_protocol.transport import DealerLink

    class DirectContext:
        def __init__(self) -> None:
            self.scheduler_address = task.scheduler_address
            self.object_storage_address = task.object_storage_address
            self.depth = task.depth
            self.task_number: int | None = None
            self._links: dict[bytes, DealerLink] = {}

        def serves(self, task: RemoteTask) -> bool:
            """Whether the task comes from where this context's clients are connected to."""
            addresses = self.scheduler_address, self.object_storage_address
            return addresses == (task.scheduler_address, task.object_storage_address)

        def begin_task(self, number: int, depth: int) -> None:
            self.task_number, self.depth = number, depth

        def end_task(self) -> None:
            self.task_number = None

        def open_relay(
            self, client: bytes, receiver: Callable[[list[Any]], None], attendant: Callable[[], None], module: str
        ) -> None:
            link = self._links[client] = DealerLink(self.scheduler_address, client)

            def receive() -> None:
                while client in self._links:
                    # Not longer: nobody wakes this thread when the client is closed.
                    if link.has_received or link.wait(0.5):
                        for frames in link.receive(256):
                            receiver(frames)
                    else:
                        attendant()

            threading.Thread(target=receive, daemon=True, name="scaler-nested-client").start()

        def relay(self, client: bytes, frames: Sequence[Any]) -> None:
            self._links[client].send(frames)

        def prepare_relay(self, client: bytes, frames: Sequence[Any]) -> None:
            """Everything goes through `relay`."""

        def note_prepared(self) -> None:
            return

        def close_relay(self, client: bytes) -> None:
            link = self._links.pop(client, None)
            if link is not None:
                link.close()

        def enter_blocked(self) -> None:
            return

        def exit_blocked(self) -> None:
            return

        def note_unfinished(self, client: bytes, unfinished: bool) -> None:
            # Deeper tasks always start here, however those above them wait.
            return

    return DirectContext()
