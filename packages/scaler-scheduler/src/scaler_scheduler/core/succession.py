"""Which of two schedulers is first, and when this one takes over or steps down.

    STANDBY ──the first one is silent for the lease, and a peer asks──▶ FIRST
       ▲                                                                  │
       └──────────────────────somebody knows of a higher term─────────────┘

Each time that a scheduler becomes first it takes a *term*, a number above all that it knows of. Peers never go back to a
scheduler with a lower term than one they have obeyed, and say in their hello which that is. So of two schedulers that both
believe themselves first, the one with the lower term hears of the other from a peer, or from the other itself, and steps down.

A standby takes over only if a peer asks it as well: peers ask the first scheduler before. So a standby that is cut off from the
first one alone, or one of a cluster that nobody uses, stays what it is.

The standby dials the first one, and goes on to do so when it is first itself: that is how a former first scheduler hears of it.
"""

from __future__ import annotations

from enum import Enum

from scaler_protocol.wire import messages as m

TERM_STEP = 2**16
"""Terms taken over are a multiple of this, plus a number of the scheduler's own: so two schedulers never have the same."""

FIRST_TERM = TERM_STEP
"""The term of a scheduler that was started as the first one. One that is started anew at the same address has it again."""

FIRST_WAIT_SECONDS = 10.0
"""How long a standby that has heard of no scheduler waits after its start: the first one may be starting too."""

DIALS_PER_LEASE = 6

STANDBYS_TEXT = "this scheduler has a standby already; one scheduler has one standby"


class Change(Enum):
    """What a scheduler becomes."""

    TAKE_OVER = "it takes over"
    STEP_DOWN = "it steps down"


class Succession:
    """One scheduler's view. `take_outgoing` returns what is to be sent to the other one, for the scheduler that dials."""

    def __init__(self, incarnation: bytes, *, dials: bool, lease_seconds: float, now: float) -> None:
        """`dials`: it was started as a standby, with the address of the first one. Otherwise it is first."""
        self.is_first = not dials
        self.term = 0 if dials else FIRST_TERM
        """Its own, if it is first; else the highest that it knows of."""
        self._incarnation = incarnation
        self._lease_seconds = lease_seconds
        self._dials = dials
        self._dial_at = now if dials else float("inf")
        self._heard_at = now
        """When the first scheduler was last heard, or this one stepped down, or was started."""
        self._is_refused = False
        """Whether the first scheduler has another standby."""
        self._partner = b""
        self._partner_at = float("-inf")
        self._outgoing: list[m.SchedulerStatus] = []

    # --- what happens

    def on_status(self, status: m.SchedulerStatus, now: float) -> Change | None:
        """The other scheduler says what it is. Return what this one becomes by that."""
        if status.term >= m.TERM_MAX:
            return None
        if self._dials:
            self._is_refused = False
        if self.is_first:
            return self._step_down(status.term, now) if self._outranks(status) else None
        self.term = max(self.term, status.term)
        if status.ends:
            self._heard_at = float("-inf")
        elif status.is_first and status.term == self.term:
            self._heard_at = now
        return None

    def on_refused(self) -> None:
        """The first scheduler has another standby, and this one never takes over as long as that is so."""
        self._is_refused = True

    def on_asked(self, term: int, now: float) -> Change | None:
        """A peer says hello, and has obeyed this term. Return what this scheduler becomes by that."""
        if self.is_first:
            return self._step_down(term, now) if term > self.term else None
        self.term = max(self.term, min(term, m.TERM_MAX - 1))
        if self._is_refused or now < self._heard_at + self._wait_seconds:
            return None
        self.is_first = True
        own = int.from_bytes(self._incarnation[:2], "little") or 1
        self.term = (self.term // TERM_STEP + 1) * TERM_STEP + own
        self._dial_at = now if self._dials else float("inf")
        return Change.TAKE_OVER

    def tick(self, now: float) -> None:
        """Dial the other scheduler, if that is due."""
        if now >= self._dial_at:
            self._dial_at = now + self._lease_seconds / DIALS_PER_LEASE
            self._outgoing.append(self.status())

    # --- what is to be done

    def accepts(self, status: m.SchedulerStatus, now: float) -> bool:
        """Whether the sender of this is the standby of this scheduler, which is known by its process, or there is none."""
        if not self.is_first or status.incarnation == self._partner or status.is_first:
            self._partner, self._partner_at = status.incarnation, now
            return True
        if now < self._partner_at + 2 * self._lease_seconds:
            return False
        self._partner, self._partner_at = status.incarnation, now
        return True

    def status(self, *, answers: bool = False, ends: bool = False) -> m.SchedulerStatus:
        """Return what this scheduler says of itself."""
        return m.SchedulerStatus(self.term, self.is_first and not ends, self._incarnation, answers=answers, ends=ends)

    def take_outgoing(self) -> list[m.SchedulerStatus]:
        """Return, and forget, what is to be sent to the other scheduler."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_deadline(self) -> float:
        """When `tick` is due; infinity for never."""
        return self._dial_at

    # --- inside

    @property
    def _wait_seconds(self) -> float:
        return self._lease_seconds if self.term else max(self._lease_seconds, FIRST_WAIT_SECONDS)

    def _outranks(self, status: m.SchedulerStatus) -> bool:
        """Whether the other scheduler knows of a term above this one's. Where both say the same, the one that dials gives way."""
        return status.term > self.term or (status.is_first and status.term == self.term and self._dials)

    def _step_down(self, term: int, now: float) -> Change | None:
        if term >= m.TERM_MAX:
            return None
        self.is_first = False
        self.term = term
        self._heard_at = now
        return Change.STEP_DOWN
