"""The webhook's contract, over an adapter that starts nothing."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from scaler_adapters.adapter import (
    AdapterInfo,
    NoCapacityError,
    ProvisioningError,
    StartRequest,
    UnknownGroupError,
    WorkerAdapter,
    WorkerGroup,
)
from scaler_adapters.application import create_application
from scaler_protocol.service.web_access import BODY_BYTES_MAX

BASE = "http://127.0.0.1:8080"


class PretendedWorkers(WorkerAdapter):
    """An adapter that only keeps count."""

    def __init__(self, settings: Any = None) -> None:
        self.existing: dict[str, WorkerGroup] = {}
        self.started = 0
        self.capacity = 3
        self.broken = False
        self.raises: Exception | None = None
        self.list_error: Exception | None = None
        self.close_error: Exception | None = None
        self.may_start = threading.Event()
        self.may_start.set()

    def info(self) -> AdapterInfo:
        return AdapterInfo(self.capacity, 1, {"linux": -1})

    def list(self) -> Sequence[WorkerGroup]:
        if self.list_error is not None:
            raise self.list_error
        return [*self.existing.values()]

    def start(self, request: StartRequest) -> WorkerGroup:
        self.may_start.wait(10)
        if self.raises is not None:
            raise self.raises
        if self.broken:
            raise ProvisioningError("no power")
        if len(self.existing) >= self.capacity:
            raise NoCapacityError("full")
        self.started += 1
        group = WorkerGroup(
            f"g{self.started}", (f"w{self.started}",), request.capabilities, request_id=request.request_id
        )
        self.existing[group.group_id] = group
        return group

    def stop(self, group_id: str) -> None:
        if self.existing.pop(group_id, None) is None:
            raise UnknownGroupError(f"no group {group_id}")

    def close(self) -> None:
        if self.close_error is not None:
            raise self.close_error
        self.existing.clear()


@pytest.fixture
def workers() -> PretendedWorkers:
    return PretendedWorkers()


@pytest.fixture
def http(workers: PretendedWorkers) -> Iterator[TestClient]:
    with TestClient(create_application(workers), base_url=BASE) as client:
        yield client


def post(http: TestClient, action: str, **body: Any) -> tuple[int, dict[str, Any]]:
    # As ASCII with escapes: httpx itself cannot send a lone surrogate, which JSON can express.
    content = json.dumps({"action": action, **body})
    answer = http.post("/", content=content, headers={"content-type": "application/json"})
    return answer.status_code, answer.json()


def test_workers_that_cannot_be_stopped_at_the_end_are_told_of_in_one_line(
    workers: PretendedWorkers, caplog: pytest.LogCaptureFixture
) -> None:
    workers.close_error = ProvisioningError("squeue: no answer")
    with TestClient(create_application(workers)):
        pass
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "the groups of this adapter could not be stopped: squeue: no answer"
    assert record.exc_info is None


def test_an_adapter_says_what_it_can_do(http: TestClient) -> None:
    assert post(http, "get_worker_adapter_info") == (
        200,
        {"max_worker_groups": 3, "workers_per_group": 1, "base_capabilities": {"linux": -1}},
    )


def test_the_end_of_a_group_that_has_ended_already_is_no_warning(
    http: TestClient, workers: PretendedWorkers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    post(http, "start_worker_group")
    workers.existing.clear()
    status, _ = post(http, "shutdown_worker_group", worker_group_id="g1")
    assert status == 404
    (record,) = [record for record in caplog.records if "shutdown_worker_group" in record.getMessage()]
    assert (record.levelname, record.getMessage()) == (
        "INFO",
        "shutdown_worker_group: no group g1 (it has ended already)",
    )
    workers.broken = True
    post(http, "start_worker_group")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "start_worker_group: no power"
    ]


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
    with TestClient(create_application(workers), base_url=BASE) as http:
        post(http, "start_worker_group")
    assert not workers.existing


def test_what_takes_long_is_answered_202_and_can_be_asked_for(workers: PretendedWorkers) -> None:
    with TestClient(create_application(workers, answer_s=0.05), base_url=BASE) as http:
        workers.may_start.clear()
        request = {"action": "start_worker_group", "metadata": {"request_id": "r1"}}
        accepted = http.post("/", json=request)
        assert accepted.status_code == 202
        assert accepted.json() == {"status": "pending", "request_id": "r1", "poll": "/requests/r1"}
        assert accepted.headers["Location"] == "/requests/r1"
        assert http.post("/", json=request).status_code == 202
        assert http.get("/requests/r1").status_code == 202
        workers.may_start.set()
        deadline = time.monotonic() + 10
        while (answer := http.get("/requests/r1")).status_code == 202:
            assert time.monotonic() < deadline
        assert (answer.status_code, answer.json()["worker_group_id"]) == (200, "g1")
        assert http.post("/", json=request).json() == answer.json()
        assert workers.started == 1
        assert http.get("/requests/r2").status_code == 404


def test_what_cannot_be_repeated_is_waited_for(workers: PretendedWorkers) -> None:
    with TestClient(create_application(workers, answer_s=0.0), base_url=BASE) as http:
        workers.may_start.clear()
        threading.Timer(0.2, workers.may_start.set).start()
        assert post(http, "start_worker_group")[0] == 200


def test_a_request_from_before_a_restart_finds_its_group(workers: PretendedWorkers) -> None:
    workers.existing["g9"] = WorkerGroup("g9", ("w9",), {}, request_id="r9")
    with TestClient(create_application(workers), base_url=BASE) as http:
        _, answer = post(http, "start_worker_group", metadata={"request_id": "r9"})
        assert (answer["worker_group_id"], answer["state"], workers.started) == ("g9", "running", 0)
        _, answer = post(http, "start_worker_group", metadata={"request_id": "r10"})
        assert answer["worker_group_id"] == "g1"


def test_whatever_an_adapter_raises_is_an_answer(http: TestClient, workers: PretendedWorkers) -> None:
    workers.raises = ZeroDivisionError("oh")
    assert post(http, "start_worker_group") == (500, {"error": "ZeroDivisionError: oh"})


@pytest.fixture
def guarded(workers: PretendedWorkers) -> Iterator[TestClient]:
    with TestClient(create_application(workers, token="secret"), base_url=BASE) as client:
        yield client


def test_without_the_token_nothing_is_done(guarded: TestClient, workers: PretendedWorkers) -> None:
    for token in (None, "", "Secret", "secret2", "\ud800", "é", "secret\0"):
        body = {} if token is None else {"auth_token": token}
        status, answer = post(guarded, "start_worker_group", **body)
        assert status == 401
        assert "token" in answer["error"]
    for header in ("secret", "Basic secret", "Bearer x"):
        assert guarded.get("/", headers={"Authorization": header}).status_code == 401
    assert guarded.get("/requests/r1").status_code == 401
    assert not workers.existing
    assert post(guarded, "start_worker_group", auth_token="secret")[0] == 200
    assert guarded.get("/", headers={"Authorization": "Bearer secret"}).json()["worker_groups"]
    assert guarded.get("/healthz").status_code == 200


def test_guesses_are_slowed_down_and_lock_nobody_out(guarded: TestClient, workers: PretendedWorkers) -> None:
    def ask(token: str, http: TestClient = guarded) -> httpx.Response:
        answer: httpx.Response = http.get("/", headers={"Authorization": f"Bearer {token}"})
        return answer

    # Who sends none is not guessing.
    assert {guarded.get("/").status_code for _ in range(20)} == {401}
    answers = [ask(f"guess {number}") for number in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "too many wrong tokens" in answers[-1].json()["error"]
    assert post(guarded, "start_worker_group", auth_token="guess")[0] == 429
    assert guarded.get("/docs", headers={"Authorization": "Basic " + b64encode(b"x:guess").decode()}).status_code == 429
    # Otherwise who guesses would find it all the same.
    assert ask("secret").status_code == 429
    assert not workers.existing
    with TestClient(create_application(workers, token="secret"), base_url=BASE) as other:
        assert ask("secret", other).status_code == 200
        assert [ask(f"guess {number}", other).status_code for number in range(12)] == [401] * 10 + [429] * 2
        assert ask("secret", other).status_code == 200


def test_other_names_and_other_sites_are_refused(guarded: TestClient, workers: PretendedWorkers) -> None:
    body = {"action": "start_worker_group", "auth_token": "secret"}
    assert guarded.post("/", json=body, headers={"Host": "evil.example"}).status_code == 421
    assert guarded.post("/", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert guarded.post("/", json=body, headers={"Origin": "null"}).status_code == 403
    assert not workers.existing
    assert guarded.post("/", json=body, headers={"Origin": "http://127.0.0.1:8080"}).status_code == 200
    assert guarded.get("/healthz", headers={"Host": "[::1]:8080"}).status_code == 200


CROSS_SITE = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://[evil"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    {"sec-fetch-site": "odd"},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_pages_of_other_sites_reach_nothing(
    http: TestClient, workers: PretendedWorkers, headers: dict[str, str]
) -> None:
    for path in ("/", "/healthz", "/requests/r1", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json", "/x"):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ODD"):
            answer = http.request(method, path, headers=headers, json={"action": "start_worker_group"})
            assert answer.status_code == 403, (method, path)
    assert not workers.existing


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "a@127.0.0.1", "", "[::1"]
)
def test_other_host_names_reach_nothing(http: TestClient, workers: PretendedWorkers, host: str) -> None:
    for method, path in (("POST", "/"), ("GET", "/"), ("GET", "/healthz"), ("GET", "/docs"), ("OPTIONS", "/")):
        answer = http.request(method, path, headers={"host": host}, json={"action": "start_worker_group"})
        assert answer.status_code == 421
    assert not workers.existing


def test_every_answer_has_the_security_headers(http: TestClient) -> None:
    for answer in (http.get("/healthz"), http.get("/x"), http.get("/", headers={"host": "evil.example"})):
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_openapi_page_needs_the_token_and_no_other_machine(guarded: TestClient) -> None:
    for path in ("/docs", "/openapi.json"):
        refused = guarded.get(path)
        assert (refused.status_code, "Basic" in refused.headers["www-authenticate"]) == (401, True)
        assert guarded.get(path, auth=("anyone", "wrong")).status_code == 401
        assert guarded.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
    page = guarded.get("/docs", auth=("anyone", "secret"))
    assert page.status_code == 200
    assert "://" not in page.text
    assert guarded.get("/docs/assets/swagger-ui-bundle.js").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"action": "start_worker_group", "capabilities": ["a,b"]},
        {"action": "start_worker_group", "capabilities": {"a=1": 2}},
        {"action": "start_worker_group", "capabilities": ["x" * 201]},
        {"action": "start_worker_group", "capabilities": [str(number) for number in range(101)]},
        {"action": "start_worker_group", "metadata": {"request_id": ["r"]}},
        {"action": "start_worker_group", "metadata": {"request_id": "r" * 201}},
    ],
)
def test_names_are_limited(http: TestClient, workers: PretendedWorkers, body: dict[str, Any]) -> None:
    answer = http.post("/", json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert not workers.existing


def test_long_requests_are_refused(http: TestClient) -> None:
    answer = http.post("/", content=b" " * (BODY_BYTES_MAX + 1))
    assert (answer.status_code, answer.json()) == (413, {"error": f"the request is longer than {BODY_BYTES_MAX} bytes"})


def test_too_many_at_once_are_told_to_come_back(workers: PretendedWorkers) -> None:
    with TestClient(create_application(workers, answer_s=0.0), base_url=BASE) as http:
        workers.may_start.clear()
        workers.capacity = 100
        statuses = [post(http, "start_worker_group", metadata={"request_id": n})[0] for n in range(40)]
        deadline = time.monotonic() + 10
        while http.get("/requests/39").status_code == 202:
            assert time.monotonic() < deadline
        assert set(statuses) <= {202, 429}
        assert http.get("/healthz").status_code == 200
        assert http.get("/").status_code == 200, "questions have threads of their own"
        workers.may_start.set()
