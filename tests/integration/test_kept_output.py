"""What tasks have printed can be read of a real cluster: while they run, afterwards, and when their process has died."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scaler import Client, ScalerFuture, current_task
from scaler.errors import ProcessorDiedError
from scaler_protocol.address import Address
from scaler_protocol.monitoring.kept_output import ARGUMENTS, LOG, NOTE, STDERR, STDOUT
from scaler_protocol.monitoring.topics import ANY_CLIENT, OutputTopic
from scaler_ui.feed import MonitorFeed
from scaler_ui.outputs import OutputFeed, output_data
from tests.integration.deployment import Deployment, Service, wait_for, wait_for_output

_told = threading.Event()
_thread: threading.Thread | None = None


class ExitsWhenShown:
    def __init__(self, marks: str) -> None:
        self.marks = marks

    def __repr__(self) -> str:
        os._exit(7)


def fail_with(value: ExitsWhenShown) -> None:
    with open(value.marks, "a") as marks:
        marks.write("run\n")
    raise ValueError("no")


def fail_second(value: ExitsWhenShown | None) -> int:
    if value is not None:
        fail_with(value)
    return 1


def leave_a_thread_behind() -> int:
    def say_later() -> None:
        _told.wait(30)
        print("of the thread")
        logging.getLogger("tests.kept").warning("logged by the thread")
        current_task().report_progress(7, 8, "of the thread")

    global _thread
    print("of the first task")
    _told.clear()
    _thread = threading.Thread(target=say_later)
    _thread.start()
    return os.getpid()


def let_the_thread_speak() -> int:
    print("of the second task")
    _told.set()
    assert _thread is not None
    _thread.join()
    return os.getpid()


class Dying:
    def __del__(self) -> None:
        print("printed while it is deleted")


def say(text: str) -> None:
    print(text)
    print(f"{text} to stderr", file=sys.stderr)


def warn(text: str) -> None:
    logging.getLogger("tests.kept").warning("%s is logged", text)


def say_and(end: Callable[[], None]) -> None:
    print("last words")
    print("half a line", end="")
    end()


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits() -> None:
    os._exit(3)


def crashes() -> None:
    ctypes.string_at(0)


def say_in_threads(count: int) -> None:
    threads = [threading.Thread(target=print, args=(f"thread {number}",)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def say_bytes() -> None:
    sys.stdout.buffer.write(b"\xff\xfe raw\n")


def say_much() -> None:
    for line in range(30_000):
        print(f"line {line}")


def say_at_once() -> None:
    print("x" * 3_000_000 + "end")


def use(_value: Any) -> None:
    pass


def say_item(number: int) -> int:
    print(f"item {number}")
    return number


def say_around(address: str) -> None:
    print("before the inner task")
    with Client(address) as client:
        client.submit(say, "inner").result()
    print("after the inner task")


def say_in_a_fork() -> None:
    print("before the fork")
    pid = os.fork()
    if not pid:
        print("in the fork")
        os._exit(0)
    os.waitpid(pid, 0)
    print("after the fork")


def say_elsewhere() -> None:
    os.write(1, b"written to the descriptor\n")
    subprocess.run(["echo", "from another program"], check=True)
    print("printed")


def fail(number: int, quotes: object = None, secret: str = "") -> None:
    raise ValueError("no")


def fail_item(number: int) -> int:
    raise ValueError("no")


def say_until_told(path: str) -> None:
    print("it has begun")
    while not os.path.exists(path):
        time.sleep(0.02)  # sleeps: the task waits for the test


@pytest.fixture(scope="module")
def scheduler(module_deployment: Deployment) -> Service:
    scheduler = module_deployment.scheduler()
    module_deployment.workers(scheduler, count=2)
    return scheduler


@pytest.fixture(scope="module")
def client(module_deployment: Deployment, scheduler: Service) -> Client:
    return module_deployment.client(scheduler)


@pytest.fixture(scope="module")
def feed(scheduler: Service) -> Iterator[OutputFeed]:
    with OutputFeed(Address.parse(str(scheduler.addresses["monitor"]))) as feed:
        yield feed


def answer(feed: OutputFeed, future: ScalerFuture[Any] | int) -> dict[str, Any]:
    number = future if isinstance(future, int) else future.task_id
    message = wait_for("there is an answer", lambda: feed.look(OutputTopic(number, ANY_CLIENT)))
    assert message is not None
    return output_data(message)


def pieces(told: dict[str, Any], *streams: int) -> str:
    return "".join(
        text for part in told["parts"] for stream, _, text in part["pieces"] if not streams or stream in streams
    )


def test_prints_and_log_records_of_a_task(client: Client, feed: OutputFeed) -> None:
    first, second = client.submit(say, "hello"), client.submit(warn, "this")
    first.result(), second.result()
    told = answer(feed, first)
    assert pieces(told, STDOUT) == "hello\n"
    assert pieces(told, STDERR) == "hello to stderr\n"
    (part,) = told["parts"]
    assert part["ended"] == ""
    assert not part["dropped"]
    assert pieces(answer(feed, second), LOG) == "WARNING tests.kept: this is logged\n"


@pytest.mark.parametrize("end", [killed, exits, crashes])
def test_a_task_whose_process_dies(client: Client, feed: OutputFeed, end: Callable[[], None]) -> None:
    future = client.submit(say_and, end)
    with pytest.raises(ProcessorDiedError):
        future.result()
    told = answer(feed, future)
    # Each attempt had a process of its own.
    assert len(told["parts"]) == 3
    assert pieces(told) == "last words\nhalf a line" * 3
    assert all("processor" in part["ended"] for part in told["parts"])


def test_threads_bytes_and_what_is_deleted(client: Client, feed: OutputFeed) -> None:
    futures = [client.submit(say_in_threads, 5), client.submit(say_bytes), client.submit(use, Dying())]
    for future in futures:
        future.result()
    # As anywhere, a thread may print between another one's text and its end of line.
    assert all(f"thread {number}" in pieces(answer(feed, futures[0])) for number in range(5))
    assert pieces(answer(feed, futures[1])) == "\\xff\\xfe raw\n"
    assert pieces(answer(feed, futures[2])) == "printed while it is deleted\n"


def test_of_much_output_the_end_is_kept(client: Client, feed: OutputFeed) -> None:
    many, one = client.submit(say_much), client.submit(say_at_once)
    many.result(), one.result()
    told = answer(feed, many)
    lines = pieces(told).splitlines()
    assert lines[-1] == "line 29999"
    assert 10_000 < len(lines) < 29_999
    assert told["parts"][0]["dropped"]
    told = answer(feed, one)
    assert "bytes of one write are left out" in pieces(told, NOTE)
    assert pieces(told, STDOUT).endswith("xend\n")


def test_a_map_chunk_is_one_task(client: Client, feed: OutputFeed) -> None:
    before = client.submit(say, "before")
    before.result()
    assert client.map(say_item, range(6)) == list(range(6))
    number = before.task_id
    found = "".join(pieces(answer(feed, number + after)) for after in range(1, 7))
    assert sorted(found.splitlines()) == [f"item {item}" for item in range(6)]


def test_a_task_around_another_one(client: Client, feed: OutputFeed, scheduler: Service) -> None:
    future = client.submit(say_around, scheduler.address)
    future.result()
    told = answer(feed, future)
    assert pieces(told, STDOUT) == "before the inner task\nafter the inner task\n"


def test_what_is_written_past_python_goes_to_the_worker_only(client: Client, feed: OutputFeed) -> None:
    futures = [client.submit(say_elsewhere), client.submit(say_in_a_fork)]
    for future in futures:
        future.result()
    assert pieces(answer(feed, futures[0])) == "printed\n"
    assert pieces(answer(feed, futures[1])) == "before the fork\nafter the fork\n"


@pytest.mark.parametrize("streams", [False, True])
def test_a_thread_that_outlives_its_task_speaks_for_no_other(
    deployment: Deployment, capfd: pytest.CaptureFixture[str], streams: bool
) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler, stream_output=streams)
    first, second = client.submit(leave_a_thread_behind), client.submit(let_the_thread_speak)
    assert first.result() == second.result()
    with OutputFeed(Address.parse(str(scheduler.addresses["monitor"]))) as feed:
        told = answer(feed, first)
        assert pieces(told, STDOUT) == "of the first task\nof the thread\n"
        assert pieces(told, LOG) == "WARNING tests.kept: logged by the thread\n"
        assert pieces(answer(feed, second)) == "of the second task\n"
    assert second.progress() is None
    if streams:
        wait_for_output(capfd, "of the second task", "")


def test_a_repr_that_ends_the_process_changes_no_answer(client: Client, tmp_path: Any) -> None:
    marks = tmp_path / "marks"
    with pytest.raises(ValueError, match="no"):
        client.submit(fail_with, ExitsWhenShown(str(marks))).result()
    assert marks.read_text() == "run\n"
    with pytest.raises(ValueError, match="no"):
        client.map(fail_second, [None, None, ExitsWhenShown(str(marks))])
    assert marks.read_text() == "run\nrun\n"
    # Others go on.
    assert client.map(say_item, range(20)) == list(range(20))


@pytest.mark.parametrize("streams", [False, True])
def test_arguments_of_a_call_that_failed(
    module_deployment: Deployment, scheduler: Service, feed: OutputFeed, streams: bool
) -> None:
    client = module_deployment.client(scheduler, stream_output=streams)
    future = client.submit(fail, 17, quotes=[1, 2], secret="s" * 5000)
    with pytest.raises(ValueError, match="no"):
        future.result()
    wanted = "0 = 17\nquotes = [1, 2]\nsecret = 'sss"
    # Another client's task of the same number may have been looked at just now.
    wait_for("the arguments are shown", lambda: wanted in pieces(answer(feed, future), ARGUMENTS))
    assert len(pieces(answer(feed, future), ARGUMENTS)) < 2_000
    with pytest.raises(ValueError, match="no"):
        client.map(fail_item, [1, 2])
    chunks = [int(future.task_id) + 1, int(future.task_id) + 2]
    wait_for(
        "so are those of the item",
        lambda: any("item 0 of the chunk" in pieces(answer(feed, chunk), ARGUMENTS) for chunk in chunks),
    )


def test_a_running_task(client: Client, feed: OutputFeed, tmp_path: Any) -> None:
    told = str(tmp_path / "told")
    future = client.submit(say_until_told, told)
    try:
        wait_for("it has printed", lambda: pieces(answer(feed, future)) == "it has begun\n")
        assert not future.done()
    finally:
        (tmp_path / "told").touch()
    future.result()


def test_what_a_client_listens_to_is_kept_too(
    module_deployment: Deployment, scheduler: Service, feed: OutputFeed
) -> None:
    client = module_deployment.client(scheduler, stream_output=True)
    future = client.submit(say, "both ways")
    future.result()
    # Another client's task may have the same number, and may have been looked at just now.
    wait_for("it is kept", lambda: "both ways\nboth ways to stderr\n" in pieces(answer(feed, future)))


def test_the_log_of_an_agent_has_what_its_processors_write(
    scheduler: Service, client: Client, feed: OutputFeed
) -> None:
    client.submit(warn, "a line for the agent's log").result()
    with MonitorFeed(feed.monitor_address) as monitor:

        def agent() -> bytes:
            with monitor.model() as model:
                return b"" if model.snapshot is None else model.snapshot.agents[0].incarnation

        topic = OutputTopic(0, wait_for("a snapshot has the agent", agent))

    def log() -> str:
        message = feed.look(topic)
        return "" if message is None else pieces(output_data(message))

    wait_for("the agent's own lines are there", lambda: "registered with the scheduler" in log())
    wait_for("so are those of its processors", lambda: "a line for the agent's log is logged" in log())


def test_an_agent_that_is_gone_or_keeps_nothing(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    workers = deployment.workers(scheduler, "--task-output-bytes", "0", count=1)
    client = deployment.client(scheduler)
    future = client.submit(say, "hello")
    future.result()
    with OutputFeed(Address.parse(str(scheduler.addresses["monitor"]))) as feed:
        told = answer(feed, future)
        assert (told["parts"], told["asked"]) == ([], 1)
        workers.terminate()
        wait_for("nobody is left to be asked", lambda: answer(feed, future)["asked"] == 0)
