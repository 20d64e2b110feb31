"""What agents hold for clients that this scheduler does not know yet.

After a restart agents and clients come back in any order. An agent's claim ("I hold task n, attempt k") and results that
arrive before their client are kept here until the client announces the task, or until the client has been away too long.
No agent can take the place of another one: the first to claim a task, or to send its result, is the one that counts. Only
a result after which the task may run again gives way to that of a later attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from scaler_protocol.runtime.core import require
from scaler_protocol.wire.batch_rows import row_picker
from scaler_protocol.wire.call_options import TIMEOUT_NAMES, CallOptions
from scaler_protocol.wire.messages import ResultBatch, Status
from scaler_scheduler.core.records import AgentRecord

KEPT_BYTES_MAX = 256 * 1024 * 1024
"""Largest size of all claims and results kept for absent clients. Tasks that do not fit run again when their client returns."""

SHARE_BYTES_MAX = KEPT_BYTES_MAX // 2
"""How much of this may be for one client, and how much may come from one agent."""

REFUSED_MAX = 10_000
"""Of how many tasks of an absent client refused claims are remembered."""

CLAIM_BYTES = 300
RESULT_BYTES = 1_000
"""Memory that a claim, and a result without its payload, use at most."""


_UNFINISHED = frozenset({Status.PROCESSOR_DIED, Status.SKIPPED, Status.CANCELED, Status.RETRY})
"""An agent's answers that call for another attempt."""

_GIVES_WAY = _UNFINISHED | {Status.TIMED_OUT}
"""Those that do, and one that may, as its task asks."""

NAMED = frozenset({Status.TIMED_OUT, Status.LIMIT_EXCEEDED})
"""It took too much. The agent's text is completed by what only the scheduler knows: the function's name."""


class Claim(NamedTuple):
    """An agent says that it holds this attempt."""

    agent: AgentRecord
    attempt: int


class _Result(NamedTuple):
    """The result of one task."""

    batch: ResultBatch
    """A batch of one row."""
    agent_id: bytes
    """Who sent it."""
    size_bytes: int


class _Absent:
    """What is kept for one client."""

    __slots__ = ("claims", "deadline", "refused", "results", "size_bytes")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.claims: dict[int, Claim] = {}
        self.results: dict[int, _Result] = {}
        self.refused: dict[int, int] = {}
        """Highest attempt of tasks that agents were told to stop. No later attempt may have its number."""
        self.size_bytes = 0


