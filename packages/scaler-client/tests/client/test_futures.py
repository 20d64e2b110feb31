"""`ScalerFuture` is a `concurrent.futures.Future`, for everything that takes one."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle
import pytest

from scaler.client.future import ScalerFuture, answer_futures
from scaler.client.sleepers import Sleepers
from scaler.serialization.results import load_error, load_value
from scaler_protocol.failures import failure_payload
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.messages import Status


class Owner:
    """Waits as the engine does, and remembers what futures asked of it."""

    def __init__(self) -> None:
        self.owner: Any = self
        self.waiting: Any = self
        self.serializer = None
        self.profiling = False
        self.flushes = 0
        self.waits = 0
        self.cancelled: list[ScalerFuture] = []
        self.lets_cancel = True

    def before_wait(self) -> None:
        self.flushes += 1

    def wait(self, sleepers: Sleepers, done: Callable[[], bool], timeout: float | None) -> None:
        self.waits += 1
        deadline = time.monotonic() + (5 if timeout is None else timeout)
        while not done() and (remaining := deadline - time.monotonic()) > 0:
            sleepers.sleep(done, remaining)

    def sleep(self, sleeper: threading.Lock, done: Callable[[], bool], timeout: float | None) -> None:
        self.waits += 1
        self.before_wait()
        sleeper.acquire(True, -1 if timeout is None else timeout)

    def blocking(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def restore(self, status: int, payload: Any, number: int, serializer: Any) -> tuple[Any, BaseException | None]:
        if status == Status.SUCCESS:
            return load_value(payload, serializer), None
        return None, load_error(status, payload, number)

    def cancel(self, futures: Sequence[ScalerFuture], timeout: float | None) -> None:
        if self.lets_cancel:
            self.cancelled += futures
            for future in futures:
                future.end_cancelled()


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def future(owner: Owner) -> ScalerFuture:
    future = ScalerFuture(owner)
    future.number = 7
    return future


def value(of: Any) -> bytes:
    return b"P" + bytes(cloudpickle.dumps(of))


def answer(future: ScalerFuture, payload: bytes, status: int = Status.SUCCESS) -> None:
    answer_futures([future], [payload], [status], None)


@pytest.fixture
def later() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Do something in another thread a moment later."""
    threads = []

    def run(action: Callable[[], None]) -> None:
        thread = threading.Timer(0.05, action)
        threads.append(thread)
        thread.start()

    yield run
    for thread in threads:
        thread.join()


def test_making_one_makes_no_lock(future: ScalerFuture) -> None:
    assert not {"_condition", "_waiters", "_done_callbacks"} & set(vars(future))
    answer(future, value(5))
    assert future.result() == 5
    assert not {"_condition", "_waiters", "_done_callbacks"} & set(vars(future))


def test_states(future: ScalerFuture) -> None:
    assert isinstance(future, cf.Future)
    assert future.running()
    assert not future.done()
    assert future.task_id == 7
    assert "task 7: running" in repr(future)
    answer(future, value(None))
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert future.exception() is None


def test_waiting_for_a_result(future: ScalerFuture, owner: Owner, later: Any) -> None:
    def answer_who_waits() -> None:
        wait_until(lambda: owner.flushes)
        answer(future, value("late"))

    later(answer_who_waits)
    assert future.result(10) == "late"
    assert owner.flushes


@pytest.mark.parametrize(("seconds", "shown"), [(0.0012345, "0.001"), (0.05, "0.05")])
def test_a_timeout_is_rounded_in_the_error(future: ScalerFuture, seconds: float, shown: str) -> None:
    with pytest.raises(TimeoutError, match=rf"is not done after {shown} s$"):
        future.result(timeout=seconds)


def test_a_timeout_is_a_timeout_error(future: ScalerFuture) -> None:
    with pytest.raises(TimeoutError, match="task 7"):
        future.result(0.01)
    with pytest.raises(cf.TimeoutError):
        future.exception(0)


