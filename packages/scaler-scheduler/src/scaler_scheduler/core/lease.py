"""Which of several schedulers is first, where a lease in a store decides: one value that all of them read and replace.

    STANDBY ──it has replaced the value by its own──▶ FIRST
       ▲                                                │
       └─────it could not renew it for `hold_seconds`, ─┘
             or somebody else has replaced it

The value names its holder and the holder's *term*, a number above all terms before (see `succession`). A store replaces it
only if it still is what the writer has seen last. The holder renews it several times in each lease, each time with another
number in it. A standby takes it when it has seen the same value for a whole lease, or when the holder has given it back. All
times are by the clock of whoever waits: the store's, and an expiry there, mean nothing. A store may be restarted, and come back
without the value: the holder puts it there again, and a standby puts one there that names nobody, and waits a lease from
then on. So all values differ, and none is taken for an earlier one. A store that comes back with an older value may make two
schedulers first at once, which have different terms.

The holder counts from before its request, and stops earlier than a lease after that. A standby counts from after the
answer that it got. So the holder has stopped before another one can be first, unless its process stood still. For such cases
there are terms, as between a scheduler and its standby.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.succession import TERM_STEP, Change

HOLD_SHARE = 0.75
"""After this share of the lease without a renewal its holder is first no more. The rest is for requests that hang."""

LOOKS_PER_LEASE = 6
"""How often the value is renewed, or looked at, in each lease."""

NOBODY = "nobody-"
"""How the name of a holder begins where there is none."""

LOOKS_MISSED = 2
"""After this part of a lease without an answer a standby counts the lease anew."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The value in the store."""

    term: int
    holder: str
    """The incarnation of the scheduler, in hexadecimal digits; after `NOBODY`: of the one that has seen no value there."""
    name: str
    """Host and process, for people."""
    renewal: int = 0
    is_returned: bool = False
    """Whether its holder has ended in order, and anybody may take it."""

    def encode(self) -> bytes:
        """Return the bytes that are stored."""
        words = {"term": self.term, "holder": self.holder, "name": self.name, "renewal": self.renewal}
        return json.dumps({**words, "returned": self.is_returned}).encode()


