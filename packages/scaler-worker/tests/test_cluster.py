"""The real command: agent, template and processors, against a small scheduler on a real socket."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler_protocol.failures import StandIn, load_exception
from scaler_protocol.payloads.framing import (
    FAILURE_KEPT_BYTES_MAX,
    INLINE_BYTES_MAX,
    OBJECT,
    PICKLED,
    RAW_BYTES,
    Argument,
    Call,
    Failure,
    InputReference,
    Source,
    frame_arguments,
    frame_object,
    frame_payloads,
    unframe_object,
)
from scaler_protocol.testing.fake_scheduler import CLIENT, FakeScheduler, arguments, value_of
from scaler_protocol.testing.waiting import DEADLINE_SECONDS, wait_until
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import Status

START_SECONDS = 30.0
"""An agent starts in a second or two, and on a busy machine in more than ten."""

PATIENT = """
import sys
from scaler_worker.core import endings
from scaler_worker.main import main
endings.CANCEL_GRACE_SECONDS = 20.0
sys.exit(main())
"""
"""The command, with more time for tasks that are cancelled: a busy machine may keep a processor from running for a second."""

Start = Callable[..., tuple[FakeScheduler, subprocess.Popen[bytes]]]


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def wait_gone(pids: list[int], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until none of these lives. A zombie is dead: whoever inherits orphans here may not reap them."""
    wait_until(lambda: not any(map(_lives, pids)), seconds, what=lambda: f"still there: {list(filter(_lives, pids))}")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def object_folders(pid: int) -> list[str]:
    places = ("/dev/shm", tempfile.gettempdir())
    return [str(path) for place in places for path in Path(place).glob(f"scaler-objects-{pid}-*")]


