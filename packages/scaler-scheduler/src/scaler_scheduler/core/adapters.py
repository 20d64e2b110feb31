"""One worker adapter: what it can start, which groups it has, and the calls to it.

The scheduler asks the adapter which groups exist (`GET /`) every few seconds, and does not rely on what it remembers: either
side may have restarted. A request to start a group carries an id and is repeated under this id until it is answered, so that
no group is started twice. After a failure, the next call is delayed, longer each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any

from scaler_protocol.runtime.resources import NO_AMOUNTS, ONE, Amounts, format_amounts
from scaler_scheduler.core import effects
from scaler_scheduler.core.outbox import MessageOutbox
from scaler_scheduler.core.scaling_log import ScalingLog
from scaler_scheduler.policy.group_resources import covers
from scaler_scheduler.policy.scaling import PLAIN, AdapterView, Names

INFO_SECONDS = 60.0
"""Seconds between two questions about what an adapter can start."""

LIST_SECONDS = 5.0
"""Seconds between two questions about which groups exist."""

POLL_SECONDS = 1.0
"""How soon a request that was accepted and not finished is repeated."""

BACK_OFF_SECONDS = 1.0
BACK_OFF_SECONDS_MAX = 60.0

CAPACITY_SECONDS = 30.0
"""For how long no more groups are requested from an adapter that had no capacity."""

REFUSAL_SECONDS = 600.0
"""For how long workers with certain capabilities are not requested again, after the adapter refused them as impossible."""

START_SECONDS_MAX = 900.0
"""A request to start is given up if the group has not started after so long."""

SHORT_LIVED_SECONDS = 30.0
"""A group that ends so soon, without being asked to, has failed. Starting more of them would not help."""

STARTS_AT_ONCE = 16
"""Unanswered requests to start at one adapter; more would only queue there."""

CALL_SECONDS = 60.0
ASK_SECONDS = 10.0
"""Time limits of a call: of a request that the adapter may carry out before it answers, and of a question."""

GROUPS_MAX = 10_000
"""Largest number of groups that an adapter may list."""


class Action(Enum):
    """Calls to an adapter, by their names in the webhook's protocol."""

    INFO = "get_worker_adapter_info"
    LIST = "list"
    START = "start_worker_group"
    STOP = "shutdown_worker_group"


@dataclass(slots=True, eq=False)
class Group:
    """Workers that an adapter started together."""

    id: str
    worker_names: frozenset[str]
    extra: Names
    """Capabilities asked for beyond what the adapter's workers always offer."""
    since: float
    pending: bool = False
    """The adapter says that it waits for machines, so its workers cannot have connected yet."""
    ending: bool = False
    """The adapter says that its machines go away soon, so its workers should finish and leave."""
    arrived: bool = False
    """At least one of its workers has connected."""
    seen_at: float = 0.0
    """When a worker of it was last connected."""
    leaving: bool = False
    leave_by: float = inf
    stop_due: float = inf
    """When to ask the adapter to stop it; inf: never."""
    calling: bool = False
    amounts: Amounts = NO_AMOUNTS
    """The size that was asked for, of its host; nothing: none in particular."""


@dataclass(slots=True, eq=False)
class Start:
    """A group that was requested and does not exist yet."""

    request_id: str
    extra: Names
    since: float
    due: float
    calling: bool = False
    amounts: Amounts = NO_AMOUNTS
    """The size of its host; nothing: none in particular."""


@dataclass(slots=True)
class _Call:
    action: Action
    issued_at: float
    start: Start | None = None
    group: Group | None = None


@dataclass(slots=True)
class _Refusals:
    """What an adapter has refused, and until when it is not asked again."""

    kinds: dict[Names, float] = field(default_factory=dict)
    sizes: dict[tuple[Names, Amounts], float] = field(default_factory=dict)
    """Of hosts, with capabilities."""
    groups: int | None = None
    """How many groups it had when it refused one more for lack of capacity, including those that were leaving."""
    groups_until: float = 0.0
    text: str = ""


