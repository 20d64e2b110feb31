"""Workers with a store on their host (`--object-storage`): where results are, who reads them, and what ends with a host."""

from __future__ import annotations

import os
import signal
import time
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
SECONDS = 60


def wait_until_there(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)  # sleeps: in a task, until the test lets it go on


def make(number: int) -> np.ndarray[Any, Any]:
    return np.full(ITEMS, number, dtype=np.float64)


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
    found = []
    for pid in workers.children():
        try:
            if "scaler_objstore" in " ".join(psutil.Process(pid).cmdline()):
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


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


def test_rows_of_a_graph_run_again_when_their_results_are_lost_with_a_host(
    deployment: Deployment, tmp_path: Path
) -> None:
    hosts = Hosts(deployment)
    future, agent = hosts.begin(tmp_path)
    agent.kill()
    (tmp_path / "go").touch()
    assert future.result(SECONDS) == 3.0 * ITEMS
    hosts.scheduler.wait_log("1 results were lost with the store of ")


def test_what_else_a_killed_host_had_is_named_with_the_host(deployment: Deployment, tmp_path: Path) -> None:
    hosts = Hosts(deployment)
    future, agent = hosts.begin(tmp_path, linked=True)
    agent.kill()
    (tmp_path / "go").touch()
    with pytest.raises(
        ScalerError, match=rf"object [0-9a-f]{{32}} is in the store of .*-{agent.pid}, which does not answer"
    ):
        future.result(SECONDS)
