"""Functions and serializers of tasks: their bodies, as the agent sent them, and what was loaded from these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from scaler_protocol.ids import NO_ID
from scaler_protocol.payloads.environments import Environments
from scaler_protocol.payloads.framing import environment_owner, unframe_function
from scaler_protocol.payloads.main_module import lending
from scaler_protocol.payloads.unpickled import ReadPayload
from scaler_protocol.payloads.values import (
    FetchObject,
    NotRestoredError,
    Serializer,
    is_plain_call,
    load_function,
    load_value,
)
from scaler_protocol.runtime.coroutines import completed
from scaler_protocol.wire.status import Status
from scaler_worker.processor.unchanged import Restoring


@dataclass(slots=True, eq=False)
class Function:
    """A loaded function and what is known of its speed. `seconds` is infinite until it has returned or raised."""

    id: bytes
    call: Callable[..., Any]
    seconds: float = float("inf")
    item_call: Callable[..., Any] | None = None
    """As `call`, for the items of map chunks, where there have been any: it awaits what a coroutine function makes."""
    has_raised: bool = False

    def note_seconds(self, seconds: float) -> None:
        """A task of it has taken so long. (The loop says so of successes itself, which a call would slow down.)"""
        self.seconds = seconds if self.seconds == float("inf") else self.seconds * 0.8 + seconds * 0.2

    def has_raised_before(self, status: int) -> bool:
        """Note that a task has ended badly; return whether it has raised, as one of this function has before."""
        before = self.has_raised
        self.has_raised = status == Status.FAILED
        return before and self.has_raised


class FunctionTable:
    """Loads a function when its first task runs, and keeps it until the agent has it forgotten. On the main thread."""

    def __init__(self, environments: Environments) -> None:
        self._environments = environments
        self.loaded: dict[bytes, Function] = {}
        self.calls_restored = 0
        """How often a function was restored for a single call: each of these has a scope of its own for classes."""
        self._bodies: dict[bytes, bytes] = {}
        self._serializers: dict[bytes, Serializer] = {}

    def update(self, forgotten: Iterable[bytes], new: Iterable[tuple[bytes, bytes]]) -> None:
        """Forget some functions, and keep the bodies of new ones."""
        for function in forgotten:
            self._bodies.pop(function, None)
            self.loaded.pop(function, None)
            self._serializers.pop(function, None)
        self._bodies.update(new)

    def load(self, function_id: bytes, serializer_id: bytes, fetch: FetchObject) -> Function:
        """Load a function. Raises NotRestoredError."""
        serializer = self.serializer(serializer_id, fetch)
        per_call, body = unframe_function(self._bodies[function_id])

        def load() -> Callable[..., Any]:
            try:
                loaded: Callable[..., Any] = load_function(body, serializer, fetch)
            except Exception as error:
                raise NotRestoredError("the function", error) from error
            return loaded

        restoring = Restoring(load)

        def restore_and_call(*args: Any, **kwargs: Any) -> Any:
            # A scope of its own: classes are what they are for the function, whatever the arguments say of them.
            self.calls_restored += 1
            return completed(restoring.function()(*args, **kwargs))

        function = self.loaded[function_id] = Function(function_id, restore_and_call if per_call else lending(load()))
        return function

    def enter(self, serializer_id: bytes, fetch: FetchObject) -> None:
        """Have the next task, of this serializer, find its environment, and no other. Raises as `Environments.enter`."""
        if environment_owner(self._bodies.get(serializer_id, b"")):
            self.serializer(serializer_id, fetch)
        elif self._environments.current:
            self._environments.leave()

    def takes_plain_data(self, function_id: bytes, arguments: ReadPayload) -> bool:
        """Whether a call of this function with these arguments takes plain data, and so is answered with plain data."""
        return is_plain_call(self._bodies.get(function_id, b""), arguments)

    def serializer(self, function_id: bytes, fetch: FetchObject) -> Serializer | None:
        """Return the serializer of this id, None for `NO_ID`, and that of an environment. Raises as `Environments.enter`."""
        if function_id == NO_ID:
            return None
        body = self._bodies[function_id]
        if environment_owner(body):
            return self._environments.enter(function_id, body, fetch)
        serializer = self._serializers.get(function_id)
        if serializer is None:
            try:
                serializer = self._serializers[function_id] = load_value(body, None, fetch)
            except Exception as error:
                raise NotRestoredError("the serializer", error) from error
        return serializer

    def seconds_of(self, function_id: bytes) -> float:
        """Return how long a task of this function takes; 0 where that is not known."""
        function = self.loaded.get(function_id)
        return function.seconds if function is not None and function.seconds < float("inf") else 0.0
