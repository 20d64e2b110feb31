"""Progress bars and what notebooks show: bars count items, end in every case, and stay quiet where nobody looks."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tqdm.auto import tqdm

import scaler
from scaler import Client, errors


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sit_at(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called in the test itself: pytest puts its own stream in place after fixtures are made."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def double(number: int) -> int:
    return 2 * number


def fail_at_30(number: int) -> int:
    if number == 30:
        raise LookupError("thirty")
    return number


def last_line(terminal: Terminal) -> str:
    return terminal.getvalue().replace("\r", "\n").strip().splitlines()[-1]


def open_bars() -> list[Any]:
    return list(tqdm._instances)  # type: ignore[attr-defined]


def test_map_counts_items(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at(monkeypatch)
    assert client.map(double, range(100), progress=True) == list(range(0, 200, 2))
    assert "double: 100%" in last_line(terminal)
    assert "100/100" in last_line(terminal)
    assert not open_bars()


def test_starmap_counts_items(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at(monkeypatch)
    assert client.starmap(pow, [(2, 3), (3, 2)], progress=True) == [8, 9]
    assert "2/2" in last_line(terminal)


@pytest.mark.parametrize("nodes", [1, 3, 1300])
def test_get_counts_nodes(client: Client, monkeypatch: pytest.MonkeyPatch, nodes: int) -> None:
    terminal = sit_at(monkeypatch)
    keys = [f"node {number}" for number in range(nodes)]
    graph: dict[Any, Any] = {**dict.fromkeys(keys, (double, 1)), "given": 1, keys[0]: (double, "given")}
    assert client.get(graph, [*keys, "given"], progress=True) == {**dict.fromkeys(keys, 2), "given": 1}
    assert f"{nodes}/{nodes}" in last_line(terminal)
    assert not open_bars()


def test_get_of_what_needs_nothing_and_of_what_fails(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sit_at(monkeypatch)
    assert client.get({"a": 1}, "a", progress=True) == {"a": 1}
    with pytest.raises(LookupError, match="thirty"):
        client.get({"a": (fail_at_30, 30), "b": (double, "a")}, ["b"], progress=True)
    with pytest.raises(KeyError, match="'z' is not in the graph"):
        client.get({"a": 1}, ["z"], progress=True)
    with pytest.raises(ValueError, match=r"scaler\.progress"):
        client.get({"a": 1}, ["a"], block=False, progress=True)
    assert not open_bars()


def test_generators_have_a_bar_without_total(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at(monkeypatch)
    assert client.map(double, (n for n in range(50)), progress=True) == list(range(0, 100, 2))
    assert "50 items" in last_line(terminal)
    assert "%" not in last_line(terminal)


def test_an_error_closes_the_bar(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at(monkeypatch)
    with pytest.raises(LookupError, match="thirty"):
        client.map(fail_at_30, range(100), progress=True)
    assert terminal.getvalue().endswith("\n")
    assert not open_bars()


def test_an_interrupt_closes_the_bar(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at(monkeypatch)

    def interrupted() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.map(double, interrupted(), progress=True)
    assert terminal.getvalue().endswith("\n")
    assert not open_bars()


def test_nothing_is_written_where_nobody_looks(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.map(double, range(20), progress=True) == list(range(0, 40, 2))
    futures = [client.submit(double, n) for n in range(5)]
    assert scaler.progress(futures) == futures
    assert capsys.readouterr() == ("", "")


def test_progress_of_futures(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sit_at(monkeypatch)
    futures = scaler.progress(client.submit(fail_at_30, number) for number in range(20, 40))
    assert all(future.done() for future in futures)
    assert isinstance(futures[10].exception(), LookupError)
    assert "20/20" in last_line(terminal)


def test_progress_of_futures_that_end_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one ends last: the others are counted meanwhile."""
    terminal = sit_at(monkeypatch)
    futures: list[Future[int]] = [Future() for _ in range(4)]
    for future in futures[1:]:
        future.set_result(1)
    watcher = threading.Thread(target=scaler.progress, args=(futures,))
    watcher.start()
    while "3/4" not in terminal.getvalue():
        assert watcher.is_alive()
        watcher.join(0.01)
    futures[0].cancel()
    futures[0].set_running_or_notify_cancel()
    watcher.join(10)
    assert not watcher.is_alive()
    assert "4/4" in last_line(terminal)


def test_no_futures_and_no_future() -> None:
    assert scaler.progress([]) == []
    with pytest.raises(TypeError, match="not int"):
        scaler.progress([1])  # type: ignore[type-var]


def test_without_tqdm_the_extra_is_named() -> None:
    program = """
        import sys
        sys.modules["tqdm"] = None
        import scaler
        try:
            scaler.progress([])
        except ImportError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50, check=True
    )
    assert "scaler-client[progress]" in run.stdout


class TestReprs:
    def test_of_futures(self, client: Client) -> None:
        good, bad = client.submit(double, 4), client.submit(fail_at_30, 30)
        assert good.result(5) == 8
        assert isinstance(bad.exception(5), LookupError)
        assert repr(good) == f"<ScalerFuture of task {good.task_id}: finished>"
        assert repr(bad) == f"<ScalerFuture of task {bad.task_id}: failed>"
        assert "finished" in good._repr_html_()
        assert "LookupError: " in bad._repr_html_()

    def test_of_clients(self, client: Client) -> None:
        assert f"of {client.address}: connected, 0 unanswered tasks>" in repr(client)
        assert f'<td style="text-align:left">{client.address}</td>' in client._repr_html_()
        client.disconnect()
        assert "closed" in repr(client)
        assert "closed" in client._repr_html_()

    def test_html_is_escaped(self, client: Client) -> None:
        bad = scaler.ScalerFuture(client)
        bad.end_failed(errors.ScalerError("<script>"))
        assert "&lt;script&gt;" in bad._repr_html_()


def test_a_trace_needs_a_scheduler_that_speaks_to_monitors(client: Client, tmp_path: Path) -> None:
    with pytest.raises(errors.DisconnectedError, match="monitor address"), client.trace(tmp_path / "trace.json"):
        pytest.fail("it was entered")
