"""Requests that schemathesis makes from an application's OpenAPI description, for tests of web services."""

from __future__ import annotations

from typing import Any

import httpx
from hypothesis import HealthCheck, given, reject, seed, settings
from hypothesis.errors import Unsatisfiable

CASES = 60
"""Requests for each operation, right ones and wrong ones each."""


def check_requests(schemathesis: Any, document: Any, client: Any, base_url: str, **left_out: str) -> None:
    """Ask for every operation of an OpenAPI document; fail where the answer is an internal error.

    `schemathesis` is the module, which tests skip without, and `client` a started `TestClient` that raises no server's
    exceptions. `left_out` are schemathesis' filters: `path="/api/stream"` for an endless one.
    """
    description = schemathesis.openapi.from_dict(document)
    if left_out:
        description = description.exclude(**left_out)
    for found in description.get_all_operations():
        operation = found.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @seed(1)
            @given(operation.as_strategy(generation_mode=mode))
            @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            def ask(case: Any) -> None:
                request = case.as_transport_kwargs(base_url=base_url)
                request.pop("cookies", None)
                try:
                    answer = client.request(**request)
                except httpx.InvalidURL:
                    # A longer address than the client sends: no server ever sees it.
                    reject()
                assert answer.status_code < 500, (request, answer.text)

            try:
                ask()
            except Unsatisfiable:
                # Without parameters, or where any text is right, no request is wrong.
                assert mode is schemathesis.GenerationMode.NEGATIVE
