"""`Client.run` against the in-process cluster, which has one worker."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scaler import AsyncClient, Client, WorkerRunError, errors
from scaler.client.worker_lists import workers_by_name
from scaler.testing import InProcessCluster
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import read_records


def fail(text: str) -> None:
    raise LookupError(text)


async def soon(value: int) -> int:
    return value


def test_results_comeworkers_by_name(client: Client) -> None:
    assert client.run(pow, 2, 10) == {"in-process": 1024}
    assert client.run(soon, 3) == {"in-process": 3}
    assert client.run_verbose(pow, (2,), {"exp": 3}) == {"in-process": 8}


def test_futures_and_references_may_be_arguments(client: Client) -> None:
    future, reference = client.submit(pow, 2, 2), client.send_object(3)
    assert client.run_verbose(pow, (future, reference)) == {"in-process": 64}


def test_failures_have_the_worker_s_name(client: Client) -> None:
    with pytest.raises(WorkerRunError, match="1 of 1 workers failed; in-process: LookupError: no") as caught:
        client.run(fail, "no")
    assert caught.value.results == {}
    assert isinstance(caught.value.errors["in-process"], LookupError)
    assert isinstance(caught.value.__cause__, LookupError)
    copied = pickle.loads(pickle.dumps(WorkerRunError({"a": 1}, {"b": LookupError("no")})))
    assert str(copied) == "1 of 2 workers failed; b: LookupError: no"
    outcome = client.run_verbose(fail, ("no",), return_exceptions=True)
    assert repr(outcome) == "{'in-process': LookupError('no')}"


def test_who_does_not_answer_in_time_is_cancelled(cluster: InProcessCluster, client: Client) -> None:
    cluster.hold()
    with pytest.raises(WorkerRunError, match=r"TimeoutError: worker in-process has not answered within 0.2 s"):
        client.run_verbose(pow, (2, 2), timeout=0.2)
    wait_until(lambda: client.operations.engine.unanswered_count == 0)
    cluster.resume()
    assert client.run(pow, 2, 2) == {"in-process": 4}


def test_with_options_its_calls_are_labelled_and_end_with_the_others(cluster: InProcessCluster, client: Client) -> None:
    nightly = client.with_options(label="nightly")
    assert nightly.run(pow, 2, 10) == {"in-process": 1024}
    labels = [read_records(each.options)[0] for each in cluster.received if isinstance(each, m.TaskBatch)]
    assert [[record.label for record in records] for records in labels] == [["nightly"]]
    cluster.hold()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(nightly.run_verbose, pow, (2, 2), timeout=20)
        wait_until(lambda: client.operations.engine.unanswered_count == 1)
        client.clear()
        with pytest.raises(WorkerRunError, match="the client was cleared"):
            running.result(10)
    cluster.resume()


def test_a_coroutine_s_calls_are_labelled_too(cluster: InProcessCluster) -> None:
    async def run() -> dict[str, int]:
        async with AsyncClient(cluster.address) as client:
            return await client.with_options(label="nightly").run(pow, 2, 10)

    assert asyncio.run(run()) == {"in-process": 1024}
    (batch,) = (each for each in cluster.received if isinstance(each, m.TaskBatch))
    assert [record.label for record in read_records(batch.options)[0]] == ["nightly"]


def test_a_scheduler_that_does_not_answer(cluster: InProcessCluster, client: Client) -> None:
    cluster.silent = True
    with pytest.raises(errors.DisconnectedError, match="which workers"):
        client.run_verbose(pow, (2, 2), timeout=0.2)
    cluster.silent = False
    assert client.run(pow, 2, 2) == {"in-process": 4}


def test_after_the_scheduler_was_restarted(cluster: InProcessCluster, client: Client) -> None:
    cluster.restart()
    assert client.run(pow, 2, 2) == {"in-process": 4}


@pytest.mark.parametrize("timeout", [None, float("inf"), -1, float("nan")])
def test_the_wait_is_bounded(client: Client, timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        client.run_verbose(pow, (2, 2), timeout=timeout)


def test_a_client_that_has_left(client: Client) -> None:
    client.disconnect()
    with pytest.raises(errors.ClientQuitException):
        client.run(pow, 2, 2)


def test_workers_of_the_same_name_are_told_apart() -> None:
    one, other = b"a" * 16, b"b" * 16
    found = workers_by_name(m.WorkerList((one, other, other), [0, 0, 1], ("w-0", "w-0", "w-1")))
    assert len(found) == 3
    assert list(found)[2] == "w-1"
