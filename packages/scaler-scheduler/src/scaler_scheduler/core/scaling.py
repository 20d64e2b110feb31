"""Requests workers: compares load and workers, asks the policy, and has adapters start and stop groups of workers.

    load ──policy──▶ targets ──compare with groups──▶ start: requested, answered, connected
                                                 └──▶ stop: drained, empty, asked to stop, gone

The adapter says which worker names belong to a group, so agents are assigned to groups by the names of their workers. A group
that is no longer needed is drained first: its agents get no new tasks, give back those that have not started, finish the others
and leave. Only then is the adapter asked to stop the group.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from scaler_protocol.capabilities import is_bound, offered
from scaler_protocol.ids import short
from scaler_protocol.runtime.resources import Amounts
from scaler_protocol.wire import messages as m
from scaler_scheduler.config import ScalingConfig
from scaler_scheduler.core import events
from scaler_scheduler.core.adapters import Adapter, Group
from scaler_scheduler.core.records import AgentRecord, Task
from scaler_scheduler.core.scaling_log import ScalingLog
from scaler_scheduler.core.sized_groups import SizedGroups
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.policy.scaling import (
    PLAIN,
    AdapterView,
    Demand,
    Names,
    Strategy,
    View,
    share_out,
    steady,
    workers_needed,
)

LOOK_SECONDS = 0.5
"""Seconds between two comparisons of load and workers."""

SAMPLE_TASKS = 64
"""How many waiting tasks of a kind, and of an agent beyond its workers, are looked at to estimate durations."""

VANISHED_SECONDS = 10.0
"""A group is given up if none of its workers has been connected for so long, though some were before."""

DRAIN_SECONDS_MAX = 600.0
"""A group that should leave and still runs tasks after so long is stopped all the same. Its tasks run again elsewhere."""


@dataclass(slots=True)
class _Tally:
    waiting: int = 0
    running: int = 0
    sampled: int = 0
    seconds: float = 0.0


class Scaling:
    """See the module."""

    def __init__(self, state: SchedulerState, config: ScalingConfig, now: float) -> None:
        self.strategy = Strategy(config.strategy)
        self.durations = state.durations
        self._config = config
        self._cool_down_s = state.config.scaling_cool_down_seconds
        self._agents = state.agents
        self._resources = state.resources
        self._ready = state.ready
        self._outbox = state.outbox
        self._monitor = state.monitor
        self._monitor.scaling_strategy = config.strategy
        self._calls = 0
        self._requests = 0
        self._prefix = short(state.config.incarnation)
        self.log = ScalingLog()
        self.adapters = [Adapter(url, state.outbox, self._new_call, self._new_request, self.log) for url in config.urls]
        self._sized = SizedGroups(self.adapters, any_extra=self.strategy is Strategy.CAPABILITY)
        self._look_at = now
        # Clients and agents of an earlier scheduler need a while to come back with their work.
        self._shrink_from = now + max(self._cool_down_s, state.config.recovery_grace_seconds)
        self._history: dict[Names, deque[tuple[float, int]]] = {}
        self._oldest: dict[AgentRecord, tuple[Task, float]] = {}
        self._members: dict[Group, list[AgentRecord]] = {}
        self._views: list[AdapterView] = [adapter.view(now) for adapter in self.adapters]
        self._targets: list[dict[Names, int]] = [{} for _ in self.adapters]
        self._said = ""

    # --- events

    def observe(self, tasks: Iterable[Task], durations: Sequence[int]) -> None:
        """Take in how many microseconds successful tasks took."""
        for task, duration in zip(tasks, durations, strict=False):
            self.durations.observe((task.function, task.options.kind), duration / 1e6)

    def on_webhook(self, event: events.WebhookAnswered | events.WebhookFailed, now: float) -> None:
        """Take in what became of a call to an adapter."""
        for adapter in self.adapters:
            if adapter.owns(event.call):
                if isinstance(event, events.WebhookAnswered):
                    adapter.on_answer(event.call, event.status, event.body, now)
                else:
                    adapter.on_failure(event.call, event.reason, now)
                adapter.tick(now)
                return

    def next_deadline(self) -> float:
        """Return when to look again."""
        return self._look_at

    def look(self, now: float) -> None:
        """Compare the workers that should exist with those that do, and request starts and stops."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        self._recognise_agents(now)
        for adapter in self.adapters:
            self._look_after_groups(adapter, now)
        self._views = [adapter.view(now) for adapter in self.adapters]
        view = self._view(now)
        self._targets = share_out(self._steady_needs(workers_needed(self.strategy, view), now), view)
        for adapter, target in zip(self.adapters, self._targets, strict=True):
            if adapter.reconciled:
                self._sized.raise_targets(adapter, target, adapter.view(now).groups)
                self._fulfil(adapter, target, now, view)
            adapter.tick(now)
        self._tell(view)

    # --- questions of other parts

    def can_bring(self, kind: Names) -> bool:
        """Whether a reachable adapter can start workers for tasks of this kind."""
        for adapter, view in zip(self.adapters, self._views, strict=True):
            extra = view.extra_for(kind)
            able = extra is not None and (self.strategy is Strategy.CAPABILITY or not extra)
            if able and adapter.ready and view.groups_max != 0:
                return True
        return False

    def could_come(self, kind: Names, amounts: Amounts) -> bool:
        """Whether workers may be started whose host serves an ask, as far as the scheduler knows."""
        of_host, of_cluster = self._resources.parted(amounts)
        return self._resources.could_come(kind, amounts) or (
            self._resources.limits.could_serve(of_cluster) and self._sized.can_bring(kind, of_host)
        )

    def groups_under_way(self, kind: Names, now: float) -> int:
        """Return how many groups that could run tasks of this kind are starting."""
        return sum(adapter.groups_under_way(now, kind) for adapter in self.adapters)

    def problems(self) -> list[str]:
        """What is wrong with adapters, as sentences."""
        return [problem for adapter in self.adapters for problem in adapter.problems]

    def statuses(self) -> tuple[m.AdapterStatus, ...]:
        """Return the adapters as monitors show them."""
        now = self._look_at
        return tuple(
            m.AdapterStatus(
                url=adapter.url,
                state="unreachable" if adapter.failures else "ok" if adapter.ready else "unknown",
                groups=len(adapter.groups),
                groups_max=-1 if view.groups_max is None else view.groups_max,
                workers_per_group=adapter.workers_per_group,
                requested_groups=sum(target.values()),
                starting_groups=adapter.groups_under_way(now, PLAIN),
                capabilities=",".join(sorted(adapter.offers)),
                text=adapter.last_error,
            )
            for adapter, view, target in zip(self.adapters, self._views, self._targets, strict=True)
        )

    # --- the view

    def _recognise_agents(self, now: float) -> None:
        by_name: dict[str, tuple[Adapter, Group]] = {
            name: (adapter, group)
            for adapter in self.adapters
            for group in adapter.groups.values()
            for name in group.worker_names
        }
        self._members = {}
        for agent in self._agents.by_peer.values():
            for name in (*agent.hello.worker_names, agent.name):
                found = by_name.get(name)
                if found is not None:
                    adapter, group = found
                    self._members.setdefault(group, []).append(agent)
                    adapter.on_arrival(group, now)
                    break

    def _look_after_groups(self, adapter: Adapter, now: float) -> None:
        for group in list(adapter.groups.values()):
            agents = self._members.get(group, ())
            if group.leaving:
                if not agents or now >= group.leave_by:
                    adapter.stop(group, now)
            elif group.ending:
                self._drain(adapter, group, "its machines go away soon", now)
            elif agents:
                # Something else has told them to leave, such as the end of a batch job's time.
                group.leaving = all(agent.draining for agent in agents)
                group.leave_by = inf
            elif group.pending:
                continue
            elif not group.arrived and now >= group.since + self._config.arrival_seconds:
                adapter.blame(
                    now, f"no worker of group {group.id} connected within {self._config.arrival_seconds:g} s: stopped"
                )
                adapter.stop(group, now)
            elif group.arrived and now >= group.seen_at + VANISHED_SECONDS:
                adapter.on_gone(group, now)
                adapter.stop(group, now)

    def _view(self, now: float) -> View:
        connected: dict[Names, int] = {}
        standing: dict[Names, int] = {}
        of_groups = {agent for agents in self._members.values() for agent in agents}
        for agent in self._agents.by_peer.values():
            if agent.draining:
                continue
            names = agent.capability_names
            connected[names] = connected.get(names, 0) + agent.slots
            if agent not in of_groups:
                standing[names] = standing.get(names, 0) + agent.slots
        return View(self._demands(now), self._views, connected, standing)

    def _demands(self, now: float) -> list[Demand]:
        tallies: dict[Names, _Tally] = {}
        self._sized.begin()
        self._watch_running(now)
        for queue in self._ready.non_empty():
            if is_bound(queue.signature):
                # They wait for certain workers: others are no use to them.
                continue
            names, count = offered(queue.signature), queue.open_count
            if queue.amounts:
                # Amounts that no host has ever offered, or that the limits of the cluster do not let out, come with no worker.
                could_come = self.could_come(names, queue.amounts)
                count = self._resources.wanted_times(queue.amounts, count) if could_come else 0
            if not count:
                continue
            if queue.amounts:
                self._note_ask(queue.signature, names, queue.amounts, count)
            tally = tallies.setdefault(names, _Tally())
            tally.waiting += count
            for task in queue.front(SAMPLE_TASKS):
                self._sample(tally, task)
        for agent in self._agents.by_peer.values():
            self._count_assigned(agent, tallies)
        return [
            Demand(kind, tally.waiting, tally.running, tally.seconds / tally.sampled if tally.sampled else None)
            for kind, tally in tallies.items()
        ]

    def _note_ask(self, signature: frozenset[str], names: Names, amounts: Amounts, count: int) -> None:
        of_host, _ = self._resources.parted(amounts)
        if of_host:
            agents = (agent for group in self._agents.groups_for(signature) for agent in group.agents)
            is_served = self._resources.can_serve(amounts, agents)
            self._sized.note(names, of_host, count, is_served=is_served)

    def _count_assigned(self, agent: AgentRecord, tallies: dict[Names, _Tally]) -> None:
        """Count an agent's tasks: one per worker as running, the others as waiting. Unseen ones count like the last one seen."""
        tally = _Tally()
        seen = 0
        for task in islice(agent.tasks, agent.slots + SAMPLE_TASKS):
            tally = tallies.setdefault(offered(task.options.signature), _Tally())
            if seen < agent.slots:
                tally.running += 1
            else:
                tally.waiting += 1
            self._sample(tally, task)
            seen += 1
        tally.waiting += len(agent.tasks) - seen

    def _sample(self, tally: _Tally, task: Task) -> None:
        seconds = self.durations.of((task.function, task.options.kind))
        if seconds is not None:
            tally.sampled += 1
            tally.seconds += seconds

    def _watch_running(self, now: float) -> None:
        """A task that was the oldest of its agent at an earlier look has run at least since then."""
        oldest: dict[AgentRecord, tuple[Task, float]] = {}
        for agent in self._agents.by_peer.values():
            task = next(iter(agent.tasks), None)
            states = agent.heartbeat.processor_states
            if task is None or all(state == m.ProcessorState.STARTING for state in states):
                # A task that waits for the first processor does not run yet.
                continue
            before = self._oldest.get(agent)
            since = before[1] if before is not None and before[0] is task else now
            oldest[agent] = (task, since)
            if now - since > LOOK_SECONDS:
                self.durations.at_least((task.function, task.options.kind), now - since)
        self._oldest = oldest

    # --- targets

    def _steady_needs(self, needs: Mapping[Names, int], now: float) -> dict[Names, int]:
        cool_down = self._cool_down_s
        result: dict[Names, int] = {}
        for kind in needs.keys() | self._history.keys():
            history = self._history.setdefault(kind, deque())
            need = needs.get(kind, 0)
            while history and (history[0][0] < now - cool_down or history[-1][1] <= need):
                # A smaller and earlier need can never be the largest again.
                if history[-1][1] <= need:
                    history.pop()
                else:
                    history.popleft()
            if need:
                history.append((now, need))
            if history:
                result[kind] = steady(history, now, cool_down)
            else:
                del self._history[kind]
        return result

    def _fulfil(self, adapter: Adapter, target: Mapping[Names, int], now: float, view: View) -> None:
        has = adapter.view(now).groups
        for extra in target.keys() | has.keys():
            difference = target.get(extra, 0) - has.get(extra, 0)
            started = 0
            while started < difference and adapter.start(extra, now, self._sized.amounts_for(adapter, extra)):
                started += 1
            if started:
                kind = "" if extra == PLAIN else f" with {_described(extra)}"
                wanted, there = target.get(extra, 0), has.get(extra, 0)
                groups = "group" if wanted == 1 else "groups"
                reason = f"{_work(view)} need {wanted} {groups}{kind} here; {there} existed or had been asked for"
                self.log.note(now, "requested", adapter.url, reason, started)
            for _ in range(-difference if now >= self._shrink_from else 0):
                if not adapter.withdraw(extra):
                    self._dismiss(adapter, extra, now)

    def _dismiss(self, adapter: Adapter, extra: Names, now: float) -> None:
        """Have one group leave: one that has not connected, or the one with fewest tasks per worker."""
        candidates = [group for group in adapter.groups.values() if group.extra == extra and not group.leaving]
        if not candidates:
            return
        group = min(candidates, key=self._load)
        agents = self._members.get(group, ())
        if not agents:
            self.log.note(now, "leaving", adapter.url, f"group {group.id}: not needed any more, and not connected yet")
            adapter.stop(group, now)
            return
        self._drain(adapter, group, "not needed any more", now)

    def _drain(self, adapter: Adapter, group: Group, why: str, now: float) -> None:
        """Have the workers of a group finish what they run and leave."""
        group.leaving = True
        group.leave_by = now + DRAIN_SECONDS_MAX
        self.log.note(now, "leaving", adapter.url, f"group {group.id}: {why}")
        self._outbox.log("info", f"group {group.id} leaves once it has finished what it runs: {why}")
        for agent in self._members.get(group, ()):
            if not agent.draining:
                self._agents.drain(agent)
                self._outbox.send(agent, m.Drain())

    def _load(self, group: Group) -> float:
        agents = self._members.get(group, ())
        return sum(len(agent.tasks) for agent in agents) / sum(agent.slots for agent in agents) if agents else -1.0

    def _tell(self, view: View) -> None:
        """Log the targets whenever they have changed."""
        parts = [
            f"{count} {_described(extra)} at {adapter.url}"
            for adapter, target in zip(self.adapters, self._targets, strict=True)
            for extra, count in sorted(target.items(), key=lambda item: sorted(item[0]))
        ]
        said = ", ".join(parts) or "none"
        if said != self._said:
            self._said = said
            self._outbox.log("info", f"{_work(view)}; worker groups wanted: {said}")

    def _new_call(self) -> int:
        self._calls += 1
        return self._calls

    def _new_request(self) -> str:
        self._requests += 1
        return f"{self._prefix}-{self._requests}"


def _work(view: View) -> str:
    """Return how much there is to do, for people."""
    tasks = sum(demand.tasks for demand in view.demands)
    seconds = sum(demand.tasks * (demand.task_seconds or 0.0) for demand in view.demands)
    return f"{tasks} tasks, about {seconds:.1f} s of work"


def _described(extra: Names) -> str:
    return "{" + ", ".join(sorted(extra)) + "}" if extra != PLAIN else "plain"
