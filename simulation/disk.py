"""The disk below a simulated object storage server: slow, full, failing, damaged. What is on it outlives the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from scaler_objstore.core import effects, events
from simulation.clock import Clock

DISCARD_RETRY_S = 5.0
"""As in `scaler_objstore.tier_threads`."""

ALL_AT_ONCE = 13
"""How many operations threads do at the same time."""


@dataclass(slots=True, frozen=True)
class StoredRecord:
    """One file."""

    header: bytes
    buffers: tuple[bytes, ...]
    is_damaged: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.buffers))


class Disk:
    """Records by name, and what is wrong with the disk at the moment."""

    def __init__(self, random: Random) -> None:
        self.records: dict[str, StoredRecord] = {}
        self.seconds = random.choice((0.0002, 0.01, 0.2))
        """How long an operation takes, about."""
        self.refuses_writes = ""
        """Why, if it does."""
        self.refuses_all = ""
        self.operations = 0

    def damage(self, random: Random) -> None:
        """One record is torn; its header is still readable."""
        if self.records:
            name = random.choice(sorted(self.records))
            record = self.records[name]
            self.records[name] = StoredRecord(record.header, record.buffers, is_damaged=True)

    def heal(self) -> None:
        """It works from now on. What is damaged stays damaged."""
        self.refuses_writes = self.refuses_all = ""

    def stored(self) -> list[events.StoredContent]:
        """What a server finds at its start."""
        return [events.StoredContent(name, record.header) for name, record in sorted(self.records.items())]


class DiskThreads:
    """Does for one server what it asks of the disk, each operation some time later. It ends with the server."""

    def __init__(self, disk: Disk, clock: Clock, random: Random, report: Callable[[events.TierEvent], None]) -> None:
        self._disk = disk
        self._clock = clock
        self._random = random
        self._report = report
        self._busy = 0
        self._due: list[Callable[[], None]] = []
        self.discarding: set[str] = set()
        """What is to be deleted, and may still be there."""
        self.ended = False

    def perform(self, effect: effects.Spill | effects.Load | effects.Discard) -> None:
        """Begin what the core wants done."""
        if isinstance(effect, effects.Spill):
            # The buffers are those of the server's memory: what is written is what they hold now.
            record = StoredRecord(effect.header, tuple(bytes(buffer) for buffer in effect.buffers))
            self._begin(lambda: self._write(effect.name, record))
        elif isinstance(effect, effects.Load):
            self._begin(lambda: self._read(effect.name))
        else:
            self.discarding.update(effect.names)
            self._begin(lambda: self._delete(effect.names))

    def _begin(self, operation: Callable[[], None]) -> None:
        self._due.append(operation)
        self._next()

    def _next(self) -> None:
        while self._due and self._busy < ALL_AT_ONCE:
            operation = self._due.pop(0)
            self._busy += 1
            self._clock.after(self._delay(), lambda operation=operation: self._do(operation))  # type: ignore[misc]

    def _do(self, operation: Callable[[], None]) -> None:
        if self.ended:
            return
        self._disk.operations += 1
        operation()
        self._busy -= 1
        self._next()

    def _delay(self) -> float:
        return self._random.uniform(0.0, 2 * self._disk.seconds)

    def _tell(self, event: events.TierEvent) -> None:
        # The server learns it later than it happens, and may be killed in between.
        self._clock.after(self._delay(), lambda: None if self.ended else self._report(event))

    def _write(self, name: str, record: StoredRecord) -> None:
        why = self._disk.refuses_all or self._disk.refuses_writes
        if why and self._random.random() < 0.1:
            # It is there although its writer was told otherwise.
            self._disk.records[name] = record
        if why:
            self._tell(events.SpillFailed(name, why))
            return
        self._disk.records[name] = record
        self._tell(events.Spilled(name))

    def _read(self, name: str) -> None:
        record = self._disk.records.get(name)
        if self._disk.refuses_all:
            self._tell(events.LoadFailed(name, self._disk.refuses_all, is_lost=False))
        elif record is None:
            self._tell(events.LoadFailed(name, f"there is no record {name}", is_lost=True))
        elif record.is_damaged:
            self._tell(events.LoadFailed(name, f"record {name} is damaged", is_lost=True))
        else:
            self._tell(events.Loaded(name, list(record.buffers)))

    def _delete(self, names: Sequence[str]) -> None:
        if self._disk.refuses_all:
            self._clock.after(DISCARD_RETRY_S, lambda: self._begin(lambda: self._delete(names)))
            return
        for name in names:
            self._disk.records.pop(name, None)
            self.discarding.discard(name)
