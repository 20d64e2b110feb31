"""Questions about jobs, and the scheduler's answers."""

from __future__ import annotations

from scaler.client.sleepers import Sleepers
from scaler.core import effects
from scaler_protocol.wire import messages as m


class Question:
    """Asked by one thread, which sleeps until there is an answer."""

    __slots__ = ("answer", "sleepers")

    def __init__(self) -> None:
        self.answer: m.JobReply | None = None
        self.sleepers = Sleepers()


def take_reply(effect: effects.JobAnswered) -> None:
    """The scheduler has answered."""
    question = effect.token
    assert isinstance(question, Question)
    question.answer = effect.reply
    question.sleepers.wake()
