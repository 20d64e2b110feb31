"""The object storage server dies with all it has in memory: clients send again what they still have, and the rest is named."""

from __future__ import annotations

from concurrent.futures import wait
from functools import partial
from pathlib import Path

import pytest

from scaler.client import object_channel, stored_objects
from scaler.client.snapshots import Snapshots
from scaler.errors import MissingObjects
from tests.integration.deployment import Deployment
from tests.integration.test_object_life import Stored

SIZE = 3_000_000
SECONDS = 60


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
