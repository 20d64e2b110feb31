"""joblib and scikit-learn on a cluster: results, errors, nested calls, large arrays, and what becomes of what was started."""

from __future__ import annotations

import _thread
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaler import Client, ObjectReference, ScalerExecutor, SchedulerClusterCombo
from scaler.errors import DisconnectedError, SerializationError, WorkerRunError
from scaler_protocol.testing.security_directory import make_security_directory
from tests.integration.deployment import Deployment, is_gone, wait_for
from tests.integration.test_labels import Watched

joblib = pytest.importorskip("joblib")

from joblib import Parallel, delayed  # noqa: E402

from scaler.joblib import ScalerBackend  # noqa: E402
from scaler.joblib.sent_values import size_of  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with SchedulerClusterCombo(n_workers=2) as cluster:
        yield cluster.get_address()


@pytest.fixture
def backend(address: str) -> Iterator[ScalerBackend]:
    with joblib.parallel_config(backend="scaler", address=address) as config:
        yield config["backend"]
        config["backend"].close()


def square(number: int) -> int:
    return number * number


def process_id(_: int) -> int:
    return os.getpid()


def divide(number: int) -> float:
    return 1 / number


def divide_in_turn(number: int) -> float:
    try:
        return divide(number)
    except ZeroDivisionError as error:
        raise RuntimeError("no number") from error


def add_up(array: Any, number: int, *, weights: Any = None) -> float:
    return float(array.sum()) + number + (0.0 if weights is None else float(weights.sum()))


def wait_for_file(path: Path) -> int:
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.005)  # sleeps: until the test says so
    return os.getpid()


def wait_or_divide(folder: Path, number: int) -> float:
    """Say that it runs. The first call fails once another one does; the others wait for something that never comes."""
    (folder / f"began {number}").touch()
    if number == 0:
        wait_for_file(folder / "began 1")
        return 1 / number
    return wait_for_file(folder / "never")


# --- results


def test_results_are_in_order(backend: ScalerBackend) -> None:
    assert Parallel()(delayed(square)(number) for number in range(1000)) == [number**2 for number in range(1000)]
    assert os.getpid() not in Parallel()(delayed(process_id)(number) for number in range(4))
    captured = 3
    assert Parallel()(delayed(lambda number: number + captured)(number) for number in range(4)) == [3, 4, 5, 6]


def test_results_one_after_the_other(backend: ScalerBackend) -> None:
    assert list(Parallel(return_as="generator")(delayed(square)(number) for number in range(100))) == [
        number**2 for number in range(100)
    ]
    results = Parallel(return_as="generator_unordered")(delayed(square)(number) for number in range(100))
    assert sorted(results) == [number**2 for number in range(100)]


def test_an_unordered_generator_does_not_wait_for_the_first(backend: ScalerBackend, tmp_path: Path) -> None:
    path = tmp_path / "go"
    calls = [delayed(wait_for_file)(path), delayed(square)(3)]
    results = Parallel(return_as="generator_unordered")(calls)
    assert next(results) == 9
    path.touch()
    assert next(results) > 0


@pytest.mark.skipif(joblib.__version__.startswith("1.4."), reason="Parallel takes no settings of backends there")
def test_without_a_context(address: str) -> None:
    with Client(address) as client:
        workers = set(client.run(os.getpid).values())
    parallel = Parallel(backend="scaler", n_jobs=2, address=address)
    assert set(parallel(delayed(process_id)(number) for number in range(3))) <= workers
    with parallel:
        assert set(parallel(delayed(process_id)(number) for number in range(3))) <= workers
        assert set(parallel(delayed(process_id)(number) for number in range(3))) <= workers
    with joblib.parallel_config(backend="scaler", address=address):
        calls = Parallel(n_jobs=2, n_workers=2)
        with pytest.raises(ValueError, match="exclude one another"):
            calls([delayed(square)(1)] * 2)


def test_a_client_of_the_programs_stays_open(address: str) -> None:
    with Client(address) as client:
        with joblib.parallel_config(backend="scaler", client=client) as config:
            assert config["backend"].client is client
            assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]
            config["backend"].close()
        assert client.submit(square, 3).result() == 9