class Recovery:
    """Claims and results by absent client."""

    def __init__(self) -> None:
        self._absent: dict[bytes, _Absent] = {}
        self._bytes_by_agent: Counter[bytes] = Counter()
        self.size_bytes = 0

    def claim(self, client_id: bytes, number: int, claim: Claim, deadline: float) -> bool:
        """Keep an agent's claim to a task of an absent client. Return False if another agent has claimed it, or this one for
        a later attempt, or if too much is kept already."""
        absent = self._absent.get(client_id)
        if absent is not None and (before := absent.claims.get(number)) is not None:
            if before.agent is not claim.agent or before.attempt > claim.attempt:
                if number in absent.refused or len(absent.refused) < REFUSED_MAX:
                    absent.refused[number] = max(claim.attempt, absent.refused.get(number, 0))
                return False
            absent.claims[number] = claim
            return True
        if not self._fits(absent, claim.agent.id, CLAIM_BYTES):
            return False
        absent = self._of(client_id, deadline)
        absent.claims[number] = claim
        self._count(absent, claim.agent.id, CLAIM_BYTES)
        return True

    def keep_result(self, agent: AgentRecord, batch: ResultBatch, deadline: float) -> list[bytes]:
        """Keep the results of an absent client, each as a batch of one row, unless another agent holds the task, or one is there.

        A result after which the task may run again gives way to that of a later attempt: so a task that died at two agents has
        ended at both. Returns objects of results that gave way: nobody reads them any more.
        """
        pick_row = row_picker(batch)
        unread: list[bytes] = []
        for row, number in enumerate(batch.numbers):
            absent = self._absent.get(batch.client)
            if absent is not None:
                claim, before = absent.claims.get(number), absent.results.get(number)
                if claim is not None and (claim.agent is not agent or claim.attempt > batch.attempts[row]):
                    continue
                if claim is not None:
                    self._drop_claim(absent, number)
                if before is not None:
                    if status_of(before.batch) not in _GIVES_WAY or batch.attempts[row] <= before.batch.attempts[0]:
                        continue
                    unread += before.batch.objects
                    self._drop_result(absent, number)
            size = RESULT_BYTES + batch.payloads.lengths[row]
            if self._fits(absent, agent.id, size):
                absent = self._of(batch.client, deadline)
                absent.results[number] = _Result(pick_row(row), agent.id, size)
                self._count(absent, agent.id, size)
        return unread

    def take_claim(self, client_id: bytes, number: int) -> Claim | None:
        """Remove and return the claim to a task; None if there is none."""
        absent = self._absent.get(client_id)
        if absent is None or number not in absent.claims:
            return None
        return self._drop_claim(absent, number)

    def take_refused(self, client_id: bytes) -> dict[int, int]:
        """Remove and return the highest attempts of tasks that were claimed in vain while their client was away."""
        absent = self._absent.get(client_id)
        if absent is None:
            return {}
        refused, absent.refused = absent.refused, {}
        return refused

    def knows(self, client_id: bytes, number: int) -> bool:
        """Whether an agent has claimed a task, or has sent its result."""
        absent = self._absent.get(client_id)
        return absent is not None and (number in absent.claims or number in absent.results)

    def has_some_of(self, client_id: bytes) -> bool:
        """Whether anything is kept for this client."""
        return client_id in self._absent

    def has_claimed(self, client_id: bytes, number: int, agent: AgentRecord) -> bool:
        """Whether this agent says that it holds the task."""
        absent = self._absent.get(client_id)
        claim = absent.claims.get(number) if absent is not None else None
        return claim is not None and claim.agent is agent

    def withdraw_claims(
        self, client_id: bytes, numbers: Iterable[int], attempts: Iterable[int], agent: AgentRecord
    ) -> None:
        """An agent no longer holds these attempts, so the client must not wait for it."""
        absent = self._absent.get(client_id)
        if absent is not None:
            for number, attempt in zip(numbers, attempts, strict=False):
                if absent.claims.get(number) == (agent, attempt):
                    self._drop_claim(absent, number)

    def take_result(self, client_id: bytes, number: int) -> ResultBatch | None:
        """Remove and return the result of a task; None if there is none."""
        absent = self._absent.get(client_id)
        if absent is None or number not in absent.results:
            return None
        return self._drop_result(absent, number).batch

    def drop_agent(self, agent: AgentRecord) -> None:
        """An agent is gone: drop its claims. Its results stay valid."""
        if not self._bytes_by_agent[agent.id]:
            return
        for absent in self._absent.values():
            for number in [n for n, claim in absent.claims.items() if claim.agent is agent]:
                self._drop_claim(absent, number)

    def drop_client(self, client_id: bytes) -> dict[int, Claim]:
        """Forget a client. Return the claims that were not taken."""
        absent = self._absent.pop(client_id, None)
        if absent is None:
            return {}
        for agent_id, claims in Counter(claim.agent.id for claim in absent.claims.values()).items():
            self._count(absent, agent_id, -CLAIM_BYTES * claims)
        for result in absent.results.values():
            self._count(absent, result.agent_id, -result.size_bytes)
        return absent.claims

    def expired(self, now: float) -> list[bytes]:
        """Return clients that did not come back in time."""
        return [client_id for client_id, absent in self._absent.items() if now >= absent.deadline]

    @property
    def absent(self) -> Collection[bytes]:
        """The clients that may still come back."""
        return self._absent.keys()

    def __len__(self) -> int:
        return len(self._absent)

    def check_invariants(self, agents: Mapping[bytes, AgentRecord]) -> None:
        """Raise InvariantError unless claims are those of agents that are here, and sizes add up."""
        by_agent: Counter[bytes] = Counter()
        for absent in self._absent.values():
            for claim in absent.claims.values():
                require(agents.get(claim.agent.peer) is claim.agent, f"{claim.agent.name} is gone and claims a task")
            sizes = [(claim.agent.id, CLAIM_BYTES) for claim in absent.claims.values()]
            sizes += [(result.agent_id, result.size_bytes) for result in absent.results.values()]
            require(absent.size_bytes == sum(size for _, size in sizes), "what is kept for a client is counted wrongly")
            for agent_id, size in sizes:
                by_agent[agent_id] += size
        require(by_agent == +self._bytes_by_agent, "what agents have sent for clients that are away is counted wrongly")
        require(by_agent.total() == self.size_bytes, "what is kept for clients that are away is counted wrongly")

    def _of(self, client_id: bytes, deadline: float) -> _Absent:
        absent = self._absent.get(client_id)
        if absent is None:
            absent = self._absent[client_id] = _Absent(deadline)
        return absent

    def _fits(self, absent: _Absent | None, agent_id: bytes, size: int) -> bool:
        return (
            self.size_bytes + size <= KEPT_BYTES_MAX
            and self._bytes_by_agent[agent_id] + size <= SHARE_BYTES_MAX
            and (absent is None or absent.size_bytes + size <= SHARE_BYTES_MAX)
        )

    def _count(self, absent: _Absent, agent_id: bytes, size: int) -> None:
        absent.size_bytes += size
        self.size_bytes += size
        self._bytes_by_agent[agent_id] += size
        if not self._bytes_by_agent[agent_id]:
            del self._bytes_by_agent[agent_id]

    def _drop_claim(self, absent: _Absent, number: int) -> Claim:
        claim = absent.claims.pop(number)
        self._count(absent, claim.agent.id, -CLAIM_BYTES)
        return claim

    def _drop_result(self, absent: _Absent, number: int) -> _Result:
        result = absent.results.pop(number)
        self._count(absent, result.agent_id, -result.size_bytes)
        return result


def status_of(batch: ResultBatch) -> Status:
    """Return how the one task of a kept result ended."""
    return Status(batch.statuses[0]) if len(batch.statuses) else Status.SUCCESS


def is_answer(batch: ResultBatch, asks: CallOptions | None) -> bool:
    """Whether a kept result ends its task, which asks for this. Else the task runs again."""
    status = status_of(batch)
    return status not in _UNFINISHED and not (status is Status.TIMED_OUT and covers_timeout(asks))


def covers_timeout(asks: CallOptions | None) -> bool:
    """Whether a task that asks for this may run again after it has run too long."""
    return asks is not None and asks.retries is not None and asks.retries.covers(TIMEOUT_NAMES)
