"""What a placement policy decides: which agent gets how many of the tasks that are ready.

A policy is a module of its own with one subclass of `PlacementPolicy`, and a line in `policy.listed`. It looks at figures and
changes nothing: the core hands the tasks over, asks again, and knows who runs what. It keeps no clock and no random numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar, Protocol, TypeVar

from scaler_scheduler.policy.locality import AgentFigures, better_agent


class AgentView(Protocol):
    """An agent, as policies see it."""

    @property
    def slots(self) -> int:
        """Tasks it can run at once."""

    @property
    def assigned(self) -> int:
        """Tasks it holds, running and queued."""

    @property
    def spare(self) -> int:
        """Tasks it would take now."""


Agent = TypeVar("Agent", bound=AgentView)
AgentOut = TypeVar("AgentOut", bound=AgentView, covariant=True)


class GroupView(Protocol[AgentOut]):
    """Agents that offer the same capabilities."""

    @property
    def names(self) -> Collection[str]:
        """The names of these capabilities."""

    @property
    def slots(self) -> int:
        """Tasks that all of them can run at once."""

    @property
    def assigned(self) -> int:
        """Tasks that all of them hold."""

    def least_loaded(self) -> AgentOut | None:
        """Return the agent with fewest tasks per slot among those that take any, or None. Costs next to nothing."""

    def with_room(self) -> Iterable[AgentOut]:
        """Return all agents that take a task now. Looks at every agent of the group."""


class PlacementPolicy(ABC):
    """One way to place tasks. Instances have no state that matters."""

    name: ClassVar[str]
    """What users write after `--allocate-policy`."""
    summary: ClassVar[str]
    """What it does, as the rest of a sentence that begins with its name."""
    enforces_capabilities: ClassVar[bool] = True
    """Whether tasks go only to workers that offer what they ask for."""

    @abstractmethod
    def choose(self, ready: int, groups: Sequence[GroupView[Agent]]) -> tuple[Agent, int] | None:
        """Return an agent that takes tasks now, and how many of the `ready` ones to give it (at least 1, at most its `spare`).

        `groups` are those whose agents may run the tasks, the least specialised first. None: no agent takes any. The core
        asks again with what is left, until nothing is.
        """

    def better_agent(
        self, planned: AgentFigures, others: Sequence[AgentFigures], task_seconds: float, *, is_last_reader: bool
    ) -> int | None:
        """Return which of `others`, who hold inputs of a task, should get it instead of the chosen agent, or None.

        `task_seconds`: how long tasks of its client take. `is_last_reader`: nobody else will read these inputs.
        """
        return better_agent(planned, others, task_seconds, is_last_reader=is_last_reader)
