"""The webhook against requests that schemathesis makes from its OpenAPI description, right ones and wrong ones."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from test_webhook import BASE, PretendedWorkers

from scaler_adapters.application import create_application
from scaler_protocol.testing.web_requests import check_requests


# Many requests, which take long where much else runs.
@pytest.mark.timeout(300)
def test_no_request_of_the_description_is_an_internal_error() -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: no requests are made up")
    application = create_application(PretendedWorkers(), answer_s=0.05)
    with TestClient(application, base_url=BASE, raise_server_exceptions=False) as client:
        check_requests(schemathesis, application.openapi(), client, BASE)
