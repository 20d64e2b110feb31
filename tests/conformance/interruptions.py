"""The interruptions of the table: what goes on around a task while it waits, runs, or has ended.

Each is a story told with an `Executor`: a pool, or a client that looks like one. It returns what was seen.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from scaler import Client
from scaler_protocol.testing.waiting import wait_until

DEADLINE_SECONDS = 30.0
QUEUED = 8
"""Tasks that occupy all workers, and what they have fetched ahead."""


class Executor(Protocol):
    """What a pool and a client have in common."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]: ...


Story = Callable[[Executor, Path], Any]

# --- what runs on workers


def identity(value: Any) -> Any:
    return value


def mark_and_wait(started: str, until: str, value: Any = None) -> Any:
    """Say that the task runs, and wait for a file, or for the end of its folder."""
    with contextlib.suppress(FileNotFoundError):
        Path(started).touch()
    folder = os.path.dirname(until)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not os.path.exists(until) and os.path.exists(folder) and time.monotonic() < deadline:
        time.sleep(0.005)  # sleeps: a task that polls for a file
    return value


def fail(text: str) -> None:
    raise ValueError(text)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exit_hard() -> None:
    os._exit(3)


def abort() -> None:
    os.abort()


def fork_and_exit(status: int) -> int:
    """Let a child end by itself; it has nothing to say."""
    child = os.fork()
    if child == 0:
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_return() -> str:
    """Let a child return as if it were the task."""
    child = os.fork()
    if child == 0:
        return "from the child"
    os.waitpid(child, 0)
    return "from the parent"


def fork_and_raise() -> str:
    child = os.fork()
    if child == 0:
        raise ValueError("from the child")
    os.waitpid(child, 0)
    return "from the parent"


def fork_and_sys_exit() -> str:
    child = os.fork()
    if child == 0:
        sys.exit(5)
    os.waitpid(child, 0)
    return "from the parent"


def interrupt_itself() -> str:
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    return "went on"


def handle_signal() -> list[int]:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    return seen


# --- stories


def _name_of_error(future: Future[Any]) -> str:
    """Return the name of the exception a future raises, of "none"."""
    try:
        future.result(DEADLINE_SECONDS)
    except BaseException as error:
        return type(error).__name__
    return "none"


def cancel_before_start(executor: Executor, folder: Path) -> Any:
    gate = folder / "gate"
    before = [
        executor.submit(mark_and_wait, str(folder / f"started {number}"), str(gate), number) for number in range(QUEUED)
    ]
    last = executor.submit(identity, 5)
    cancelled = last.cancel()
    again = last.cancel()
    gate.touch()
    return (
        cancelled,
        again,
        last.cancelled(),
        last.done(),
        isinstance(_error_of(last), concurrent.futures.CancelledError),
        [future.result(DEADLINE_SECONDS) for future in before],
    )


def _error_of(future: Future[Any]) -> BaseException | None:
    try:
        future.result(DEADLINE_SECONDS)
    except BaseException as error:
        return error
    return None


def cancel_while_running(executor: Executor, folder: Path) -> Any:
    started, gate = folder / "started", folder / "gate"
    future = executor.submit(mark_and_wait, str(started), str(gate), 5)
    wait_until(started.exists, DEADLINE_SECONDS)
    cancelled = future.cancel()
    gate.touch()
    return cancelled, future.cancelled(), _name_of_error(future), executor.submit(identity, 6).result(DEADLINE_SECONDS)


def cancel_after_end(executor: Executor, folder: Path) -> Any:
    future = executor.submit(identity, 5)
    value = future.result(DEADLINE_SECONDS)
    return value, future.cancel(), future.cancelled(), future.done(), future.running(), future.result(0)


