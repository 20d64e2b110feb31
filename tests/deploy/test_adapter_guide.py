"""The adapter shown in docs/adapters.md works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from scaler_adapters.application import create_application

GUIDE = Path(__file__).parents[2] / "docs" / "adapters.md"


def test_the_template_is_an_adapter() -> None:
    (template,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "my_adapter.adapter"}
    exec(template, names)
    settings = names["MySettings"].from_command_line(["tcp://127.0.0.1:2345", "--machines", "1"])
    with TestClient(create_application(names["MyAdapter"](settings)), base_url="http://127.0.0.1") as http:
        started = http.post("/", json={"action": "start_worker_group", "capabilities": ["gpu"]})
        assert started.status_code == 200
        assert http.post("/", json={"action": "start_worker_group"}).status_code == 429
        group_id = started.json()["worker_group_id"]
        assert [group["worker_group_id"] for group in http.get("/").json()["worker_groups"]] == [group_id]
        stop = {"action": "shutdown_worker_group", "worker_group_id": group_id}
        assert http.post("/", json=stop).status_code == 200
        assert http.post("/", json=stop).status_code == 404
