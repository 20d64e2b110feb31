"""Counted resources: which waiting tasks begin where, so that never more is in use than there is and no task waits for ever.

Tasks that need the same amounts and are equally deep wait in one *line*. A task is sent to a host only when all it needs is free
there now: nothing is sent ahead. What it is given is a *grant*, and counts until the host says that the task has left.

A line that finds nothing free is overtaken by lines that need less, for `PATIENCE_SECONDS`. From then on it has a *reservation*,
on one host and in the cluster's limits: other tasks may take there only what it does not need. So its next task begins once those
are done that ran there before, and those of the lines that have waited longer. Only deeper tasks still go ahead: what runs there
may wait for them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from scaler_protocol.runtime.resources import GPU, NO_AMOUNTS, ONE, Amounts, CountedAmounts

PATIENCE_SECONDS = 5.0
"""So long may others that need less go ahead."""

HOST_WORK = 16
"""Looking at so many hosts costs as much as placing a task."""

FIRST_LINES = 32
"""How many lines of one depth are looked at each time: those that have waited longest."""

FURTHER_LINES = 32
"""How many of the others are, in turn. So a pass costs no more where every task needs another amount."""

OFFERS_KEPT = 256
"""How many different offers of hosts are remembered."""

Key = tuple[bytes, int]
"""A task: its client, and its number."""


class Grant:
    """What one task has while it is at a host."""

    __slots__ = ("attempt", "depth", "devices", "of_cluster", "of_host", "order")

    def __init__(
        self, of_host: Amounts, of_cluster: Amounts, devices: tuple[str, ...], attempt: int, depth: int, order: int
    ) -> None:
        self.of_host = of_host
        self.of_cluster = of_cluster
        self.devices = devices
        self.attempt = attempt
        self.depth = depth
        self.order = order
        """Grows with every grant."""


class Reservation:
    """What others may take of the amounts that one line needs, until its next task has begun."""

    __slots__ = ("budget", "depth", "devices", "order")

    def __init__(
        self, there_is: CountedAmounts, need: Amounts, devices: frozenset[str], depth: int, order: int
    ) -> None:
        offered = dict(there_is.offered)
        # Devices are reserved as such: two halves that are free on two GPUs are no GPU.
        self.budget = {name: offered[name] - amount for name, amount in need if name != GPU or not devices}
        self.devices = devices
        self.depth = depth
        self.order = order
        """That of the last grant before it."""

    def times(self, amounts: Amounts, limit: int) -> int:
        """Return how often others may take these amounts, at most `limit` times."""
        budget = self.budget
        return max(0, min([limit, *(budget[name] // amount for name, amount in amounts if name in budget)]))

    def note(self, amounts: Amounts, sign: int) -> None:
        """So much is taken (1), or given back (-1), by a task that has begun since."""
        budget = self.budget
        for name, amount in amounts:
            if name in budget:
                budget[name] -= sign * amount


class HostAmounts:
    """What one host offers, and which tasks have what of it."""

    __slots__ = ("amounts", "depths", "devices", "granted", "is_known", "left", "reservation")

    def __init__(self, offered: Amounts = NO_AMOUNTS, devices: Iterable[str] = ()) -> None:
        self.amounts = CountedAmounts(offered)
        self.devices = dict.fromkeys(devices, 0)
        """By device: how much of it is in use."""
        self.granted: dict[Key, Grant] = {}
        self.left: dict[bytes, list[Grant]] = {}
        """By clients that are gone: what their tasks still have, until the host says that they have ended."""
        self.depths: dict[int, int] = {}
        """By depth: how many tasks have something here."""
        self.is_known = False
        """Whether the host has said what is in use there."""
        self.reservation: Reservation | None = None

    def all_grants(self) -> Iterator[Grant]:
        """Iterate over all that is in use."""
        yield from self.granted.values()
        for grants in self.left.values():
            yield from grants

    def deeper_count(self, depth: int) -> int:
        """Return how many tasks of this depth or deeper have something here."""
        return sum(count for other, count in self.depths.items() if other >= depth)


class CountingHost(Protocol):
    """A host, as these rules see it."""

    @property
    def resources(self) -> HostAmounts:
        """What it offers, and what is in use."""

    @property
    def slots(self) -> int:
        """Tasks it can run at once."""

    @property
    def assigned(self) -> int:
        """Tasks it holds."""

    @property
    def spare(self) -> int:
        """Tasks it would take now."""


Host = TypeVar("Host", bound=CountingHost)


class Wait:
    """How a line waits."""

    __slots__ = ("host", "seen", "since")

    def __init__(self) -> None:
        self.since = inf
        """Since when its next task has found nothing free; inf: it has not looked in vain."""
        self.host: Any = None
        """Where it has a reservation; None: nowhere."""
        self.seen = -1
        """What `ResourceRules.changes` was when it last looked in vain; -1: it has not, or there was no room for tasks."""


class WaitingLine(Protocol):
    """Waiting tasks that need the same."""

    @property
    def amounts(self) -> Amounts:
        """What each of them needs."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def depth(self) -> int:
        """How deeply they are nested."""

    @property
    def is_held(self) -> bool:
        """Whether none of them may run now for another reason than amounts."""

    @property
    def wait(self) -> Wait:
        """How they wait."""


