"""The Symphony agent's core: what may run, what goes back, what is reported. No sockets, no Symphony."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest
from symphony_harness import BASE, CLIENT, FUNCTION, Harness

from scaler_adapters.symphony import task_runner
from scaler_adapters.symphony.core import effects, events
from scaler_adapters.symphony.task_runner import RemoteResult, RemoteTask, run_task
from scaler_protocol.capabilities import pin_to
from scaler_protocol.monitoring.profile_tree import CallTable, collapsed
from scaler_protocol.payloads import by_value
from scaler_protocol.payloads.framing import OBJECT, PER_CALL, PICKLED
from scaler_protocol.runtime.task_context import set_task_context
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import Retries
from scaler_protocol.wire.columns import Packed


@pytest.fixture(autouse=True)
def no_task_context() -> Iterator[None]:
    """Tasks that run in this process make it look like a Symphony service; the next test is none."""
    yield
    set_task_context(None)


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    numbers = [task.number for task in harness.running.values()]
    assert len(numbers) == len(set(numbers)), "a task runs twice"


def test_no_more_than_the_base_concurrency_runs(harness: Harness) -> None:
    harness.submit(1, 2, 3)
    assert harness.numbers() == [1, 2]
    harness.end(1)
    assert harness.numbers() == [2, 3]
    assert harness.answers() == {1: m.Status.SUCCESS}


def test_a_deeper_task_may_exceed_it_and_another_of_its_depth_may_not(harness: Harness) -> None:
    harness.submit(1, 2)
    harness.submit(3, 4, depth=1)
    assert harness.numbers() == [1, 2, 3]
    harness.submit(5, depth=2)
    assert harness.numbers() == [1, 2, 3, 5]
    harness.end(5)
    harness.end(3)
    assert harness.numbers() == [1, 2, 4]


def test_what_cannot_start_goes_back_when_nothing_ends(harness: Harness) -> None:
    harness.submit(1, 2, 3)
    assert not harness.take(m.TaskReturn)
    harness.advance(1.1)
    (returned,) = harness.take(m.TaskReturn)
    assert isinstance(returned, m.TaskReturn)
    assert list(returned.numbers) == [3]
    assert harness.core.snapshot().capacity == BASE + 1, "room for one deeper task"
    harness.submit(4, depth=1)
    assert harness.numbers() == [1, 2, 4]


def test_a_service_that_dies_and_a_session_that_is_lost_use_up_an_attempt(harness: Harness) -> None:
    harness.submit(1, 2, 3)
    harness.end(1, error="the service instance exited")
    assert harness.answers() == {1: m.Status.PROCESSOR_DIED}
    harness.handle(events.SessionLost("cut"))
    assert harness.answers() == {2: m.Status.PROCESSOR_DIED, 3: m.Status.PROCESSOR_DIED}
    assert harness.core.snapshot().capacity == 0
    harness.running.clear()
    assert effects.OpenSession() not in harness.others[1:]
    harness.advance(1.0)
    assert harness.others[-1] == effects.OpenSession()


def test_cancelled_tasks_are_answered_once_and_keep_their_place(harness: Harness) -> None:
    harness.submit(1, 2, 3)
    harness.incoming(m.TaskCancel(CLIENT, [1, 3]))
    assert harness.answers() == {1: m.Status.CANCELED, 3: m.Status.CANCELED}
    harness.submit(4)
    assert harness.numbers() == [1, 2]
    harness.end(1)
    assert harness.answers() == {}
    assert harness.numbers() == [2, 4]


@pytest.mark.parametrize("status", [m.Status.SUCCESS, m.Status.FAILED])
def test_large_results_and_exceptions_are_stored_first(harness: Harness, status: m.Status) -> None:
    object_id, buffers = b"r" * 16, (b"Ppickle", b"its buffer")
    harness.submit(1)
    harness.end(1, OBJECT + object_id, buffers=buffers, status=status)
    assert harness.others[-1] == effects.PutObject(object_id, CLIENT, buffers)
    assert harness.answers() == {}
    harness.handle(events.ObjectStored(object_id, ""))
    (batch,) = harness.take(m.ResultBatch)
    assert isinstance(batch, m.ResultBatch)
    assert batch.payloads.split() == [OBJECT + object_id]
    assert batch.objects == (object_id,)
    assert (list(batch.statuses) or [m.Status.SUCCESS]) == [status]


def test_a_result_that_cannot_be_stored_is_an_answer_and_a_failure_stays_one(harness: Harness) -> None:
    harness.submit(1, 2)
    harness.end(1, OBJECT + b"1" * 16, buffers=(b"Presult",))
    harness.end(2, OBJECT + b"2" * 16, buffers=(b"Pfailure",), status=m.Status.FAILED)
    harness.handle(events.ObjectStored(b"1" * 16, "it is full"))
    harness.handle(events.ObjectStored(b"2" * 16, "it is full"))
    answers = [batch for batch in harness.take(m.ResultBatch) if isinstance(batch, m.ResultBatch)]
    assert [(*batch.statuses, batch.payloads.split()) for batch in answers] == [
        (m.Status.STORAGE_FAILED, [b"it is full"]),
        (m.Status.FAILED, [b"Pfailure"]),
    ]


def test_objects_are_fetched_before_a_task_runs(harness: Harness) -> None:
    wanted = b"o" * 16
    harness.incoming(
        m.TaskBatch(
            CLIENT, [1, 2], (FUNCTION,), Packed.of([b"P", b"P"]), object_positions=[0, 1], objects=(wanted,) * 2
        )
    )
    assert harness.others.count(effects.FetchObject(wanted)) == 1
    assert harness.numbers() == []
    harness.handle(events.ObjectFetched(wanted, [b"Pvalue"], ""))
    assert harness.numbers() == [1, 2]
    harness.incoming(
        m.TaskBatch(CLIENT, [3], (FUNCTION,), Packed.of([b"P"]), object_positions=[0], objects=(b"x" * 16,))
    )
    harness.end(1)
    harness.handle(events.ObjectFetched(b"x" * 16, None, "it is gone"))
    assert harness.answers()[3] == m.Status.MISSING_OBJECT


def test_a_task_over_its_time_is_answered(harness: Harness) -> None:
    harness.submit(1)
    harness.advance(100.0)
    assert harness.answers() == {1: m.Status.TIMED_OUT}


def test_a_task_has_the_shorter_of_two_time_limits(harness: Harness) -> None:
    harness.submit(1, timeout_seconds=3)
    harness.submit(2, timeout_seconds=1000)
    assert harness.core.next_deadline() <= harness.now + 3
    harness.advance(2.9)
    assert harness.answers() == {}
    harness.advance(0.1)
    (batch,) = harness.take(m.ResultBatch)
    assert isinstance(batch, m.ResultBatch)
    assert (list(batch.numbers), list(batch.statuses)) == ([1], [m.Status.TIMED_OUT])
    assert batch.payloads.split() == [b"the task ran for more than 3 s (timeout_seconds); Symphony may go on with it"]
    harness.advance(97.0)
    assert harness.answers() == {2: m.Status.TIMED_OUT}


def test_the_runner_is_told_after_which_errors_a_task_is_tried_again(harness: Harness) -> None:
    harness.submit(1, retries=Retries(2, on=("builtins.OSError", "mine.Error")))
    harness.submit(2)
    assert [harness.running[harness.key_of(number)].retried_after for number in (1, 2)] == [
        ("builtins.OSError", "mine.Error"),
        (),
    ]
    harness.end(1, status=m.Status.RETRY)
    assert harness.answers() == {1: m.Status.RETRY}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"idempotent": False}, b"idempotent=False cannot be kept in Symphony"),
        ({"capabilities": pin_to(b"a" * 16, 1)}, b"worker=\xe2\x80\xa6 cannot be kept in Symphony"),
    ],
)
def test_what_symphony_cannot_keep_is_refused(harness: Harness, asked: dict[str, Any], words: bytes) -> None:
    harness.submit(1, **asked)
    harness.submit(2, priority=3, label="curves", capabilities=(("symphony", -1),))
    assert harness.numbers() == [2]
    (batch,) = harness.take(m.ResultBatch)
    assert isinstance(batch, m.ResultBatch)
    assert (list(batch.numbers), list(batch.statuses)) == ([1], [m.Status.NOT_RUN])
    assert batch.payloads.split()[0].startswith(words)


def run_with_retries(function: Any, *arguments: Any, is_chunk: bool = False) -> int:
    """Return the status of a task that may be tried again after an OSError."""
    payload = (False, [*arguments]) if is_chunk else (arguments, {})
    task = RemoteTask(
        b"P" + cloudpickle.dumps(function), b"P" + pickle.dumps(payload), (), b"", {}, is_chunk, 1, 0, "", ""
    )
    return RemoteResult(*run_task(*task._replace(retried_after=("builtins.OSError",)))).status


def raise_it(kind: Any) -> None:
    raise kind("as told")


def unserializable(kind: Any) -> Any:
    class Unserializable:
        def __reduce__(self) -> Any:
            raise kind("it cannot be sent")

    return Unserializable()


def test_the_runner_says_which_errors_are_to_be_tried_again() -> None:
    assert run_with_retries(raise_it, FileNotFoundError) == m.Status.RETRY
    assert run_with_retries(raise_it, ValueError) == m.Status.FAILED
    assert run_with_retries(abs, -1) == m.Status.SUCCESS
    assert run_with_retries(unserializable, OSError) == m.Status.FAILED
    assert run_with_retries(raise_it, FileNotFoundError, is_chunk=True) == m.Status.RETRY
    assert run_with_retries(raise_it, ValueError, is_chunk=True) == m.Status.SUCCESS


def test_draining_finishes_what_runs(harness: Harness) -> None:
    harness.submit(1, 2, 3)
    harness.incoming(m.Drain())
    (returned,) = harness.take(m.TaskReturn)
    assert isinstance(returned, m.TaskReturn)
    assert list(returned.numbers) == [3]
    harness.end(1)
    assert not harness.core.snapshot().stopped
    harness.end(2)
    assert harness.core.snapshot().stopped
    assert harness.answers() == {1: m.Status.SUCCESS, 2: m.Status.SUCCESS}


def test_an_unknown_function_is_an_answer(harness: Harness) -> None:
    harness.incoming(m.TaskBatch(CLIENT, [1], (b"?" * 16,), Packed.of([b"P"])))
    assert harness.answers() == {1: m.Status.NOT_RUN}


def test_the_runner_reports_whatever_happens() -> None:
    broken = RemoteTask(b"Pnonsense", b"P", (), b"", {}, False, 1, 0, "", "")
    result = RemoteResult(*run_task(*broken))
    assert result.status == m.Status.FAILED
    assert b"UnpicklingError" in result.payload


WITHOUT_US = """
import pickle, sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("scaler", "scaler_protocol", "scaler_adapters"):
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
"""

SERVICE = f"""{WITHOUT_US}
fn, *args = pickle.loads(bytes.fromhex(sys.stdin.read()))
sys.stdout.write(pickle.dumps([fn(*args) for _ in range(2)]).hex())
"""


@pytest.fixture
def soam() -> Iterator[Any]:
    """The module that sends the runner by value, which it tells all of this process; other tests need not hear it."""
    yield importlib.import_module("scaler_adapters.symphony.soam")
    cloudpickle.unregister_pickle_by_value(task_runner)
    del sys.modules["scaler_adapters.symphony.soam"]


def test_what_travels_by_value_needs_nothing_of_ours_in_the_service(soam: Any) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("import enum\nclass C(enum.Enum):\n A = 1\n B = 1\nn = 0", namespace)
    exec("def f():\n global n\n n += 1\n return C.B, n", namespace)
    function = PER_CALL + PICKLED + by_value.dumps(namespace["f"])
    task = RemoteTask(function, PICKLED + pickle.dumps(((), {})), [], b"", {}, False, 1, 0, "", "")
    payload = cloudpickle.dumps((task_runner.run_task_with, soam.MODULES, *task))
    # By standard input: one argument of a command line holds 128 KiB at most.
    done = subprocess.run(
        [sys.executable, "-c", SERVICE], input=payload.hex().encode(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for fields in pickle.loads(bytes.fromhex(done.stdout.decode())):
        result = RemoteResult(*fields)
        assert result.status == m.Status.SUCCESS, result.payload
        assert pickle.loads(result.payload[1:]) == (namespace["C"].A, 1)


PROFILED_SERVICE = f"""{WITHOUT_US}
answers = []
for payload in map(bytes.fromhex, sys.stdin.read().split()):
    fn, *args = pickle.loads(payload)
    answers.append(fn(*args))
