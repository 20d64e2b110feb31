"""All stores that a simulated worker host talks to: the centre, its own one if it has one (its home), and those of other hosts.

`Homes` decides, and this performs its steps, as `scaler_worker.shell.host_storage` does: with one link for each store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Protocol

from scaler_protocol.objects.storage import CHECK_SECONDS, AtHomes, Completion, Done, Layout, Missing, Refused
from scaler_protocol.wire import messages as m
from scaler_worker.core import effects, events
from scaler_worker.core import homes as steps
from scaler_worker.core.homes import CENTRE, HOME, Homes
from simulation.clock import Clock
from simulation.ledger import SimulationError
from simulation.network import Network
from simulation.object_storage import ObjectStorage, trouble
from simulation.piece_fetch import PieceFetch

FETCH_WAIT_S = 10.0
"""How long an object that is named but not there yet is waited for at the centre."""

REACH_S = 3.0
IDLE_S = 60.0
UPLOADS_MAX = 4
HAND_OVER_S = 20.0
HAND_OVER_CHECK_S = 0.05
"""As in `scaler_worker.shell.host_storage`."""

HOME_START_S = (0.05, 2.0)
END_NOTICED_S = (0.0, 0.5)


def _ignore(_: str) -> None:
    return


class StoreProcess(Protocol):
    """The store of a host, as its agent sees it."""

    address: str
    alive: bool

    def end(self) -> None:
        """Kill it."""


class Host(Protocol):
    """What this has from the agent."""

    name: str
    clock: Clock
    random: Random
    alive: bool
    incarnation: bytes
    cache: dict[bytes, bytes]
    network: Network

    def post(self, event: Any) -> None:
        """Tell the agent."""


@dataclass(slots=True)
class _Peer:
    """The store of another host."""

    storage: ObjectStorage
    disconnected_since: float
    used_at: float


class HostStorage:
    """Performs `FetchObject` and `PutObject`. Each is answered by one event, which is posted to the agent."""

    def __init__(
        self,
        host: Host,
        centre: ObjectStorage,
        hello: m.Hello,
        start_home: Callable[[str], StoreProcess] | None,
        *,
        is_reachable: bool = True,
        note: Callable[[str], None] = _ignore,
    ) -> None:
        """`start_home` starts the store of this host, if it is to have one; `is_reachable`: whether other hosts reach that.

        `note` is told what happens to objects that come in pieces.
        """
        self._note = note
        self.fetching: set[bytes] = set()
        """Objects that come in pieces now."""
        self._host = host
        self._clock = host.clock
        self._hello = hello
        self._centre = centre
        self._homes = Homes()
        self.home: StoreProcess | None = None
        """The store of this host, while it is known to live."""
        self._start_home = start_home
        self._name_of_home = f"tcp://{host.name}{'' if is_reachable else ' behind a wall'}:2347"
        self._home_link: ObjectStorage | None = None
        self._deletes: ObjectStorage | None = None
        self._peers: dict[str, _Peer] = {}
        self._unreached = ""
        """The address of the store whose link is being closed because there is no connection to it."""
        self._waiting_uploads: deque[steps.Upload] = deque()
        self._running_uploads = 0
        self._reported: set[int] = set()
        self._leaves_until: float | None = None
        self._performers: dict[type[Any], Callable[[Any], None]] = {
            steps.PutAtHome: self._put_at_home,
            steps.PutAtCentre: self._put_at_centre,
            steps.TellHeld: self._tell_held,
            steps.TellGone: lambda step: self._centre.tell(m.ObjectsGone(step.ids)),
            steps.DeleteAtHome: self._delete_at_home,
            steps.FetchAtCentre: self._fetch_at_centre,
            steps.FetchAt: self._fetch_at,
            steps.AskSources: self._ask_sources,
            steps.FetchPieces: self._fetch_pieces,
            steps.Upload: self._upload,
            steps.Report: lambda step: self._report(step.event),
        }
        centre.on_message = self._on_centre_message
        centre.on_welcome = self._on_centre_welcome
        if start_home is not None:
            centre.introduce()
            self._clock.after(host.random.uniform(*HOME_START_S), lambda: host.post(self._open_home))

    # --- what the agent wants

    def fetch(self, effect: effects.FetchObject) -> None:
        self._homes.fetch(effect)
        self._perform()

    def put(self, effect: effects.PutObject) -> None:
        self._homes.put(effect)
        self._perform()

    def begin_hand_over(self) -> None:
        """The agent leaves in an orderly way: put what only its home has into the centre, until `is_handed_over`."""
        self._leaves_until = self._clock.now
        if self._home_link is not None and self._centre.link.connected and self._homes.hand_over():
            self._leaves_until += HAND_OVER_S
        self._perform()

    @property
    def is_handed_over(self) -> bool:
        """Whether the agent may end now."""
        until = self._leaves_until
        return until is not None and (
            self._clock.now >= until or not self._homes.uploads or not self._centre.link.connected
        )

    def leave(self, reason: str) -> None:
        """Say goodbye to the centre: the agent ends by its own will."""
        if self._home_link is not None:
            self._centre.leave(reason)
            self._centre.flush()

    def end(self) -> None:
        """The agent has ended, and its home with it."""
        for storage in self._links():
            storage.link.close(deliver_rest=False)
        if self.home is not None:
            self.home.end()

    # --- turns

    def work(self) -> None:
        """Take in what arrived, and do what time demands."""
        for storage in self._links():
            storage.work()
        for address, peer in list(self._peers.items()):
            self._watch(address, peer)

    def flush(self) -> None:
        for storage in self._links():
            storage.flush()

    def next_deadline(self) -> float:
        due = [storage.next_deadline() for storage in self._links()]
        if self._peers:
            due.append(self._clock.now + REACH_S / 3)
        if self._leaves_until is not None:
            due.append(self._clock.now + HAND_OVER_CHECK_S)
        return min(due)

    @property
    def held(self) -> int:
        """How many objects the agent believes to be in its home."""
        return self._homes.held

    def _links(self) -> list[ObjectStorage]:
        own = [storage for storage in (self._home_link, self._deletes) if storage is not None]
        return [self._centre, *own, *(peer.storage for peer in self._peers.values())]

    def _connect(
        self,
        address: str,
        hello: m.Hello,
        *,
        checks: bool = False,
        is_local: bool = False,
        known_clients: Callable[[], m.ClientsKnown] | None = None,
    ) -> ObjectStorage:
        identity = self._host.random.randbytes(16)
        storage = ObjectStorage(
            self._host.network,
            address,
            hello,
            identity,
            self._clock,
            check_seconds=CHECK_SECONDS if checks else float("inf"),
            waits_for_room=not is_local,
            known_clients=known_clients,
        )
        storage.link.is_local = is_local
        storage.on_activity = lambda: self._host.post(lambda: None)
        storage.introduce()
        return storage

    # --- steps

    def _perform(self) -> None:
        while pending := self._homes.take_steps():
            for step in pending:
                self._performers[type(step)](step)

    def _report(self, event: events.ObjectFetched | events.ObjectStored) -> None:
        if event.request in self._reported:
            raise SimulationError(f"request {event.request} of {self._host.name} is answered twice")
        self._reported.add(event.request)
        self._host.post(event)

    def _put_at_home(self, step: steps.PutAtHome) -> None:
        assert self._home_link is not None
        effect = step.effect

        def answered(completion: Completion) -> None:
            self._homes.on_put_at_home(events.ObjectStored(effect.request, trouble(completion)))
            self._perform()

        self._home_link.put(effect.id, effect.owner, self._host.cache[effect.id], answered)

    def _put_at_centre(self, step: steps.PutAtCentre) -> None:
        effect = step.effect
        content = self._host.cache.get(effect.id)
        if content is None:
            # Nobody wants the result any more, and its host has dropped it.
            self._report(events.ObjectStored(effect.request, "it has left this host's cache"))
            return
        self._centre.put(
            effect.id,
            effect.owner,
            content,
            lambda completion: self._report(events.ObjectStored(effect.request, trouble(completion))),
        )

    def _tell_held(self, step: steps.TellHeld) -> None:
        def answered(completion: Completion) -> None:
            is_refused = isinstance(completion, Refused) and completion.status is m.ObjectStatus.NOT_YOURS
            self._homes.on_held(step, trouble(completion), is_refused=is_refused)
            self._perform()

        self._centre.hold(step.ids, step.owner, self._name_of_home, answered, are_copies=step.are_copies)

    def _delete_at_home(self, step: steps.DeleteAtHome) -> None:
        def answered(completion: Completion) -> None:
            is_refused = isinstance(completion, Refused) and completion.status is not None
            self._homes.on_deleted_at_home(step, "" if is_refused else trouble(completion))
            self._perform()

        if self._deletes is not None:
            self._deletes.delete(step.ids, step.owner, answered)

    def _fetch_at_centre(self, step: steps.FetchAtCentre) -> None:
        request = step.effect.request

        def answered(completion: Completion) -> None:
            if isinstance(completion, AtHomes):
                self._homes.on_homes(request, completion.addresses, self._clock.now)
            elif isinstance(completion, Layout):
                self._homes.on_layout(request, completion.owner, completion.lengths)
            else:
                self._homes.on_fetched_at_centre(self._fetched(step.effect, completion))
            self._perform()

        wait_s = FETCH_WAIT_S if step.effect.waits else 0.0
        self._centre.get(step.effect.id, wait_s, answered, follows=step.follows, pieces=step.pieces)

    def _fetch_at(self, step: steps.FetchAt) -> None:
        address = step.address
        is_own = self._home_link is not None and address in (HOME, self._name_of_home)
        storage = self._home_link if is_own else self._peer(address) if address != HOME else None

        def answered(completion: Completion) -> None:
            if isinstance(completion, Layout):
                self._homes.on_layout(step.effect.request, completion.owner, completion.lengths)
                self._perform()
                return
            unreached = address == self._unreached != HOME
            event = self._fetched(step.effect, completion)
            self._homes.on_fetched_at(event, address, self._clock.now, unreached=unreached)
            self._perform()

        if storage is None:
            answered(Refused(0, None, "it has ended"))
        else:
            storage.get(step.effect.id, 0.0, answered, pieces=step.pieces)

    def _ask_sources(self, step: steps.AskSources) -> None:
        def answered(completion: Completion) -> None:
            addresses = completion.addresses if isinstance(completion, AtHomes) else ()
            self._homes.on_sources(step.effect.request, addresses, self._clock.now)
            self._perform()

        self._centre.ask_sources(step.effect.id, self._name_of_home, answered)

    def _fetch_pieces(self, step: steps.FetchPieces) -> None:
        def ended(error: str) -> None:
            self.fetching.discard(step.effect.id)
            # Later: it may have ended in the middle of a step.
            self._host.post(lambda: self._on_pieces(step, error))

        self.fetching.add(step.effect.id)
        if self._home_link is None:
            ended("the store of this host has ended")
        else:
            PieceFetch(step, self._home_link, self._piece_source, ended, self._note).start()

    def _piece_source(self, address: str) -> ObjectStorage | None:
        if address == CENTRE:
            return self._centre
        return None if address == self._name_of_home else self._peer(address)

    def _on_pieces(self, step: steps.FetchPieces, error: str) -> None:
        self._homes.on_pieces(step.effect.request, error)
        self._perform()

    def _fetched(self, effect: effects.FetchObject, completion: Completion) -> events.ObjectFetched:
        if isinstance(completion, Done):
            content = bytes(completion.buffers[1])
            self._host.cache[effect.id] = content
            return events.ObjectFetched(effect.request, size_bytes=len(content))
        is_lost = isinstance(completion, Refused) and completion.status is m.ObjectStatus.UNREACHED
        missing = is_lost or isinstance(completion, Missing)
        return events.ObjectFetched(effect.request, missing=missing, error=trouble(completion))

    # --- uploads

    def _upload(self, step: steps.Upload) -> None:
        self._waiting_uploads.append(step)
        self._begin_uploads()

    def _begin_uploads(self) -> None:
        while self._waiting_uploads and self._running_uploads < UPLOADS_MAX:
            step = self._waiting_uploads.popleft()
            if self._home_link is None:
                self._homes.on_uploaded(step.id, is_lost=True)
                continue
            self._running_uploads += 1
            self._home_link.get(step.id, 0.0, partial(self._on_read, step))

    def _on_read(self, step: steps.Upload, completion: Completion) -> None:
        if isinstance(completion, Done):
            self._centre.put_buffers(
                step.id, step.owner, completion.buffers, lambda _: self._end_upload(step, is_lost=False)
            )
        else:
            self._end_upload(step, is_lost=isinstance(completion, Missing))

    def _end_upload(self, step: steps.Upload, *, is_lost: bool) -> None:
        self._running_uploads -= 1
        self._homes.on_uploaded(step.id, is_lost=is_lost)
        self._begin_uploads()
        self._perform()

    # --- the centre

    def _on_centre_message(self, message: m.Message) -> None:
        if isinstance(message, m.ObjectWanted):
            self._homes.on_wanted(message.id)
        elif isinstance(message, m.ObjectDelete):
            self._homes.on_delete(message.owner, message.ids)
        self._perform()

    def _on_centre_welcome(self) -> None:
        self._homes.on_centre(self._centre.takes_homes)
        self._perform()

    # --- the store of this host

    def _open_home(self) -> None:
        assert self._start_home is not None
        self.home = self._start_home(self._host.name)
        self._home_link = self._connect(self.home.address, self._hello, is_local=True)
        self._home_link.on_welcome = self._on_home_welcome
        as_scheduler = m.Hello(m.Role.SCHEDULER, self._hello.name, self._host.incarnation)
        self._deletes = self._connect(
            self.home.address,
            as_scheduler,
            checks=True,
            is_local=True,
            known_clients=lambda: m.ClientsKnown((), everybody=True),
        )

    def _on_home_welcome(self) -> None:
        self._homes.has_home = True

    def kill_home(self) -> None:
        """Kill the store of this host. The agent learns it a little later."""
        assert self.home is not None
        self.home.end()

        def notice() -> None:
            links, self._home_link, self._deletes, self.home = (self._home_link, self._deletes), None, None, None
            self._homes.has_home = False
            for storage in links:
                if storage is not None:
                    storage.abandon("the store of this host has ended: killed")
            self._homes.on_home_ended()
            self._perform()

        self._clock.after(self._host.random.uniform(*END_NOTICED_S), lambda: self._host.post(notice))

    # --- stores of other hosts

    def _peer(self, address: str) -> ObjectStorage:
        peer = self._peers.get(address)
        if peer is None:
            now = self._clock.now
            peer = self._peers[address] = _Peer(self._connect(address, self._hello), now, now)
        peer.used_at = self._clock.now
        return peer.storage

    def _watch(self, address: str, peer: _Peer) -> None:
        """Give a store up that cannot be reached while something waits for it, and close a link that nobody uses."""
        if self._peers.get(address) is not peer:
            return
        now, is_idle = self._clock.now, not peer.storage.pending_count
        if not is_idle:
            peer.used_at = now
        elif now - peer.used_at >= IDLE_S:
            del self._peers[address]
            peer.storage.abandon("it is not used any more")
            return
        if peer.storage.link.connected or is_idle:
            peer.disconnected_since = now
        elif now - peer.disconnected_since >= REACH_S:
            del self._peers[address]
            self._unreached = address
            peer.storage.abandon(f"there has been no connection for {REACH_S:g} s")
            self._unreached = ""
