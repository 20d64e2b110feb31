"""The data of `scaler_ui` against requests that schemathesis makes from its OpenAPI description, right ones and wrong ones."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from synthetic_cluster import failures, finished_tasks, snapshot

from scaler_protocol.address import Address
from scaler_protocol.testing.web_requests import check_requests
from scaler_ui.feed import MonitorFeed
from scaler_ui.model import ClusterModel
from scaler_ui.web.server import create_application

BASE = "http://127.0.0.1:50001"


PARTS = ("a-e", "f-i", "j-o", "p-s", "t-z")
"""First letters of what comes after /api/: all at once would take too long where much else runs."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", PARTS)
def test_no_request_of_the_description_is_an_internal_error(part: str) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: no requests are made up")
    model = ClusterModel()
    for message in (snapshot(1), finished_tasks(10), failures(1, 1)):
        model.accept(message, 0.0)
    with MonitorFeed(Address.parse("tcp://127.0.0.1:9"), model=model) as feed:
        application = create_application(feed)
        with TestClient(application, base_url=BASE, raise_server_exceptions=False) as client:
            check_requests(
                schemathesis,
                application.openapi(),
                client,
                BASE,
                path_regex=f"^/api/(stream|[^{part}])" + ("" if part == "a-e" else "|^/(?!api/)"),
            )
