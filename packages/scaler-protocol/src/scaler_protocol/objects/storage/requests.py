"""The requesting end of object storage: numbered requests, repeated until they are answered or out of time.

    requests = StoreRequests(hello)                          # hello: role, name and incarnation of this peer
    number = requests.put(object_id, owner, buffers, now)    # or get, delete
    for message in requests.take_outgoing(): …               # send each to the store, in envelope UNSEQUENCED
    completions = requests.receive(message, now)             # for every message from the store
    completions = requests.tick(now)                         # at next_deadline(), or more often

Every request ends in exactly one completion: `Done`, `Refused`, `Missing` or `TimedOut`, with the number that `put`,
`get` or `delete` returned. There is no session, so a link may lose messages. A request is sent again, with growing pauses,
until it is answered. Doing one twice does no harm, because objects are immutable. Before a request is sent again, a hello
must be answered, so that gigabytes are not sent to a server that is gone. A server that does not know this peer (it was
restarted, or forgot a peer that was silent for long) answers UnknownPeer. Then hello and all requests are sent again.

A put that is refused because storage is full is sent again too, until its time is over, because room may come free. With
`waits_for_room=False` it is refused at once: for a store that another one stands in for.

Order: puts leave in the order in which they were made, at most `PUT_WINDOW_BYTES` at a time. A delete waits until the puts
of its objects are answered, because a put repeated after its delete would bring the object back for ever. Gets do not
wait for puts.

This module knows no clock, socket or thread. The owner passes the time, and holds a lock if threads share the object.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from typing import Any

from scaler_protocol.errors import MessageTooLargeError, WireError
from scaler_protocol.runtime.values import record, value
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import FRAMES_MAX, OBJECT_BYTES_MAX, raw_view
from scaler_protocol.wire.object_batches import rows_of

TIMEOUT_SECONDS = 60.0
"""How long a request may stay unanswered, besides the time for its bytes and the time that the server is asked to wait."""

REPEAT_SECONDS = 2.0
REPEAT_SECONDS_MAX = 15.0

FULL_PAUSE_SECONDS = 0.25
FULL_PAUSE_SECONDS_MAX = 4.0
"""How long to wait before a put is sent again that was refused because storage is full: growing from the first to the second."""

CHECK_SECONDS = 3.0
"""How often a peer whose objects are to outlive the server asks whether it is still the same one. A server that was started again
then has these objects before the tasks that name them give them up."""

KNOWN_AGAIN_SECONDS = 60.0
"""After this time a scheduler says once more which clients it knows, in case that the server has forgotten it."""

SLOWEST_BYTES_PER_SECOND = 10_000_000
"""On a slower link, uploads are repeated and time out in the end."""

WAIT_SECONDS_MAX = 10.0
"""The longest time that one request asks the server to wait. Longer waits take several, so that a restart is noticed."""

COMING_SECONDS_MAX = 600.0
"""The longest time that a get waits for an object while the server says that it may come."""

PUT_WINDOW_BYTES = 256 * 1024 * 1024
"""Most bytes of puts without an answer; further puts wait. A larger object is sent alone."""

OBJECT_BUFFERS_MAX = FRAMES_MAX - 2

KEY_REFUSED_SECONDS = 2.0
"""How long a server may refuse this peer's key before requests fail: longer than it takes servers to notice a new key."""

PENDING_MAX = 100_000
"""Most unanswered requests."""


class TooManyRequestsError(WireError):
    """More than `PENDING_MAX` requests are unanswered: wait for some to complete."""


@value
class Done:
    """A put or delete was done, or a get found its object, whose buffers are in `buffers`.

    A get that accepts a place may have that instead (see `scaler_protocol.objects.segments`).
    """

    request: int
    buffers: Sequence[Any] = ()
    place: bytes = b""


@value
class Refused:
    """The server refuses the request. `text` is one sentence; `status` is the reason, or None if it refuses this peer."""

    request: int
    status: m.ObjectStatus | None
    text: str


