"""What the scheduler knows of one client."""

from __future__ import annotations

import sys

from scaler_protocol.session import Session
from scaler_protocol.wire.messages import Capabilities, Hello
from scaler_scheduler.core.events import Peer
from scaler_scheduler.core.graphs import Graph
from scaler_scheduler.core.tasks import Task, TaskOptions

NO_CAPABILITIES: frozenset[str] = frozenset()

COMPACT_ABOVE_BYTES = 1024 * 1024


class ClientRecord:
    """A client incarnation with a session. Owns the table of its unfinished tasks."""

    def __init__(self, peer: Peer, hello: Hello, session: Session, now: float) -> None:
        self.peer = peer
        self.id = hello.incarnation
        self.hello = hello
        self.session = session
        self.connected_at = now
        self.last_seen = now
        self.tasks: dict[int, Task] = {}
        self.graphs: list[Graph] = []
        self.credit_granted = 0
        """Tasks it may still submit where the number of waiting tasks is limited."""
        self.credit_moved_at = now
        """When it last was granted, or used, any of them."""
        self.credit_wanted = 0
        self.assigned_count = 0
        """Of `tasks`, those that are at an agent."""
        self.finished_count = 0
        self.failed_count = 0
        self.failed_item_count = 0
        """Items of map chunks that failed; their chunks are among the finished ones."""
        self.unservable_told: set[tuple[frozenset[str], str]] = set()
        """Capabilities and kinds of notice it was told about."""
        self.ignored_capabilities_told = False
        """Whether it was told that its tasks' capabilities are ignored."""
        self._options: dict[tuple[int, int, int, Capabilities, bytes], TaskOptions] = {}

    @property
    def name(self) -> str:
        return self.hello.name

    def is_untouched(self, hello: Hello) -> bool:
        """Whether this is the same peer and nothing has happened in its session yet."""
        return hello.incarnation == self.id and not self.tasks and self.session.received == self.session.sent == 0

    def begin_session(self, hello: Hello, now: float) -> None:
        """Its session begins with this hello, not with the one before."""
        self.hello = hello
        self.session = Session(hello.hello_number)
        self.last_seen = now

    def compact(self) -> None:
        """Give the task table the size it needs: a dictionary keeps room for as many entries as it ever had."""
        if sys.getsizeof(self.tasks) > COMPACT_ABOVE_BYTES + 500 * len(self.tasks):
            self.tasks = dict(self.tasks)

    def options_for(
        self, depth: int, kind: int, flags: int, capabilities: Capabilities, serializer: bytes, enforce: bool
    ) -> TaskOptions:
        key = (depth, kind, flags, capabilities, serializer)
        options = self._options.get(key)
        if options is None:
            signature = frozenset(name for name, _ in capabilities) if enforce else NO_CAPABILITIES
            options = TaskOptions(self, depth, kind, flags, capabilities, serializer, signature)
            self._options[key] = options
        return options

    def graph_of(self, number: int) -> Graph | None:
        """Return the graph that `number` is a row of, or None."""
        for graph in self.graphs:
            if graph.first_number <= number < graph.first_number + graph.row_count:
                return graph
        return None
