"""Profiles for the pages and the shell: one is taken at a time, and it says what is missing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from profiled_cluster import Answering, profile_of
from synthetic_cluster import SyntheticScheduler

from scaler_protocol.address import Address
from scaler_protocol.monitoring.topics import ProfileWanted
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.messages import MonitorProfile
from scaler_ui.dump.settings import DumpSettings
from scaler_ui.dump.writer import collapsed_profile, run
from scaler_ui.feed import MonitorFeed
from scaler_ui.profiles import take_profile
from scaler_ui.web.profiles import KEPT_MAX, ProfileRuns
from scaler_ui.web.server import create_application

BASE = "http://127.0.0.1:50001"


@pytest.mark.parametrize("flags", [[], ["--output", "-"], ["--output", "FILE"]], ids=["", "-", "file"])
def test_stacks_go_to_the_file_that_is_named(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "stacks.txt"
    answering = Answering()
    try:
        words = [str(file) if flag == "FILE" else flag for flag in flags]
        run(DumpSettings.from_command_line([str(answering.address), "--profile", "5", *words]))
    finally:
        answering.close()
    printed = capsys.readouterr().out
    if "FILE" in flags:
        assert printed.startswith(f"wrote {file}, ")
        printed = file.read_text()
    assert "price;slow (model.py:3);model.py:9 3000000\n" in printed


def test_a_profile_is_followed_until_it_is_done() -> None:
    answering = Answering()
    try:
        seen: list[MonitorProfile] = []
        profile = take_profile(answering.address, 5, rate=50, on_progress=seen.append)
    finally:
        answering.close()
    assert [one.done for one in seen] == [False, True]
    assert (profile.seconds, profile.rate, profile.token) == (5, 50, answering.seen[0].token)


def test_the_shell_gets_collapsed_stacks_and_hears_who_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    answering = Answering(answered=1)
    try:
        text = collapsed_profile(DumpSettings.from_command_line([str(answering.address), "--profile", "5"]))
    finally:
        answering.close()
    assert text.splitlines() == [
        "price;slow (model.py:3);model.py:9 3000000",
        "price;quick (model.py:7);model.py:8 1000000",
        "other 500000",
    ]
    assert "1 of 2 worker agents have sent no samples" in caplog.text


def test_a_scheduler_that_does_not_answer_is_one_error() -> None:
    with SyntheticScheduler() as scheduler, pytest.raises(ServiceError, match=r"sent no profile within 0.5 s"):
        take_profile(Address.parse(scheduler.address), 5, timeout_s=0.5)


def taken_by(take: Callable[[int], MonitorProfile]) -> ProfileRuns:
    def run(seconds: int, note: Callable[[MonitorProfile], None]) -> MonitorProfile:
        profile = take(seconds)
        note(profile)
        return profile

    return ProfileRuns(run)


def test_one_profile_is_taken_at_a_time_and_few_are_kept() -> None:
    go_on = threading.Event()

    def take(seconds: int) -> MonitorProfile:
        go_on.wait(20)
        return profile_of(ProfileWanted(1, 100, seconds))

    runs = taken_by(take)
    first = runs.start(5)
    assert runs.start(30) is first
    go_on.set()
    wait_until(lambda: first.is_over, 20)
    assert first.data()["samples"] == 1000
    for _ in range(KEPT_MAX):
        run = runs.start(5)
        wait_until(lambda run=run: run.is_over, 20)  # type: ignore[misc]
    assert runs.find(first.number) is None
    assert runs.find(run.number) is run


@pytest.mark.parametrize("error", [ServiceError("nobody answers"), ZeroDivisionError("nobody answers")])
def test_a_profile_that_fails_says_why_and_makes_room(error: Exception) -> None:
    def take(seconds: int) -> MonitorProfile:
        raise error

    runs = taken_by(take)
    run = runs.start(5)
    wait_until(lambda: run.is_over, 20)
    assert "nobody answers" in run.data()["error"]
    assert runs.start(5) is not run


def test_the_web_service_takes_profiles() -> None:
    runs = taken_by(lambda seconds: profile_of(ProfileWanted(1, 100, seconds)))
    with MonitorFeed(Address.parse("tcp://127.0.0.1:9")) as feed:
        application = create_application(feed, profiles=runs)
        with TestClient(application, base_url=BASE) as client:
            assert client.get("/api/profiles/1").status_code == 404
            assert client.post("/api/profiles?seconds=61").status_code == 422
            assert client.post("/api/profiles?seconds=5").json() == {"id": 1, "seconds": 5}
            wait_until(lambda: client.get("/api/profiles/1").json()["done"], 20)
            told = client.get("/api/profiles/1").json()
            stacks = client.get("/api/profiles/1/collapsed", params={"function": "other"})
            # A page of another site must not make workers work.
            foreign = client.post("/api/profiles", headers={"origin": "http://elsewhere.example"})
    assert (told["error"], told["parents"], told["cost_seconds"]) == ("", [0, 1, 2, 1, 4, 0], 0.02)
    assert stacks.text == "other 500000\n"
    assert "attachment" in stacks.headers["content-disposition"]
    assert foreign.status_code == 403
