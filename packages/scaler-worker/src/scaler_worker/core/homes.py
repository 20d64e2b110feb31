"""Which store each large value of this host goes to and comes from. Pure: the shell performs the steps, and reports back.

With a store on this host (a *home*), a result goes there, and the object storage server of the cluster only hears that it is
there. Without one, or when it takes nothing, the result goes to that server, the *centre*. An object is asked for at the centre,
which may name the homes that have it; if none of them can be reached, the centre gets the object itself, through its agent.

A large object is fetched in pieces into the store of this host, where it becomes a *copy*: other hosts fetch it from here, also
while it comes. The centre says from which store each host fetches, and has copies deleted as it has results. Copies take at most
`copies_bytes_max`; what finds no room there is fetched as without a store.

Each `FetchObject` and `PutObject` ends in exactly one `Report`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scaler_worker.core import effects, events

HOME = ""
"""In `FetchAt`: the store of this host."""

CENTRE = ""
"""In `FetchPieces`: the centre."""

COPIES_BYTES_MAX = 1024**3

UNREACHED_SECONDS = 60.0
"""How long a home that could not be reached is left alone."""

UNREACHED_MAX = 10_000
"""Homes of which that is known at most."""


@dataclass(slots=True, frozen=True)
class PutAtHome:
    """Put an object of the host's cache into the store of this host. `on_put_at_home` follows."""

    effect: effects.PutObject


@dataclass(slots=True, frozen=True)
class PutAtCentre:
    """Put an object of the host's cache into the centre. Its end is reported as it is."""

    effect: effects.PutObject


@dataclass(slots=True, frozen=True)
class TellHeld:
    """Tell the centre that the store of this host has objects. `on_held` follows, with `request` (0: of no put)."""

    request: int
    owner: bytes
    ids: tuple[bytes, ...]
    are_copies: bool = False


@dataclass(slots=True, frozen=True)
class TellGone:
    """Tell the centre that the store of this host does not have these objects."""

    ids: tuple[bytes, ...]


@dataclass(slots=True, frozen=True)
class DeleteAtHome:
    """Delete objects from the store of this host."""

    owner: bytes
    ids: tuple[bytes, ...]


@dataclass(slots=True, frozen=True)
class FetchAtCentre:
    """Get an object from the centre; with `follows`, it may name homes instead (`on_homes`), with `pieces` its layout."""

    effect: effects.FetchObject
    follows: bool
    pieces: bool = False


@dataclass(slots=True, frozen=True)
class FetchAt:
    """Get an object from the store at `address`. `on_fetched_at` follows, or with `pieces` `on_layout`."""

    effect: effects.FetchObject
    address: str
    pieces: bool = False


@dataclass(slots=True, frozen=True)
class AskSources:
    """Ask the centre from where to fetch an object into the store of this host. `on_sources` follows."""

    effect: effects.FetchObject


@dataclass(slots=True, frozen=True)
class FetchPieces:
    """Fetch an object into the store of this host. `on_pieces` follows."""

    effect: effects.FetchObject
    owner: bytes
    lengths: tuple[int, ...]
    """The bytes of its buffers."""
    addresses: tuple[str, ...]
    """Where from, best first; `CENTRE` among them."""


@dataclass(slots=True, frozen=True)
class Upload:
    """Read an object from the store of this host and put it into the centre. `on_uploaded` follows."""

    id: bytes
    owner: bytes


@dataclass(slots=True, frozen=True)
class Report:
    """Tell the agent's core."""

    event: events.ObjectFetched | events.ObjectStored


Step = (
    PutAtHome
    | PutAtCentre
    | TellHeld
    | TellGone
    | DeleteAtHome
    | FetchAtCentre
    | FetchAt
    | AskSources
    | FetchPieces
    | Upload
    | Report
)

HELD_TOLD_MAX = 10_000
"""Objects that one message names at most."""


@dataclass(slots=True)
class _Fetch:
    effect: effects.FetchObject
    addresses: list[str] = field(default_factory=list)
    """Homes that were not asked yet."""
    trouble: str = ""
    """Why the home that was asked last did not give it."""
    owner: bytes = b""
    lengths: tuple[int, ...] = ()
    """Its layout, if it is fetched in pieces."""
    is_whole: bool = False
    """Whether it is not to come in pieces, or not any more."""


