"""What tasks raise arrives as it was, on every road, through real processes; `ProcessPoolExecutor` says what is expected."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import linecache
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from scaler import Client
from scaler.errors import RemoteTaskError
from tests.integration.deployment import ROOT, Deployment
from tests.integration.serializers import Reversed

WAIT_S = 30
raising = importlib.import_module("packages.scaler-protocol.tests.failures.raising")

NOT_AS_THE_POOL = {
    # The pool breaks, and with it all other tasks: restoring the exception raises.
    "required arguments",
    "keyword only",
    "os subclass",
    "group",
    "refers to itself",
    "frozen dataclass",
    "refuses attributes",
    "reduces to what raises",
    "reduces to exit",
    "raises in comparison",
    # The pool raises what its pickling raised.
    "local class",
    "traceback inside",
    "raises in reduce",
    "reduces to nonsense",
    # The pool answers None, or that the future was cancelled: its future asks whether the exception is true.
    "falsy",
    "empty",
    # The pool makes it again from its `args`, which are not what its class was called with: "failed: failed: x".
    "one argument changed",
    "context",
    # The pool sends what its class says, which is another exception.
    "own reduce that forgets",
}
"""Where ours arrives as it was raised, and the pool's does not."""


def raise_named(name: str) -> object:
    return raising.RESTORED[name]()


def raise_any(table: str, name: str) -> object:
    return getattr(raising, table)[name]()


def raise_in_child(client: Client, name: str) -> object:
    return client.submit(raise_named, name).result()


def facts(error: BaseException | None) -> Any:
    """Return what can be said of an exception in plain words, without its causes, which the pool does not send."""
    if error is None:
        return None
    kind: Any = type.__dict__["__name__"].__get__(type(error))
    args = [repr(argument) for argument in BaseException.args.__get__(error)]  # type: ignore[attr-defined]
    attributes = sorted(BaseException.__dict__["__dict__"].__get__(error))
    members = error.exceptions if issubclass(type(error), BaseExceptionGroup) else ()  # type: ignore[attr-defined]
    return kind, args, attributes, [facts(member) for member in members]


def raised(name: str) -> BaseException:
    try:
        raise_named(name)
    except BaseException as error:
        return error
    raise AssertionError(name)


def chain(error: BaseException | None) -> list[Any]:
    kinds: list[Any] = []
    while error is not None and len(kinds) < 10:
        kinds.append(facts(error)[0])
        error = error.__cause__ or error.__context__
    return kinds


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


def answers_of_a_pool() -> dict[str, Any]:
    """Return what a process pool answers, by name. For a process of its own: the pool starts some that stay."""
    answers: dict[str, Any] = {}
    pool: concurrent.futures.ProcessPoolExecutor | None = None
    for name in raising.RESTORED:
        if pool is None:
            pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        try:
            answers[name] = facts(pool.submit(raise_named, name).exception(WAIT_S))
        except BaseException as error:
            answers[name] = facts(error)
        if pool._broken:
            pool.shutdown()
            pool = None
    return answers


