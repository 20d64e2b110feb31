"""The object storage server dies with all it has in memory: clients send again what they still have, and the rest is named."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scaler import ScalerFuture
from scaler.client import object_channel, stored_objects
from scaler.client.snapshots import Snapshots
from scaler.errors import MissingObjects
from tests.integration.deployment import Deployment, wait_for
from tests.integration.test_object_life import Stored

pytestmark = pytest.mark.without_keys("it asks object storage as a scheduler does, whose keys it does not have")

SIZE = 3_000_000
SECONDS = 60

COUNT = 30
"""Objects that are lost. Waited for one after another, they would take five minutes."""


def make(number: int) -> bytes:
    return bytes([number]) * 300_000


def wait_beside(path: str) -> int:
    """Occupy a worker until a file is there."""
    while not Path(path).exists():
        time.sleep(0.05)  # sleeps: the task waits for the test
    return 0


def length(value: bytes, _beside: int) -> int:
    return len(value)


def test_what_a_client_still_has_is_sent_again_and_unfinished_tasks_go_on(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a client on another host than storage, with room for copies of its own that one of these values fits into.
    monkeypatch.setattr(object_channel, "accept_offer", lambda offer, incarnation: None)
    monkeypatch.setattr(stored_objects, "Snapshots", partial(Snapshots, SIZE + 1000))
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    client = deployment.client(scheduler)
    values = [bytes([number]) * SIZE for number in range(3)]
    alive = [client.send_object(value) for value in values]
    changing = [client.send_object(bytearray(bytes([10 + number]) * SIZE)) for number in range(3)]
    # No worker is there yet: all these tasks are unfinished when storage dies.
    at_hand = [client.submit(bytes.count, reference, bytes([number])) for number, reference in enumerate(alive)]
    copied, _, latest = (client.submit(len, reference) for reference in changing)
    # What storage has not answered yet the client has anyway.
    stored = Stored(storage.address)
    stored.wait_for(6, SECONDS)
    stored.close()
    storage.kill()
    storage = deployment.storage(address=storage.address)
    deployment.workers(scheduler, count=3)
    assert [future.result(SECONDS) for future in at_hand] == [SIZE] * 3
    assert latest.result(SECONDS) == SIZE
    with pytest.raises(MissingObjects, match=changing[0].object_id.hex()) as lost:
        copied.result(SECONDS)
    assert storage.address in str(lost.value)


def test_tasks_whose_objects_nobody_has_end_without_waiting_for_each_in_turn(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker would wait ten seconds for each of them."""
    monkeypatch.setattr(object_channel, "accept_offer", lambda offer, incarnation: None)
    monkeypatch.setattr(stored_objects, "Snapshots", partial(Snapshots, 1))
    storage = deployment.storage()
    scheduler = deployment.scheduler("-osa", storage.address)
    client = deployment.client(scheduler)
    references = [client.send_object(bytearray(bytes([number]) * 100_000)) for number in range(30)]
    lost = [client.submit(len, reference) for reference in references]
    stored = Stored(storage.address)
    stored.wait_for(30, SECONDS)
    stored.close()
    storage.kill()
    storage = deployment.storage(address=storage.address)
    deployment.workers(scheduler, count=1)
    done, silent = wait(lost, timeout=SECONDS)
    assert not silent, f"{len(silent)} of {len(lost)}"
    assert {type(future.exception()) for future in done} == {MissingObjects}
    # One that is sent now is another matter.
    assert client.submit(len, client.send_object(bytearray(200_000))).result(SECONDS) == 200_000


class Results:
    """Large results in the memory of an object storage server. Their worker has ended, so no other process has them."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.storage = deployment.storage()
        self.scheduler = deployment.scheduler("-osa", self.storage.address)
        self.client = deployment.client(self.scheduler)
        self.workers = deployment.workers(self.scheduler)

    def lose(self) -> None:
        """Replace the server, and let one worker find that its objects are missing."""
        stored = Stored(self.storage.address)
        stored.wait_for(COUNT, SECONDS)
        stored.close()
        self.workers.kill()
        self.storage.kill()
        self.storage = self.deployment.storage(address=self.storage.address)

    def wait_lost(self, futures: Sequence[ScalerFuture]) -> None:
        """All of them end with the error that names object and server, in the time that one takes, and a little."""
        done, silent = wait(futures, timeout=SECONDS / 2)
        assert not silent, f"{len(silent)} of {len(futures)}"
        assert {type(future.exception()) for future in done} == {MissingObjects}
        assert all(self.storage.address in str(future.exception()) for future in done)


def test_tasks_whose_inputs_are_lost_results_end_without_waiting_for_each_in_turn(deployment: Deployment) -> None:
    results = Results(deployment)
    client = results.client
    made = [client.submit(make, number) for number in range(COUNT)]
    wait_for("large results", lambda: all(future.has_value for future in made))
    results.lose()
    lost = [client.submit(len, future) for future in made]
    results.deployment.workers(results.scheduler, count=1)
    results.wait_lost(lost)
    for future in made:
        with pytest.raises(MissingObjects, match="is not in object storage any more"):
            future.result(SECONDS)
    # What is made now is another matter.
    assert client.submit(len, client.submit(make, 1)).result(SECONDS) == 300_000


def test_rows_whose_inputs_are_lost_results_end_without_waiting_for_each_in_turn(
    deployment: Deployment, tmp_path: Path
) -> None:
    results = Results(deployment)
    gate = tmp_path / "gate"
    graph: dict[str, Any] = {f"made{number}": (make, number) for number in range(COUNT)}
    graph["beside"] = (wait_beside, str(gate))
    lengths = {f"length{number}": (length, f"made{number}", "beside") for number in range(COUNT)}
    lost = results.client.get(graph | lengths, [*lengths], block=False)
    results.lose()
    gate.touch()
    results.deployment.workers(results.scheduler, count=1)
    results.wait_lost([lost[key] for key in lengths])
