"""An agent's core with everything around it played by hand: the scheduler's end of the session, processors, the clock."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

from scaler_protocol.ids import content_id
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Reported
from scaler_protocol.wire.columns import Column, Packed
from scaler_protocol.wire.envelope import UNSEQUENCED
from scaler_worker.core import AgentCore, AgentOptions, AgentSnapshot, effects, events
from scaler_worker.core.reporting import HOLD_SECONDS

CLIENT = b"c" * 16
OTHER = b"d" * 16
BODY = b"Pbody"
FUNCTION = content_id(BODY)

EffectType = TypeVar("EffectType")
MessageType = TypeVar("MessageType")


class AgentHarness:
    """`step` settles after every event, checks the invariants, and sorts effects into `effects` and `sent`."""

    def __init__(self, slots: int = 2, *, storage: bool = True, ready: bool = True, **options: Any) -> None:
        names = tuple(f"w{number}" for number in range(slots))
        self.core = AgentCore(AgentOptions("agent", b"a" * 16, names, **options))
        self.now = 100.0
        self.storage = storage
        self.scheduler = SessionPeer()
        self.effects: list[effects.Effect] = []
        self.sent: list[m.Message] = []
        self.results: dict[tuple[bytes, int], tuple[int, int, bytes]] = {}
        """(client, number) to (attempt, status, payload)."""
        self.handed: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """Processor to (index, task number) of everything it was handed."""
        self.step(events.Start())
        if ready:
            self.welcome()
            for started in self.take(effects.StartProcessor):
                self.step(events.ProcessorReady(started.processor, 1000 + started.processor))
            self.define()

    # --- time and events

    def step(self, event: events.Event) -> None:
        self.core.handle(event, self.now)
        self.settle()

    def settle(self) -> None:
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                message = self.scheduler.receive(effect.envelope, effect.message, self.now)
                if message is not None:
                    self._take(message)
            else:
                self.effects.append(effect)
                if isinstance(effect, effects.SendTasks):
                    numbers = enumerate(effect.tasks.numbers, effect.first_index)
                    self.handed[effect.processor].extend(numbers)
        self.core.check_invariants()

    def _take(self, message: m.Message) -> None:
        self.sent.append(message)
        if isinstance(message, m.ResultBatch):
            statuses = message.statuses if len(message.statuses) else [0] * len(message.numbers)
            rows = zip(message.numbers, message.attempts, statuses, message.payloads.split(), strict=True)
            for number, attempt, status, payload in rows:
                assert (message.client, number) not in self.results, f"two results of {number}"
                self.results[message.client, number] = (attempt, status, payload)

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick at every deadline."""
        until = self.now + seconds
        while (deadline := self.core.next_deadline()) <= until:
            self.now = max(self.now, deadline)
            # The scheduler is alive, whatever else is the matter.
            if self.look().established:
                self.plain(m.Heartbeat())
            self.step(events.Tick())
        self.now = until

    # --- the scheduler

    def welcome(self, *, resumed: bool = False, incarnation: bytes = b"s" * 16) -> None:
        address = "tcp://127.0.0.1:1" if self.storage else ""
        self.scheduler.incarnation = incarnation
        welcome = self.scheduler.welcome(resumed=resumed, object_storage_address=address)
        self.step(events.Incoming(*welcome))

    def unknown_peer(self) -> None:
        self.step(events.Incoming(UNSEQUENCED, m.UnknownPeer()))

    def say(self, message: m.Message) -> None:
        self.step(events.Incoming(*self.scheduler.say(message)))

    def plain(self, message: m.Message) -> None:
        self.step(events.Incoming(*self.scheduler.say_plain(message)))

    def define(self, body: bytes = BODY, client: bytes = CLIENT) -> bytes:
        """Have a client define a function; return the function's id."""
        self.say(m.FunctionDefine(client, (content_id(body),), Packed.of([body])))
        return content_id(body)

    def submit(self, numbers: Sequence[int], client: bytes = CLIENT, attempt: int = 1, **fields: Any) -> None:
        self.say(
            m.TaskBatch(
                client,
                array("Q", numbers),
                fields.pop("functions", (FUNCTION,)),
                fields.pop("payloads", None) or Packed.of([b"P%d" % number for number in numbers]),
                attempts=array("H", [attempt]) * len(numbers),
                **fields,
            )
        )

    # --- processors

    def finish(
        self,
        processor: int,
        count: int = 1,
        microseconds: int = 10_000,
        statuses: Column = (),
        payload: bytes | None = None,
        **fields: Any,
    ) -> None:
        """Let a processor answer the next tasks it has: each with `payload`, or with one of its own."""
        first = self.front_index(processor)
        payloads = [b"r%d" % index if payload is None else payload for index in range(first, first + count)]
        self.step(
            events.ProcessorResults(
                processor,
                first,
                count,
                [len(payload) for payload in payloads],
                b"".join(payloads),
                Reported(statuses=statuses, durations=[microseconds] * count),
                **fields,
            )
        )

    def learn(self, microseconds: int) -> None:
        """Let the agent know how long FUNCTION takes."""
        self.submit([900_000])
        self.finish(self.holder(900_000), microseconds=microseconds)
        # Later results are not told together with this one.
        self.wait(HOLD_SECONDS)

    def holder(self, number: int) -> int:
        """Return the processor a task was last handed to."""
        return next(p for p in self.handed if any(task == number for _, task in self.handed[p][-600:]))

    def block(self, processor: int, generation: int = 1) -> None:
        """The running task of this processor waits for one of its own."""
        self.step(events.ProcessorBlocked(processor, generation, self.front_index(processor) + 1))

    # --- what came of it

    def look(self) -> AgentSnapshot:
        """Return what the agent holds and knows now."""
        return self.core.snapshot()

    def front_index(self, processor: int) -> int:
        """Return the index of the task that a processor runs, or of the next one it will be handed."""
        return self.look().processors[processor].front_index

    def take(self, kind: type[EffectType]) -> list[EffectType]:
        """Return and forget the effects of one kind."""
        taken: list[EffectType] = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return taken

    def said(self, kind: type[MessageType]) -> list[MessageType]:
        """Return and forget the messages of one kind."""
        taken: list[MessageType] = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return taken

    def running(self) -> list[int]:
        """Return the numbers of the tasks that are first in a pipe."""
        return sorted(processor.tasks[0] for processor in self.look().processors.values() if processor.tasks)

    def status(self, number: int, client: bytes = CLIENT) -> int:
        return self.results[client, number][1]