@pytest.fixture(scope="module")
def pool_answers() -> dict[str, Any]:
    program = (
        "import sys, pickle; from tests.integration import test_failures as t; "
        "sys.stdout.buffer.write(pickle.dumps(t.answers_of_a_pool()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=50)
    answers: dict[str, Any] = pickle.loads(done.stdout)
    return answers


def error_of(call: Any) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", raising.RESTORED)
def test_submit(client: Client, name: str) -> None:
    future = client.submit(raise_named, name)
    error = future.exception(WAIT_S)
    expected = raised(name)
    assert error is not None
    assert facts(error) == facts(expected)
    assert error_of(lambda: future.result(WAIT_S)) is error
    assert not future.cancelled()
    if name != "raises in comparison":
        assert chain(error) == chain(expected)
    frames = traceback.extract_tb(error.__traceback__)
    assert "raise_named" in [frame.name for frame in frames]
    assert not [frame.filename for frame in frames if "scaler_worker" in frame.filename]


@pytest.mark.parametrize("name", raising.RESTORED)
def test_as_the_pool_answers_or_better(client: Client, pool_answers: dict[str, Any], name: str) -> None:
    ours = facts(client.submit(raise_named, name).exception(WAIT_S))
    assert (ours == pool_answers[name]) is (name not in NOT_AS_THE_POOL)


ROADS = ["map", "starmap", "graph", "graph behind another row", "nested", "serializer", "profiled", "streamed"]
SOME = ["required arguments", "decode", "frozen dataclass", "system exit", "generator exit", "group", "falsy", "cause"]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("road", ROADS)
def test_other_roads(client: Client, address: str, road: str, name: str) -> None:
    if road == "map":
        error = error_of(lambda: client.map(raise_named, [name] * 3))
    elif road == "starmap":
        error = error_of(lambda: client.starmap(raise_named, [(name,)] * 3))
    elif road == "graph":
        error = error_of(lambda: client.get({"x": (raise_named, name)}, ["x"]))
    elif road == "graph behind another row":
        graph: dict[str, Any] = {"x": (raise_named, name), "y": (str, "x"), "z": (str, "y")}
        futures = client.get(graph, ["z", "y"], block=False)
        error = error_of(lambda: futures["z"].result(WAIT_S))
        assert facts(futures["y"].exception(WAIT_S)) == facts(error)
    elif road == "nested":
        error = error_of(lambda: client.submit(raise_in_child, client, name).result(WAIT_S))
    else:
        options: dict[str, dict[str, Any]] = {
            "serializer": {"serializer": Reversed()},
            "profiled": {"profiling": True},
            "streamed": {"stream_output": True},
        }
        with Client(address, **options[road]) as other:
            error = error_of(lambda: other.submit(raise_named, name).result(WAIT_S))
    assert facts(error) == facts(raised(name))
    assert chain(error) == chain(raised(name))


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table in ("HOSTILE", "DESCRIBED") for name in getattr(raising, table)]
)
def test_hostile_exceptions_are_answered_and_the_processor_goes_on(client: Client, table: str, name: str) -> None:
    before = client.map(process_id, range(20))
    error = client.submit(raise_any, table, name).exception(WAIT_S)
    assert error is not None
    assert not type(error).__name__.startswith("ProcessorDied")
    if table == "DESCRIBED":
        assert type(error) is RemoteTaskError
        assert error.type_name in str(error)
        assert "cannot pickle" in error.reason
        assert "raising.py" in error.traceback_text
    assert set(client.map(process_id, range(20))) <= set(before) | set(client.map(process_id, range(20)))


def process_id(_: int) -> int:
    import os

    return os.getpid()


@pytest.mark.parametrize("name", raising.ENDLESS)
def test_exceptions_that_take_for_ever_are_described_in_time(client: Client, name: str) -> None:
    began = time.monotonic()
    future = client.submit(raise_any, "ENDLESS", name)
    error = future.exception(WAIT_S)
    assert time.monotonic() - began < 15
    # Its type and frames are there; what its own methods would say is not.
    type_name = error.type_name if isinstance(error, RemoteTaskError) else type(error).__qualname__
    assert "Sleeps" in type_name


def test_an_item_that_cannot_be_sent_back_or_restored_has_no_internal_error(client: Client) -> None:
    with pytest.raises(pickle.PicklingError, match=r"_thread\.lock"):
        client.map(make_lock, [1, 2])
    with pytest.raises(Exception, match=r"(cannot|could not) be restored") as caught:
        client.map(len, [Unloadable(), Unloadable()])  # type: ignore[arg-type, list-item]  # refused
    assert type(caught.value).__name__ == "DeserializeObjectError"


def make_lock(_: int) -> Any:
    return threading.Lock()


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def asyncio_takes_stop_iteration() -> bool:
    """Whether who awaits a future of any executor gets a StopIteration. Python 3.12.1 and older wait for ever."""

    async def run() -> bool:
        future = asyncio.get_running_loop().create_future()
        try:
            future.set_exception(StopIteration())
        except TypeError:
            return False
        future.exception()
        return True

    return asyncio.run(run())


