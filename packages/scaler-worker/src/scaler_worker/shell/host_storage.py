"""All stores that this host talks to: the centre, the store of this host if there is one, and those of other hosts.

`Homes` decides; this performs its steps with one `StorageLink` for each store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from scaler_protocol.errors import TransportError
from scaler_protocol.objects.segments import SegmentReader, unpack_place
from scaler_protocol.objects.storage import AtHomes, Completion, Done, Layout, Missing, Refused, StoreRequests, TimedOut
from scaler_protocol.runtime.counted import counted
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_worker.core import effects, events
from scaler_worker.core import homes as steps
from scaler_worker.core.homes import CENTRE, COPIES_BYTES_MAX, HOME, Homes
from scaler_worker.processor.object_folders import ObjectFolders
from scaler_worker.shell.piece_fetch import PieceFetch
from scaler_worker.shell.storage_link import StorageLink

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity
    from scaler_worker.shell.home_process import HomeProcess

logger = logging.getLogger(__name__)

PEERS_MAX = 256
"""Links to stores of other hosts. The one that was used longest ago is closed for another."""

REACH_SECONDS = 3.0
"""How long there may be no connection to a store of another host, until it counts as not to be reached."""

REFUSED_SECONDS = 0.5
"""The same where its host refuses connections: the store has ended, and agents start theirs once only.

