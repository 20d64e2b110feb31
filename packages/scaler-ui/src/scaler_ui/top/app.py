"""`scaler_top` as a terminal application: it draws what `scaler_ui.view` makes, once a second."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from scaler_ui.feed import FeedState, SnapshotFeed
from scaler_ui.top.settings import TopSettings
from scaler_ui.view import SORT_KEYS, render_text

REFRESH_SECONDS = 1.0


class TopApplication(App[int]):
    """Shows the state of a feed; keys choose the column to sort by."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"sort_by('{key}')", f"sort by {name}") for key, (name, _) in SORT_KEYS.items()),
        Binding("ctrl+c", "quit", "quit", priority=True),
    ]

    def __init__(self, feed: SnapshotFeed, timeout_s: float) -> None:
        super().__init__()
        self._feed = feed
        self._timeout_s = timeout_s
        self._sort_key = "n"

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        with VerticalScroll():
            yield Static(id="snapshot", markup=False)

    def on_mount(self) -> None:
        """Draws at once, and then regularly."""
        self.set_interval(REFRESH_SECONDS, self.redraw)
        self.redraw()

    def action_sort_by(self, sort_key: str) -> None:
        """Sorts the workers by the column of that key."""
        self._sort_key = sort_key
        self.redraw()

    def redraw(self) -> None:
        """Shows the feed's present state."""
        self.query_one("#snapshot", Static).update(describe(self._feed.state(), self._timeout_s, self._sort_key))


def describe(state: FeedState, timeout_s: float, sort_key: str) -> str:
    """The text on the screen: the snapshot, under a line that says so when it is old, missing or incomplete."""
    if state.snapshot is None:
        return f"waiting for the scheduler, {state.age_s:.0f} s"
    notes = []
    if state.age_s > timeout_s:
        notes.append(f"the scheduler has been silent for {state.age_s:.0f} s; this is what it said last")
    if state.missed_messages:
        notes.append(f"{state.missed_messages} messages of the scheduler were missed")
    return "\n".join([*notes, render_text(state.snapshot, sort_key)])


def run(settings: TopSettings) -> int:
    """Shows the cluster until the person leaves."""
    with SnapshotFeed(settings.monitor_address) as feed:
        return TopApplication(feed, settings.timeout).run() or 0
