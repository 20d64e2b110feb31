"""Which workers are connected: asked of the scheduler, and waited for."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import Protocol

from scaler import errors
from scaler.client.sleepers import Sleepers
from scaler.client.steps import Steps
from scaler.client.waiting import Waiting
from scaler.core import effects
from scaler.core.client_core import ClientCore
from scaler_protocol.capabilities import pin_to
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m

FIRST_WORKER_SECONDS = 0.1
"""How long to wait before the scheduler is asked again, while no worker is connected."""


LIST_SECONDS = 10.0
"""How long the scheduler has for its answer in any case."""


class ListOwner(Protocol):
    """What an engine has for this."""

    core: ClientCore
    steps: Steps
    waiting: Waiting


class _Question:
    __slots__ = ("answer", "sleepers")

    def __init__(self) -> None:
        self.answer: m.WorkerList | None = None
        self.sleepers = Sleepers()


def take_list(effect: effects.WorkersListed) -> None:
    """The scheduler has answered."""
    question = effect.token
    assert isinstance(question, _Question)
    question.answer = effect.workers
    question.sleepers.wake()


def connected_workers(owner: ListOwner, deadline: float) -> dict[str, m.Capabilities]:
    """Return the names of the connected workers, and for each what a task asks for that only this worker may run.

    Waits for the first one to connect. Raises NoWorkerError if none has by the deadline, DisconnectedError if the scheduler does
    not answer, or what ended the session.
    """
    found = _ask(owner, deadline)
    if found is None:
        raise errors.DisconnectedError("the scheduler has not said in time which workers there are")
    while not found.names:
        remaining = deadline - time.monotonic()
        if remaining > 0:
            owner.waiting.wait(Sleepers(), lambda: False, min(FIRST_WORKER_SECONDS, remaining))
        asked = _ask(owner, deadline) if remaining > 0 else None
        if asked is None:
            raise errors.NoWorkerError("no worker is connected")
        found = asked
    return workers_by_name(found)


def listed_workers(owner: ListOwner, deadline: float) -> dict[str, m.Capabilities]:
    """As `connected_workers`, without waiting for one: there may be none."""
    found = _ask(owner, max(deadline, time.monotonic() + LIST_SECONDS))
    if found is None:
        raise errors.DisconnectedError("the scheduler has not said in time which workers there are")
    return workers_by_name(found)


def _ask(owner: ListOwner, deadline: float) -> m.WorkerList | None:
    """Return the connected workers; None if the scheduler does not answer in time."""
    question = _Question()
    core = owner.core
    core.admission.require_usable()
    owner.steps.do(partial(core.ask_workers, question))
    owner.waiting.wait(
        question.sleepers,
        lambda: question.answer is not None or core.unusable is not None,
        max(0.0, deadline - time.monotonic()),
    )
    if question.answer is None:
        core.admission.require_usable()
    return question.answer


def workers_by_name(found: m.WorkerList) -> dict[str, m.Capabilities]:
    """Give workers of the same name their agent's id behind it: two clusters on one host name theirs alike."""
    times = Counter(found.names)
    return {
        name if times[name] == 1 else f"{name} ({short(agent)}/{slot})": pin_to(agent, slot)
        for agent, slot, name in zip(found.agents, found.slots, found.names, strict=True)
    }
