"""What an object storage server must do for every object, whatever befalls it and the disk below it.

No answer has other bytes than were stored. An object that was confirmed is there until it is deleted, or the log names it as
lost, or the server died with the only copy. A put that is refused for lack of room names the limits. No limit is exceeded.
"""

from __future__ import annotations

from collections import Counter

from scaler_objstore.core import StoreCore, effects, events
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m
from simulation.disk import Disk, DiskThreads
from simulation.ledger import SimulationError

Contents = tuple[bytes, ...]

OF_HOMES: dict[type[m.Message], str] = {
    m.ObjectHomes: "answered with homes",
    m.ObjectWanted: "uploads wanted",
    m.ObjectDelete: "deletes at homes",
    m.ObjectsLost: "losses told",
}
"""What a centre says of objects in the stores of worker hosts: these messages are counted."""


class StorageWatch:
    """Looks at each turn of the servers of one run, which come one after the other."""

    def __init__(self, others: StorageWatch | None = None) -> None:
        """`others` watches other stores of the same run."""
        self._contents: dict[bytes, Contents] = {} if others is None else others._contents
        """What was sent in under each id, to whichever store. Ids are random, and objects never change."""
        self._present: dict[bytes, bytes] = {}
        """The objects of the living server before this turn, with their owners."""
        self._safe: set[bytes] = set()
        """Those that the disk had, whole, when the last server died."""
        self.lost: set[bytes] = set()
        """Those that the log has named."""
        self.deleted: set[bytes] = set()
        self.back_again: set[bytes] = set()
        """Deleted ones that a restart has found: their record was still there, or others have it. They end with their owner."""
        self._pieces: dict[tuple[bytes, int], tuple[int, int]] = {}
        """Offset and size of pieces that are asked for, by peer and request."""
        self.counts: Counter[str] = Counter() if others is None else others.counts

    def before(self, mail: list[events.Event]) -> None:
        """A turn begins, with these messages."""
        known = dict(self._present)
        for event in mail:
            message = event.message if isinstance(event, events.Incoming) else None
            if isinstance(message, m.ObjectGet) and message.size:
                assert isinstance(event, events.Incoming)
                self._pieces[event.peer, message.request] = message.offset, message.size
            if isinstance(message, m.ObjectPut) and not message.incomplete:
                content = tuple(bytes(buffer) for buffer in message.buffers)
                if self._contents.setdefault(message.id, content) != content:
                    raise SimulationError(f"object {short(message.id)} is sent with other bytes than before")
                known[message.id] = message.owner
            elif isinstance(message, m.ObjectDelete):
                self.deleted.update(message.ids or [one for one, owner in known.items() if owner == message.owner])

    def after(self, core: StoreCore, due: list[effects.Effect], now: float) -> None:
        """A turn is over, with these effects."""
        present = {one.id: one.owner for one in core._state.catalogue.all()}
        for effect in due:
            if isinstance(effect, effects.Send):
                self._check_answer(core, effect.peer, effect.message, present)
            elif isinstance(effect, effects.Log) and " lost (" in effect.text:
                named = {one for one in self._present if one.hex() in effect.text}
                self.counts["lost"] += len(named)
                self.lost |= named
            elif isinstance(effect, effects.Spill | effects.Load | effects.Discard):
                self.counts[type(effect).__name__.lower()] += 1
        for object_id, owner in self._present.items() - present.items():
            ended = core._state.ended_owners.has(owner, now)
            if not (ended or object_id in self.deleted or object_id in self.lost):
                raise SimulationError(f"object {short(object_id)} has vanished, and nothing says so")
        self._present = present

    def check_limits(self, core: StoreCore, disk: Disk, threads: DiskThreads) -> None:
        """Check what is really on the disk."""
        tiering = core._state.tiering
        assert tiering is not None
        used = sum(record.size_bytes for name, record in disk.records.items() if name not in threads.discarding)
        if used > tiering.most_bytes:
            raise SimulationError(f"{used} bytes are on the disk, and {tiering.most_bytes} are allowed")

    def died(self, core: StoreCore, disk: Disk | None, threads: DiskThreads | None) -> None:
        """The server was killed."""
        self._present = {}
        tiering = core._state.tiering
        if tiering is None or disk is None or threads is None:
            return
        self._safe = {
            object_id
            for name in tiering.names()
            if (record := disk.records.get(name)) and not record.is_damaged and name not in threads.discarding
            for object_id in tiering._copies[name].content.object_ids
            if name not in tiering._writing
        }

    def started(self, core: StoreCore) -> None:
        """Another one has taken over the disk."""
        self._present = {one.id: one.owner for one in core._state.catalogue.all()}
        self.counts["restored"] += len(self._present)
        gone = self._safe - set(self._present)
        if gone:
            raise SimulationError(f"{len(gone)} objects that were on the disk are not there after a restart")
        self._safe = set()
        self.back_again |= self.deleted & set(self._present)

    def _check_answer(self, core: StoreCore, peer: bytes, message: m.Message, present: dict[bytes, bytes]) -> None:
        if type(message) in OF_HOMES:
            self.counts[OF_HOMES[type(message)]] += 1
        if isinstance(message, m.ObjectData) and (peer, message.request) in self._pieces:
            offset, size = self._pieces.pop((peer, message.request))
            whole = b"".join(self._contents.get(message.id, ()))
            if not message.missing and b"".join(map(bytes, message.buffers)) != whole[offset : offset + size]:
                raise SimulationError(f"a piece of object {short(message.id)} is served with other bytes than it has")
        elif isinstance(message, m.ObjectData) and not message.missing:
            self.counts["served"] += 1
            if tuple(bytes(buffer) for buffer in message.buffers) != self._contents.get(message.id):
                raise SimulationError(f"object {short(message.id)} is served with other bytes than it was stored with")
        elif isinstance(message, m.ObjectData):
            if message.id in present and message.id in self._present:
                raise SimulationError(f"object {short(message.id)} is there, and was called missing")
        elif isinstance(message, m.ObjectPutReply) and message.status == m.ObjectStatus.STORAGE_FULL:
            self.counts["refused"] += 1
            below = "--storage-path" if core._state.tiering is None else "--disk-limit-bytes"
            if "--memory-limit-bytes" not in message.text or below not in message.text:
                raise SimulationError(f"a put is refused without naming the limits: {message.text}")
