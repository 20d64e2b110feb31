"""How long objects live in storage, with real processes: as long as a reference to them, or an unfinished task, needs them."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from scaler import Client
from scaler.client.object_reference import ObjectReference
from scaler.errors import MissingObjects
from scaler_protocol.objects.storage import StoreRequests
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import UNSEQUENCED, encode_envelope
from tests.integration.deployment import Deployment, Service, wait_for

pytestmark = pytest.mark.without_keys("it asks object storage as a scheduler does, whose keys it does not have")

SIZE = 300_000
"""Bytes: large enough for storage."""

FREED_SECONDS = 10.0
"""So long deleting one may take on a loaded machine. It takes milliseconds elsewhere."""

STAYS_SECONDS = 0.5


class Stored:
    """The objects in a server, of which it tells a scheduler."""

    def __init__(self, address: str) -> None:
        hello = m.Hello(role=m.Role.SCHEDULER, name="a test", incarnation=new_id())
        self._link = DealerLink(address, new_id())
        self._requests = StoreRequests(hello)
        self._asked = 0

    @property
    def count(self) -> int:
        statuses: list[m.StoreStatus] = []
        self._asked += 1
        self._requests.tell(m.StoreStatusRequest(self._asked), time.monotonic())

        def step() -> None:
            for message in self._requests.take_outgoing():
                self._link.send([encode_envelope(UNSEQUENCED), *encode(message)])
            for frames in self._link.receive(100):
                message = decode(frames[1:])
                self._requests.receive(message, time.monotonic())
                # Not an answer to an earlier question, of how it was then.
                if isinstance(message, m.StoreStatus) and message.request == self._asked:
                    statuses.append(message)
            if not statuses and self._requests.store_incarnation:
                self._requests.tell(m.StoreStatusRequest(self._asked), time.monotonic())

        return wait_until(lambda: statuses, step=step, pause_seconds=0.01)[-1].object_count

    def wait_for(self, count: int, seconds: float = FREED_SECONDS) -> None:
        """Wait for so many, no longer than deleting them may take."""
        wait_for(f"{count} objects are stored", lambda: self.count == count, seconds)

    def stay(self, count: int) -> None:
        """They are so many, and stay so many for longer than deleting one takes where nothing else runs."""
        self.wait_for(count)
        time.sleep(STAYS_SECONDS)  # sleeps: nothing must happen meanwhile
        assert self.count == count

    def close(self) -> None:
        self._link.close()


@pytest.fixture(scope="module")
def services(module_deployment: Deployment) -> tuple[Service, Service]:
    storage = module_deployment.storage()
    scheduler = module_deployment.scheduler("-osa", storage.address)
    module_deployment.workers(scheduler, count=3)
    return scheduler, storage


@pytest.fixture
def stored(services: tuple[Service, Service]) -> Iterator[Stored]:
    objects = Stored(services[1].address)
    with contextlib.closing(objects):
        yield objects
        objects.wait_for(0)


@pytest.fixture
def client(services: tuple[Service, Service], stored: Stored) -> Iterator[Client]:
    with Client(services[0].address) as client:
        yield client


def send(client: Client) -> ObjectReference:
    return client.send_object(os.urandom(SIZE))


def wait_for_file(path: str, value: Any) -> Any:
    while not os.path.exists(path):
        time.sleep(0.01)  # sleeps: the task takes as long as the test wants
    return value


def test_a_dropped_reference_frees_its_object(client: Client, stored: Stored) -> None:
    references = [send(client) for _ in range(20)]
    assert client.map(len, references) == [SIZE] * 20
    stored.stay(20)
    del references[10:]
    stored.stay(10)
    references[0].release()
    stored.wait_for(9)
    with pytest.raises(MissingObjects, match="was released"):
        client.submit(len, references[0])
    with send(client) as reference:
        assert client.submit(len, reference).result(30) == SIZE
    references.clear()
    stored.wait_for(0)


def test_persisted_values_live_as_long_as_their_collection(client: Client, stored: Stored) -> None:
    dask = pytest.importorskip("dask")
    import scaler.dask

    get = scaler.dask.get(client)
    made = [dask.delayed(os.urandom)(SIZE) for _ in range(4)]
    persisted = list(dask.persist(*made, scheduler=get))
    stored.stay(4)
    lengths = [dask.delayed(len)(one) for one in persisted]
    assert dask.compute(*lengths, scheduler=get) == (SIZE,) * 4
    stored.stay(4)
    del persisted[1:]
    stored.stay(4)
    del lengths[1:]
    # Dask's graphs have cycles.
    gc.collect()
    stored.stay(1)
    assert len(persisted[0].compute(scheduler=get)) == SIZE
    stored.stay(1)


@pytest.mark.parametrize("kind", ["argument", "list", "closure", "large list", "node", "in a node"])
def test_a_task_keeps_what_it_needs(client: Client, stored: Stored, tmp_path: Path, kind: str) -> None:
    go = str(tmp_path / "go")
    reference = send(client)
    if kind == "argument":
        future = client.submit(wait_for_file, go, reference)
    elif kind == "list":
        future = client.submit(wait_for_file, go, [reference])
    elif kind == "closure":
        future = client.submit(cast(Any, lambda here, one=reference: (wait_for_file(here, None), one)[1]), go)
    elif kind == "large list":
        future = client.submit(wait_for_file, go, [os.urandom(SIZE), reference])
    elif kind == "node":
        future = client.get({"a": reference, "b": (wait_for_file, go, "a")}, ["b"], block=False)["b"]
    else:
        graph = {"a": (wait_for_file, go, 1), "b": (lambda before, one: one, "a", [reference])}
        future = client.get(graph, ["b"], block=False)["b"]
    del reference
    if kind == "in a node":
        del graph
    stored.stay(2 if kind == "large list" else 1)
    Path(go).touch()
    value = future.result(30)
    if kind in ("argument", "node"):
        assert len(value) == SIZE
    else:
        # What comes back is a reference again, and the only one.
        again = value[-1] if isinstance(value, list) else value
        stored.stay(1)
        assert client.submit(len, again).result(30) == SIZE
        del again
    del value, future
    stored.wait_for(0)


def test_results_are_deleted(client: Client, stored: Stored, tmp_path: Path) -> None:
    future = client.submit(os.urandom, SIZE)
    value = future.result(30)
    stored.wait_for(0)
    assert future.result() == value
    # Nobody waits for these.
    dropped = [client.submit(wait_for_file, str(tmp_path / "go"), bytes([number]) * SIZE) for number in range(3)]
    del dropped
    (tmp_path / "go").touch()
    # They have to run as well.
    stored.wait_for(0, 30)


def lengths_inside(references: list[ObjectReference], here: str) -> list[int]:
    with Client() as inner:
        futures = [inner.submit(wait_for_file, here, one) for one in references]
        inside = inner.submit(lambda ones: ones, references).result(30)
        assert inside == references
        mine = inner.send_object(bytes(SIZE))
        more = inner.map(len, [*references, mine])
        return [len(future.result(60)) for future in futures] + more


def test_references_of_others_in_clients_inside_tasks(client: Client, stored: Stored, tmp_path: Path) -> None:
    references = [send(client) for _ in range(2)]
    future = client.submit(lengths_inside, references, str(tmp_path / "go"))
    del references
    # The task's own object comes when its client has connected, which may take seconds.
    stored.wait_for(3, 30)
    stored.stay(3)
    (tmp_path / "go").touch()
    assert future.result(60) == [SIZE] * 5
    stored.wait_for(0)


def sent_inside() -> ObjectReference:
    return Client().send_object(bytes(SIZE))


def test_a_reference_that_a_task_has_made(deployment: Deployment) -> None:
    """It is its task's client's, which keeps it: nobody counts what has left the process."""
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    workers = deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    with contextlib.closing(Stored(storage.address)) as stored:
        reference = client.submit(sent_inside).result(30)
        stored.stay(1)
        assert client.submit(len, reference).result(30) == SIZE
        assert client.map(len, [reference] * 3) == [SIZE] * 3
        workers.terminate()
        stored.wait_for(0, 30)


def test_clients_that_leave_at_once(services: tuple[Service, Service], stored: Stored) -> None:
    """The scheduler's word of their end may be faster than their objects, which take another connection."""
    scheduler, _ = services
    for number in range(50):
        with Client(scheduler.address) as client:
            client.send_object(number.to_bytes(2, "big") * SIZE)
    stored.wait_for(0)


