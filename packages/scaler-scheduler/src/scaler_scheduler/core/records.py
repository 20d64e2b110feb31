"""What the scheduler knows of one task, one agent and one client.

The three records refer to each other, so they stand in one module. Each attribute is assigned by one module only, whatever
class that module holds; `tests/architecture/test_one_writer.py` has the list.

    (graph row) ──predecessors done──▶ READY ──placed──▶ ASSIGNED ──result──▶ DROPPED
                 RECOVERING ──grace over──▶ ▲ │                 │
                      │                     │ └──cancelled──────┴──▶ DROPPED
                      │       DELAYED ──due─┤                   └──error, retries left──▶ DELAYED
                      └──claimed by agent───┼────────────────▶ ASSIGNED ◀──assigned behind its predecessor── (graph row)
                                            └──agent lost, task returned, processor died (attempts left)

A task that leaves its agent while a predecessor of its row is unfinished is dropped too, and its row waits again. When the
predecessors are done, a new task stands for the row.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from typing import NamedTuple

from scaler_protocol.capabilities import offered
from scaler_protocol.errors import SessionError
from scaler_protocol.runtime.resources import NO_AMOUNTS, Amounts, parse_amounts
from scaler_protocol.session import Session
from scaler_protocol.wire.batch_rows import Carried
from scaler_protocol.wire.call_options import PRIORITY_MAX, CallOptions
from scaler_protocol.wire.messages import Capabilities, Heartbeat, Hello, Tally
from scaler_protocol.wire.task_history import Failures
from scaler_scheduler.core.events import Peer
from scaler_scheduler.core.graph_arrival import GraphArrival
from scaler_scheduler.core.graphs import Graph
from scaler_scheduler.core.limits import (
    CLIENT_GRAPH_BYTES_MAX,
    CLIENT_GRAPHS_MAX,
    CLIENT_TASKS_MAX,
    OPTIONS_MAX,
    excess_of_capabilities,
)
from scaler_scheduler.core.linked_tasks import LinkedTasks
from scaler_scheduler.core.object_places import ObjectPlaces
from scaler_scheduler.core.recent_answers import RecentAnswers
from scaler_scheduler.policy.resources import HostAmounts

Names = frozenset[str]
"""Capability names."""

NO_CAPABILITIES: Names = frozenset()

LineKey = Names | tuple[Names, Amounts, int]
"""What the tasks of a queue have in common: their capabilities; with counted resources also the amounts, and their depth."""

NEVER = float("inf")

FEW_FUNCTIONS = 4
"""So many are kept as a tuple, which takes a fourth of the memory: there may be as many as agents times clients."""


class TaskState(IntEnum):
    """Where a task is."""

    READY = 0
    """In a ready queue."""
    ASSIGNED = 1
    """At `agent`, under number `attempt`."""
    RECOVERING = 2
    """Announced again after a restart; an agent may still claim to hold it."""
    DROPPED = 3
    """Answered, or only a row of its graph again. Only stale entries of queues still refer to it."""
    DELAYED = 4
    """Waits for its next attempt after an error of its own (see `timers`)."""


class Chain:
    """Graph rows that were assigned to an agent together, to be run in order by one processor."""

    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length
        """How many of its tasks are still assigned."""


class Note(NamedTuple):
    """What a client says of tasks to people."""

    label: str
    tags: str
    """As text."""
    tally: Tally | None
    """The count of all tasks with this label; None without one."""


class TaskOptions:
    """What all tasks of a batch share. One instance per distinct combination and client, so `is` compares them."""

    __slots__ = (
        "_bare",
        "amounts",
        "asks",
        "capabilities",
        "client",
        "depth",
        "flags",
        "for_agents",
        "kind",
        "line",
        "note",
        "serializer",
        "signature",
    )

    def __init__(
        self,
        client: ClientRecord,
        depth: int,
        kind: int,
        flags: int,
        capabilities: Capabilities,
        serializer: bytes,
        signature: Names,
        note: Note | None,
        asks: CallOptions | None,
        bare: TaskOptions | None,
    ) -> None:
        self.client = client
        self.depth = depth
        self.kind = kind
        self.flags = flags
        self.capabilities = capabilities
        self.serializer = serializer
        self.signature = signature
        """Capability names that decide who may run the task; empty where capabilities are not enforced."""
        self.note = note
        """Label and tags; None without both."""
        self.asks = asks
        """All other options of the call; None without any."""
        self.amounts = NO_AMOUNTS if asks is None else asks.resources
        """The counted resources that each of the tasks needs."""
        self.line: LineKey = (signature, self.amounts, depth) if self.amounts else signature
        """Which tasks wait together."""
        self.for_agents = b"" if asks is None else asks.for_agents
        """What agents are sent of them."""
        self._bare = bare

    @property
    def bare(self) -> TaskOptions:
        """The same options as agents are sent them: without the note and the deadline."""
        return self if self._bare is None else self._bare

    @property
    def runs_once(self) -> bool:
        """Whether the tasks may not run a second time."""
        return self.asks is not None and not self.asks.idempotent

    @property
    def priority(self) -> int:
        """Which of the client's tasks of this depth go first: those of higher priority."""
        return 0 if self.asks is None else self.asks.priority


