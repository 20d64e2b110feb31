"""Random tasks that need counted resources, on the scheduler's rules alone: `python -m simulation.resources --events N`.

After every event all that is in use is counted again from the tasks that run. Three things must hold: no host and no limit of the
cluster ever gives more than there is; what a device gives is never more than one, and whole devices are nobody else's; and the
next task of a line never waits longer than `bound_seconds`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from random import Random

from scaler_protocol.runtime.resources import GPU, ONE, Amounts, parse_amounts
from scaler_scheduler.policy.resources import PATIENCE_SECONDS, HostAmounts, Lines, ResourceRules, Wait
from simulation.ledger import SimulationError

LONGEST_SECONDS = 10.0
"""Of a task."""

LIMITS = "licence=3,seat=1"

OFFERS = ("cores=8,gpu=4,mem=16GiB", "cores=8,mem=16GiB", "cores=2,gpu=1,mem=4GiB", "cores=4,gpu=2,mem=8GiB,licence=9")

SMALL = ("gpu=0.1", "gpu=0.5", "gpu=1", "mem=1GiB", "cores=1", "cores=0.5", "licence=1")
LARGE = (
    *("gpu=4", "mem=3GiB", "mem=16GiB", "gpu=1,mem=2GiB", "gpu=4,mem=16GiB", "licence=3", "gpu=2,licence=1", "seat=1"),
    *("licence=2,mem=8GiB", "cores=0.001", "cores=8,gpu=4", "gpu=0.7", "gpu=0.3,licence=2", "gpu=2,seat=1"),
)
NEVER = "gpu=99,licence=1"
"""What no host can give."""

DEPTHS_MAX = 2
"""Tasks are so deep at most. Few are: deeper ones go ahead of all others, so they have to end."""

WAITING_MAX = 200


def bound_seconds() -> float:
    """Return the longest time for which the next task of a line may wait.

    After its patience it waits for those lines that have waited longer, one after another, and each of these for what runs then.
    Deeper tasks go ahead: they come so seldom that each line waits for one more of them at most.
    """
    lines = len(SMALL) + len(LARGE)
    return PATIENCE_SECONDS + 2 * lines * LONGEST_SECONDS


@dataclass(eq=False)
class Host:
    """A host, as the rules see it."""

    resources: HostAmounts
    slots: int
    running: dict[int, Task] = field(default_factory=dict)

    @property
    def assigned(self) -> int:
        return len(self.running)

    @property
    def spare(self) -> int:
        return 2 * self.slots - len(self.running)


@dataclass(eq=False)
class Line:
    """Waiting tasks that need the same, by when they came."""

    amounts: Amounts
    depth: int
    wait: Wait = field(default_factory=Wait)
    came: deque[float] = field(default_factory=deque)
    head_since: float = inf
    """Since when the next one is the next."""

    @property
    def count(self) -> int:
        return len(self.came)

    @property
    def is_held(self) -> bool:
        return False


@dataclass(slots=True)
class Task:
    """A running task."""

    number: int
    host: Host
    amounts: Amounts
    devices: tuple[str, ...]


class Program:
    """One run: tasks come and end, and now and then a host goes and another one comes."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.rules: ResourceRules[Host] = ResourceRules(parse_amounts(LIMITS))
        self.lines: Lines[Line] = Lines()
        self.hosts = [self._new_host() for _ in range(5)]
        # One that can serve every line stays for the whole run.
        self.hosts.append(self._new_host(OFFERS[0], 8))
        self.by_text = {(text, depth): Line(parse_amounts(text), depth) for text in SMALL + LARGE for depth in range(3)}
        self.never = Line(parse_amounts(NEVER), 0, came=deque([0.0]))
        self.lines.add(self.never)
        self.ends: list[tuple[float, int, Task]] = []
        self.now = 0.0
        self.waiting = 0
        self.begun = 0
        self.longest_wait = 0.0

    def run(self, events: int, check_every: int = 1) -> None:
        """Run so many events; check everything after each, or after each so many."""
        random = self.random
        for event in range(events):
            draw = random.random()
            if draw < 0.0005:
                self._replace_host()
            elif self.ends and (draw < 0.5 or self.waiting > WAITING_MAX):
                self._end_one()
            else:
                self._submit()
            self.rules.place(
                self.lines, lambda line: [self.hosts], self._assign, lambda line, is_servable: None, self.now, 10**9
            )
            if event % check_every == 0:
                self.check()
        if self.never.count != 1:
            raise SimulationError("a task has begun that no host can run")

    def check(self) -> None:
        """Count again all that is in use."""
        of_cluster = dict(self.rules.limits.offered)
        for host in self.hosts:
            free = dict(host.resources.amounts.offered)
            devices: dict[str, list[int]] = {}
            for task in host.running.values():
                for name, amount in task.amounts:
                    left = of_cluster if name in of_cluster else free
                    left[name] -= amount
                gpu = dict(task.amounts).get(GPU, 0)
                if len(task.devices) != (1 if 0 < gpu < ONE else gpu // ONE) or len(set(task.devices)) != len(
                    task.devices
                ):
                    raise SimulationError(f"a task that needs {gpu / ONE} GPUs has {task.devices}")
                for device in task.devices:
                    devices.setdefault(device, []).append(min(gpu, ONE))
            if min(free.values()) < 0:
                raise SimulationError(f"a host has given more than it offers: {free}")
            if any(sum(shares) > ONE for shares in devices.values()):
                raise SimulationError(f"a device is given too often: {devices}")
            if dict(host.resources.amounts.free) != free:
                raise SimulationError("what is in use at a host is counted wrongly")
        if min(of_cluster.values()) < 0:
            raise SimulationError(f"the cluster has given more than there is: {of_cluster}")
        for line in self.lines:
            if line is not self.never:
                self._note_wait(line)

    def _submit(self) -> None:
        random = self.random
        next_end = self.ends[0][0] if self.ends else inf
        self.now = min(self.now + random.expovariate(4.0), next_end)
        # Many small ones, few large ones.
        text = random.choice(SMALL if random.random() < 0.8 else SMALL + LARGE)
        line = self.by_text[text, random.randint(1, DEPTHS_MAX) if random.random() < 0.01 else 0]
        if not line.count:
            self.lines.add(line)
            line.wait = Wait()
            line.head_since = self.now
        line.came.append(self.now)
        self.waiting += 1

    def _assign(self, line: Line, host: Host, count: int, of_host: Amounts, devices: tuple[str, ...]) -> int:
        if not 0 < count <= line.count or host.spare < count:
            raise SimulationError(f"{count} tasks are to begin where {line.count} wait and {host.spare} have room")
        self._note_wait(line)
        line.head_since = self.now
        for _ in range(count):
            self.begun += 1
            task = Task(self.begun, host, line.amounts, devices)
            line.came.popleft()
            host.running[task.number] = task
            self.rules.grant(host, (b"", task.number), line.amounts, devices, 1, line.depth)
            heappush(self.ends, (self.now + self.random.uniform(0.0, LONGEST_SECONDS), task.number, task))
        self.waiting -= count
        if not line.count:
            self.lines.discard(line)
        return count

    def _note_wait(self, line: Line) -> None:
        waited = self.now - line.head_since
        if waited > self.longest_wait:
            self.longest_wait = waited
            if waited > bound_seconds():
                raise SimulationError(f"a task that needs {line.amounts} has waited for {waited:.1f} s")

    def _end_one(self) -> None:
        while self.ends:
            self.now, number, task = heappop(self.ends)
            if task.host.running.pop(number, None) is not None:
                self.rules.release(task.host, (b"", number), 1)
                return

    def _replace_host(self) -> None:
        gone = self.hosts.pop(self.random.randrange(len(self.hosts) - 1))
        self.rules.remove_host(gone)
        gone.running.clear()
        self.hosts.insert(0, self._new_host())
        self.rules.note_hosts()

    def _new_host(self, offer: str = "", slots: int = 0) -> Host:
        offered = parse_amounts(offer or self.random.choice(OFFERS))
        devices = [f"GPU-{number}" for number in range(dict(offered).get(GPU, 0) // ONE)]
        resources = HostAmounts(offered, devices)
        resources.is_known = True
        return Host(resources, slots or self.random.choice((1, 4, 20)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation.resources", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--check-every", type=int, default=1, help="check after so many events")
    arguments = parser.parse_args()
    program = Program(arguments.seed)
    started = time.perf_counter()
    try:
        program.run(arguments.events, arguments.check_every)
    except SimulationError as error:
        print(f"seed {arguments.seed}: {error}")
        return 1
    seconds = time.perf_counter() - started
    print(
        f"seed {arguments.seed}: {arguments.events} events, {program.begun} tasks have begun in {seconds:.0f} s; the longest "
        f"wait of a next task was {program.longest_wait:.1f} s, {bound_seconds():.0f} are allowed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
