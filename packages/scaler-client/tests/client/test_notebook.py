"""What notebooks show: tables without a look at the network, bars that keep how they ended, pages in a frame."""

from __future__ import annotations

import logging
import re
import sys
import threading
import types
from typing import Any

import pytest

import scaler
from scaler import AsyncClient, Client, errors
from scaler.client.jobs import ClientJobs, Job, JobStatus
from scaler.client.notebook import size_text
from scaler.client.object_reference import ObjectReference


class Handle:
    """One output below a cell: what was drawn there, last first."""

    def __init__(self, first: Any) -> None:
        self.drawn = [first]

    def update(self, shown: Any) -> None:
        self.drawn.insert(0, shown)


class Notebook:
    """Stands for IPython's kernel: notes what is displayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outputs: list[Handle] = []
        display = types.ModuleType("IPython.display")
        display.HTML = str  # type: ignore[attr-defined]
        display.IFrame = lambda url, width, height: f"<iframe src={url} width={width} height={height}>"  # type: ignore[attr-defined]
        display.display = self._display  # type: ignore[attr-defined]
        for name, module in (("ipykernel", types.ModuleType("ipykernel")), ("IPython.display", display)):
            monkeypatch.setitem(sys.modules, name, module)

    def _display(self, shown: Any, display_id: bool) -> Handle:
        assert display_id
        self.outputs.append(Handle(shown))
        return self.outputs[-1]

    def last(self) -> str:
        return str(self.outputs[-1].drawn[0])


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    return Notebook(monkeypatch)


def double(number: int) -> int:
    return 2 * number


gate = threading.Event()


def wait_long(number: int) -> int:
    gate.wait(600)
    return number


def test_a_bar_keeps_how_it_ended_without_widgets(
    client: Client, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert client.map(double, range(100), progress=True) == list(range(0, 200, 2))
    assert 'value="100" max="100"' in notebook.last()
    assert "double " in notebook.last()
    assert "100 of 100 items" in notebook.last()
    assert "ended early" not in notebook.last()
    assert client.map(double, (n for n in range(5)), progress=True) == [0, 2, 4, 6, 8]
    assert "</progress> 5 items, " in notebook.last()


def test_a_bar_says_that_it_ended_early(client: Client, notebook: Notebook) -> None:
    # It is cancelled when the time is over.
    try:
        with pytest.raises(TimeoutError):
            client.map(wait_long, range(4), progress=True, timeout=0.5)
    finally:
        gate.set()
    assert "(ended early)" in notebook.last()


def test_progress_of_futures(client: Client, notebook: Notebook) -> None:
    scaler.progress([client.submit(double, n) for n in range(3)])
    assert "3 of 3 items" in notebook.last()


def test_a_reference_is_a_table() -> None:
    reference = ObjectReference(b"o" * 16, b"c" * 16, "<b>quotes</b>", 3 * 1024**2)
    shown = reference._repr_html_()
    assert "&lt;b&gt;quotes&lt;/b&gt;" in shown
    assert "3.0 MiB" in shown
    assert "in storage" in shown
    reference.release()
    assert "released" in reference._repr_html_()


def test_sizes_have_units() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 38_900_000, 5 * 1024**4)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "37.1 MiB",
        "5120.0 GiB",
    ]


def test_the_dashboard_is_a_frame(client: Client, notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"dashboard=True.*--dashboard-url"):
        client.dashboard()
    url = "http://127.0.0.1:50001"
    monkeypatch.setattr(type(client.operations), "dashboard_url", url)
    assert client.dashboard() == f"<iframe src={url} width=100% height=600>"
    assert client.dashboard(800, 400) == f"<iframe src={url} width=800 height=400>"


def test_without_ipython_the_dashboard_names_its_address(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    monkeypatch.setattr(type(client.operations), "dashboard_url", "http://127.0.0.1:50001")
    with pytest.raises(ImportError, match=r"a browser shows http://127\.0\.0\.1:50001"):
        client.dashboard()


def test_an_async_client_has_it_too() -> None:
    with pytest.raises(RuntimeError):
        AsyncClient("tcp://127.0.0.1:9").dashboard()


def test_a_client_says_after_two_seconds_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "scaler"), pytest.raises(errors.DisconnectedError):
        Client("tcp://127.0.0.1:1", timeout_seconds=3)
    (line,) = caplog.messages
    assert re.fullmatch(
        r"no scheduler at tcp://127\.0\.0\.1:1 since [23] s \(Connection refused\); waiting for 3 s at most", line
    )


def test_a_client_that_connects_soon_says_nothing(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with Client(client.address):
        pass
    assert not caplog.messages


def test_what_has_become_of_a_job_is_a_table() -> None:
    counts = {"waiting": 0, "running": 1, "done": 1_200, "failed": 3, "canceled": 0, "lost": 0, "tasks": 1_204}
    rest = {"size_bytes": 9, "is_closed": True, "keep_seconds": 60.0, "expires": None}
    shown = JobStatus("<night>", "alice", 0.0, **counts, **rest)._repr_html_()  # type: ignore[arg-type]
    assert "&lt;night&gt;" in shown
    assert ">1,200<" in shown
    # What there is none of, or is not known, is left out.
    assert "canceled" not in shown
    assert "forgotten" not in shown


def told_job(name: str, **others: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("waiting", "running", "done", "failed", "canceled", "lost", "tasks", "bytes"), 0)
    times = {"started": 1_700_000_000.0, "keep": 60.0, "expires": None}
    return {"name": name, "owner": "alice", "closed": True, **counts, **times, **others}


def test_jobs_have_tables(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] | Exception = []

    def ask(*_: Any) -> list[dict[str, Any]]:
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(ClientJobs, "ask", ask)
    jobs = client.jobs()
    assert jobs._repr_html_().endswith("none</div>")
    told = [told_job(f"<b>{number}</b>", done=1234, notice="no <gpu>") for number in range(103)]
    shown = jobs._repr_html_()
    assert "&lt;b&gt;99&lt;/b&gt;" in shown
    assert "&lt;b&gt;100&lt;/b&gt;" not in shown
    assert "1,234" in shown
    assert "and 3 more" in shown
    assert "no &lt;gpu&gt;" in Job(client.source, "a")._repr_html_()
    told = errors.JobNotFoundError("there is no job <a>")
    assert "there is no job &lt;a&gt;" in Job(client.source, "a")._repr_html_()
    assert "not known" in jobs._repr_html_()
