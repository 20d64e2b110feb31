"""A processor imports what its tasks will most likely need while it waits for the first one."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from processor_harness import Agent

from scaler_protocol.payloads.framing import PICKLED
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.records import Kind

MODULE = "imported_ahead_by_the_test"
SMALL = PICKLED + pickle.dumps((([1, 2],), {}))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path, [MODULE])
    try:
        yield agent
    finally:
        agent.close()


@pytest.mark.parametrize("ending", ["", "raise ImportError", "raise SystemExit"])
def test_while_no_task_waits_a_module_is_imported_and_tasks_run_after_it(
    agent: Agent, tmp_path: Path, ending: str
) -> None:
    (tmp_path / f"{MODULE}.py").write_text(f"open({str(tmp_path / 'seen')!r}, 'w').close()\n{ending}\n")
    agent.start()
    agent.wait_for(Kind.READY)
    wait_until((tmp_path / "seen").exists, 20.0, what="the module is imported")
    index = agent.define(len, SMALL)
    agent.wait_for_answer(index)
    assert agent.answers[index] == Status.SUCCESS


def test_a_module_that_is_not_there_harms_nobody(agent: Agent) -> None:
    agent.start()
    agent.wait_for(Kind.READY)
    index = agent.define(len, SMALL)
    agent.wait_for_answer(index)
    assert agent.answers[index] == Status.SUCCESS


def test_a_task_that_waits_is_not_kept_waiting_by_an_import(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / f"{MODULE}.py").write_text(f"open({str(tmp_path / 'seen')!r}, 'w').close()\n")
    index = agent.define(len, SMALL)
    agent.start()
    agent.wait_for_answer(index)
    assert agent.answers[index] == Status.SUCCESS
    assert not (tmp_path / "seen").exists()