@contextlib.contextmanager
def starting_clusters() -> Iterator[Start]:
    """Starts a scheduler and `scaler_cluster`; afterwards nothing of it may be left."""
    started: list[tuple[FakeScheduler, subprocess.Popen[bytes]]] = []

    def start_cluster(
        *flags: str, storage: bool = True, workers: int = 1, program: str = ""
    ) -> tuple[FakeScheduler, Any]:
        scheduler = FakeScheduler(storage=storage)
        source = ["-c", program] if program else ["-m", "scaler_worker"]
        command = [sys.executable, *source, scheduler.address, "-n", str(workers), *flags]
        agent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append((scheduler, agent))
        scheduler.wait_until(lambda: scheduler.hello, START_SECONDS)
        return scheduler, agent

    yield start_cluster
    for scheduler, agent in started:
        children = descendants(agent.pid)
        if agent.poll() is None:
            agent.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.communicate(timeout=15)
        if agent.poll() is None:
            agent.kill()
            agent.wait()
            pytest.fail("the agent did not end on SIGTERM")
        wait_gone(children)
        assert object_folders(agent.pid) == []
        scheduler.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Clusters of one test."""
    with starting_clusters() as start:
        yield start


@pytest.fixture(scope="module")
def shared_scheduler() -> Iterator[FakeScheduler]:
    """One cluster with one worker, for all tests whose tasks leave it as it was."""
    with starting_clusters() as start:
        scheduler, _ = start()
        yield scheduler


@pytest.fixture
def scheduler(shared_scheduler: FakeScheduler) -> FakeScheduler:
    """The scheduler of the shared cluster, to which nothing has been said in this test."""
    shared_scheduler.received.clear()
    shared_scheduler.puts.clear()
    shared_scheduler.objects.clear()
    return shared_scheduler


def waiting_for_file() -> Callable[[str], None]:
    """Return a task that ends once the file of this name is there; at once without a name. Workers cannot import this module."""

    def wait_for_file(path: str) -> None:
        while path and not os.path.exists(path):
            time.sleep(0.01)  # sleeps: a task that polls for a file

    return wait_for_file


def failure_of(outcome: tuple[int, bytes]) -> Failure:
    status, payload = outcome
    assert status == Status.FAILED, payload
    return Failure(*value_of(payload))


# --- ordinary tasks


def test_many_small_tasks(start: Start) -> None:
    scheduler, _ = start(workers=2)
    numbers = scheduler.submit(lambda x: x * 2, [arguments(i) for i in range(5000)])
    assert scheduler.values(numbers) == [2 * i for i in range(5000)]
    assert scheduler.capacity > 100


def test_keyword_arguments_builtins_and_results_by_value(scheduler: FakeScheduler) -> None:
    def keyword_only(*, a: int, **more: int) -> list[int]:
        return [a, *more.values()]

    assert scheduler.values(scheduler.submit(keyword_only, [arguments(a=1, b=2)])) == [[1, 2]]
    assert scheduler.values(scheduler.submit(max, [arguments(3, 5)])) == [5]
    (function,) = scheduler.values(scheduler.submit(lambda: lambda: 42, [arguments()]))
    assert function() == 42


def test_an_exception_arrives_with_its_traceback_and_without_our_frames(scheduler: FakeScheduler) -> None:
    def divide() -> float:
        return 1 / 0

    failure = failure_of(scheduler.wait_for_results(scheduler.submit(divide, [arguments()]))[0])
    assert (failure.type_name, failure.text) == ("ZeroDivisionError", "division by zero")
    assert "in divide" in failure.traceback_text
    assert "scaler_worker" not in failure.traceback_text
    error = load_exception(failure.pickled)
    assert isinstance(error, ZeroDivisionError)
    assert error.__traceback__ is not None


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_exceptions_that_end_programs_end_the_task_only(scheduler: FakeScheduler, raised: BaseException) -> None:
    def leave(error: BaseException) -> None:
        raise error

    pid = scheduler.values(scheduler.submit(os.getpid, [arguments()]))
    failure = failure_of(scheduler.wait_for_results(scheduler.submit(leave, [arguments(raised)]))[0])
    assert failure.type_name == type(raised).__name__
    assert scheduler.values(scheduler.submit(os.getpid, [arguments()])) == pid


def test_what_cannot_be_pickled_is_said_clearly(scheduler: FakeScheduler) -> None:
    def unpicklable_result() -> Any:
        import threading

        return threading.Lock()

    def unpicklable_error() -> None:
        import threading

        raise ValueError("with a lock", threading.Lock())

    failure = failure_of(scheduler.wait_for_results(scheduler.submit(unpicklable_result, [arguments()]))[0])
    assert "_thread.lock" in failure.text
    failure = failure_of(scheduler.wait_for_results(scheduler.submit(unpicklable_error, [arguments()]))[0])
    assert failure.type_name == "ValueError"
    assert "with a lock" in failure.text
    described: list[StandIn] = []

    def describe(known: StandIn) -> BaseException:
        described.append(known)
        return RuntimeError()

    load_exception(failure.pickled, describe)
    assert "_thread.lock" in described[0].reason


def test_arguments_that_cannot_be_restored_are_said_clearly(scheduler: FakeScheduler) -> None:
    payload = PICKLED + b"cno_such_module\nthing\n."
    failure = failure_of(scheduler.wait_for_results(scheduler.submit(str, [payload]))[0])
    assert "no_such_module" in failure.text
    assert "arguments" in failure.text


def test_a_map_chunk_keeps_values_and_failures_apart(scheduler: FakeScheduler) -> None:
    def invert(x: float) -> float:
        if x == 7:
            raise StopIteration
        return 1 / x

    chunk = PICKLED + pickle.dumps((False, [1, 0, 2, 7, 4]))
    numbers = scheduler.submit(invert, [chunk], kind=m.TaskKind.MAP_CHUNK)
    ((values, failures),) = scheduler.values(numbers)
    assert values == [1.0, None, 0.5, None, 0.25]
    assert {index: Failure(*value_of(payload)).type_name for index, payload in failures.items()} == {
        1: "ZeroDivisionError",
        3: "RuntimeError",
    }
    (told,) = [message for message in scheduler.received if isinstance(message, m.ChunkFailures)]
    assert (told.number, told.attempt, told.count) == (numbers[0], 1, 2)
    first = Failure(*value_of(told.payload))
    assert (first.pickled, first.type_name) == (b"", "ZeroDivisionError")
    starred = PICKLED + pickle.dumps((True, [(1, 2), (3, 4)]))
    assert scheduler.values(scheduler.submit(max, [starred], kind=m.TaskKind.MAP_CHUNK)) == [([2, 4], {})]
    listed = frame_payloads([arguments(1, 2), arguments(5, 4)])
    assert scheduler.values(scheduler.submit(max, [listed], kind=m.TaskKind.MAP_CHUNK)) == [([2, 5], {})]


@pytest.mark.parametrize("size", [FAILURE_KEPT_BYTES_MAX // 4, INLINE_BYTES_MAX + 1, 3 * 1024**2])
def test_of_a_large_failure_monitors_get_a_short_form_before_it(scheduler: FakeScheduler, size: int) -> None:
    def fail(size: int) -> None:
        raise ValueError("b" * size, bytes(size))

    numbers = scheduler.submit(fail, [arguments(size)])
    ((status, payload),) = scheduler.wait_for_results(numbers)
    assert status == Status.FAILED
    assert payload[:1] == OBJECT or FAILURE_KEPT_BYTES_MAX < len(payload) <= INLINE_BYTES_MAX
    (told,) = [message for message in scheduler.received if isinstance(message, m.ChunkFailures)]
    assert (told.number, told.attempt, told.count) == (numbers[0], 1, 0)
    assert len(told.payload) <= FAILURE_KEPT_BYTES_MAX
    short = Failure(*value_of(told.payload))
    assert (short.pickled, short.type_name) == (b"", "ValueError")
    assert short.text.startswith("('bbb")
    assert short.text.endswith(" characters, cut]")
    assert " characters, cut] … " in short.traceback_text


def test_graph_inputs_and_expressions(scheduler: FakeScheduler) -> None:
    payload = frame_arguments(
        [
            Argument(Source.INPUT, (1).to_bytes(2, "little")),
            Argument(Source.EXPRESSION, pickle.dumps([InputReference(0), Call(max, (InputReference(0), 3))])),
        ],
        {"key": Argument(Source.VALUE, pickle.dumps("value"))},
    )

    def collect(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    from scaler_protocol.wire.columns import Packed

    inputs = Packed.of([PICKLED + pickle.dumps(10), PICKLED + pickle.dumps("second")])
    numbers = scheduler.submit(collect, [payload], input_positions=[0, 0], inputs=inputs)
    assert scheduler.values(numbers) == [(("second", [10, 10]), {"key": "value"})]


def test_profiling_columns(scheduler: FakeScheduler) -> None:
    def use_memory() -> int:
        return len(b"x" * 50_000_000)

    scheduler.values(scheduler.submit(use_memory, [arguments()], flags=m.TaskFlag.PROFILE))
    batch = next(message for message in scheduler.received if isinstance(message, m.ResultBatch))
    assert batch.durations[0] > 0
    assert batch.cpu_times[0] > 0
    assert batch.memory_peaks[0] > 50_000_000


@pytest.mark.parametrize("flags", [0, m.TaskFlag.PROFILE])
def test_results_say_how_long_arguments_were_read_and_they_were_written(scheduler: FakeScheduler, flags: int) -> None:
    class Slow:
        def __reduce__(self) -> tuple[Any, ...]:
            time.sleep(0.003)  # sleeps: as a large value takes a while to serialize
            return restored, ()

    def restored() -> Slow:
        time.sleep(0.002)  # sleeps: as a large value takes a while to restore
        return Slow()

    def same(value: Any) -> Any:
        return value

    def none(value: Any) -> None:
        pass

    for function, value in ((same, Slow()), (none, Slow()), (same, 1)):
        scheduler.wait_for_results(scheduler.submit(function, [arguments(value)], flags=flags))
    batches = [message for message in scheduler.received if isinstance(message, m.ResultBatch)]
    both, reading, neither = [(sum(batch.read_times), sum(batch.write_times)) for batch in batches]
    assert both[0] >= 2_000
    assert both[1] >= 3_000
    assert reading[0] >= 2_000
    # Less than a millisecond is not told, whatever else this machine does meanwhile.
    assert not {*reading, *neither} & set(range(1, 1_000))


@pytest.mark.parametrize(
    "bits", [100_000, 5_000_000, 40_000_000], ids=["inline", "an object", "more than a record holds"]
)
@pytest.mark.parametrize("flags", [0, m.TaskFlag.PROFILE])
def test_large_integers_are_results(scheduler: FakeScheduler, bits: int, flags: int) -> None:
    def shifted(places: int) -> int:
        return 1 << places

    ((status, payload),) = scheduler.wait_for_results(scheduler.submit(shifted, [arguments(bits)], flags=flags))
    assert (status, len(payload) > bits // 8) == (0, bits == 100_000)


def test_output_is_streamed_in_order_before_the_result(scheduler: FakeScheduler) -> None:
    def talk() -> None:
        print("one")
        print("two", file=sys.stderr)
        print("three")

    (number,) = scheduler.submit(talk, [arguments()], flags=m.TaskFlag.STREAM_OUTPUT)
    scheduler.wait_for_results([number])
    told = [(x.stream, x.data) for x in scheduler.received if isinstance(x, m.Output) and x.number == number]
    assert told == [(1, b"one\n"), (2, b"two\n"), (1, b"three\n")]
    kinds = [type(x) for x in scheduler.received if isinstance(x, m.Output | m.ResultBatch)]
    assert kinds[-1] is m.ResultBatch


def test_output_over_the_budget_is_counted(start: Start) -> None:
    scheduler, _ = start()

    def flood() -> None:
        for _ in range(30):
            print("x" * 99_999)

    (number,) = scheduler.submit(flood, [arguments()], flags=m.TaskFlag.STREAM_OUTPUT)
    scheduler.wait_for_results([number])
    outputs = [x for x in scheduler.received if isinstance(x, m.Output)]
    assert sum(len(x.data) for x in outputs) == 1024 * 1024
    assert outputs[-1].dropped_bytes == 3_000_000 - 1024 * 1024


def test_results_of_short_tasks_do_not_wait_for_a_long_one(scheduler: FakeScheduler, tmp_path: Path) -> None:
    scheduler.values(scheduler.submit(waiting_for_file(), [arguments("")] * 200))
    file = tmp_path / "may-end"
    numbers = scheduler.submit(waiting_for_file(), [arguments("")] * 5 + [arguments(str(file))])
    scheduler.wait_for_results(numbers[:5])
    assert numbers[5] not in scheduler.results
    file.touch()
    scheduler.wait_for_results(numbers)


# --- custom serializer


def test_a_custom_serializer_is_used_for_everything(scheduler: FakeScheduler) -> None:
    class Reversed:
        @staticmethod
        def serialize(value: Any) -> bytes:
            import cloudpickle

            return bytes(reversed(cloudpickle.dumps(value)))

        @staticmethod
        def deserialize(data: bytes) -> Any:
            return pickle.loads(bytes(reversed(data)))

    serializer = scheduler.define(Reversed)
    body = b"S" + Reversed.serialize(max)
    payload = frame_arguments([Argument(Source.VALUE, Reversed.serialize(i)) for i in (3, 5)], {})
    numbers = scheduler.submit_body(body, [payload], serializer=serializer)
    ((status, result),) = scheduler.wait_for_results(numbers)
    assert (status, result[:1], Reversed.deserialize(result[1:])) == (0, b"S", 5)
    chunk = frame_payloads([payload, payload])
    numbers = scheduler.submit_body(body, [chunk], serializer=serializer, kind=m.TaskKind.MAP_CHUNK)
    ((values, failures),) = scheduler.values(numbers)
    assert ([Reversed.deserialize(value) for value in values], failures) == ([5, 5], {})


# --- objects


def test_large_results_become_objects(scheduler: FakeScheduler) -> None:
    numbers = scheduler.submit(lambda: b"x" * 5_000_000, [arguments()])
    ((status, payload),) = scheduler.wait_for_results(numbers)
    object_id = unframe_object(payload)
    assert status == Status.SUCCESS
    assert object_id is not None
    assert scheduler.objects[object_id] == [RAW_BYTES, b"x" * 5_000_000]
    assert scheduler.puts[0].owner == CLIENT
    batch = next(message for message in scheduler.received if isinstance(message, m.ResultBatch))
    assert batch.objects == (object_id,)


def test_object_arguments_are_fetched_once_and_their_buffers_writable(start: Start) -> None:
    np = pytest.importorskip("numpy")
    scheduler, _ = start(workers=2)
    buffers: list[pickle.PickleBuffer] = []
    header = PICKLED + pickle.dumps(np.arange(1_000_000), 5, buffer_callback=buffers.append)
    scheduler.objects[b"o" * 16] = [header, bytes(buffers[0].raw())]

    def write_first(array: Any, value: int) -> tuple[int, int]:
        before = int(array[0])
        array[0] = value
        return before, int(array[0])

    payloads = [
        frame_arguments([Argument(Source.OBJECT, b"o" * 16), Argument(Source.VALUE, pickle.dumps(i))], {})
        for i in range(1, 9)
    ]
    numbers = scheduler.submit(write_first, payloads, object_positions=[0], objects=(b"o" * 16,))
    assert scheduler.values(numbers) == [(0, i) for i in range(1, 9)]
    assert scheduler.gets == 1


def test_a_missing_object_fails_the_task(scheduler: FakeScheduler) -> None:
    payload = frame_arguments([Argument(Source.OBJECT, b"m" * 16)], {})
    ((status, text),) = scheduler.wait_for_results(scheduler.submit(len, [payload]), 20)
    assert status == Status.MISSING_OBJECT
    assert (b"m" * 16).hex().encode() in text


def test_whole_arguments_and_functions_can_be_objects(scheduler: FakeScheduler) -> None:
    scheduler.objects[b"a" * 16] = [b"F" + arguments([1, 2, 3])]
    scheduler.objects[b"f" * 16] = [PICKLED + pickle.dumps(sum)]
    from scaler_protocol.ids import ObjectId

    numbers = scheduler.submit_body(frame_object(ObjectId(b"f" * 16)), [frame_object(ObjectId(b"a" * 16))])
    assert scheduler.values(numbers) == [6]


# --- ends


def test_a_processor_that_dies_is_explained_and_replaced(start: Start) -> None:
    scheduler, _ = start()

    def crash() -> None:
        sys.stderr.write("the last words\n")
        os.kill(os.getpid(), signal.SIGSEGV)

    (pid,) = scheduler.values(scheduler.submit(os.getpid, [arguments()]))
    ((status, text),) = scheduler.wait_for_results(scheduler.submit(crash, [arguments()]))
    assert status == Status.PROCESSOR_DIED
    for part in (f"processor {pid}", "SIGSEGV", "MiB", "the last words"):
        assert part in text.decode()
    ((status, text),) = scheduler.wait_for_results(scheduler.submit(os._exit, [arguments(7)]))
    assert (status, b"exit code 7" in text) == (Status.PROCESSOR_DIED, True)
    assert scheduler.values(scheduler.submit(len, [arguments("abc")])) == [3]


def test_a_dead_processor_takes_only_its_running_task_along(start: Start) -> None:
    scheduler, _ = start()

    def exit_at(i: int) -> int:
        if i == 50:
            os._exit(1)
        return i

    scheduler.values(scheduler.submit(exit_at, [arguments(0)] * 100))
    outcomes = scheduler.wait_for_results(scheduler.submit(exit_at, [arguments(i) for i in range(200)]))
    assert [i for i, (status, _) in enumerate(outcomes) if status != Status.SUCCESS] == [50]


def test_what_a_dead_processor_started_dies_too(start: Start) -> None:
    scheduler, _ = start()

    def start_child() -> int:
        return subprocess.Popen(["sleep", "60"]).pid

    (child,) = scheduler.values(scheduler.submit(start_child, [arguments()]))
    scheduler.wait_for_results(scheduler.submit(os._exit, [arguments(1)]))
    wait_gone([child])


def test_a_running_task_is_cancelled_politely(start: Start) -> None:
    scheduler, _ = start(program=PATIENT)
    (pid,) = scheduler.values(scheduler.submit(os.getpid, [arguments()]))
    numbers = scheduler.submit(time.sleep, [arguments(60)])
    scheduler.wait_until_running()
    scheduler.send(m.TaskCancel(CLIENT, list(numbers)))
    assert scheduler.wait_for_results(numbers, 15)[0][0] == Status.CANCELED
    assert scheduler.values(scheduler.submit(os.getpid, [arguments()])) == [pid]


def test_a_task_that_refuses_to_end_is_cancelled_with_its_processor(start: Start) -> None:
    scheduler, _ = start()

    def stubborn() -> None:
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(10)  # sleeps: a task that goes on after it was cancelled

    numbers = scheduler.submit(stubborn, [arguments()])
    scheduler.wait_until_running()
    scheduler.send(m.TaskCancel(CLIENT, list(numbers)))
    assert scheduler.wait_for_results(numbers)[0][0] == Status.CANCELED
    assert scheduler.values(scheduler.submit(len, [arguments("abc")])) == [3]


def test_a_task_over_its_time_is_ended(start: Start) -> None:
    scheduler, _ = start("--task-timeout-seconds", "0.5")
    numbers = scheduler.submit(time.sleep, [arguments(60)])
    ((status, text),) = scheduler.wait_for_results(numbers)
    assert status == Status.TIMED_OUT
    assert b"0.5 s" in text


def test_a_blocked_task_lets_others_run(start: Start) -> None:
    scheduler, _ = start()

    def wait_for(path: str) -> str:
        from scaler_protocol.runtime.task_context import current_task_context

        context = current_task_context()
        assert context is not None
        context.enter_blocked()
        try:
            while not os.path.exists(path):
                time.sleep(0.01)  # sleeps: a task that polls for a file
        finally:
            context.exit_blocked()
        os.unlink(path)
        return f"depth {context.depth}, task {context.task_number}"

    path = f"/tmp/scaler-test-{os.getpid()}"
    waiting = scheduler.submit(wait_for, [arguments(path)], depth=3)
    scheduler.wait_until(lambda: scheduler.capacity == 3)
    scheduler.wait_for_results(scheduler.submit(open, [arguments(path, "w")], depth=4))
    assert scheduler.values(waiting) == [f"depth 3, task {waiting[0]}"]


def test_a_client_inside_a_task_speaks_through_the_agent(start: Start) -> None:
    scheduler, _ = start()

    def converse() -> list[int]:
        import threading

        from scaler_protocol.runtime.task_context import current_task_context

        context = current_task_context()
        assert context is not None
        answers: list[int] = []
        arrived = threading.Event()

        def on_answer(frames: Any) -> None:
            answers.extend(len(frame) for frame in frames)
            arrived.set()

        context.open_relay(b"n" * 16, on_answer, lambda: None, "pickle")
        context.relay(b"n" * 16, [b"envelope", b"y" * 200_000])
        assert arrived.wait(20)
        context.close_relay(b"n" * 16)
        return answers

    numbers = scheduler.submit(converse, [arguments()])
    scheduler.wait_until(lambda: any(isinstance(x, m.Relay) for x in scheduler.received))
    relay = next(x for x in scheduler.received if isinstance(x, m.Relay))
    assert [len(frame) for frame in relay.inner] == [8, 200_000]
    scheduler.send_plain(m.Relay(b"n" * 16, [b"answer", b"z" * 100_000]))
    assert scheduler.values(numbers) == [[6, 100_000]]
    scheduler.wait_until(lambda: m.ClientGone(b"n" * 16) in scheduler.received)


# --- the life of the service


def test_preload_runs_once_in_every_processor(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preloaded_module.py").write_text("calls = []\ndef prepare(*a, **k): calls.append((a, k))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    scheduler, _ = start("--preload", "preloaded_module:prepare(1, key='x')")

    def calls() -> Any:
        import preloaded_module  # type: ignore[import-not-found]

        return preloaded_module.calls

    assert scheduler.values(scheduler.submit(calls, [arguments()])) == [[((1,), {"key": "x"})]]


def test_a_preload_that_fails_ends_the_command_with_one_clear_line(start: Start) -> None:
    _, agent = start("--preload", "no_such_module:f()")
    _, stderr = agent.communicate(timeout=30)
    assert agent.returncode == 1
    assert b"--preload no_such_module:f(): ModuleNotFoundError" in stderr.splitlines()[-1]


def test_no_scheduler_for_too_long_ends_the_command() -> None:
    command = [sys.executable, "-m", "scaler_worker", "tcp://127.0.0.1:1", "-n", "1", "-dts", "0.5"]
    ended = subprocess.run(command, capture_output=True, timeout=50)
    assert ended.returncode == 1
    assert b"no scheduler has answered at tcp://127.0.0.1:1 for " in ended.stderr


def test_sigterm_lets_a_running_task_finish(start: Start, tmp_path: Path) -> None:
    scheduler, agent = start()
    scheduler.values(scheduler.submit(len, [arguments("")]))
    file = tmp_path / "may-end"
    numbers = scheduler.submit(waiting_for_file(), [arguments(str(file))] * 2)
    scheduler.wait_until_running()
    agent.terminate()
    scheduler.wait_until(
        lambda: any(isinstance(x, m.TaskReturn) and list(x.numbers) == [numbers[1]] for x in scheduler.received)
    )
    assert numbers[0] not in scheduler.results
    file.touch()
    assert scheduler.values(numbers[:1]) == [None]
    scheduler.wait_until(lambda: agent.poll() is not None)
    scheduler.poll()
    assert agent.returncode == 0
    assert numbers[1] not in scheduler.results


def test_a_killed_agent_leaves_nothing_behind(start: Start) -> None:
    scheduler, agent = start(workers=2)

    def start_child() -> int:
        return subprocess.Popen(["sleep", "60"]).pid

    (child,) = scheduler.values(scheduler.submit(start_child, [arguments()]))
    scheduler.submit(time.sleep, [arguments(30)] * 2)
    scheduler.wait_until_running(2)
    children = descendants(agent.pid)
    assert child in children
    agent.kill()
    agent.wait()
    wait_gone(children)
    assert object_folders(agent.pid) == []


def test_the_agent_survives_the_death_of_the_template(start: Start) -> None:
    scheduler, agent = start()
    scheduler.values(scheduler.submit(len, [arguments("")]))
    numbers = scheduler.submit(time.sleep, [arguments(30)])
    scheduler.wait_until_running()
    os.kill(descendants(agent.pid)[0], signal.SIGKILL)
    assert scheduler.wait_for_results(numbers)[0][0] == Status.PROCESSOR_DIED
    assert scheduler.values(scheduler.submit(len, [arguments("abc")])) == [3]


def test_a_scheduler_that_starts_again_learns_what_is_held(start: Start, tmp_path: Path) -> None:
    scheduler, _ = start()
    file = tmp_path / "may-end"
    numbers = scheduler.submit(waiting_for_file(), [arguments(str(file)), arguments("")])
    scheduler.wait_until_running()
    scheduler.forget_session(b"t" * 16)
    scheduler.wait_until(lambda: any(isinstance(x, m.Inventory) for x in scheduler.received))
    inventory = next(x for x in scheduler.received if isinstance(x, m.Inventory))
    held = dict(zip(inventory.numbers, inventory.states, strict=True))
    assert held == {numbers[0]: m.HeldState.RUNNING, numbers[1]: m.HeldState.QUEUED}
    file.touch()
    assert [status for status, _ in scheduler.wait_for_results(numbers)] == [0, 0]


def test_names_and_capabilities_are_announced(start: Start) -> None:
    scheduler, _ = start("-wn", "left,right", "-pwc", "linux,gpu=2", workers=2)
    assert scheduler.hello is not None
    assert scheduler.hello.worker_names == ("left", "right")
    assert scheduler.hello.capabilities == (("gpu", 2), ("linux", -1))


def test_processors_import_no_network_library(start: Start) -> None:
    scheduler, _ = start()

    def imported() -> list[str]:
        return sorted({"zmq", "capnp", "pydantic", "psutil", "asyncio"} & set(sys.modules))

    assert scheduler.values(scheduler.submit(imported, [arguments()])) == [[]]
