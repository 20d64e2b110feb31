"""What agents hold for clients that this scheduler does not know yet.

After a restart agents and clients come back in any order. An agent's claim ("I hold task n, attempt k") and results that
arrive before their client are kept here until the client announces the task, or until the client has been away too long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from scaler_protocol.wire.batch_rows import pick_rows
from scaler_protocol.wire.messages import ResultBatch
from scaler_scheduler.core.records import AgentRecord

ORPHAN_BYTES_MAX = 256 * 1024 * 1024
"""Largest size of all results kept for absent clients. Tasks whose results do not fit run again when their client returns."""


class Claim(NamedTuple):
    """An agent says that it holds this attempt."""

    agent: AgentRecord
    attempt: int


class _Absent:
    """What is kept for one client."""

    __slots__ = ("claims", "deadline", "results", "size_bytes")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.claims: dict[int, Claim] = {}
        self.results: dict[int, ResultBatch] = {}
        self.size_bytes = 0


class Recovery:
    """Claims and results by absent client."""

    def __init__(self) -> None:
        self._absent: dict[bytes, _Absent] = {}
        self.size_bytes = 0

    def claim(self, client_id: bytes, number: int, claim: Claim, deadline: float) -> None:
        """Keep an agent's claim to a task of an absent client."""
        self._of(client_id, deadline).claims[number] = claim

    def keep_result(self, batch: ResultBatch, deadline: float) -> None:
        """Keep the results of an absent client, each as a batch of one row."""
        if self.size_bytes + len(batch.payloads.data) > ORPHAN_BYTES_MAX:
            return
        absent = self._of(batch.client, deadline)
        for row in range(len(batch.numbers)):
            single = pick_rows(batch, [row])
            number = single.numbers[0]
            absent.claims.pop(number, None)
            absent.results[number] = single
        absent.size_bytes += len(batch.payloads.data)
        self.size_bytes += len(batch.payloads.data)

    def take_claim(self, client_id: bytes, number: int) -> Claim | None:
        """Remove and return the claim to a task; None if there is none."""
        absent = self._absent.get(client_id)
        return absent.claims.pop(number, None) if absent is not None else None

    def withdraw_claims(self, client_id: bytes, numbers: Iterable[int], agent: AgentRecord) -> None:
        """An agent no longer holds these tasks, so their client must not wait for it."""
        absent = self._absent.get(client_id)
        if absent is not None:
            for number in numbers:
                claim = absent.claims.get(number)
                if claim is not None and claim.agent is agent:
                    del absent.claims[number]

    def take_result(self, client_id: bytes, number: int) -> ResultBatch | None:
        """Remove and return the result of a task; None if there is none."""
        absent = self._absent.get(client_id)
        return absent.results.pop(number, None) if absent is not None else None

    def drop_agent(self, agent: AgentRecord) -> None:
        """An agent is gone: drop its claims. Its results stay valid."""
        for absent in self._absent.values():
            for number in [n for n, claim in absent.claims.items() if claim.agent is agent]:
                del absent.claims[number]

    def drop_client(self, client_id: bytes) -> dict[int, Claim]:
        """Forget a client. Return the claims that were not taken."""
        absent = self._absent.pop(client_id, None)
        if absent is None:
            return {}
        self.size_bytes -= absent.size_bytes
        return absent.claims

    def expired(self, now: float) -> list[bytes]:
        """Return clients that did not come back in time."""
        return [client_id for client_id, absent in self._absent.items() if now >= absent.deadline]

    def __len__(self) -> int:
        return len(self._absent)

    def _of(self, client_id: bytes, deadline: float) -> _Absent:
        absent = self._absent.get(client_id)
        if absent is None:
            absent = self._absent[client_id] = _Absent(deadline)
        return absent
