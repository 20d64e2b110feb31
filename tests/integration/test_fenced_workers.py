"""Everything clients do, with workers whose processors are another user's and have limits, without keys and with. Needs root."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

from scaler import Client, ProcessorDiedError
from scaler_protocol.security.directory import read_key
from scaler_protocol.security.keys import pinned_id, to_text
from scaler_protocol.testing.readable_python import readable_python
from scaler_protocol.testing.security_directory import make_security_directory
from scaler_worker.processor.descriptors import FIRST_NUMBER
from scaler_worker.processor.records import Kind
from scaler_worker.processor.task_loop import TaskLoop
from tests.integration.deployment import ROOT, Deployment, wait_for, wait_for_output
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
    # Longer than any of these tasks takes on a busy machine. The one that is to take too long has a limit of its own.
    *("--task-timeout-seconds", "40"),
)


class Fenced(NamedTuple):
    """A scheduler with two workers behind every fence there is."""

    address: str
    keys: Path | None
    """The security directory of the cluster."""
    log: Path
    """Of the workers."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(False, marks=pytest.mark.without_keys("that is what it is about"), id="without keys"),
        pytest.param(True, id="with keys"),
    ],
)
def fenced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, module_deployment: Deployment
) -> Iterator[Fenced]:
    folder = tmp_path_factory.mktemp("fenced")
    keys = make_security_directory(folder / "keys") if request.param else None
    secured = ("--security-dir", str(keys)) if keys is not None else ()
    address = module_deployment.scheduler("--max-task-attempts", "1", *secured).address
    log_path = folder / "log"
    with log_path.open("w") as log:
        command = [*readable_python(), "-m", "scaler_worker", address, "-n", "2", *FLAGS, *secured]
        agent = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for("fenced workers", lambda: log_path.read_text().count("started: processor") == 2)
        yield Fenced(address, keys, log_path)
    finally:
        agent.terminate()
        agent.wait(20)


@pytest.fixture
def client(fenced: Fenced) -> Iterator[Client]:
    with Client(address=fenced.address, security=fenced.keys) as client:
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


def test_a_task_that_takes_too_much_cpu_time_is_not_tried_again(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "3")
    workers = deployment.workers(scheduler, "--processor-cpu-seconds", "1", count=1)
    with Client(address=scheduler.address) as client:
        with pytest.raises(ProcessorDiedError, match=r"task \d+ \(.*compute\): .*--processor-cpu-seconds 1"):
            client.submit(compute).result(timeout=60)
        assert client.submit(square, 3).result(timeout=60) == 9
    assert workers.log().count("--processor-cpu-seconds 1") == 1


def compute() -> None:
    while True:
        pass


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


def test_clients_inside_tasks(client: Client, fenced: Fenced) -> None:
    def sum_of_squares(address: str, count: int) -> int:
        with Client(address=address) as inner:
            data = inner.send_object(b"y" * MIB)
            assert inner.submit(len, data).result() == MIB
            return sum(inner.map(square, range(count)))

    futures = [client.submit(sum_of_squares, fenced.address, 20) for _ in range(4)]
    assert [future.result() for future in futures] == [sum(number**2 for number in range(20))] * 4