def test_stop_iteration(client: Client) -> None:
    future = client.submit(raise_named, "stop with a value")
    error = future.exception(WAIT_S)
    assert isinstance(error, StopIteration)
    assert error.value == 5
    with pytest.raises(RuntimeError, match="StopIteration"):
        client.map(raise_named, ["stop with a value"] * 2)

    async def wait(pending: bool) -> None:
        one = client.submit(raise_named, "stop with a value")
        if not pending:
            concurrent.futures.wait([one], WAIT_S)
        await asyncio.wait_for(one, WAIT_S)

    async def wrapped() -> None:
        await asyncio.wait_for(asyncio.wrap_future(client.submit(raise_named, "stop with a value")), WAIT_S)

    async def async_iteration() -> None:
        await asyncio.wait_for(client.submit(raise_named, "stop async iteration"), WAIT_S)

    ways: list[Callable[[], Coroutine[Any, Any, None]]] = [partial(wait, False)]
    if asyncio_takes_stop_iteration():
        ways += [partial(wait, True), wrapped]
    for way in ways:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            asyncio.run(way())
        assert type(caught.value.__cause__) is StopIteration
    with pytest.raises(StopAsyncIteration):
        asyncio.run(async_iteration())


def test_falsy_exceptions_by_all_ways_of_waiting(client: Client) -> None:
    for name, kind in (("falsy", raising.Falsy), ("empty", raising.Empty)):
        future = client.submit(raise_named, name)
        assert next(concurrent.futures.as_completed([future], WAIT_S)) is future
        done, _ = concurrent.futures.wait([future], WAIT_S, concurrent.futures.FIRST_EXCEPTION)
        assert done == {future}
        with pytest.raises(kind):
            future.result(WAIT_S)
        with pytest.raises(kind):
            asyncio.run(awaited(future))
        called: list[Any] = []
        future.add_done_callback(lambda one, called=called: called.append(one.exception()))  # type: ignore[misc]
        assert type(called[0]) is kind


async def awaited(future: Any) -> None:
    await future


def test_exceptions_that_end_programs_end_no_thread_of_the_client(client: Client) -> None:
    for name in ("system exit", "keyboard", "generator exit", "asyncio cancelled"):
        called = threading.Event()

        def callback(future: Any, called: threading.Event = called) -> None:
            called.set()
            future.result()

        client.submit(raise_named, name).add_done_callback(callback)
        assert called.wait(WAIT_S)
        assert client.submit(abs, -1).result(WAIT_S) == 1


def raise_large(size: int) -> None:
    raise ValueError("large", np.arange(size // 8), b"x" * size)


def test_a_large_exception_travels_as_an_object(client: Client, module_deployment: Deployment) -> None:
    size = 8 * 1024 * 1024
    began = time.monotonic()
    error = client.submit(raise_large, size).exception(WAIT_S)
    assert error is not None
    assert error.args[0] == "large"
    assert (error.args[1] == np.arange(size // 8)).all()
    assert len(error.args[2]) == size
    graph = {"x": (raise_large, size), "y": (str, "x"), "z": (str, "y")}
    futures = client.get(graph, ["x", "y", "z"], block=False)
    for future in futures.values():
        error = future.exception(WAIT_S)
        assert error is not None
        assert len(error.args[2]) == size
    with pytest.raises(ValueError, match="large"):
        client.map(raise_large, [size, size])
    assert time.monotonic() - began < WAIT_S


def test_ten_thousand_items_fail(client: Client) -> None:
    began = time.monotonic()
    with pytest.raises(raising.RequiredArguments, match="4: no") as caught:
        client.map(raise_named, ["required arguments"] * 10_000)
    assert caught.value.code == 4
    assert time.monotonic() - began < WAIT_S


def test_tracebacks_show_the_lines_of_a_notebook(client: Client) -> None:
    name, source = "<ipython-input-3-0badcafe>", "def cell(x):\n    return {}[x]  # in the cell\n"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(source + "    # holds a lock\n", name, "exec"), scope)
    error = client.submit(scope["cell"], 1).exception(WAIT_S)
    assert error is not None
    shown = "".join(traceback.format_exception(error))
    assert f'  File "{name}", line 2, in cell\n    return {{}}[x]  # in the cell\n' in shown
    # And what the worker itself says, as monitors show it.
    described = client.submit(scope["cell"], raising.OwnLock()).exception(WAIT_S)
    assert isinstance(described, RemoteTaskError)
    assert "return {}[x]  # in the cell" in described.traceback_text


def test_calls_in_the_arguments_of_a_row_raise_as_themselves(client: Client) -> None:
    with pytest.raises(raising.RequiredArguments, match="4: no"):
        client.get({"x": (str, (raise_named, "required arguments"))}, ["x"])
