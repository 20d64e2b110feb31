"""The pages of a cluster: `SchedulerClusterCombo(dashboard=True)`, `Client.dashboard_url`, and what the scheduler says."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from scaler import AsyncClient, Client, SchedulerClusterCombo
from scaler.local.services import WEB, require
from tests.integration import functions, plain_http
from tests.integration.deployment import Deployment, wait_for


def url_inside_a_task() -> str | None:
    with Client() as client:
        return client.dashboard_url


def pid_of_the_pages(url: str) -> int:
    port = int(url.rpartition(":")[2])
    for process in psutil.Process().children(recursive=True):
        for connection in process.net_connections():
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return int(process.pid)
    raise LookupError(url)


def test_a_local_cluster_shows_itself_in_a_browser_until_it_ends() -> None:
    with SchedulerClusterCombo(n_workers=1, dashboard=True) as combo:
        url = combo.dashboard_url
        assert url is not None
        assert url.startswith("http://127.0.0.1:")
        assert url in repr(combo)
        assert f'<a href="{url}"' in combo._repr_html_()
        with Client(combo.get_address(), name="pricing") as client:
            assert client.dashboard_url == url
            assert f'<a href="{url}"' in client._repr_html_()
            assert client.submit(functions.square, 3).result() == 9
            # Tasks are told it too.
            assert client.submit(url_inside_a_task).result() == url

            def is_shown() -> bool:
                shown: list[dict[str, Any]] = plain_http.get(f"{url}/api/clients").json()
                return {"pricing"} <= {one["name"] for one in shown}

            wait_for("the client is shown", is_shown)
            assert "<title>Scaler" in plain_http.get(url).text

        async def ask() -> str | None:
            async with AsyncClient(combo.get_address()) as client:
                return client.dashboard_url

        assert asyncio.run(ask()) == url
        pid = pid_of_the_pages(url)
    assert not psutil.pid_exists(pid)
    assert repr(combo) == "<SchedulerClusterCombo state not running>"
    with pytest.raises(httpx.ConnectError):
        plain_http.get(url)


def test_two_local_clusters_have_pages_of_their_own() -> None:
    with (
        SchedulerClusterCombo(n_workers=0, dashboard=True) as one,
        SchedulerClusterCombo(n_workers=0, dashboard=True) as two,
    ):
        assert one.dashboard_url != two.dashboard_url
        for combo in (one, two):
            assert plain_http.get(f"{combo.dashboard_url}/healthz").status_code == 200


def test_without_pages_there_is_no_url() -> None:
    with SchedulerClusterCombo(n_workers=0) as combo, Client(combo.get_address()) as client:
        assert combo.dashboard_url is None
        assert client.dashboard_url is None
        assert "dashboard" not in repr(combo)
        assert "dashboard" not in client._repr_html_()


def test_pages_that_are_served_elsewhere_are_told_of() -> None:
    url = "https://scaler.example.org/prod"
    with SchedulerClusterCombo(n_workers=0, dashboard_url=url) as combo, Client(combo.get_address()) as client:
        assert combo.dashboard_url == client.dashboard_url == url
    with pytest.raises(ValueError, match="leave dashboard_url out"):
        SchedulerClusterCombo(n_workers=0, dashboard=True, dashboard_url=url)


def test_without_scaler_ui_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "scaler_ui" else found(name, *rest)
    )
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(ImportError, match=r"needs scaler-ui, not installed here: pip install scaler-ui"):
        SchedulerClusterCombo(n_workers=0, dashboard=True)
    assert {child.pid for child in psutil.Process().children()} <= before
    monkeypatch.undo()
    require([WEB])


def test_a_cluster_outlives_its_pages() -> None:
    with SchedulerClusterCombo(n_workers=1, dashboard=True) as combo, Client(combo.get_address()) as client:
        assert combo.dashboard_url is not None
        os.kill(pid_of_the_pages(combo.dashboard_url), signal.SIGKILL)
        assert client.submit(functions.square, 3).result() == 9


def test_the_scheduler_says_first_how_to_watch_it(deployment: Deployment, tmp_path: Path) -> None:
    log = tmp_path / "scheduler.log"
    scheduler = deployment.scheduler("--logging-paths", str(log), "--dashboard-url", "http://0.0.0.0:50001")
    monitor, address = str(scheduler.addresses["monitor"]), str(scheduler.addresses["scheduler"])
    # Where its log goes is said before, and object storage writes there too.
    first = next(line for line in log.read_text().splitlines() if "scheduler" in line and "logging to" not in line)
    assert f"scheduler listens on {address}. Watch it at http://0.0.0.0:50001" in first
    assert f"'scaler_ui {monitor}'" in first
    assert f"'scaler_top {monitor}'" in first
    with Client(address) as client:
        # Pages that are served everywhere are where the scheduler is.
        assert client.dashboard_url == "http://127.0.0.1:50001"


def test_a_wrong_url_is_refused_at_the_start(deployment: Deployment) -> None:
    from scaler_protocol.service.errors import ServiceError

    with pytest.raises(ServiceError, match=r"--dashboard-url: .*not of the form http://127.0.0.1:50001"):
        deployment.scheduler("--dashboard-url", "ftp://a")
