"""Named locks and semaphores: a block asks the scheduler for one, waits, and gives it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, Self

from scaler import errors
from scaler.client.seconds import checked_seconds
from scaler.client.sleepers import Sleepers
from scaler.client.steps import Steps
from scaler.client.waiting import Waiting
from scaler.core import effects
from scaler.core.client_core import ClientCore
from scaler_protocol.runtime.names import shown
from scaler_protocol.wire import messages as m

NAME_CHARACTERS_MAX = 200
COUNT_MAX = 1_000_000

LOOK_SECONDS = 1.0
"""Longest sleep at once: then it is looked whether the session still stands."""


class LockOwner(Protocol):
    """What an engine has for this."""

    core: ClientCore
    steps: Steps
    waiting: Waiting
    timeout_seconds: float

    def must_not_wait(self) -> bool:
        """Whether the current thread is the one that completes futures."""


class LockOperations(Protocol):
    """What a client's operations have for this."""

    @property
    def engine(self) -> LockOwner:
        """The client's engine."""

    def require_open(self) -> None:
        """Raise where the client is closed."""


class Hold:
    """One block that holds a lock or waits for it: what the engine knows of it."""

    __slots__ = ("number", "state", "text", "wake")

    def __init__(self, number: int, wake: Callable[[], None]) -> None:
        """`wake` is called, in the client's thread, when the state has changed."""
        self.number = number
        self.state: m.LockState | None = None
        """None while it waits."""
        self.text = ""
        self.wake = wake


def take_change(effect: effects.LeaseChanged) -> None:
    """The scheduler has said what has become of a lease."""
    hold = effect.token
    assert isinstance(hold, Hold)
    hold.text = effect.text
    hold.state = effect.state
    hold.wake()


