"""Thins out refusals that anybody can cause, so that nobody without a key can fill the audit log. Pure: it keeps no clock."""

from __future__ import annotations

REPEAT_SECONDS = 60.0
"""So long, refusals of one host and one kind are counted and not written."""

HOSTS_MAX = 1_000
"""Hosts and kinds that are told apart at once; all further ones share one line."""

OTHERS = "others"

_NONE = (0, "")


class RepeatedRefusals:
    """What was written last for each host and kind of refusal, and how many have been left out since.

    Reasons are not told apart: they may repeat what a peer has sent, and one host could have ever new ones.
    """

    def __init__(self, repeat_seconds: float = REPEAT_SECONDS) -> None:
        self._repeat_seconds = repeat_seconds
        self._written: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], tuple[int, str]] = {}
        """How many, and the reason of the last."""

    def note(self, address: str, kind: str, reason: str, now: float) -> tuple[str, int] | None:
        """Take in a refusal; `kind` is one of few.

        Return what to write, an address and how many others there were since; None: nothing now.
        """
        host = address.rpartition(":")[0] or address
        key = (host, kind)
        if key not in self._written and len(self._written) >= HOSTS_MAX:
            address, key = OTHERS, (OTHERS, "")
        if now < self._written.get(key, -self._repeat_seconds) + self._repeat_seconds:
            self._left_out[key] = (self._left_out.get(key, _NONE)[0] + 1, reason)
            return None
        self._written[key] = now
        return address, self._left_out.pop(key, _NONE)[0]

    def take_due(self, now: float) -> list[tuple[str, str, int]]:
        """Return (host, reason, how many) of those left out that are to be written now, and forget who has stopped."""
        due = [key for key, at in self._written.items() if now >= at + self._repeat_seconds]
        found = []
        for key in due:
            count, reason = self._left_out.pop(key, _NONE)
            if count:
                self._written[key] = now
                found.append((key[0], reason, count))
            else:
                del self._written[key]
        return found
