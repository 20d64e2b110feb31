"""`scaler_top` as a terminal application: blocks of figures, and tables of workers, clients, failures and labels."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.coordinate import Coordinate
from textual.screen import ModalScreen
from textual.widgets import ContentSwitcher, DataTable, Footer, Static

from scaler_protocol.runtime.log_lines import harmless_cell
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.security_settings import peer_security
from scaler_protocol.wire.messages import MonitorSnapshot, Tally
from scaler_ui.feed import FIGURES_ONLY, MonitorFeed
from scaler_ui.model import ClusterModel, figures
from scaler_ui.model.blocks import (
    SHORTCUTS,
    SORT_KEYS,
    WORKER_COLUMNS,
    block_lines,
    format_bytes,
    functions_by_worker,
    heading,
    render_text,
    sorted_workers,
)
from scaler_ui.monitor_address import check_monitor_address
from scaler_ui.top.settings import TopSettings

REFRESH_SECONDS = 2.0
"""`top` uses three seconds. One drawing takes ten milliseconds, nearly all the CPU of this program. Keys draw at once."""

POLL_SECONDS = 0.05

VIEWS = {"1": "workers", "2": "clients", "3": "failures", "4": "labels"}


class Detail(ModalScreen[None]):
    """One row in full, shown over the tables."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter", "dismiss", "close")]
    CSS = """
    Detail { align: center middle; }
    #detail { width: 90%; height: 80%; border: round $accent; padding: 0 1; background: $surface; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Yield the text, with a scroll bar."""
        with VerticalScroll(id="detail"):
            text = "\n".join(map(harmless_cell, self._text.split("\n")))
            yield Static(text, markup=False, id="detail-text")


