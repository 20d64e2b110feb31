"""What tasks log: to the client that asked for it, in order with what they print; to the worker's log otherwise."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from scaler import Client
from tests.integration.deployment import Deployment, wait_for, wait_for_output


def talk(name: str) -> None:
    logger = logging.getLogger("tests.tasks")
    print(f"{name} begins")
    logger.info("%s works", name)
    logger.debug("too much to tell")
    print(f"{name} goes on")
    try:
        raise LookupError("nothing there")
    except LookupError:
        logger.exception("%s failed", name)
    print(f"{name} ends")


def talk_and_wait(path: str) -> None:
    print("it begins")
    print("it waits", end="")
    wait_for("the test has heard it", Path(path).exists)


class Printer(logging.Handler):
    """Prints records among what tasks print."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.levelname} of {record.task_id}: {record.getMessage()} {record.exc_text}")  # type: ignore[attr-defined]


def test_records_and_prints_come_in_order(deployment: Deployment, capfd: pytest.CaptureFixture[str]) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--logging-level", "ERROR", count=1)
    logger, handler = logging.getLogger("tests.tasks"), Printer()
    logger.addHandler(handler)
    before, logger.level = logger.level, logging.INFO
    seen = ""
    try:
        with Client(scheduler.address, stream_output=True) as client:
            future = client.submit(talk, "alpha")
            future.result(50)
            number = future.task_id

            def ended() -> bool:
                nonlocal seen
                seen += capfd.readouterr().out
                return "alpha ends" in seen

            wait_for("the task's output", ended)
    finally:
        logger.removeHandler(handler)
        logger.level = before
    lines = seen.splitlines()
    assert [line for line in lines if "alpha" in line and "Traceback" not in line] == [
        "alpha begins",
        f"INFO of {number}: alpha works None",
        "alpha goes on",
        "alpha ends",
    ]
    assert lines.index(f"ERROR of {number}: alpha failed Traceback (most recent call last):") < lines.index(
        "alpha ends"
    )
    assert "LookupError: nothing there" in lines


def test_prints_of_a_task_arrive_while_it_runs(
    deployment: Deployment, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    told = tmp_path / "told"
    with Client(scheduler.address, stream_output=True) as client:
        future = client.submit(talk_and_wait, str(told))
        # Within the time that the task waits.
        wait_for_output(capfd, "it begins\nit waits", "")
        assert not future.done()
        told.touch()
        future.result(50)


def test_without_a_listening_client_they_are_in_the_workers_log(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "--logging-format", "json", count=1)
    deployment.client(scheduler).submit(talk, "beta").result(50)
    entries: list[dict[str, str]] = []

    def logged() -> bool:
        text = "\n".join(text for _, text in deployment.logs())
        entries[:] = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return any(entry["message"] == "beta failed" for entry in entries)

    wait_for("the record is in the log", logged)
    (failed,) = [entry for entry in entries if entry["message"] == "beta failed"]
    assert (failed["level"], failed["logger"]) == ("ERROR", "tests.tasks")
    assert "LookupError: nothing there" in failed["traceback"]
    assert any(entry["message"] == "beta works" for entry in entries)
