"""The facts of an agent. Each is kept by one object, which alone changes it; the parts of the core share them."""

from __future__ import annotations

from scaler_protocol.runtime.core import Outbox
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
        "departure",
        "durations",
        "functions",
        "lending",
        "message_bytes",
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
        self.results = ResultCollector()
        self.functions = FunctionTable()
        self.transfers = ObjectTransfers(options.object_cache_bytes, self.outbox)
        self.processors = ProcessorTable(self.slots)
        self.lending = Lending(self.processors, self.queue)

    def log(self, level: int, text: str) -> None:
        """Have a line logged for people, at one of the levels of `logging`."""
        self.outbox.add(effects.Log(level, text))
