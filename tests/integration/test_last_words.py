"""What a task writes and flushes just before it ends its process reaches its client, and the error that says so."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

import pytest

from scaler import Client, ProcessorDiedError
from tests.integration.deployment import Deployment, wait_for, wait_for_output


def write_and_die() -> None:
    sys.stdout.write("OUT")
    sys.stdout.flush()
    sys.stderr.write("ERR")
    sys.stderr.flush()
    os._exit(9)


def print_line_and_die() -> None:
    print("ERR", file=sys.stderr)
    os._exit(9)


def log_and_die() -> None:
    logging.getLogger("tests.last_words").error("ERR")
    os._exit(9)


@pytest.mark.parametrize(
    ("streamed", "function"),
    [(True, write_and_die), (True, print_line_and_die), (False, write_and_die), (False, print_line_and_die)],
)
def test_last_words_are_in_the_error(deployment: Deployment, streamed: bool, function: Callable[[], None]) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "1")
    deployment.workers(scheduler, count=1)
    with Client(scheduler.address, stream_output=streamed) as client:
        error = client.submit(function).exception(50)
    assert isinstance(error, ProcessorDiedError)
    assert "; last lines of stderr: ERR" in str(error)


def test_flushed_output_of_a_dying_task_arrives_at_its_client(
    deployment: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "1")
    deployment.workers(scheduler, count=1)
    with Client(scheduler.address, stream_output=True) as client:
        assert isinstance(client.submit(write_and_die).exception(50), ProcessorDiedError)
        wait_for_output(capfd, "OUT", "ERR")


def test_a_record_logged_by_a_dying_task_arrives_at_its_client(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = deployment.scheduler("--max-task-attempts", "1")
    deployment.workers(scheduler, count=1)
    with Client(scheduler.address, stream_output=True) as client:
        assert isinstance(client.submit(log_and_die).exception(50), ProcessorDiedError)
        wait_for("the record", lambda: "ERR" in [r.message for r in caplog.records if r.name == "tests.last_words"])