class TopApplication(App[int]):
    """Shows the model of a feed. Keys choose the table and the column to sort by."""

    TITLE = "scaler_top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #status { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #status.bad { background: $error; color: $text; }
    #blocks { height: auto; max-height: 50%; padding: 0 0 1 0; }
    ContentSwitcher { height: 1fr; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"show_view('{name}')", name) for key, name in VIEWS.items()),
        *(Binding(key, f"sort_by('{key}')", f"sort by {name}", show=False) for key, (name, _) in SORT_KEYS.items()),
        Binding("enter", "open_row", "details", priority=True),
        Binding("ctrl+c", "quit", "quit", priority=True),
    ]

    def __init__(self, feed: MonitorFeed, timeout_s: float) -> None:
        super().__init__()
        self._feed = feed
        self._timeout_s = timeout_s
        self._sort_key = "n"
        self._shown: dict[str, list[tuple[str, ...]]] = {}

    def compose(self) -> ComposeResult:
        """Yield a line about the connection, the blocks of figures, and the tables, one of which is shown."""
        yield Static(id="status", markup=False)
        yield Static(id="blocks", markup=False)
        with ContentSwitcher(initial="workers"):
            for name in VIEWS.values():
                yield DataTable(id=name, cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Draw now, and then every `REFRESH_SECONDS`."""
        self.set_interval(REFRESH_SECONDS, self.redraw)
        self.query_one("#workers", DataTable).focus()
        self.redraw()

    def on_resize(self) -> None:
        """Draw again, because the width decides how many blocks fit beside each other."""
        self.call_after_refresh(self.redraw)

    def action_sort_by(self, sort_key: str) -> None:
        """Sort the workers by the column of that key."""
        self._sort_key = sort_key
        self.action_show_view("workers")

    def action_show_view(self, name: str) -> None:
        """Show one of the tables."""
        self.query_one(ContentSwitcher).current = name
        self.query_one(f"#{name}", DataTable).focus()
        self.redraw()

    def action_open_row(self) -> None:
        """Show the row under the cursor in full, or close the row that is shown."""
        if isinstance(self.screen, Detail):
            self.screen.dismiss()
            return
        view = self.query_one(ContentSwitcher).current or "workers"
        row = self.query_one(f"#{view}", DataTable).cursor_row
        with self._feed.model() as model:
            text = describe_row(model, view, row, self._sort_key)
        if text is not None:
            self.push_screen(Detail(text))

    def redraw(self) -> None:
        """Draw what the feed has received so far."""
        if isinstance(self.screen, Detail):
            return
        silent_s = self._feed.silent_s()
        with self._feed.model() as model:
            text, problem = status_line(model, silent_s, self._timeout_s, str(self._feed.monitor_address))
            if self._feed.refusal:
                text, problem = f"{self._feed.monitor_address} does not let this monitor in: {self._feed.refusal}", True
            width = self.size.width
            blocks = "\n".join(block_lines(model.snapshot, width)) if model.snapshot is not None else ""
            view = self.query_one(ContentSwitcher).current or "workers"
            columns, rows = TABLES[view](model, self._sort_key)
        status = self.query_one("#status", Static)
        status.set_class(problem, "bad")
        status.update(harmless_cell(text))
        self.query_one("#blocks", Static).update(blocks)
        self._show_table(view, columns, rows)

    def _show_table(self, view: str, columns: Sequence[str], rows: list[tuple[str, ...]]) -> None:
        table = self.query_one(f"#{view}", DataTable)
        if [str(column.label) for column in table.ordered_columns] != list(columns):
            table.clear(columns=True)
            # As text, not as markup, which would hide the brackets around the sorted column.
            for name in columns:
                table.add_column(Text(name))
            self._shown[view] = []
        shown = self._shown.get(view, [])
        if [row[0] for row in shown] == [row[0] for row in rows]:
            for index, (old, new) in enumerate(zip(shown, rows, strict=True)):
                for column, value in enumerate(new):
                    if old[column] != value:
                        table.update_cell_at(Coordinate(index, column), _cell(value), update_width=True)
        else:
            cursor, scroll = table.cursor_row, table.scroll_y
            table.clear()
            for row in rows:
                table.add_row(*map(_cell, row))
            table.move_cursor(row=min(cursor, max(0, len(rows) - 1)), scroll=False)
            table.scroll_to(y=scroll, animate=False)
        self._shown[view] = rows


def _cell(text: str) -> Text:
    """Return a cell as text: no markup, and nothing that moves the cursor. Numbers are aligned to the right."""
    text = harmless_cell(text)
    return Text(text, justify="right" if text[:1].isdigit() else "left")


def status_line(model: ClusterModel, silent_s: float, timeout_s: float, address: str) -> tuple[str, bool]:
    """Return one line about the connection, and whether it reports a problem."""
    state = figures.connection_state(model, silent_s, timeout_s)
    if state == "waiting":
        return f"waiting for a scheduler at {address} for {silent_s:.0f} s", silent_s > timeout_s
    if state == "silent":
        return f"no message from the scheduler for {silent_s:.0f} s; the figures are from its last one", True
    snapshot = model.snapshot
    assert snapshot is not None
    notes = [
        f"{address}",
        f"{len(snapshot.workers)} worker(s)",
        f"{len(snapshot.clients)} client(s)",
        f"{model.history.latest('success_rate'):,.0f} tasks/s",
        f"sort: {SHORTCUTS}",
    ]
    if snapshot.failed_items:
        notes.insert(4, f"{snapshot.failed_items:,} failed item(s) of maps")
    if model.restarts:
        notes.insert(1, f"restarted {model.restarts}x")
    if model.missed_messages:
        notes.insert(1, f"{model.missed_messages} messages from the scheduler were lost")
    return "  ".join(notes), False


def worker_table(model: ClusterModel, sort_key: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return columns and rows of the workers, sorted by one of `SORT_KEYS`."""
    sorted_by = SORT_KEYS[sort_key][0]
    columns = [heading("worker", sorted_by), *(heading(name, sorted_by) for name, _ in WORKER_COLUMNS), "functions"]
    snapshot = model.snapshot
    if snapshot is None:
        return columns, []
    functions = functions_by_worker(snapshot)
    rows = [
        (worker.name, *(show(worker) for _, show in WORKER_COLUMNS), functions.get((worker.agent, worker.name), ""))
        for worker in sorted_workers(snapshot, sort_key)
    ]
    return columns, rows


def client_table(model: ClusterModel, _sort_key: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return columns and rows of the clients."""
    columns = [
        "client",
        "host",
        "pid",
        "waiting",
        "running",
        "success",
        "failed",
        "failed items",
        "graphs",
        "objects",
        "bytes",
    ]
    rows = [
        (
            client["name"],
            client["hostname"],
            str(client["pid"]),
            *(
                f"{client[key]:,}"
                for key in ("waiting", "running", "finished", "failed", "failed_items", "graphs", "object_count")
            ),
            format_bytes(client["object_bytes"]),
        )
        for client in figures.clients(model)
    ]
    return columns, rows


def failure_table(model: ClusterModel, _sort_key: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return columns and rows of the last failures, the newest first."""
    columns = ["no.", "time", "error", "items", "text", "function", "task", "attempt", "agent", "client"]
    rows: list[tuple[str, ...]] = [
        (
            str(failure["failure"]),
            time.strftime("%H:%M:%S", time.localtime(failure["at"])),
            failure["kind"],
            str(failure["items"] or ""),
            failure["text"].partition("\n")[0][:80],
            failure["function"],
            str(failure["number"]),
            str(failure["attempt"]),
            failure["agent"],
            failure["client_name"],
        )
        for failure in figures.failures(model)
    ]
    return columns, rows


def label_table(model: ClusterModel, _sort_key: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return columns and rows of the labels that tasks have, those with most unfinished tasks first."""
    rows = [
        (tally.name, *(f"{count:,}" for count in (tally.unfinished, tally.succeeded, tally.failed)))
        for tally in sorted_labels(model)
    ]
    return ["label", "unfinished", "success", "failed"], rows


def sorted_labels(model: ClusterModel) -> list[Tally]:
    """Return the tallies of labels, those with most unfinished tasks first."""
    tallies = model.snapshot.labels if model.snapshot is not None else ()
    return sorted(tallies, key=lambda tally: (-tally.unfinished, tally.name))


TABLES: dict[str, Callable[[ClusterModel, str], tuple[list[str], list[tuple[str, ...]]]]] = {
    "workers": worker_table,
    "clients": client_table,
    "failures": failure_table,
    "labels": label_table,
}


def describe_row(model: ClusterModel, view: str, row: int, sort_key: str) -> str | None:
    """Return a row of a table in full, as text; None if the row no longer exists."""
    if view == "failures":
        failures = figures.failures(model)
        return _describe_failure(failures[row]) if row < len(failures) else None
    if view == "clients":
        clients = figures.clients(model)
        return _lines(clients[row]) if row < len(clients) else None
    if view == "labels":
        labels = sorted_labels(model)
        if row >= len(labels):
            return None
        tally = labels[row]
        return _lines(
            {"label": tally.name, "unfinished": tally.unfinished, "success": tally.succeeded, "failed": tally.failed}
        )
    snapshot = model.snapshot
    workers = sorted_workers(snapshot, sort_key) if snapshot is not None else []
    if row >= len(workers):
        return None
    worker = workers[row]
    data = figures.worker_data(worker)
    agent: dict[str, object] = next((a for a in figures.workers(model)["agents"] if a["name"] == worker.agent), {})
    return f"{_lines(data)}\n\nagent\n\n{_lines(agent)}"


def _describe_failure(failure: dict[str, object]) -> str:
    facts = {key: value for key, value in failure.items() if key not in ("text", "traceback", "at", "duration_seconds")}
    facts["at"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(cast(float, failure["at"])))
    facts["ran for"] = f"{cast(float, failure['duration_seconds']):.6f} s"
    if not facts["items"]:
        del facts["items"]
    return f"{_lines(facts)}\n\n{failure['text']}\n\n{failure['traceback']}"


def _lines(data: dict[str, object]) -> str:
    width = max(map(len, data), default=0)
    shown = {
        key: format_bytes(value) if key.endswith("_bytes") and isinstance(value, int) else value
        for key, value in data.items()
    }
    return "\n".join(f"{key.replace('_', ' '):<{width}}  {value}" for key, value in shown.items())


BROKEN_PIPE_STATUS = 141
"""The status that a shell reports for a program ended by a closed pipe."""


def run(settings: TopSettings) -> int:
    """Show the cluster until the user leaves, or print it once. Returns the exit status."""
    security = peer_security(settings, "monitor", "operator")
    check_monitor_address(settings.monitor_address, security=security)
    if settings.once:
        with MonitorFeed(settings.monitor_address, FIGURES_ONLY, security=security) as feed:
            return _print(read_once(feed, settings.timeout, as_json=settings.as_json))
    if not sys.stdout.isatty() or os.environ.get("TERM") in (None, "", "dumb"):
        raise ServiceError("standard output is not a terminal; use --once to print text, or --once --json for programs")
    with MonitorFeed(settings.monitor_address, FIGURES_ONLY, security=security) as feed:
        return TopApplication(feed, settings.timeout).run() or 0


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does. That needs no traceback, here or when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_STATUS
    return 0


def read_once(feed: MonitorFeed, timeout_s: float, *, as_json: bool) -> str:
    """Return the first snapshot as text or JSON. Raises `ServiceError` if none arrives within `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    snapshot: MonitorSnapshot | None = None
    while snapshot is None:
        feed.require_not_refused()
        if time.monotonic() >= deadline:
            raise ServiceError(
                f"no message from a scheduler at {feed.monitor_address} within {timeout_s:g} s; is it running, and is this "
                f"the monitor address that it logged?"
            )
        time.sleep(POLL_SECONDS)
        with feed.model() as model:
            snapshot = model.snapshot
    silent_s = feed.silent_s()
    with feed.model() as model:
        if as_json:
            return json.dumps(figures.whole(model, silent_s, timeout_s), indent=2)
        return render_text(snapshot)