@value
class Missing:
    """The server does not have the object, and did not receive it in the time that it was asked to wait."""

    request: int


@value
class TimedOut:
    """The server did not answer in time. Whether it has done the request is unknown."""

    request: int
    seconds: float


@value
class AtHomes:
    """A get that follows homes: the stores of other hosts, at these addresses, have the object."""

    request: int
    addresses: tuple[str, ...]


@value
class Layout:
    """A get that accepts pieces: the object of `owner` is large. `lengths` are the bytes of its buffers."""

    request: int
    owner: bytes
    lengths: tuple[int, ...]


@value
class StoreChanged:
    """The server is another process than before, without the earlier objects. Unanswered requests are sent again."""

    incarnation: bytes


Completion = Done | Refused | Missing | TimedOut | AtHomes | Layout | StoreChanged


@record
class _Pending:
    request: int
    message: m.ObjectPut | m.ObjectGet | m.ObjectDelete | m.ObjectsHeld
    size_bytes: int = 0
    wait_until: float = 0.0
    """Gets: until when to ask for an object that has not arrived yet."""
    wait_seconds: float = 0.0
    """Gets: how much longer to wait when the server says that the object may come."""
    wait_until_max: float = 0.0
    """Gets: until when to wait at the longest."""
    sent_at: float = 0.0
    repeats: int = 0
    unheard: bool = False
    """Whether to send it again as soon as a hello is answered."""
    refusal: str = ""
    """Of puts: why storage has no room for it yet."""
    deadline: float = field(default=float("inf"))
    due: float = field(default=float("inf"))
    """When to repeat it or give it up."""