def test_jobs_are_the_clusters_workers(address: str) -> None:
    with (
        SchedulerClusterCombo(n_workers=3) as cluster,
        joblib.parallel_config(backend="scaler", address=cluster.get_address()),
    ):
        assert [joblib.effective_n_jobs(count) for count in (-1, -2, -5, 7, 1)] == [3, 2, 2, 7, 1]
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.effective_n_jobs(0)
    with joblib.parallel_config(backend="scaler", address=address, n_jobs=1):
        # As joblib has it: no other process.
        assert Parallel()(delayed(process_id)(number) for number in range(2)) == [os.getpid()] * 2


def test_a_cluster_without_workers_gets_calls_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("scaler.joblib.worker_count.JOINING_SECONDS", 0.1)
    with SchedulerClusterCombo(n_workers=0) as cluster, Client(cluster.get_address()) as client:
        backend = ScalerBackend(client=client)
        assert backend.effective_n_jobs(-1) == 2
        backend.close()


def test_a_scheduler_that_does_not_say_how_many(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("scaler.client.operations.Operations.monitor_address", "")
    backend = ScalerBackend(address)
    assert backend.effective_n_jobs(-1) == max(joblib.cpu_count(), 2)
    assert "cannot tell how many workers the cluster has" in caplog.text
    backend.close()


# --- what goes wrong


def test_errors_are_raised_as_in_the_task(backend: ScalerBackend) -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        Parallel()(delayed(divide)(number) for number in (1, 0))
    assert "in divide" in str(caught.value.__cause__)
    with pytest.raises(RuntimeError) as chained:
        Parallel()(delayed(divide_in_turn)(number) for number in (1, 0))
    assert isinstance(chained.value.__cause__, ZeroDivisionError)
    assert "in divide_in_turn" in chained.value.__notes__[0]
    # And it goes on.
    assert Parallel()(delayed(divide)(number) for number in (1, 2)) == [1, 0.5]


def test_an_argument_that_cannot_be_sent(backend: ScalerBackend) -> None:
    # With the first one, and later, where joblib's thread sends it.
    for odd in (0, 50):
        calls = [delayed(square)(threading.Lock() if number == odd else number) for number in range(99)]
        with pytest.raises(SerializationError):
            Parallel(batch_size=1)(calls)


def test_an_iterator_that_raises(backend: ScalerBackend) -> None:
    def calls() -> Iterator[Any]:
        for number in range(50):
            yield delayed(square)(number)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        Parallel(batch_size=1)(calls())


def test_a_timeout(backend: ScalerBackend, tmp_path: Path) -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.2)(delayed(wait_for_file)(tmp_path / "never") for _ in range(2))
    # Both workers are free again.
    assert Parallel(timeout=30)(delayed(square)(number) for number in range(3)) == [0, 1, 4]


