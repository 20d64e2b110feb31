"""Workers with a store on their host (`--object-storage`): where results are, who reads them, and what ends with a host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from scaler import Client
from scaler.errors import ScalerError
from scaler_protocol.testing.security_directory import make_security_directory
from tests.integration.deployment import Deployment, Service, segments_of, wait_for

pytestmark = pytest.mark.without_keys("it chooses keys itself")

READY = "large results stay in the store of this host"
ITEMS = 1_000_000
LARGE_ITEMS = 3_000_000
"""Of an array that travels in several pieces."""

SECONDS = 60


def wait_until_there(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)  # sleeps: in a task, until the test lets it go on


def make(number: int) -> np.ndarray[Any, Any]:
    return np.full(ITEMS, number, dtype=np.float64)


def make_large() -> np.ndarray[Any, Any]:
    return np.arange(LARGE_ITEMS, dtype=np.float64)


def make_beside(number: int, folder: str) -> np.ndarray[Any, Any]:
    """Make an array once `wait_beside` runs elsewhere."""
    wait_until_there(Path(folder, "begun"))
    return make(number)


def wait_beside(number: int, folder: str) -> np.ndarray[Any, Any]:
    """Make an array when the test says so."""
    Path(folder, "begun").touch()
    wait_until_there(Path(folder, "go"))
    return make(number)


def see(folder: str, *_results: Any) -> None:
    """Tell the test that the results are there."""
    Path(folder, "seen").touch()


def add(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    return float(left.sum() + right.sum())


def total(array: np.ndarray[Any, Any]) -> float:
    return float(array.sum())


def stores_of(workers: Service) -> list[int]:
    """Process ids of the store beside an agent."""
    return children_with_store(workers.pid)


def children_with_store(pid: int) -> list[int]:
    """Process ids of the object storage servers that a process, or a child of it, has started."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "scaler_objstore" in " ".join(child.cmdline()):
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def is_ready(log_path: Path) -> bool:
    return READY in log_path.read_text()


@contextlib.contextmanager
def stores_alone(scheduler: Service, names: Sequence[str], folder: Path) -> Iterator[list[int]]:
    """Run agents that share no memory with other processes, as on other hosts; yield their stores' process ids."""
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", "scaler_worker"]
    agents = []
    try:
        for name in names:
            flags = [scheduler.address, "-n", "1", "-pwc", name, "--object-storage"]
            with (folder / name).open("wb") as log:
                agents.append(subprocess.Popen([*alone, *flags], stdout=log, stderr=log))
        for name in names:
            wait_for("a store on a host of its own", partial(is_ready, folder / name), SECONDS)
        yield [store for agent in agents for store in children_with_store(agent.pid)]
    finally:
        for agent in agents:
            agent.kill()
            agent.wait(10)


class Hosts:
    """Two agents on loopback, as if each were a host, with a store and one worker each."""

    def __init__(self, deployment: Deployment, keys: Path | None = None) -> None:
        keyed = () if keys is None else ("--security-dir", str(keys))
        self.storage = deployment.storage(*keyed)
        self.scheduler = deployment.scheduler("--object-storage-address", self.storage.address, *keyed)
        self.agents = [deployment.workers(self.scheduler, "--object-storage", *keyed, count=1) for _ in range(2)]
        for agent in self.agents:
            agent.wait_log(READY)
        self.stores = [store for agent in self.agents for store in stores_of(agent)]
        self.before = self.held()
        self.central_before = segments_of(self.storage.pid)
        self.client: Client = deployment.client(self.scheduler, security=keys)

    def held(self) -> list[int]:
        """How many large objects each host's store has."""
        return [segments_of(store) for store in self.stores]

    def begin(self, folder: Path, *, linked: bool = False) -> tuple[Any, Service]:
        """Submit a graph, or `linked` tasks; return the future of a sum, and the agent whose store has the first summand.

        The scheduler knows of that result: a row that needs it has run.
        """
        where = str(folder)
        if linked:
            first = self.client.submit(make_beside, 1, where)
            future = self.client.submit(add, first, self.client.submit(wait_beside, 2, where))
            self.client.submit(see, where, first)
        else:
            graph = {
                "a": (make_beside, 1, where),
                "b": (wait_beside, 2, where),
                "one": (abs, -1),
                "seen": (see, where, "a", "one"),
                "c": (add, "a", "b"),
            }
            future = self.client.get(graph, ["c", "seen"], block=False)["c"]
        wait_for("the first result is known", (folder / "seen").exists, SECONDS)
        wait_for("a result in the store of a host", lambda: self.held() != self.before)
        (found,) = (
            agent for agent, held, before in zip(self.agents, self.held(), self.before, strict=True) if held > before
        )
        assert segments_of(self.storage.pid) == self.central_before
        return future, found


