"""A small network for tests: a centre, hosts with a home each, and clients, as cores. Cuts and crashes lose messages under way.

The centre and the homes are `StoreCore`s. A host has an agent's `Homes`, whose steps this performs as the shell does, with a
request for each step that needs an answer. Time is a number, and everything random comes from one seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scaler_objstore.content_hash import KeyedContentHash
from scaler_objstore.core import Limits, MemoryStorage, StoreCore
from scaler_objstore.core import effects as store_effects
from scaler_objstore.core import events as store_events
from scaler_protocol.objects.storage import AtHomes, Completion, Done, Layout, Missing, StoreChanged, StoreRequests
from scaler_protocol.objects.storage.requests import CHECK_SECONDS
from scaler_protocol.wire import messages as m
from scaler_worker.core import effects, events
from scaler_worker.core import homes as h
from scaler_worker.core.pieces import Piece, Pieces

CENTRE = "centre"
DELAY_SECONDS = 0.02
STEP_SECONDS = 0.5

LARGE_BYTES_MIN = 100
"""Objects from this size on travel in pieces between hosts."""

PIECE_BYTES = 20


@dataclass
class Store:
    """One store's process."""

    name: str
    incarnation: bytes
    core: StoreCore
    is_alive: bool = True


@dataclass
class Peer:
    """One end of a link to a store: requests, and what to do with each completion."""

    identity: bytes
    store: str
    requests: StoreRequests
    callbacks: dict[int, Callable[[Completion], None]] = field(default_factory=dict)
    on_message: Callable[[m.Message], None] = lambda _message: None
    on_welcome: Callable[[], None] = lambda: None
    seen: bytes = b""
    is_cut: bool = False
    is_closed: bool = False
    is_beside: bool = False
    """Whether the store is on the same host."""


class Network:
    """All processes, and messages under way."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.stores: dict[str, Store] = {}
        self.peers: dict[bytes, Peer] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._sent: dict[tuple[str, bytes], int] = {}
        self._last: dict[tuple[bytes, bool], float] = {}

    def new_id(self) -> bytes:
        return self.random.randbytes(16)

    def start_store(self, name: str) -> Store:
        incarnation = self.new_id()
        limits = Limits(pieces_object_bytes_min=LARGE_BYTES_MIN)
        core = StoreCore(incarnation, MemoryStorage(1_000_000), KeyedContentHash(b"12345678"), limits)
        self.stores[name] = store = Store(name, incarnation, core)
        return store

    def connect(self, store: str, role: m.Role, incarnation: bytes, name: str, identity: bytes = b"") -> Peer:
        hello = m.Hello(role, name, incarnation)
        known = (lambda: m.ClientsKnown((), everybody=True)) if role is m.Role.SCHEDULER else None
        requests = StoreRequests(hello, check_seconds=CHECK_SECONDS, known_clients=known)
        peer = Peer(identity or self.new_id(), store, requests)
        self.peers[peer.identity] = peer
        peer.requests.introduce(self.now)
        self.flush(peer)
        return peer

    def ask(self, peer: Peer, begin: Callable[[StoreRequests, float], int], done: Callable[[Completion], None]) -> None:
        peer.callbacks[begin(peer.requests, self.now)] = done
        self.flush(peer)

    def close(self, peer: Peer) -> None:
        peer.is_closed = True
        del self.peers[peer.identity]

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, what))

    def flush(self, peer: Peer) -> None:
        for message in peer.requests.take_outgoing():
            self._carry(peer, True, lambda message=message: self._at_store(peer, message))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        """Let this time pass."""
        end = self.now + seconds
        while self.now < end:
            due = min(end, self.now + STEP_SECONDS)
            while self._queue and self._queue[0][0] <= due:
                self.now, _, what = heapq.heappop(self._queue)
                what()
            self.now = due
            for store in self.stores.values():
                self._handle(store, store_events.Tick())
            for peer in list(self.peers.values()):
                self._complete(peer, peer.requests.tick(self.now))

    def sent_bytes(self, store: str, object_id: bytes) -> int:
        """Return how many bytes of an object a store has sent to other hosts."""
        return self._sent.get((store, object_id), 0)

    def drop_connection(self, identity: bytes) -> None:
        """The store notices that a peer's connection is gone."""
        for store in self.stores.values():
            self._handle(store, store_events.PeerGone(identity))

    def _carry(self, peer: Peer, to_store: bool, deliver: Callable[[], None]) -> None:
        # In order, like a connection; what is under way when it is cut is lost.
        key = (peer.identity, to_store)
        at = max(self._last.get(key, 0.0), self.now + self.random.random() * DELAY_SECONDS)
        self._last[key] = at
        self.later(at - self.now, lambda: None if peer.is_cut else deliver())

    def _at_store(self, peer: Peer, message: m.Message) -> None:
        store = self.stores.get(peer.store)
        if store is not None and not peer.is_closed:
            self._handle(store, store_events.Incoming(peer.identity, message))

    def _handle(self, store: Store, event: store_events.Event) -> None:
        if not store.is_alive:
            return
        store.core.handle(event, self.now)
        store.core.check_invariants()
        for effect in store.core.take_effects():
            if not isinstance(effect, store_effects.Send):
                continue
            peer = self.peers.get(effect.peer)
            if peer is not None and isinstance(effect.message, m.ObjectData) and not peer.is_beside:
                key = store.name, effect.message.id
                self._sent[key] = self._sent.get(key, 0) + sum(map(len, effect.message.buffers))
            if peer is None or peer.is_cut:
                self.later(0.0, lambda gone=effect.peer: self._handle(store, store_events.PeerGone(gone)))  # type: ignore[misc]
            else:
                self._carry(peer, False, lambda peer=peer, message=effect.message: self._at_peer(peer, message))  # type: ignore[misc]

    def _at_peer(self, peer: Peer, message: m.Message) -> None:
        if peer.is_closed:
            return
        completions = peer.requests.receive(message, self.now)
        if isinstance(message, m.Welcome) and peer.requests.store_incarnation != peer.seen:
            peer.seen = peer.requests.store_incarnation
            peer.on_welcome()
        elif isinstance(message, m.ObjectWanted | m.ObjectDelete):
            peer.on_message(message)
        self._complete(peer, completions)

    def _complete(self, peer: Peer, completions: list[Completion]) -> None:
        for completion in completions:
            if not isinstance(completion, StoreChanged):
                done = peer.callbacks.pop(completion.request, None)
                if done is not None:
                    done(completion)
        self.flush(peer)


