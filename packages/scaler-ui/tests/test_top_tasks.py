"""Single tasks in `scaler_top`: their table, their output, and the question before any are cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from synthetic_cluster import ALICE, BOB, FUNCTIONS, UNIX, SyntheticScheduler, events, snapshot
from textual.containers import VerticalScroll
from textual.events import Key
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import DataTable, Input, Static
from top_at_work import column, text_of, use_top

from scaler_protocol.monitoring.kept_output import ARGUMENTS, LOG, STDERR, STDOUT, KeptPart, Piece, write_parts
from scaler_protocol.monitoring.topics import ANY_CLIENT, EVENTS, OutputTopic, output_topic, task_output_topic
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.testing.waiting import wait_until_async
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.columns import Packed
from scaler_ui.cancellation import CancellationRefusedError, NoAnswerError, Operator
from scaler_ui.outputs import output_data
from scaler_ui.owners import Owner, read_owners
from scaler_ui.top.app import TopApplication
from scaler_ui.top.output_text import CHARACTERS_MAX, LINES_MAX, lines_of, output_notes, output_text
from scaler_ui.top.screens import CancelScreen, OutputScreen, Prompt
from scaler_ui.top.subjects import Subject, read_task
from scaler_ui.top.tables import Table, moved_cursor


def answer(number: int, *pieces: Piece, client: bytes = ANY_CLIENT, ended: str = "", **more: object) -> m.MonitorOutput:
    """What a scheduler publishes of a task's output that one process has kept."""
    payload = write_parts([KeptPart("node00-0", 4711, ended, False, pieces)]) if pieces else b""
    made = m.MonitorOutput(
        time_seconds=UNIX,
        number=number,
        subject=client,
        agents=("node00",) if pieces else (),
        payloads=Packed.of([payload] if pieces else []),
        asked=2,
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made


# --- pure


def test_pieces_become_lines() -> None:
    pieces = [
        (STDOUT, 1.0, "one\ntw"),
        (STDERR, 2.0, "aside\n"),
        (STDOUT, 3.0, "o\n\n"),
        (STDOUT, 4.0, "\x1b[31mred\x1b[0m\n"),
        (STDOUT, 5.0, " 10 %\r 20 %\r100 %\r\nend"),
    ]
    assert [tuple(line) for line in lines_of(pieces)] == [
        (STDOUT, 1.0, "one"),
        (STDOUT, 1.0, "two"),
        (STDERR, 2.0, "aside"),
        (STDOUT, 3.0, ""),
        (STDOUT, 4.0, "red"),
        (STDOUT, 5.0, "100 %"),
        (STDOUT, 5.0, "end"),
    ]


def test_output_is_drawn_with_its_process_and_bounded() -> None:
    long = "x" * (CHARACTERS_MAX + 10)
    lines = [Piece(STDOUT, UNIX, f"line {number}\n") for number in range(LINES_MAX + 5)]
    drawn = output_text(output_data(answer(7, *lines, Piece(LOG, UNIX, f"{long}\n"), ended="killed by signal 9"))).plain
    first, *rest = drawn.split("\n")
    assert first == "node00-0, process 4711, has ended: killed by signal 9"
    assert rest[0].startswith("6 earlier lines not shown")
    assert len(rest) == LINES_MAX + 1
    assert rest[1].endswith("stdout line 6")
    assert rest[-1].endswith("x…")
    # What a task has printed does not control the terminal.
    hostile = output_text(output_data(answer(7, Piece(STDERR, UNIX, "a\x1b]0;title\x07b[bold]\n")))).plain
    assert hostile.endswith(r"stderr a\x1b]0;title\x07b[bold]")


@pytest.mark.parametrize(
    ("message", "gone", "asked_s", "said"),
    [
        (None, "", 0.2, "asking the workers…"),
        (None, "", 3.2, "asking the workers… (3 s)"),
        (answer(7), "", 1, "nothing is kept: the task has printed nothing yet, or newer output has overwritten it"),
        (answer(7), "node00", 1, "the worker is gone: node00 has ended, and what it kept with it"),
        (
            answer(7, Piece(1, UNIX, "a\n"), silent=("node01",), omitted=2),
            "",
            1,
            "no answer from node01; 2 answers left out",
        ),
        (answer(7, Piece(1, UNIX, "a\n")), "", 1, ""),
    ],
)
def test_it_is_said_what_is_missing(message: m.MonitorOutput | None, gone: str, asked_s: float, said: str) -> None:
    notes = output_notes(None if message is None else output_data(message), gone, asked_s)
    assert notes.startswith(said)
    assert bool(notes) == bool(said)


CLIENTS = {ALICE: "alice", BOB: "Bob", b"c" * 16: "twin", b"d" * 16: "twin"}


def test_a_task_is_typed_by_its_number_and_its_client() -> None:
    assert read_task(" 17 ", CLIENTS) == Subject(number=17)
    assert read_task("#17", CLIENTS) == Subject(number=17)
    assert read_task("17 bob", CLIENTS) == Subject(BOB, 17)
    assert read_task("17 bob", CLIENTS).name == "task 17 of Bob"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is not the number of a task"),
        ("0", "'0' is not the number"),
        ("-3", "'-3' is not the number"),
        ("١٧", "is not the number"),
        ("9" * 5_000, "is not the number"),
        ("alice", "'alice' is not the number"),
        ("17 carol", "no client is called 'carol': Bob, alice, twin"),
        ("17 twin", "2 clients are called 'twin'"),
    ],
)
def test_what_is_typed_wrong_gets_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_task(text, CLIENTS)


