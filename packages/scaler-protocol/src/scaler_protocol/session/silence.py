"""What an agent logs about a scheduler that does not answer: while it waits for the first time, and when it loses one. Pure."""

from __future__ import annotations

from scaler_protocol.session.connection import Connection

INFO, WARNING = 20, 30

TOLD_AFTER_SECONDS = 5.0
"""Silence that is worth a line: more than a scheduler needs that is started at the same time."""

TOLD_AFTER_HEARTBEATS = 2.5
"""The same for a scheduler that answered before, where heartbeats are rare: two are unanswered."""

TOLD_AGAIN_SECONDS = 10.0


class SilenceWatch:
    """Call `look` at every tick and when a session is established. It returns (level of `logging`, text), or None."""

    def __init__(
        self, connection: Connection, scheduler_address: str, heartbeat_seconds: float, give_up_seconds: float
    ) -> None:
        self._connection = connection
        self._address = scheduler_address
        self._loss_seconds = max(TOLD_AFTER_SECONDS, TOLD_AFTER_HEARTBEATS * heartbeat_seconds)
        self._give_up_seconds = give_up_seconds
        self._was_heard = False
        """Whether a session was established before."""
        self._told_at: float | None = None
        """When the present silence was last told; None if it was not."""
        self.refusal = ""
        """Why the scheduler does not let this service in, if it has said so since the last session."""

    def look(self, now: float) -> tuple[int, str] | None:
        """Return the line that is due now. A waiting service says again and again for how long."""
        connection = self._connection
        silent = now - connection.silent_since
        was_heard, self._was_heard = self._was_heard, self._was_heard or connection.established
        if silent < (self._loss_seconds if self._was_heard else TOLD_AFTER_SECONDS):
            was_told, self._told_at = self._told_at is not None, None
            return (INFO, f"the scheduler{self._where()} answers{' again' if was_heard else ''}") if was_told else None
        if self._told_at is not None and now < self._told_at + TOLD_AGAIN_SECONDS:
            return None
        self._told_at = now
        left = max(0.0, self._give_up_seconds - silent)
        if self._was_heard:
            text = f"the scheduler{self._where()} has not answered for {silent:.0f} s"
        else:
            text = f"no scheduler answers{self._where()} yet (waited for {silent:.0f} s)"
        return WARNING, f"{text}; trying for another {left:.0f} s"

    def on_refused(self, reason: str, now: float) -> tuple[int, str] | None:
        """The scheduler does not let this service in. Return the line that says so; None if it was told before."""
        if reason == self.refusal:
            return None
        self.refusal = reason
        left = max(0.0, self._give_up_seconds - (now - self._connection.silent_since))
        return WARNING, f"the scheduler{self._where()} refuses this agent: {reason}; trying for another {left:.0f} s"

    def on_established(self) -> None:
        """A session is established: what was refused before has been let in."""
        self.refusal = ""

    def last_words(self, silent_seconds: float) -> str:
        """Return why a service ends that has given up."""
        text = f"no scheduler has answered{self._where()} for {silent_seconds:.0f} s"
        return f"{text}: {self.refusal}" if self.refusal else text

    def _where(self) -> str:
        return f" at {self._address}" if self._address else ""
