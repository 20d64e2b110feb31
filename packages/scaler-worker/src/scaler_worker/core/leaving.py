"""How an agent leaves: it takes nothing more, gives back what has not started, and ends when the running tasks have."""

from __future__ import annotations

from scaler_protocol.runtime.core import INFO
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.messages import ProcessorState as State
from scaler_worker.core import events
from scaler_worker.core.nesting import Nesting
from scaler_worker.core.returns import TaskReturns
from scaler_worker.core.state import AgentState


class Leaving:
    """Begins to leave when somebody asks for it, and stops when nothing is left to wait for."""

    def __init__(self, state: AgentState, returns: TaskReturns, nesting: Nesting) -> None:
        self._state = state
        self._returns = returns
        self._nesting = nesting

    def on_stop_requested(self, event: events.StopRequested, now: float) -> None:
        """Leave; running tasks have the event's grace."""
        self.leave(event.reason, now + event.grace_seconds)

    def leave(self, reason: str, deadline: float) -> None:
        """Begin to leave, or leave by an earlier deadline: after that, running tasks end with the agent."""
        state = self._state
        if state.departure.leaving:
            state.departure.hasten(deadline)
            return
        state.departure.begin(reason, deadline)
        state.log(INFO, f"workers leave: {reason}")
        self._returns.give_back_queued(state.queue.count)
        self._returns.give_back(state.pinned.take_all())
        for processor in state.processors.by_number.values():
            if processor.rows > 1 and processor.state is State.RUNNING:
                self._returns.take_back_behind(processor)
        if state.connection.established:
            state.connection.send(m.Drain())

    def stop_when_done(self, now: float) -> None:
        """Stop if the deadline is reached, or nothing runs any more and everything is told. Called while leaving."""
        state = self._state
        if now < state.departure.deadline and (
            any(processor.rows for processor in state.processors.by_number.values())
            or state.transfers.storing()
            or state.results.rows
            or self._nesting.unreported_disconnects
        ):
            return
        state.departure.stop(state.departure.reason, 0)