def test_an_exception_arrives_as_itself(future: ScalerFuture) -> None:
    try:
        raise KeyError("k")
    except KeyError as error:
        answer(future, failure_payload(error), Status.FAILED)
    for _ in range(2):
        with pytest.raises(KeyError, match="k") as caught:
            future.result()
    assert "test_an_exception_arrives_as_itself" in [entry.name for entry in caught.traceback]
    assert isinstance(future.exception(), KeyError)


def test_the_value_is_restored_once(future: ScalerFuture) -> None:
    answer(future, value([1]))
    assert future.result() is future.result()


def test_wait_and_as_completed(owner: Owner, later: Any) -> None:
    futures = [ScalerFuture(owner) for _ in range(4)]
    answer(futures[0], value(0))
    later(lambda: answer_futures(futures[1:3], [value(1), value(2)], [], None))
    done, pending = cf.wait(futures, timeout=2)
    assert (done, pending) == (set(futures[:3]), {futures[3]})
    assert owner.waits == 1
    later(lambda: answer(futures[3], value(3)))
    assert sorted(future.result() for future in cf.as_completed(futures, timeout=5)) == [0, 1, 2, 3]


def test_wait_for_the_first(owner: Owner, later: Any) -> None:
    futures = [ScalerFuture(owner) for _ in range(3)]
    later(lambda: answer(futures[2], value(2)))
    done, _ = cf.wait(futures, timeout=5, return_when=cf.FIRST_COMPLETED)
    assert done == {futures[2]}


def test_wait_until_the_first_exception(owner: Owner, later: Any) -> None:
    futures = [ScalerFuture(owner) for _ in range(3)]
    answer(futures[0], value(0))
    later(lambda: answer(futures[1], failure_payload(ValueError("no")), Status.FAILED))
    done, pending = cf.wait(futures, timeout=5, return_when=cf.FIRST_EXCEPTION)
    assert done == {futures[0], futures[1]}
    assert pending == {futures[2]}


def test_callbacks_run_once_before_or_after(future: ScalerFuture) -> None:
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    answer(future, value(1))
    answer(future, value(2))
    future.add_done_callback(seen.append)
    assert seen == [future, future]
    assert future.result() == 1


def test_cancelling(future: ScalerFuture, owner: Owner) -> None:
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    assert seen == [future]
    assert owner.cancelled == [future]
    with pytest.raises(cf.CancelledError):
        future.result()
    with pytest.raises(cf.CancelledError):
        future.exception()
    done, _ = cf.wait([future], timeout=1)
    assert done == {future}


def test_a_done_future_cannot_be_cancelled(future: ScalerFuture, owner: Owner) -> None:
    answer(future, value(1))
    assert not future.cancel()
    assert not owner.cancelled


def test_an_answer_after_cancelling_is_dropped(future: ScalerFuture) -> None:
    future.cancel()
    answer(future, value(1))
    assert future.cancelled()


def test_cancelled_by_the_scheduler(future: ScalerFuture) -> None:
    answer(future, b"", Status.CANCELED)
    assert future.cancelled()
    with pytest.raises(cf.CancelledError, match="task 7"):
        future.result()