def test_subjects_have_names_and_requests() -> None:
    task = Subject(ALICE, 17, "pricing.simulate", client_name="alice")
    assert task.name == "task 17, pricing.simulate, of alice"
    assert task.request() == m.CancelRequest(0, ALICE, (17,))
    client = Subject(ALICE, client_name="alice", unfinished=1_200)
    assert client.name == "all unfinished tasks of alice (1,200)"
    assert client.request() == m.CancelRequest(0, ALICE)
    function = Subject(of_function="pricing.simulate")
    assert function.name == "all unfinished tasks of the function pricing.simulate"
    assert function.request() == m.CancelRequest(0, function="pricing.simulate")
    label = Subject(label="night")
    assert label.name == "all unfinished tasks with the label night"
    assert label.request() == m.CancelRequest(0, label="night")
    with pytest.raises(ValueError, match="has no client"):
        Subject(number=17).request()


def test_the_cursor_stays_with_its_subject() -> None:
    one, two, three = (Subject(ALICE, number) for number in (1, 2, 3))
    before = Table([], [], [], [two, one], follows=True)
    now = Table([], [], [], [three, two, one], follows=True)
    assert moved_cursor(before, now, 1) == 2
    # At the top it shows what is newest.
    assert moved_cursor(before, now, 0) == 0
    assert moved_cursor(None, now, 1) == 1
    assert moved_cursor(before, Table([], [], [], [three], follows=True), 1) == 1
    assert moved_cursor(before, Table([], [], [], [three, two, one]), 1) == 1


def test_a_dump_tells_whose_a_task_is() -> None:
    rows = [
        {"client": ALICE.hex(), "function": "simulate", "agent": "node00"},
        {"client": BOB.hex(), "function": "load", "agent": None},
        {"client": "00", "function": "load", "agent": None},
    ]
    owners = [Owner(ALICE, "simulate", "node00"), Owner(BOB, "load", "")]
    assert read_owners(json.dumps({"tasks_asked_for": rows})) == owners
    for unreadable in ("", "[]", "{}", '{"tasks_asked_for": [1]}', '{"tasks_asked_for": [{"client": "x"}]}'):
        with pytest.raises(ServiceError, match="cannot be read"):
            read_owners(unreadable)


# --- with keys pressed


def ended_task(number: int, function: str = FUNCTIONS[0], state: m.TaskEvent = m.TaskEvent.SUCCESS) -> m.MonitorEvents:
    return events(number, [(UNIX + number, ALICE, number, state, "node00", function, 1500, 0)])


async def drawn(application: TopApplication, look: Callable[[], bool]) -> None:
    """Wait until what was published is drawn."""

    def drawn_now() -> bool:
        application.redraw()
        return look()

    await wait_until_async(drawn_now)