sys.stdout.write(pickle.dumps(answers).hex())
"""


def test_a_service_that_knows_the_other_modules_gets_those_that_sample(soam: Any) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "import time\ndef spin(rounds):\n for number in range(rounds): pass\n"
        "def f(seconds):\n until = time.monotonic() + seconds\n while time.monotonic() < until: spin(100_000)",
        namespace,
    )
    function = PER_CALL + PICKLED + by_value.dumps(namespace["f"])
    tasks = [
        RemoteTask(
            function, PICKLED + pickle.dumps(((seconds,), {})), [], b"", {}, False, 1, 0, "", "", profile=profile
        )
        for seconds, profile in ((0.0, None), (0.5, (20.0, 200, FUNCTION)))
    ]
    modules = soam.MODULES, soam.PROFILE_MODULES
    payloads = [
        cloudpickle.dumps((task_runner.run_task_with, chosen, *task)).hex()
        for chosen, task in zip(modules, tasks, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROFILED_SERVICE],
        input=" ".join([*payloads, payloads[1]]).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *others = (RemoteResult(*fields) for fields in pickle.loads(bytes.fromhex(done.stdout.decode())))
    assert (first.status, first.profile) == (m.Status.SUCCESS, None)
    assert len(others) == 2
    for result in others:
        assert result.profile is not None
        _, samples, _, calls = result.profile
        assert samples > 10
        table = CallTable(*calls)
        stacks = collapsed(table)
        assert sum(table.microseconds) == pytest.approx(5e5, rel=0.4)
        begins = f"{FUNCTION.hex()};f (", f"{FUNCTION.hex()};(arguments and results)"
        assert all(line.startswith(begins) for line in stacks.splitlines()), stacks
        assert ";spin (" in stacks


def calls(microseconds: int) -> tuple[Any, ...]:
    return tuple(CallTable([0, 1], [0, 1], [2, 2], [0, 7], [0, microseconds], (FUNCTION.hex(), "f", "")))


def test_tasks_that_begin_while_a_profile_is_taken_bring_samples(harness: Harness) -> None:
    harness.submit(1)
    harness.incoming(m.ProfileRequest(3.0, 100, 1000))
    harness.submit(2)
    assert harness.running[harness.key_of(1)].profile is None, "nobody can tell it anything any more"
    assert harness.running[harness.key_of(2)].profile == (3.0, 100, FUNCTION)
    harness.end(2, profile=("host:1", 5, 100, calls(40)))
    harness.submit(3)
    harness.end(3, profile=("host:1", 6, 150, calls(50)))
    harness.advance(1.0)
    (told,) = harness.take(m.ProfileSamples)
    assert isinstance(told, m.ProfileSamples)
    assert (told.processors, told.samples, told.cost_microseconds) == (1, 11, 150)
    assert (list(told.microseconds), told.texts) == ([0, 90], (FUNCTION.hex(), "", "f"))
    # What a task brings that was cancelled meanwhile counts too.
    harness.submit(4)
    harness.incoming(m.TaskCancel(CLIENT, [4]))
    harness.end(4, profile=("host:2", 1, 10, calls(7)))
    harness.advance(1.0)
    (told,) = harness.take(m.ProfileSamples)
    assert isinstance(told, m.ProfileSamples)
    assert list(told.microseconds) == [0, 7]
    harness.advance(1.1)
    harness.advance(0.6)
    harness.take(m.ProfileSamples)
    harness.submit(5)
    assert harness.running[harness.key_of(5)].profile is None
    harness.end(5, profile=("host:1", 1, 1, calls(1)))
    harness.advance(5)
    assert not harness.take(m.ProfileSamples)


@pytest.mark.parametrize(
    "profile",
    [
        ("host", 1, 1, ()),
        ("host", -1, 1, calls(1)),
        ("host", 1, 1, ([7], [0], [0], [0], [0], ("f",))),
        ("host", 1, 1, ([0], [3], [0], [0], [0], ("f",))),
        ("host", 1, 1, ([0], [0], [0], [0], [-1], ("f",))),
        (1,),
        7,
    ],
)
def test_a_profile_that_a_task_has_spoiled_ends_nothing(harness: Harness, profile: Any) -> None:
    harness.incoming(m.ProfileRequest(3.0, 100, 1000))
    harness.submit(1)
    harness.end(1, profile=profile)
    harness.advance(1.0)
    (told,) = harness.take(m.ProfileSamples)
    assert isinstance(told, m.ProfileSamples)
    assert (told.samples, list(told.microseconds)) == (0, [])
    assert harness.answers() == {1: m.Status.SUCCESS}


def fork_and_wait(fails: bool) -> int:
    """Return, as the parent, how the child ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if fails:
        raise ValueError("in the child")
    return -1


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_a_task_forks_does_not_answer(fails: bool) -> None:
    function = b"P" + cloudpickle.dumps(fork_and_wait)
    arguments = b"P" + pickle.dumps(((fails,), {}))
    result = RemoteResult(*run_task(*RemoteTask(function, arguments, (), b"", {}, False, 1, 0, "", "")))
    assert result.status == m.Status.SUCCESS
    assert pickle.loads(result.payload[1:]) == int(fails)
