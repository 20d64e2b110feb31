"""The acts of a play, one after another, and what is measured in each."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.many_hosts.peers import PlayedAgent, PlayedClient, PlayedPeer, PlayedWrongly, Tally
from benchmarks.many_hosts.services import PlayedServices
from benchmarks.many_hosts.stage import Stage

ACT_SECONDS_MAX = 300.0
"""How long anything may take that must come to an end."""

LONE_PERIOD_SECONDS = 0.25
"""How often a client with single tasks submits one."""

LONE_CLIENTS_SHARE = 100
"""One in so many clients submits single tasks."""

TOLD_SECONDS = 1.1
"""After so long the scheduler's log has told of its last turns."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays, and for how long."""

    agents: int
    clients: int
    workers: int
    """How many workers an agent has."""
    batch: int
    """How many tasks a client submits together."""
    task_seconds: float
    """How long a task keeps a worker busy."""
    seconds: float
    """How long each act is."""
    seed: int = 1


Figures = dict[str, float]


class Play:
    """See the module. `figures` grows with every act."""

    def __init__(self, cast: Cast, services: PlayedServices, stage: Stage) -> None:
        self._cast = cast
        self._services = services
        self._stage = stage
        self._random = random.Random(cast.seed)
        self._tally = Tally()
        self._lone_tally = Tally()
        self._agents: list[PlayedAgent] = []
        self._clients: list[PlayedClient] = []
        self._lone: list[PlayedClient] = []
        self.figures: Figures = {}

    @property
    def _peers(self) -> list[PlayedPeer]:
        return [*self._agents, *self._clients, *self._lone]

    def perform(self) -> Figures:
        """Play all acts. Raises PlayedWrongly."""
        self.connect()
        self.rest()
        full = self.work("full", 0.0)
        # Half of what it can, so that what a lone task waits for is not the queue of the players.
        self.work("half", 2 * len(self._clients) * self._cast.batch / full)
        self.lose_the_scheduler()
        self.leave()
        return self.figures

    # --- the acts

    def connect(self) -> None:
        """All connect at once."""
        cast = self._cast
        rss = self._services.rss_bytes()
        begun = time.monotonic()
        address = self._services.address
        lone = max(1, cast.clients // LONE_CLIENTS_SHARE)
        self._agents = [PlayedAgent(address, number, cast.workers, cast.task_seconds) for number in range(cast.agents)]
        self._clients = [
            PlayedClient(address, number, cast.batch, self._tally) for number in range(max(1, cast.clients - lone))
        ]
        self._lone = [PlayedClient(address, cast.clients + number, 1, self._lone_tally) for number in range(lone)]
        for peer in self._peers:
            self._stage.add(peer)
        self._wait("connected", self._all_in(1))
        taken = time.monotonic() - begun
        peers = len(self._peers)
        self.figures |= {
            "peers": peers,
            "connect, s": taken,
            "connect, peers/s": peers / taken,
            **self._longest_turn("connect"),
            "memory of the scheduler per peer, KiB": (self._services.rss_bytes() - rss) / peers / 1024,
        }

    def rest(self) -> None:
        """Nothing but heartbeats; then lone tasks."""
        cpu, begun = self._services.cpu_seconds(), time.monotonic()
        self._stage.play(self._cast.seconds)
        taken = time.monotonic() - begun
        self.figures |= {
            "idle, CPU of the scheduler, %": 100 * (self._services.cpu_seconds() - cpu) / taken,
            **self._longest_turn("idle"),
        }
        self._begin(self._lone, LONE_PERIOD_SECONDS)
        self._stage.forget()
        self._stage.play(self._cast.seconds)
        self._end("idle", self._lone)

    def work(self, act: str, period: float) -> float:
        """All clients submit, each a batch every `period` seconds at most; return how many tasks were answered in a second."""
        self._begin(self._clients, period)
        # The first batches find no functions at the agents, and no measured durations.
        self._stage.play(self._cast.seconds / 2)
        self._begin(self._lone, LONE_PERIOD_SECONDS)
        self._lone_tally.lone_seconds.clear()
        self._services.turns()
        self._stage.forget()
        cpu, begun, answered = self._services.cpu_seconds(), time.monotonic(), self._tally.answered
        self._stage.play(self._cast.seconds)
        taken = time.monotonic() - begun
        answered = self._tally.answered - answered
        cpu = self._services.cpu_seconds() - cpu
        self.figures |= {
            f"{act} load, tasks/s": answered / taken,
            f"{act} load, CPU of the scheduler, %": 100 * cpu / taken,
            f"{act} load, scheduler CPU per task, µs": 1e6 * cpu / max(1, answered),
            **self._longest_turn(f"{act} load"),
            f"{act} load, memory of the scheduler, MiB": self._services.rss_bytes() / 2**20,
        }
        self._end(f"{act} load", [*self._clients, *self._lone])
        return answered / taken

    def lose_the_scheduler(self) -> None:
        """Kill the scheduler under load, start another one at once, and wait until it has taken back everything."""
        self._begin(self._clients, 0.0)
        self._stage.play(self._cast.seconds / 2)
        peers = self._peers
        sessions = {peer: peer.sessions for peer in peers}
        for client in self._clients:
            client.stopped = True
        held = sum(len(client.unanswered) for client in self._clients)
        begun = time.monotonic()
        self._services.kill_scheduler()
        self._services.start_scheduler()
        started = time.monotonic()
        self._services.turns()
        self._wait(
            "connected again",
            _each_of(peers, lambda peer: peer.sessions > sessions[peer] and peer.connection.established),
        )
        back = time.monotonic()
        self._wait("answered", _each_of(self._clients, lambda client: not client.unanswered))
        self.figures |= {
            "killed, tasks under way": held,
            "killed, started again after, s": started - begun,
            "killed, all peers back after, s": back - begun,
            "killed, all tasks answered after, s": time.monotonic() - begun,
            **self._longest_turn("killed"),
        }

    def leave(self) -> None:
        """All leave at once, clients first."""
        begun = time.monotonic()
        for peer in [*self._clients, *self._lone, *self._agents]:
            peer.say_goodbye()
            self._stage.remove(peer)
        self.figures |= {"leave, s": time.monotonic() - begun}
        self.figures |= self._longest_turn("leave")
        submitted = self._tally.submitted + self._lone_tally.submitted
        answered = self._tally.answered + self._lone_tally.answered
        if submitted != answered:
            raise PlayedWrongly(f"{submitted} tasks were submitted and {answered} answered")
        self.figures |= {"tasks, each answered once": answered}

    # --- inside

    def _begin(self, clients: Sequence[PlayedClient], period: float) -> None:
        """Have clients submit. Those with a period do not begin all at once."""
        now = time.monotonic()
        for client in clients:
            client.begin(now, period, self._random.uniform(0.0, period))
            client.tick(now)
            self._stage.nudge(client)

    def _end(self, act: str, clients: Sequence[PlayedClient]) -> None:
        """No more tasks; wait for those under way. Notes how long lone tasks took until now."""
        seconds = sorted(self._lone_tally.lone_seconds)
        self._lone_tally.lone_seconds.clear()
        if len(seconds) >= 2:
            cuts = statistics.quantiles(seconds, n=100, method="inclusive")
            self.figures |= {
                f"{act}, lone task p50, ms": 1e3 * cuts[49],
                f"{act}, lone task p99, ms": 1e3 * cuts[98],
                f"{act}, longest pass of the players, ms": 1e3 * self._stage.longest_pass_seconds,
            }
        for client in clients:
            client.stopped = True
        self._wait("answered", _each_of(clients, lambda client: not client.unanswered))

    def _all_in(self, sessions: int) -> Callable[[], bool]:
        return _each_of(self._peers, lambda peer: peer.sessions >= sessions)

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        if not self._stage.play(ACT_SECONDS_MAX, condition):
            raise PlayedWrongly(f"not all are {what} after {ACT_SECONDS_MAX:.0f} s")

    def _longest_turn(self, act: str) -> Figures:
        self._stage.play(TOLD_SECONDS)
        turns = self._services.turns()
        return {
            f"{act}, longest turn, ms": 1e3 * turns.longest_seconds,
            f"{act}, longest turn, ms of CPU": 1e3 * turns.longest_cpu_seconds,
        }


def _each_of(peers: Sequence[PlayedPeer], holds: Callable[..., bool]) -> Callable[[], bool]:
    """Return a condition: it has held once for each of them. Those for which it has are not looked at again."""
    waiting = list(peers)

    def condition() -> bool:
        while waiting and holds(waiting[-1]):
            waiting.pop()
        return not waiting

    return condition
