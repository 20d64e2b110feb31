"""What tasks have printed, on the pages, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import Visit
from stage import Stage, stage_at_work
from synthetic_cluster import ALICE, UNIX, events, failure_payload, failures

from scaler_protocol.monitoring.kept_output import KeptPart, Piece, write_parts
from scaler_protocol.monitoring.topics import OutputTopic, output_topic, topic_of
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.messages import MonitorOutput, TaskEvent

RUNNING, ENDED, OF_GONE = 50_001, 50_002, 50_003
TEXT = "(document.querySelector('.output')?.innerText ?? '')"
NOTE = "(document.querySelector('.kept .note')?.textContent ?? '')"


def known_tasks(stage: Stage) -> set[int]:
    """The numbers of the newest tasks that the pages know."""
    return {task["number"] for task in httpx.get(f"{stage.base}/api/tasks", timeout=20).json()["tasks"]}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = stage_at_work()
    rows = [
        (UNIX + 100, ALICE, number, state, agent, "train", 0, -1)
        for number, agent in ((RUNNING, "node00"), (ENDED, "node00"), (OF_GONE, "node77"))
        for state in (TaskEvent.SUBMITTED, TaskEvent.ASSIGNED)
    ]
    rows += [
        (UNIX + 110, ALICE, number, TaskEvent.SUCCESS, agent, "train", 5_000_000, 0)
        for number, agent in ((ENDED, "node00"), (OF_GONE, "node77"))
    ]
    stage.scheduler.publish(events(3, rows))
    wait_until(lambda: {RUNNING, ENDED, OF_GONE} <= known_tasks(stage), 30)
    yield stage
    stage.close()


def answer(stage: Stage, number: int, *parts: KeptPart, silent: tuple[str, ...] = ()) -> None:
    """Wait until somebody asks for the output of a task, and answer as a scheduler does."""
    topic = topic_of(OutputTopic(number, ALICE))
    wait_until(lambda: topic in stage.scheduler.topics(), 20)
    payloads = [write_parts([part]) for part in parts]
    told = MonitorOutput(UNIX, number, ALICE, ("node00",) * len(parts), Packed.of(payloads), 4, silent)
    stage.scheduler.publish_raw(topic, *encode(told))


def part(*pieces: tuple[int, str], ended: str = "", dropped: bool = False) -> KeptPart:
    made = tuple(Piece(stream, UNIX + at, text) for at, (stream, text) in enumerate(pieces))
    return KeptPart("node00-1", 4711, ended, dropped, made)


def test_a_running_task_is_read_while_it_prints(visit: Visit, stage: Stage) -> None:
    visit.open(f"tasks?show={ALICE.hex()}/{RUNNING}")
    answer(stage, RUNNING, part((1, "epoch 1\nepo")))
    visit.wait(f"{TEXT}.includes('epoch 1')")
    answer(stage, RUNNING, part((1, "epoch 1\nepo"), (1, "ch 2\n")))
    visit.wait(f"{TEXT}.includes('epoch 2')")


def test_streams_filter_and_download(visit: Visit, stage: Stage, tmp_path: Path) -> None:
    page = visit.open(f"tasks?show={ALICE.hex()}/{ENDED}")
    ended = "processor 4711 was killed by SIGKILL"
    pieces = ((1, "one\n<b>two</b>\n"), (2, "to \x1b[31mstderr\x1b[0m\n"), (3, "WARNING x: logged\n"))
    answer(stage, ENDED, part(*pieces, ended=ended, dropped=True), silent=("node02",))
    visit.wait(f"{TEXT}.includes('<b>two</b>')")
    text = page.evaluate(TEXT)
    assert "to stderr" in text
    assert ended in text
    assert "older output was dropped" in text
    assert "no answer from node02" in page.evaluate(NOTE)
    assert page.locator(".output .o2").count() == 1
    assert page.evaluate("getComputedStyle(document.querySelector('.output .o1')).fontFamily").count("mono")
    assert not visit.accessibility_findings()
    visit.picture("ui-output")
    with page.expect_download() as begun:
        page.locator(".kept").get_by_role("button", name="Download").click()
    begun.value.save_as(tmp_path / "saved.txt")
    saved = (tmp_path / "saved.txt").read_text()
    assert begun.value.suggested_filename == f"task-{ENDED}.txt"
    assert "stdout one\n" in saved
    assert "# older output was dropped" in saved
    page.get_by_label("Which output").select_option("2")
    visit.wait(f"!{TEXT}.includes('one') && {TEXT}.includes('to stderr')")
    page.get_by_label("Which output").select_option("")
    page.get_by_label("Filter the output").fill("TWO")
    visit.wait(f"!{TEXT}.includes('one') && {TEXT}.includes('<b>two</b>')")


def test_a_worker_that_is_gone_is_named(visit: Visit, stage: Stage) -> None:
    visit.open(f"tasks?show={ALICE.hex()}/{OF_GONE}")
    answer(stage, OF_GONE)
    visit.wait(f"{NOTE}.includes('the worker is gone: node77')")


def test_errors_show_the_output_of_the_last_one(visit: Visit, stage: Stage) -> None:
    page = visit.open("errors")
    page.locator("table[aria-label=Errors] tbody tr").first.click()
    visit.wait(f"{NOTE}.includes('asking the workers')")
    failed = int(page.locator("#detail dd a").first.inner_text())
    client = page.evaluate("new URLSearchParams(document.querySelector('#detail dd a').hash.split('?')[1]).get('show')")
    topic = OutputTopic(failed, bytes.fromhex(client.split("/")[0]))
    wait_until(lambda: topic_of(topic) in stage.scheduler.topics(), 20)
    told = MonitorOutput(UNIX, *topic, ("node00",), Packed.of([write_parts([part((2, "why it failed\n"))])]), 4)
    stage.scheduler.publish_raw(topic_of(topic), *encode(told))
    visit.wait(f"{TEXT}.includes('why it failed')")


def test_the_log_of_an_agent(visit: Visit, stage: Stage, tmp_path: Path) -> None:
    page = visit.open("logs")
    visit.wait("document.querySelectorAll('select[aria-label=\"Whose log\"] option').length === 5")
    page.get_by_label("Whose log").select_option("node01")
    found: list[OutputTopic] = []

    def asked() -> bool:
        found[:] = [topic for each in stage.scheduler.topics() if (topic := output_topic(each)) and not topic.number]
        return bool(found)

    wait_until(asked, 20)
    log = KeptPart("", 1, "", False, (Piece(20, UNIX, "workers started"), Piece(30, UNIX, "processor 7: careful")))
    told = MonitorOutput(UNIX, *found[0], ("node01",), Packed.of([write_parts([log])]), 1)
    stage.scheduler.publish_raw(topic_of(found[0]), *encode(told))
    visit.wait("document.querySelector('.log').innerText.includes('processor 7: careful')")
    assert "of=node01" in page.evaluate("location.hash")
    page.get_by_label("Least severe level").select_option("30")
    visit.wait("!document.querySelector('.log').innerText.includes('workers started')")
    with page.expect_download() as begun:
        page.get_by_role("button", name="Download").click()
    begun.value.save_as(tmp_path / "log.txt")
    assert "processor 7: careful" in (tmp_path / "log.txt").read_text()
    page.get_by_label("Least severe level").select_option("0")
    page.get_by_label("Whose log").select_option("")
    visit.wait("document.querySelector('.log').innerText.includes('scheduler listens on')")


def test_errors_ask_for_what_has_changed(visit: Visit, stage: Stage) -> None:
    asked: list[str] = []
    page = visit.open("errors")
    visit.wait("document.querySelectorAll('table[aria-label=Errors] tbody tr').length > 0")
    before = page.evaluate("document.querySelectorAll('table[aria-label=Errors] tbody tr').length")
    page.on("request", lambda request: asked.append(request.url) if "/api/errors?" in request.url else None)
    payload = failure_payload("LookupError", "new")
    stage.scheduler.publish(failures(4, 1, payloads=Packed.of([payload])))
    visit.wait(f"document.querySelectorAll('table[aria-label=Errors] tbody tr').length === {before + 1}")
    assert asked
    assert not asked[-1].endswith("seen=0")
    # All came within a minute: none is newer than the others.
    assert page.locator("table[aria-label=Errors] .chip.new").count() == 0
    late = failures(5, 1, payloads=Packed.of([failure_payload("ConnectionResetError", "away")]))
    late.time_seconds = [UNIX + 90]
    stage.scheduler.publish(late)
    visit.wait(f"document.querySelectorAll('table[aria-label=Errors] tbody tr').length === {before + 2}")
    assert page.locator("table[aria-label=Errors] tbody tr", has=page.locator(".chip.new")).count() == 1


def test_closing_the_detail_ends_the_subscription(visit: Visit, stage: Stage) -> None:
    page = visit.open(f"tasks?show={ALICE.hex()}/{RUNNING}")
    topic = topic_of(OutputTopic(RUNNING, ALICE))
    wait_until(lambda: topic in stage.scheduler.topics(), 20)
    visit.wait("document.querySelector('#detail').open")
    page.keyboard.press("Escape")
    wait_until(lambda: topic not in stage.scheduler.topics(), 30)


def test_requests_that_name_no_task_are_refused(stage: Stage) -> None:
    for path in ("xyz/1/output", f"{ALICE.hex()}00/1/output"):
        assert httpx.get(f"{stage.base}/api/tasks/{path}", timeout=10).status_code == 404
    assert httpx.get(f"{stage.base}/api/tasks/{ALICE.hex()}/0/output", timeout=10).status_code == 422
    told = httpx.get(f"{stage.base}/api/tasks/{ALICE.hex()}/77/output", timeout=10).json()
    assert told["parts"] is None