class Task:
    """One submitted call. The scheduler never looks into its payload."""

    __slots__ = (
        "agent",
        "attempt",
        "canceled",
        "carried",
        "chain",
        "failures",
        "function",
        "graph",
        "number",
        "objects",
        "options",
        "payload",
        "state",
    )

    def __init__(
        self,
        number: int,
        function: bytes,
        payload: bytes,
        options: TaskOptions,
        objects: tuple[bytes, ...] = (),
        carried: Carried = (),
        graph: Graph[AgentRecord] | None = None,
        attempt: int = 0,
        failures: int = 0,
    ) -> None:
        self.number = number
        self.function = function
        self.payload = payload
        self.options = options
        self.state = TaskState.READY
        self.attempt = attempt
        """How often it was assigned: a number that tells the results of these times apart."""
        self.failures = failures
        """Attempts that ended with the death of the processor or agent that ran the task."""
        self.agent: AgentRecord | None = None
        self.canceled = False
        """Its client wants no result; the agent was told to stop it."""
        self.objects = objects
        """Ids of the objects that its arguments name."""
        self.carried = carried
        """What its client has for the running task, passed on as it is (see `batch_rows.CARRIED`)."""
        self.graph = graph
        """The graph this is a row of, if any (row = number - graph.first_number)."""
        self.chain: Chain | None = None
        """The chain it was assigned in, while it is assigned."""

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.state.name} attempt {self.attempt}>"


class _SessionRecord:
    """The session that a peer has with the scheduler."""

    __slots__ = ("hello", "id", "last_seen", "overflowed", "peer", "session")

    def __init__(self, peer: Peer, hello: Hello, session: Session, now: float) -> None:
        self.peer = peer
        self.id = hello.incarnation
        self.hello = hello
        self.session = session
        self.last_seen = now
        """When its last message came."""
        self.overflowed = False
        """More messages wait for it than a session holds: the scheduler gives it up at the next look."""

    @property
    def name(self) -> str:
        return self.hello.name

    def is_untouched(self, hello: Hello) -> bool:
        """Whether this is the same peer and no message has been sequenced in its session yet."""
        return hello.incarnation == self.id and self.session.received == self.session.sent == 0

    def begin_session(self, hello: Hello) -> None:
        """Begin the session with this hello instead of the one before."""
        self.hello = hello
        self.session = Session(hello.hello_number)


