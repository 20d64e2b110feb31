"""Links that delay, freeze, break and come back, with the promises of ZeroMQ over TCP and no others.

1.  One connection keeps the order of what it delivers, in each direction.
2.  A connection that breaks loses what was under way, and tells nobody.
3.  The connecting end (DEALER) reconnects by itself. What it was given while it had no connection waits and is sent
    then, possibly to another process that listens at the same address by now.
4.  The listening end (ROUTER) hears that a peer is unreachable when it sends, but only some time after the break; until
    then what it sends vanishes.
5.  A frozen link (a route that blackholes, a switch that restarts) delivers nothing. When it thaws, TCP sends all of it
    again and nothing is lost; when it breaks instead, all of it is.

Peers are known by the identity of the connecting end, which is new for every incarnation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import Envelope, decode_envelope, encode_envelope
from simulation.clock import Clock

# Round trips inside a machine room, with a tail: one message in fifty takes a hundred times longer.
DELAY_S = (0.0001, 0.002)
SLOW_DELAY_S = (0.01, 0.2)
SLOW_SHARE = 0.02
RECONNECT_S = (0.05, 2.0)
BREAK_NOTICED_S = (0.0, 3.0)


class Listener(Protocol):
    """A process as its socket sees it."""

    def deliver(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        """Take one message; `peer` is the identity of the connecting end."""


class _Pipe:
    """One direction of one connection: what is under way, in order."""

    __slots__ = ("arrives_at", "held", "under_way")

    def __init__(self) -> None:
        self.under_way: deque[tuple[Envelope, m.Message]] = deque()
        self.arrives_at = 0.0
        # Messages that would have arrived but for the freeze.
        self.held = 0


class Link:
    """One DEALER: the connecting end of a connection that comes and goes. Made by `Network.connect`."""

    def __init__(self, network: Network, identity: bytes, address: str, owner: Listener) -> None:
        self.identity = identity
        self.address = address
        self.owner = owner
        self.connected = False
        self.frozen = False
        self.closed = False
        self.is_local = False
        """Whether both ends are on one machine: then nothing cuts it."""
        self.break_noticed_at = 0.0
        self.lost = 0
        self._blocked_until = 0.0
        self._network = network
        # Counts connections, so that deliveries scheduled for an earlier one are void.
        self._connection = 0
        self._to_listener = _Pipe()
        self._to_owner = _Pipe()
        self._waiting: deque[tuple[Envelope, m.Message]] = deque()

    # --- sending

    def send(self, envelope: Envelope, message: m.Message) -> None:
        """Send from the connecting end, now or once there is a connection."""
        if self.closed:
            return
        if self.connected:
            self._transmit(self._to_listener, envelope, message)
        else:
            self._waiting.append((envelope, message))

    def send_to_owner(self, envelope: Envelope, message: m.Message) -> None:
        """Send from the listening end. Only `Network.send` calls this."""
        self._transmit(self._to_owner, envelope, message)

    # --- what befalls a link

    def break_connection(self, outage_s: float = 0.0) -> None:
        """Lose all that is under way, in both directions. The connecting end tries again, in vain for `outage_s`."""
        self._blocked_until = max(self._blocked_until, self._network.clock.now + outage_s)
        if not self.connected:
            return
        self.lost += len(self._to_listener.under_way) + len(self._to_owner.under_way)
        self._connection += 1
        self._to_listener = _Pipe()
        self._to_owner = _Pipe()
        self.connected = self.frozen = False
        self.break_noticed_at = self._network.clock.now + self._network.random.uniform(*BREAK_NOTICED_S)
        self._try_later()

    def move(self, address: str) -> None:
        """Connect to another address instead. What waits is dropped; what is under way to the old one may still arrive."""
        if self.closed or address == self.address:
            return
        left, self._connection = self.address, self._connection + 1
        if self.connected and not self.frozen:
            self._network.deliver_later(left, self.identity, self._to_listener.under_way, self._to_listener.arrives_at)
        self._to_listener, self._to_owner = _Pipe(), _Pipe()
        self._waiting.clear()
        self.connected = self.frozen = False
        self.break_noticed_at = 0.0
        self._network.moved(self, left, address)
        self.address = address
        self.connect()

    def end_connection(self) -> None:
        """The listening process ends in order: what it has sent still arrives, then the connection breaks."""
        connection = self._connection

        def end() -> None:
            if connection == self._connection:
                self.break_connection()

        self._network.clock.at(self._to_owner.arrives_at, end)

    def freeze(self) -> None:
        self.frozen = True

    def end_part(self) -> None:
        """The way is free again. What was under way is lost where the connection has not moved meanwhile."""
        if self.frozen:
            self.break_connection()

    def thaw(self) -> None:
        if not self.frozen:
            return
        self.frozen = False
        for pipe in (self._to_listener, self._to_owner):
            held, pipe.held = pipe.held, 0
            for _ in range(held):
                self._schedule(pipe)

    def close(self, *, deliver_rest: bool) -> None:
        """The connecting process has ended. What it had sent may still arrive, as a kernel would see to it."""
        if self.closed:
            return
        self.closed = True
        self._waiting.clear()
        if self.connected and deliver_rest and not self.frozen:
            self._to_owner = _Pipe()
            drained_at = self._to_listener.arrives_at
            self._network.clock.at(drained_at, lambda: self._network.forget(self))
        else:
            self._connection += 1
            self._network.forget(self)

    def heal(self) -> None:
        """End freeze and outage."""
        self._blocked_until = 0.0
        self.thaw()

    # --- inside

    def connect(self) -> None:
        """Try to connect; again later while nobody listens or the way is blocked."""
        if self.closed or self.connected:
            return
        blocked = self._network.is_blocked(self.identity, self.address)
        if blocked or self._network.listener(self.address) is None or self._network.clock.now < self._blocked_until:
            self._try_later()
            return
        self.connected = True
        self._connection += 1
        while self._waiting:
            self._transmit(self._to_listener, *self._waiting.popleft())

    def _try_later(self) -> None:
        self._network.clock.after(self._network.random.uniform(*RECONNECT_S), self.connect)

    def _transmit(self, pipe: _Pipe, envelope: Envelope, message: m.Message) -> None:
        pipe.under_way.append((envelope, message))
        self._schedule(pipe)

    def _schedule(self, pipe: _Pipe) -> None:
        network = self._network
        pipe.arrives_at = max(pipe.arrives_at, network.clock.now + network.delay())
        connection = self._connection
        network.clock.at(pipe.arrives_at, lambda: self._arrive(pipe, connection))

    def _arrive(self, pipe: _Pipe, connection: int) -> None:
        if connection != self._connection or not pipe.under_way:
            return
        if self.frozen:
            pipe.held += 1
            return
        envelope, message = self._network.carry(*pipe.under_way.popleft())
        if pipe is self._to_owner:
            if not self.closed:
                self.owner.deliver(self.identity, envelope, message)
        else:
            listener = self._network.listener(self.address)
            if listener is not None:
                listener.deliver(self.identity, envelope, message)


class Network:
    """All links and listeners of one run. With `through_codec` every message becomes bytes and a message again."""

    def __init__(self, clock: Clock, random: Random, *, through_codec: bool) -> None:
        self.clock = clock
        self.random = random
        self.through_codec = through_codec
        self.on_carried: Callable[[m.Message], None] | None = None
        self._listeners: dict[str, Listener] = {}
        self._links: dict[tuple[str, bytes], Link] = {}
        self._blocked: dict[tuple[str, str], float] = {}
        """Until when there is no way from an identity (in hexadecimal) to an address."""

    def listen(self, address: str, listener: Listener) -> None:
        if address in self._listeners:
            raise ValueError(f"{address} is taken")
        self._listeners[address] = listener

    def stop_listening(self, address: str, *, deliver_rest: bool = False) -> None:
        """The listening process has ended: every connection to it breaks, at once or when its last words are out."""
        self._listeners.pop(address, None)
        for link in list(self._links.values()):
            if link.address == address and link.connected:
                if deliver_rest:
                    link.end_connection()
                else:
                    link.break_connection()

    def listener(self, address: str) -> Listener | None:
        return self._listeners.get(address)

    def connect(self, identity: bytes, address: str, owner: Listener) -> Link:
        link = Link(self, identity, address, owner)
        self._links[address, identity] = link
        link.connect()
        return link

    def send(self, address: str, peer: bytes, envelope: Envelope, message: m.Message) -> bool:
        """Send from the process that listens at `address`. False when it is known that the peer has no connection."""
        link = self._links.get((address, peer))
        if link is None:
            return False
        if link.connected:
            if not link.closed:
                link.send_to_owner(envelope, message)
            return True
        return self.clock.now < link.break_noticed_at

    def disconnect(self, address: str, peer: bytes) -> None:
        """The process that listens at `address` closes a connection: what it has sent still arrives."""
        link = self._links.get((address, peer))
        if link is not None and link.connected:
            link.end_connection()

    def moved(self, link: Link, left: str, address: str) -> None:
        self._links.pop((left, link.identity), None)
        self._links[address, link.identity] = link

    def deliver_later(self, address: str, peer: bytes, under_way: deque[tuple[Envelope, m.Message]], at: float) -> None:
        """A connection was closed at its connecting end: what it had sent still arrives."""

        def deliver() -> None:
            listener = self.listener(address)
            for envelope, message in under_way:
                if listener is not None:
                    listener.deliver(peer, *self.carry(envelope, message))

        if under_way:
            self.clock.at(at, deliver)

    def part(self, identity: bytes, address: str, seconds: float) -> None:
        """A connecting end has no way to an address for a while: a connection that is there is silent, and then breaks."""
        key = identity.hex(), address
        self._blocked[key] = max(self.clock.now + seconds, self._blocked.get(key, 0.0))
        link = self._links.get((address, identity))
        if link is not None:
            link.freeze()
            self.clock.after(seconds, link.end_part)

    def is_blocked(self, identity: bytes, address: str) -> bool:
        """Whether the way of this peer to this address is blocked now."""
        return self.clock.now < self._blocked.get((identity.hex(), address), 0.0)

    def heal_parts(self) -> None:
        self._blocked.clear()

    @property
    def links(self) -> list[Link]:
        """Every link whose process lives, in the order they were made."""
        return [link for link in self._links.values() if not link.closed]

    def forget(self, link: Link) -> None:
        self._links.pop((link.address, link.identity), None)

    def delay(self) -> float:
        bounds = SLOW_DELAY_S if self.random.random() < SLOW_SHARE else DELAY_S
        return self.random.uniform(*bounds)

    def carry(self, envelope: Envelope, message: m.Message) -> tuple[Envelope, m.Message]:
        """What the receiver gets: the same values, through bytes where this run does so."""
        if self.on_carried is not None:
            self.on_carried(message)
        if not self.through_codec or (isinstance(message, m.ObjectPut) and message.incomplete):
            # The bytes of an incomplete object come into memory that both ends have mapped.
            return envelope, message
        frames = [bytes(frame) for frame in encode(message)]
        return decode_envelope(encode_envelope(envelope)), decode(frames)
