"""What random programs want of a scheduler's core: every task, what must come out of it, and what has become of it."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import inf

from harness import Harness

from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import CallOptions

Key = tuple[bytes, int]
"""A client and the number of its task."""

NAMES_TASK = re.compile(rb"task (\d+)")

LATE_SECONDS = 1.0
"""So long after its deadline a task may be handed out, or wait: the core looks when it is told that time has passed."""

RESENT_SECONDS = 5.0
"""Peers that can be reached again have said by then what did not arrive."""

FOUND_LOST_SECONDS = 30.0
"""Agents that are lost have been found to be by then. Only the core knows what was on its way to them."""

LOSSES = frozenset({m.Status.PROCESSOR_DIED, m.Status.WORKER_DIED})
"""These end a task where it was lost too often."""

OWN_ENDS = frozenset({m.Status.MISSING_OBJECT, m.Status.STORAGE_FAILED, m.Status.LIMIT_EXCEEDED})
"""Only an agent can find that a task ends so, but for results that are lost."""


class ProgramError(AssertionError):
    """The core broke a promise. `task` is the task concerned, if it is one."""

    def __init__(self, text: str, task: Key | None = None) -> None:
        super().__init__(text if task is None else f"task {task[1]} of {task[0].decode().rstrip('.')}: {text}")
        self.task = task


@dataclass(slots=True, eq=False)
class Entry:
    """One task, as its client knows it."""

    client: bytes
    number: int
    needs: tuple[int, ...]
    """The numbers of the tasks whose results are its inputs, in order."""
    options: CallOptions
    wanted: bool
    """Whether its client is to be told of its end."""
    submitted_at: float
    first: int
    """The number of the first task of its message."""
    sent_at: float = -inf
    """When its client last sent it."""
    sent_to: int = 0
    """How many schedulers there had been before that one."""
    reached_at: float = inf
    """When it had arrived for certain."""
    assigned_at: float = -inf
    """When an agent was last given it."""
    is_single: bool = False
    """Whether it is in no graph."""
    is_linked: bool = False
    """Whether it was submitted with tasks of earlier messages as inputs."""
    canceled: bool = False
    confirmed: bool = False
    """Its client, which has cancelled it, waits for no answer any more: this scheduler does not know it."""
    withdrawn: bool = False
    """Its client wanted no result unless it had begun."""
    begun: int = 0
    """How often its function was called."""
    losses: int = 0
    """How often an agent or a processor was lost, or it was stopped, while it was there."""
    reported: list[tuple[m.Status, bytes]] = field(default_factory=list)
    """How it ended at agents."""
    errors: int = 0
    """How often its client was told that it runs again after an error of its own."""
    error_attempt: int = 0
    """The last attempt that is counted."""
    ended_at: float = -inf
    """When it last ended at an agent."""
    not_before: float = -inf
    """When its next attempt may begin."""
    answer: tuple[m.Status, bytes] | None = None

    @property
    def key(self) -> Key:
        return self.client, self.number

    @property
    def is_open(self) -> bool:
        """Whether its client waits for its end."""
        return self.wanted and self.answer is None and not self.confirmed

    @property
    def due(self) -> float:
        """When its deadline is over; `inf`: it has none."""
        seconds = self.options.deadline_seconds
        return self.submitted_at + seconds if seconds else inf

    @property
    def latest_due(self) -> float:
        """When the scheduler takes its deadline to be over, at the latest: it does not count the way of the message."""
        return self.due + (self.reached_at - self.sent_at)


class ProgramLedger:
    """All tasks and objects of one program."""

    def __init__(self, harness: Harness, attempts_max: int) -> None:
        self._harness = harness
        self._attempts_max = attempts_max
        self.entries: dict[Key, Entry] = {}
        self.gone: set[bytes] = set()
        """Clients that have left, or whose host is gone."""
        self.refuses = False
        """Whether groups have limits."""
        self.agents_lost = 0
        self.lost_at = -inf
        """When an agent was last lost, or could not be reached."""
        self.restarts = 0
        self.values: dict[bytes, bytes] = {}
        """What each object holds, also after it was deleted."""
        self.stored: dict[bytes, bytes] = {}
        """The objects that are there, with the clients that own them."""
        self.lost: set[bytes] = set()
        self._expected: dict[Key, bytes] = {}
        self._events: list[tuple[Key | None, str]] = []

    # --- stories

    def tell(self, key: Key | None, text: str) -> None:
        """Note what happened to a task, or, for None, to the cluster."""
        who = "*" if key is None else f"task {key[1]} of {key[0].decode().rstrip('.')}:"
        self._events.append((key, f"{self._harness.now:10.3f}  {who} {text}"))

    def story(self, key: Key | None) -> str:
        """Return what happened to a task, to those that it needs and to the cluster; for None, everything."""
        wanted: set[Key | None] = {None, key}
        if key in self.entries:
            wanted.update(one.key for one in self.needed_by(key))
        return "\n".join(text for one, text in self._events if key is None or one in wanted)

    # --- what is expected

    def submitted(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        asked = entry.options.given
        self.tell(entry.key, f"submitted, needs {list(entry.needs)}, wanted {entry.wanted}, asks {asked}")

    def needed_by(self, key: Key) -> list[Entry]:
        """Return a task and all that it needs, directly or not."""
        found: dict[int, Entry] = {}
        waiting = [key[1]]
        while waiting:
            number = waiting.pop()
            if number not in found:
                found[number] = self.entries[key[0], number]
                waiting += found[number].needs
        return list(found.values())

    def value(self, key: Key) -> bytes:
        """Return what a task that runs to its end returns."""
        if key not in self._expected:
            digest = blake2b(b"%d" % key[1], digest_size=8)
            for needed in self.entries[key].needs:
                digest.update(self.value((key[0], needed)))
            self._expected[key] = b"P" + digest.hexdigest().encode()
        return self._expected[key]

    def open_entries(self, client: bytes | None = None) -> list[Entry]:
        """Return the tasks whose clients are here and wait for their ends."""
        return [
            entry
            for entry in self.entries.values()
            if entry.is_open and entry.client not in self.gone and client in (None, entry.client)
        ]

    def sent(self, entry: Entry, *, arrives: bool) -> None:
        """Its client sends it. `arrives`: at once; else `arrived` says when."""
        entry.sent_at, entry.sent_to = self._harness.now, self.restarts
        entry.reached_at = self._harness.now if arrives else inf

    def arrived(self, client: bytes) -> None:
        """All that a client has sent has arrived."""
        for entry in self.open_entries(client):
            entry.reached_at = min(entry.reached_at, self._harness.now)

    def check_deadlines(self, client: bytes, back_at: float, held: Container[Key]) -> None:
        """Nothing waits whose deadline is over. `back_at`: when the client could be reached again; `held`: what agents have."""
        now = self._harness.now
        if self.lost or now <= max(back_at + RESENT_SECONDS, self.lost_at + FOUND_LOST_SECONDS):
            return
        for entry in self.open_entries(client):
            knows = entry.sent_to == self.restarts and not entry.canceled
            is_elsewhere = entry.key in held or entry.assigned_at >= entry.sent_at or entry.reported
            if knows and now > max(entry.latest_due, entry.reached_at) + LATE_SECONDS and not is_elsewhere:
                raise ProgramError(f"it waits {now - entry.latest_due:.1f} s after its deadline", entry.key)

    # --- at agents

    def assigned(self, key: Key, where: str, attempt: int, *, is_late: bool) -> None:
        """An agent was given a task. `is_late`: perhaps some time ago, as it could not be reached."""
        self.tell(key, f"attempt {attempt} at {where}")
        entry, now = self.entries[key], self._harness.now
        entry.assigned_at = now
        if now > entry.latest_due + LATE_SECONDS and not (self.lost or is_late):
            raise ProgramError(f"attempt {attempt} is handed out {now - entry.due:.1f} s after its deadline", key)
        if entry.answer is not None and not (self.lost or self.restarts or is_late):
            raise ProgramError(f"attempt {attempt} is handed out after it has ended", key)

    def begun(self, key: Key, inputs: Sequence[bytes], where: str) -> None:
        """A processor calls the function of a task with these inputs."""
        entry = self.entries[key]
        entry.begun += 1
        self.tell(key, f"begins at {where}")
        early = entry.not_before - self._harness.now
        if early > 1e-6 and not self.restarts:
            raise ProgramError(f"it begins {early:.1f} s before it has waited after an error", key)
        wanted = [self.value((key[0], number)) for number in entry.needs]
        if list(inputs) != wanted:
            raise ProgramError(f"its inputs are {list(inputs)}, not {wanted}", key)
        if entry.begun > 1 and not entry.options.idempotent:
            raise ProgramError("it begins a second time, and must not (idempotent=False)", key)

    def reported(self, key: Key, status: m.Status, payload: bytes, where: str) -> None:
        """A task has ended at an agent."""
        self.tell(key, f"ends at {where}: {status.name}")
        entry = self.entries[key]
        entry.reported.append((status, payload))
        entry.ended_at = self._harness.now
        if status in (m.Status.PROCESSOR_DIED, m.Status.CANCELED, m.Status.MISSING_OBJECT):
            entry.losses += 1

    def lost_with(self, keys: Iterable[Key], where: str) -> None:
        """An agent that has these tasks is lost, or cannot be reached for a while."""
        self.agents_lost += 1
        self.lost_at = self._harness.now
        for key in keys:
            self.entries[key].losses += 1
            self.tell(key, f"is lost with {where}")

    # --- objects

    def store(self, object_id: bytes, value: bytes, owner: bytes) -> None:
        self.values[object_id], self.stored[object_id] = value, owner

    def lose(self, ids: Iterable[bytes]) -> None:
        for object_id in ids:
            self.stored.pop(object_id, None)
            self.lost.add(object_id)

    def delete(self, messages: Iterable[m.Message]) -> None:
        """Do what the core tells object storage."""
        for message in messages:
            if isinstance(message, m.ObjectDelete):
                for object_id in message.ids:
                    self.stored.pop(object_id, None)
            elif isinstance(message, m.ClientGone):
                self.stored = {one: owner for one, owner in self.stored.items() if owner != message.client}

    # --- at clients

    def retried(self, key: Key, attempt: int, count: int) -> None:
        """A client hears that its task runs again after an error."""
        entry = self.entries[key]
        retries = entry.options.retries
        self.tell(key, f"its client hears of error {count} in attempt {attempt}")
        # A row whose result is lost begins to count anew.
        if retries is None or count > retries.times or not (self.lost or entry.errors < count):
            raise ProgramError(f"error {count} comes after {entry.errors}, and it asks for {retries}", key)
        entry.errors, entry.error_attempt = count, attempt
        # Its client may hear of that late.
        entry.not_before = entry.ended_at + retries.wait_before(count)

    def answered(self, key: Key, status: m.Status, payload: bytes) -> None:
        """A client is told how its task has ended."""
        self.tell(key, f"answered: {status.name} {payload[:200]!r}")
        entry = self.entries.get(key)
        if entry is None or not entry.wanted:
            raise ProgramError("it is answered, and its client did not ask for that", key)
        if entry.answer is not None:
            raise ProgramError(f"it ended as {entry.answer[0].name}, and now again as {status.name}", key)
        problem = self._problem(entry, status, payload)
        if problem:
            raise ProgramError(f"{problem}: {status.name} {payload[:200]!r}", key)
        entry.answer = status, payload

    def _problem(self, entry: Entry, status: m.Status, payload: bytes) -> str:
        needed = self.needed_by(entry.key)
        if status is m.Status.SUCCESS:
            value = payload
            if payload[:1] == b"O":
                value = self.values[payload[1:]]
                # A scheduler may have deleted it, and ended before its agent heard that it had the result.
                if payload[1:] not in self.stored and payload[1:] not in self.lost and not self.restarts:
                    return "its result was deleted before its client had it"
            return "" if value == self.value(entry.key) else f"its result is not {self.value(entry.key)!r}"
        if status is m.Status.CANCELED:
            return "" if any(one.canceled or one.withdrawn for one in needed) else "nobody has cancelled it"
        if status is m.Status.SKIPPED:
            return self._problem_of_values(needed, payload)
        if status is m.Status.UNREADABLE:
            is_reported = any((status, payload) in one.reported for one in needed)
            return "" if is_reported else "no agent has said that it cannot read it"
        if status is m.Status.GROUP_LIMIT:
            return "" if self.refuses else "no group has a limit"
        if payload[:1] == b"O":
            payload = self.values[payload[1:]]
        named = NAMES_TASK.search(payload)
        # What is said of rows that may not run again names none.
        origins = [one for one in needed if named is None or one.number == int(named[1])]
        if not origins:
            return "it names a task that has nothing to do with it"
        return "" if any(self._has_ended(one, status, payload) for one in origins) else "it has no reason to end so"

    def _problem_of_values(self, needed: Sequence[Entry], payload: bytes) -> str:
        """The client is asked for values. It must have them, unless something was lost."""
        asked = [int.from_bytes(payload[start : start + 8], "little") for start in range(0, len(payload), 8)]
        # All tasks of a message are submitted anew together.
        messages = {one.first for one in needed if one.is_linked}
        linked = {n for one in self.entries.values() if one.first in messages for n in one.needs}
        if not asked or not linked.issuperset(asked):
            return f"the values of {asked} are asked for, which nothing needs that came with it"
        if self.lost or self.restarts:
            return ""
        missing = [number for number in asked if self.entries[needed[0].client, number].answer is None]
        return f"the values of {missing} are asked for, which are not there" if missing else ""

    def _has_ended(self, origin: Entry, status: m.Status, payload: bytes) -> bool:
        """Whether a task, on which another one may depend, has a reason to end like this."""
        reports = [reported for reported, _ in origin.reported]
        if status is m.Status.FAILED:
            retries = origin.options.retries
            if (m.Status.FAILED, payload) in origin.reported:
                return True
            tries = reports.count(m.Status.RETRY) + reports.count(m.Status.TIMED_OUT)
            return (m.Status.RETRY, payload) in origin.reported and (retries is None or tries > retries.times)
        if status is m.Status.TIMED_OUT:
            return self._harness.now >= origin.due - 1e-6 or m.Status.TIMED_OUT in reports
        if status in LOSSES:
            if not origin.options.idempotent:
                return origin.losses + self.agents_lost + self.restarts > 0 or origin.canceled or bool(self.lost)
            # What is sent to an agent that is gone already is lost as well, and only the core knows of that.
            # A result that is lost counts as well.
            return origin.losses + self.agents_lost + len(self.lost) >= self._attempts_max
        if status in OWN_ENDS:
            return status in reports or (status is m.Status.MISSING_OBJECT and bool(self.lost or self.restarts))
        return False
