"""`ScalerExecutor` does what the standard library's executors do: CPython's own tests of them, restated."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, ScalerExecutor, SchedulerClusterCombo
from scaler.errors import ProcessorDiedError
from tests.integration.deployment import traces, wait_for

pytestmark = pytest.mark.without_keys("the executor's keys are those of its client")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with SchedulerClusterCombo(n_workers=2) as cluster:
        yield cluster.get_address()


@pytest.fixture
def executor(address: str) -> Iterator[ScalerExecutor]:
    with ScalerExecutor(address) as executor:
        yield executor


def multiply(left: int, right: int) -> int:
    return left * right


def capture(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def raise_name_error() -> None:
    raise NameError("no such name")


def nap(seconds: float) -> float:
    time.sleep(seconds)  # sleeps: the task
    return seconds


def wait_for_file(path: str) -> str:
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.005)  # sleeps: until the test says so
    return path


def note(folder: str, name: int) -> int:
    Path(folder, str(name)).touch()
    return name


# --- submit


def test_submit(executor: ScalerExecutor) -> None:
    assert executor.submit(pow, 2, 8).result() == 256
    assert executor.submit(multiply, 2, right=8).result() == 16
    assert executor.submit(capture, 1, self=2, fn=3).result() == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        executor.submit(fn=capture, arg=1)  # type: ignore[call-overload]  # refused
    with pytest.raises(TypeError):
        executor.submit(arg=1)  # type: ignore[call-overload]  # refused


def test_an_error_is_raised_with_its_traceback(executor: ScalerExecutor) -> None:
    future = executor.submit(raise_name_error)
    with pytest.raises(NameError, match="no such name"):
        future.result()
    assert isinstance(future.exception(), NameError)


def test_references_are_dropped(executor: ScalerExecutor) -> None:
    class Box:
        def method(self) -> None:
            pass

    box = Box()
    alive = weakref.ref(box)
    executor.submit(box.method).result()
    del box
    gc.collect()
    wait_for("the object to be freed", lambda: gc.collect() >= 0 and alive() is None, 10)


def test_what_an_iterator_has_yielded_is_freed(executor: ScalerExecutor) -> None:
    for value in executor.map(bytearray, itertools.repeat(100_000, 4)):
        box = [value]
        del value, box
    alive = []

    class Kept(bytearray):
        pass

    results = executor.map(Kept, [10, 20])
    for one in results:
        alive.append(weakref.ref(one))
        del one
        gc.collect()
    assert [reference() for reference in alive] == [None, None]


# --- map


def test_map(executor: ScalerExecutor) -> None:
    assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(10), range(10), chunksize=3)) == list(map(pow, range(10), range(10)))
    assert list(executor.map(pow, range(40), range(40), chunksize=50)) == list(map(pow, range(40), range(40)))
    assert list(executor.map(abs, [])) == []


def test_map_raises_in_order(executor: ScalerExecutor) -> None:
    results = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_gives_up_after_its_timeout(executor: ScalerExecutor, tmp_path: Path) -> None:
    results = executor.map(wait_for_file, [str(tmp_path), str(tmp_path / "never")], timeout=5)
    assert next(results) == str(tmp_path)
    with pytest.raises(TimeoutError):
        next(results)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"chunksize": -1}, ValueError, "chunksize must be >= 1"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.0}, TypeError, "buffersize must be an integer or None"),
        ({"buffersize": "1"}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_sizes_that_are_none(executor: ScalerExecutor, settings: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        executor.map(str, range(4), **settings)


def test_map_submits_before_it_is_iterated_over(executor: ScalerExecutor, tmp_path: Path) -> None:
    executor.map(note, itertools.repeat(str(tmp_path)), range(10))
    wait_for("all calls", lambda: len(list(tmp_path.iterdir())) == 10, 30)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_items_are_taken_as_the_iterator_goes_on(executor: ScalerExecutor, chunksize: int) -> None:
    taken = itertools.count()
    results = executor.map(str, taken, buffersize=2, chunksize=chunksize)
    assert next(taken) == 2 * chunksize
    assert next(results) == "0"
    # The next chunk is taken with the first result of this one.
    assert next(taken) == 3 * chunksize + 1
    assert [next(results) for _ in range(2 * chunksize - 1)] == [str(number) for number in range(1, 2 * chunksize)]
    results.close()  # type: ignore[attr-defined]


def test_a_closed_iterator_cancels_what_is_left(executor: ScalerExecutor, tmp_path: Path) -> None:
    results = executor.map(wait_for_file, [str(tmp_path), *(str(tmp_path / str(number)) for number in range(20))])
    assert next(results) == str(tmp_path)
    results.close()  # type: ignore[attr-defined]
    assert executor.submit(abs, -1).result(30) == 1


# --- shutdown


def test_nothing_is_taken_after_shutdown(address: str) -> None:
    executor = ScalerExecutor(address)
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 5)
    with pytest.raises(RuntimeError):
        list(executor.map(abs, [1]))


def test_shutdown_waits_for_what_was_submitted(address: str) -> None:
    with ScalerExecutor(address) as executor:
        futures = [executor.submit(nap, 0.05) for _ in range(10)]
        large = executor.submit(bytearray, 5_000_000)
    assert all(future.done() and future.result() == 0.05 for future in futures)
    # The value is here, though nobody had asked for it.
    assert len(large.result(0)) == 5_000_000


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_cancels_what_no_worker_has_begun(address: str, tmp_path: Path, wait: bool) -> None:
    executor = ScalerExecutor(address)
    futures = [executor.submit(nap, 0.1) for _ in range(100)]
    futures[0].result()
    executor.shutdown(wait=wait, cancel_futures=True)
    concurrent.futures.wait(futures, 60)
    cancelled = [future for future in futures if future.cancelled()]
    done = [future for future in futures if not future.cancelled()]
    assert cancelled
    assert len(done) >= 1
    assert [future.result() for future in done] == [0.1] * len(done)
    with pytest.raises(CancelledError):
        cancelled[-1].result()


def test_shutdown_without_waiting_lets_everything_end(address: str, tmp_path: Path) -> None:
    executor = ScalerExecutor(address)
    waiting = executor.submit(wait_for_file, str(tmp_path / "go"))
    executor.shutdown(wait=False)
    assert not waiting.done()
    with pytest.raises(RuntimeError):
        executor.submit(abs, 1)
    (tmp_path / "go").touch()
    assert waiting.result(30) == str(tmp_path / "go")


def test_an_executor_that_is_dropped_lets_everything_end(address: str) -> None:
    executor = ScalerExecutor(address)
    results = executor.map(abs, range(-5, 5))
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_threads_that_submit_while_another_shuts_down(address: str) -> None:
    executor = ScalerExecutor(address)
    futures: list[Any] = []

    def submit_all() -> None:
        try:
            for number in range(100_000):
                futures.append(executor.submit(abs, number))
        except RuntimeError:
            pass

    threads = [threading.Thread(target=submit_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for("some", lambda: len(futures) > 100, 30)
    executor.shutdown()
    for thread in threads:
        thread.join(30)
    assert all(future.done() and not future.cancelled() for future in futures)


def test_the_program_waits_at_its_end(address: str) -> None:
    program = f"""
