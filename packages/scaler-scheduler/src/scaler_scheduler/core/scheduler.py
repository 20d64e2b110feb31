"""The scheduler's core: takes each event to the part that decides about it, and places tasks once per batch of events.

| part | decides |
|---|---|
| `sessions` | who is connected, and which messages count |
| `client_requests`, `agent_reports` | what each accepted message means |
| `lifecycle`, `graph_rows`, `answers` | what state a task is in, which rows of graphs may run, how a task ends |
| `placement`, `dispatch`, `rebalancing`, `credits` | who runs what, and who may submit more |
| `departures`, `unservable` | what becomes of the tasks of peers that are gone, and of tasks that nobody can run |
| `groups`, `group_queues`, `group_lifecycle`, `group_limits` | how groups of clients share the cluster, if they do |
| `timers`, `deadlines` | when tasks that have failed run again, and which have run out of time |
| `lost_results` | which rows of graphs run again because a host has taken their results with it |
| `scaling`, `adapters` | how many workers are asked for |
| `succession` | for the shell: which of two schedulers is first |
| `jobs` | which tasks outlive their client, and who is told of their results |
| `locks`, `lock_requests` | who holds named locks and semaphores |
| `output_questions` | which agents are asked for the output that monitors want to read |
| `operator_requests` | which tasks of others an operator cancels |
| `monitor_reports`, `shutdown` | what monitors are told, and how all of this ends |

All parts work on the tables of one `SchedulerState`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from scaler_protocol.errors import SessionError
from scaler_protocol.wire import messages as m
from scaler_scheduler.config import SchedulerConfig
from scaler_scheduler.core import effects, events
from scaler_scheduler.core.agent_reports import AgentReports
from scaler_scheduler.core.answers import Answers
from scaler_scheduler.core.client_requests import ClientRequests
from scaler_scheduler.core.credits import Credits
from scaler_scheduler.core.deadlines import Deadlines
from scaler_scheduler.core.departures import Departures
from scaler_scheduler.core.graph_rows import GraphRows
from scaler_scheduler.core.graph_view import view_graph
from scaler_scheduler.core.group_lifecycle import GroupLifecycle
from scaler_scheduler.core.group_limits import GroupLimits
from scaler_scheduler.core.group_queues import GroupReadyQueues
from scaler_scheduler.core.invariants import check_state
from scaler_scheduler.core.jobs import RETRY_SECONDS, Jobs
from scaler_scheduler.core.lifecycle import TaskLifecycle
from scaler_scheduler.core.linked_recovery import LinkedRecovery
from scaler_scheduler.core.lock_requests import LockRequests
from scaler_scheduler.core.lost_results import LostResults
from scaler_scheduler.core.monitor_reports import MonitorReports
from scaler_scheduler.core.object_listing import with_tasks
from scaler_scheduler.core.operator_requests import OperatorRequests
from scaler_scheduler.core.output_questions import OutputQuestions
from scaler_scheduler.core.placement import Placement, forget_ended
from scaler_scheduler.core.profiles import Profiles
from scaler_scheduler.core.rebalancing import Rebalancing
from scaler_scheduler.core.records import ClientRecord, PeerRecord
from scaler_scheduler.core.rounds import PeerRounds
from scaler_scheduler.core.scaling import Scaling
from scaler_scheduler.core.sessions import PeerSessions
from scaler_scheduler.core.shutdown import Shutdown
from scaler_scheduler.core.snapshot import describe
from scaler_scheduler.core.state import SchedulerState
from scaler_scheduler.core.unservable import UnservableTasks

OVERDUE_PORTIONS = 8
"""So many portions of the tasks whose deadline is over end before others are placed."""

MAINTENANCE_INTERVAL_SECONDS = 0.5
"""How often silence, retention and reports are looked at."""


class SchedulerCore:
    """Keeps the contract of `scaler_protocol.runtime.core.Core`. Not thread-safe; owned by one shell."""

    def __init__(self, config: SchedulerConfig, now: float) -> None:
        self.config = config
        state = SchedulerState(config, now)
        self._state = state
        self._now = now
        self._is_limited = config.max_number_of_tasks_waiting >= 0
        self._outbox = state.outbox
        self._marks = state.marks
        self._scaling = None if config.scaling is None else Scaling(state, config.scaling, now)
        groups = state.groups
        self._lifecycle = TaskLifecycle(state) if groups is None else GroupLifecycle(state, groups)
        self._group_limits = None
        if (
            isinstance(self._lifecycle, GroupLifecycle)
            and isinstance(state.ready, GroupReadyQueues)
            and groups is not None
        ):
            grace_seconds = config.unservable_grace_seconds
            self._group_limits = GroupLimits(
                groups, state.ready, state.outbox, state.clients, self._lifecycle, grace_seconds
            )
        self._credits = Credits(state)
        self._shutdown = Shutdown(state)
        self._rows = rows = GraphRows(state, self._lifecycle)
        self._answers = answers = Answers(state, self._lifecycle, rows)
        self._lost_results = LostResults(state, self._lifecycle, rows)
        self._departures = Departures(state, self._lifecycle, rows, answers)
        self._linked_recovery = LinkedRecovery(state, self._lifecycle, rows)
        self._unservable = UnservableTasks(state, answers, self._scaling)
        self._deadlines = Deadlines(state, rows, answers, self._linked_recovery, self._unservable)
        self._jobs = Jobs(state, now)
        requests = ClientRequests(
            state,
            self._lifecycle,
            rows,
            answers,
            self._credits,
            self._linked_recovery,
            self._deadlines,
            self._shutdown,
            self._group_limits,
            self._jobs,
        )
        self._jobs.begin(requests.take_tasks, requests.cancel_tasks, self._departures.remove_job)
        self._departures.begin(self._jobs.forget_client)
        reports = AgentReports(state, self._lifecycle, answers, self._departures, self._scaling)
        self._lock_requests = LockRequests(state)
        self._output_questions = OutputQuestions(state)
        self._operator_requests = OperatorRequests(state, rows, self._shutdown, requests.cancel_tasks)
        self._profiles = Profiles(state)
        from_clients = {
            **requests.handlers,
            **self._jobs.handlers,
            **self._lock_requests.handlers,
            **self._operator_requests.handlers,
        }
        from_agents = {**reports.handlers, **self._output_questions.handlers, **self._profiles.handlers}
        self._sessions = PeerSessions(
            state, self._departures, self._shutdown, from_clients, from_agents, reports.on_heartbeat
        )
        self._placement = Placement(state, self._lifecycle)
        self._rebalancing = Rebalancing(state, now)
        self._monitor_reports = MonitorReports(state, self._scaling, self._jobs, now)
        self._rounds = PeerRounds(state.peers, self._look_after, MAINTENANCE_INTERVAL_SECONDS)
        self._maintenance_at = now + MAINTENANCE_INTERVAL_SECONDS

    def handle(self, event: events.Event, now: float) -> None:
        """Take one event in. Never raises for what a peer did: a peer that breaks the rules is given up."""
        self._now = now
        if type(event) is events.Incoming:
            peer, envelope, message = event
            try:
                self._sessions.receive(peer, envelope, message, now)
            except SessionError as error:
                self._sessions.give_up(peer, str(error), now)
        elif isinstance(event, events.Tick):
            self._on_tick(event, now)
        elif isinstance(event, events.PeerUnreachable):
            self._sessions.on_unreachable(event, now)
        elif isinstance(event, events.WebhookAnswered | events.WebhookFailed):
            if self._scaling is not None:
                self._scaling.on_webhook(event, now)
        elif isinstance(event, events.StoreLost):
            self._outbox.log("warning", f"object storage server: {event.reason}")
        elif isinstance(event, events.StoreReplaced):
            self._lost_results.on_store_replaced()
            self._jobs.on_store_replaced()
        elif isinstance(event, events.StoreReported):
            self._state.pressure.on_report(event.status)
            self._monitor_reports.on_store_report(event)
            self._jobs.on_store_report(event, now)
        elif isinstance(event, events.ObjectsLost):
            self._lost_results.on_lost(event, now)
            self._jobs.on_objects_lost(event, now)
        elif isinstance(event, events.JournalsStored):
            self._jobs.saving.on_stored(event)
        elif isinstance(event, events.JournalsBehind):
            self._jobs.saving.on_behind(event)
        elif isinstance(event, events.StopAnnounced):
            self._shutdown.announce(event.reason)
        elif isinstance(event, events.StopRequested):
            self._shutdown.request(event.reason)

    def take_effects(self) -> list[effects.Effect]:
        """Return what is to be done, in order.

        Tasks are placed and permissions granted here, once for all events since the last call: a batch leaves together.
        Not all tasks, if there are very many: see `has_more`.
        """
        marks = self._marks
        if self._jobs.arrived or self._jobs.due:
            self._jobs.turn(self._now)
        if self._operator_requests.is_busy and not self._shutdown.announced:
            self._operator_requests.go_on(self._now)
        linked = self._linked_recovery
        if (linked.held or linked.adopting) and not self._shutdown.announced:
            linked.go_on(self._now)
        if self._rows.held and not self._shutdown.announced:
            self._rows.begin_held(self._now)
        if self._rows.adopting and not self._shutdown.announced:
            self._lost_results.take_up_returned(self._now)
        if self._rows.is_busy and not self._shutdown.announced:
            self._rows.end_turn(self._now)
        if marks.placement_due and self._now >= self._state.timers.next_overdue():
            # What has just come back, or was released, may be among them. Very many do not keep the others waiting.
            for _ in range(OVERDUE_PORTIONS):
                if self._deadlines.end_overdue(self._now):
                    break
        if marks.placement_due and not self._shutdown.announced:
            marks.placement_due = self._placement.place_ready(self._now)
            marks.credit_due |= self._is_limited
        if marks.credit_due:
            marks.credit_due = False
            self._credits.grant(self._now)
        if self._state.locks:
            self._lock_requests.grant(self._now)
        return self._outbox.take()

    @property
    def has_more(self) -> bool:
        """Whether `take_effects` would return more at once, although nothing happens."""
        jobs = self._jobs
        busy = (
            self._marks.placement_due
            or self._rows.is_busy
            or self._operator_requests.is_busy
            or self._linked_recovery.is_busy
            or ((jobs.arrived or jobs.due) and jobs.is_due)
        )
        return bool(busy) and not self._shutdown.announced

    def next_deadline(self) -> float:
        """Return when the next Tick is due."""
        if self.has_more:
            return self._now
        deadline = min(
            self._maintenance_at,
            self._rebalancing.next_deadline(),
            self._monitor_reports.next_deadline(),
            self._state.timers.next_deadline(),
            self._state.locks.next_deadline(),
            self._profiles.due_at,
        )
        if self._jobs.due:
            deadline = min(deadline, self._now + RETRY_SECONDS)
        if self._linked_recovery.held or self._rows.held:
            deadline = min(deadline, self._recovery_ends_at)
        if self._scaling is not None:
            deadline = min(deadline, self._scaling.next_deadline())
        if self._state.recovering:
            deadline = min(deadline, self._recovery_ends_at)
        return deadline

    def known_clients(self) -> tuple[bytes, ...]:
        """Return the clients whose end object storage will be told. What belongs to them is kept until then."""
        known = dict.fromkeys(self._departures.awaited)
        known.update(dict.fromkeys(self._state.clients))
        known.update(dict.fromkeys(self._state.recovery.absent))
        return tuple(known)

    def check_invariants(self) -> None:
        """Raise InvariantError unless all tables agree. For tests and the simulation."""
        check_state(self._state, self._linked_recovery.held)

    def snapshot(self, now: float, task_number: int = 0) -> dict[str, Any]:
        """Return all tables as plain values that JSON knows, with all that is known of one task number."""
        return describe(self._state, self._scaling, now, stopping=self._shutdown.stopping, task_number=task_number)

    def view_graph(self, client: bytes, first_number: int, unix_time: float) -> m.MonitorGraph | None:
        """Return the rows of a graph as monitors draw it; None where it is over."""
        state = self._state
        return view_graph(state.clients, state.functions, state.config.incarnation, client, first_number, unix_time)

    def view_objects(self, page: m.ObjectList) -> m.ObjectList:
        """Return what monitors may see of a page of the list of objects, with the tasks that name them."""
        return replace(page, objects=with_tasks(page.objects, self._state.clients.values()))

    def dismiss_peers(self) -> None:
        """Tell all peers that another scheduler is first. What they hold stays with them."""
        self._sessions.dismiss_all()

    def let_operators_end_cluster(self, prefixes: Iterable[bytes]) -> None:
        """From now on only clients whose ids begin like one of these may end the cluster."""
        self._state.operators = set(prefixes)

    def note_key(self, peer: events.Peer, name: str) -> None:
        """The key of a connection has this name: it says to which group a client there belongs."""
        if self._state.groups is not None:
            self._state.groups.note_key(peer, name)

    def restore_job(self, job_id: bytes, records: Iterable[bytes], now: float) -> list[str]:
        """Take up a job from the records of its journal. Before any peer is known. Returns what is wrong with these."""
        return self._jobs.restore(job_id, records, now)

    def refusal(self, peer: events.Peer, hello: m.Hello) -> str | None:
        """Return why a peer with this hello would not be let in; None: it would be."""
        return self._sessions.refusal(peer, hello)

    def is_connected(self, peer: events.Peer) -> bool:
        """Whether this peer has a session."""
        return peer in self._state.peers

    def has_agent_with(self, prefix: bytes) -> bool:
        """Whether an agent is connected whose id begins like this."""
        return any(agent.startswith(prefix) for agent in self._state.agents.by_peer)

    def function_names(self, functions: Iterable[bytes]) -> list[str]:
        """Return the names of functions, for people."""
        return [self._state.functions.name(function) for function in functions]

    @property
    def unfinished_count(self) -> int:
        """Tasks that are ready, assigned or recovering (graph rows that wait are not tasks yet)."""
        return sum(len(client.tasks) for client in self._state.clients.values())

    @property
    def _recovery_ends_at(self) -> float:
        return self._state.started_at + self.config.recovery_grace_seconds

    def _on_tick(self, tick: events.Tick, now: float) -> None:
        self._monitor_reports.on_tick(tick, now)
        # Tasks that are to end are not queued, however many they are.
        if now < self._state.timers.next_overdue() or self._deadlines.end_overdue(now):
            if self._state.recovering and now >= self._recovery_ends_at:
                self._answers.end_unclaimed(self._lifecycle.end_recovery(), now)
            if now >= self._state.timers.next_deadline():
                for task in self._state.timers.take_due(now):
                    self._lifecycle.end_delay(task)
        if now >= self._maintenance_at:
            self._maintenance_at, round_is_over = self._rounds.go_on(now)
            if self._state.pressure.should_ask():
                self._outbox.add(effects.AskStore())
            if round_is_over:
                self._sessions.log_refusals(now)
                self._unservable.report(now)
                if self._group_limits is not None:
                    self._group_limits.report(now)
                    self._group_limits.forget()
                self._departures.expire(now)
                self._deadlines.forget_ended()
                self._jobs.look(now)
                if self._is_limited:
                    self._credits.lapse(now)
        if not self._state.resources.limits_are_known and self._state.ready.has_counted:
            self._marks.placement_due = True
        self._rebalancing.look(now)
        if self._scaling is not None and not self._shutdown.stopping:
            self._scaling.look(now)
        self._monitor_reports.publish(tick, now)
        self._output_questions.look(tick.outputs, now, tick.unix_time)
        self._profiles.on_tick(tick.profiles, now)

    def _look_after(self, record: PeerRecord, now: float) -> bool:
        if not self._sessions.look_after(record, now):
            return False
        if isinstance(record, ClientRecord):
            self._lifecycle.compact(record)
            # Rows that wait may need what the client was answered just now.
            if record not in self._linked_recovery.held:
                self._rows.forget_recent(record)
        else:
            forget_ended(record)
        return True
