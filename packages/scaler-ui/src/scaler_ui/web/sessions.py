"""Visitors who have signed in. A browser's cookie holds a random id, not the token, so it is of no use once it has expired."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

SESSION_SECONDS = 12 * 3600.0
SESSIONS_MAX = 1_000
"""Most sessions at once. The oldest ends when there are more."""


class Sessions:
    """The sessions that are open. Times are in seconds, of any clock that only goes forward."""

    def __init__(self, session_s: float = SESSION_SECONDS, sessions_max: int = SESSIONS_MAX) -> None:
        self._session_s = session_s
        self._sessions_max = sessions_max
        self._ends: OrderedDict[bytes, float] = OrderedDict()
        """When each session ends, by the digest of its id: a search by digest tells nothing by the time it takes."""

    def start(self, now: float) -> str:
        """Open a session; return its id."""
        session = secrets.token_urlsafe(32)
        self._ends[_digest(session)] = now + self._session_s
        while len(self._ends) > self._sessions_max:
            self._ends.popitem(last=False)
        return session

    def is_open(self, session: str, now: float) -> bool:
        """Say whether this is the id of a session that has not ended."""
        return self.left_s(session, now) > 0

    def left_s(self, session: str, now: float) -> float:
        """Return for how many more seconds this session is open; 0.0 if there is none with this id."""
        key = _digest(session)
        ends = self._ends.get(key)
        if ends is None:
            return 0.0
        if ends <= now:
            del self._ends[key]
            return 0.0
        return ends - now

    def end(self, session: str) -> None:
        """End a session, if it is open."""
        self._ends.pop(_digest(session), None)

    def __len__(self) -> int:
        return len(self._ends)


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode("utf-8", "surrogatepass")).digest()