class Adapter:
    """See the module. `tick` makes the calls that are due; `on_answer` and `on_failure` take in their results."""

    def __init__(
        self,
        url: str,
        outbox: MessageOutbox,
        new_call: Callable[[], int],
        new_request: Callable[[], str],
        log: ScalingLog,
    ) -> None:
        self.url = url
        self.ready = False
        """Whether it has said what it can start."""
        self.offers: Names = PLAIN
        self.workers_per_group = 1
        self.sizes: Names = PLAIN
        """The counted resources of which it gives a group's host as much as it is asked for."""
        self.groups: dict[str, Group] = {}
        self.starting: dict[str, Start] = {}
        self.start_seconds = 0.0
        self.failures = 0
        self.last_error = ""
        self._groups_max: int | None = None
        self._outbox = outbox
        self._log = log
        self._new_call = new_call
        self._new_request = new_request
        self._calls: dict[int, _Call] = {}
        self._refusals = _Refusals()
        self._lists = True
        self._listed = False
        self._info_due = self._list_due = 0.0
        self._back_off_until = 0.0
        self._short_lived = 0
        self._no_start_until = 0.0
        self._changed_at = 0.0

    # --- what scaling reads

    @property
    def reconciled(self) -> bool:
        """Whether the scheduler knows what the adapter can start and which groups exist."""
        return self.ready and (self._listed or not self._lists)

    @property
    def problems(self) -> list[str]:
        """What is wrong with it: no sentence or one."""
        if self.last_error or not self.ready:
            return [f"{self.url}: {self.last_error or 'no answer yet'}"]
        return [f"{self.url}: {self._refusals.text}"] if self._refusals.text else []

    def view(self, now: float) -> AdapterView:
        """Return what the policy looks at."""
        counts: dict[Names, int] = {}
        for group in self.groups.values():
            if not group.leaving:
                counts[group.extra] = counts.get(group.extra, 0) + 1
        for start in self.starting.values():
            counts[start.extra] = counts.get(start.extra, 0) + 1
        limit = self._limit(now, sum(counts.values()))
        refused = frozenset(extra for extra, until in self._refusals.kinds.items() if now < until)
        return AdapterView(self.offers, self.workers_per_group, limit, counts, refused, self.start_seconds)

    def _limit(self, now: float, present: int = 0) -> int | None:
        """Return the largest number of groups, while so many are `present`; None if no limit is known."""
        # "No capacity" means that there can be no more groups than now. It is no reason to have fewer.
        found_out = max(self._refusals.groups or 0, present) if now < self._refusals.groups_until else None
        return min((limit for limit in (self._groups_max, found_out) if limit is not None), default=None)

    def groups_under_way(self, now: float, kind: Names) -> int:
        """Return how many groups whose workers could run `kind` were requested and have not connected."""
        coming = [group.extra for group in self.groups.values() if not group.arrived and not group.leaving]
        coming += [start.extra for start in self.starting.values()]
        return sum(1 for extra in coming if kind <= self.offers | extra)

    def on_arrival(self, group: Group, now: float) -> None:
        """A worker of the group has connected."""
        if not group.arrived:
            group.arrived = True
            waited = now - group.since
            workers = len(group.worker_names) or self.workers_per_group
            said = f"group {group.id}: {workers} worker{'s' if workers != 1 else ''}, {waited:.0f} s after it was asked for"
            self._log.note(now, "connected", self.url, said)
            self.start_seconds = (
                waited if not self.start_seconds else self.start_seconds + 0.3 * (waited - self.start_seconds)
            )
        group.seen_at = now

    # --- requests

    def start(self, extra: Names, now: float, amounts: Amounts = NO_AMOUNTS) -> bool:
        """Request one more group. Return False if enough requests are unanswered, or if the adapter should not be asked now."""
        if len(self.starting) >= STARTS_AT_ONCE or now < max(self._back_off_until, self._no_start_until):
            return False
        limit = self._limit(now)
        if limit is not None and len(self.groups) + len(self.starting) >= limit:
            # Groups that leave use up capacity until they are gone; a request before that would be refused.
            return False
        start = Start(self._new_request(), extra, now, now, amounts=amounts)
        self.starting[start.request_id] = start
        return True

    def refuses(self, extra: Names, amounts: Amounts) -> bool:
        """Whether it has refused a host with these capabilities that is as large, or smaller, as impossible."""
        return any(extra == names and covers(amounts, refused) for names, refused in self._refusals.sizes)

    def has_group_for(self, extra: Names, ask: Amounts) -> bool:
        """Whether a group was asked for whose host was to be large enough for this."""
        sizes = [(group.extra, group.amounts) for group in self.groups.values() if not group.leaving]
        sizes += [(start.extra, start.amounts) for start in self.starting.values()]
        return any(extra == names and covers(amounts, ask) for names, amounts in sizes)

    def withdraw(self, extra: Names) -> bool:
        """Take back a request to start that is not being sent. Return False if there is none.

        If the adapter has started the group all the same, its list shows this, and the group is stopped like any other.
        """
        for start in self.starting.values():
            if start.extra == extra and not start.calling:
                del self.starting[start.request_id]
                return True
        return False

    def stop(self, group: Group, now: float) -> None:
        """Have the adapter stop a group, now."""
        group.leaving = True
        group.stop_due = min(group.stop_due, now)

    def blame(self, now: float, text: str) -> None:
        """Something went wrong at this adapter: do not call it for a while, longer each time."""
        self.failures += 1
        pause = min(BACK_OFF_SECONDS_MAX, BACK_OFF_SECONDS * 2.0 ** min(self.failures - 1, 10))
        self._back_off_until = now + pause
        if text != self.last_error or self.failures in (1, 10) or self.failures % 100 == 0:
            self._outbox.log("warning", f"worker adapter {self.url}: {text}; next try in {pause:g} s")
            self._log.note(now, "failed", self.url, text, 0)
        self.last_error = text

    def on_gone(self, group: Group, now: float) -> None:
        """A group has ended, or its workers are gone, and the scheduler did not ask for this."""
        lived = now - group.since
        self._log.note(now, "ended", self.url, f"group {group.id} is gone, and the scheduler had not asked for that")
        if lived >= SHORT_LIVED_SECONDS:
            self._outbox.log("info", f"worker adapter {self.url}: group {group.id} is gone")
            self._short_lived = 0
            return
        self._short_lived += 1
        pause = min(BACK_OFF_SECONDS_MAX, BACK_OFF_SECONDS * 2.0 ** min(self._short_lived - 1, 10))
        self._no_start_until = now + pause
        text = self._refusals.text = f"group {group.id} ended {lived:.0f} s after it was asked for"
        self._outbox.log("warning", f"worker adapter {self.url}: {text}; none is started for {pause:g} s")

    # --- calls

    def tick(self, now: float) -> None:
        """Make the calls that are due."""
        asking = {call.action for call in self._calls.values()}
        for size in [size for size, until in self._refusals.sizes.items() if now >= until]:
            del self._refusals.sizes[size]
        for start in [s for s in self.starting.values() if not s.calling and now >= s.since + START_SECONDS_MAX]:
            del self.starting[start.request_id]
            self.blame(now, f"a group was asked for {START_SECONDS_MAX:g} s ago and did not start")
        if now < self._back_off_until:
            return
        if now >= self._info_due and Action.INFO not in asking:
            self._call(_Call(Action.INFO, now), {"action": Action.INFO.value}, ASK_SECONDS)
        if not self.ready:
            return
        if self._lists and now >= self._list_due and Action.LIST not in asking:
            self._call(_Call(Action.LIST, now), None, ASK_SECONDS)
        for start in self.starting.values():
            if not start.calling and now >= start.due:
                start.calling = True
                body: dict[str, object] = {
                    "action": Action.START.value,
                    "metadata": {"request_id": start.request_id},
                }
                if start.extra:
                    body["capabilities"] = dict.fromkeys(sorted(start.extra), -1)
                if start.amounts:
                    body["resources"] = {name: _number(amount) for name, amount in start.amounts}
                self._call(_Call(Action.START, now, start=start), body, CALL_SECONDS)
        for group in self.groups.values():
            if not group.calling and now >= group.stop_due:
                group.calling = True
                body = {
                    "action": Action.STOP.value,
                    "worker_group_id": group.id,
                    "metadata": {"request_id": f"stop-{group.id}"},
                }
                self._call(_Call(Action.STOP, now, group=group), body, CALL_SECONDS)

    def owns(self, call_number: int) -> bool:
        """Whether this call was made to this adapter."""
        return call_number in self._calls

    def on_answer(self, call_number: int, status: int, body: Any, now: float) -> None:
        """Take in the answer to a call."""
        call = self._finish(call_number)
        if status == 401:
            self._fail(call, now, "it does not accept the scheduler's token (401)")
        elif call.action is Action.INFO:
            self._on_info(call, status, body, now)
        elif call.action is Action.LIST:
            self._on_list(call, status, body, now)
        elif call.start is not None:
            self._on_started(call, call.start, status, body, now)
        elif call.group is not None:
            self._on_stopped(call, call.group, status, body, now)

    def on_failure(self, call_number: int, reason: str, now: float) -> None:
        """Take in that a call was not answered."""
        self._fail(self._finish(call_number), now, reason)

    def _call(self, call: _Call, body: Mapping[str, object] | None, timeout_s: float) -> None:
        number = self._new_call()
        self._calls[number] = call
        self._outbox.add(effects.CallWebhook(number, self.url, body, timeout_s))

    def _finish(self, call_number: int) -> _Call:
        call = self._calls.pop(call_number)
        if call.start is not None:
            call.start.calling = False
        if call.group is not None:
            call.group.calling = False
        return call

    def _fail(self, call: _Call, now: float, text: str) -> None:
        self.blame(now, f"{call.action.value}: {text}")
        if call.start is not None:
            call.start.due = self._back_off_until
        if call.group is not None:
            call.group.stop_due = self._back_off_until
        if call.action is Action.LIST:
            self._listed = False

    def _on_info(self, call: _Call, status: int, body: Any, now: float) -> None:
        if status != 200 or not isinstance(body, dict):
            self._fail(call, now, _unexpected(status, body))
            return
        groups_max, per_group = body.get("max_worker_groups", -1), body.get("workers_per_group", 1)
        if not isinstance(groups_max, int) or not isinstance(per_group, int) or per_group < 1:
            self._fail(call, now, f"max_worker_groups {groups_max!r} and workers_per_group {per_group!r} make no sense")
            return
        self._groups_max = groups_max if groups_max >= 0 else None
        self.workers_per_group = per_group
        self.offers = _names(body.get("base_capabilities"))
        self.sizes = _names(body.get("sized_resources"))
        self._info_due = now + INFO_SECONDS
        if not self.ready:
            limit = "any number of" if self._groups_max is None else f"up to {self._groups_max}"
            groups = "group" if self._groups_max == 1 else "groups"
            workers = "worker" if per_group == 1 else "workers"
            self._outbox.log("info", f"worker adapter {self.url} can start {limit} {groups} of {per_group} {workers}")
        self.ready = True
        self._list_due = min(self._list_due, now)
        self._succeeded()

    def _on_list(self, call: _Call, status: int, body: Any, now: float) -> None:
        if status in (404, 405, 501):
            # The standard does not require a list. Then the scheduler knows only what the adapter has answered.
            self._lists = False
            return
        rows = body.get("worker_groups") if isinstance(body, dict) else None
        if status != 200 or not isinstance(rows, list) or len(rows) > GROUPS_MAX:
            self._fail(call, now, _unexpected(status, body))
            return
        self._succeeded()
        if call.issued_at <= self._changed_at:
            # The list may be older than the last start or stop of a group.
            self._list_due = now + POLL_SECONDS
            return
        self._list_due = now + LIST_SECONDS
        self._listed = True
        listed: set[str] = set()
        for row in rows:
            group_id = row.get("worker_group_id") if isinstance(row, dict) else None
            if isinstance(group_id, str):
                listed.add(group_id)
                self._note(group_id, row, now)
        for group_id in self.groups.keys() - listed:
            group = self.groups.pop(group_id)
            if group.leaving:
                self._note_stopped(group, now)
            else:
                self.on_gone(group, now)

    def _note(self, group_id: str, row: dict[str, Any], now: float) -> None:
        pending, ending = row.get("state") == "pending", row.get("state") == "ending"
        group = self.groups.get(group_id)
        if group is None:
            extra = _names(row.get("capabilities")) - self.offers
            if any(start.calling and start.extra == extra for start in self.starting.values()):
                # It may be the group whose start is not answered yet, and would be counted twice. A later list has it too.
                return
            self.groups[group_id] = Group(group_id, _names(row.get("worker_ids")), extra, now, pending)
            return
        group.worker_names = _names(row.get("worker_ids")) or group.worker_names
        if group.pending and not pending:
            group.since = now
        group.pending, group.ending = pending, ending

    def _on_started(self, call: _Call, start: Start, status: int, body: Any, now: float) -> None:
        if start.request_id not in self.starting and status != 200:
            return
        if status == 202:
            start.due = now + POLL_SECONDS
            self._succeeded()
            return
        if status in (400, 429):
            self.starting.pop(start.request_id, None)
            text = self._refusals.text = _error(body)
            self._log.note(now, "refused", self.url, text)
            if status == 400 and start.amounts:
                self._refusals.sizes[start.extra, start.amounts] = now + REFUSAL_SECONDS
                wanted = format_amounts(start.amounts)
                self._outbox.log("warning", f"worker adapter {self.url} cannot bring a host with {wanted}: {text}")
            elif status == 400:
                self._refusals.kinds[start.extra] = now + REFUSAL_SECONDS
                wanted = ", ".join(sorted(start.extra)) or "plain workers"
                self._outbox.log("warning", f"worker adapter {self.url} cannot bring {wanted}: {text}")
            else:
                self._refusals.groups = len(self.groups)
                self._refusals.groups_until = now + CAPACITY_SECONDS
                self._outbox.log("info", f"worker adapter {self.url} has no capacity: {text}")
            return
        group_id = body.get("worker_group_id") or body.get("worker_id") if isinstance(body, dict) else None
        if status != 200 or not isinstance(group_id, str):
            self._fail(call, now, _unexpected(status, body))
            return
        self.starting.pop(start.request_id, None)
        self._refusals.text = ""
        self._changed_at = now
        self._succeeded()
        if group_id not in self.groups:
            names = _names(body.get("worker_ids"))
            pending = body.get("state") == "pending"
            self.groups[group_id] = Group(group_id, names, start.extra, start.since, pending, amounts=start.amounts)

    def _on_stopped(self, call: _Call, group: Group, status: int, body: Any, now: float) -> None:
        if status == 202:
            group.stop_due = now + POLL_SECONDS
            return
        if status not in (200, 404):
            self._fail(call, now, _unexpected(status, body))
            return
        self._changed_at = now
        self._succeeded()
        if self.groups.pop(group.id, None) is not None:
            self._note_stopped(group, now)

    def _note_stopped(self, group: Group, now: float) -> None:
        self._log.note(now, "ended", self.url, f"group {group.id} has ended, as asked")

    def _succeeded(self) -> None:
        if self.failures and self.last_error:
            self._outbox.log("info", f"worker adapter {self.url} answers again")
        self.failures = 0
        self.last_error = ""


def _number(amount: int) -> float:
    """Return thousandths as a number for JSON."""
    return amount / ONE if amount % ONE else amount // ONE


def _names(value: Any) -> frozenset[str]:
    """Return the names in a list, or the keys of a mapping; nothing for any other value."""
    return frozenset(name for name in value if isinstance(name, str)) if isinstance(value, dict | list) else PLAIN


def _error(body: Any) -> str:
    text = body.get("error") if isinstance(body, dict) else None
    return str(text)[:500] if text else "no reason given"


def _unexpected(status: int, body: Any) -> str:
    return f"status {status}: {_error(body)}" if status != 200 else "an answer that makes no sense"