def result_in_time(executor: Executor, folder: Path) -> Any:
    started, gate = folder / "started", folder / "gate"
    future = executor.submit(mark_and_wait, str(started), str(gate), 5)
    seen = []
    for call in (future.result, future.exception):
        try:
            call(timeout=0.05)
        except TimeoutError as error:
            seen.append(type(error).__name__)
    wait_until(started.exists, DEADLINE_SECONDS)
    running = future.running(), future.done()
    gate.touch()
    return seen, running, future.result(DEADLINE_SECONDS)


def running_while_queued(executor: Executor, folder: Path) -> Any:
    gate = folder / "gate"
    futures = [
        executor.submit(mark_and_wait, str(folder / f"started {number}"), str(gate), number) for number in range(QUEUED)
    ]
    last = executor.submit(identity, 5)
    seen = last.running(), last.done()
    gate.touch()
    return seen, [future.result(DEADLINE_SECONDS) for future in [*futures, last]]


def same_result_twice(executor: Executor, folder: Path) -> Any:
    future = executor.submit(identity, [1])
    return future.result(DEADLINE_SECONDS) is future.result(0), future.exception(0)


def same_exception_twice(executor: Executor, folder: Path) -> Any:
    future = executor.submit(fail, "text")
    error = future.exception(DEADLINE_SECONDS)
    return _error_of(future) is error, str(error), error is future.exception(0)


def callbacks(executor: Executor, folder: Path) -> Any:
    seen: list[Any] = []
    gate = folder / "gate"
    future = executor.submit(mark_and_wait, str(folder / "started"), str(gate), 5)
    future.add_done_callback(lambda done: seen.append(("first", done is future, done.done())))
    future.add_done_callback(lambda done: seen.append(("second", done.result(0))))
    gate.touch()
    future.result(DEADLINE_SECONDS)
    wait_until(lambda: len(seen) == 2, DEADLINE_SECONDS)
    future.add_done_callback(lambda done: seen.append("at once"))
    return seen


def callback_that_raises(executor: Executor, folder: Path) -> Any:
    logger = logging.getLogger("concurrent.futures")
    level, logger.level = logger.level, logging.CRITICAL + 1
    seen: list[Any] = []
    try:
        gate = folder / "gate"
        future = executor.submit(mark_and_wait, str(folder / "started"), str(gate), 5)
        future.add_done_callback(lambda _: fail("in a callback"))
        future.add_done_callback(lambda done: seen.append(done.result(0)))
        gate.touch()
        wait_until(lambda: bool(seen), DEADLINE_SECONDS)
    finally:
        logger.level = level
    return seen, future.result(0), executor.submit(identity, 6).result(DEADLINE_SECONDS)


def callback_of_cancelled(executor: Executor, folder: Path) -> Any:
    gate = folder / "gate"
    before = [
        executor.submit(mark_and_wait, str(folder / f"started {number}"), str(gate), number) for number in range(QUEUED)
    ]
    last = executor.submit(identity, 5)
    seen: list[Any] = []
    last.add_done_callback(lambda done: seen.append((done.cancelled(), done.done())))
    last.cancel()
    wait_until(lambda: bool(seen), DEADLINE_SECONDS)
    gate.touch()
    concurrent.futures.wait(before, DEADLINE_SECONDS)
    return seen


def wait_for_first(executor: Executor, folder: Path) -> Any:
    gate = folder / "gate"
    slow = executor.submit(mark_and_wait, str(folder / "started"), str(gate), 5)
    quick = executor.submit(identity, 6)
    bad = executor.submit(fail, "text")
    done, _ = concurrent.futures.wait([slow, bad], DEADLINE_SECONDS, concurrent.futures.FIRST_EXCEPTION)
    seen = [bad in done, slow in done]
    gate.touch()
    finished = sorted(str(_error_of(future)) for future in concurrent.futures.as_completed([slow, quick, bad], 30))
    return seen, finished


def wrapped_for_asyncio(executor: Executor, folder: Path) -> Any:
    async def run() -> Any:
        values = await asyncio.gather(*(asyncio.wrap_future(executor.submit(identity, n)) for n in range(5)))
        try:
            await asyncio.wrap_future(executor.submit(fail, "text"))
        except ValueError as error:
            return values, str(error)

    return asyncio.run(run())


