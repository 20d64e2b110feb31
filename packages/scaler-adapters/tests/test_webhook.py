"""The webhook's contract, over a provider that starts nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from scaler_adapters.webhook import (
    AdapterInfo,
    NoCapacityError,
    ProvisioningError,
    UnknownGroupError,
    WorkerGroup,
    create_application,
)


class PretendedWorkers:
    """A provider that only keeps count."""

    def __init__(self) -> None:
        self.existing: dict[str, WorkerGroup] = {}
        self.started = 0
        self.capacity = 3
        self.broken = False
        self.may_start = threading.Event()
        self.may_start.set()

    def info(self) -> AdapterInfo:
        return AdapterInfo(self.capacity, 1, {"linux": -1})

    def groups(self) -> Sequence[WorkerGroup]:
        return list(self.existing.values())

    def start_group(self, capabilities: Mapping[str, int]) -> WorkerGroup:
        self.may_start.wait(10)
        if self.broken:
            raise ProvisioningError("no power")
        if len(self.existing) >= self.capacity:
            raise NoCapacityError("full")
        self.started += 1
        group = WorkerGroup(f"g{self.started}", (f"w{self.started}",), dict(capabilities))
        self.existing[group.group_id] = group
        return group

    def stop_group(self, group_id: str) -> None:
        if self.existing.pop(group_id, None) is None:
            raise UnknownGroupError(f"no group {group_id}")

    def stop_all(self) -> None:
        self.existing.clear()


@pytest.fixture
def workers() -> PretendedWorkers:
    return PretendedWorkers()


@pytest.fixture
def http(workers: PretendedWorkers) -> Iterator[TestClient]:
    with TestClient(create_application(workers)) as client:
        yield client


def post(http: TestClient, action: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = http.post("/", json={"action": action, **body})
    return answer.status_code, answer.json()


def test_an_adapter_says_what_it_can_do(http: TestClient) -> None:
    assert post(http, "get_worker_adapter_info") == (
        200,
        {"max_worker_groups": 3, "workers_per_group": 1, "base_capabilities": {"linux": -1}},
    )


@pytest.mark.parametrize("wanted", [{"gpu": -1}, {"gpu": None}, ["gpu"]])
def test_a_group_is_started_and_shut_down(http: TestClient, workers: PretendedWorkers, wanted: Any) -> None:
    status, answer = post(http, "start_worker_group", capabilities=wanted)
    assert (status, answer["status"], answer["worker_group_id"], answer["worker_ids"]) == (200, "success", "g1", ["w1"])
    assert workers.existing["g1"].capabilities == {"gpu": -1}
    status, answer = post(http, "shutdown_worker_group", worker_group_id="g1", auth_token="any")
    assert (status, answer["status"], answer["worker_group_id"]) == (200, "success", "g1")
    assert not workers.existing


def test_the_older_words_mean_the_same(http: TestClient, workers: PretendedWorkers) -> None:
    _, answer = post(http, "start_worker")
    status, answer = post(http, "shutdown_worker", worker_id=answer["worker_id"])
    assert (status, answer["worker_id"]) == (200, "g1")
    assert not workers.existing


def test_refusals_carry_the_standards_status_and_a_reason(http: TestClient, workers: PretendedWorkers) -> None:
    assert post(http, "shutdown_worker_group", worker_group_id="x") == (404, {"error": "no group x"})
    assert post(http, "shutdown_worker_group") == (400, {"error": "shutdown_worker_group needs worker_group_id"})
    status, answer = post(http, "dance")
    assert (status, answer["error"].startswith("unknown action 'dance'")) == (400, True)
    workers.capacity = 0
    assert post(http, "start_worker_group") == (429, {"error": "full"})
    workers.broken = True
    assert post(http, "start_worker_group") == (500, {"error": "no power"})


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"action": 3}', b'{"action": "start_worker", "metadata": 1}'])
def test_what_is_malformed_is_refused(http: TestClient, body: bytes) -> None:
    answer = http.post("/", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_a_repeated_request_provisions_once(http: TestClient, workers: PretendedWorkers) -> None:
    workers.may_start.clear()
    answers: list[dict[str, Any]] = []
    callers = [
        threading.Thread(
            target=lambda: answers.append(post(http, "start_worker_group", metadata={"request_id": "r1"})[1])
        )
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    workers.may_start.set()
    for caller in callers:
        caller.join()
    assert workers.started == 1
    assert {answer["worker_group_id"] for answer in answers} == {"g1"}


def test_a_refused_request_may_be_repeated(http: TestClient, workers: PretendedWorkers) -> None:
    workers.broken = True
    assert post(http, "start_worker_group", metadata={"request_id": "r1"})[0] == 500
    workers.broken = False
    assert post(http, "start_worker_group", metadata={"request_id": "r1"})[0] == 200


def test_the_overview_lists_what_exists(http: TestClient) -> None:
    post(http, "start_worker_group")
    assert [group["worker_group_id"] for group in http.get("/").json()["worker_groups"]] == ["g1"]
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/docs").status_code == 200


def test_nothing_stays_behind(workers: PretendedWorkers) -> None:
    with TestClient(create_application(workers)) as http:
        post(http, "start_worker_group")
    assert not workers.existing
