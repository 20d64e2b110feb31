"""Whether tasks may be submitted: not while there is no hope of a session, and not more than the scheduler permits."""

from __future__ import annotations

from scaler.core.holdings import Credit
from scaler.errors import ScalerError
from scaler_protocol.wire import messages as m


class Admission:
    """What whoever submits asks of a client core. Any thread may read it; only the core changes it."""

    __slots__ = ("_credit", "accepts_freely", "unusable")

    def __init__(self) -> None:
        self.unusable: ScalerError | None = None
        """Raised by `submit`: why this client takes no tasks. None while it does."""
        self.accepts_freely = True
        """Whether tasks may be submitted, as many as one likes. An attribute, because it is asked for every task."""
        self._credit = Credit()

    # --- questions

    def allows(self, count: int) -> bool:
        """Whether the scheduler permits `count` more tasks. Where not: `ClientCore.ask_credit`, and wait for `CreditArrived`."""
        return self._credit.allows(count)

    def require_usable(self) -> None:
        """Raise `unusable`, where there is such an error."""
        if self.unusable is not None:
            # The same error is raised many times: without this its traceback would grow.
            raise self.unusable.with_traceback(None)

    @property
    def credit_left(self) -> int | None:
        """How many more tasks the scheduler permits; None where it sets no limit."""
        return self._credit.left

    # --- the core's

    def close(self, error: ScalerError) -> None:
        """Take no more tasks, because of `error`."""
        self.unusable = error
        self.accepts_freely = False

    def open(self) -> None:
        """A session stands: take tasks again."""
        self.unusable = None
        self.accepts_freely = self._credit.left is None

    def begin_session(self, welcome: m.Welcome) -> int:
        """A scheduler that knows nothing of us permits what it says. Return how many more tasks to ask for."""
        asked = self._credit.begin_session(welcome)
        self.open()
        return asked

    def spend(self, count: int) -> None:
        """So many tasks were submitted."""
        self._credit.give_back(-count)

    def give_back(self, count: int) -> None:
        """So many permitted tasks will not leave after all."""
        self._credit.give_back(count)

    def ask(self, count: int) -> int:
        """Return how many tasks to ask permission for, so that `count` may be submitted; 0: nothing is to be asked."""
        return self._credit.ask(count)

    def grant(self, count: int) -> None:
        """The scheduler permits so many more tasks."""
        self._credit.grant(count)
