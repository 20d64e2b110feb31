"""What a scheduler core does that is not first, and what it does when it hears that another one is."""

from __future__ import annotations

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope
from scaler_scheduler.config import ScalingConfig
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, effects, events

CLIENT, AGENT, OTHER = b"c" * 16, b"a" * 16, b"o" * 16
TERM = 65_536


def core(*, is_first: bool = True, scaling: ScalingConfig | None = None) -> SchedulerCore:
    return SchedulerCore(SchedulerConfig(incarnation=b"s" * 16, is_first=is_first, term=TERM, scaling=scaling), 0.0)


def say(one: SchedulerCore, peer: bytes, message: m.Message, epoch: int = 0) -> list[effects.Effect]:
    envelope = Envelope(0, 0, 0, epoch) if epoch else UNSEQUENCED
    one.handle(events.Incoming(peer, envelope, message), 1.0)
    return [effect for effect in one.take_effects() if not isinstance(effect, effects.Log)]


def hello(role: m.Role = m.Role.CLIENT, incarnation: bytes = CLIENT, term: int = 0) -> m.Hello:
    return m.Hello(role, "peer", incarnation, hello_number=1, term=term, worker_names=("w",), capacity=1)


def sent(found: list[effects.Effect]) -> list[m.Message]:
    return [effect.message for effect in found if isinstance(effect, effects.Send)]


def test_a_standby_turns_everybody_away_and_says_who_asked() -> None:
    one = core(is_first=False)
    found = say(one, CLIENT, hello(term=70_000))
    assert effects.PeerAsked(70_000) in found
    (status,) = sent(found)
    assert isinstance(status, m.SchedulerStatus)
    assert (status.is_first, status.answers, status.term) == (False, True, TERM)
    assert not one.is_connected(CLIENT)
    # What was under way to it from a session elsewhere gets no answer.
    assert say(one, CLIENT, m.Heartbeat(), epoch=1) == []
    one.check_invariants()


def test_a_first_scheduler_says_its_term_in_its_welcome() -> None:
    (welcome,) = [one for one in sent(say(core(), CLIENT, hello(term=TERM))) if isinstance(one, m.Welcome)]
    assert welcome.term == TERM


def test_a_peer_that_has_obeyed_a_higher_term_is_not_let_in() -> None:
    one = core()
    found = say(one, CLIENT, hello(term=TERM + 1))
    assert effects.PeerAsked(TERM + 1) in found
    assert not one.is_connected(CLIENT)


def test_a_term_out_of_bounds_is_refused() -> None:
    (refused,) = sent(say(core(), CLIENT, hello(term=m.TERM_MAX)))
    assert isinstance(refused, m.Refused)
    assert "term" in refused.text


def test_another_scheduler_is_reported() -> None:
    status = m.SchedulerStatus(5, False, OTHER)
    assert say(core(), b"dealer", status) == [effects.StatusHeard(b"dealer", status)]
    assert say(core(is_first=False), b"dealer", status) == [effects.StatusHeard(b"dealer", status)]


def test_all_peers_are_dismissed_at_once() -> None:
    one = core()
    say(one, CLIENT, hello())
    say(one, AGENT, hello(m.Role.AGENT, AGENT))
    one.dismiss_peers()
    found = [effect for effect in one.take_effects() if isinstance(effect, effects.Send)]
    assert {effect.peer for effect in found} == {CLIENT, AGENT}
    assert all(isinstance(effect.message, m.SchedulerStatus) and not effect.message.is_first for effect in found)


def test_a_peer_with_a_session_cannot_pose_as_a_scheduler() -> None:
    one = core()
    say(one, CLIENT, hello())
    found = say(one, CLIENT, m.SchedulerStatus(m.TERM_MAX - 1, True, OTHER), epoch=1)
    assert not any(isinstance(effect, effects.StatusHeard) for effect in found)
    assert not one.is_connected(CLIENT)