class Host:
    """An agent with a store beside it."""

    def __init__(self, network: Network, name: str) -> None:
        self.network, self.name = network, name
        self.incarnation = network.new_id()
        self.is_alive = True
        self.cache: dict[bytes, bytes] = {}
        self.reported: dict[int, events.ObjectFetched | events.ObjectStored] = {}
        self.homes = h.Homes()
        self._last = 0
        self.copies_begun = self.copies_made = 0
        network.start_store(name)
        self.centre = network.connect(CENTRE, m.Role.AGENT, self.incarnation, name, self.incarnation)
        self.centre.on_message = self._on_message
        self.centre.on_welcome = self._on_centre
        self.home = network.connect(name, m.Role.AGENT, self.incarnation, name)
        self.home.on_welcome = self._on_home
        self.home.is_beside = True
        self.deletes = network.connect(name, m.Role.SCHEDULER, self.incarnation, name)
        self.links: dict[str, Peer] = {}

    def make(self, object_id: bytes, owner: bytes, content: bytes) -> int:
        """A task has made a large result."""
        self.cache[object_id] = content
        self._last += 1
        self.homes.put(effects.PutObject(self._last, object_id, owner))
        self._perform()
        return self._last

    def read(self, object_id: bytes) -> int:
        """A task needs an object."""
        self._last += 1
        self.homes.fetch(effects.FetchObject(self._last, object_id))
        self._perform()
        return self._last

    def die(self) -> None:
        """The host loses power."""
        self.is_alive = False
        self.network.stores[self.name].is_alive = False
        for peer in (self.centre, self.home, self.deletes, *self.links.values()):
            self.network.close(peer)

    def cut(self, is_cut: bool) -> None:
        """Cut the link to the centre, or mend it."""
        self.centre.is_cut = is_cut
        if is_cut:
            self.network.drop_connection(self.centre.identity)

    # --- what the shell does

    def _on_message(self, message: Any) -> None:
        if isinstance(message, m.ObjectWanted):
            self.homes.on_wanted(message.id)
        else:
            self.homes.on_delete(message.owner, message.ids)
        self._perform()

    def _on_centre(self) -> None:
        self.homes.on_centre(self.centre.requests.takes_homes)
        self._perform()

    def _on_home(self) -> None:
        self.homes.has_home = True

    def _perform(self) -> None:
        while steps := self.homes.take_steps():
            for step in steps:
                self._do(step)

    def _do(self, step: h.Step) -> None:
        network = self.network
        if isinstance(step, h.Report):
            assert step.event.request not in self.reported, "each request is answered once"
            self.reported[step.event.request] = step.event
        elif isinstance(step, h.PutAtHome | h.PutAtCentre):
            self._put(step)
        elif isinstance(step, h.TellHeld):
            network.ask(
                self.centre,
                lambda requests, now: requests.hold(step.ids, step.owner, self.name, now, are_copies=step.are_copies),
                lambda done: self._then(self.homes.on_held, step, _trouble(done), is_refused=_is_not_yours(done)),
            )
        elif isinstance(step, h.TellGone):
            self.centre.requests.tell(m.ObjectsGone(step.ids), network.now)
            network.flush(self.centre)
        elif isinstance(step, h.DeleteAtHome):
            network.ask(
                self.deletes,
                lambda requests, now: requests.delete(step.ids, step.owner, now),
                lambda done: self._then(self.homes.on_deleted_at_home, step, _trouble(done)),
            )
        elif isinstance(step, h.FetchAtCentre):
            network.ask(
                self.centre,
                lambda requests, now: requests.get(
                    step.effect.id, now, wait_seconds=10.0, follows=step.follows, pieces=step.pieces
                ),
                lambda done: self._from_centre(step, done),
            )
        elif isinstance(step, h.FetchAt):
            self._fetch_at(step)
        elif isinstance(step, h.AskSources):
            network.ask(
                self.centre,
                lambda requests, now: requests.ask_sources(step.effect.id, self.name, now),
                lambda done: self._then(
                    self.homes.on_sources,
                    step.effect.request,
                    done.addresses if isinstance(done, AtHomes) else (),
                    network.now,
                ),
            )
        elif isinstance(step, h.FetchPieces):
            self.copies_begun += 1
            PieceFetch(self, step)
        else:
            self._upload(step)

    def _put(self, step: h.PutAtHome | h.PutAtCentre) -> None:
        effect, at_home = step.effect, isinstance(step, h.PutAtHome)

        def done(completion: Completion) -> None:
            event = events.ObjectStored(effect.request, _trouble(completion))
            if at_home:
                self._then(self.homes.on_put_at_home, event)
            else:
                self.reported[effect.request] = event

        self.network.ask(
            self.home if at_home else self.centre,
            lambda requests, now: requests.put(effect.id, effect.owner, [self.cache[effect.id]], now),
            done,
        )

    def _from_centre(self, step: h.FetchAtCentre, done: Completion) -> None:
        request = step.effect.request
        if isinstance(done, AtHomes):
            self._then(self.homes.on_homes, request, done.addresses, self.network.now)
        elif isinstance(done, Layout):
            self._then(self.homes.on_layout, request, done.owner, done.lengths)
        else:
            self._then(self.homes.on_fetched_at_centre, self._fetched(step.effect, done))

    def _fetch_at(self, step: h.FetchAt) -> None:
        network = self.network
        name = step.address or self.name
        if not network.stores[name].is_alive:
            # As after some seconds without a connection.
            gone = events.ObjectFetched(step.effect.request, error="no connection")
            network.later(
                3.0,
                lambda: self._then(self.homes.on_fetched_at, gone, step.address, network.now, unreached=True),
            )
            return

        def then(done: Completion) -> None:
            if isinstance(done, Layout):
                self._then(self.homes.on_layout, step.effect.request, done.owner, done.lengths)
            else:
                event = self._fetched(step.effect, done)
                self._then(self.homes.on_fetched_at, event, step.address, network.now)

        network.ask(
            self.home if name == self.name else self.link_of(name),
            lambda requests, now: requests.get(step.effect.id, now, pieces=step.pieces),
            then,
        )

    def link_of(self, name: str) -> Peer:
        """Return the link to another host's store."""
        if name not in self.links:
            self.links[name] = self.network.connect(name, m.Role.AGENT, self.incarnation, self.name)
        return self.links[name]

    def on_pieces(self, step: h.FetchPieces, error: str) -> None:
        """How a `PieceFetch` has ended."""
        self.copies_made += not error
        self._then(self.homes.on_pieces, step.effect.request, error)

    def _upload(self, step: h.Upload) -> None:
        def done(completion: Completion) -> None:
            if not isinstance(completion, Done):
                self._then(self.homes.on_uploaded, step.id, is_lost=isinstance(completion, Missing))
                return
            self.network.ask(
                self.centre,
                lambda requests, now: requests.put(step.id, step.owner, completion.buffers, now),
                lambda _done: self._then(self.homes.on_uploaded, step.id),
            )

        self.network.ask(self.home, lambda requests, now: requests.get(step.id, now), done)

    def _fetched(self, effect: effects.FetchObject, done: Completion) -> events.ObjectFetched:
        if isinstance(done, Done):
            self.cache[effect.id] = bytes(done.buffers[0])
            return events.ObjectFetched(effect.request, len(self.cache[effect.id]))
        return events.ObjectFetched(effect.request, missing=isinstance(done, Missing), error=_trouble(done))

    def _then(self, method: Callable[..., None], *args: Any, **options: Any) -> None:
        if self.is_alive:
            method(*args, **options)
            self._perform()