import time
from scaler import ScalerExecutor

def slow(text):
    time.sleep(0.5)
    return text

executor = ScalerExecutor({address!r})
executor.submit(slow, "apple").add_done_callback(lambda future: print(future.result(), flush=True))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "apple\n", "")


# --- with the standard library's functions


def test_wait_and_as_completed(executor: ScalerExecutor, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    # The standard functions take futures of one type.
    quick: Future[Any] = executor.submit(multiply, 6, 7)
    slow: Future[Any] = executor.submit(wait_for_file, go)
    failing: Future[Any] = executor.submit(raise_name_error)
    done, left = concurrent.futures.wait([quick, slow], return_when=FIRST_COMPLETED)
    assert (done, left) == ({quick}, {slow})
    done, left = concurrent.futures.wait([failing, slow], return_when=FIRST_EXCEPTION)
    assert left == {slow}
    done, left = concurrent.futures.wait([quick, slow], timeout=0.1, return_when=ALL_COMPLETED)
    assert left == {slow}
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([slow], timeout=0.1))
    Path(go).touch()
    assert [future.result() for future in concurrent.futures.as_completed([quick, slow])] == [42, go]


def test_an_event_loop_runs_calls_in_it(executor: ScalerExecutor, tmp_path: Path) -> None:
    async def use() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, multiply, number, 2) for number in range(20)))

    assert asyncio.run(use()) == [2 * number for number in range(20)]

    async def cancel() -> None:
        waiting = asyncio.get_running_loop().run_in_executor(executor, wait_for_file, str(tmp_path / "never"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiting, 0.2)

    asyncio.run(cancel())
    # The cancelled task does not keep a worker.
    assert [future.result(30) for future in [executor.submit(abs, -n) for n in range(4)]] == [0, 1, 2, 3]


# --- a cluster of its own, and inside tasks


def test_a_cluster_of_its_own_ends_with_it() -> None:
    before = traces()
    with ScalerExecutor(n_workers=1) as executor:
        assert executor.submit(os.getpid).result() != os.getpid()
        with Client(executor.address) as client:
            assert client.submit(abs, -3).result() == 3
        assert "open" in repr(executor)
    assert "shut down" in repr(executor)
    wait_for("nothing left behind", lambda: not traces().beyond(before), 20)


def in_a_task(numbers: list[int]) -> list[int]:
    with ScalerExecutor() as executor:
        return list(executor.map(abs, numbers))


def test_inside_a_task_it_is_the_cluster_of_the_task(executor: ScalerExecutor) -> None:
    assert executor.submit(in_a_task, [-1, 2, -3]).result(60) == [1, 2, 3]


def test_settings_that_contradict_each_other(address: str) -> None:
    with pytest.raises(ValueError, match="n_workers is for a cluster that the executor starts"):
        ScalerExecutor(address, 2)
    with pytest.raises(ValueError, match="n_workers must be at least 1"):
        ScalerExecutor(n_workers=0)


def test_a_task_that_ends_its_process_breaks_nothing(executor: ScalerExecutor) -> None:
    end: Callable[[int], object] = os._exit
    with pytest.raises(ProcessorDiedError):
        executor.submit(end, 1).result(60)
    assert executor.submit(multiply, 2, 3).result(60) == 6
