"""Everything a task can do to its process, and an innocent task afterwards, which works or gets a fresh process.

The table says how each hostile task itself ends. What it means is the docstring of its function, in `hostile`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import psutil
import pytest

from scaler import Client
from scaler.errors import ProcessorDiedError, TaskTimeoutError
from tests.integration import hostile as h
from tests.integration.deployment import ROOT, Deployment, Service, wait_for

LIMIT_S = 40.0
TASK_TIMEOUT_S = 5


class Ends(Enum):
    RAISES = "its exception, or one that says what can be said of it"
    DIES = "ProcessorDiedError, after as many attempts as there may be"
    TIMES_OUT = "TaskTimeoutError"
    ANSWERS = "its result or an exception, as the task has spoilt what results are made with"
    SOMEHOW = "with its result, or ProcessorDiedError: that depends on the machine's limits"


CASES: list[tuple[Callable[[], Any], Any]] = [
    (h.raise_frozen, Ends.RAISES),
    (h.raise_without_setattr, Ends.RAISES),
    (h.raise_unpicklable, Ends.RAISES),
    (h.raise_unprintable, Ends.RAISES),
    (h.raise_without_traceback, Ends.RAISES),
    (h.raise_with_metaclass, Ends.RAISES),
    (h.die_while_described, Ends.DIES),
    (h.return_that_exits, Ends.DIES),
    (h.return_that_kills, Ends.DIES),
    (h.return_that_interrupts, Ends.RAISES),
    (h.return_that_leaves, Ends.RAISES),
    (h.return_that_closes, Ends.RAISES),
    (h.hold_deleted_that_raises, 1),
    (h.return_deleted_that_exits, Ends.DIES),
    (h.exit_at_once, Ends.DIES),
    (h.abort, Ends.DIES),
    (h.kill_self, Ends.DIES),
    (h.terminate_group, Ends.DIES),
    (h.terminate_parent, "done"),
    (h.interrupt_self, Ends.RAISES),
    (h.overflow_stack, Ends.DIES),
    (h.read_nowhere, Ends.DIES),
    (h.exit_in_thread, "done"),
    (h.close_all_but_standard, "done"),
    (h.close_all, Ends.SOMEHOW),
    (h.close_standard, "done"),
    (h.redirect_standard, "done"),
    (h.redirect_everything, Ends.DIES),
    (h.write_garbage, Ends.DIES),
    (h.write_without_end, Ends.DIES),
    (h.close_objects, Ends.SOMEHOW),
    (h.replace_stdout, "done"),
    (h.no_streams, "done"),
    (h.close_streams, "done"),
    (h.close_input, "done"),
    (h.detach_input, "done"),
    (h.detach_streams, "done"),
    (h.reconfigure_streams, "done"),
    (h.read_stdin, "nobody"),
    (h.patch_clock, "done"),
    (h.patch_clock_below, "done"),
    (h.patch_ids, "done"),
    (h.patch_pickle, Ends.ANSWERS),
    (h.patch_struct, "done"),
    (h.patch_socket, "done"),
    (h.spoil_len, Ends.ANSWERS),
    (h.spoil_builtins, Ends.DIES),
    (h.lower_recursion_limit, "done"),
    (h.clear_modules, "done"),
    (h.clear_path, "done"),
    (h.disable_collector, "done"),
    (h.trace_raising, "done"),
    (h.profile_left, "done"),
    (h.profile_raising, Ends.RAISES),
    (h.spoil_hooks, "done"),
    (h.raise_in_all_threads, "done"),
    (h.error_filters, "done"),
    (h.decimal_context, "done"),
    (h.set_locale, "done"),
    (h.socket_timeout, "done"),
    (h.running_loop, "done"),
    (h.spoil_logging, "done"),
    (h.exit_handlers, "done"),
    (h.handle_signals, "done"),
    (h.block_signals, "done"),
    (h.leave_alarm, "done"),
    (h.leave_raising_alarm, "done"),
    (h.leave_faulthandler, "done"),
    (h.removed_folder, "done"),
    (h.clear_environment, "done"),
    (h.exchange_variables, "done"),
    (h.strict_umask, "done"),
    (h.limit_memory, "done"),
    (h.limit_data, "done"),
    (h.limit_memory_for_good, "done"),
    (h.limit_files, "done"),
    (h.limit_file_size, "done"),
    (h.limit_time, "done"),
    (h.use_up_time, Ends.DIES),
    (h.leave_daemon_thread, "done"),
    (h.leave_thread, "done"),
    (h.leave_raising_thread, "done"),
    (h.leave_exiting_thread, "done"),
    (h.leave_lock, "done"),
    (h.leave_child, "done"),
    (h.leave_session, "done"),
    (h.leave_daemon, "done"),
    (h.change_group, "done"),
    (h.fork_and_return, "parent"),
    (h.fork_and_raise, "parent"),
    (h.fork_and_exit, "parent 3"),
    (h.fork_and_exit_hard, "parent 4"),
    (h.fork_and_outlive, "parent"),
    (h.fork_in_thread, "parent [0]"),
    (h.fork_and_print, "parent"),
    (h.use_multiprocessing, [value * value for value in range(10)] + [5]),
    (h.use_spawn, [1, 2]),
]

ENDLESS: list[Callable[[], Any]] = [
    h.return_that_never_comes,
    h.spin_without_end,
    h.stop_self,
    h.change_group_and_spin,
]


@pytest.fixture(scope="module")
def worker(module_deployment: Deployment) -> Service:
    """One worker, so that every task runs where the one before it has been."""
    scheduler = module_deployment.scheduler()
    return module_deployment.workers(scheduler, count=1)


@pytest.fixture(scope="module")
def client(module_deployment: Deployment, worker: Service) -> Iterator[Client]:
    with Client(address=module_deployment.services[0].address) as client:
        yield client


def assert_innocent_tasks_work(client: Client) -> None:
    assert client.submit(h.innocent).result(LIMIT_S) == h.INNOCENT


def assert_ends(future: Any, ends: object) -> None:
    error = future.exception(LIMIT_S)
    if ends is Ends.RAISES:
        assert error is not None
        assert not isinstance(error, ProcessorDiedError | TaskTimeoutError)
    elif ends is Ends.DIES:
        assert isinstance(error, ProcessorDiedError)
        assert "attempt 3 of 3" in str(error)
    elif ends is Ends.TIMES_OUT:
        assert isinstance(error, TaskTimeoutError)
    elif ends is Ends.ANSWERS:
        assert not isinstance(error, ProcessorDiedError)
    elif ends is Ends.SOMEHOW:
        assert error is None or isinstance(error, ProcessorDiedError)
    else:
        assert error is None
        assert future.result() == ends


@pytest.mark.parametrize(("task", "ends"), CASES, ids=[task.__name__ for task, _ in CASES])
def test_an_innocent_task_works_after(client: Client, task: Callable[[], Any], ends: object) -> None:
    assert_ends(client.submit(task), ends)
    assert_innocent_tasks_work(client)


@pytest.mark.parametrize("task", [task for task, ends in CASES if ends == "done"], ids=lambda task: task.__name__)
def test_an_innocent_task_works_after_one_of_many_quick_ones(client: Client, task: Callable[[], Any]) -> None:
    """The function is known to be quick, and has been harmless 50 times; the innocent task waits behind it."""
    assert client.submit(h.do_at_last, None).result(LIMIT_S) is None
    quick = [client.submit(h.do_at_last, None) for _ in range(50)]
    hostile = client.submit(h.do_at_last, task)
    innocent = client.submit(h.innocent)
    assert [future.result(LIMIT_S) for future in quick] == [None] * 50
    assert hostile.result(LIMIT_S) == "done"
    assert innocent.result(LIMIT_S) == h.INNOCENT


def test_an_innocent_task_works_after_quick_ones_on_every_road(client: Client) -> None:
    with (
        Client(address=client.address, profiling=True) as profiling,
        Client(address=client.address, stream_output=True) as streaming,
    ):
        for harmless in ([None] * 8, [None] * 8):
            assert client.map(h.do_at_last, harmless) == harmless
        for task in (h.limit_files, h.patch_clock, h.close_streams, h.strict_umask, h.socket_timeout):
            hostile = [
                client.submit(h.do_at_last, task),
                profiling.submit(h.do_at_last, task),
                streaming.submit(h.do_at_last, task),
                client.get({"a": (h.do_at_last, task)}, "a", block=False)["a"],
            ]
            innocent = [client.submit(h.innocent) for _ in hostile]
            for future in hostile:
                assert_ends(future, "done")
            assert [future.result(LIMIT_S) for future in innocent] == [h.INNOCENT] * len(innocent)
            chunks = client.map(h.do_at_last, [None, None, task])
            assert chunks == [None, None, "done"]
            assert_innocent_tasks_work(client)


def test_endless_tasks_end_at_their_time_limit(deployment: Deployment) -> None:
    """Whatever they do meanwhile: also while the result is pickled, or out of reach of a signal to the group."""
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--task-timeout-seconds", str(TASK_TIMEOUT_S), count=len(ENDLESS))
    client = deployment.client(scheduler)
    for future in [client.submit(task) for task in ENDLESS]:
        assert_ends(future, Ends.TIMES_OUT)
    assert_innocent_tasks_work(client)


@pytest.mark.parametrize("streams", [False, True])
def test_the_thread_that_obeys_the_agent_bears_with_replaced_functions(client: Client, streams: bool) -> None:
    """It used to die of the first of them that it looked up, and its processor with it after the task."""
    with Client(address=client.address, stream_output=streams) as streaming:
        before = streaming.submit(h.process_id).result(LIMIT_S)
        replacing = streaming.submit(h.replace_standard_functions, 1.0)
        assert replacing.result(LIMIT_S) == (before, True)
        assert streaming.submit(h.process_id).result(LIMIT_S) == before
    assert_innocent_tasks_work(client)


def test_a_task_that_has_replaced_functions_is_cancelled(client: Client) -> None:
    before = client.submit(h.process_id).result(LIMIT_S)
    replacing = client.submit(h.replace_standard_functions, LIMIT_S)
    wait_for("it runs and says so", lambda: replacing.progress() is not None)
    assert replacing.cancel()
    assert client.submit(h.process_id).result(LIMIT_S) == before


def test_an_exception_that_comes_between_two_tasks_costs_neither(client: Client) -> None:
    """Set for the main thread from another one, or raised by a signal handler: the processor is replaced."""
    before = client.submit(h.raise_between_tasks).result(LIMIT_S)

    def is_replaced() -> bool:
        return bool(client.submit(h.process_id).result(LIMIT_S) != before)

    wait_for("another processor", is_replaced)
    assert_innocent_tasks_work(client)


@pytest.mark.parametrize("what", ["exit", "kill", "system exit", "interrupt"])
def test_arguments_that_do_something_when_they_are_restored(client: Client, what: str) -> None:
    ends = Ends.DIES if what in ("exit", "kill") else Ends.RAISES
    assert_ends(client.submit(len, [h.Restored(what)]), ends)
    assert_innocent_tasks_work(client)


def test_the_same_on_every_road(client: Client) -> None:
    """Items, rows, profiled and streamed tasks fail or die as single tasks do."""
    for values, failing in (([1, 2, 3, 4], h.raise_for_three), ([1, 2, 3, 4], h.return_that_raises_for_three)):
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is another test's concern
            client.map(failing, values)
        assert not isinstance(caught.value, ProcessorDiedError)
    with pytest.raises(ProcessorDiedError):
        client.map(h.exit_for_three, [1, 2, 3, 4])
    with pytest.raises(ProcessorDiedError):
        client.get({"a": (h.return_that_exits,)}, "a")
    with Client(address=client.address, profiling=True) as profiling:
        assert_ends(profiling.submit(h.return_that_kills), Ends.DIES)
    with Client(address=client.address, stream_output=True) as streaming:
        assert_ends(streaming.submit(h.die_while_described), Ends.DIES)
        assert_ends(streaming.submit(h.close_standard), "done")
        assert_ends(streaming.submit(h.raise_frozen), Ends.RAISES)
    assert_innocent_tasks_work(client)


def test_an_item_that_forks_answers_once(client: Client) -> None:
    assert client.map(h.fork_item, range(10)) == [(value, True) for value in range(10)]


def test_a_fork_while_arguments_are_restored_runs_nothing_and_a_result_that_forks_comes_once(
    client: Client, tmp_path: Path
) -> None:
    path = str(tmp_path / "lines")
    assert client.submit(h.append_line, path, h.Restored("fork")).result(LIMIT_S) == 1
    assert client.submit(h.return_that_forks).result(LIMIT_S) == "parent"
    assert Path(path).read_text().splitlines() == ["once"]
    assert_innocent_tasks_work(client)


def test_a_graph_row_that_forks_answers_once(client: Client) -> None:
    assert client.get({"a": (h.fork_and_return,), "b": (str.upper, "a")}, ["a", "b"]) == {"a": "parent", "b": "PARENT"}


def test_hostile_tasks_hold_nobody_up(deployment: Deployment) -> None:
    """As many as there are workers used to block everybody, with thousands of processors a minute."""
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, count=2)
    client = deployment.client(scheduler)
    innocent = [client.submit(abs, -number) for number in range(50)]
    hostile = [client.submit(task) for task in (h.die_while_described, h.return_that_exits) * 3]
    innocent += [client.submit(abs, -number) for number in range(50, 100)]
    assert [future.result(LIMIT_S) for future in innocent] == list(range(100))
    for future in hostile:
        assert_ends(future, Ends.DIES)
    assert_innocent_tasks_work(client)
    assert workers.log().count(" ended with exit code") == 3 * len(hostile)


def test_a_processor_that_stands_still_is_replaced(deployment: Deployment) -> None:
    """Without any time limit, and with tasks handed over behind the one that stopped it."""
    scheduler = deployment.scheduler("--max-task-attempts", "1")
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    assert client.submit(h.stop_if, False).result(LIMIT_S) is None
    stopped = client.submit(h.stop_if, True)
    behind = [client.submit(h.stop_if, False) for _ in range(5)]
    with pytest.raises(ProcessorDiedError, match="SIGSTOP"):
        stopped.result(LIMIT_S)
    assert [future.result(LIMIT_S) for future in behind] == [None] * 5
    with pytest.raises(ProcessorDiedError, match="exit code 3"):
        client.submit(h.stop_parent_and_exit).result(LIMIT_S)
    assert_innocent_tasks_work(client)


def test_no_process_is_left_behind(deployment: Deployment) -> None:
    """Neither children, nor those in sessions of their own, nor daemons."""
    scheduler = deployment.scheduler()
    worker = deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    for task in (h.leave_child, h.leave_session, h.leave_daemon):
        assert client.submit(task).result(LIMIT_S) == "done"

    def sleeping() -> list[psutil.Process]:
        return [child for child in psutil.Process(worker.pid).children(recursive=True) if child.name() == "sleep"]

    wait_for("all three run", lambda: len(sleeping()) == 3)
    started = sleeping()
    worker.terminate()
    wait_for("all of them have ended", lambda: not any(child.is_running() for child in started))


# --- what tasks print and log


def in_a_pool(task: Callable[[], Any]) -> Any:
    """Return what a task returns in `concurrent.futures`, in a program whose streams nobody has replaced."""
    program = (
        "import concurrent.futures, json\n"
        "from tests.integration import hostile\n"
        "with concurrent.futures.ProcessPoolExecutor(1) as pool:\n"
        f"    print(json.dumps(pool.submit(hostile.{task.__name__}).result()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=LIMIT_S, check=True)
    return json.loads(done.stdout)


def test_standard_streams_are_what_they_are_in_a_pool(client: Client) -> None:
    ours, pools = client.submit(h.describe_streams).result(LIMIT_S), in_a_pool(h.describe_streams)
    # What cannot be encoded is written as escapes in a worker, whatever the system's settings are: there no print fails of it.
    assert {stream.pop("errors") for stream in ours} == {"backslashreplace"}
    assert all(stream.pop("errors") for stream in pools)
    assert ours == pools


def test_bytes_lines_and_other_encodings_reach_the_client(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    with Client(address=client.address, stream_output=True) as streaming:
        assert streaming.submit(h.write_in_all_ways).result(LIMIT_S) == "done"
        seen = ""

        def ended() -> bool:
            nonlocal seen
            seen += capfd.readouterr().out
            return "the end" in seen

        wait_for("the task's output", ended)
    for line in ("written as bytes", "first of lines", "second of lines", "in Latin-1: äöü", "the end"):
        assert line in seen.splitlines()


def test_basic_config_in_a_task_does_what_it_does_elsewhere(client: Client, worker: Service) -> None:
    assert client.submit(h.configure_logging).result(LIMIT_S) == in_a_pool(h.configure_logging) == [0, 1, 1]
    worker.wait_log("format of the task's: a record of the task's")
    # It stays for the tasks behind, as in a pool; and the worker's own format is not used beside it.
    assert "+0000: a record of the task's" not in worker.log()


def test_a_log_argument_that_raises_is_told_and_fails_nothing(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with Client(address=client.address, stream_output=True) as streaming:
        assert streaming.submit(h.log_what_cannot_be_printed).result(LIMIT_S) == "done"
        seen = ""

        def told() -> bool:
            nonlocal seen
            captured = capfd.readouterr()
            seen += captured.out + captured.err
            return "--- Logging error ---" in seen and "the end" in seen

        wait_for("what logging says", told)


def test_the_output_of_a_fork_does_not_mix_with_its_parents(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    with Client(address=client.address, stream_output=True) as streaming:
        assert streaming.submit(h.fork_and_print).result(LIMIT_S) == "parent"
        seen = ""

        def ended() -> bool:
            nonlocal seen
            seen += capfd.readouterr().out
            # A line may come in pieces.
            return f"parent 199 {'x' * 500}" in seen

        wait_for("the parent's output", ended)
    lines = [line for line in seen.splitlines() if line.startswith("parent")]
    assert lines == [f"parent {number} {'x' * 500}" for number in range(200)]