def test_tasks_are_followed_while_their_table_is_open(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        assert EVENTS not in scheduler.topics()
        await pilot.press("0")
        await wait_until_async(lambda: EVENTS in scheduler.topics())
        scheduler.publish(snapshot(2), ended_task(1), ended_task(2, FUNCTIONS[1], m.TaskEvent.FAILED), ended_task(3))
        await drawn(application, lambda: column(application, "tasks", "task") == ["3", "2", "1"])
        assert column(application, "tasks", "state") == ["success", "failed", "success"]
        assert column(application, "tasks", "ran")[0] == "1.5 ms"
        assert column(application, "tasks", "client")[0] == "alice"
        assert text_of(application, "reason").startswith("3 tasks since this view opened; / filters")
        # The cursor stays with the task when others come.
        table = application.query_one("#tasks", DataTable)
        await pilot.press("down")
        scheduler.publish(ended_task(4), ended_task(5))
        await drawn(application, lambda: column(application, "tasks", "task") == ["5", "4", "3", "2", "1"])
        assert table.cursor_row == 3
        await pilot.press("slash", *"failed", "enter")
        assert column(application, "tasks", "task") == ["2"]
        assert "shown: those with 'failed'" in text_of(application, "reason")
        await pilot.press("slash")
        assert application.screen.query_one(Input).value == "failed"
        await pilot.press("escape")
        assert column(application, "tasks", "task") == ["2"]

    use_top(scheduler, look)


def publish_output(scheduler: SyntheticScheduler, message: m.MonitorOutput) -> None:
    scheduler.publish_raw(task_output_topic(message.number, message.subject), *encode(message))


def asked_for(scheduler: SyntheticScheduler) -> list[OutputTopic]:
    return [topic for topic in map(output_topic, scheduler.topics()) if topic is not None]


@pytest.mark.parametrize("size", [(80, 24), (170, 40)])
def test_the_output_of_a_failed_task_as_it_comes(scheduler: SyntheticScheduler, size: tuple[int, int]) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("3", "o")
        assert isinstance(application.screen, OutputScreen)
        assert "asking the workers…" in text_of(application, "output-note")
        # Failures are listed with the newest first.
        await wait_until_async(lambda: asked_for(scheduler) == [(902, ALICE)])
        publish_output(scheduler, answer(902, Piece(STDOUT, UNIX, "step 1\n"), client=ALICE))
        await wait_until_async(lambda: "stdout step 1" in text_of(application, "output-text"))
        assert not application.screen.query_one("#output-note").display
        many = [Piece(STDOUT, UNIX, f"step {number}\n") for number in range(100)]
        publish_output(scheduler, answer(902, *many, Piece(ARGUMENTS, UNIX, "simulate('XYZ')\n"), client=ALICE))
        await wait_until_async(lambda: "called simulate('XYZ')" in text_of(application, "output-text"))
        # It shows the end, and stays where the user has scrolled.
        scroll = application.screen.query_one("#output-scroll")
        await wait_until_async(lambda: scroll.scroll_y == scroll.max_scroll_y > 0)
        await pilot.press("home")
        await wait_until_async(lambda: scroll.scroll_y == 0)
        publish_output(scheduler, answer(902, *many, Piece(STDOUT, UNIX, "the end\n"), client=ALICE))
        await wait_until_async(lambda: "stdout the end" in text_of(application, "output-text"))
        assert scroll.scroll_y == 0
        await pilot.press("escape")
        assert not isinstance(application.screen, OutputScreen)
        assert application.is_running

    use_top(scheduler, look, size=size)


@pytest.mark.parametrize("keys", [(), ("6", "o"), ("down", "o"), ("down", "k"), ("question_mark",)], ids=" ".join)
@pytest.mark.parametrize("closing", ["escape", "ctrl+c"])
def test_clocks_that_tick_while_it_closes(
    scheduler: SyntheticScheduler, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], closing: str
) -> None:
    ticks: list[object] = []

    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press(*keys)
        screen = application.screen
        typed = Input.Submitted(screen.query_one(Input), "17 carol") if isinstance(screen, Prompt) else None

        def tick(part: Widget) -> None:
            ticks.append(part)
            application.redraw()
            if isinstance(screen, OutputScreen | CancelScreen):
                screen.look()
            if isinstance(screen, Prompt) and typed is not None:
                screen.on_input_submitted(typed)

        for kind in (Static, DataTable, VerticalScroll):
            monkeypatch.setattr(kind, "on_unmount", tick, raising=False)
        await pilot.press(closing)

    use_top(scheduler, look)
    assert len(ticks) > 5


