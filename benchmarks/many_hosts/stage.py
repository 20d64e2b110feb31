"""The loop in which all played peers live: one thread, one `epoll`, one heap of deadlines."""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable

from benchmarks.many_hosts.peers import PlayedPeer

EVENTS_MAX = 512
SLEEP_SECONDS_MAX = 0.05


class Stage:
    """Reads what arrives for the peers, and wakes each at its deadline."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_fd: dict[int, PlayedPeer] = {}
        self._deadlines: list[tuple[float, int, PlayedPeer]] = []
        self._entries = 0
        self.longest_pass_seconds = 0.0
        """How long the peers kept each other waiting at most since `forget`: a part of every latency that is measured here."""

    def add(self, peer: PlayedPeer) -> None:
        """Take a peer in, and let it say hello."""
        self._by_fd[peer.link.fd] = peer
        self._epoll.register(peer.link.fd, select.EPOLLIN)
        peer.start(time.monotonic())
        self._wake_at(peer, peer.next_deadline())

    def remove(self, peer: PlayedPeer) -> None:
        """Close a peer's connection, after what it has queued had a moment to leave."""
        fd = peer.link.fd
        self._epoll.unregister(fd)
        del self._by_fd[fd]
        peer.wake_at = float("inf")
        peer.link.close()

    def forget(self) -> None:
        """Begin to measure anew."""
        self.longest_pass_seconds = 0.0

    def play(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Go on for so long, or until the condition holds; return whether it does."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if until is not None and until():
                return True
            if now >= end:
                return False
            due = self._deadlines[0][0] if self._deadlines else end
            ready = self._epoll.poll(max(0.0, min(due - now, end - now, SLEEP_SECONDS_MAX)), EVENTS_MAX)
            begun = time.monotonic()
            for fd, _ in ready:
                peer = self._by_fd.get(fd)
                if peer is not None:
                    peer.on_readable(time.monotonic())
                    self._schedule(peer)
            self._wake_due()
            self.longest_pass_seconds = max(self.longest_pass_seconds, time.monotonic() - begun)

    def nudge(self, peer: PlayedPeer) -> None:
        """The peer was told something, so that its deadline may be nearer."""
        self._schedule(peer)

    def close(self) -> None:
        """Close all that is left. Idempotent."""
        for peer in list(self._by_fd.values()):
            peer.link.close(0.0)
        self._by_fd.clear()
        self._epoll.close()

    def _schedule(self, peer: PlayedPeer) -> None:
        deadline = peer.next_deadline()
        if deadline < peer.wake_at:
            self._wake_at(peer, deadline)

    def _wake_at(self, peer: PlayedPeer, deadline: float) -> None:
        peer.wake_at = deadline
        self._entries += 1
        heapq.heappush(self._deadlines, (deadline, self._entries, peer))

    def _wake_due(self) -> None:
        now = time.monotonic()
        for _ in range(EVENTS_MAX):
            if not self._deadlines or self._deadlines[0][0] > now:
                return
            deadline, _, peer = heapq.heappop(self._deadlines)
            # An earlier wake-up has taken its place.
            if deadline == peer.wake_at:
                peer.tick(now)
                self._wake_at(peer, max(peer.next_deadline(), now + 0.001))
