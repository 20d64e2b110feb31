"""Attempts that were taken from an agent because its session ended, or because nobody needs their results any more.

The agent may come back and say that it holds one of them, or send its result. Only of these attempts, and of those it
holds, is an agent believed: any other task is none of its business.
"""

from __future__ import annotations

from scaler_scheduler.core.records import AgentRecord

ATTEMPTS_MAX = 100_000
"""Most attempts that are remembered, of all agents together. Those of the agent that was lost first are forgotten first."""

_Attempt = tuple[bytes, int, int]
"""Client, number, attempt."""


class LostAttempts:
    """Lost attempts by agent incarnation."""

    def __init__(self) -> None:
        self._by_agent: dict[bytes, dict[_Attempt, None]] = {}
        self._count = 0

    def note(self, agent: AgentRecord, client_id: bytes, number: int, attempt: int) -> None:
        """The agent loses the attempt that it holds, or says that it holds."""
        attempts = self._by_agent.setdefault(agent.id, {})
        before = len(attempts)
        attempts[client_id, number, attempt] = None
        self._count += len(attempts) - before
        while self._count > ATTEMPTS_MAX:
            oldest_agent, oldest = next(iter(self._by_agent.items()))
            del oldest[next(iter(oldest))]
            self._count -= 1
            if not oldest:
                del self._by_agent[oldest_agent]

    def held(self, agent: AgentRecord, client_id: bytes, number: int, attempt: int) -> bool:
        """Whether this agent once held this attempt and lost it."""
        attempts = self._by_agent.get(agent.id)
        return attempts is not None and (client_id, number, attempt) in attempts