class AgentRecord(_SessionRecord):
    """An agent incarnation with a session, and the tasks assigned to it (oldest first)."""

    __slots__ = (
        "capability_names",
        "capacity",
        "counted",
        "draining",
        "followers",
        "functions",
        "heartbeat",
        "load_key",
        "lost_at",
        "newcomers",
        "pinned",
        "pool_index",
        "resources",
        "slots",
        "tasks",
    )

    peer: bytes

    def __init__(self, peer: bytes, hello: Hello, session: Session, now: float) -> None:
        super().__init__(peer, hello, session, now)
        self.lost_at = NEVER
        """When to give it up because its connection is gone; inf if it is not. Any message of it sets it back to inf."""
        self.slots = max(1, len(hello.worker_names))
        self.capacity = hello.capacity
        """Tasks it wants in all, as it last said."""
        self.capability_names: Names = frozenset(name for name, _ in hello.capabilities)
        self.resources = HostAmounts(parse_amounts(hello.resources), hello.devices)
        """What its host offers, and which tasks have what of it."""
        self.tasks: dict[Task, None] = {}
        self.newcomers: list[Task] = []
        """Tasks that it was given beyond what it wants (see `placement`); some of them may have left it."""
        self.pinned: dict[int, list[Task]] = {}
        """By slot: tasks that ask for this worker by its name; some of them may have left it."""
        self.followers = 0
        """Of `tasks`, those that run behind another one of their chain: no worker is needed for them."""
        self.functions: dict[bytes, tuple[bytes, ...] | set[bytes]] = {}
        """Client id to the functions this agent was sent for it."""
        self.counted = 0
        """Of `tasks`, how many its group has counted."""
        self.draining = False
        """It finishes what it holds and gets nothing new."""
        self.heartbeat = Heartbeat()
        """The last one."""
        self.pool_index = 0
        self.load_key = -1.0

    @property
    def units(self) -> int:
        """Units of work a worker counts: a single task, or a whole chain."""
        return len(self.tasks) - self.followers

    @property
    def assigned(self) -> int:
        """How many tasks it holds."""
        return len(self.tasks)

    @property
    def spare(self) -> int:
        """Tasks it would take now. A long chain keeps one worker busy, not the others."""
        if self.draining:
            return 0
        spare = self.capacity - len(self.tasks)
        return max(spare, min(self.slots, self.capacity) - self.units) if self.followers else spare

    def note_functions(self, client_id: bytes, functions: tuple[bytes, ...] = ()) -> list[bytes]:
        """Note that the agent knows this client and these functions of it; return the functions that it lacked."""
        known = self.functions.setdefault(client_id, ())
        lacked = [function for function in functions if function not in known]
        if isinstance(known, set):
            known.update(lacked)
        elif lacked:
            joined = (*known, *lacked)
            self.functions[client_id] = joined if len(joined) <= FEW_FUNCTIONS else set(joined)
        return lacked

    def forget_functions(self, client_id: bytes) -> bool:
        """Forget what the agent knows of a client; return whether it knew the client."""
        return self.functions.pop(client_id, None) is not None


