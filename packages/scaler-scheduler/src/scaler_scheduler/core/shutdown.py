"""The end of this scheduler, and of the cluster where it ends with it."""

from __future__ import annotations

from scaler_protocol.wire import messages as m
from scaler_scheduler.core import effects
from scaler_scheduler.core.state import SchedulerState


class Shutdown:
    """Tells peers and the object storage server, each once."""

    def __init__(self, state: SchedulerState) -> None:
        self._ends_cluster = state.config.ends_cluster
        self._clients = state.clients
        self._agents = state.agents
        self._outbox = state.outbox
        self._state = state
        self.stopping = False
        """Whether this process has been asked to end."""
        self.announced = False
        """Whether clients have been told that the cluster ends; its workers end first."""

    def may_be_asked_by(self, client_id: bytes) -> bool:
        """Whether this client may end the cluster."""
        operators = self._state.operators
        return operators is None or any(client_id.startswith(prefix) for prefix in operators)

    def announce(self, reason: str) -> None:
        """The process will be asked to stop, once the workers in it have ended."""
        if self._ends_cluster:
            self._announce(reason)

    def request(self, reason: str) -> None:
        """Somebody outside wants the scheduler to end."""
        if self._ends_cluster:
            self.end_cluster(reason)
        else:
            self._stop(reason)

    def end_cluster(self, reason: str) -> None:
        """End everything."""
        if self.stopping:
            return
        self._announce(reason)
        for agent in self._agents.by_peer.values():
            self._outbox.send_plain(agent, m.Shutdown(reason))
        self._stop(reason)

    def _announce(self, reason: str) -> None:
        """Tell clients, those inside tasks too, that the cluster ends. Nobody waits any more for what has not started."""
        if self.stopping or self.announced:
            return
        self.announced = True
        for client in self._clients.values():
            # Not a goodbye: after that a client waits for a successor.
            self._outbox.send_plain(client, m.Shutdown(reason))

    def _stop(self, reason: str) -> None:
        """End this process only: clients and agents keep what they hold, and find the scheduler that comes after it."""
        if self.stopping:
            return
        self.stopping = True
        self._outbox.log("info", f"scheduler stops: {reason}")
        self._outbox.to_store(m.Shutdown(reason))
        self._outbox.add(effects.Stop(reason))
