"""A task is cancelled while the machinery works on its behalf: what it was reading or sending is not lost."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from processor_harness import Agent

from scaler_protocol.payloads.framing import PICKLED, Argument, Source, frame_arguments
from scaler_protocol.wire.messages import Status
from scaler_worker.processor.records import Kind

OBJECT = b"o" * 16
ROUNDS = 300


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    try:
        agent.start()
        yield agent
    finally:
        agent.close()


def test_a_cancel_while_a_task_waits_for_its_object_loses_no_task_behind_it(agent: Agent) -> None:
    small = PICKLED + pickle.dumps((([1, 2],), {}))
    waiting = frame_arguments([Argument(Source.OBJECT, OBJECT)], {})
    agent.wait_for(Kind.READY)
    agent.wait_for_answer(agent.define(len, small))
    for _ in range(ROUNDS):
        blocked = agent.submit(waiting)
        agent.wait_for(Kind.OBJECT_WANTED)
        # Both find the processor at the same moment: the record on its way in, and the cancel.
        agent.stop()
        behind = [agent.submit(small) for _ in range(3)]
        agent.cancel(blocked)
        agent.go_on()
        agent.wait_for_answer(behind[-1])
        assert agent.answers.pop(blocked) == Status.CANCELED
        assert [agent.answers.pop(index) for index in behind] == [Status.SUCCESS] * 3