def large_values_of(inner: Client) -> dict[str, bool]:
    """Send large values on every road that there is for them; return whether they came."""
    data = bytes(range(256)) * (2 * MIB // 256)
    table = data[::-1]

    def look_up(position: int) -> int:
        return table[position]

    def fail() -> None:
        raise ValueError(make(2 * MIB).decode())

    came = {
        "argument": inner.submit(first_and_size, data).result() == (0, 2 * MIB),
        "result": inner.submit(make, 2 * MIB).result() == make(2 * MIB),
        "both": inner.submit(bytes.swapcase, make(2 * MIB)).result() == b"X" * 2 * MIB,
        "function": inner.submit(look_up, 1).result() == table[1],
        "map": inner.map(len, [data, data[:-1], data[:-2]]) == [2 * MIB, 2 * MIB - 1, 2 * MIB - 2],
    }
    try:
        inner.submit(fail).result()
    except ValueError as error:
        came["exception"] = len(str(error)) >= 2 * MIB
    reference = inner.send_object(data)
    came["object"] = inner.map(first_and_size, [reference] * 3) == [(0, 2 * MIB)] * 3
    graph = {"a": data, "b": (bytes.swapcase, "a"), "c": (first_and_size, "b")}
    found = inner.get(graph, ["b", "c"])
    came["graph"] = found["b"] == data.swapcase() and found["c"] == (0, 2 * MIB)
    inner.clear()
    came["after clear"] = inner.submit(len, data).result() == 2 * MIB
    return came


def with_a_client_of_its_own() -> dict[str, bool]:
    with Client() as inner:
        return large_values_of(inner)


def with_a_client_for(address: str) -> dict[str, bool]:
    with Client(address) as inner:
        return large_values_of(inner)


def assert_all_came(came: dict[str, bool]) -> None:
    assert len(came) == 9
    assert all(came.values()), came


def test_large_values_of_a_client_from_the_context(client: Client) -> None:
    assert_all_came(client.submit(with_a_client_of_its_own).result())


def test_large_values_of_a_client_for_the_address(client: Client, fenced: Fenced) -> None:
    assert_all_came(client.submit(with_a_client_for, fenced.address).result())


def test_large_values_of_a_client_among_the_arguments(client: Client) -> None:
    assert_all_came(client.submit(large_values_of, client).result())


def test_large_values_of_tasks_in_tasks_in_tasks(client: Client) -> None:
    def below(depth: int, data: bytes) -> bytes:
        if not depth:
            return data
        with Client() as inner:
            return bytes(inner.submit(below, depth - 1, data + data[:1]).result()) + b"z"

    data = make(2 * MIB)
    assert client.submit(below, 4, data).result() == data + b"xxxx" + b"zzzz"


def test_many_clients_inside_tasks_at_once(client: Client) -> None:
    def both_ways(seed: int) -> bool:
        with Client() as inner:
            data = bytes([seed]) * MIB
            futures = [inner.submit(bytes.swapcase, data) for _ in range(3)]
            return all(future.result() == data.swapcase() for future in futures)

    assert client.map(both_ways, range(12)) == [True] * 12


def secrets_in_reach(folder: str, backwards: list[bytes]) -> list[str]:
    """Return where this process finds secrets of Scaler, nowhere if all is well. `backwards`: these, spelled from their end.

    So a search does not find what it searches for.
    """
    from scaler_protocol.runtime.task_context import current_task_context

    context = current_task_context()
    assert context is not None
    found = [f"the path {context.security_dir}"] if context.security_dir else []
    found += [name for name, value in os.environ.items() if folder in value]
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        found += [target] if folder in target else []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps:
            found += [line] if folder in line else []
            first, last = (int(number, 16) for number in line.split()[0].split("-"))
            try:
                memory.seek(first)
                data = memory.read(last - first)[::-1]
            except (OSError, ValueError, OverflowError):
                # What cannot be read by the process itself, such as the kernel's page.
                continue
            found += [f"memory: {line}" for secret in backwards if secret in data]
    for name in ("worker.key", "server.key", "client.key"):
        try:
            with open(os.path.join(folder, name)) as file:
                found.append(file.name)
        except PermissionError:
            continue
    return found


def test_the_key_is_out_of_reach_of_tasks(client: Client, fenced: Fenced) -> None:
    if fenced.keys is None:
        pytest.skip("there are no keys")
    assert client.submit(with_a_client_of_its_own).result()
    pair = read_key(fenced.keys / "worker.key").pair
    backwards = [secret[::-1] for secret in (pair.secret, to_text(pair.secret).encode())]
    assert client.submit(secrets_in_reach, str(fenced.keys), backwards).result() == []


def ask_in_the_name_of(owner: bytes, object_id: bytes) -> str:
    """Try to store an object for a client that is not in this process, as a task could that knows the protocol."""
    from scaler_protocol.objects.storage import Done, StoreRequests
    from scaler_protocol.runtime.random_ids import new_id
    from scaler_protocol.runtime.task_context import current_task_context
    from scaler_protocol.transport.dealer import DealerLink
    from scaler_protocol.wire import messages as m
    from scaler_protocol.wire.codec import decode, encode
    from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope

    context = current_task_context()
    assert context is not None
    link = DealerLink(context.storage_gate, new_id(b""))
    hello = m.Hello(role=m.Role.CLIENT, name="forger", incarnation=new_id(context.identity_prefix))
    requests = StoreRequests(hello, timeout_seconds=1.0)
    now = time.monotonic()
    requests.put(object_id, owner, [b"forged"], now)
    end = now + 2.0
    while time.monotonic() < end:
        for message in requests.take_outgoing():
            link.send([encode_envelope(UNSEQUENCED), *encode(message)])
        link.wait(0.05)
        for frames in link.receive(10):
            completions = requests.receive(decode(frames[1:]), time.monotonic())
            if any(isinstance(each, Done) for each in completions):
                return "stored"
        if any(not isinstance(each, Done) for each in requests.tick(time.monotonic())):
            break
    return "not stored"


def test_a_task_stores_nothing_for_other_clients(client: Client, fenced: Fenced) -> None:
    if fenced.keys is None:
        pytest.skip("without keys there is nothing to hold tasks to")
    client_key = read_key(fenced.keys / "client.key").pair
    assert client.submit(ask_in_the_name_of, pinned_id(client_key.public), b"o" * 16).result() == "not stored"
    wait_for("word of it in the log", lambda: "names a client of another key in a ObjectPut" in fenced.log.read_text())
    assert_all_came(client.submit(with_a_client_of_its_own).result())


def test_streamed_output(fenced: Fenced, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(address=fenced.address, security=fenced.keys, stream_output=True) as client:
        client.submit(talk, "said by a task").result()
        wait_for_output(capsys, "said by a task", "said by a task")


def test_the_time_limit_of_tasks(client: Client) -> None:
    from scaler import TaskTimeoutError

    with pytest.raises(TaskTimeoutError):
        client.submit_verbose(sleep_and_return, (30.0,), timeout_seconds=2).result()


def test_cancelling(client: Client) -> None:
    future = client.submit(sleep_and_return, 30.0)
    wait_for("it runs", future.running)
    assert future.cancel()


def test_one_task_too_large_leaves_the_others_alone(client: Client) -> None:

    neighbours = [client.submit(sleep_and_return, 0.05, number) for number in range(20)]
    with pytest.raises(ProcessorDiedError, match=f"--processor-memory-limit-bytes {512 * MIB}"):
        client.submit(take, 900 * MIB).result()
    assert [future.result() for future in neighbours] == list(range(20))
    assert client.submit(process_id).result()


def shrink_what_is_open() -> None:
    """Shrink every file this process has open, and die: whoever maps one of them would die of reading it."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.ftruncate(int(name), 0)
    os.kill(os.getpid(), signal.SIGKILL)


def kinds_of_standard_streams() -> dict[int, bool]:
    """Return whether each of standard output and error is a file."""
    return {number: stat.S_ISREG(os.fstat(number).st_mode) for number in (1, 2)}


def shorten_standard_streams() -> int:
    """Empty them; return how many could be emptied."""
    emptied = 0
    for number in (1, 2):
        with contextlib.suppress(OSError):
            os.ftruncate(number, 0)
            emptied += 1
    return emptied


def write_records(*packets: bytes) -> str:
    """Write into the channel of this processor, in its name."""
    with socket.socket(fileno=os.dup(FIRST_NUMBER)) as channel:
        for packet in packets:
            channel.send(packet)
    return "written"


def forge_a_return() -> str:
    """Give back, in the name of this processor, what it could have given back, though it did not."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), TaskLoop):
        frame = frame.f_back
    assert frame is not None
    inbox = frame.f_locals["self"]._inbox
    returned = struct.pack("=IQ", inbox._generation + 1, inbox._next_index)
    return write_records(bytes((Kind.BLOCKED, 0)) + returned, bytes((Kind.UNBLOCKED, 0, 0)))


def write_nothing(*, end: bool) -> str:
    """Write an empty packet, or say that nothing more comes: both read like the end of the channel."""
    with socket.socket(fileno=os.dup(FIRST_NUMBER)) as channel:
        if end:
            channel.shutdown(socket.SHUT_WR)
        else:
            channel.send(b"")
    # Longer than all of the test: who waits for this task to end waits in vain.
    threading.Event().wait(60)
    return "waited"


def agents_of(fenced: Fenced) -> int:
    return fenced.log.read_text().count("registered with the scheduler")


@pytest.mark.parametrize(
    "packets",
    [
        pytest.param([(Kind.RELAY_OPEN, b"f" * 16 + b"x"), (Kind.RELAY_CLOSE, b"f" * 16)], id="another's client"),
        pytest.param([(Kind.RELAY_OPEN, b"f" * 16 + b"a" + "é".encode() * 600)], id="a name too long"),
        pytest.param([(Kind.BLOCKED, struct.pack("=IQ", 77, 5)), (Kind.UNBLOCKED, b"\0")], id="given back"),
    ],
)
def test_what_a_task_writes_in_its_processor_s_name_harms_no_others(
    client: Client, fenced: Fenced, packets: list[tuple[Kind, bytes]]
) -> None:
    before = agents_of(fenced)
    hostile = client.submit(write_records, *(bytes((kind, 0)) + body for kind, body in packets))
    with contextlib.suppress(ProcessorDiedError):
        assert hostile.result(timeout=30) == "written"
    # More than one for each processor: none of them swallows what it is given.
    assert [future.result(timeout=30) for future in [client.submit(square, n) for n in range(200)]] == [
        n**2 for n in range(200)
    ]
    assert agents_of(fenced) == before


def test_a_processor_that_did_not_give_back_what_its_agent_thinks_swallows_nothing(
    client: Client, fenced: Fenced
) -> None:
    before = agents_of(fenced)
    with contextlib.suppress(ProcessorDiedError):
        assert client.submit(forge_a_return).result(timeout=30) == "written"
    # One by one: no answer of a processor comes so late that it is replaced for its silence.
    assert [client.submit(square, number).result(timeout=5) for number in range(50)] == [n**2 for n in range(50)]
    assert agents_of(fenced) == before


def test_a_task_cannot_fill_the_log_of_its_agent_with_starts(client: Client, fenced: Fenced) -> None:
    before = fenced.log.read_text().count("started: processor")
    with contextlib.suppress(ProcessorDiedError):
        client.submit(write_records, *[bytes((Kind.READY, 0)) + b"1234"] * 1000).result(timeout=30)
    assert client.submit(square, 3).result(timeout=30) == 9
    assert fenced.log.read_text().count("started: processor") <= before + 10


@pytest.mark.parametrize("end", [pytest.param(False, id="an empty packet"), pytest.param(True, id="the end")])
def test_a_processor_whose_channel_seems_to_end_swallows_nothing(client: Client, fenced: Fenced, end: bool) -> None:
    before = agents_of(fenced)
    first = [client.submit(sleep_and_return, 0.01, n) for n in range(20)]
    hostile = [client.submit(write_nothing, end=end) for _ in range(2)]
    last = [client.submit(square, n) for n in range(200)]
    assert [future.result(timeout=30) for future in first] == list(range(20))
    assert [future.result(timeout=30) for future in last] == [n**2 for n in range(200)]
    for future in hostile:
        with pytest.raises(ProcessorDiedError):
            future.result(timeout=30)
    assert agents_of(fenced) == before


def test_tasks_cannot_shorten_the_log_of_their_agent(client: Client, fenced: Fenced) -> None:
    length = fenced.log.stat().st_size
    assert length
    assert client.submit(kinds_of_standard_streams).result(timeout=30) == {1: False, 2: False}
    assert client.submit(shorten_standard_streams).result(timeout=30) == 0
    assert fenced.log.stat().st_size >= length


def test_a_task_cannot_shrink_what_its_agent_reads(client: Client, fenced: Fenced) -> None:
    before = agents_of(fenced)
    with pytest.raises(ProcessorDiedError):
        client.submit(shrink_what_is_open).result(timeout=30)
    assert client.map(square, range(500)) == [number**2 for number in range(500)]
    assert agents_of(fenced) == before