def test_objects_of_a_client_that_vanished_together_with_its_scheduler(deployment: Deployment) -> None:
    storage = deployment.storage("--object-retention-seconds", "10")
    scheduler = deployment.scheduler("-osa", storage.address)
    program = (
        "import os, sys, time\nfrom scaler import Client\nclient = Client(sys.argv[1])\n"
        f"reference = client.send_object(os.urandom({SIZE}))\nprint('sent', flush=True)\ntime.sleep(600)\n"
    )
    lost = subprocess.Popen([sys.executable, "-c", program, scheduler.address], stdout=subprocess.PIPE, text=True)
    with contextlib.closing(Stored(storage.address)) as stored:
        try:
            assert lost.stdout is not None
            assert lost.stdout.readline() == "sent\n"
            stored.wait_for(1, 10)
            scheduler.kill()
        finally:
            lost.kill()
            lost.wait()
            if lost.stdout is not None:
                lost.stdout.close()
        # Its successor has never heard of that client; and it does not keep its own waiting.
        scheduler = deployment.scheduler("-osa", storage.address)
        deployment.workers(scheduler, count=1)
        client = deployment.client(scheduler)
        reference = send(client)
        # No client says that a job lives: that is the scheduler's to say.
        client.submit_verbose(os.urandom, (SIZE,), detached=True, name="kept")
        stored.wait_for(3, 10)
        made_at = time.monotonic()
        stored.wait_for(2, 30)
        storage.wait_log("nobody says any more that client")
        time.sleep(max(0.0, made_at + 15.0 - time.monotonic()))  # sleeps: longer than what nobody speaks for is kept
        assert stored.count == 2
        job = client.jobs()["kept"]
        assert [len(value) for value in job.results(timeout=30)] == [SIZE]
        job.forget()
        reference.release()
        stored.wait_for(0)
