"""The webhook's two optional fields for sizes: what an adapter can be asked for, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from scaler_adapters.adapter import AdapterInfo, StartRequest, WorkerAdapter, WorkerGroup
from scaler_adapters.application import create_application


class SizingAdapter(WorkerAdapter):
    def __init__(self, settings: Any = None) -> None:
        self.sized: Sequence[str] = ("cores", "mem")
        self.requests: list[StartRequest] = []

    def info(self) -> AdapterInfo:
        return AdapterInfo(-1, 1, {}, self.sized)

    def list(self) -> Sequence[WorkerGroup]:
        return []

    def start(self, request: StartRequest) -> WorkerGroup:
        self.requests.append(request)
        return WorkerGroup("g", ("w",))

    def stop(self, group_id: str) -> None:
        raise NotImplementedError


def post(adapter: SizingAdapter, **body: Any) -> tuple[int, dict[str, Any]]:
    with TestClient(create_application(adapter), base_url="http://127.0.0.1:8080") as http:
        answer = http.post("/", json=body)
    return answer.status_code, answer.json()


def test_an_adapter_says_what_it_can_be_asked_for() -> None:
    adapter = SizingAdapter()
    assert post(adapter, action="get_worker_adapter_info")[1]["sized_resources"] == ["cores", "mem"]
    adapter.sized = ()
    assert "sized_resources" not in post(adapter, action="get_worker_adapter_info")[1]


def test_it_is_told_amounts_as_numbers() -> None:
    adapter = SizingAdapter()
    for resources, seen in (
        ({"cores": 2, "mem": 1024**3}, {"cores": 2, "mem": 1024**3}),
        ({"cores": 0.5, "mem": "2GiB"}, {"cores": 0.5, "mem": 2 * 1024**3}),
        ({}, {}),
        (None, {}),
    ):
        assert post(adapter, action="start_worker_group", resources=resources)[0] == 200
        assert adapter.requests[-1].resources == seen
    assert post(adapter, action="start_worker_group")[0] == 200
    assert adapter.requests[-1] == StartRequest()


@pytest.mark.parametrize("resources", [{"gpu": "many"}, {"gpu": -1}, {"a b": 1}, [1], {f"r{n}": 1 for n in range(17)}])
def test_amounts_that_cannot_be_read_are_refused(resources: Any) -> None:
    adapter = SizingAdapter()
    status, answer = post(adapter, action="start_worker_group", resources=resources)
    assert status == 400
    assert "resources" in answer["error"]
    assert adapter.requests == []
