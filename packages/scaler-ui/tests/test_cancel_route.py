"""Requests to cancel tasks that are wrong: none of them cancels more than was meant, and each answer says what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from scaler_protocol.address import Address
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.messages import CancelRequest, MonitorSnapshot
from scaler_ui import cancellation
from scaler_ui.cancellation import NoAnswerError, Operator
from scaler_ui.feed import MonitorFeed
from scaler_ui.web.cancel_route import CANCELLATIONS_MAX
from scaler_ui.web.server import create_application

CLIENT = "ab" * 16


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CancelRequest]:
    """What the scheduler would be asked for. It never answers."""
    asked: list[CancelRequest] = []

    def cancel(_operator: Operator, _snapshot: object, _address: str, request: CancelRequest) -> int:
        asked.append(request)
        raise NoAnswerError("nobody is there")

    monkeypatch.setattr(Operator, "cancel", cancel)
    return asked


@pytest.fixture
def client() -> Iterator[TestClient]:
    with MonitorFeed(Address.parse("tcp://127.0.0.1:9")) as feed:
        application = create_application(feed)
        with TestClient(application, base_url="http://127.0.0.1:50001") as client:
            yield client


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f'{{"client": "{CLIENT}", "nummber": 5}}', "nummber: Extra inputs are not permitted"),
        (f'{{"client": "{CLIENT}", "number": null}}', "number is empty: leave it out"),
        (f'{{"client": "{CLIENT}", "label": ""}}', "label is empty: leave it out"),
        (f'{{"function": "", "client": "{CLIENT}"}}', "function is empty: leave it out"),
        ('{"label": "nightly", "client": ""}', "client is empty: leave it out"),
        ('{"label": 5}', "label: Input should be a valid string"),
        ('{"label": "\\ud800"}', "label: "),
        ('{"labe\\ud800l": "nightly"}', "Input should be a valid string"),
        ("{}", "name a client, a function or a label"),
        ("[]", "Input should be a valid dictionary"),
        ("{", "1: JSON decode error"),
        ("", "Field required"),
    ],
    ids=range(12),
)
def test_a_wrong_request_cancels_nothing_and_says_why_in_one_text(
    client: TestClient, asked: list[CancelRequest], body: str, words: str
) -> None:
    answer = client.post("/api/cancel", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert not asked


def test_what_is_named_is_asked_for(client: TestClient, asked: list[CancelRequest]) -> None:
    assert client.post("/api/cancel", json={"client": CLIENT, "number": 5}).status_code == 503
    assert client.post("/api/cancel", json={"label": "nightly"}).status_code == 503
    assert asked == [
        CancelRequest(0, bytes.fromhex(CLIENT), (5,), "", ""),
        CancelRequest(0, b"", (), "", "nightly"),
    ]


def test_requests_that_wait_for_a_silent_scheduler_are_bounded_and_take_no_pages_along(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[CancelRequest] = []
    is_over = threading.Event()

    def cancel(_operator: Operator, _snapshot: object, _address: str, request: CancelRequest) -> int:
        waiting.append(request)
        assert is_over.wait(60)
        raise NoAnswerError("nobody is there")

    monkeypatch.setattr(Operator, "cancel", cancel)
    with ThreadPoolExecutor(CANCELLATIONS_MAX) as threads:
        first = [threads.submit(client.post, "/api/cancel", json={"label": "a"}) for _ in range(CANCELLATIONS_MAX)]
        try:
            wait_until(lambda: len(waiting) == CANCELLATIONS_MAX, 30)
            answer = client.post("/api/cancel", json={"label": "b"})
            assert answer.status_code == 503
            assert "4 other requests to cancel tasks wait for the scheduler's answer" in answer.json()["detail"]
            assert answer.headers["retry-after"] == "5"
            assert client.get("/api/overview").status_code == 200
        finally:
            is_over.set()
        assert [one.result(30).status_code for one in first] == [503] * CANCELLATIONS_MAX
    assert client.post("/api/cancel", json={"label": "b"}).json()["detail"] == "nobody is there"


class GarbledLink:
    """A connection to something that is no scheduler, or one of another version."""

    refusal = None
    open_links = 0

    def __init__(self, *_: object) -> None:
        GarbledLink.open_links += 1

    def send(self, frames: Sequence[bytes]) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def receive(self, _most: int) -> list[list[bytes]]:
        return [[b"?", b"no message"]]

    def close(self) -> None:
        GarbledLink.open_links -= 1


def test_an_answer_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "DealerLink", GarbledLink)
    snapshot = MonitorSnapshot(1, 0.0, b"i" * 16, scheduler_address="tcp://127.0.0.1:8")
    with pytest.raises(NoAnswerError, match="says cannot be read"):
        Operator().cancel(snapshot, "tcp://127.0.0.1:9", CancelRequest(0, label="nightly"))
    assert GarbledLink.open_links == 0