Not at once: a host whose queue of connections is full may refuse some."""

WATCH_SECONDS = 1.0
WATCH_AWAITED_SECONDS = 0.1
"""How often links to stores of other hosts are looked after, and those without a connection that something waits for."""

IDLE_SECONDS = 60.0
"""How long a link to a store of another host may be of no use, until it is closed."""

UPLOADS_MAX = 4
"""Objects that are put into the centre at once because somebody asks for them there."""

PIECE_FETCHES_MAX = 4
"""Large objects that are fetched into the store of this host at once."""

HAND_OVER_SECONDS = 20.0
"""How long a host that leaves in an orderly way may take to put what only it has into the centre."""

HAND_OVER_CHECK_SECONDS = 0.05


class HostStorage:
    """Performs `FetchObject` and `PutObject`. Each is answered by one event, which is passed to `report`."""

    def __init__(
        self,
        hello: m.Hello,
        folders: ObjectFolders,
        security: PeerSecurity | None,
        report: Callable[[events.Event], None],
        owner: tuple[int, int] | None,
        home: HomeProcess | None,
        copies_bytes_max: int = COPIES_BYTES_MAX,
    ) -> None:
        """`owner`: see `StorageLink`. `home`: the store of this host, if there is to be one; copies take so much of it."""
        self._hello = hello
        self._folders = folders
        self._security = security
        self._report = report
        self._owner = owner
        self._home_process = home
        self._loop = asyncio.get_running_loop()
        self._homes = Homes(copies_bytes_max)
        self._centre: StorageLink | None = None
        self._home: StorageLink | None = None
        self._deletes: StorageLink | None = None
        """Also to the store of this host: as a scheduler, which may delete for everybody."""
        self._peers: OrderedDict[str, StorageLink] = OrderedDict()
        self._disconnected_since: dict[str, float] = {}
        self._used_at: dict[str, float] = {}
        """When links to other stores were asked for something, or still had to answer."""
        self._unreached: str = ""
        """The address of the store whose link is being closed because there is no connection to it."""
        self._waiting_uploads: deque[steps.Upload] = deque()
        self._running_uploads = 0
        self._waiting_pieces: deque[steps.FetchPieces] = deque()
        self._running_pieces = 0
        self._reader: SegmentReader | None = None
        self._closed = False
        self._handed_over = asyncio.Event()
        self._performers: dict[type[Any], Callable[[Any], None]] = {
            steps.PutAtHome: self._put_at_home,
            steps.PutAtCentre: self._put_at_centre,
            steps.TellHeld: self._tell_held,
            steps.TellGone: self._tell_gone,
            steps.DeleteAtHome: self._delete_at_home,
            steps.FetchAtCentre: self._fetch_at_centre,
            steps.FetchAt: self._fetch_at,
            steps.AskSources: self._ask_sources,
            steps.FetchPieces: self._fetch_pieces,
            steps.Upload: self._upload,
            steps.Report: lambda step: self._report(step.event),
        }
        if home is not None:
            home.start(self._open_home, self._on_home_ended)

    @property
    def address(self) -> str:
        """Where the centre is; empty: there is none."""
        return self._centre.address if self._centre is not None else ""

    def use_centre(self, address: str) -> None:
        """Go on with the centre at another address; empty: there is none any more."""
        again: list[effects.FetchObject | effects.PutObject] = []
        if self._centre is not None:
            centre, self._centre = self._centre, None
            if address:
                # Clients send their objects to the new one as well, and results are still in the cache.
                again = centre.take_unanswered()
            centre.close("the object storage server was replaced by another one")
            self._homes.takes_homes = False
        if address:
            link = DealerLink(address, self._hello.incarnation, self._security)
            self._centre = StorageLink(
                address,
                self._hello,
                self._folders,
                link,
                self._on_centre_event,
                self._owner,
                checks=self._home_process is not None,
            )
            self._centre.gives_token = self._home is None
            self._centre.on_homes = self._on_homes
            self._centre.on_layout = self._on_layout
            self._centre.on_message = self._on_centre_message
            self._centre.on_welcome = self._on_centre_welcome
            for effect in again:
                if isinstance(effect, effects.FetchObject):
                    self._centre.fetch(effect)
                else:
                    self._centre.put(effect)

    def fetch(self, effect: effects.FetchObject) -> None:
        """Get an object into the host's cache."""
        if self._centre is None:
            self._report(events.ObjectFetched(effect.request, error="there is no object storage server"))
            return
        self._homes.fetch(effect)
        self._perform()

    def put(self, effect: effects.PutObject) -> None:
        """Store an object that is in the host's cache."""
        if self._centre is None:
            self._report(events.ObjectStored(effect.request, "there is no object storage server"))
            return
        self._homes.put(effect)
        self._perform()

    async def hand_over(self) -> None:
        """Put what only this host has into the centre, for `HAND_OVER_SECONDS` at most."""
        centre = self._centre
        if self._home is None or centre is None or not centre.connected or not self._homes.hand_over():
            return
        logger.info(
            "%s of this host's store to put into the object storage server", counted(self._homes.uploads, "object")
        )
        self._perform()
        self._watch_hand_over(centre)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._handed_over.wait(), HAND_OVER_SECONDS)
        if self._homes.uploads:
            logger.warning("%s lost with this host's store", counted(self._homes.uploads, "object"))

    def _watch_hand_over(self, centre: StorageLink) -> None:
        if not self._homes.uploads or not centre.connected:
            self._handed_over.set()
        elif not self._closed:
            self._loop.call_later(HAND_OVER_CHECK_SECONDS, self._watch_hand_over, centre)

    def close(self, reason: str) -> None:
        """Give up requests that are not answered, and report that. Ends the store of this host."""
        self._closed = True
        if self._centre is not None and self._home is not None:
            self._centre.leave(reason)
        for link in (*self._peers.values(), self._home, self._deletes, self._centre):
            if link is not None:
                link.close(reason)
        if self._home_process is not None:
            self._home_process.close()

    # --- steps

    def _perform(self) -> None:
        while pending := self._homes.take_steps():
            for step in pending:
                self._performers[type(step)](step)

    def _put_at_home(self, step: steps.PutAtHome) -> None:
        assert self._home is not None
        self._home.put(step.effect)

    def _put_at_centre(self, step: steps.PutAtCentre) -> None:
        if self._centre is None:
            self._report(events.ObjectStored(step.effect.request, "there is no object storage server"))
        else:
            self._centre.put(step.effect)

    def _tell_held(self, step: steps.TellHeld) -> None:
        process = self._home_process
        if self._centre is None or process is None:
            self._on_held(step, Refused(0, None, "there is no object storage server"))
            return
        self._centre.ask(
            lambda requests, now: requests.hold(step.ids, step.owner, process.address, now, are_copies=step.are_copies),
            partial(self._on_held, step),
        )

    def _on_held(self, step: steps.TellHeld, completion: Completion) -> None:
        is_refused = isinstance(completion, Refused) and completion.status is m.ObjectStatus.NOT_YOURS
        self._homes.on_held(step, _trouble(completion), is_refused=is_refused)
        self._perform()

    def _tell_gone(self, step: steps.TellGone) -> None:
        if self._centre is not None:
            self._centre.tell(m.ObjectsGone(step.ids))

    def _delete_at_home(self, step: steps.DeleteAtHome) -> None:
        if self._deletes is not None:
            self._deletes.ask(
                lambda requests, now: requests.delete(step.ids, step.owner, now), partial(self._on_deleted, step)
            )

    def _on_deleted(self, step: steps.DeleteAtHome, completion: Completion) -> None:
        # What the store itself refuses once, it refuses again.
        is_refused = isinstance(completion, Refused) and completion.status is not None
        error = "" if is_refused else _trouble(completion)
        self._homes.on_deleted_at_home(step, error)
        self._perform()

    def _fetch_at_centre(self, step: steps.FetchAtCentre) -> None:
        if self._centre is None:
            self._on_centre_event(events.ObjectFetched(step.effect.request, error="there is no object storage server"))
        else:
            self._centre.fetch(step.effect, follows=step.follows, pieces=step.pieces)

    def _fetch_at(self, step: steps.FetchAt) -> None:
        process = self._home_process
        own = self._home is not None and process is not None and step.address in (HOME, process.address)
        try:
            link = self._home if own else self._peer(step.address) if step.address != HOME else None
        except TransportError as error:
            self._on_fetched_at(step.address, events.ObjectFetched(step.effect.request, error=str(error)))
            return
        if link is None:
            self._on_fetched_at(step.address, events.ObjectFetched(step.effect.request, error="it has ended"))
        else:
            link.fetch(step.effect, pieces=step.pieces)

    def _ask_sources(self, step: steps.AskSources) -> None:
        process = self._home_process
        if self._centre is None or process is None:
            self._loop.call_soon(self._on_sources, step, Refused(0, None, ""))
            return
        self._centre.ask(
            lambda requests, now: requests.ask_sources(step.effect.id, process.address, now),
            partial(self._on_sources, step),
        )

    def _on_sources(self, step: steps.AskSources, completion: Completion) -> None:
        addresses = completion.addresses if isinstance(completion, AtHomes) else ()
        self._homes.on_sources(step.effect.request, addresses, self._loop.time())
        self._perform()

    def _fetch_pieces(self, step: steps.FetchPieces) -> None:
        self._waiting_pieces.append(step)
        self._begin_pieces()

    def _begin_pieces(self) -> None:
        while self._waiting_pieces and self._running_pieces < PIECE_FETCHES_MAX:
            step = self._waiting_pieces.popleft()
            self._running_pieces += 1
            on_end = partial(self._on_pieces, step)
            if self._home is None:
                self._loop.call_soon(on_end, "the store of this host has ended")
            else:
                PieceFetch(step, self._home, self._link_of, on_end).start()

    def _link_of(self, address: str) -> StorageLink | None:
        """Return the link to another store than this host's; None: there is none. Raises TransportError."""
        if address == CENTRE:
            return self._centre
        return None if self._closed or address == self._home_process_address() else self._peer(address)

    def _on_pieces(self, step: steps.FetchPieces, error: str) -> None:
        self._running_pieces -= 1
        self._homes.on_pieces(step.effect.request, error)
        self._begin_pieces()
        self._perform()

    def _on_layout(self, request: int, layout: Layout) -> None:
        self._homes.on_layout(request, layout.owner, layout.lengths)
        self._perform()

    def _upload(self, step: steps.Upload) -> None:
        self._waiting_uploads.append(step)
        self._begin_uploads()

    def _begin_uploads(self) -> None:
        while self._waiting_uploads and self._running_uploads < UPLOADS_MAX:
            step = self._waiting_uploads.popleft()
            if self._home is None:
                self._homes.on_uploaded(step.id, is_lost=True)
                continue
            self._running_uploads += 1
            # Not with its place for an answer: what the store holds only for the moment would have to be copied first.
            self._home.ask(_getting(step.id, self._home.is_local), partial(self._on_read, step))

    def _on_read(self, step: steps.Upload, completion: Completion) -> None:
        """The store of this host has said what an object is that the centre wants."""
        buffers: Any = None
        if isinstance(completion, Done):
            buffers = completion.buffers
            if completion.place:
                self._reader = self._reader or SegmentReader()
                buffers = self._reader.read(unpack_place(completion.place))
        if buffers is None or self._centre is None:
            self._end_upload(step, is_lost=isinstance(completion, Missing))
            return
        self._centre.ask(
            lambda requests, now: requests.put(step.id, step.owner, buffers, now),
            lambda _done: self._end_upload(step, is_lost=False),
        )

    def _end_upload(self, step: steps.Upload, *, is_lost: bool) -> None:
        self._running_uploads -= 1
        self._homes.on_uploaded(step.id, is_lost=is_lost)
        self._begin_uploads()
        self._perform()

    # --- the centre

    def _on_centre_event(self, event: events.Event) -> None:
        if isinstance(event, events.ObjectFetched):
            self._homes.on_fetched_at_centre(event)
            self._perform()
        else:
            self._report(event)

    def _on_homes(self, request: int, addresses: tuple[str, ...]) -> None:
        self._homes.on_homes(request, addresses, self._loop.time())
        self._perform()

    def _on_centre_message(self, message: m.Message) -> None:
        if isinstance(message, m.ObjectWanted):
            self._homes.on_wanted(message.id)
        elif isinstance(message, m.ObjectDelete):
            self._homes.on_delete(message.owner, message.ids)
        self._perform()

    def _on_centre_welcome(self) -> None:
        if self._centre is not None:
            self._homes.on_centre(self._centre.takes_homes)
            self._perform()

    # --- the store of this host

    def _open_home(self, address: str) -> None:
        """The store of this host answers."""
        process = self._home_process
        if self._closed or process is None:
            return
        incarnation = self._hello.incarnation
        link = DealerLink(address, new_id(_prefix(self._security)), self._security)
        # What finds no room there goes to the centre at once: the task's result waits for it.
        self._home = StorageLink(
            address,
            self._hello,
            self._folders,
            link,
            self._on_home_event,
            self._owner,
            wait_seconds=0.0,
            waits_for_room=False,
        )
        self._home.on_welcome = self._on_home_welcome
        security = process.scheduler_security()
        # By its hellos it renews the leases of all owners: the centre says when one of them has ended.
        self._deletes = StorageLink(
            address,
            m.Hello(role=m.Role.SCHEDULER, name=self._hello.name, incarnation=incarnation),
            self._folders,
            DealerLink(address, new_id(_prefix(security)), security),
            lambda _event: None,
            checks=True,
            knows_everybody=True,
        )
        self._deletes.gives_token = False
        if self._centre is not None:
            self._centre.gives_token = False

    def _on_home_welcome(self) -> None:
        if not self._homes.has_home:
            self._homes.has_home = True
            logger.info("large results stay in the store of this host at %s", self._home_process_address())

    def _home_process_address(self) -> str:
        return self._home_process.address if self._home_process is not None else ""

    def _on_home_ended(self, reason: str) -> None:
        if self._closed:
            return
        logger.error("%s; large results go to the object storage server of the cluster", reason)
        home, deletes, self._home, self._deletes = self._home, self._deletes, None, None
        self._homes.has_home = False
        for link in (home, deletes):
            if link is not None:
                link.close(reason)
        self._homes.on_home_ended()
        if self._centre is not None:
            self._centre.give_token()
        self._perform()

    def _on_home_event(self, event: events.Event) -> None:
        if isinstance(event, events.ObjectStored):
            self._homes.on_put_at_home(event)
            self._perform()
        elif isinstance(event, events.ObjectFetched):
            self._on_fetched_at(HOME, event)

    # --- stores of other hosts

    def _peer(self, address: str) -> StorageLink:
        """Return the link to the store of another host. Raises TransportError."""
        link = self._peers.get(address)
        if link is None:
            if len(self._peers) >= PEERS_MAX:
                oldest = next((one for one, other in self._peers.items() if other.is_idle), next(iter(self._peers)))
                self._forget_peer(oldest).close("too many stores of other hosts are used at once")
            link = StorageLink(
                address,
                self._hello,
                self._folders,
                DealerLink(address, new_id(_prefix(self._security)), self._security),
                partial(self._on_fetched_at, address),
                self._owner,
                wait_seconds=0.0,
            )
            link.gives_token = False
            link.on_layout = self._on_layout
            self._peers[address] = link
            self._disconnected_since[address] = self._loop.time()
            self._loop.call_later(WATCH_AWAITED_SECONDS, self._watch, address, link)
        self._peers.move_to_end(address)
        self._used_at[address] = self._loop.time()
        return link

    def _forget_peer(self, address: str) -> StorageLink:
        del self._disconnected_since[address], self._used_at[address]
        return self._peers.pop(address)

    def _watch(self, address: str, link: StorageLink) -> None:
        """Give a store up that cannot be reached while something waits for it, and close a link that nobody uses."""
        if self._closed or self._peers.get(address) is not link:
            return
        now = self._loop.time()
        if not link.is_idle:
            self._used_at[address] = now
        elif now - self._used_at[address] >= IDLE_SECONDS:
            self._forget_peer(address).close("it is not used any more")
            return
        if link.connected or link.is_idle:
            self._disconnected_since[address] = now
            self._loop.call_later(WATCH_SECONDS, self._watch, address, link)
            return
        seconds = REFUSED_SECONDS if link.nobody_listens else REACH_SECONDS
        if now - self._disconnected_since[address] >= seconds:
            self._forget_peer(address)
            self._unreached = address
            refused = ", and its host refuses it" if link.nobody_listens else ""
            link.close(f"there has been no connection for {seconds:g} s{refused}")
            self._unreached = ""
            return
        self._loop.call_later(WATCH_AWAITED_SECONDS, self._watch, address, link)

    def _on_fetched_at(self, address: str, event: events.Event) -> None:
        if isinstance(event, events.ObjectFetched):
            self._homes.on_fetched_at(event, address, self._loop.time(), unreached=address == self._unreached != HOME)
            self._perform()


def _getting(object_id: bytes, mappable: bool) -> Callable[[StoreRequests, float], int]:
    return lambda requests, now: requests.get(object_id, now, mappable=mappable)


def _prefix(security: PeerSecurity | None) -> bytes:
    return security.identity_prefix if security is not None else b""


def _trouble(completion: Completion) -> str:
    if isinstance(completion, Refused):
        return completion.text or "the object storage server refuses it"
    if isinstance(completion, TimedOut):
        return f"the object storage server has not answered for {completion.seconds:.0f} s"
    return ""