class StoreRequests:
    """Requests to one object storage server. See the module."""

    def __init__(
        self,
        hello: m.Hello,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        check_seconds: float = float("inf"),
        waits_for_room: bool = True,
        known_clients: Callable[[], m.ClientsKnown] | None = None,
    ) -> None:
        """`check_seconds`: how often to ask whether the server is still the same one while there are no requests.

        `known_clients`: of a scheduler, returns whose end it will tell. The server hears of changes with the next check.
        """
        self._known_clients = known_clients
        self._said_known: m.ClientsKnown | None = None
        """What went before the last hello, if anything did."""
        self._confirmed_known: m.ClientsKnown | None = None
        """What the server knows of it."""
        self._confirmed_at = 0.0
        self._waits_for_room = waits_for_room
        self._check_seconds = check_seconds
        self._hello = hello
        self._timeout_seconds = timeout_seconds
        self._outgoing: list[m.Message] = []
        self._last_number = 0
        # By the number in the message. A get with a long wait sends several requests, each with a new number.
        self._pending: dict[int, _Pending] = {}
        self._waiting_puts: deque[_Pending] = deque()
        self._held_deletes: list[_Pending] = []
        self._unanswered_puts: Counter[bytes] = Counter()
        self._window_bytes = 0
        self._pending_bytes = 0
        self._refused_puts: set[int] = set()
        """Those that storage has no room for yet."""
        self._timers: list[tuple[float, int]] = []
        self._hello_number = 0
        self._hello_at = 0.0
        self._welcomed = False
        self._unknown = False
        self._store_incarnation = b""
        self._segment_offer = b""
        self._takes_homes = False
        self._refused_text: str | None = None
        self._unreachable_since: float | None = None
        """Since when the server lets no connection of this peer in; None while it does."""

    # --- requests

    def introduce(self, now: float) -> None:
        """Say hello, unless that was done before. The answer sets `store_incarnation` and `segment_offer`."""
        if not self._hello_number:
            self._say_hello(now)

    def put(
        self,
        object_id: bytes,
        owner: bytes,
        buffers: Sequence[Any],
        now: float,
        *,
        name: str = "",
        place: bytes = b"",
        incomplete: bool = False,
    ) -> int:
        """Store an object; `owner` is the client incarnation it belongs to. Returns the request's number.

        With `place` its bytes are in a segment there, and `buffers` is empty. If that is refused as NO_SEGMENT, put the
        bytes instead. The buffers are kept, not copied, and must not change until the request completes, because it may
        have to be repeated. `incomplete`: no byte of it is there yet; say how many with `tell`, and put it again once all are.
        Raises MessageTooLargeError if no message can carry the object, and ValueError for buffers not in one piece.
        """
        views = [raw_view(buffer) for buffer in buffers]
        size = sum(len(view) for view in views)
        if size > OBJECT_BYTES_MAX or len(views) > OBJECT_BUFFERS_MAX:
            raise MessageTooLargeError(
                f"an object of {len(views)} buffers and {size} bytes; at most {OBJECT_BUFFERS_MAX} buffers and "
                f"{OBJECT_BYTES_MAX} bytes fit into a message"
            )
        pending = self._new_pending(m.ObjectPut(0, object_id, owner, views, name, place, incomplete), size)
        self._unanswered_puts[object_id] += 1
        self._pending_bytes += size
        self._waiting_puts.append(pending)
        self._fill_window(now)
        return pending.request

    def get(
        self,
        object_id: bytes,
        now: float,
        *,
        wait_seconds: float = 0.0,
        mappable: bool = False,
        follows: bool = False,
        pieces: bool = False,
    ) -> int:
        """Fetch an object; wait up to `wait_seconds` if it has not arrived yet. Returns the request's number.

        While objects of clients are on their way to the server, it may be among them: the wait goes on until `wait_seconds`
        after the last of their bytes, `COMING_SECONDS_MAX` at most.
        `mappable`: the answer may be a place instead of the bytes. Only if the server's offer was accepted.
        `follows`: the completion may be `AtHomes`; `pieces`: `Layout`.
        """
        message = m.ObjectGet(0, object_id, min(wait_seconds, WAIT_SECONDS_MAX), mappable, follows, pieces)
        pending = self._new_pending(message)
        pending.wait_until = now + wait_seconds
        pending.wait_seconds = wait_seconds
        pending.wait_until_max = now + max(wait_seconds, COMING_SECONDS_MAX)
        self._send(pending.request, pending, now)
        return pending.request

    def get_piece(self, object_id: bytes, offset: int, size: int, now: float, *, wait_seconds: float = 0.0) -> int:
        """Fetch a part of an object, as if its buffers were one; wait if it is not there yet. Returns the request's number."""
        pending = self._new_pending(m.ObjectGet(0, object_id, wait_seconds, size=size, offset=offset))
        self._send(pending.request, pending, now)
        return pending.request

    def ask_sources(self, object_id: bytes, keeps_at: str, now: float) -> int:
        """Say that an object is about to be fetched in pieces into the store at `keeps_at`. Returns the request's number.

        The completion is `AtHomes`, with the stores to fetch it from, best first; the empty address is this server.
        """
        pending = self._new_pending(m.ObjectGet(0, object_id, keeps_at=keeps_at))
        self._send(pending.request, pending, now)
        return pending.request

    def hold(
        self, object_ids: Sequence[bytes], owner: bytes, address: str, now: float, *, are_copies: bool = False
    ) -> int:
        """Say that objects of `owner` are in the store of this host, at `address`. Returns the request's number.

        `are_copies`: they were fetched from elsewhere, and this is refused if they were deleted meanwhile.
        """
        pending = self._new_pending(m.ObjectsHeld(0, owner, tuple(object_ids), address, are_copies))
        self._send(pending.request, pending, now)
        return pending.request

    def delete(self, object_ids: Sequence[bytes], owner: bytes, now: float) -> int:
        """Delete objects of `owner`. Objects that do not exist count as deleted. Returns the request's number.

        Raises ValueError without ids, because that would delete everything of the owner.
        """
        if not object_ids:
            raise ValueError("nothing to delete")
        pending = self._new_pending(m.ObjectDelete(0, owner, tuple(object_ids)))
        self._held_deletes.append(pending)
        self._release_deletes(now)
        return pending.request

    def end_owner(self, owner: bytes, now: float) -> int:
        """Delete all objects of `owner`, which has ended. Returns the request's number. Only schedulers may ask this.

        The request is repeated until it is answered, however long that takes, because nobody else would delete them.
        """
        pending = self._new_pending(m.ObjectDelete(0, owner, ()))
        self._send(pending.request, pending, now, deadline=float("inf"))
        return pending.request

    def keep_owner(self, owner: bytes) -> list[int]:
        """`owner` is alive after all: cancel `end_owner`. Returns the requests that will not complete."""
        numbers = [
            number
            for number, pending in self._pending.items()
            if isinstance(pending.message, m.ObjectDelete)
            and pending.message.owner == owner
            and not pending.message.ids
        ]
        for number in numbers:
            del self._pending[number]
        return numbers

    def leave(self, reason: str) -> None:
        """Say goodbye to a server that was greeted: behind everything that was sent, so that nothing comes after it."""
        if self._hello_number:
            self._outgoing.append(m.Goodbye(reason))

    def tell(
        self,
        message: m.Shutdown | m.StoreStatusRequest | m.ObjectListRequest | m.ObjectsGone | m.ObjectPut,
        now: float,
    ) -> None:
        """Send a message that needs no answer, or that the owner repeats.

        Of an agent: only `ObjectsGone`, and to the store of its host how much of an incomplete put is there. Of a client: only
        `ObjectsGone`. Of a scheduler: all but `ObjectPut`.
        """
        self.introduce(now)
        self._outgoing.append(message)

    def cancel(self, request: int) -> None:
        """Forget a get: it will not complete, and a late answer is dropped. Unknown numbers are ignored."""
        # A get with a long wait may have another number now.
        numbers = [request] if request in self._pending else list(self._pending)
        for number in numbers:
            pending = self._pending[number]
            if pending.request == request and isinstance(pending.message, m.ObjectGet):
                del self._pending[number]
                return

    # --- what comes and goes

    def take_outgoing(self) -> list[m.Message]:
        """Return the messages to send to the server now, in order, and forget them.

        Pass them through `wire.object_batches.joined`: what is due together then travels together.
        """
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def receive(self, message: m.Message, now: float) -> list[Completion]:
        """Take one message from the server; return the requests that it completes. Late and unknown answers are dropped."""
        if isinstance(message, m.ObjectBatch):
            return [completion for row in rows_of(message) for completion in self.receive(row, now)]
        if isinstance(message, m.ObjectData):
            return self._on_data(message, now)
        if isinstance(message, m.ObjectHomes):
            return self._on_homes(message, now)
        if isinstance(message, m.ObjectLayout):
            return self._on_layout(message, now)
        if isinstance(message, m.ObjectPutReply | m.ObjectDeleteReply):
            return self._on_reply(message, now)
        if isinstance(message, m.Welcome):
            return self._on_welcome(message, now)
        if isinstance(message, m.UnknownPeer):
            # One arrives for each request in transit; one hello is enough for all.
            self._unknown = True
            # So it has not taken which clients this scheduler knows either.
            self._said_known = self._confirmed_known = None
            if self._welcomed:
                self._say_hello(now)
        elif isinstance(message, m.Refused):
            self._refused_text = message.text
            return self._refuse_all(message.text)
        return []

    def on_link_refused(self, text: str, now: float) -> list[Completion]:
        """The server does not let in this peer's key, for the reason in `text`; return the requests that this completes.

        Call it each time. The first refusals complete nothing: the server may not have noticed yet that a key was added.
        """
        if self._unreachable_since is None:
            self._unreachable_since = now
        return self._refuse_all(text) if now >= self._unreachable_since + KEY_REFUSED_SECONDS else []

    def refuse(self, message: m.Message, text: str, now: float) -> list[Completion]:
        """A message of `take_outgoing` can never be sent; return the requests that this completes."""
        number = getattr(message, "request", 0)
        pending = self._pending.get(number)
        if pending is None:
            return []
        self._finish(number, now)
        return [Refused(pending.request, m.ObjectStatus.MALFORMED, text)]

    def tick(self, now: float) -> list[Completion]:
        """Repeat requests that are due; give up those whose time is over."""
        if self._refused_text is not None:
            return self._refuse_all(self._refused_text)
        completions: list[Completion] = []
        timers = self._timers
        while timers and timers[0][0] <= now:
            due, number = heapq.heappop(timers)
            pending = self._pending.get(number)
            if pending is None or pending.due != due:
                continue
            if now >= pending.deadline:
                completions.append(_given_up(pending, now))
                self._finish(number, now)
            else:
                pending.repeats += 1
                pending.unheard = True
                self._schedule(number, pending, now + self._repeat_after(pending))
                if self._welcomed:
                    self._say_hello(now)
        if (self._pending and not self._welcomed and now >= self._hello_due()) or now >= self._check_due():
            self._say_hello(now)
        return completions

    def next_deadline(self) -> float:
        """When `tick` has something to do next; inf for never."""
        if self._refused_text is not None:
            return 0.0 if self.pending_count else float("inf")
        timers = self._timers
        while timers:
            due, number = timers[0]
            pending = self._pending.get(number)
            if pending is not None and pending.due == due:
                break
            heapq.heappop(timers)
        check = self._check_due()
        if not timers:
            return check
        return min(timers[0][0], check) if self._welcomed else min(timers[0][0], self._hello_due(), check)

    @property
    def pending_count(self) -> int:
        """Requests that have not completed."""
        return len(self._pending) + len(self._waiting_puts) + len(self._held_deletes)

    @property
    def pending_bytes(self) -> int:
        """Bytes of buffers of puts that have not completed. The owner sets a bound for them."""
        return self._pending_bytes

    @property
    def refusal(self) -> str:
        """Why storage has no room for puts that are sent again; empty if there are none. Others had better wait."""
        return next((self._pending[number].refusal for number in self._refused_puts), "")

    @property
    def takes_homes(self) -> bool:
        """Whether the server of the last welcome takes `hold`."""
        return self._takes_homes

    @property
    def store_incarnation(self) -> bytes:
        """The incarnation in the last welcome; empty before the first one."""
        return self._store_incarnation

    @property
    def segment_offer(self) -> bytes:
        """The offer in that welcome, for `scaler_protocol.objects.segments.accept_offer`."""
        return self._segment_offer

    # --- hello

    def _say_hello(self, now: float) -> None:
        if self._unknown:
            self._unknown = False
            for pending in self._pending.values():
                pending.unheard = True
        self._welcomed = False
        self._hello_number += 1
        self._hello_at = now
        self._say_known(now)
        self._outgoing.append(replace(self._hello, hello_number=self._hello_number, to_object_storage=True))

    def _say_known(self, now: float) -> None:
        """Say which clients this scheduler knows, if that is not what the server knows of it."""
        self._said_known = None
        # A server that has not met this peer yet takes nothing but a hello.
        if self._known_clients is None or not self._store_incarnation:
            return
        known = self._known_clients()
        if known != self._confirmed_known or now >= self._confirmed_at + KNOWN_AGAIN_SECONDS:
            self._said_known = known
            self._outgoing.append(known)

    def _hello_due(self) -> float:
        return self._hello_at + REPEAT_SECONDS

    def _check_due(self) -> float:
        """When to ask again whether the server is still the same one; rarely while none answers."""
        if not self._hello_number:
            return float("inf")
        pause = self._check_seconds if self._welcomed else max(self._check_seconds, REPEAT_SECONDS_MAX)
        return self._hello_at + pause

    def _on_welcome(self, welcome: m.Welcome, now: float) -> list[Completion]:
        if welcome.hello_number != self._hello_number:
            return []
        self._welcomed = True
        self._unreachable_since = None
        self._unknown = False
        for number, pending in self._pending.items():
            if pending.unheard:
                self._transmit(number, pending, now)
        self._segment_offer = welcome.segment_offer
        self._takes_homes = welcome.takes_homes
        before, self._store_incarnation = self._store_incarnation, welcome.incarnation
        if before != welcome.incarnation:
            self._confirmed_known = None
        elif self._said_known is not None:
            # The hello went behind it. Where only the first of both was lost, as with a connection, it is said again in a minute.
            self._confirmed_known, self._confirmed_at = self._said_known, now
        return [StoreChanged(welcome.incarnation)] if before not in (b"", welcome.incarnation) else []

    # --- answers

    def _on_data(self, data: m.ObjectData, now: float) -> list[Completion]:
        pending = self._pending.get(data.request)
        if pending is None or not isinstance(pending.message, m.ObjectGet):
            return []
        if data.missing and data.may_come:
            pending.wait_until = max(pending.wait_until, min(now + pending.wait_seconds, pending.wait_until_max))
        if data.missing and not data.gone and now < pending.wait_until:
            self._wait_on(data.request, pending, now)
            return []
        self._finish(data.request, now)
        return [Missing(pending.request) if data.missing else Done(pending.request, data.buffers, data.place)]

    def _on_homes(self, homes: m.ObjectHomes, now: float) -> list[Completion]:
        pending = self._pending.get(homes.request)
        if pending is None or not isinstance(pending.message, m.ObjectGet):
            return []
        if not pending.message.follows_homes and not pending.message.keeps_at:
            return []
        self._finish(homes.request, now)
        return [AtHomes(pending.request, homes.addresses)]

    def _on_layout(self, layout: m.ObjectLayout, now: float) -> list[Completion]:
        pending = self._pending.get(layout.request)
        if pending is None or not isinstance(pending.message, m.ObjectGet) or not pending.message.pieces:
            return []
        self._finish(layout.request, now)
        return [Layout(pending.request, layout.owner, tuple(layout.lengths))]

    def _wait_on(self, answered: int, pending: _Pending, now: float) -> None:
        """Go on waiting with a new number, so that a late answer to the last request does not end the wait."""
        assert isinstance(pending.message, m.ObjectGet)
        del self._pending[answered]
        waited = now - pending.sent_at
        early = waited < pending.message.wait_seconds / 2
        pending.message = replace(pending.message, wait_seconds=min(pending.wait_until - now, WAIT_SECONDS_MAX))
        self._last_number += 1
        self._send(self._last_number, pending, now, delay=REPEAT_SECONDS - waited if early else 0.0)

    def _on_reply(self, reply: m.ObjectPutReply | m.ObjectDeleteReply, now: float) -> list[Completion]:
        pending = self._pending.get(reply.request)
        if pending is None or not isinstance(pending.message, _asked_for(reply)):
            return []
        if reply.status == m.ObjectStatus.STORAGE_FULL and self._waits_for_room and now < pending.deadline:
            pending.refusal = reply.text
            self._refused_puts.add(reply.request)
            pause = min(FULL_PAUSE_SECONDS * (1 << min(pending.repeats, 10)), FULL_PAUSE_SECONDS_MAX)
            self._schedule(reply.request, pending, now + pause)
            return []
        self._finish(reply.request, now)
        if reply.status == m.ObjectStatus.DONE:
            return [Done(pending.request)]
        try:
            status = m.ObjectStatus(reply.status)
        except ValueError:
            status = m.ObjectStatus.MALFORMED
        return [Refused(pending.request, status, reply.text)]

    def _refuse_all(self, text: str) -> list[Completion]:
        everything: Iterable[_Pending] = (*self._pending.values(), *self._waiting_puts, *self._held_deletes)
        completions: list[Completion] = [
            Refused(pending.request, None, text) for pending in sorted(everything, key=lambda pending: pending.request)
        ]
        self._pending.clear()
        self._waiting_puts.clear()
        self._held_deletes.clear()
        self._unanswered_puts.clear()
        self._refused_puts.clear()
        self._timers.clear()
        self._window_bytes = self._pending_bytes = 0
        return completions

    # --- inside

    def _new_pending(
        self, message: m.ObjectPut | m.ObjectGet | m.ObjectDelete | m.ObjectsHeld, size_bytes: int = 0
    ) -> _Pending:
        if self.pending_count >= PENDING_MAX:
            raise TooManyRequestsError(f"{self.pending_count} requests to object storage are unanswered")
        self._last_number += 1
        return _Pending(self._last_number, message, size_bytes)

    def _fill_window(self, now: float) -> None:
        waiting = self._waiting_puts
        while waiting and (not self._window_bytes or self._window_bytes + waiting[0].size_bytes <= PUT_WINDOW_BYTES):
            pending = waiting.popleft()
            self._window_bytes += pending.size_bytes
            self._send(pending.request, pending, now)

    def _release_deletes(self, now: float) -> None:
        held, self._held_deletes = self._held_deletes, []
        for pending in held:
            assert isinstance(pending.message, m.ObjectDelete)
            if any(self._unanswered_puts[object_id] for object_id in pending.message.ids):
                self._held_deletes.append(pending)
            else:
                self._send(pending.request, pending, now)

    def _send(
        self, number: int, pending: _Pending, now: float, delay: float = 0.0, deadline: float | None = None
    ) -> None:
        """Send a request for the first time; with a delay, by the timer for repeats. `deadline` replaces the usual one."""
        pending.message.request = number
        pending.repeats = 0
        pending.sent_at = now
        pending.deadline = now + self._timeout_seconds + self._allowance(pending) if deadline is None else deadline
        self._pending[number] = pending
        self.introduce(now)
        if delay > 0:
            self._schedule(number, pending, now + delay)
        else:
            self._transmit(number, pending, now)

    def _transmit(self, number: int, pending: _Pending, now: float) -> None:
        pending.unheard = False
        self._schedule(number, pending, now + self._repeat_after(pending))
        if self._refused_text is None:
            self._outgoing.append(pending.message)

    def _schedule(self, number: int, pending: _Pending, due: float) -> None:
        pending.due = min(due, pending.deadline)
        heapq.heappush(self._timers, (pending.due, number))

    def _repeat_after(self, pending: _Pending) -> float:
        backed_off = REPEAT_SECONDS * (1 << min(pending.repeats, 10))
        return min(backed_off, REPEAT_SECONDS_MAX) + self._allowance(pending)

    def _allowance(self, pending: _Pending) -> float:
        """Return how many more seconds than usual this request may take."""
        if isinstance(pending.message, m.ObjectGet):
            return pending.message.wait_seconds
        # A put travels behind all puts of the window that left before it.
        return self._window_bytes / SLOWEST_BYTES_PER_SECOND if pending.size_bytes else 0.0

    def _finish(self, number: int, now: float) -> None:
        pending = self._pending.pop(number)
        if not isinstance(pending.message, m.ObjectPut):
            return
        object_id = pending.message.id
        self._refused_puts.discard(number)
        self._window_bytes -= pending.size_bytes
        self._pending_bytes -= pending.size_bytes
        self._unanswered_puts[object_id] -= 1
        if not self._unanswered_puts[object_id]:
            del self._unanswered_puts[object_id]
        self._fill_window(now)
        if self._held_deletes:
            self._release_deletes(now)


def _asked_for(reply: m.ObjectPutReply | m.ObjectDeleteReply) -> type[Any] | tuple[type[Any], ...]:
    if isinstance(reply, m.ObjectDeleteReply):
        return m.ObjectDelete
    if reply.status == m.ObjectStatus.UNREACHED:
        return m.ObjectGet
    return m.ObjectPut, m.ObjectsHeld


def _given_up(pending: _Pending, now: float) -> Refused | TimedOut:
    if pending.refusal:
        return Refused(pending.request, m.ObjectStatus.STORAGE_FULL, pending.refusal)
    return TimedOut(pending.request, now - pending.sent_at)
