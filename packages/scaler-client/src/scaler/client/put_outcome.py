"""What became of an object on its way to storage: noted by the channel's thread, for whoever waits for it."""

from __future__ import annotations


class PutOutcome:
    """Of one put. `refusal` is set before `is_answered`, which only turns true."""

    __slots__ = ("is_answered", "refusal")

    def __init__(self) -> None:
        self.is_answered = False
        self.refusal = ""
        """Why the object is not stored; empty where it is."""

    def answered(self, refusal: str = "") -> None:
        """Storage has the object, or will not have it."""
        self.refusal = refusal
        self.is_answered = True

    def has_answer(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.is_answered
