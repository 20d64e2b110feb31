"""The book of record: every submitted task, how it may end, and how it did.

Cores are judged by what their owners observe, here and nowhere else: at most one end per task, the right value, an error
only where something happened that excuses it.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from scaler.core import effects as client_effects
from scaler_protocol.ids import short
from scaler_protocol.wire import messages as m
from scaler_worker.core.deaths import UNSTARTED_DEATHS_MAX
from simulation.clock import Clock
from simulation.options import OptionsWatch
from simulation.programs import Action, Library

NAMES_OBJECT = re.compile(r"object [0-9a-f]{32}\b|result could not be stored|results were lost with the store of")
NAMES_HOME = re.compile(r"in the store of agent \d+|lost with the store of agent \d+")
NAMES_TASK = re.compile(r"task (\d+) \(")


class SimulationError(AssertionError):
    """The cluster as a whole broke a promise. `task` is (client, number) where one task is concerned."""

    def __init__(self, text: str, task: tuple[bytes, int] | None = None) -> None:
        super().__init__(text)
        self.task = task


@dataclass(slots=True, eq=False)
class Entry:
    """One task as its client sees it. It is the token the client core carries for it."""

    client: bytes
    program: int
    expected: bytes | None
    number: int = 0
    submitted_at: float = 0.0
    capabilities: tuple[str, ...] = ()
    uses_objects: bool = False
    may_exit: bool = False
    depth: int = 0
    siblings: list[Entry] = field(default_factory=list)
    """The wanted rows of its graph, itself among them. Where one is cancelled, so is what needs its result."""
    needs: list[Entry] | None = None
    """The tasks whose results are its arguments, where it can be computed anew from its program and theirs; else None."""
    withdrawn: bool = False
    """The application wanted no result if no worker had begun it."""
    end: str = ""
    value: bytes = b""

    @property
    def key(self) -> tuple[bytes, int]:
        return self.client, self.number

    def __str__(self) -> str:
        return f"task {self.number} of client {short(self.client)} (program {self.program})"


@dataclass(slots=True)
class Excuses:
    """What has been done to the cluster so far, each of which excuses certain errors."""

    process_deaths: int = 0
    processor_ends: int = 0
    """Processors that ended for whatever reason: with them go answers that were not sent."""
    silences: int = 0
    store_deaths: int = 0
    results_lost: int = 0
    """Results of rows that were lost. They run again, unless that is too often."""
    homes_lost: int = 0
    """Objects that were lost with the store of a worker host: whoever needs one is told which, and of which host."""
    disk_faults: int = 0
    storage_limited: bool = False
    """Whether the disk below object storage has a limit, so that objects may be refused."""
    timeouts_configured: bool = False

    @property
    def any(self) -> bool:
        return bool(
            self.process_deaths
            or self.silences
            or self.store_deaths
            or self.results_lost
            or self.homes_lost
            or self.disk_faults
            or self.timeouts_configured
        )


@dataclass(slots=True)
class Ledger:
    """All tasks of one run."""

    clock: Clock
    library: Library
    attempts_max: int
    telling: bool = False
    excuses: Excuses = field(default_factory=Excuses)
    options: OptionsWatch = field(default_factory=OptionsWatch)
    open: dict[tuple[bytes, int], Entry] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """How often what was submitted, single tasks aside."""
    runs: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    deaths_unstarted: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    """Processors that a task has ended while they read it, so before it ran."""
    _stories: dict[tuple[bytes, int], list[str]] = field(default_factory=dict)
    _general: list[tuple[float, str]] = field(default_factory=list)

    # --- the life of a task

    def submitted(self, entry: Entry) -> None:
        entry.submitted_at = self.clock.now
        self.open[entry.key] = entry
        self.tell(entry.key, f"submitted: {self.library[entry.program]}")

    def canceled(self, entry: Entry) -> None:
        """The application cancelled it: nothing may be heard of it again."""
        self._end(entry, "canceled")

    def forgotten(self, entry: Entry) -> None:
        """The client that wanted it has died."""
        self._end(entry, "forgotten")

    def asked_for_values(self, entry: Entry) -> None:
        """The scheduler does not know what it needs: its client submits it anew, under another number."""
        if entry.needs is None or not entry.needs:
            raise SimulationError(f"{entry} is to be submitted anew, and needs nothing", entry.key)
        del self.open[entry.key]
        self.tell(entry.key, "its client is asked for the values it needs")

    def completed(self, entry: Entry, status: m.Status, value: bytes) -> None:
        """A core delivered this outcome."""
        if entry.end:
            raise SimulationError(f"{entry} ended as {entry.end}, and now again as {status.name}", entry.key)
        problem = self._problem(entry, status, value)
        if problem:
            raise SimulationError(f"{entry}: {problem}", entry.key)
        entry.value = value
        self._end(entry, status.name.lower())

    def abandoned(self, entry: Entry, cause: client_effects.Cause, text: str) -> None:
        """A core gave it up."""
        if entry.end:
            raise SimulationError(f"{entry} ended as {entry.end}, and now is abandoned: {text}", entry.key)
        if cause is client_effects.Cause.DISCONNECTED and not (self.excuses.silences or self.excuses.process_deaths):
            raise SimulationError(f"{entry} is abandoned ({text}) although nothing was cut or killed", entry.key)
        if cause is client_effects.Cause.REFUSED:
            raise SimulationError(f"{entry} is abandoned: {text}", entry.key)
        self._end(entry, f"abandoned: {cause.value}")

    def started(self, key: tuple[bytes, int], where: str) -> None:
        """A processor begins to run a task. Nobody's death means: it runs once."""
        self.tell(key, f"runs in {where}")
        self.runs[key] += 1
        excuses = self.excuses
        again = excuses.process_deaths or excuses.processor_ends or excuses.silences or excuses.results_lost
        again = again or excuses.homes_lost or self.options.may_run_again(key)
        if self.options.is_elsewhere(key, where):
            raise SimulationError(f"task {key[1]} runs at {where}, and is for another host", key)
        if self.options.is_early(key, self.clock.now):
            raise SimulationError(f"task {key[1]} runs again before it has waited for it", key)
        if self.runs[key] > 1 and self.options.runs_once(key):
            raise SimulationError(f"task {key[1]} runs a second time, and must not", key)
        if self.runs[key] > 1 and not again:
            raise SimulationError(f"task {key[1]} runs a second time, and nothing was killed or cut", key)

    def could_not_run(self, key: tuple[bytes, int]) -> None:
        """What a processor needed to run a task is not there. Its function was not called: another attempt is the first."""
        self.tell(key, "an object that it needs is not there")
        self.runs[key] -= 1

    def _problem(self, entry: Entry, status: m.Status, value: bytes) -> str:
        excuses = self.excuses
        is_failing = self.library[entry.program].action is Action.FAIL
        said = bytes(value).decode(errors="replace")
        since = self.clock.now - entry.submitted_at
        problem = self.options.problem(entry.key, status, said, since, always=is_failing)
        if problem:
            return problem
        if "idempotent=False" in said and status in (m.Status.WORKER_DIED, m.Status.PROCESSOR_DIED):
            return "" if excuses.any or excuses.processor_ends else f"nothing was lost: {said}"
        if status is m.Status.TIMED_OUT and ("(timeout_seconds)" in said or "(deadline_seconds)" in said):
            return "" if self.options.asked else f"no task has asked for this: {said}"
        if status is m.Status.SUCCESS:
            if entry.expected is None:
                return "it succeeded, but must fail"
            return "" if bytes(value) == entry.expected else f"wrong value {bytes(value)!r}, not {entry.expected!r}"
        text = bytes(value).decode(errors="replace")
        if status is m.Status.FAILED:
            # A child that fails for an excusable reason fails its parent.
            excusable = entry.may_exit or excuses.any
            return "" if entry.expected is None or excusable else f"it failed without a reason: {text}"
        if status is m.Status.PROCESSOR_DIED:
            deaths_enough = entry.may_exit or excuses.process_deaths >= self.attempts_max
            return "" if deaths_enough else f"too few processors died for this: {text}"
        if status is m.Status.WORKER_DIED:
            # A task that ends its processor uses up attempts by itself; the last one may be lost with its agent.
            # What needs its result, or stands behind it in a chain, is told of that task.
            named = NAMES_TASK.match(text)
            ending = (entry.client, int(named[1])) if named else entry.key
            may_exit = entry.may_exit or ending != entry.key
            own = self.runs[ending] + self.deaths_unstarted[ending] // UNSTARTED_DEATHS_MAX if may_exit else 0
            losses = excuses.process_deaths + excuses.silences + own
            return "" if losses >= self.attempts_max else f"too few agents were lost for this: {text}"
        if status in (m.Status.MISSING_OBJECT, m.Status.STORAGE_FAILED):
            excused = excuses.store_deaths or excuses.results_lost or excuses.disk_faults
            excused = excused or excuses.silences or excuses.process_deaths
            if not NAMES_OBJECT.search(text):
                return f"this does not say which object it is about: {text}"
            if excuses.homes_lost and NAMES_HOME.search(text):
                excused = 1
            if excuses.storage_limited and "object storage is full" in text:
                excused = 1
            return "" if excused else f"storage failed for no reason: {text}"
        if status is m.Status.CANCELED:
            related = (entry, *entry.siblings, *(entry.needs or ()))
            canceled = any(one.end == "canceled" or one.withdrawn for one in related)
            return "" if canceled else "cancelled, and nobody asked for it"
        if status is m.Status.TIMED_OUT:
            return "" if excuses.timeouts_configured else f"no timeout is configured: {text}"
        return f"unexpected status {status.name}: {text}"

    def _end(self, entry: Entry, how: str) -> None:
        entry.end = how
        self.ends[how] += 1
        self.open.pop(entry.key, None)
        self.tell(entry.key, f"ended: {how}")

    # --- stories

    def tell(self, key: tuple[bytes, int], text: str) -> None:
        """Note an event of one task, in runs that are told."""
        if self.telling:
            self._stories.setdefault(key, []).append(f"{self.clock.now:12.6f} step {self.clock.steps:6d}  {text}")

    def tell_all(self, text: str) -> None:
        """Note something that concerns everybody."""
        if self.telling:
            self._general.append((self.clock.now, f"{self.clock.now:12.6f} step {self.clock.steps:6d}  * {text}"))

    def story(self, key: tuple[bytes, int] | None) -> str:
        """What happened to a task, between what happened to the cluster."""
        lines = [line for _, line in self._general]
        lines += self._stories.get(key, []) if key is not None else []
        return "\n".join(sorted(lines))

    def tell_message(self, where: str, message: m.Message) -> None:
        """Note a message in the story of every task it names."""
        if not self.telling:
            return
        client = getattr(message, "client", b"")
        numbers = getattr(message, "numbers", ())
        if not client or not len(numbers):
            return
        attempts = getattr(message, "attempts", ())
        statuses = getattr(message, "statuses", ())
        for row, number in enumerate(numbers):
            details = f" attempt {attempts[row]}" if len(attempts) else ""
            if len(statuses):
                details += f" {m.Status(statuses[row]).name}"
            self.tell((client, number), f"{where}: {type(message).__name__}{details}")
