"""What `scaler_top` shows over its tables: a row in full, the output of a task, and questions to the user."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static

from scaler_protocol.monitoring.topics import ANY_CLIENT, OutputTopic
from scaler_protocol.runtime.counted import counted
from scaler_protocol.runtime.log_lines import harmless_cell
from scaler_ui.feed import MonitorFeed
from scaler_ui.outputs import output_data
from scaler_ui.owners import Owner
from scaler_ui.top.output_text import output_notes, output_text
from scaler_ui.top.questions import Pending, Questions
from scaler_ui.top.subjects import Subject

LOOK_SECONDS = 0.5
"""How often it is looked whether there is more output. The scheduler asks workers every two seconds."""

ANSWER_SECONDS = 0.1
"""How often it is looked whether there is an answer."""

TYPED_MAX = 200


def is_open(screen: Screen[Any]) -> bool:
    """Return whether a screen has all it consists of. When it closes, or the program does, its clock may tick once more.

    By then some of its parts are gone, the inner ones first.
    """
    return screen.app.is_running and screen in screen.app.screen_stack


class Overlay(ModalScreen[Subject | None]):
    """A screen over the tables. Esc closes it; with a subject, it asks for a question about that one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close")]

    def enter(self) -> None:
        """Do what Enter is for here."""
        self.action_close()

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)


class Detail(Overlay):
    """One row in full, or the help, shown over the tables."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "close", "close")]
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


class OutputScreen(Overlay):
    """What a task has printed and logged, as it comes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("k", "cancel", "cancel"), Binding("o", "close", "close")]
    CSS = """
    #output { width: 100%; height: 100%; border: round $accent; background: $surface; }
    #output-note { color: $warning; height: auto; padding: 0 1; }
    #output-scroll { height: 1fr; padding: 0 1; }
    """

    def __init__(self, subject: Subject, feed: MonitorFeed, questions: Questions) -> None:
        super().__init__()
        self._subject = subject
        self._feed = feed
        self._questions = questions
        self._since = time.monotonic()

    def compose(self) -> ComposeResult:
        """Yield a note, and the output with a scroll bar."""
        with Vertical(id="output") as box:
            box.border_title = _title(f"output of {self._subject.name}")
            box.border_subtitle = "Esc closes  k cancels the task  ↑ ↓ PgUp PgDn Home End scroll"
            yield Static(id="output-note", markup=False)
            with VerticalScroll(id="output-scroll"):
                yield Static(id="output-text", markup=False)

    def on_mount(self) -> None:
        """Look now, and again and again."""
        self.query_one("#output-scroll").focus()
        self.set_interval(LOOK_SECONDS, self.look)
        self.look()

    def action_cancel(self) -> None:
        """Close it, and ask whether the task is to be cancelled."""
        self.dismiss(self._subject)

    def look(self) -> None:
        """Show what has come."""
        if not is_open(self):
            return
        topic = OutputTopic(self._subject.number, self._subject.client or ANY_CLIENT)
        message = self._questions.outputs.look(topic)
        data = None if message is None else output_data(message)
        gone = self._gone() if data is not None and not data["parts"] else ""
        note = output_notes(data, gone, time.monotonic() - self._since)
        self.query_one("#output-note", Static).update(note)
        self.query_one("#output-note").display = bool(note)
        if data is None:
            return
        shown = self.query_one("#output-text", Static)
        text = output_text(data)
        if shown.content != text:
            scroll = self.query_one("#output-scroll", VerticalScroll)
            at_end = scroll.scroll_y >= scroll.max_scroll_y - 1
            shown.update(text)
            if at_end:
                self.call_after_refresh(scroll.scroll_end, animate=False)

    def _gone(self) -> str:
        """Return the agent of the task, if it has left."""
        with self._feed.model() as model:
            agents = model.snapshot.agents if model.snapshot is not None else ()
            present = {agent.name for agent in agents}
        return "" if self._subject.agent in present else self._subject.agent