class ClientRecord(_SessionRecord):
    """A client incarnation with a session, and its unfinished tasks by number."""

    __slots__ = (
        "_options",
        "arriving",
        "assigned_count",
        "connected_at",
        "credit_granted",
        "credit_moved_at",
        "credit_wanted",
        "failed_count",
        "failed_item_count",
        "finished_count",
        "graphs",
        "has_asks",
        "has_notes",
        "ignored_capabilities_reported",
        "links",
        "lowest_priority",
        "overdue",
        "parent",
        "places",
        "reasons",
        "recent",
        "refused",
        "retried",
        "retried_before",
        "tasks",
        "unservable_reported",
        "withdrawn",
    )

    def __init__(self, peer: Peer, hello: Hello, session: Session, now: float) -> None:
        super().__init__(peer, hello, session, now)
        self.connected_at = now
        self.parent = hello.parent
        """Inside a task: the client that submitted this task; empty otherwise."""
        self.tasks: dict[int, Task] = {}
        self.withdrawn: set[int] = set()
        """Tasks that were at an agent when the client wanted no result of those that had not begun. Some may have ended since."""
        self.graphs: list[Graph[AgentRecord]] = []
        self.links: LinkedTasks[AgentRecord, TaskOptions] | None = None
        """Tasks that have each other's results as arguments, once there are any."""
        self.places: ObjectPlaces[AgentRecord] = ObjectPlaces()
        """Which agents have its large objects."""
        self.recent: RecentAnswers | None = None
        """What it was sent last, from its first task with such arguments on."""
        self.arriving: list[GraphArrival] = []
        """Graphs that have not begun."""
        self.credit_granted = 0
        """Tasks it may still submit where the number of waiting tasks is limited."""
        self.credit_moved_at = now
        """When it last was granted, or used, any of them."""
        self.credit_wanted = 0
        """Tasks that it has asked permission for and not got it."""
        self.assigned_count = 0
        """Of `tasks`, those that are at an agent."""
        self.finished_count = 0
        self.failed_count = 0
        self.failed_item_count = 0
        """Items of map chunks that failed; their chunks are among the finished ones."""
        self.unservable_reported: set[tuple[LineKey, str]] = set()
        """What the tasks of queues need, and kinds of notice it was told about."""
        self.ignored_capabilities_reported = False
        """Whether it was told that its tasks' capabilities are ignored."""
        self._options: dict[
            tuple[int, int, int, Capabilities, bytes, tuple[str, str] | None, CallOptions | None], TaskOptions
        ] = {}
        self.has_notes = False
        """Whether any of its tasks had a label or tags."""
        self.has_asks = False
        """Whether any of its tasks had other options."""
        self.lowest_priority = PRIORITY_MAX
        """Of all the tasks that it has had."""
        self.retried: dict[int, int] = {}
        """How often unfinished tasks have been tried again after an error of their own."""
        self.retried_before: dict[int, Failures] = {}
        """The same of tasks that it has announced again, as an earlier scheduler had counted."""
        self.refused: OrderedDict[int, int] = OrderedDict()
        """Attempts that agents came back with in vain, the highest of each task: they may run there for a while."""
        self.overdue: set[int] = set()
        """Tasks at agents whose deadline is over: they are cancelled, and the client is told why."""
        self.reasons: dict[int, bytes] = {}
        """Tasks at agents that somebody else has cancelled, and what the client is told."""

    def options_for(
        self,
        depth: int,
        kind: int,
        flags: int,
        capabilities: Capabilities,
        serializer: bytes,
        enforce: bool,
        note: Note | None = None,
        asks: CallOptions | None = None,
    ) -> TaskOptions:
        """Return the instance for this combination. `enforce`: whether capabilities decide who may run the tasks.

        Raises SessionError if there are too many capabilities.
        """
        key = (depth, kind, flags, capabilities, serializer, None if note is None else (note.label, note.tags), asks)
        options = self._options.get(key)
        if options is None:
            excess = excess_of_capabilities(capabilities)
            if excess is not None:
                raise SessionError(f"{self.name}: {excess}")
            if len(self._options) >= OPTIONS_MAX:
                self._options.clear()
            names = frozenset(name for name, _ in capabilities)
            # What is for certain workers goes nowhere else under any policy.
            signature = names if enforce else names - offered(names)
            bare = None
            if note is not None:
                self.has_notes = True
            sent = asks
            if asks is not None:
                self.has_asks = True
                if asks.deadline_seconds:
                    sent = asks._replace(deadline_seconds=0.0).asks
            if note is not None or sent is not asks:
                bare = self.options_for(depth, kind, flags, capabilities, serializer, enforce, asks=sent)
            options = TaskOptions(self, depth, kind, flags, capabilities, serializer, signature, note, asks, bare)
            self.lowest_priority = min(self.lowest_priority, options.priority)
            self._options[key] = options
        return options

    @property
    def has_serializer(self) -> bool:
        """Whether tasks of this client have named a serializer."""
        return any(options.serializer for options in self._options.values())

    def forget_options(self) -> None:
        """The client is gone. Its options refer to it: without this, only the garbage collector would free its record."""
        self._options.clear()

    def graph_of(self, number: int) -> Graph[AgentRecord] | GraphArrival | None:
        """Return the graph that `number` is a row of, or None."""
        either: tuple[Graph[AgentRecord] | GraphArrival, ...] = (*self.graphs, *self.arriving)
        for graph in either:
            if graph.first_number <= number < graph.first_number + graph.row_count:
                return graph
        return None

    def all_graphs(self) -> list[Graph[AgentRecord]]:
        """Return its submitted graphs, and the one of its linked tasks where there is one."""
        return self.graphs if self.links is None else [*self.graphs, self.links]

    def excess(self) -> str | None:
        """Return what of this client's is too much to keep; None if nothing."""
        unfinished = len(self.tasks) + (0 if self.links is None else self.links.waiting)
        if unfinished > CLIENT_TASKS_MAX:
            return f"it has {unfinished} unfinished tasks, at most {CLIENT_TASKS_MAX} are accepted"
        graphs = len(self.graphs) + len(self.arriving)
        if graphs > CLIENT_GRAPHS_MAX:
            return f"it has {graphs} unfinished graphs, at most {CLIENT_GRAPHS_MAX} are accepted"
        size = sum(graph.size_bytes for graph in self.all_graphs()) + sum(one.size_bytes for one in self.arriving)
        if size > CLIENT_GRAPH_BYTES_MAX:
            return f"its unfinished graphs take {size} bytes, at most {CLIENT_GRAPH_BYTES_MAX} are accepted"
        return None


PeerRecord = AgentRecord | ClientRecord