def test_a_failure_stops_what_runs(backend: ScalerBackend, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        Parallel()(delayed(wait_or_divide)(tmp_path, number) for number in range(2))
    assert Parallel(timeout=30)(delayed(square)(number) for number in range(3)) == [0, 1, 4]


def test_an_interrupt_stops_what_runs(backend: ScalerBackend, tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_for_file(tmp_path / "began 2")
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Parallel()(delayed(wait_or_divide)(tmp_path, number) for number in range(1, 4))
    thread.join()
    assert Parallel(timeout=30)(delayed(square)(number) for number in range(3)) == [0, 1, 4]


def test_a_generator_that_is_closed_stops_its_own_calls_only(backend: ScalerBackend, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    go_on = tmp_path / "go"
    kept = Parallel(n_jobs=2, return_as="generator")([delayed(wait_for_file)(go_on), delayed(square)(3)])
    given_up = Parallel(n_jobs=2, return_as="generator")(delayed(wait_or_divide)(tmp_path, number) for number in (1, 2))
    wait_for("one of its calls to run", lambda: (tmp_path / "began 1").exists() or (tmp_path / "began 2").exists())
    with warnings.catch_warnings():
        # joblib's, about work done in vain.
        warnings.simplefilter("ignore", UserWarning)
        given_up.close()
    go_on.touch()
    assert list(kept)[1] == 9
    assert Parallel(timeout=30)(delayed(square)(number) for number in range(3)) == [0, 1, 4]


def test_settings_that_cannot_be(address: str) -> None:
    with pytest.raises(ValueError, match="exclude one another"):
        ScalerBackend(address, 2)
    with pytest.raises(ValueError, match="at least 1"):
        ScalerBackend(n_workers=0)
    with pytest.raises(DisconnectedError):
        ScalerBackend("tcp://127.0.0.1:1", timeout_seconds=0.2)
    with pytest.raises(TypeError, match="belongs to the process"):
        pickle.dumps(ScalerBackend())


def wait_a_little(number: int) -> int:
    time.sleep(0.02)  # sleeps: so that the batches after it are sized while another call uses the backend
    return number


def set_variable(value: str) -> None:
    os.environ["SET_BY_AN_INITIALIZER"] = value


def variable(_: int) -> str | None:
    return os.environ.get("SET_BY_AN_INITIALIZER")


def test_an_initializer_is_called_before_the_first_call(address: str) -> None:
    initializer: dict[str, Any] = {"initializer": set_variable, "initargs": ("one",)}
    with joblib.parallel_config(backend="scaler", address=address, **initializer) as config:
        assert Parallel()(delayed(variable)(number) for number in range(8)) == ["one"] * 8
        again = Parallel(initializer=set_variable, initargs=("two",))
        assert again(delayed(variable)(number) for number in range(8)) == ["two"] * 8
        config["backend"].close()


def test_an_initializer_that_cannot_be(address: str) -> None:
    with Client(address) as client, pytest.raises(ValueError, match="register a worker plugin"):
        ScalerBackend(client=client, initializer=set_variable, initargs=("one",))
    with pytest.raises(TypeError, match="initializer must be callable"):
        ScalerBackend(address, initializer="no function")  # type: ignore[arg-type]
    with pytest.raises(WorkerRunError):
        ScalerBackend(address, initializer=set_variable)


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_a_generator_goes_on_while_others_use_the_backend(backend: ScalerBackend, return_as: str) -> None:
    """joblib asks the backend for the size of batches, also when the last `Parallel` to come is gone."""
    results = Parallel(n_jobs=2, return_as=return_as, timeout=20)(
        delayed(wait_a_little)(number) for number in range(60)
    )
    first = next(results)
    assert Parallel(n_jobs=2)(delayed(square)(number) for number in range(3)) == [0, 1, 4]
    assert sorted([first, *results]) == list(range(60))


def test_without_a_parallel(backend: ScalerBackend) -> None:
    assert backend.configure(n_jobs=1) == 1
    assert backend.configure(n_jobs=3) == 3
    assert backend.compute_batch_size() == 1


class OddError(BaseException):
    """What joblib does not expect of a program's iterator."""


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_what_is_raised_where_joblib_is_called_back(backend: ScalerBackend, return_as: str) -> None:
    def calls() -> Iterator[Any]:
        for number in range(50):
            yield delayed(square)(number)
        raise OddError("on joblib's thread")

    for _ in range(3):
        with pytest.raises(OddError, match="on joblib's thread"):
            list(Parallel(n_jobs=2, batch_size=1, return_as=return_as, timeout=20)(calls()))
    # The thread is still there.
    assert Parallel(n_jobs=2, timeout=20)(delayed(square)(number) for number in range(50)) == [
        number**2 for number in range(50)
    ]


def test_a_stream_that_cannot_be_printed_to(backend: ScalerBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    printing = Parallel._print

    def fail(parallel: Any, message: str) -> None:
        if "Done" in message and threading.current_thread() is not threading.main_thread():
            raise OSError("no space left")
        printing(parallel, message)

    monkeypatch.setattr(Parallel, "_print", fail)
    with pytest.raises(OSError, match="no space left"):
        Parallel(n_jobs=2, batch_size=1, verbose=60, timeout=20)(delayed(square)(number) for number in range(50))


# --- a backend that was closed


@pytest.fixture(params=["address", "client", "n_workers"])
def place(request: pytest.FixtureRequest, address: str) -> Iterator[dict[str, Any]]:
    if request.param == "client":
        with Client(address) as client:
            yield {"client": client}
    else:
        yield {"address": address} if request.param == "address" else {"n_workers": 2}


def test_a_backend_that_was_closed_raises(place: dict[str, Any]) -> None:
    with joblib.parallel_config(backend="scaler", n_jobs=2, **place) as config:
        with Parallel(timeout=20) as managed:
            assert managed(delayed(square)(number) for number in range(3)) == [0, 1, 4]
            config["backend"].close()
            with pytest.raises(DisconnectedError, match="joblib backend is closed"):
                managed(delayed(square)(number) for number in range(3))
        with pytest.raises(DisconnectedError, match="joblib backend is closed"):
            Parallel(timeout=20)(delayed(square)(number) for number in range(3))
        with pytest.raises(DisconnectedError, match="joblib backend is closed"):
            _ = config["backend"].client


def test_a_backend_that_was_closed_before_its_first_call() -> None:
    with joblib.parallel_config(backend="scaler", n_jobs=2, n_workers=1) as config:
        config["backend"].close()
        with pytest.raises(DisconnectedError, match="joblib backend is closed"):
            Parallel(timeout=20)(delayed(square)(number) for number in range(3))


def test_calls_that_are_under_way_when_the_backend_is_closed(place: dict[str, Any], tmp_path: Path) -> None:
    with joblib.parallel_config(backend="scaler", n_jobs=2, **place) as config:
        results = Parallel(return_as="generator", timeout=20)(
            delayed(wait_or_divide)(tmp_path, number) for number in range(1, 50)
        )
        wait_for("one of its calls to run", lambda: any(tmp_path.iterdir()))
        thread = next(thread for thread in threading.enumerate() if thread.name == "scaler-joblib")
        config["backend"].close()
        with pytest.raises(DisconnectedError, match="joblib backend is closed"):
            next(results)
        thread.join(20)
        assert not thread.is_alive()


def test_calls_that_begin_while_the_backend_is_closed(address: str) -> None:
    """joblib's thread hands batches over all the time."""

    def call_on() -> None:
        for _ in range(1000):
            Parallel(batch_size=1, timeout=20)(delayed(square)(number) for number in range(100))

    for seconds in (0.0, 0.01, 0.05):
        with joblib.parallel_config(backend="scaler", n_jobs=2, address=address) as config:
            timer = threading.Timer(seconds, config["backend"].close)
            timer.start()
            with pytest.raises(DisconnectedError, match="joblib backend is closed"):
                call_on()
            timer.join()


@pytest.mark.parametrize("kind", ["backend", "executor"])
def test_what_is_collected_in_the_middle_of_anything_closes(
    kind: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To start a thread takes locks of the module threading, which whoever allocates at that moment may hold."""
    if kind == "backend":
        with joblib.parallel_config(backend="scaler", n_jobs=2, address=address) as config:
            session: Any = config["backend"]._session
            later, closed = session.close_later, session._has_ended
    else:
        executor = ScalerExecutor(address)
        assert executor.submit(abs, -3).result(timeout=20) == 3
        session = executor._session
        later, closed = session.finish_later, session._closed
    here, start = threading.get_ident(), threading.Thread.start

    def start_elsewhere(thread: threading.Thread) -> None:
        assert threading.get_ident() != here, "a thread is started in a finalizer"
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_elsewhere)
    later()
    assert closed.wait(20)


FORKING = """
import os, sys, joblib, scaler.joblib
from scaler.errors import ClientForkedError

if __name__ == "__main__":
    with joblib.parallel_config(backend="scaler", n_jobs=2, address=sys.argv[1]):
        with joblib.Parallel(timeout=20) as managed:
            managed(joblib.delayed(abs)(number) for number in range(3))
            child = os.fork()
            if child == 0:
                raised = 0
                for parallel in (managed, joblib.Parallel(timeout=20)):
                    try:
                        parallel(joblib.delayed(abs)(number) for number in range(3))
                    except ClientForkedError as error:
                        raised += "forked from" in str(error)
                os._exit(raised)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            print(managed(joblib.delayed(abs)(number) for number in range(3)))
"""


def test_a_forked_child_is_told(address: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(FORKING)
    run = subprocess.run(
        [sys.executable, str(program), address], capture_output=True, text=True, timeout=55, check=True
    )
    assert run.stdout.split("\n")[:2] == ["2", "[0, 1, 2]"]


# --- nested calls


def threads_of_inner_calls(_: int) -> tuple[int, set[tuple[int, int]]]:
    def inner(_: int) -> tuple[int, int]:
        innermost = set(Parallel(n_jobs=2)(delayed(threading.get_ident)() for _ in range(4)))
        return os.getpid(), len(innermost)

    return os.getpid(), set(Parallel(n_jobs=2)(delayed(inner)(number) for number in range(4)))


def test_inside_a_task_joblib_uses_threads_and_below_nothing(backend: ScalerBackend) -> None:
    for pid, inner in Parallel()(delayed(threads_of_inner_calls)(number) for number in range(2)):
        assert inner == {(pid, 1)}


def squares_by_the_cluster(count: int) -> list[int]:
    import scaler.joblib  # noqa: F401

    with joblib.parallel_config(backend="scaler", n_jobs=2):
        results: list[int] = Parallel()(delayed(square)(number) for number in range(count))
    return results


def test_a_task_that_names_the_backend_uses_the_cluster_it_runs_on(backend: ScalerBackend) -> None:
    """Both workers wait for calls that need one."""
    results = Parallel()(delayed(squares_by_the_cluster)(count) for count in (3, 4, 5, 6))
    assert results == [[number**2 for number in range(count)] for count in (3, 4, 5, 6)]


def pool_sizes(_: int) -> list[int]:
    import threadpoolctl

    np.ones((4, 4)) @ np.ones((4, 4))
    return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]


def test_pools_of_threads_are_limited_where_the_program_says_so(address: str) -> None:
    pytest.importorskip("threadpoolctl")
    with joblib.parallel_config(backend="scaler", address=address, inner_max_num_threads=1):
        # The second time, all libraries are loaded.
        for _ in range(2):
            sizes = Parallel()(delayed(pool_sizes)(number) for number in range(4))
    assert {size for pools in sizes for size in pools} == {1}


def test_workers_of_a_cluster_that_was_started_divide_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("threadpoolctl")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workers = max(joblib.cpu_count(), 2)
    with joblib.parallel_config(backend="scaler", n_workers=workers):
        for _ in range(2):
            sizes = Parallel()(delayed(pool_sizes)(number) for number in range(4 * workers))
    assert {size for pools in sizes for size in pools} == {1}


# --- large arrays


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[ObjectReference]]:
    """What was sent by itself."""
    references: list[weakref.ref[ObjectReference]] = []
    send = Client.send_object

    def send_object(client: Client, value: Any, name: str | None = None) -> ObjectReference:
        reference = send(client, value, name)
        references.append(weakref.ref(reference))
        return reference

    monkeypatch.setattr(Client, "send_object", send_object)
    return references


def test_an_array_is_sent_once_in_a_call(backend: ScalerBackend, sent: list[weakref.ref[ObjectReference]]) -> None:
    array, weights = np.ones(100_000), np.ones(50_000)
    expected = [150_000.0 + number for number in range(40)]
    assert Parallel()(delayed(add_up)(array, number, weights=weights) for number in range(40)) == expected
    assert len(sent) == 2
    # It is the program's: the next call gets it as it is then.
    array[0] = 11
    assert Parallel()(delayed(add_up)(array, number) for number in range(2)) == [100_010.0, 100_011.0]
    assert len(sent) == 3


def add_one(array: Any) -> float:
    array += 1
    return float(array[0])


def test_each_batch_may_write_to_its_copy(backend: ScalerBackend, sent: list[weakref.ref[ObjectReference]]) -> None:
    array = np.ones(100_000)
    assert Parallel(batch_size=1)(delayed(add_one)(array) for _ in range(10)) == [2.0] * 10
    assert len(sent) == 1
    assert array[0] == 1


def test_arrays_are_given_up_with_their_last_use(
    backend: ScalerBackend, sent: list[weakref.ref[ObjectReference]]
) -> None:
    array = np.ones(100_000)
    Parallel()(delayed(add_up)(array, number) for number in range(4))
    Parallel()(delayed(add_up)(np.full(10_000, number), number) for number in range(20))
    assert len(sent) == 21
    wait_for("nobody to refer to them", lambda: not any(reference() for reference in sent))


def test_arrays_are_given_up_with_their_call(backend: ScalerBackend, sent: list[weakref.ref[ObjectReference]]) -> None:
    """Also while another call goes on, whose array stays."""
    array, kept = np.ones(100_000), np.ones(100_000)
    # More calls than are made before it is asked for the second result.
    others = Parallel(n_jobs=2, return_as="generator", batch_size=1, pre_dispatch=2)(
        delayed(add_up)(kept, number) for number in range(4)
    )
    assert next(others) == 100_000
    mine = Parallel(n_jobs=2, return_as="generator", batch_size=1)(
        delayed(add_up)(array, number) for number in range(4)
    )
    stalled = Parallel(n_jobs=2, return_as="generator", batch_size=1)(
        delayed(add_up)(array, number) for number in range(4)
    )
    assert list(mine) == [100_000.0 + number for number in range(4)]
    assert len(sent) == 3
    wait_for("nobody to refer to the second", lambda: sent[1]() is None)
    assert sent[2]() is not None
    assert list(stalled) == [100_000.0 + number for number in range(4)]
    assert list(others) == [100_001.0, 100_002.0, 100_003.0]
    wait_for("nobody to refer to them", lambda: not any(reference() for reference in sent))


def test_what_counts_as_large() -> None:
    pandas = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    assert size_of(np.ones(1000)) == 8000
    assert size_of(pandas.DataFrame({"a": np.ones(1000)})) >= 8000
    assert size_of(sparse.csr_matrix(np.ones((100, 10)))) >= 8000
    assert [size_of(value) for value in (None, 5, "text" * 10_000, [0] * 100_000, b"0" * 10**6, square, Path())] == [
        0
    ] * 7


# --- a cluster of its own


def test_a_cluster_that_was_started_ends_with_the_backend() -> None:
    with joblib.parallel_config(backend="scaler", n_workers=2):
        assert joblib.effective_n_jobs(-1) == 2
        pids = set(Parallel()(delayed(process_id)(number) for number in range(8)))
        # joblib says so after each call: the workers stay.
        assert set(Parallel()(delayed(process_id)(number) for number in range(8))) & pids
    wait_for("the workers to end", lambda: all(map(is_gone, pids)))


def test_a_cluster_that_was_started_ends_when_it_is_told_to() -> None:
    with joblib.parallel_config(backend="scaler", n_workers=1) as config:
        (pid,) = set(Parallel()(delayed(process_id)(number) for number in range(3)))
        config["backend"].close()
        config["backend"].close()
        assert is_gone(pid)


PROGRAM = """
import os, joblib, scaler.joblib
if __name__ == "__main__":
    config = joblib.parallel_config(backend="scaler", n_workers=2)
    print(*joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4)))
"""


def test_a_program_that_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=55, check=True)
    assert run.stderr == ""
    wait_for("the workers to end", lambda: all(is_gone(int(pid)) for pid in run.stdout.split()))


@pytest.mark.timeout(300)
def test_the_example_in_the_documentation(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    text = (ROOT / "docs" / "joblib.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    program = tmp_path / "example.py"
    program.write_text(block[1])
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=280, check=True)
    assert "best" in run.stdout
    assert run.stderr == ""


# --- scikit-learn. Each process imports it first, which takes seconds, on a busy machine many.


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    datasets = pytest.importorskip("sklearn.datasets")
    points, classes = datasets.make_classification(400, 20, random_state=1)
    return points, classes


@pytest.mark.timeout(300)
def test_a_grid_search(backend: ScalerBackend, data: tuple[Any, Any]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    there = GridSearchCV(LogisticRegression(), grid, cv=3).fit(*data)
    with joblib.parallel_config(backend="sequential"):
        here = GridSearchCV(LogisticRegression(), grid, cv=3).fit(*data)
    assert there.best_params_ == here.best_params_
    assert np.allclose(there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"])


@pytest.mark.timeout(300)
def test_scores_and_forests(backend: ScalerBackend, data: tuple[Any, Any]) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    forest = RandomForestClassifier(20, random_state=1)
    scores = cross_val_score(forest, *data, cv=3)
    there = forest.fit(*data).predict_proba(data[0])
    with joblib.parallel_config(backend="sequential"):
        assert np.allclose(scores, cross_val_score(forest, *data, cv=3))
        assert np.allclose(there, forest.fit(*data).predict_proba(data[0]))


@pytest.mark.timeout(300)
def test_a_forest_in_a_grid_search(backend: ScalerBackend, data: tuple[Any, Any]) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    forest = RandomForestClassifier(10, n_jobs=2, random_state=1)
    search = GridSearchCV(forest, {"max_depth": [2, 4]}, cv=2, error_score="raise").fit(*data)
    assert search.best_score_ > 0.7


@pytest.mark.timeout(300)
def test_an_error_in_a_fit(backend: ScalerBackend, data: tuple[Any, Any]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    with pytest.raises(ValueError, match="'C' parameter"):
        GridSearchCV(LogisticRegression(), {"C": [1.0, -1.0]}, cv=2, error_score="raise").fit(*data)


# --- options of calls


@pytest.fixture
def watched(deployment: Deployment) -> Watched:
    return Watched(deployment)


def test_all_calls_of_a_block_have_its_options(watched: Watched) -> None:
    options = {"label": "search", "tags": {"desk": "rates"}}
    with joblib.parallel_config(backend="scaler", address=watched.address, n_jobs=2, **options) as config:
        assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]
        tasks = watched.tasks_of("search")
        assert {task["tags"] for task in tasks} == {"desk=rates"}
        config["backend"].close()


@pytest.mark.skipif(joblib.__version__.startswith("1.4."), reason="Parallel takes no settings of backends there")
def test_a_parallel_has_options_of_its_own(watched: Watched) -> None:
    with joblib.parallel_config(
        backend="scaler", address=watched.address, n_jobs=2, label="block", tags={"a": "1"}
    ) as config:
        own = Parallel(label="own", tags={"b": "2"})
        assert own(delayed(square)(number) for number in range(3)) == [0, 1, 4]
        assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]
        assert {task["tags"] for task in watched.tasks_of("own")} == {"a=1,b=2"}
        assert {task["tags"] for task in watched.tasks_of("block")} == {"a=1"}
        with pytest.raises(ValueError, match=r"label .* is not one line"):
            Parallel(label="two\nlines")(delayed(square)(number) for number in range(3))
        config["backend"].close()


def test_a_client_with_options_gives_them_to_calls(watched: Watched) -> None:
    with Client(watched.address) as client:
        with joblib.parallel_config(backend="scaler", client=client.with_options(label="mine"), n_jobs=2):
            assert Parallel()(delayed(square)(number) for number in range(3)) == [0, 1, 4]
        assert watched.tasks_of("mine")
        # It is still open.
        assert client.submit(square, 3).result() == 9


def test_options_are_checked_where_the_block_begins() -> None:
    with pytest.raises(TypeError, match=r"has no option lable; the options are address, n_workers, .*, label, tags"):
        joblib.parallel_config(backend="scaler", n_workers=2, lable="search")
    with pytest.raises(TypeError, match="tags must map names to values"):
        joblib.parallel_config(backend="scaler", n_workers=2, tags=["a"])


# --- keys


@pytest.mark.without_keys("it makes keys of its own")
def test_a_cluster_with_keys(tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    array = np.ones(50_000)
    with SchedulerClusterCombo(n_workers=2, security=keys) as cluster:
        address = cluster.get_address()
        with joblib.parallel_config(backend="scaler", address=address, security=keys) as config:
            assert Parallel()(delayed(square)(number) for number in range(100)) == [number**2 for number in range(100)]
            assert Parallel()(delayed(add_up)(array, number) for number in range(3)) == [50_000, 50_001, 50_002]
            with pytest.raises(ZeroDivisionError):
                Parallel()(delayed(divide)(number) for number in range(3))
            config["backend"].close()
        with pytest.raises(DisconnectedError):
            joblib.parallel_config(backend="scaler", address=address, timeout_seconds=1)


@pytest.mark.without_keys("it makes keys of its own")
def test_a_cluster_that_is_started_has_the_keys_of_the_block(tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    with joblib.parallel_config(backend="scaler", n_workers=2, security=keys) as config:
        assert Parallel()(delayed(square)(number) for number in range(4)) == [0, 1, 4, 9]
        address = config["backend"].client.address
        with pytest.raises(DisconnectedError):
            Client(address, timeout_seconds=1)
        config["backend"].close()
