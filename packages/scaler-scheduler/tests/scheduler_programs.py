"""Random programs for a scheduler's core: `python packages/scaler-scheduler/tests/scheduler_programs.py --seed N --seeds K`.

A seed draws clients, agents, what is submitted and cancelled, how it ends, what is lost, and changes of the scheduler. After each
step the core's invariants hold, and what clients and agents are told is compared with what they may be told (`program_ledger`).
In the end everything heals: each task is answered, and when all clients have left nothing of them is left in the core.

A failing seed is run again: the program prints the story of the task concerned. A seed holds for one version of this code.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from harness import FUNCTION, Client, Harness, Peer, identity
from program_agent import ProgramAgent
from program_ledger import Entry, ProgramError, ProgramLedger
from test_memory_of_departed import kept_of_clients

from scaler_protocol.runtime.resources import parse_amounts
from scaler_protocol.testing.seeded_programs import run_seeds
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS, CallOptions, Retries, encode_record, join_records
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.task_history import Failures, History, with_history
from scaler_scheduler.core import SchedulerConfig, SchedulerCore, events
from scaler_scheduler.group_shares import GroupShare

STEPS = 120

CLIENTS_MAX = 3
AGENTS_MAX = 4
ROWS_MAX = 8
OPEN_MAX = 60
"""No more is submitted while so many tasks of a client are open."""

LIMITS = "licence=2"
"""Of the whole cluster."""

GRACE_SECONDS = 3.0
AGENT_TIMEOUT_SECONDS = 15.0
CLIENT_TIMEOUT_SECONDS = 30.0
ATTEMPTS_MAX = 3

SHARES = (GroupShare("small", 1.0, max_running=2), GroupShare("short", 2.0, max_waiting=6), GroupShare("default", 1.0))

HEALED_SECONDS_MAX = 200
"""When everything is well again, all tasks have ended within this."""

TABLES = ("unfinished", "assigned", "graphs", "graphs_arriving")
"""In what the core tells of a client: empty when all its tasks have ended."""

NOTES = ("links", "retried", "retried_before", "overdue", "reasons", "withdrawn")
"""In its record of a client, likewise."""

STORY_LINES_MAX = 300

FEATURES = (
    "graphs",
    "links",
    "cancels",
    "withdrawals",
    "options",
    "resources",
    "deaths",
    "objects_lost",
    "restarts",
    "cuts",
    "drains",
    "clients_leave",
    "groups",
    "time",
)
"""A seed draws which of these its program has: what is rare together is seen so."""


class ProgramClient:
    """A client: what it has submitted, and how it announces that again."""

    def __init__(self, harness: Harness, ledger: ProgramLedger, name: str, group: str) -> None:
        self.harness = harness
        self.ledger = ledger
        self.peer = Client(harness, name, group=group)
        self.graphs: dict[int, list[Entry]] = {}
        """Of each graph, by the number of its first row: its rows."""

    @property
    def id(self) -> bytes:
        return self.peer.id

    @property
    def is_connected(self) -> bool:
        return self.peer.reachable and self.peer.connection.established

    def listen(self) -> None:
        """Take what the scheduler says."""
        for message in self.peer.hear():
            if isinstance(message, m.Welcome):
                self._announce()
            elif isinstance(message, m.ResultBatch):
                self._on_results(message)

    def _on_results(self, batch: m.ResultBatch) -> None:
        statuses = batch.statuses if len(batch.statuses) else [0] * len(batch.numbers)
        for number, attempt, status, payload in zip(
            batch.numbers, batch.attempts, statuses, batch.payloads.split(), strict=True
        ):
            key = self.id, number
            if status == m.Status.RETRY:
                self.ledger.retried(key, attempt, int(payload))
            elif status == m.Status.UNREADABLE and (entry := self.ledger.entries[key]).is_single and entry.is_open:
                self.ledger.tell(key, "its client hears that it cannot be read")
                if not entry.canceled:
                    self._send_tasks([entry], 0)
                else:
                    entry.confirmed = True
            else:
                self.ledger.answered(key, m.Status(status), payload)

    def submit(self, count: int, options: CallOptions) -> None:
        """Submit single tasks."""
        first = self.peer.next_number
        entries = [self._entry(first, (), options, wanted=True) for _ in range(count)]
        for entry in entries:
            entry.is_single = True
        self._send_tasks(entries, 0)

    def submit_graph(self, needs: Sequence[Sequence[int]], wanted: Sequence[int], options: CallOptions) -> None:
        """Submit a graph, the rows of which need the rows before that are given here."""
        first = self.peer.next_number
        entries = [
            self._entry(first, [first + row for row in needed], options, wanted=place in wanted)
            for place, needed in enumerate(needs)
        ]
        self.graphs[first] = entries
        self._send_graph(entries, 0)

    def link(self, needs: Sequence[Sequence[int]], options: CallOptions) -> None:
        """Submit tasks that need earlier ones, by their numbers, and rows of this graph (below zero: counted from here)."""
        first = self.peer.next_number
        entries = [
            self._entry(first, [first - one - 1 if one < 0 else one for one in needed], options, wanted=True)
            for needed in needs
        ]
        for entry in entries:
            entry.is_linked = True
        self.graphs[first] = entries
        self._send_graph(entries, 0)

    def _entry(self, first: int, needs: Sequence[int], options: CallOptions, *, wanted: bool) -> Entry:
        entry = Entry(self.id, self.peer.next_number, tuple(needs), options, wanted, self.harness.now, first)
        self.peer.next_number += 1
        self.ledger.submitted(entry)
        return entry

    def _sent(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.ledger.sent(entry, arrives=self.is_connected)

    def _send_tasks(self, entries: Sequence[Entry], flags: int) -> None:
        self._sent(entries)
        waited = [self.harness.now - entry.submitted_at for entry in entries]
        records = [encode_record(entry.options) for entry in entries]
        options = join_records(records)
        failures = {one.number: Failures(one.errors, one.error_attempt) for one in entries if one.errors}
        if options:
            options = with_history(options, History(waited, failures))
        numbers = [entry.number for entry in entries]
        payloads = Packed.of([b"P%d" % number for number in numbers])
        self.peer.send(m.TaskBatch(self.id, numbers, (FUNCTION,), payloads, flags=flags, options=options))

    def _send_graph(self, entries: Sequence[Entry], flags: int) -> None:
        self._sent(entries)
        first, rows = entries[0].number, len(entries)
        earlier = sorted({number for entry in entries for number in entry.needs if number < first})
        places = {number: rows + place for place, number in enumerate(earlier)}
        options = join_records((encode_record(entries[0].options),))
        if flags and options:
            failures = {one.number: Failures(one.errors, one.error_attempt) for one in entries if one.errors}
            options = with_history(options, History([self.harness.now - entries[0].submitted_at], failures))
        counts = [len(entry.needs) for entry in entries]
        needs = [places.get(number, number - first) for entry in entries for number in entry.needs]
        payloads = [b"P%d" % entry.number for entry in entries]
        wanted = [place for place, entry in enumerate(entries) if entry.is_open and not entry.canceled]
        whole = m.GraphSubmit(
            self.id, first, (FUNCTION,), Packed.of(payloads), counts, needs, wanted, earlier=earlier, flags=flags
        )
        whole.options = options
        if earlier or rows < 4:
            self.peer.send(whole)
            return
        # In two portions.
        half = rows // 2
        in_first = sum(counts[:half])
        for start, end, needed in ((0, half, needs[:in_first]), (half, rows, needs[in_first:])):
            self.peer.send(
                m.GraphSubmit(
                    self.id,
                    first,
                    (FUNCTION,),
                    Packed.of(payloads[start:end]),
                    counts[start:end],
                    needed,
                    [row - start for row in wanted if start <= row < end],
                    flags=flags,
                    options=options,
                    first_row=start,
                    row_count=rows,
                )
            )

    def cancel(self, entries: Sequence[Entry]) -> None:
        """These are not wanted any more. Whether they were in time, the scheduler says."""
        for entry in entries:
            entry.canceled = True
            self.ledger.tell(entry.key, "its client cancels it")
        self.peer.send(m.TaskCancel(self.id, [entry.number for entry in entries]))

    def withdraw(self, entries: Sequence[Entry]) -> None:
        """These are not wanted unless they have begun."""
        for entry in entries:
            entry.withdrawn = True
            self.ledger.tell(entry.key, "its client withdraws it")
        self.peer.send(m.TaskCancel(self.id, [entry.number for entry in entries], waiting_only=True))

    def _announce(self) -> None:
        """Another scheduler knows nothing of this client: tell it all that is unanswered, in the order in which it left."""
        self.peer.define()
        entries = self.ledger.open_entries(self.id)
        for entry in entries:
            # A scheduler that knows nothing of it has nothing to confirm.
            entry.confirmed = entry.canceled
        entries = [entry for entry in entries if not entry.canceled]
        in_graph = {row.number: first for first, rows in self.graphs.items() for row in rows}
        firsts = sorted({in_graph[entry.number] for entry in entries if entry.number in in_graph})
        linked = [first for first in firsts if self.graphs[first][0].is_linked]
        for first in firsts:
            if first not in linked:
                self._announce_graph(first)
        singles = {entry.number: entry for entry in entries if entry.number not in in_graph}
        for number in sorted([*linked, *singles]):
            if number in singles:
                self.ledger.tell(singles[number].key, "its client announces it again")
                self._send_tasks([singles[number]], m.TaskFlag.REANNOUNCED)
                if singles[number].withdrawn:
                    self.withdraw([singles[number]])
            else:
                self._announce_graph(number)

    def _announce_graph(self, first: int) -> None:
        entries = self.graphs[first]
        for entry in entries:
            self.ledger.tell(entry.key, "its client announces its graph again")
        self._send_graph(entries, m.TaskFlag.REANNOUNCED)
        canceled = [entry for entry in entries if entry.canceled and entry.answer is None]
        if canceled:
            self.cancel(canceled)


class Program:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        share = self.random.choice((0.3, 0.6, 1.0))
        self.once_share = self.random.choice((0.1, 0.3, 0.9))
        """How many of the tasks that ask for something and for no retries may not run twice."""
        self.deadline_share = self.random.choice((0.2, 0.2, 0.8))
        self.restart_weight = self.random.choice((1.5, 1.5, 7.0))
        self.features = {name for name in FEATURES if self.random.random() < share}
        self.config: dict[str, Any] = {
            "recovery_grace_seconds": GRACE_SECONDS,
            "worker_timeout_seconds": AGENT_TIMEOUT_SECONDS,
            "client_timeout_seconds": CLIENT_TIMEOUT_SECONDS,
            "max_task_attempts": ATTEMPTS_MAX,
            "object_retention_seconds": self.random.choice((0.0, 10.0)),
            "load_balance_seconds": 1.0,
            "resources": LIMITS if "resources" in self.features else "",
            "shares": SHARES if "groups" in self.features else (),
        }
        self.harness = Harness(**self.config)
        self.harness.ticks_while_due = True
        self.ledger = ProgramLedger(self.harness, ATTEMPTS_MAX)
        self.ledger.refuses = "groups" in self.features
        self.clients: list[ProgramClient] = []
        self.agents: list[ProgramAgent] = []
        self.away: list[tuple[float, Peer]] = []
        """Peers that cannot be reached, and until when."""
        self.back_at: dict[Peer, float] = {}
        """When peers could be reached again."""
        self.names = 0
        self.counts: Counter[str] = Counter()
        self._start_client()
        self._start_agent()

    # --- the run

    def run(self, steps: int = STEPS) -> None:
        """Do so many steps, heal, and look at what is left."""
        actions = self._actions()
        kinds, weights = [action for action, _ in actions], [weight for _, weight in actions]
        for _ in range(steps):
            self.random.choices(kinds, weights)[0]()
            self._settle()
        self._heal()
        self._leave()

    def _actions(self) -> list[tuple[Callable[[], None], float]]:
        has = self.features.__contains__
        return [
            (self._submit, 8),
            (self._submit_graph, 8 if has("graphs") else 0),
            (self._link, 8 if has("links") else 0),
            (self._cancel, 5 if has("cancels") else 0),
            (self._withdraw, 3 if has("withdrawals") else 0),
            (self._work, 60),
            (self._start_agent, 3),
            (self._start_client, 2),
            (self._kill_agent, 4 if has("deaths") else 0),
            (self._lose_objects, 4 if has("objects_lost") else 0),
            (self._change_scheduler, self.restart_weight if has("restarts") else 0),
            (self._cut, 3 if has("cuts") else 0),
            (self._drain, 2 if has("drains") else 0),
            (self._end_client, 1 if has("clients_leave") else 0),
            (self._pass_time, 8 if has("time") else 2),
        ]

    @property
    def _peers(self) -> list[ProgramAgent | ProgramClient]:
        return [*self.agents, *self.clients]

    def _settle(self) -> None:
        """Have everybody take what has come, until nothing comes."""
        for _ in range(100):
            store = self.harness.to_store()
            self.ledger.delete(store)
            if not store and not any(one.peer.received for one in self._peers):
                self._check_limits()
                self._check_deadlines()
                return
            for one in self._peers:
                if one.peer.reachable:
                    one.listen()
        raise ProgramError("the scheduler and its peers talk without end")

    def _check_limits(self) -> None:
        """What agents have that were lost the core cannot know."""
        if "resources" not in self.features or self.ledger.agents_lost or self.ledger.restarts:
            return
        used: Counter[str] = Counter()
        for agent in self.agents:
            for row in agent.in_use():
                used.update(dict(row.asked.resources))
        for name, most in parse_amounts(LIMITS):
            if used[name] > most:
                raise ProgramError(f"tasks have {used[name]} thousandths of {name}, and the cluster has {most}")

    def _check_deadlines(self) -> None:
        held = {row.key for agent in self.agents for row in agent.rows()}
        for client in self.clients:
            if not client.peer.reachable:
                continue
            if not client.peer.connection.session.unacknowledged_count:
                self.ledger.arrived(client.id)
            back_at = self.back_at.get(client.peer, 0.0)
            self.ledger.check_deadlines(client.id, back_at, held)

    def _advance(self, seconds: float) -> None:
        end = self.harness.now + seconds
        while self.harness.now < end:
            self.harness.advance(0.5)
            self._settle()
            for due, peer in self.away:
                if due <= self.harness.now:
                    peer.reachable = True
                    self.back_at[peer] = self.harness.now
            self.away = [pair for pair in self.away if pair[0] > self.harness.now]
            self._forget_left()

    def _forget_left(self) -> None:
        """Agents that have left end when nothing runs there any more."""
        for agent in [one for one in self.agents if one.leaving and one.is_idle and one.peer.reachable]:
            agent.tell_freed()
            agent.peer.connection.close("it left")
            self.harness.settle()
            self._remove(agent)

    def _remove(self, agent: ProgramAgent) -> None:
        self.agents.remove(agent)
        self.away = [pair for pair in self.away if pair[1] is not agent.peer]
        if agent.peer.peer in self.harness.peers:
            self.harness.vanish(agent.peer)

    # --- what clients do

    def _client(self) -> ProgramClient | None:
        able = [client for client in self.clients if client.is_connected]
        able = [client for client in able if len(self.ledger.open_entries(client.id)) < OPEN_MAX]
        return self.random.choice(able) if able else None

    def _start_client(self) -> None:
        if len(self.clients) < CLIENTS_MAX:
            self.names += 1
            group = self.random.choice(("small", "short", "")) if "groups" in self.features else ""
            client = ProgramClient(self.harness, self.ledger, f"client{self.names}", group)
            self.clients.append(client)
            self._settle()

    def _submit(self) -> None:
        client = self._client()
        if client is not None:
            client.submit(self.random.randint(1, 4), self._options())

    def _submit_graph(self) -> None:
        client = self._client()
        if client is not None:
            client.submit_graph(*self._shape(self.random.randint(2, ROWS_MAX)), self._options())

    def _shape(self, rows: int) -> tuple[list[list[int]], list[int]]:
        if self.random.random() < 0.3:
            needs = [[row - 1] if row else [] for row in range(rows)]
        else:
            needs = [
                self.random.sample(range(row), min(row, self.random.choice((0, 1, 1, 2, 3)))) for row in range(rows)
            ]
        wanted = self.random.sample(range(rows), self.random.choice((1, 1, 2, rows)))
        return needs, sorted(wanted)

    def _link(self) -> None:
        client = self._client()
        if client is None:
            return
        needed = self.ledger.open_entries(client.id)
        # Of others whose results the client has, only just now.
        ended = [one for one in self.ledger.entries.values() if one.client == client.id and one.answer is not None]
        needed += [one for one in ended[-3:] if one.answer is not None and one.answer[0] is m.Status.SUCCESS]
        numbers = [entry.number for entry in needed if not entry.canceled]
        if not numbers:
            return
        needs: list[list[int]] = []
        for row in range(self.random.choice((1, 1, 2, 3))):
            own = [-self.random.randint(1, row)] if row and self.random.random() < 0.7 else []
            others = self.random.sample(numbers, min(len(numbers), self.random.choice((0, 1, 2)) if own else 1))
            needs.append([*others, *own])
        client.link(needs, self._options())

    def _options(self) -> CallOptions:
        options = NO_OPTIONS
        random = self.random
        if "resources" in self.features and random.random() < 0.3:
            wanted = random.choice(({"gpu": 1}, {"gpu": 0.5}, {"gpu": 2}, {"licence": 1}, {"gpu": 0.5, "licence": 1}))
            options = options.with_given({"resources": wanted}, "a program")
        if "options" not in self.features or random.random() < 0.4:
            return options
        given: dict[str, Any] = {}
        if random.random() < (0.4 if self.once_share < 0.5 else 0.1):
            given["retries"] = Retries(random.randint(1, 3), wait_seconds=random.choice((0, 0, 1, 4)))
        elif random.random() < self.once_share:
            given["idempotent"] = False
        if random.random() < self.deadline_share:
            given["deadline_seconds"] = random.choice((1, 2, 4, 6, 20))
        if random.random() < 0.2:
            given["timeout_seconds"] = 5
        if random.random() < 0.2:
            given["priority"] = random.choice((-1, 1, 3))
        if random.random() < 0.2:
            given["label"] = "curves"
        if random.random() < 0.1:
            # There may be none of this name any more.
            given["worker"] = f"agent{random.randint(1, self.names)}-0"
            given["deadline_seconds"] = 6
        return options.with_given(given, "a program")

    def _some_open(self) -> tuple[ProgramClient, list[Entry]] | None:
        able = [client for client in self.clients if client.is_connected]
        client = self.random.choice(able) if able else None
        if client is None:
            return None
        entries = [entry for entry in self.ledger.open_entries(client.id) if not entry.canceled]
        count = min(len(entries), self.random.choice((1, 1, 2, 5)))
        return (client, self.random.sample(entries, count)) if entries else None

    def _cancel(self) -> None:
        some = self._some_open()
        if some is not None:
            some[0].cancel(some[1])

    def _withdraw(self) -> None:
        some = self._some_open()
        if some is not None:
            client, entries = some
            singles = [entry for entry in entries if entry.is_single]
            if singles:
                client.withdraw(singles)

    def _end_client(self) -> None:
        if len(self.clients) < 2:
            return
        client = self.random.choice(self.clients)
        self.clients.remove(client)
        self.away = [pair for pair in self.away if pair[1] is not client.peer]
        self.ledger.gone.add(client.id)
        self.ledger.tell(None, f"{client.id.decode()} leaves")
        if client.is_connected and self.random.random() < 0.6:
            client.peer.connection.close("done")
            self.harness.settle()
        self.harness.vanish(client.peer)

    # --- what agents do

    def _start_agent(self) -> None:
        if len(self.agents) < AGENTS_MAX:
            self._add_agent(slots=self.random.randint(1, 3), gpus=self.random.choice((0, 1, 2)))

    def _add_agent(self, slots: int, gpus: int) -> None:
        self.names += 1
        gpus = gpus if "resources" in self.features else 0
        capacity = self.random.choice((1, 2, 4, 10))
        agent = ProgramAgent(
            self.harness, self.ledger, self.random, f"agent{self.names}", slots, gpus, max(capacity, slots)
        )
        self.agents.append(agent)
        self.ledger.tell(None, f"{agent.name} has {slots} workers, {gpus} devices")
        self._settle()

    def _work(self) -> None:
        if self.agents:
            agent = self.random.choice(self.agents)
            for _ in range(self.random.choice((1, 3, 6))):
                agent.step(well="deaths" not in self.features)

    def _lost(self, agent: ProgramAgent) -> None:
        self.ledger.tell(None, f"{agent.name} is gone, or cannot be reached")
        self.ledger.lost_with([row.key for row in agent.rows()], agent.name)

    def _kill_agent(self) -> None:
        if len(self.agents) < 2:
            return
        agent = self.random.choice(self.agents)
        if self.random.random() < 0.7:
            agent = max(self.agents, key=lambda one: len(one.rows()))
        self._lost(agent)
        if agent.peer.reachable and self.random.random() < 0.4:
            agent.peer.connection.close("it ended")
            self.harness.settle()
        self._remove(agent)
        if self.random.random() < 0.5:
            self._unreachable(agent)
            self._advance(self.random.choice((1, 6)))

    def _unreachable(self, agent: ProgramAgent) -> None:
        event = events.PeerUnreachable(agent.peer.id, "its connection is closed")
        self.harness.core.handle(event, self.harness.now)
        self.harness.settle()

    def _cut(self) -> None:
        """A peer cannot be reached for a while."""
        peers = [one for one in self._peers if one.peer.reachable]
        if not peers:
            return
        one = self.random.choice(peers)
        one.peer.reachable = False
        seconds = self.random.choice((1.0, 4.0, 8.0))
        self.away.append((self.harness.now + seconds, one.peer))
        if isinstance(one, ProgramAgent):
            self._lost(one)
            one.was_cut = True
            if self.random.random() < 0.5:
                self._unreachable(one)

    def _drain(self) -> None:
        if len(self.agents) > 1:
            agent = self.random.choice(self.agents)
            if agent.peer.reachable:
                agent.leave()

    def _lose_objects(self) -> None:
        """The store of a worker host is lost."""
        stored = list(self.ledger.stored)
        ids = self.random.sample(stored, min(len(stored), self.random.choice((1, 2, 5))))
        if ids:
            self.ledger.tell(None, f"{len(ids)} objects are lost")
            self.ledger.lose(ids)
            self.harness.core.handle(events.ObjectsLost("host", tuple(ids)), self.harness.now)
            self.harness.settle()

    # --- what happens to all

    def _change_scheduler(self) -> None:
        """Another scheduler takes over, which knows nothing. Its peers come to it one after another."""
        self.ledger.restarts += 1
        self.ledger.tell(None, "another scheduler takes over")
        config = SchedulerConfig(incarnation=identity(f"scheduler{self.ledger.restarts}"), **self.config)
        self.harness.core = SchedulerCore(config, self.harness.now)
        for one in self._peers:
            if one.peer.reachable and self.random.random() < 0.4:
                one.peer.reachable = False
                self.away.append((self.harness.now + self.random.choice((1.0, 2.0)), one.peer))
        self._advance(self.random.choice((2.5, 5.0)))

    def _pass_time(self) -> None:
        self._advance(self.random.choice((0.5, 1.0, 1.0, 3.0)))

    # --- the end

    def _heal(self) -> None:
        """Everybody can be reached, there are workers for everything, and nothing goes wrong any more."""
        self.ledger.tell(None, "everything heals")
        for _, peer in self.away:
            peer.reachable = True
            self.back_at[peer] = self.harness.now
        self.away.clear()
        self._add_agent(slots=4, gpus=2)
        begun = self.harness.now
        while self.ledger.open_entries() or any(not agent.is_idle for agent in self.agents):
            for agent in self.agents:
                agent.run_all()
            self._settle()
            self._advance(1.0)
            if self.harness.now > begun + HEALED_SECONDS_MAX:
                waiting = self.ledger.open_entries()
                raise ProgramError(f"{len(waiting)} tasks are not answered", waiting[0].key if waiting else None)
        for entry in [one for one in self.ledger.entries.values() if one.wanted]:
            self.counts[entry.answer[0].name if entry.answer is not None else "not answered"] += 1

    def _leave(self) -> None:
        """All clients leave: nothing of them may stay."""
        deadline = self.harness.now + AGENT_TIMEOUT_SECONDS + 5.0
        while any(self._left_of(client) for client in self.clients) and self.harness.now < deadline:
            # What nobody needs any more may be at an agent that is gone, or that was told late.
            self._advance(1.0)
            for agent in self.agents:
                agent.run_all()
        for client in self.clients:
            left = self._left_of(client)
            if left:
                raise ProgramError(f"{client.id.decode()} has no task any more, and the core knows {left}")
            client.peer.connection.close("done")
            self.harness.settle()
            self.harness.vanish(client.peer)
        self.clients.clear()
        for _ in range(int(1.5 * CLIENT_TIMEOUT_SECONDS)):
            self.harness.advance(1.0, step=1.0)
            self._settle()
        snapshot = self.harness.snapshot()
        counts = {name: snapshot["counts"][name] for name in ("ready", "recovering", "absent_clients", "functions")}
        counts["records"] = kept_of_clients(self.harness)
        counts["clients"] = len(snapshot["clients"])
        counts["queues"] = len(snapshot["queues"])
        counts["assigned"] = sum(agent["assigned"] for agent in snapshot["agents"])
        counts["assigned_behind_others"] = sum(agent["assigned_behind_others"] for agent in snapshot["agents"])
        if any(counts.values()):
            raise ProgramError(f"all clients have left, and the core has {counts}")
        used = [agent["resources_used"] for agent in snapshot["agents"]] + [snapshot["cluster_resources_used"]]
        if any(used):
            raise ProgramError(f"all clients have left, and these resources are in use: {used}")

    def _left_of(self, client: ProgramClient) -> dict[str, Any]:
        """Return what the core knows of a client's tasks."""
        record = self.harness.core._state.clients.get(client.id)
        if record is None:
            return {"session": None}
        known = {
            **self.harness.seen(client.peer),
            **{name: getattr(record, name) for name in NOTES},
        }
        return {name: known[name] for name in (*TABLES, *NOTES) if known[name]}


def run_seed(seed: int, steps: int | None = None) -> Counter[str]:
    """Run one program; return how many tasks ended in which way. Raises ProgramError with the story of the task concerned."""
    program = Program(seed)
    try:
        program.run(STEPS if steps is None else steps)
    except Exception as error:
        task = error.task if isinstance(error, ProgramError) else None
        lines = program.ledger.story(task).splitlines()[-STORY_LINES_MAX:]
        features = ", ".join(sorted(program.features))
        raise ProgramError(f"seed {seed}: {error}\n" + "\n".join(lines) + f"\nfeatures: {features}", task) from error
    return program.counts


if __name__ == "__main__":
    sys.exit(run_seeds(run_seed, ProgramError, __doc__.partition("\n")[0]))