@pytest.mark.parametrize("has_keys", [False, True], ids=["without keys", "with keys"])
def test_results_stay_on_their_host_and_are_read_from_there(
    deployment: Deployment, tmp_path: Path, has_keys: bool
) -> None:
    hosts = Hosts(deployment, make_security_directory(tmp_path / "keys") if has_keys else None)
    future, _ = hosts.begin(tmp_path)
    (tmp_path / "go").touch()
    assert future.result(SECONDS) == 3.0 * ITEMS
    wait_for("both stores free what nobody needs", lambda: hosts.held() == hosts.before)
    assert segments_of(hosts.storage.pid) == hosts.central_before


def test_a_client_gets_what_a_host_has_and_it_is_freed_afterwards(deployment: Deployment) -> None:
    hosts = Hosts(deployment)
    futures = [hosts.client.submit(make, number) for number in range(6)]
    for number, future in enumerate(futures):
        assert float(future.result(SECONDS)[-1]) == number
    wait_for("both stores free what nobody needs", lambda: hosts.held() == hosts.before)
    assert hosts.client.submit(total, make(5)).result(SECONDS) == 5.0 * ITEMS


def test_a_store_that_is_killed_leaves_results_to_the_central_one(deployment: Deployment) -> None:
    hosts = Hosts(deployment)
    for store in hosts.stores:
        os.kill(store, signal.SIGKILL)
    for agent in hosts.agents:
        agent.wait_log("the store of this host has ended: killed by SIGKILL")
    assert float(hosts.client.submit(make, 7).result(SECONDS)[0]) == 7.0


def test_a_host_that_leaves_hands_over_what_only_it_has(deployment: Deployment, tmp_path: Path) -> None:
    hosts = Hosts(deployment)
    future, agent = hosts.begin(tmp_path)
    assert agent.terminate() == 0
    (tmp_path / "go").touch()
    assert future.result(SECONDS) == 3.0 * ITEMS


@pytest.mark.parametrize("linked", [False, True], ids=["rows of a graph", "linked tasks"])
def test_what_others_need_runs_again_when_it_is_lost_with_a_host(
    deployment: Deployment, tmp_path: Path, linked: bool
) -> None:
    hosts = Hosts(deployment)
    future, agent = hosts.begin(tmp_path, linked=linked)
    agent.kill()
    (tmp_path / "go").touch()
    assert future.result(SECONDS) == 3.0 * ITEMS
    hosts.scheduler.wait_log("1 result was lost with the store of ")


def test_what_a_client_keeps_on_a_killed_host_is_named_with_the_host(deployment: Deployment) -> None:
    hosts = Hosts(deployment)
    kept = hosts.client.operations.get_kept(hosts.client, {"a": (make, 7)}, ["a"], None)["a"]
    reference = kept.result(SECONDS)
    assert kept.is_kept
    (agent,) = (
        agent for agent, held, before in zip(hosts.agents, hosts.held(), hosts.before, strict=True) if held > before
    )
    agent.kill()
    with pytest.raises(
        ScalerError, match=rf"object [0-9a-f]{{32}} is in the store of .*-{agent.pid}, which does not answer"
    ):
        hosts.client.submit(total, reference).result(SECONDS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes process namespaces")
def test_what_a_client_sends_to_several_hosts_is_passed_on_by_them_and_freed_everywhere(
    deployment: Deployment, tmp_path: Path
) -> None:
    scheduler = deployment.scheduler("--object-storage-address", deployment.storage().address)
    hosts, expected = ["host1", "host2"], float(sum(range(LARGE_ITEMS)))
    with stores_alone(scheduler, hosts, tmp_path) as stores:
        before = [segments_of(store) for store in stores]
        client = deployment.client(scheduler)
        with client.send_object(make_large()) as reference:
            # The third task reads what its host has.
            for count in (2, 1):
                names = hosts[:count]
                futures = [client.submit_verbose(total, (reference,), {}, capabilities={name: -1}) for name in names]
                assert [future.result(SECONDS) for future in futures] == [expected] * count
            assert all(segments_of(store) > count for store, count in zip(stores, before, strict=True))
        wait_for("all stores free it", lambda: [segments_of(store) for store in stores] == before)
