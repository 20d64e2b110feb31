"""A cluster whose `/dev/shm` is what a container may have: run as root in a mount namespace of its own (`unshare --mount`).

    python -m tests.integration.small_shared_memory KIND FOLDER     KIND: one of the functions of `KINDS`; FOLDER: for logs

Object storage runs in a process namespace of its own, so that nothing can be passed on in segments, as from another host.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaler import Client
from scaler_protocol.testing.free_ports import free_ports
from tests.integration import functions as f
from tests.integration.deployment import Deployment, Service, wait_for

SHARED_MEMORY = Path("/dev/shm")
SECONDS = 60.0
SIZES = (300_000, 2_000_000, 9_000_000)
"""Of values, in bytes. The agent writes large ones in a thread."""


def mount(options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(SHARED_MEMORY)], check=True)


def remount(options: str, place: Path = SHARED_MEMORY) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def leave_no_room(place: Path) -> None:
    """Make a file system as small as what is in it."""
    found = os.statvfs(place)
    remount(f"size={(found.f_blocks - found.f_bfree) * found.f_frsize + 65_536}", place)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[Service, Client]]:
    """Yield the agent and a client."""
    address = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
    store = subprocess.Popen([*alone, "-m", "scaler_objstore", address])
    deployment = Deployment(folder)
    try:
        # One attempt: a process that is killed, as by a write to memory that is not there, fails its task.
        scheduler = deployment.scheduler("--object-storage-address", address, "--max-task-attempts", "1")
        workers = deployment.workers(scheduler, count=2)
        yield workers, deployment.client(scheduler)
    finally:
        deployment.close()
        store.kill()
        store.wait(10)


def echo_all(client: Client, seed: int) -> None:
    """Send values of all sizes there and back: as arguments, results, references, in maps, in graphs and in nested tasks."""
    values = [np.random.default_rng(seed + size).random(size // 8) for size in SIZES]

    def check(results: list[Any]) -> None:
        for value, result in zip(values, results, strict=True):
            assert np.array_equal(value, result)
            assert result.flags.writeable

    check([future.result(SECONDS) for future in [client.submit(f.echo, value) for value in values]])
    check(client.map(f.echo, values))
    check([client.submit(f.echo, client.send_object(value)).result(SECONDS) for value in values])
    keys = list(range(len(values)))
    graph = {("first", key): (f.echo, values[key]) for key in keys} | {key: (f.echo, ("first", key)) for key in keys}
    rows = client.get(graph, keys)
    check([rows[key] for key in keys])
    check(client.submit(echo_nested, values).result(SECONDS))


def echo_nested(values: list[Any]) -> list[Any]:
    with Client() as client:
        return [future.result(SECONDS) for future in [client.submit(f.echo, value) for value in values]]


def objects_in(place: Path, agent: Service) -> list[Path]:
    """Return the objects of an agent in its folder in `place`."""
    return [path for path in place.glob(f"scaler-objects-{agent.pid}-*/*") if len(path.name) == 32]


def small(folder: Path) -> None:
    """64 MiB, as Docker gives."""
    mount("size=64m")
    with cluster(folder) as (agent, client):
        echo_all(client, 1)
        agent.wait_log("are kept in files in")
        assert "has 64 MiB free, less than 512 MiB (in a container, --shm-size gives it more)" in agent.log()
        assert not list(SHARED_MEMORY.iterdir())
        assert objects_in(Path(tempfile.gettempdir()), agent)


def in_the_middle(folder: Path) -> None:
    """Enough room at the start, where nothing may be executed; then full, read-only, and as at the start."""
    mount("size=600m,noexec")
    spare = Path(tempfile.gettempdir())
    with cluster(folder) as (agent, client):
        echo_all(client, 1)
        assert objects_in(SHARED_MEMORY, agent)
        assert not objects_in(spare, agent)
        leave_no_room(SHARED_MEMORY)
        echo_all(client, 2)
        in_spare = len(objects_in(spare, agent))
        assert in_spare
        agent.wait_log("/dev/shm is full: large values of tasks go to files in")
        remount("ro")
        echo_all(client, 3)
        assert len(objects_in(spare, agent)) > in_spare
        remount("rw,size=600m")
        before = len(objects_in(SHARED_MEMORY, agent))
        echo_all(client, 4)
        assert len(objects_in(SHARED_MEMORY, agent)) > before
        assert agent.log().count("large values of tasks go to files in") == 1
        pid = agent.pid
    wait_for("its folders are removed", lambda: not list(spare.glob(f"scaler-objects-{pid}-*")))
    assert not list(SHARED_MEMORY.iterdir())


def full_everywhere(folder: Path) -> None:
    """Neither place has room: the tasks concerned end with an error that says so, and the next ones go on."""
    mount("size=600m")
    spare = folder / "temporary"
    spare.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(spare)], check=True)
    os.environ["TMPDIR"] = str(spare)
    with cluster(folder) as (_, client):
        value = np.arange(5_000_000.0)
        assert float(client.submit(f.sum_of, value).result(SECONDS)) == float(value.sum())
        for place in (SHARED_MEMORY, spare):
            leave_no_room(place)
        for future in (client.submit(f.sum_of, value + 1), client.submit(f.random_array, 1, 5_000_000)):
            error = future.exception(SECONDS)
            assert type(error).__name__ == "ObjectStorageException", repr(error)
            assert "No space left on device" in str(error), str(error)
        assert client.submit(f.sum_of, np.arange(10.0)).result(SECONDS) == 45.0
        for place in (SHARED_MEMORY, spare):
            remount("size=600m", place)
        assert float(client.submit(f.sum_of, value + 2).result(SECONDS)) == float((value + 2).sum())


KINDS = {kind.__name__: kind for kind in (small, in_the_middle, full_everywhere)}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Path(sys.argv[2]))