def test_awaiting(owner: Owner, later: Any) -> None:
    future, failing, cancelled = (ScalerFuture(owner) for _ in range(3))
    later(lambda: answer(future, value(5)))
    later(lambda: answer(failing, failure_payload(ValueError("no")), Status.FAILED))

    async def run() -> Any:
        result = await future
        with pytest.raises(ValueError, match="no"):
            await failing
        asyncio.get_running_loop().call_later(0.01, cancelled.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wrap_future(cancelled)
        return result

    assert asyncio.run(run()) == 5


def test_cancelling_what_awaits_cancels_the_task(owner: Owner, future: ScalerFuture) -> None:
    async def run() -> None:
        async def wait() -> Any:
            return await future

        waiting = asyncio.create_task(wait())
        # The task begins to wait.
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    assert future.cancelled()


def test_profiling(owner: Owner) -> None:
    owner.profiling = True
    future = ScalerFuture(owner)
    with pytest.raises(ValueError, match="not done"):
        future.profiling_info()
    answer_futures([future], [value(1)], [], [{"durations": 1_500_000, "cpu_times": 500_000, "memory_peaks": 4096}])
    info = future.profiling_info()
    assert (info.duration_s, info.cpu_time_s, info.memory_peak) == (1.5, 0.5, 4096)
    with pytest.raises(ValueError, match="profiling=True"):
        ScalerFuture(Owner()).profiling_info()


def test_without_a_value_there_is_no_profiling_info(owner: Owner) -> None:
    owner.profiling = True
    failed, cancelled, unmeasured = ScalerFuture(owner), ScalerFuture(owner), ScalerFuture(owner)
    answer_futures([failed], [b"it died"], [Status.PROCESSOR_DIED], [None])
    cancelled.cancel()
    answer_futures([unmeasured], [value(1)], [], [None])
    for future, reason in ((failed, "failed; only tasks"), (cancelled, "was cancelled; only tasks")):
        with pytest.raises(ValueError, match=f"{reason} that return a value have profiling information"):
            future.profiling_info()
    with pytest.raises(ValueError, match="was not measured by its worker"):
        unmeasured.profiling_info()


def test_threads_race_for_one_future(owner: Owner) -> None:
    """Completion, cancellation, waiters and callbacks at once: one outcome, everybody told."""
    for _ in range(200):
        future = ScalerFuture(owner)
        seen: list[Any] = []
        barrier = threading.Barrier(4)

        def wait(future: ScalerFuture = future, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            cf.wait([future], timeout=5)

        def cancel(future: ScalerFuture = future, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            future.cancel()

        def listen(future: ScalerFuture = future, barrier: threading.Barrier = barrier, seen: list[Any] = seen) -> None:
            barrier.wait()
            future.add_done_callback(seen.append)

        threads = [threading.Thread(target=target) for target in (wait, cancel, listen)]
        for thread in threads:
            thread.start()
        barrier.wait()
        answer(future, value(1))
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert future.done()
        assert seen == [future]
        assert future.cancelled() or future.result() == 1


@pytest.mark.parametrize(
    "end",
    [
        lambda future: answer(future, value(1)),
        lambda future: answer(future, failure_payload(KeyError("k")), Status.FAILED),
        lambda future: answer(future, b"", Status.CANCELED),
        lambda future: future.end_cancelled(),
        lambda future: future.end_failed(RuntimeError()),
        lambda future: future.end_with(1),
        lambda future: future.set_exception(RuntimeError()),
    ],
)
@pytest.mark.parametrize("conditioned", [False, True])
def test_everybody_who_waits_for_a_result_is_woken_by_its_end(
    future: ScalerFuture, end: Callable[[ScalerFuture], None], conditioned: bool
) -> None:
    if conditioned:
        future.add_done_callback(lambda _: None)
    sleepers = [threading.Thread(target=_outcome, args=(future,)) for _ in range(3)]
    for sleeper in sleepers:
        sleeper.start()
    wait_until(lambda: len(vars(future).get("_sleepers", ())) >= 3)
    end(future)
    for sleeper in sleepers:
        sleeper.join(10)
        assert not sleeper.is_alive()


def _outcome(future: ScalerFuture) -> None:
    with contextlib.suppress(KeyError, RuntimeError, cf.CancelledError):
        future.result()


def test_many_are_completed_quickly(owner: Owner) -> None:
    futures = [ScalerFuture(owner) for _ in range(10_000)]
    payload = value(1)
    answer_futures(futures, [payload] * len(futures), [], None)
    began = time.monotonic()
    assert sum(future.result() for future in futures) == 10_000
    assert time.monotonic() - began < 5
