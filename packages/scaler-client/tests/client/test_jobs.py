"""Jobs as a client sees them, before the scheduler is asked."""

from __future__ import annotations

import gc
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scaler import Client, errors
from scaler.client.jobs import ClientJobs, Jobs
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until


@pytest.mark.parametrize("name", [3, None, "", "\ud800", "two\nlines", b"job", "x" * 10_000])
def test_what_is_no_name_names_no_job(name: Any) -> None:
    # The scheduler is not asked: there is none.
    operations = SimpleNamespace(client_jobs=SimpleNamespace)
    jobs = Jobs(cast("Any", SimpleNamespace(operations=operations)))
    assert name not in jobs
    with pytest.raises(errors.JobNotFoundError, match="there is no job"):
        jobs[name]


class SubmittingClient:
    """A client of which another thread begins a block, right when this one's end makes `submit` what it was before."""

    def __init__(self) -> None:
        self.operations: Any = SimpleNamespace(engine=None, submit=lambda *_: None)
        self.jobs = ClientJobs(self.operations)
        self.entering = threading.Thread(target=lambda: self.jobs.enter(cast("Any", self), "second"))
        self._submit_call: Any = self.operations.submit

    @property
    def submit_call(self) -> Any:
        return self._submit_call

    @submit_call.setter
    def submit_call(self, call: Any) -> None:
        if call is self.operations.submit:
            self.entering.start()
            # It has to wait for this call.
            self.entering.join(0.1)
        self._submit_call = call


def test_a_block_that_begins_while_another_threads_ends_gets_its_tasks() -> None:
    client = SubmittingClient()
    client.jobs.enter(cast("Any", client), "first")
    client.jobs.leave(cast("Any", client))
    client.entering.join(30)
    assert client.submit_call == client.jobs.submit_here


@pytest.mark.parametrize("ends", ["is closed", "is forgotten"])
def test_the_end_of_the_process_concerns_no_client_that_has_ended(
    cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    client = Client(cluster.address)
    hooks: list[object] = []
    monkeypatch.setattr("atexit.register", hooks.append)
    monkeypatch.setattr("atexit.unregister", hooks.remove)
    client.operations.client_jobs()
    assert len(hooks) == 1
    if ends == "is closed":
        client.disconnect()
        client.disconnect()
    else:
        del client
        # The engine of a client that nobody has ends by itself, in a thread of its own.
        wait_until(lambda: gc.collect() >= 0 and not hooks, 30)
    assert not hooks