class PieceFetch:
    """An object on its way into the store of a host, as `scaler_worker.shell.piece_fetch` does it."""

    def __init__(self, host: Host, step: h.FetchPieces) -> None:
        self.host, self.step = host, step
        self.memory = bytearray(sum(step.lengths))
        self.pieces = Pieces(len(self.memory), step.addresses, PIECE_BYTES)
        self.is_over = False
        host.network.ask(
            host.home,
            lambda requests, now: requests.put(step.effect.id, step.owner, self._buffers(), now, incomplete=True),
            lambda done: self._go_on() if isinstance(done, Done) else self._end(_trouble(done)),
        )

    def _buffers(self) -> list[memoryview]:
        found, at = [], 0
        for length in self.step.lengths:
            found.append(memoryview(self.memory)[at : at + length])
            at += length
        return found

    def _go_on(self) -> None:
        if self.is_over or not self.host.is_alive:
            return
        for piece in self.pieces.take():
            self._ask(piece)
        if self.pieces.is_done:
            # With bytes that nothing changes any more.
            whole = [bytes(buffer) for buffer in self._buffers()]
            self.host.network.ask(
                self.host.home,
                lambda requests, now: requests.put(self.step.effect.id, self.step.owner, whole, now),
                lambda done: self._end(_trouble(done)),
            )
            self.is_over = True
        elif self.pieces.has_failed:
            self._end(self.pieces.trouble)

    def _ask(self, piece: Piece) -> None:
        network = self.host.network
        if piece.address != h.CENTRE and not network.stores[piece.address].is_alive:
            network.later(3.0, lambda: self._came(piece, Missing(0)))
            return
        network.ask(
            self.host.centre if piece.address == h.CENTRE else self.host.link_of(piece.address),
            lambda requests, now: requests.get_piece(
                self.step.effect.id, piece.offset, piece.size, now, wait_seconds=5.0
            ),
            lambda done: self._came(piece, done),
        )

    def _came(self, piece: Piece, done: Completion) -> None:
        if self.is_over:
            return
        if isinstance(done, Done):
            data = b"".join(done.buffers)
            assert len(data) == piece.size
            self.memory[piece.offset : piece.offset + piece.size] = data
            self.pieces.came(piece)
            home = self.host.home
            put = m.ObjectPut(0, self.step.effect.id, self.step.owner, [], incomplete=True, filled=self.pieces.filled)
            home.requests.tell(put, self.host.network.now)
            self.host.network.flush(home)
        else:
            self.pieces.failed(piece, _trouble(done))
        self._go_on()

    def _end(self, error: str) -> None:
        self.is_over = True
        self.host.on_pieces(self.step, error)


def _is_not_yours(done: Completion) -> bool:
    return getattr(done, "status", None) is m.ObjectStatus.NOT_YOURS


def _trouble(done: Completion) -> str:
    if isinstance(done, Done | Missing | AtHomes | StoreChanged):
        return ""
    return getattr(done, "text", "") or "no answer in time"
