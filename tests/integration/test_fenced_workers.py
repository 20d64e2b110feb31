"""Everything clients do, with workers whose processors are another user's and have limits. Needs root."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scaler import Client
from scaler_protocol.testing.readable_python import readable_python
from tests.integration.deployment import ROOT, Deployment, wait_for
from tests.integration.functions import add, process_id, sleep_and_return, square

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run processors as another user")

MIB = 1024**2
FLAGS = (
    *("--user", "nobody", "--private-temporary-folder", "--umask", "077"),
    *(
        "--processor-memory-limit-bytes",
        str(512 * MIB),
        "--processor-cpu-seconds",
        "20",
        "--processor-open-files",
        "256",
    ),
    *("--task-timeout-seconds", "3"),
)


@pytest.fixture(scope="module")
def fenced(tmp_path_factory: pytest.TempPathFactory, module_deployment: Deployment) -> Iterator[str]:
    """A scheduler with two workers behind every fence there is; its address."""
    address = module_deployment.scheduler("--max-task-attempts", "1").address
    log_path = tmp_path_factory.mktemp("fenced") / "log"
    with log_path.open("w") as log:
        command = [*readable_python(), "-m", "scaler_worker", address, "-n", "2", *FLAGS]
        agent = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for("fenced workers", lambda: log_path.read_text().count("started: processor") == 2)
        yield address
    finally:
        agent.terminate()
        agent.wait(20)


@pytest.fixture
def client(fenced: str) -> Iterator[Client]:
    with Client(address=fenced) as client:
        yield client


def user_of(_: object = None) -> tuple[int, int]:
    return os.getuid(), os.geteuid()


def first_and_size(data: bytes) -> tuple[int, int]:
    return data[0], len(data)


def make(size: int) -> bytes:
    return b"x" * size


def talk(text: str) -> None:
    print(text)
    print(text, file=sys.stderr)


def take(size: int) -> int:
    taken = bytearray(size)
    taken[::4096] = b"x" * len(taken[::4096])
    return len(taken)


def test_plain_tasks_maps_and_graphs(client: Client) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    assert client.submit(user_of).result() == (uid, uid)
    assert client.map(square, range(500)) == [number**2 for number in range(500)]
    graph = {"a": 1, "b": (square, "a"), "c": (add, "a", "b"), "d": (add, "c", "b")}
    assert client.get(graph, ["d"]) == {"d": 3}


def test_large_objects_in_both_directions(client: Client) -> None:
    data = make(16 * MIB)
    assert client.submit(first_and_size, data).result() == (ord("x"), len(data))
    reference = client.send_object(data)
    assert client.map(first_and_size, [reference] * 6) == [(ord("x"), len(data))] * 6
    future = client.submit(make, 16 * MIB)
    assert future.result() == data
    graph = {"a": (make, 8 * MIB), "b": (first_and_size, "a"), "c": (first_and_size, "a")}
    assert client.get(graph, ["b", "c"]) == {key: (ord("x"), 8 * MIB) for key in ("b", "c")}


def test_clients_inside_tasks(client: Client, fenced: str) -> None:
    def sum_of_squares(address: str, count: int) -> int:
        with Client(address=address) as inner:
            data = inner.send_object(b"y" * MIB)
            assert inner.submit(len, data).result() == MIB
            return sum(inner.map(square, range(count)))

    futures = [client.submit(sum_of_squares, fenced, 20) for _ in range(4)]
    assert [future.result() for future in futures] == [sum(number**2 for number in range(20))] * 4


def test_streamed_output(fenced: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(address=fenced, stream_output=True) as client:
        client.submit(talk, "said by a task").result()
    said = capsys.readouterr()
    assert "said by a task" in said.out
    assert "said by a task" in said.err


def test_the_time_limit_of_tasks(client: Client) -> None:
    from scaler import TaskTimeoutError

    with pytest.raises(TaskTimeoutError):
        client.submit(sleep_and_return, 30.0).result()


def test_cancelling(client: Client) -> None:
    future = client.submit(sleep_and_return, 2.5)
    wait_for("it runs", future.running)
    assert future.cancel()


def test_one_task_too_large_leaves_the_others_alone(client: Client) -> None:
    from scaler import ProcessorDiedError

    neighbours = [client.submit(sleep_and_return, 0.05, number) for number in range(20)]
    with pytest.raises(ProcessorDiedError, match=f"--processor-memory-limit-bytes {512 * MIB}"):
        client.submit(take, 900 * MIB).result()
    assert [future.result() for future in neighbours] == list(range(20))
    assert client.submit(process_id).result()