class Prompt(ModalScreen[None]):
    """A line to type."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close")]
    CSS = """
    Prompt { align: center middle; }
    #prompt { width: 76; max-width: 100%; height: auto; border: round $accent; padding: 0 1; background: $surface; }
    #prompt-error { color: $error; height: auto; }
    """

    def __init__(self, title: str, text: str, take: Callable[[str], str]) -> None:
        """`take` is given what was typed, and returns what is wrong with it; empty: nothing."""
        super().__init__()
        self._title = title
        self._text = text
        self._take = take

    def compose(self) -> ComposeResult:
        """Yield the line."""
        with Vertical(id="prompt") as box:
            box.border_title = _title(self._title)
            box.border_subtitle = "Enter takes it  Esc closes"
            yield Input(self._text, id="prompt-line", max_length=TYPED_MAX, compact=True)
            yield Static(id="prompt-error", markup=False)

    def on_input_submitted(self, submitted: Input.Submitted) -> None:
        """Take what was typed, or say what is wrong with it."""
        wrong = self._take(submitted.value) if is_open(self) else ""
        if wrong:
            self.query_one("#prompt-error", Static).update(harmless_cell(wrong))

    def action_close(self) -> None:
        """Close it without taking anything."""
        self.dismiss(None)


class CancelScreen(Overlay):
    """Asks whether tasks are to be cancelled, has it done, and says what came of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "confirm", "yes"), Binding("n", "close", "no")]
    CSS = """
    CancelScreen { align: center middle; }
    #cancel { width: 76; max-width: 100%; height: auto; border: round $error; padding: 0 1; background: $surface; }
    """

    def __init__(self, subject: Subject, feed: MonitorFeed, questions: Questions) -> None:
        super().__init__()
        self._subject = subject
        self._feed = feed
        self._questions = questions
        self._owners: Pending[list[Owner]] | None = None
        self._canceled: Pending[int] | None = None
        self._asks = False

    def compose(self) -> ComposeResult:
        """Yield the question."""
        with Vertical(id="cancel"):
            yield Static(id="cancel-text", markup=False)

    def on_mount(self) -> None:
        """Say why it cannot be done, or find out whose task it is, or ask."""
        with self._feed.model() as model:
            refusal = self._questions.operator.refusal_of(model.snapshot)
        if refusal:
            self._say(f"Cancelling is not possible here: {refusal}.")
        elif self._subject.unfinished == 0:
            self._say(f"There is nothing to cancel: {self._subject.name} {_ended(self._subject)}.")
        elif self._subject.number and not self._subject.client:
            self._owners = self._questions.owners(self._subject.number)
            self._say(f"Asking the scheduler whose task {self._subject.number} is…")
        else:
            self._ask()
        self.set_interval(ANSWER_SECONDS, self.look)

    def on_unmount(self) -> None:
        """Nobody waits for answers any more."""
        for pending in (self._owners, self._canceled):
            if pending is not None:
                pending.give_up()

    def enter(self) -> None:
        """Close it if there is nothing to answer: Enter confirms nothing."""
        if not self._asks and self._canceled is None:
            self.action_close()

    def action_confirm(self) -> None:
        """Have the tasks cancelled."""
        if not self._asks:
            return
        self._asks = False
        with self._feed.model() as model:
            snapshot = model.snapshot
        self._canceled = self._questions.cancel(snapshot, self._subject)
        self._say(f"The scheduler is asked to cancel {self._subject.name}…", "Esc  do not wait for its answer")

    def _ask(self) -> None:
        self._asks = True
        what = "It stops if it runs, and never begins if it waits. " if self._subject.number else ""
        what = what or "What waits never begins, and what runs is stopped. "
        self._say(
            f"Cancel {self._subject.name}?\n\n{what}The program that submitted it gets a CancelledError that says so. "
            f"This cannot be undone.",
            "y  cancel    n, Esc  leave it",
        )

    def look(self) -> None:
        """Go on with what is answered."""
        if not is_open(self):
            return
        if self._owners is not None and self._owners.done:
            pending, self._owners = self._owners, None
            self._take_owners(pending)
        elif self._canceled is not None and self._canceled.done:
            pending_count, self._canceled = self._canceled, None
            if pending_count.value is None:
                self._say(f"Not cancelled: {pending_count.error}.")
            elif pending_count.value:
                count = counted(pending_count.value, "task")
                was = "was" if pending_count.value == 1 else "were"
                self._say(f"{count} {was} cancelled, or told to stop.")
            else:
                self._say(f"Nothing was cancelled: {self._subject.name} {_ended(self._subject)}.")

    def _take_owners(self, pending: Pending[list[Owner]]) -> None:
        number, function = self._subject.number, self._subject.function
        if pending.value is None:
            self._say(f"Not cancelled: {pending.error}.")
            return
        found = [owner for owner in pending.value if not function or owner.function == function]
        with self._feed.model() as model:
            names = [model.client_name(owner.client) for owner in found]
        if not found:
            self._say(f"There is nothing to cancel: no unfinished task has the number {number}.")
        elif len(found) > 1:
            of = ", ".join(names[:5])
            self._say(
                f"{len(found)} clients have a task {number}: {of}. Press t, and type {number} and the name of one."
            )
        else:
            (owner,) = found
            self._subject = Subject(owner.client, number, owner.function, client_name=names[0], agent=owner.agent)
            self._ask()

    def _say(self, text: str, keys: str = "Esc  close") -> None:
        shown = "\n".join(map(harmless_cell, text.split("\n")))
        self.query_one("#cancel-text", Static).update(f"{shown}\n\n{keys}")


def _ended(subject: Subject) -> str:
    return "has ended" if subject.number else "have ended"


def _title(text: str) -> str:
    # Titles are markup, and names come from users.
    return harmless_cell(text).replace("[", r"\[")
