"""What happened while workers were started and stopped, and why: the last events, for monitors."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from scaler_protocol.wire import messages as m

EVENTS_KEPT = 100
REASON_CHARACTERS_MAX = 300


class ScalingLog:
    """Times are on the scheduler's clock until monitors are told."""

    def __init__(self) -> None:
        self._events: deque[m.ScalingEvent] = deque(maxlen=EVENTS_KEPT)
        self._count = 0

    def note(self, now: float, kind: str, adapter: str, reason: str, groups: int = 1) -> None:
        """Keep an event of this kind (see `ScalingEvent`). What repeats itself counts as one, with its last time."""
        reason = reason[:REASON_CHARACTERS_MAX]
        last = self._events[-1] if self._events else None
        if last is not None and (last.kind, last.adapter, last.reason) == (kind, adapter, reason):
            self._events[-1] = replace(last, time_seconds=now, groups=last.groups + groups)
            return
        self._count += 1
        self._events.append(m.ScalingEvent(self._count, now, kind, adapter, groups, reason))

    def events(self, unix_offset: float) -> tuple[m.ScalingEvent, ...]:
        """Return the last events, the oldest first. `unix_offset`: Unix time, less the scheduler's."""
        return tuple(replace(event, time_seconds=event.time_seconds + unix_offset) for event in self._events)
