"""The webhook against requests that schemathesis makes from its OpenAPI description, right ones and wrong ones."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from test_webhook import BASE, PretendedWorkers

from scaler_adapters.application import create_application

CASES = 60
"""Requests for each operation. More of them belong in a fuzzing session."""


def test_no_request_of_the_description_is_an_internal_error() -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: no requests are made up")
    workers = PretendedWorkers()
    application = create_application(workers, answer_s=0.05)
    description = schemathesis.openapi.from_dict(application.openapi())
    with TestClient(application, base_url=BASE, raise_server_exceptions=False) as client:
        for found in description.get_all_operations():
            operation = found.ok()
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

                @seed(1)
                @given(operation.as_strategy(generation_mode=mode))
                @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
                def ask(case: object) -> None:
                    request = case.as_transport_kwargs(base_url=BASE)  # type: ignore[attr-defined]
                    request.pop("cookies", None)
                    answer = client.request(**request)
                    assert answer.status_code < 500, (request, answer.text)

                try:
                    ask()
                except Unsatisfiable:
                    # Without parameters, or where any text is right, no request is wrong.
                    assert mode is schemathesis.GenerationMode.NEGATIVE