Line = TypeVar("Line", bound=WaitingLine)


class _Level(Generic[Line]):
    """The lines of one depth."""

    __slots__ = ("in_turn", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[Line, None] = OrderedDict()
        """That which has waited longest first."""
        self.in_turn: OrderedDict[Line, None] = OrderedDict()
        """The same, that which was looked at last at the end."""

    def next_ones(self) -> list[Line]:
        """Return the lines to look at now."""
        if len(self.waiting) <= FIRST_LINES + FURTHER_LINES:
            return list(self.waiting)
        chosen = dict.fromkeys(islice(self.waiting, FIRST_LINES))
        for line in list(islice(self.in_turn, FURTHER_LINES)):
            self.in_turn.move_to_end(line)
            chosen[line] = None
        return list(chosen)


class Lines(Generic[Line]):
    """All lines with tasks, by depth."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level[Line]] = {}
        self._aside: dict[Line, None] = {}

    def __iter__(self) -> Iterator[Line]:
        for level in self._levels.values():
            yield from level.waiting
        yield from self._aside

    @property
    def has_waiting(self) -> bool:
        """Whether there are lines that may be served by some host."""
        return bool(self._levels)

    def levels(self) -> list[list[Line]]:
        """Return the lines to look at now, the deepest ones first."""
        return [self._levels[depth].next_ones() for depth in sorted(self._levels, reverse=True)]

    def add(self, line: Line) -> None:
        """A line has tasks."""
        level = self._levels.setdefault(line.depth, _Level())
        level.waiting[line] = None
        level.in_turn[line] = None

    def discard(self, line: Line) -> None:
        """A line has no tasks any more."""
        self._aside.pop(line, None)
        level = self._levels.get(line.depth)
        if level is not None and line in level.waiting:
            del level.waiting[line]
            del level.in_turn[line]
            if not level.waiting:
                del self._levels[line.depth]

    def note_served(self, line: Line) -> None:
        """The next task of a line has waited for less long than those of others."""
        level = self._levels.get(line.depth)
        if level is not None and line in level.waiting:
            level.waiting.move_to_end(line)

    def is_aside(self, line: Line) -> bool:
        """Whether no host can serve this line, as far as it has been looked at."""
        return line in self._aside

    def set_aside(self, line: Line) -> None:
        """No host can ever serve this line, until `restore`."""
        self.discard(line)
        self._aside[line] = None

    def restore(self) -> None:
        """There are other hosts: look at all lines again."""
        aside, self._aside = self._aside, {}
        for line in aside:
            self.add(line)


class ResourceRules(Generic[Host]):
    """Counts what is in use, and decides who is next. `changes` grows when more may have become free anywhere."""

    def __init__(self, limits: Amounts = NO_AMOUNTS) -> None:
        self.limits = CountedAmounts(limits)
        """What there is for the whole cluster. What is named here is counted here only, and not at hosts."""
        self.limits_are_known = True
        """Whether all that is in use of the limits is counted; else nothing of them is given."""
        self.changes = 0
        self._order = 0
        self._hosts_changed = False
        self._reserved: dict[Any, None] = {}
        """The lines with a reservation on a host."""
        self._limits_line: Any = None
        """The one of these that has a reservation in the limits too."""
        self._limits_reservation: Reservation | None = None
        self._offers: dict[tuple[frozenset[str], Amounts], None] = {}

    # --- counting

    def grant(self, host: Host, key: Key, amounts: Amounts, devices: tuple[str, ...], attempt: int, depth: int) -> None:
        """A task is at a host from now on, or was there already; whatever it has is in use, whether it fits or not."""
        self.release(host, key)
        self._order += 1
        of_host, of_cluster = self.parted(amounts)
        grant = Grant(of_host, of_cluster, devices, attempt, depth, self._order)
        host.resources.granted[key] = grant
        self._count(host.resources, grant, 1)

    def release(self, host: Host, key: Key, attempt: int | None = None) -> bool:
        """A host says that a task, or this attempt, has left it. Return whether it had anything."""
        resources = host.resources
        grant = resources.granted.get(key)
        if grant is None or (attempt is not None and grant.attempt & 0xFFFF != attempt):
            return False
        del resources.granted[key]
        self._count(resources, grant, -1)
        return True

    def leave(self, host: Host, client: bytes) -> bool:
        """A client is gone: what its tasks have at a host stays in use until `free`. Return whether that is anything."""
        granted = host.resources.granted
        keys = [key for key in granted if key[0] == client]
        if keys:
            host.resources.left.setdefault(client, []).extend([granted.pop(key) for key in keys])
        return bool(keys)

    def free(self, host: Host, client: bytes) -> None:
        """A host says that no task of a client that is gone has anything there any more."""
        for grant in host.resources.left.pop(client, ()):
            self._count(host.resources, grant, -1)

    def remove_host(self, host: Host) -> None:
        """A host is gone, with all that runs there."""
        resources = host.resources
        for line in [line for line in self._reserved if line.wait.host is host]:
            self._unreserve(line)
        for grant in list(resources.all_grants()):
            self._count(resources, grant, -1)
        resources.granted.clear()
        resources.left.clear()
        self.note_hosts()

    def note_known(self, host: Host) -> None:
        """A host has said which tasks have something there."""
        host.resources.is_known = True
        self.note_hosts()

    def note_hosts(self) -> None:
        """A host has come or gone, or gets no new tasks, or may have tasks again."""
        self._hosts_changed = True
        self.changes += 1

    def note_offer(self, names: frozenset[str], offered: Amounts) -> None:
        """A host with these capabilities has come, and offers this."""
        if len(self._offers) < OFFERS_KEPT:
            self._offers[names, offered] = None

    def note_change(self) -> None:
        """Something else than a host has changed."""
        self.changes += 1

    # --- what could be

    def parted(self, amounts: Amounts) -> tuple[Amounts, Amounts]:
        """Return what of some amounts is counted at hosts, and what for the whole cluster."""
        limits = self.limits
        of_cluster = tuple(item for item in amounts if item[0] in limits)
        if not of_cluster:
            return amounts, NO_AMOUNTS
        return tuple(item for item in amounts if item[0] not in limits), of_cluster

    def can_serve(self, amounts: Amounts, hosts: Iterable[Host]) -> bool:
        """Whether one of the hosts, and the cluster, have enough when nothing is in use."""
        of_host, of_cluster = self.parted(amounts)
        return self.limits.could_serve(of_cluster) and any(_could_serve(host.resources, of_host) for host in hosts)

    def could_come(self, signature: frozenset[str], amounts: Amounts) -> bool:
        """Whether a new host with these capabilities may serve an ask, as far as those tell that have been here."""
        of_host, of_cluster = self.parted(amounts)
        if not self.limits.could_serve(of_cluster):
            return False
        offers = [offered for names, offered in self._offers if signature <= names]
        return not offers or any(CountedAmounts(offered).could_serve(of_host) for offered in offers)

    def wanted_times(self, amounts: Amounts, count: int) -> int:
        """Return how many of so many waiting tasks the limits of the cluster let begin now."""
        return self.limits.times(self.parted(amounts)[1], count)

    def lacks_amounts(self, line: Line, hosts: Iterable[Host]) -> bool:
        """Whether a line waits because what its tasks need is in use, rather than because workers are busy. For people."""
        of_host, of_cluster = self.parted(line.amounts)
        gpu = dict(of_host).get(GPU, 0)
        return not self.limits.fits(of_cluster) or not any(
            self._times(line, host, of_host, gpu, 1) for host in hosts if _counts(host.resources)
        )

    # --- who is next

    def place(
        self,
        lines: Lines[Line],
        hosts_of: Callable[[Line], Sequence[Collection[Host]]],
        assign: Callable[[Line, Host, int, Amounts, tuple[str, ...]], int],
        note_servable: Callable[[Line, bool], None],
        now: float,
        work_max: int,
    ) -> int:
        """Let those tasks begin that may. Return how much work that was, in tasks.

        `hosts_of` returns the hosts that may have a line's tasks at all, the preferred ones first, apart. `assign` takes up to
        so many tasks from a line and gives them to a host, with what each has there and its devices, calls `grant` for them, and
        returns how many they were; 0: the host takes none of them now, for another reason than amounts.
        `note_servable` hears whether there is a host that could ever serve a line.
        """
        for line in [line for line in self._reserved if not line.count]:
            self._unreserve(line)
        if self._hosts_changed:
            self._hosts_changed = False
            lines.restore()
        work = 0
        for level in lines.levels():
            for line in level:
                if work >= work_max:
                    return work
                work += self._look(lines, line, hosts_of, assign, note_servable, now, work_max - work)
        return work

    def _look(
        self,
        lines: Lines[Line],
        line: Line,
        hosts_of: Callable[[Line], Sequence[Collection[Host]]],
        assign: Callable[[Line, Host, int, Amounts, tuple[str, ...]], int],
        note_servable: Callable[[Line, bool], None],
        now: float,
        work_max: int,
    ) -> int:
        wait = line.wait
        if line.is_held:
            # What it waits for is no amount, so that it reserves none.
            self._unreserve(line)
            wait.since, wait.seen = inf, -1
            return 1
        is_patient = now - wait.since >= PATIENCE_SECONDS
        if wait.seen == self.changes and not (is_patient and wait.host is None):
            return 0
        of_host, of_cluster = self.parted(line.amounts)
        ranks = hosts_of(line)
        work = 1 + sum(map(len, ranks)) // HOST_WORK
        able = [[host for host in rank if _could_serve(host.resources, of_host)] for rank in ranks]
        hosts = [host for rank in able for host in rank]
        if wait.host is not None and wait.host not in hosts:
            # That one gets no new tasks any more.
            self._unreserve(line)
        is_servable = bool(hosts) and self.limits.could_serve(of_cluster)
        note_servable(line, is_servable)
        if not is_servable:
            self._unreserve(line)
            wait.since, wait.seen = inf, -1
            lines.set_aside(line)
            return work
        if of_cluster and not self.limits_are_known:
            return work
        placed, lacks_room, is_refused = 0, False, False
        for rank in able:
            if line.count and placed < work_max and not is_refused:
                count, lacks, is_refused = self._fill(line, of_host, of_cluster, rank, assign, work_max - placed)
                placed += count
                lacks_room |= lacks
        work += placed
        if placed:
            self._unreserve(line)
            wait.since = now if line.count else inf
            lines.note_served(line)
        elif wait.since == inf:
            wait.since = now
        # Room comes and goes with every result: that is looked at each time.
        wait.seen = -1 if lacks_room or placed or is_refused else self.changes
        if is_refused and not placed:
            # It has found the amounts.
            self._unreserve(line)
        elif line.count and is_patient and not placed:
            self._reserve(line, hosts, of_host, of_cluster)
        return work

    def _fill(
        self,
        line: Line,
        of_host: Amounts,
        of_cluster: Amounts,
        hosts: Iterable[Host],
        assign: Callable[[Line, Host, int, Amounts, tuple[str, ...]], int],
        work_max: int,
    ) -> tuple[int, bool, bool]:
        """Let tasks of a line begin while there is enough: at the host with most room each.

        Return how many they were, whether hosts that have enough have no room for tasks, and whether one took none of these.
        """
        placed = 0
        lacks_room = is_refused = False
        gpu = dict(of_host).get(GPU, 0)
        heap = []
        for index, host in enumerate(hosts):
            if host.resources.amounts.fits(of_host) and self._times(line, host, of_host, gpu, 1):
                if _room(line, host) > 0:
                    heap.append((host.assigned / host.slots, index, host))
                else:
                    lacks_room = True
        heapify(heap)
        while heap and line.count and placed < work_max:
            _, index, host = heappop(heap)
            fair_share = 1 if gpu else -(-line.count // (len(heap) + 1))
            count = self._times(line, host, of_host, gpu, min(fair_share, _room(line, host), work_max - placed))
            if of_cluster:
                count = self.limits.times(of_cluster, count)
                reservation = self._limits_reservation
                if reservation is not None and self._limits_line is not line and line.depth <= reservation.depth:
                    count = reservation.times(of_cluster, count)
            devices = self._devices(line, host, gpu) if gpu and count > 0 else ()
            if count <= 0 or devices is None:
                break
            count = assign(line, host, count, of_host, devices)
            if count <= 0:
                is_refused = True
                continue
            placed += count
            if self._times(line, host, of_host, gpu, 1):
                if _room(line, host) > 0:
                    heappush(heap, (host.assigned / host.slots, index, host))
                else:
                    lacks_room = True
        return placed, lacks_room, is_refused

    def _times(self, line: Line, host: Host, of_host: Amounts, gpu: int, limit: int) -> int:
        """Return how often a line's tasks may have what they need at a host now, at most `limit` times; with GPUs once."""
        resources = host.resources
        if not resources.is_known:
            return 0
        count = resources.amounts.times(of_host, limit)
        reservation = resources.reservation
        if count and reservation is not None and line.wait.host is not host and line.depth <= reservation.depth:
            count = reservation.times(of_host, count)
        if gpu and count:
            return int(self._devices(line, host, gpu) is not None)
        return count

    def _devices(self, line: Line, host: Host, gpu: int) -> tuple[str, ...] | None:
        """Return devices for a task that needs so much: whole ones, or a part of one; None if there are none now.

        A part is taken of the device that is used most, so that others stay whole.
        """
        resources = host.resources
        reservation = resources.reservation
        closed: Collection[str] = ()
        if reservation is not None and line.wait.host is not host and line.depth <= reservation.depth:
            closed = reservation.devices
        count, room = (1, ONE - gpu) if gpu < ONE else (gpu // ONE, 0)
        fitting = [device for device, used in resources.devices.items() if used <= room and device not in closed]
        if len(fitting) < count:
            return None
        if gpu < ONE:
            return (max(fitting, key=resources.devices.__getitem__),)
        return tuple(fitting[:count])

    # --- reservations

    def _reserve(self, line: Line, hosts: Iterable[Host], of_host: Amounts, of_cluster: Amounts) -> None:
        wait = line.wait
        if wait.host is None:
            # Where another line waits already, this one would only have to wait for that, unless it is deeper.
            open_hosts = [host for host in hosts if _is_open(host.resources, line.depth)]
            chosen = min(open_hosts, key=lambda host: _lack(host.resources.amounts, of_host), default=None)
            if chosen is None:
                return
            resources = chosen.resources
            for other in [other for other in self._reserved if other.wait.host is chosen]:
                self._unreserve(other)
            gpu = dict(of_host).get(GPU, 0)
            count = 1 if 0 < gpu < ONE else gpu // ONE
            devices = frozenset(sorted(resources.devices, key=resources.devices.__getitem__)[:count])
            resources.reservation = Reservation(resources.amounts, of_host, devices, line.depth, self._order)
            wait.host = chosen
            self._reserved[line] = None
        if of_cluster and (self._limits_line is None or self._limits_line.depth < line.depth):
            self._limits_line = line
            self._limits_reservation = Reservation(self.limits, of_cluster, frozenset(), line.depth, self._order)

    def _unreserve(self, line: Any) -> None:
        if line.wait.host is None:
            return
        line.wait.host.resources.reservation = None
        line.wait.host = None
        del self._reserved[line]
        if self._limits_line is line:
            self._limits_line = self._limits_reservation = None
        self.changes += 1

    def _count(self, resources: HostAmounts, grant: Grant, sign: int) -> None:
        for counted, amounts in ((resources.amounts, grant.of_host), (self.limits, grant.of_cluster)):
            if sign > 0:
                counted.take(amounts)
            else:
                counted.give_back(amounts)
        gpu = dict(grant.of_host).get(GPU, 0)
        for device in grant.devices:
            resources.devices[device] = resources.devices.get(device, 0) + sign * min(gpu, ONE)
        depths = resources.depths
        depths[grant.depth] = depths.get(grant.depth, 0) + sign
        if not depths[grant.depth]:
            del depths[grant.depth]
        for reservation, amounts in (
            (resources.reservation, grant.of_host),
            (self._limits_reservation, grant.of_cluster),
        ):
            if reservation is not None and grant.order > reservation.order:
                reservation.note(amounts, sign)
        if sign < 0:
            self.changes += 1


def _counts(resources: HostAmounts) -> bool:
    """Whether a host counts at all: workers of other kinds do not say when a task has left."""
    return len(resources.amounts) > 0


def _could_serve(resources: HostAmounts, needed: Amounts) -> bool:
    return _counts(resources) and resources.amounts.could_serve(needed)


def _room(line: WaitingLine, host: CountingHost) -> int:
    """Return how many further tasks of a line a host may hold.

    One for each worker, so that nothing that is granted lies there for long. Tasks that are less deep are not counted: they may
    be waiting for these.
    """
    return min(host.spare, host.slots - host.resources.deeper_count(line.depth))


def _is_open(resources: HostAmounts, depth: int) -> bool:
    return resources.is_known and (resources.reservation is None or resources.reservation.depth < depth)


def _lack(amounts: CountedAmounts, needed: Amounts) -> float:
    """Return how much a host lacks: the largest part of an amount that is not free."""
    return max(((amount - amounts.free_of(name)) / amount for name, amount in needed), default=0.0)
