"""Named locks of the in-process cluster: first come, first served, until their client leaves."""

from __future__ import annotations

from collections.abc import Callable

from scaler_protocol.wire import messages as m


class InProcessLocks:
    """Who holds and waits, by name. Not safe for threads: the scheduler's thread alone uses it."""

    def __init__(self, answer: Callable[[bytes, m.LockAnswer], None]) -> None:
        self._answer = answer
        self._queues: dict[str, list[tuple[bytes, m.LockRequest]]] = {}
        """In the order in which they have asked; the first ones hold it."""

    def request(self, client: bytes, request: m.LockRequest) -> None:
        """A client wants a lock."""
        queue = self._queues.setdefault(request.name, [])
        if request.held:
            self._answer(client, m.LockAnswer(request.lease, m.LockState.LOST))
        elif queue and queue[0][1].count != request.count:
            text = f"{queue[0][1].count} may hold it, say those who use it now; this one says {request.count}"
            self._answer(client, m.LockAnswer(request.lease, m.LockState.REFUSED, text))
        else:
            queue.append((client, request))
            if len(queue) <= request.count:
                self._answer(client, m.LockAnswer(request.lease, m.LockState.HELD))

    def release(self, client: bytes, lease: int) -> None:
        """A client gives a lock back, or waits no longer."""
        found = self._end(lambda holder, request: holder == client and request.lease == lease)
        self._answer(client, m.LockAnswer(lease, m.LockState.RELEASED if found else m.LockState.LOST))

    def drop_client(self, client: bytes) -> None:
        """A client has left."""
        self._end(lambda holder, _: holder == client)

    def _end(self, ends: Callable[[bytes, m.LockRequest], bool]) -> bool:
        found = False
        for name, queue in list(self._queues.items()):
            left = [each for each in queue if not ends(*each)]
            if len(left) == len(queue):
                continue
            found = True
            count = queue[0][1].count
            had = queue[:count]
            if left:
                self._queues[name] = left
            else:
                del self._queues[name]
            for holder, request in left[:count]:
                if (holder, request) not in had:
                    self._answer(holder, m.LockAnswer(request.lease, m.LockState.HELD))
        return found
