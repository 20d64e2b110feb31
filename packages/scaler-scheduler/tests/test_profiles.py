"""Profiles in the scheduler: agents are asked while a monitor subscribes, and each monitor gets the sum for its own seconds."""

from __future__ import annotations

from harness import FUNCTION, Agent, Client, Harness

from scaler_protocol.monitoring.topics import ProfileWanted
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.profiles import LATE_SECONDS, NODES_PER_SECOND, REPEAT_SECONDS, RUNS_MAX

FIRST, SECOND = ProfileWanted(7, 100, 3), ProfileWanted(8, 50, 10)


class Watched:
    """A scheduler with agents that run something, and monitors."""

    def __init__(self, agents: int = 2) -> None:
        self.harness = Harness()
        self.client = Client(self.harness, "client")
        self.agents = [Agent(self.harness, f"agent{number}") for number in range(agents)]
        self.client.define()

    def tick(self, *wanted: ProfileWanted, seconds: float = 1.0) -> list[m.MonitorProfile]:
        """Let time pass; return what is published then, as it arrives on the other side."""
        self.harness.now += seconds
        self.harness.core.handle(events.Tick(monitors=len(wanted), profiles=wanted), self.harness.now)
        self.harness.settle()
        published = [each.message for each in self.harness.other_effects if isinstance(each, effects.Publish)]
        self.harness.other_effects.clear()
        return [told for told in map(decode, map(encode, published)) if isinstance(told, m.MonitorProfile)]

    def asked(self) -> list[list[tuple[float, int]]]:
        return [
            [(round(request.seconds, 3), request.rate) for request in agent.take(m.ProfileRequest)]
            for agent in self.agents
        ]

    def answer(self, agent: int, microseconds: int, name: str = "f") -> None:
        self.agents[agent].send(
            m.ProfileSamples(2, 10, 500, [0, 1], [0, 1], [2, 2], [0, 7], [0, microseconds], (FUNCTION.hex(), name, ""))
        )


def test_nobody_asks_and_nobody_is_asked() -> None:
    watched = Watched()
    watched.answer(0, 40)
    assert watched.tick() == []
    assert watched.asked() == [[], []]


def test_a_profile_is_the_sum_of_what_agents_send_until_it_is_done() -> None:
    watched = Watched()
    watched.tick(FIRST)
    assert watched.asked() == [[(3.0, 100)]] * 2
    watched.answer(0, 40)
    watched.answer(1, 50)
    (told,) = watched.tick(FIRST)
    assert (told.token, told.rate, told.seconds, told.done) == (*FIRST, False)
    assert (told.agents, told.answered, told.processors, told.samples) == (2, 2, 4, 20)
    assert (list(told.microseconds), told.texts[0]) == ([0, 90], "module.f")
    watched.answer(0, 1, "g")
    (told,) = watched.tick(FIRST)
    assert sum(told.microseconds) == 91
    # The end of it takes a moment to arrive.
    assert [one.done for one in watched.tick(FIRST)] == [False]
    watched.answer(1, 9)
    assert [one.done for one in watched.tick(FIRST, seconds=LATE_SECONDS)] == [True]
    watched.answer(1, 1000)
    (told,) = watched.tick(FIRST)
    assert (told.done, sum(told.microseconds), told.elapsed_seconds) == (True, 100, 3.0)
    watched.tick(FIRST, seconds=REPEAT_SECONDS)
    assert watched.tick(FIRST) == []
    assert watched.asked() == [[], []]
    # Only a new subscription begins again.
    watched.tick()
    watched.tick(FIRST)
    assert watched.asked() == [[(3.0, 100)]] * 2


def test_two_monitors_at_once() -> None:
    watched = Watched(agents=1)
    watched.tick(FIRST)
    watched.answer(0, 40)
    watched.tick(FIRST, SECOND)
    assert watched.asked() == [[(3.0, 100), (10.0, 100)]]
    watched.answer(0, 5)
    told = {one.token: sum(one.microseconds) for one in watched.tick(FIRST, SECOND)}
    assert told == {7: 45, 8: 5}
    # The first one is over: the rate is that of the second.
    watched.tick(FIRST, SECOND)
    assert watched.asked() == [[(8.0, 50)]]


def test_agents_stop_when_the_monitor_has_gone() -> None:
    watched = Watched()
    watched.tick(SECOND)
    watched.asked()
    watched.tick()
    assert watched.asked() == [[(0.0, 0)]] * 2


def test_agents_that_come_are_asked_for_the_rest() -> None:
    watched = Watched(agents=1)
    watched.tick(SECOND)
    watched.asked()
    watched.agents.append(Agent(watched.harness, "late"))
    (told,) = watched.tick(SECOND)
    assert watched.asked() == [[], [(9.0, 50)]]
    assert (told.agents, told.answered) == (2, 0)


def test_many_profiles_wait_for_their_turn() -> None:
    watched = Watched(agents=1)
    wanted = [ProfileWanted(number, 100, 60) for number in range(RUNS_MAX + 1)]
    watched.tick(*wanted)
    assert len(watched.tick(*wanted)) == RUNS_MAX
    watched.tick(*wanted[1:])
    assert {told.token for told in watched.tick(*wanted[1:])} == set(range(1, RUNS_MAX + 1))


def test_what_all_agents_send_is_bounded() -> None:
    watched = Watched(agents=10)
    watched.tick(ProfileWanted(1, 0, 0))
    (request,) = watched.agents[0].take(m.ProfileRequest)
    # No rate and no seconds are the usual ones and the least.
    assert (request.seconds, request.rate, request.nodes) == (1.0, 100, NODES_PER_SECOND // 10)


def test_functions_that_nobody_knows_have_their_ids() -> None:
    watched = Watched(agents=1)
    watched.tick(FIRST)
    watched.agents[0].send(m.ProfileSamples(1, 1, 1, [0], [0], [1], [0], [3], ("no id", "")))
    (told,) = watched.tick(FIRST)
    assert told.texts[0] == "no id"