class LockUse:
    """A lock or semaphore, and the block that uses it now. How a block waits is its subclasses' business."""

    def __init__(self, operations: LockOperations, name: str, count: int, timeout: float) -> None:
        self.name = name
        self._operations = operations
        self._count = count
        self._timeout = timeout

    _hold: Hold | None = None
    """The block that uses it. Set and taken out by one operation of the dictionary, as two threads may try at once."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"{self._shown} cannot be copied or sent: pass the client, and ask it for one where it is used")

    @property
    def held(self) -> bool:
        """Whether this block holds it, as far as this process knows. What the scheduler has not said yet is not known here."""
        hold = self._hold
        return hold is not None and hold.state is m.LockState.HELD and self._engine.core.unusable is None

    def __del__(self) -> None:
        # A block whose thread was ended in a way that leaves no block.
        if self._hold is not None:
            self._withdraw()

    @property
    def _engine(self) -> LockOwner:
        return self._operations.engine

    @property
    def _shown(self) -> str:
        return f"lock {shown(self.name)}" if self._count == 1 else f"semaphore {shown(self.name)} of {self._count}"

    def _begin(self, wake: Callable[[], None]) -> Hold:
        """A block begins: return what it is to ask for with `_ask`. Raises where it cannot be asked for."""
        self._operations.require_open()
        engine = self._engine
        engine.core.admission.require_usable()
        if engine.must_not_wait():
            raise errors.LockError(f"{self._shown} cannot be waited for in a callback of a future")
        # Tasks that wait to leave do so now: whoever asks waits.
        engine.waiting.before_wait()
        hold = Hold(engine.core.take_number(), wake)
        there: Hold = self.__dict__.setdefault("_hold", hold)
        if there is not hold:
            raise errors.LockError(f"{self._shown} is in use by this object already: a lock cannot be taken twice")
        return hold

    def _ask(self, hold: Hold) -> None:
        engine = self._engine
        engine.steps.do(partial(engine.core.acquire_lock, hold.number, self.name, self._count, hold))

    def _require_held(self, hold: Hold) -> None:
        """Raise what is to be raised where the wait is over and it is not held."""
        if hold.state is m.LockState.HELD:
            return
        self._engine.core.admission.require_usable()
        if hold.state is None:
            raise errors.LockTimeoutError(f"{self._shown} was not free within {self._timeout:g} s")
        if hold.state is m.LockState.REFUSED:
            raise errors.LockError(f"{self._shown} cannot be had: {hold.text}")
        raise errors.LockLostError(f"{self._shown} was lost when it had just been taken")

    def _require_block(self) -> Hold:
        """Return what the block that ends holds. Raises where there is none."""
        hold = self._hold
        if hold is None:
            raise errors.LockError(f"{self._shown} cannot be given back: no block of this object holds it")
        return hold

    def _give_back(self, hold: Hold) -> None:
        """The block ends: ask whether it was held all the time."""
        engine = self._engine
        # In a process that was forked inside the block nobody would ever answer, and the lock is the other's.
        engine.waiting.before_wait()
        engine.steps.do(partial(engine.core.release_lock, hold.number))

    def _require_released(self, hold: Hold) -> None:
        """Raise unless the scheduler has said that it was held all the time. The block has ended."""
        self.__dict__.pop("_hold", None)
        if hold.state is m.LockState.RELEASED:
            return
        if hold.state is m.LockState.HELD:
            engine = self._engine
            engine.steps.do(partial(engine.core.withdraw_lock, hold.number))
            raise errors.LockLostError(f"nobody has said that {self._shown} was held until the end: no answer")
        raise errors.LockLostError(
            f"{self._shown} was lost while the block ran: somebody else may have held it meanwhile"
        )

    def _withdraw(self) -> None:
        hold = self.__dict__.pop("_hold", None)
        if hold is not None:
            self._engine.steps.do(partial(self._engine.core.withdraw_lock, hold.number))

    def _is_settled(self, hold: Hold, states: frozenset[m.LockState | None]) -> bool:
        """Whether nothing is to be waited for any more: another state than these, or no session."""
        return hold.state not in states or self._engine.core.unusable is not None


ASKED: frozenset[m.LockState | None] = frozenset({None})
GIVEN_BACK: frozenset[m.LockState | None] = frozenset({None, m.LockState.HELD})
"""In which states a block waits, at its beginning and at its end."""


class NamedLock(LockUse):
    """A lock or semaphore for `with`. One object serves one block at a time; it may be used again afterwards."""

    def __enter__(self) -> Self:
        """Wait until it is held.

        Raises LockTimeoutError where it is not in time, LockError where it cannot be had, or what ended the session.
        """
        sleepers = Sleepers()
        hold = self._begin(sleepers.wake)
        try:
            self._ask(hold)
            self._wait(hold, ASKED, sleepers, self._timeout)
            self._require_held(hold)
            return self
        except BaseException:
            # Also where the task was cancelled, or Ctrl-C came.
            self._withdraw()
            raise

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Give it back.

        Raises LockLostError unless the scheduler says that it was held all the time; not where the block has raised already.
        """
        if kind is not None:
            self._withdraw()
            return
        sleepers = Sleepers()
        hold = self._require_block()
        try:
            hold.wake = sleepers.wake
            self._give_back(hold)
            self._wait(hold, GIVEN_BACK, sleepers, self._engine.timeout_seconds)
        except BaseException:
            self._withdraw()
            raise
        self._require_released(hold)

    def _wait(self, hold: Hold, states: frozenset[m.LockState | None], sleepers: Sleepers, seconds: float) -> None:
        """Wait while the hold is in one of these states and the session stands. A task keeps its slot meanwhile."""
        deadline = time.monotonic() + seconds
        settled = partial(self._is_settled, hold, states)
        while not settled() and (remaining := deadline - time.monotonic()) > 0:
            sleepers.sleep(settled, min(remaining, LOOK_SECONDS))


def named_lock(operations: LockOperations, name: str, count: int, timeout: float) -> NamedLock:
    """Return what `Client.lock` and `Client.semaphore` return. Raises TypeError and ValueError for impossible values."""
    return NamedLock(operations, *checked_lock(name, count, timeout))


def checked_lock(name: Any, count: Any, timeout: Any) -> tuple[str, int, float]:
    """Return name, count and timeout of a lock. Raises TypeError and ValueError for impossible values."""
    return _checked_name(name), _checked_count(count), checked_seconds("timeout", timeout)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a lock must be a str, not {shown(name)}")
    if not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise ValueError(f"the name of a lock has 1 to {NAME_CHARACTERS_MAX} characters, not {len(name)}")
    try:
        name.encode()
    except UnicodeEncodeError:
        # Messages would have a question mark in their place, and different names be the same lock.
        raise ValueError(f"the name of a lock is text that UTF-8 can hold, and {name!a} is not") from None
    return name


def _checked_count(count: Any) -> int:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"count must be an int, not {shown(count)}")
    if not 0 < count <= COUNT_MAX:
        raise ValueError(f"count must be 1 to {COUNT_MAX:,}, not {count}")
    return count