def signal_handled(executor: Executor, folder: Path) -> Any:
    return executor.submit(handle_signal).result(DEADLINE_SECONDS)


def _died(task: Callable[[], Any]) -> Story:
    def story(executor: Executor, folder: Path) -> Any:
        error = _error_of(executor.submit(task))
        try:
            following: Any = executor.submit(identity, 5).result(DEADLINE_SECONDS)
        except Exception as failure:
            following = type(failure).__name__
        return type(error).__name__, following

    return story


def fork_that_exits(executor: Executor, folder: Path) -> Any:
    return executor.submit(fork_and_exit, 7).result(DEADLINE_SECONDS), executor.submit(identity, 5).result(30)


def _forked(task: Callable[[], Any]) -> Story:
    def story(executor: Executor, folder: Path) -> Any:
        answers = [executor.submit(task).result(DEADLINE_SECONDS) for _ in range(3)]
        return answers, [executor.submit(identity, n).result(DEADLINE_SECONDS) for n in range(4)]

    return story


def _not_for_the_pool(story: Story) -> Story:
    """A forked child of the pool's own process would go on serving the pool: it is not asked."""

    def told(executor: Executor, folder: Path) -> Any:
        return "not asked" if isinstance(executor, ProcessPoolExecutor) else story(executor, folder)

    return told


def closed_while_pending(executor: Executor, folder: Path) -> Any:
    gate = folder / "gate"
    for number in range(QUEUED):
        executor.submit(mark_and_wait, str(folder / f"started {number}"), str(gate), number)
    last = executor.submit(identity, 5)
    if isinstance(executor, ProcessPoolExecutor):
        gate.touch()
        executor.shutdown(wait=False, cancel_futures=True)
    else:
        assert isinstance(executor, Client)
        executor.disconnect()
        gate.touch()
    error = _error_of(last)
    return isinstance(error, concurrent.futures.CancelledError), last.cancelled(), last.done()


def used_after_close(executor: Executor, folder: Path) -> Any:
    if isinstance(executor, ProcessPoolExecutor):
        executor.shutdown()
    else:
        assert isinstance(executor, Client)
        executor.disconnect()
    try:
        executor.submit(identity, 5)
    except Exception as error:
        return type(error).__name__
    return "taken"


INTERRUPTIONS: dict[str, Story] = {
    "cancel before start": cancel_before_start,
    "cancel while running": cancel_while_running,
    "cancel after the end": cancel_after_end,
    "result and exception in time": result_in_time,
    "running while queued": running_while_queued,
    "the same result twice": same_result_twice,
    "the same exception twice": same_exception_twice,
    "callbacks": callbacks,
    "callback that raises": callback_that_raises,
    "callback of a cancelled future": callback_of_cancelled,
    "wait and as_completed": wait_for_first,
    "asyncio.wrap_future": wrapped_for_asyncio,
    "signal handled": signal_handled,
    "SIGKILL": _died(kill_itself),
    "os._exit": _died(exit_hard),
    "os.abort": _died(abort),
    "unhandled signal": _died(interrupt_itself),
    "fork and exit": fork_that_exits,
    "fork, child returns": _not_for_the_pool(_forked(fork_and_return)),
    "fork, child raises": _not_for_the_pool(_forked(fork_and_raise)),
    "fork, child calls sys.exit": _not_for_the_pool(_forked(fork_and_sys_exit)),
    "closed while pending": closed_while_pending,
    "used after close": used_after_close,
}

SAFE_IN_PROCESS = frozenset(
    name
    for name, story in INTERRUPTIONS.items()
    if story not in (signal_handled, fork_that_exits) and story.__name__ not in ("story", "told")
)
"""Stories whose tasks may run in threads of this process."""
