"""`scaler_top` as a terminal application: a line on the load, and tables of workers, clients, failures and more."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import ContentSwitcher, DataTable, Footer, Static

from scaler_protocol.runtime.log_lines import harmless_cell
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.security_settings import peer_security
from scaler_protocol.wire.messages import MonitorSnapshot
from scaler_ui.cancellation import operator_of
from scaler_ui.feed import FIGURES_ONLY, MonitorFeed
from scaler_ui.model import figures
from scaler_ui.model.blocks import SORT_KEYS, block_lines, render_text
from scaler_ui.monitor_address import check_monitor_address
from scaler_ui.top.details import describe_row
from scaler_ui.top.keys import HELP
from scaler_ui.top.questions import Questions
from scaler_ui.top.screens import CancelScreen, Detail, OutputScreen, Overlay, Prompt, is_open
from scaler_ui.top.settings import TopSettings
from scaler_ui.top.speed import Speeds
from scaler_ui.top.subjects import Subject, read_task
from scaler_ui.top.summary import listed_tasks, silent_workers, status_line, summary_line, waiting_reason
from scaler_ui.top.tables import TABLES, Looking, Table, moved_cursor, same_names

REFRESH_SECONDS = 2.0
"""`top` uses three seconds. One drawing takes ten milliseconds, nearly all the CPU of this program. Keys draw at once."""

POLL_SECONDS = 0.05

BLOCKS_HEIGHT = 40
"""Terminals of so many lines have room for the scheduler's counters above the tables."""

VIEWS = dict(sorted((str(number % 10), name) for number, name in enumerate(TABLES, 1)))

ACTIONS: list[BindingType] = [
    Binding("question_mark", "help", "help", key_display="?"),
    Binding("o", "output", "output"),
    Binding("k", "cancel", "cancel"),
    Binding("t", "type_task", "a task by its number", show=False),
    Binding("slash", "filter", "filter tasks", show=False),
]
"""What can be done with the row under the cursor, or without one."""