class Homes:
    """What is under way between this host, its own store, the centre and other homes."""

    def __init__(self, copies_bytes_max: int = COPIES_BYTES_MAX) -> None:
        self._copies_bytes_max = copies_bytes_max
        self._copies: dict[bytes, int] = {}
        """Objects in the store of this host that were fetched from elsewhere, or are being, and their bytes."""
        self._copies_bytes = 0
        self.has_home = False
        """Whether there is a store on this host that answers."""
        self.takes_homes = False
        """Whether the centre wants to hear what it has."""
        self._steps: list[Step] = []
        self._held: dict[bytes, bytes] = {}
        """Objects in the store of this host, and their owners."""
        self._puts: dict[int, effects.PutObject] = {}
        self._fetches: dict[int, _Fetch] = {}
        self._uploads: set[bytes] = set()
        self._undeleted: dict[bytes, bytes] = {}
        """Objects that the store of this host was to delete and may have still, and their owners."""
        self._unreached: dict[str, float] = {}
        """Homes that could not be reached, and until when they are not asked."""

    def take_steps(self) -> list[Step]:
        """Return what is to be done, in order, and forget it."""
        steps, self._steps = self._steps, []
        return steps

    # --- results

    def put(self, effect: effects.PutObject) -> None:
        """Store an object of the host's cache."""
        if self.has_home and self.takes_homes:
            self._puts[effect.request] = effect
            self._steps.append(PutAtHome(effect))
        else:
            self._steps.append(PutAtCentre(effect))

    def on_put_at_home(self, event: events.ObjectStored) -> None:
        """How a put into the store of this host has ended. If it was refused, the object goes to the centre."""
        effect = self._puts[event.request]
        if event.lost:
            del self._puts[event.request]
            self._steps.append(Report(event))
        elif event.error:
            del self._puts[event.request]
            self._steps.append(PutAtCentre(effect))
        else:
            self._held[effect.id] = effect.owner
            self._undeleted.pop(effect.id, None)
            self._delete_again()
            self._steps.append(TellHeld(effect.request, effect.owner, (effect.id,)))

    def on_held(self, step: TellHeld, error: str, *, is_refused: bool = False) -> None:
        """The centre has heard what this host has; with `error` it has not, or it refuses that (`is_refused`)."""
        is_of_put = self._puts.pop(step.request, None) is not None
        if is_refused or (error and (is_of_put or step.are_copies)):
            self._delete(step.owner, step.ids)
        if is_of_put:
            self._steps.append(Report(events.ObjectStored(step.request, error)))

    # --- arguments

    def fetch(self, effect: effects.FetchObject) -> None:
        """Get an object into the host's cache."""
        self._fetches[effect.request] = _Fetch(effect, is_whole=effect.whole)
        if effect.id in self._held:
            self._steps.append(FetchAt(effect, HOME))
        else:
            self._steps.append(
                FetchAtCentre(effect, follows=True, pieces=self._takes_copy(self._fetches[effect.request]))
            )

    def _takes_copy(self, fetch: _Fetch) -> bool:
        return self.has_home and self.takes_homes and not fetch.is_whole and fetch.effect.id not in self._copies

    def on_layout(self, request: int, owner: bytes, lengths: tuple[int, ...]) -> None:
        """A store that was asked for an object says that it is large."""
        fetch, size = self._fetches[request], sum(lengths)
        if fetch.effect.id in self._held:
            # It was made here meanwhile.
            self._steps.append(FetchAt(fetch.effect, HOME))
            return
        if not self._takes_copy(fetch) or self._copies_bytes + size > self._copies_bytes_max:
            self._fetch_whole(fetch)
            return
        fetch.owner, fetch.lengths = owner, lengths
        self._copies[fetch.effect.id] = size
        self._copies_bytes += size
        self._steps.append(AskSources(fetch.effect))

    def on_sources(self, request: int, addresses: tuple[str, ...], now: float) -> None:
        """The centre says from where to fetch an object into the store of this host; nothing: it cannot."""
        fetch = self._fetches[request]
        reached = tuple([one for one in addresses if one == CENTRE or self._unreached.get(one, now) <= now])
        if reached:
            self._steps.append(FetchPieces(fetch.effect, fetch.owner, fetch.lengths, reached))
        else:
            self._end_copy(fetch)

    def on_pieces(self, request: int, error: str) -> None:
        """How fetching an object into the store of this host has ended."""
        fetch = self._fetches[request]
        object_id = fetch.effect.id
        if error:
            fetch.trouble = error
            if object_id not in self._held:
                self._steps.append(DeleteAtHome(fetch.owner, (object_id,)))
            self._end_copy(fetch)
            return
        self._held[object_id] = fetch.owner
        self._undeleted.pop(object_id, None)
        self._steps += [TellHeld(0, fetch.owner, (object_id,), are_copies=True), FetchAt(fetch.effect, HOME)]

    def _end_copy(self, fetch: _Fetch) -> None:
        """An object does not come into the store of this host. It is fetched as without one."""
        object_id = fetch.effect.id
        if object_id in self._held:
            # It was made here meanwhile.
            self._copies_bytes -= self._copies.pop(object_id, 0)
            self._steps.append(FetchAt(fetch.effect, HOME))
            return
        self._forget(object_id)
        self._steps.append(TellGone((object_id,)))
        self._fetch_whole(fetch)

    def _fetch_whole(self, fetch: _Fetch) -> None:
        fetch.addresses, fetch.is_whole = [], True
        self._steps.append(FetchAtCentre(fetch.effect, follows=True))

    def _forget(self, object_id: bytes) -> None:
        """The store of this host does not have an object, or not any more."""
        self._held.pop(object_id, None)
        self._copies_bytes -= self._copies.pop(object_id, 0)

    def on_homes(self, request: int, addresses: tuple[str, ...], now: float) -> None:
        """The centre names homes that have the object of a fetch."""
        fetch = self._fetches[request]
        fetch.addresses = [address for address in addresses if self._unreached.get(address, now) <= now]
        self._ask_next(fetch)

    def on_fetched_at(self, event: events.ObjectFetched, address: str, now: float, *, unreached: bool = False) -> None:
        """How a fetch from a home has ended. `unreached`: there was no connection to it."""
        fetch = self._fetches[event.request]
        if unreached:
            if len(self._unreached) >= UNREACHED_MAX:
                self._unreached.clear()
            self._unreached[address] = now + UNREACHED_SECONDS
        if event.missing or event.error:
            fetch.trouble = f"the store at {address or 'this host'}: {event.error or 'does not have it'}"
            self._ask_next(fetch)
            return
        del self._fetches[event.request]
        self._steps.append(Report(event))

    def on_fetched_at_centre(self, event: events.ObjectFetched) -> None:
        """How a fetch from the centre has ended."""
        fetch = self._fetches.pop(event.request)
        if event.error and fetch.trouble:
            event = replace(event, error=f"{event.error} ({fetch.trouble})")
        self._steps.append(Report(event))

    def _ask_next(self, fetch: _Fetch) -> None:
        if fetch.addresses:
            pieces = self._takes_copy(fetch)
            self._steps.append(FetchAt(fetch.effect, fetch.addresses.pop(0), pieces))
        else:
            self._steps.append(FetchAtCentre(fetch.effect, follows=False))

    # --- what the centre wants

    def on_delete(self, owner: bytes, ids: tuple[bytes, ...]) -> None:
        """Objects of this host are not needed any more. Doing it twice does no harm."""
        self._delete(owner, ids)
        # What is on its way to the centre would come back there if that forgot the delete before it arrives.
        gone = tuple([object_id for object_id in ids if object_id not in self._uploads])
        if gone:
            self._steps.append(TellGone(gone))

    def on_deleted_at_home(self, step: DeleteAtHome, error: str) -> None:
        """How a delete in the store of this host has ended. With `error` it follows again, once the store answers."""
        if not error:
            self._delete_again()
        elif self.has_home:
            self._undeleted.update(dict.fromkeys(step.ids, step.owner))

    def on_wanted(self, object_id: bytes) -> None:
        """Somebody asks the centre for an object of this host."""
        owner = self._held.get(object_id)
        if owner is None:
            self._steps.append(TellGone((object_id,)))
        elif object_id not in self._uploads:
            self._uploads.add(object_id)
            self._steps.append(Upload(object_id, owner))

    def on_uploaded(self, object_id: bytes, *, is_lost: bool = False) -> None:
        """An upload is over. `is_lost`: the store of this host did not have the object after all."""
        self._uploads.discard(object_id)
        if is_lost:
            self._forget(object_id)
        if object_id not in self._held:
            self._steps.append(TellGone((object_id,)))

    def hand_over(self) -> int:
        """This host leaves: upload everything that only it has. Return how many uploads that are."""
        for object_id in self._held:
            if object_id not in self._copies:
                self.on_wanted(object_id)
        return len(self._uploads)

    @property
    def uploads(self) -> int:
        """How many uploads are under way."""
        return len(self._uploads)

    # --- stores that come and go

    def on_centre(self, takes_homes: bool) -> None:
        """Another centre answers, which does not know what this host has."""
        self.takes_homes = takes_homes
        by_owner: dict[bytes, list[bytes]] = {}
        for object_id, owner in self._held.items():
            by_owner.setdefault(owner, []).append(object_id)
        for owner, ids in by_owner.items() if takes_homes else ():
            for start in range(0, len(ids), HELD_TOLD_MAX):
                self._steps.append(TellHeld(0, owner, tuple(ids[start : start + HELD_TOLD_MAX])))

    def on_home_ended(self) -> None:
        """The store of this host has ended, with all objects."""
        self.has_home = False
        ids = tuple(self._held)
        for object_id in ids:
            self._forget(object_id)
        self._undeleted.clear()
        for start in range(0, len(ids), HELD_TOLD_MAX):
            self._steps.append(TellGone(ids[start : start + HELD_TOLD_MAX]))

    def _delete(self, owner: bytes, ids: tuple[bytes, ...]) -> None:
        held = tuple([object_id for object_id in ids if self._held.get(object_id) == owner])
        for object_id in held:
            self._forget(object_id)
        if held:
            self._steps.append(DeleteAtHome(owner, held))

    def _delete_again(self) -> None:
        undeleted, self._undeleted = self._undeleted, {}
        by_owner: dict[bytes, list[bytes]] = {}
        for object_id, owner in undeleted.items():
            by_owner.setdefault(owner, []).append(object_id)
        self._steps += [DeleteAtHome(owner, tuple(ids)) for owner, ids in by_owner.items()]

    @property
    def held(self) -> int:
        """How many objects the store of this host has."""
        return len(self._held)