def read_record(value: bytes) -> LeaseRecord | None:
    """Return what a value says; None: it is no lease of a scheduler."""
    try:
        words = json.loads(value)
        record = LeaseRecord(
            int(words["term"]),
            str(words["holder"]),
            str(words["name"]),
            int(words["renewal"]),
            bool(words["returned"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return record if 0 <= record.term < m.TERM_MAX else None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request: put `after` in the place of `before` (None: of nothing), if that is what is stored; `after` None: only look.

    The answer is what is stored then, whether or not it was replaced.
    """

    before: bytes | None = None
    after: bytes | None = None


class Lease:
    """One scheduler's view. Requests are made one after another; each has an answer (`on_answer`) or has none (`on_silence`)."""

    def __init__(self, incarnation: bytes, name: str, *, lease_seconds: float, now: float) -> None:
        self.is_first = False
        self.term = 0
        """Its own, if it is first; else the highest that it knows of."""
        self.holder: LeaseRecord | None = None
        """What the store said last."""
        self.incarnation = incarnation.hex()
        self._own_term = int.from_bytes(incarnation[:2], "little") or 1
        """What makes its terms differ from those of others."""
        self._name = name
        self._lease_seconds = lease_seconds
        self._seen: bytes | None = None
        self._seen_at = float("inf")
        """Since when the store has said this; infinity: it has not answered yet."""
        self._looked_at = float("-inf")
        """When it has answered last."""
        self._held_until = float("-inf")
        self._is_ours = False
        """Whether the value is this scheduler's, and nobody else has had it since."""
        self._unanswered: bytes | None = None
        """What may have been put there: the last value without an answer."""
        self._is_ending = False
        self._renewals = 0
        self._ask_at = now

    # --- what happens

    def tick(self, now: float) -> Change | None:
        """Return what this scheduler becomes by the time that has passed."""
        return self._step_down() if self.is_first and now >= self._held_until else None

    def on_asked(self, term: int, now: float) -> Change | None:
        """A peer has obeyed this term. Return what this scheduler becomes by that."""
        if not self.term < term < m.TERM_MAX:
            return None
        change = self._step_down() if self.is_first else None
        self.term = term
        self._ask_at = now
        return change

    def on_end(self) -> Change | None:
        """This scheduler ends. What is asked next gives the lease back, and is the last request. Return what it becomes."""
        if self._is_ending:
            return None
        self._is_ending = True
        self._ask_at = float("-inf")
        return self._step_down() if self.is_first else None

    def on_answer(self, request: Exchange, found: bytes | None, began: float, now: float) -> Change | None:
        """The store has answered. `began`: when the request was made. Return what this scheduler becomes by that."""
        if request.after is not None and found == request.after and self._is_own(request.after):
            return self._on_replaced(found, began, now)
        before, self._seen = self._seen, found
        # What was there between two looks that are far apart is not known.
        if found != before or began > self._looked_at + self._lease_seconds / LOOKS_MISSED:
            self._seen_at = now
        self._looked_at = now
        record = self.holder = None if found is None else read_record(found)
        if found is not None and self._is_own(found):
            assert record is not None
            # The answer to an earlier request was lost.
            self._is_ours |= found == self._unanswered
            self.term = max(self.term, record.term)
            if self.is_first or self._is_ours:
                self._ask_at = now
            return None
        self._is_ours = False
        if not self.is_first:
            if record is not None:
                self.term = max(self.term, record.term)
                if record.is_returned and found != before:
                    self._ask_at = now
            return None
        if found is None or (record is not None and (record.term < self.term or record.holder.startswith(NOBODY))):
            # The store has lost the newest value. Nobody takes the one that is there before the time of this one is over.
            self._ask_at = now
            return None
        change = self._step_down()
        if record is not None:
            self.term = max(self.term, record.term)
        return change

    def on_silence(self, request: Exchange) -> None:
        """The store has not answered. What was asked may have been done all the same."""
        if request.after is not None:
            self._unanswered = request.after

    # --- what is to be done

    def next_request(self, now: float) -> Exchange | None:
        """Return what to ask the store now, if that is due."""
        if now < self._ask_at:
            return None
        self._ask_at = now + self._lease_seconds / LOOKS_PER_LEASE
        if self._is_ending:
            self._ask_at = float("inf")
            if not self._is_ours or self.holder is None:
                return None
            return Exchange(self._seen, replace(self.holder, is_returned=True).encode())
        if self.is_first:
            return Exchange(self._seen, self._record(self.term).encode())
        if self._seen is None and self._looked_at > float("-inf"):
            return Exchange(None, self._record(self.term, NOBODY + self.incarnation).encode())
        if not self._may_take(now):
            return Exchange()
        term = (self.term // TERM_STEP + 1) * TERM_STEP + self._own_term
        return Exchange(self._seen, self._record(term).encode())

    def next_deadline(self) -> float:
        """When `tick` and `next_request` are due; infinity for never."""
        return min(self._ask_at, self.held_until)

    @property
    def held_until(self) -> float:
        """When it is first no more, if it cannot renew the lease before; infinity where it is not first."""
        return self._held_until if self.is_first else float("inf")

    # --- inside

    def _record(self, term: int, holder: str = "") -> LeaseRecord:
        self._renewals += 1
        return LeaseRecord(term, holder or self.incarnation, self._name, self._renewals)

    def _is_own(self, value: bytes) -> bool:
        record = read_record(value)
        return record is not None and record.holder == self.incarnation

    def _may_take(self, now: float) -> bool:
        if self.holder is None:
            # It is not known yet, or it is somebody else's value and no lease.
            return False
        return self.holder.is_returned or self._is_ours or now >= self._seen_at + self._lease_seconds

    def _on_replaced(self, found: bytes, began: float, now: float) -> Change | None:
        self._seen, self._seen_at, self._looked_at = found, now, now
        self.holder = read_record(found)
        self._is_ours = True
        assert self.holder is not None
        held_until = began + HOLD_SHARE * self._lease_seconds
        is_above = self.holder.term > self.term
        self.term = max(self.term, self.holder.term)
        if self._is_ending or now >= held_until or not (self.is_first or is_above):
            # It is too late, or a term that was given up. The value is still this one's, and is replaced by another one.
            return None
        self._held_until = held_until
        if self.is_first:
            return None
        self.is_first = True
        return Change.TAKE_OVER

    def _step_down(self) -> Change:
        self.is_first = False
        self._held_until = float("-inf")
        return Change.STEP_DOWN
