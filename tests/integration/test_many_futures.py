"""`as_completed`, `gather`, and maps that end early or never: on a cluster of real processes."""

from __future__ import annotations

import gc
import itertools
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, assert_type

import pytest

from scaler import Client, ScalerFuture, SchedulerClusterCombo
from tests.integration.deployment import wait_for

pytestmark = pytest.mark.without_keys("what travels is that of other tasks")

Imap = Callable[..., Iterator[Any]]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        yield client


def double(value: int) -> int:
    return 2 * value


async def double_soon(value: int) -> int:
    return 2 * value


def fail(text: str) -> None:
    raise ValueError(text)


def fail_at(value: int, at: int) -> int:
    if value == at:
        raise ValueError(f"item {at}")
    return value


def wait_for_file(path: str) -> str:
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.005)  # sleeps: until the test says so
    return path


def note(folder: str, value: int) -> int:
    Path(folder, str(value)).touch()
    return value


# --- as_completed, gather


def test_the_type_checker_knows_results(client: Client) -> None:
    assert_type(client.submit(double, 2), ScalerFuture[int])
    assert_type(client.submit(double_soon, 2).result(), int)
    assert_type(client.submit(lambda: "text").result(), str)
    assert_type([future.result() for future in client.as_completed([client.submit(double, 2)])], list[int])


def test_futures_as_they_end(client: Client, tmp_path: Path) -> None:
    slow = client.submit(wait_for_file, str(tmp_path / "go"))
    quick = client.submit(double, 4)
    ended = client.as_completed([slow, quick, quick])
    assert next(ended) is quick
    (tmp_path / "go").touch()
    assert list(ended) == [slow]
    assert [future.result() for future in client.as_completed({"a": quick}.values())] == [8]
    assert list(client.as_completed([])) == []


def test_waiting_for_futures_ends(client: Client, tmp_path: Path) -> None:
    slow = client.submit(wait_for_file, str(tmp_path / "never"))
    with pytest.raises(TimeoutError):
        list(client.as_completed([slow], timeout=0.1))
    with pytest.raises(TimeoutError, match="1 of 2 futures are not done"):
        client.gather([client.submit(double, 1), slow], timeout=1)
    assert slow.cancel()
    with pytest.raises(TypeError, match="each a ScalerFuture, not a int"):
        client.as_completed([1])  # type: ignore[arg-type]


def test_gather_puts_results_in_place_of_futures(client: Client) -> None:
    one, two = client.submit(double, 1), client.submit(double, 2)
    assert client.gather(one) == 2
    assert client.gather([one, (two, {"a": one, "b": [two, 5, "text"]}), {two}]) == [
        2,
        (4, {"a": 2, "b": [4, 5, "text"]}),
        {4},
    ]
    assert client.gather(client.submit(double, n) for n in range(5)) == [0, 2, 4, 6, 8]
    assert client.gather([]) == []
    same = [3, 4]
    assert client.gather(same) is same


def test_gather_raises_as_soon_as_one_fails(client: Client, tmp_path: Path) -> None:
    slow = client.submit(wait_for_file, str(tmp_path / "go"))
    failing = client.submit(fail, "no")
    with pytest.raises(ValueError, match="no"):
        client.gather([slow, failing])
    # The others go on.
    assert not slow.done()
    (tmp_path / "go").touch()
    path, error = client.gather([slow, failing], return_exceptions=True)
    assert path == str(tmp_path / "go")
    assert isinstance(error, ValueError)
    cancelled = client.submit(wait_for_file, str(tmp_path / "never"))
    cancelled.cancel()
    with pytest.raises(CancelledError):
        client.gather([cancelled])


# --- maps


def test_a_map_ends_after_its_timeout(client: Client, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match=r"the map is not done after 0\.3 s"):
        client.map(wait_for_file, [str(tmp_path / str(number)) for number in range(10)], timeout=0.3)
    # What was left keeps no worker.
    assert client.starmap(pow, [(2, 3), (3, 2)], timeout=60) == [8, 9]
    with pytest.raises(TimeoutError):
        client.map(double, itertools.count(), timeout=0.2)
    with pytest.raises(TypeError, match="timeout must be a number"):
        client.map(double, [1], timeout="1")  # type: ignore[call-overload]  # refused