def test_the_output_of_a_task_by_its_number(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("t")
        assert isinstance(application.screen, Prompt)
        await pilot.press(*"17 carol", "enter")
        assert "no client is called 'carol': alice, bob" in text_of(application, "prompt-error")
        await pilot.press(*["backspace"] * 6, "enter")
        assert isinstance(application.screen, OutputScreen)
        await wait_until_async(lambda: asked_for(scheduler) == [(17, ANY_CLIENT)])
        publish_output(scheduler, answer(17))
        await wait_until_async(lambda: "nothing is kept" in text_of(application, "output-note"))
        # Enter closes what is read, and never asks twice.
        await pilot.press("enter")
        assert not isinstance(application.screen, OutputScreen)

    use_top(scheduler, look)


def test_keys_that_come_all_at_once_are_taken_in_their_order(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("t")
        # As from a paste, or where the terminal is slow: nobody waits for one key before the next.
        for character in "17":
            application.post_message(Key(character, character))
        application.post_message(Key("enter", None))
        await wait_until_async(lambda: asked_for(scheduler) == [(17, ANY_CLIENT)])

    use_top(scheduler, look)


def test_the_output_of_what_a_worker_runs(scheduler: SyntheticScheduler) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("down", "o")
        await wait_until_async(lambda: asked_for(scheduler) == [(1, ANY_CLIENT)])
        # Where rows are no tasks, the number is asked for.
        await pilot.press("escape", "6", "o")
        assert isinstance(application.screen, Prompt)

    use_top(scheduler, look)


class Recorder(Operator):
    """An operator whose requests are noted, and answered as the test wants."""

    requests: list[m.CancelRequest]
    answer: int | Exception
    refused: str

    def __init__(self, answer: int | Exception = 1, refused: str = "") -> None:
        for name, value in (("requests", []), ("answer", answer), ("refused", refused)):
            object.__setattr__(self, name, value)

    def refusal_of(self, snapshot: m.MonitorSnapshot | None) -> str:
        return self.refused

    def cancel(
        self,
        snapshot: m.MonitorSnapshot | None,
        monitor_address: str,
        request: m.CancelRequest,
        given_up: Callable[[], bool] = lambda: False,
    ) -> int:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_nothing_is_cancelled_without_a_yes(scheduler: SyntheticScheduler) -> None:
    operator = Recorder(120)

    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("2", "k")
        assert text_of(application, "cancel-text").startswith("Cancel all unfinished tasks of alice (120)?")
        # Enter is pressed by mistake too easily.
        await pilot.press("enter")
        assert isinstance(application.screen, CancelScreen)
        for key in ("n", "escape"):
            await pilot.press(key)
            assert not isinstance(application.screen, CancelScreen)
            await pilot.press("k")
        assert operator.requests == []
        await pilot.press("y", "y")
        await wait_until_async(lambda: "120 tasks were cancelled, or told" in text_of(application, "cancel-text"))
        assert operator.requests == [m.CancelRequest(0, ALICE)]
        await pilot.press("enter")
        assert not isinstance(application.screen, CancelScreen)
        assert application.is_running

    use_top(scheduler, look, size=(80, 24), operator=operator)


@pytest.mark.parametrize(
    ("keys", "question", "request_"),
    [
        ("4k", "Cancel all unfinished tasks with the label curves (12)?", m.CancelRequest(0, label="curves")),
        (
            "5k",
            "Cancel all unfinished tasks of the function risk.aggregate (52)?",
            m.CancelRequest(0, function="risk.aggregate"),
        ),
        ("3ok", "Cancel task 902, pricing.simulate, of alice?", m.CancelRequest(0, ALICE, (902,))),
    ],
)
def test_what_a_row_stands_for_is_cancelled(
    scheduler: SyntheticScheduler, keys: str, question: str, request_: m.CancelRequest
) -> None:
    operator = Recorder(1)

    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press(*keys)
        await wait_until_async(lambda: isinstance(application.screen, CancelScreen))
        await pilot.pause()
        assert " ".join(text_of(application, "cancel-text").split()).startswith(question)
        await pilot.press("y")
        await wait_until_async(lambda: "1 task was cancelled" in text_of(application, "cancel-text"))
        assert operator.requests == [request_]

    use_top(scheduler, look, operator=operator)


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (Recorder(0), "Nothing was cancelled: all unfinished tasks of alice (120) have ended."),
        (Recorder(CancellationRefusedError("no operator")), "Not cancelled: no operator."),
        (Recorder(NoAnswerError("no answer")), "Not cancelled: no answer."),
        (
            Recorder(refused="this scheduler is protected"),
            "Cancelling is not possible here: this scheduler is protected.",
        ),
    ],
)
def test_it_says_why_nothing_was_cancelled(scheduler: SyntheticScheduler, operator: Recorder, said: str) -> None:
    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("2", "k", "y")
        await wait_until_async(lambda: said in " ".join(text_of(application, "cancel-text").split()))
        assert len(operator.requests) == (not operator.refused)

    use_top(scheduler, look, operator=operator)


def test_a_task_that_has_ended_is_not_asked_about(scheduler: SyntheticScheduler) -> None:
    operator = Recorder(1)

    async def look(application: TopApplication, pilot: Pilot[int]) -> None:
        await pilot.press("0")
        await wait_until_async(lambda: EVENTS in scheduler.topics())
        scheduler.publish(snapshot(2), ended_task(1))
        await drawn(application, lambda: column(application, "tasks", "task") == ["1"])
        await pilot.press("k", "y")
        assert "There is nothing to cancel: task 1" in text_of(application, "cancel-text")
        await pilot.press("escape", "6", "k")
        assert not isinstance(application.screen, CancelScreen)
        assert operator.requests == []

    use_top(scheduler, look, operator=operator)
