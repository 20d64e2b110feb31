"""The facts of an agent. Each is kept by one object, which alone changes it; the parts of the core share them."""

from __future__ import annotations

from scaler_protocol.runtime.core import Outbox
from scaler_protocol.runtime.resources import parse_amounts
from scaler_protocol.session import Connection
from scaler_worker.core import effects
from scaler_worker.core.departure import Departure
from scaler_worker.core.durations import DurationEstimates
from scaler_worker.core.functions import FunctionTable
from scaler_worker.core.lending import Lending
from scaler_worker.core.message_bytes import MessageBytes
from scaler_worker.core.options import AgentOptions, hello_of
from scaler_worker.core.pinned import PinnedTasks
from scaler_worker.core.processors import ProcessorTable
from scaler_worker.core.queue import TaskQueue
from scaler_worker.core.results import ResultCollector
from scaler_worker.core.transfers import ObjectTransfers


class AgentState:
    """What each part of the core is given. Reading is free; see each class for who may call what changes it."""

    __slots__ = (
        "connection",
        "counted_clients",
        "departure",
        "durations",
        "freeing",
        "functions",
        "lending",
        "message_bytes",
        "offered",
        "options",
        "outbox",
        "pinned",
        "processors",
        "queue",
        "results",
        "slots",
        "transfers",
    )

    def __init__(self, options: AgentOptions) -> None:
        self.options = options
        self.slots = len(options.worker_names)
        self.outbox: Outbox[effects.Effect] = Outbox()
        self.connection = Connection(
            hello_of(options),
            heartbeat_seconds=options.heartbeat_seconds,
            give_up_seconds=options.death_timeout_seconds,
            addresses=options.scheduler_addresses,
        )
        self.departure = Departure(self.connection, self.outbox)
        self.durations = DurationEstimates()
        self.message_bytes = MessageBytes()
        self.queue = TaskQueue(self.durations)
        self.pinned = PinnedTasks()
        self.offered = parse_amounts(options.resources)
        """What the host offers. What is in use follows from what processors hold (see `grants`)."""
        self.counted_clients: set[bytes] = set()
        """Clients that have had tasks with counted resources here."""
        self.freeing: set[bytes] = set()
        """Those of them that are gone, until the scheduler has been told that their tasks are."""
        self.results = ResultCollector()
        self.functions = FunctionTable()
        self.transfers = ObjectTransfers(options.object_cache_bytes, self.outbox)
        self.processors = ProcessorTable(self.slots)
        self.lending = Lending(self.processors, self.queue, self.pinned)

    def log(self, level: int, text: str) -> None:
        """Have a line logged for people, at one of the levels of `logging`."""
        self.outbox.add(effects.Log(level, text))