def test_results_in_the_order_in_which_they_come(client: Client, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    assert sorted(client.map(double, range(1000), ordered=False)) == [2 * number for number in range(1000)]
    with pytest.raises(ValueError, match="item 0"):
        # It does not wait for the others.
        client.map(_first_fails, range(2), itertools.repeat(str(tmp_path / "never")), ordered=False)
    assert client.submit(double, 1).result(30) == 2


def _first_fails(number: int, path: str) -> None:
    if number:
        wait_for_file(path)
    fail("item 0")


@pytest.fixture(params=["imap", "imap_unordered"])
def imap(request: pytest.FixtureRequest, client: Client) -> Imap:
    method: Imap = getattr(client, request.param)
    return method


def test_results_one_by_one(imap: Imap) -> None:
    assert sorted(imap(double, range(3000))) == [2 * number for number in range(3000)]
    assert sorted(imap(pow, range(10), range(10), buffersize=3)) == sorted(map(pow, range(10), range(10)))
    assert list(imap(double, [])) == []
    with pytest.raises(TypeError, match="at least one iterable"):
        imap(double)
    with pytest.raises(TypeError):
        next(imap(double, [1], [2], [3]))


def test_the_order_of_results(client: Client, tmp_path: Path) -> None:
    assert list(client.imap(double, range(3000))) == [2 * number for number in range(3000)]
    (tmp_path / "there").touch()
    paths = [str(tmp_path / "go"), str(tmp_path / "there")]
    results = client.imap_unordered(wait_for_file, paths)
    assert next(results) == paths[1]
    (tmp_path / "go").touch()
    assert list(results) == paths[:1]


def test_items_are_taken_as_results_are(imap: Imap) -> None:
    taken = itertools.count()
    results = imap(double, taken, buffersize=8)
    assert next(taken) == 0
    assert next(results) in range(2, 20)
    assert 8 <= next(taken) <= 17
    results.close()  # type: ignore[attr-defined]


def test_endless_items_take_no_memory(imap: Imap) -> None:
    """With results that are taken slowly as well, for then workers are far ahead."""
    blob = bytes(2_000)
    results = imap(len, itertools.repeat(blob))
    tracemalloc.start()
    try:
        # Until workers are as far ahead as they may be, which is a number of chunks, memory grows.
        for _ in range(250_000):
            next(results)
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        for _ in range(150_000):
            next(results)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - first < 16_000_000
    finally:
        tracemalloc.stop()
    results.close()  # type: ignore[attr-defined]


def test_large_items_are_not_far_ahead(client: Client) -> None:
    made = 0

    def large() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield made.to_bytes(8, "little") * 1_000_000

    results = client.imap(len, large())
    for _ in range(12):
        assert next(results) == 8_000_000
    # 256 MiB, and what has been taken.
    assert made <= 12 + 40
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("at", [0, 5, 700])
def test_a_failure_comes_in_its_turn(client: Client, at: int) -> None:
    results = client.imap(fail_at, range(2000), itertools.repeat(at))
    assert list(itertools.islice(results, at)) == list(range(at))
    with pytest.raises(ValueError, match=f"item {at}"):
        next(results)
    assert list(results) == []


def test_an_iterable_that_raises_does_so_in_its_turn(client: Client) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("no more to be read")

    results = client.imap(double, items())
    assert list(itertools.islice(results, 5)) == [0, 2, 4, 6, 8]
    with pytest.raises(OSError, match="no more to be read"):
        next(results)
    assert client.submit(double, 1).result(30) == 2


def test_an_iterator_that_is_dropped_cancels_what_is_left(imap: Imap, client: Client, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    results = imap(wait_for_file, [str(tmp_path / "there"), *(str(tmp_path / str(number)) for number in range(20))])
    assert next(results) == str(tmp_path / "there")
    del results
    gc.collect()
    assert client.submit(double, 1).result(30) == 2


def test_items_that_are_futures(imap: Imap, client: Client) -> None:
    items = [1, client.submit(double, 1), 3, client.submit(double, 2)]
    assert sorted(imap(double, items)) == [2, 4, 6, 8]


def _sum_of_many(count: int) -> int:
    client = Client()
    total: int = client.gather(client.submit(double, 1)) + sum(client.imap(double, range(count), buffersize=10))
    return total


def test_inside_a_task(client: Client) -> None:
    assert client.gather([client.submit(_sum_of_many, 50) for _ in range(3)], timeout=120) == [2452] * 3


def test_workers_have_work_while_results_are_not_taken(client: Client, tmp_path: Path) -> None:
    results = client.imap(note, itertools.repeat(str(tmp_path)), range(100), buffersize=20)
    assert next(results) == 0
    wait_for("those that were submitted", lambda: len(list(tmp_path.iterdir())) >= 20, 30)
    results.close()  # type: ignore[attr-defined]