class TopApplication(App[int]):
    """Shows the model of a feed. Keys choose the table and the column to sort by."""

    TITLE = "scaler_top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #status { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #status.bad { background: $error; color: $text; }
    #summary { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #reason { height: 1; color: $warning; text-wrap: nowrap; text-overflow: ellipsis; }
    #blocks { height: auto; max-height: 50%; padding: 1 0 1 0; }
    ContentSwitcher { height: 1fr; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *ACTIONS,
        # Their names do not fit into 80 columns; the help has them.
        *(
            Binding(key, f"show_view('{name}')", name, group=Binding.Group("views", compact=True))
            for key, name in VIEWS.items()
        ),
        *(Binding(key, f"sort_by('{key}')", f"sort by {name}", show=False) for key, (name, _) in SORT_KEYS.items()),
        Binding("enter", "open_row", "details", priority=True),
        Binding("escape", "quit", "quit", show=False),
        Binding("ctrl+c", "quit", "quit", priority=True, show=False),
    ]

    def __init__(self, feed: MonitorFeed, timeout_s: float, questions: Questions) -> None:
        super().__init__()
        self.feed = feed
        self._questions = questions
        self._timeout_s = timeout_s
        self._sort_key = "n"
        self._shown: dict[str, Table] = {}
        self._speeds = Speeds()
        self._words = ""
        """Only tasks with these words are in their table."""

    def compose(self) -> ComposeResult:
        """Yield lines about the connection and the load, the blocks of figures, and the tables, one of which is shown."""
        yield Static(id="status", markup=False)
        yield Static(id="summary", markup=False)
        yield Static(id="reason", markup=False)
        yield Static(id="blocks", markup=False)
        with ContentSwitcher(initial="workers"):
            for name in VIEWS.values():
                yield DataTable(id=name, cursor_type="row", zebra_stripes=True)
        footer = Footer()
        # With wider gaps, 80 columns have no room for all keys.
        footer.compact = True
        yield footer

    def on_mount(self) -> None:
        """Draw now, and then every `REFRESH_SECONDS`."""
        self.set_interval(REFRESH_SECONDS, self.redraw)
        self.query_one("#workers", DataTable).focus()
        self.redraw()

    def on_resize(self) -> None:
        """Draw again, because the width decides how many blocks fit beside each other."""
        self.call_after_refresh(self.redraw)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave Enter to a line that is typed: what was typed before it reaches that line later than it would reach this."""
        return not (action == "open_row" and isinstance(self.screen, Prompt))

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
        """Show the row under the cursor in full, or do what Enter is for in what is shown over the tables."""
        if isinstance(self.screen, Overlay):
            self.screen.enter()
            return
        view = self._view()
        if view == "tasks":
            self.action_output()
            return
        row = self.query_one(f"#{view}", DataTable).cursor_row
        with self.feed.model() as model:
            text = describe_row(model, view, row, self._looking())
        if text is not None:
            self.push_screen(Detail(text))

    def action_output(self) -> None:
        """Show what the task of the row under the cursor has printed; where it has none, ask for a task's number."""
        subject = self._subject()
        if subject is not None and subject.number:
            self._open_output(subject)
        else:
            self.action_type_task()

    def action_type_task(self) -> None:
        """Ask for the number of a task, and show what it has printed."""
        self.push_screen(Prompt("output of which task? its number, or number and client", "", self._take_task))

    def action_filter(self) -> None:
        """Ask which tasks are to be in their table."""
        self.action_show_view("tasks")
        self.push_screen(Prompt("only tasks with these words (none: all)", self._words, self._take_words))

    def action_cancel(self) -> None:
        """Ask whether what the row under the cursor stands for is to be cancelled."""
        subject = self._subject()
        if subject is None:
            self.notify("Nothing to cancel here: choose a task, a client, a function or a label.", timeout=4)
        else:
            self._ask_to_cancel(subject)

    def _view(self) -> str:
        return self.query_one(ContentSwitcher).current or "workers"

    def _subject(self) -> Subject | None:
        """Return what the row under the cursor stands for, as it is on the screen now."""
        view = self._view()
        shown, row = self._shown.get(view), self.query_one(f"#{view}", DataTable).cursor_row
        return shown.subjects[row] if shown is not None and row < len(shown.subjects) else None

    def _open_output(self, subject: Subject) -> None:
        self.push_screen(OutputScreen(subject, self.feed, self._questions), self._ask_to_cancel)

    def _ask_to_cancel(self, subject: Subject | None) -> None:
        if subject is not None:
            self.push_screen(CancelScreen(subject, self.feed, self._questions))

    def _take_task(self, text: str) -> str:
        with self.feed.model() as model:
            clients = model.snapshot.clients if model.snapshot is not None else ()
            names = {client.incarnation: model.client_name(client.incarnation) for client in clients}
        try:
            subject = read_task(text, names)
        except ValueError as error:
            return str(error)
        self.pop_screen()
        self._open_output(subject)
        return ""

    def _take_words(self, text: str) -> str:
        self._words = text.strip()
        self.pop_screen()
        self.redraw()
        return ""

    def action_help(self) -> None:
        """Show what the keys do and what the figures mean."""
        self.push_screen(Detail(HELP))

    def redraw(self) -> None:
        """Draw what the feed has received so far."""
        silent_s = self.feed.silent_s()
        with self.feed.model() as model:
            if model.snapshot is not None:
                self._speeds.note(model.snapshot)
            # What is under another screen is drawn once that one has gone.
            if len(self.screen_stack) != 1 or not is_open(self.screen):
                return
            text, problem = status_line(model, silent_s, self._timeout_s, str(self.feed.monitor_address))
            if self.feed.refusal:
                text, problem = f"{self.feed.monitor_address} does not let this monitor in: {self.feed.refusal}", True
            summary, reason = summary_line(model), silent_workers(model) or waiting_reason(model)
            blocks = "\n".join(block_lines(model.snapshot, self.size.width)) if model.snapshot is not None else ""
            view = self._view()
            table = TABLES[view](model, self._looking()) if view != "tasks" else None
        if table is None:
            with self._questions.follow_tasks().model() as tasks:
                table, reason = TABLES[view](tasks, self._looking()), listed_tasks(tasks, self._words)
        self._questions.tidy()
        status = self.query_one("#status", Static)
        status.set_class(problem, "bad")
        status.update(harmless_cell(text))
        self.query_one("#summary", Static).update(summary)
        self.query_one("#reason", Static).update(reason)
        self.query_one("#reason").display = bool(reason)
        self.query_one("#blocks", Static).update(blocks)
        self.query_one("#blocks").display = self.size.height >= BLOCKS_HEIGHT
        self._show_table(view, table)

    def _looking(self) -> Looking:
        return Looking(self._sort_key, self.size.width, self._speeds, self._words)

    def _show_table(self, view: str, now: Table) -> None:
        table = self.query_one(f"#{view}", DataTable)
        if [str(column.label) for column in table.ordered_columns] != now.columns:
            table.clear(columns=True)
            # As text, not as markup, which would hide the brackets around the sorted column.
            for name in now.columns:
                table.add_column(Text(name))
            self._shown.pop(view, None)
        before = self._shown.get(view)
        if before is not None and same_names(before.rows, now.rows):
            for index, (old, new) in enumerate(zip(before.rows, now.rows, strict=True)):
                recoloured = before.colours[index] != now.colours[index]
                for column, value in enumerate(new):
                    if old[column] != value or (recoloured and column == 0):
                        cell = _cell(value, now.colours[index] if column == 0 else "")
                        table.update_cell_at(Coordinate(index, column), cell, update_width=True)
        else:
            moved_from, scroll = table.cursor_row, table.scroll_y
            cursor = moved_cursor(before, now, moved_from)
            table.clear()
            for row, colour in zip(now.rows, now.colours, strict=True):
                table.add_row(_cell(row[0], colour), *map(_cell, row[1:]))
            scroll += cursor - moved_from
            table.move_cursor(row=min(cursor, max(0, len(now.rows) - 1)), scroll=False)
            table.scroll_to(y=max(0, scroll), animate=False)
        self._shown[view] = now


def _cell(text: str, colour: str = "") -> Text:
    """Return a cell as text: no markup, and nothing that moves the cursor. Numbers are aligned to the right."""
    text = harmless_cell(text)
    return Text(text, style=colour, justify="right" if text[:1].isdigit() else "left")


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
    asking = Questions(settings.monitor_address, security=security, operator=operator_of(settings, settings.command))
    with MonitorFeed(settings.monitor_address, FIGURES_ONLY, security=security) as feed, asking as questions:
        return TopApplication(feed, settings.timeout, questions).run() or 0


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
