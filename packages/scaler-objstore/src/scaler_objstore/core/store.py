"""The store's core: one event in, effects out. Knows no socket, thread or clock.

peer ──Hello──▶ Welcome           every peer first, and again after UnknownPeer
peer ──ObjectPut, ObjectGet, ObjectDelete──▶ one answer each, by request number
scheduler ──Shutdown──▶ nothing
peer ──anything else──▶ Refused       it wants a scheduler
"""

from __future__ import annotations

from scaler_objstore.core import effects, events
from scaler_objstore.core.commands.get import answer_expired
from scaler_objstore.core.commands.held import give_up_homes, home_away, home_back
from scaler_objstore.core.commands.hello import hello
from scaler_objstore.core.commands.owner_end import end_silent_owners
from scaler_objstore.core.commands.table import COMMANDS
from scaler_objstore.core.contents import ContentHash
from scaler_objstore.core.invariants import check_state
from scaler_objstore.core.limits import Limits
from scaler_objstore.core.snapshot import StoreSnapshot, take_snapshot
from scaler_objstore.core.spilling import on_tier_event, settle
from scaler_objstore.core.state import StoreState
from scaler_objstore.core.storage import Storage
from scaler_objstore.core.tiering import Tiering
from scaler_protocol.wire import messages as m

NAME_NUMBER_DIGITS = 12

IGNORED = (m.Welcome, m.UnknownPeer, m.Refused)
"""Answers. A store ignores them."""


class StoreCore:
    """One object store. It keeps the contract of `scaler_protocol.runtime.core.Core`.

    `incarnation` names this process. `content_hash` must be equal for equal contents; it should be keyed with something
    nobody outside knows (see `contents`). `segment_offer` is the welcome's offer of segments, empty if there are
    none. Without `shares_segments` contents in segments are never shared: their writers could change the objects of others.
    """

    def __init__(
        self,
        incarnation: bytes,
        storage: Storage,
        content_hash: ContentHash,
        limits: Limits | None = None,
        segment_offer: bytes = b"",
        *,
        shares_segments: bool = True,
    ) -> None:
        limits = limits if limits is not None else Limits()
        self._state = StoreState(incarnation, storage, content_hash, limits, segment_offer, shares_segments)
        self._last_name = 0

    def use_tier(self, limit_bytes: int | None) -> None:
        """Spill to a tier below memory, which may hold `limit_bytes` (None: what fits). To be called before any event."""
        state = self._state
        state.tiering = Tiering(state.contents, limit_bytes, self._new_name)

    def _new_name(self) -> str:
        # Other processes have used the same tier: their names begin in another way.
        self._last_name += 1
        return f"{self._state.incarnation.hex()}{self._last_name:0{NAME_NUMBER_DIGITS}x}"

    def handle(self, event: events.Event, now: float) -> None:
        """Handle one event at `now`, in seconds of a monotonic clock."""
        self._state.note_time(now)
        give_up_homes(self._state, now)
        answer_expired(self._state, now)
        if now >= self._state.leases.next_deadline():
            end_silent_owners(self._state, now)
        if isinstance(event, events.Incoming):
            self._on_message(event.peer, event.message, now)
        elif isinstance(event, events.Arriving):
            self._state.note_arriving(event.peers, now)
        elif isinstance(event, events.Tick):
            self._state.free_doomed()
        elif isinstance(event, events.PeerGone):
            self._state.forget_peer(event.peer)
            home_away(self._state, event.peer, now)
        elif isinstance(event, events.ConnectionChanged):
            if not event.is_connected:
                home_away(self._state, event.peer, now)
            elif event.peer in self._state.peers:
                home_back(self._state, event.peer, now)
        tiering = self._state.tiering
        if tiering is not None:
            if isinstance(event, events.TierEvent):
                on_tier_event(self._state, tiering, event, now)
            settle(self._state, tiering, now)

    def take_effects(self) -> list[effects.Effect]:
        """Return the effects in order, and forget them."""
        return self._state.outbox.take()

    def next_deadline(self) -> float:
        """When `Tick` is due next; inf for never."""
        state = self._state
        if state.doomed:
            return 0.0
        due = min(
            state.waiters.next_deadline(),
            state.leases.next_deadline(),
            state.homes.next_away() + state.limits.home_away_seconds,
        )
        if state.tiering is None:
            return due
        return min(
            due,
            state.tiering.next_attempt(),
            state.waiting_puts.next_deadline(),
            state.load_waiters.next_deadline(),
        )

    def check_invariants(self) -> None:
        """Raise InvariantError unless facts that are stored twice agree and limits are kept. For tests and the simulation."""
        check_state(self._state)

    def is_connected(self, peer: bytes) -> bool:
        """Whether a peer has said hello and was welcomed."""
        return peer in self._state.peers

    def snapshot(self) -> StoreSnapshot:
        """Return what the store holds now. For tests and the simulation."""
        return take_snapshot(self._state)

    def _on_message(self, address: bytes, message: m.Message, now: float) -> None:
        state = self._state
        if isinstance(message, m.Hello):
            hello(state, address, message, now)
            return
        if isinstance(message, IGNORED):
            return
        peer = state.peers.heard(address)
        if peer is None:
            # A Goodbye from an unknown peer needs no answer: the peer has left.
            if not isinstance(message, m.Goodbye):
                state.send(address, m.UnknownPeer())
            return
        command = COMMANDS.get(type(message))
        if command is None:
            # Most likely the peer was given this address as the scheduler's. Without an answer it would wait forever.
            state.warn(f"{peer} sent {type(message).__name__}, which an object storage server does not handle")
            state.send(address, m.Refused("this is an object storage server; the scheduler has another address"))
            return
        command(state, address, peer, message, now)
