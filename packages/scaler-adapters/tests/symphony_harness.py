"""The core of a Symphony agent, and around it, played by hand: the scheduler's end of the session, Symphony, the clock."""

from __future__ import annotations

from typing import Any

from scaler_adapters.symphony.core import effects, events
from scaler_adapters.symphony.core.agent import SymphonyCore
from scaler_adapters.symphony.core.options import SymphonyOptions
from scaler_adapters.symphony.task_runner import RemoteResult, RemoteTask
from scaler_protocol.ids import content_id
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.call_options import NO_OPTIONS
from scaler_protocol.wire.columns import Packed

BASE = 2
CLIENT = b"client".ljust(16, b".")
BODY = b"Pbody"
FUNCTION = content_id(BODY)


class Harness:
    """A core and the scheduler's end of its session."""

    def __init__(self) -> None:
        names = tuple(f"place-{number}" for number in range(BASE))
        options = SymphonyOptions("symphony", b"a" * 16, names, "tcp://127.0.0.1:1", task_timeout_seconds=100.0)
        self.core = SymphonyCore(options)
        self.scheduler = SessionPeer()
        self.now = 100.0
        self.sent: list[m.Message] = []
        self.running: dict[int, RemoteTask] = {}
        self.others: list[effects.Effect] = []
        self.handle(events.Start())
        self.sent.clear()
        self.handle(events.Incoming(*self.scheduler.welcome(object_storage_address="tcp://127.0.0.1:2")))
        self.handle(events.SessionOpened())
        self.incoming(m.FunctionDefine(CLIENT, (FUNCTION,), Packed.of([BODY])))

    def handle(self, event: events.Event) -> None:
        self.core.handle(event, self.now)
        self.settle()

    def incoming(self, message: m.Message) -> None:
        self.handle(events.Incoming(*self.scheduler.say(message)))

    def settle(self) -> None:
        for effect in self.core.take_effects():
            if isinstance(effect, effects.Send):
                assert self.scheduler.receive(effect.envelope, effect.message, self.now) is not None
                self.sent.append(effect.message)
            elif isinstance(effect, effects.RunTask):
                self.running[effect.key] = effect.task
            elif not isinstance(effect, effects.Log):
                self.others.append(effect)
        self.core.check_invariants()

    def submit(self, *numbers: int, depth: int = 0, capabilities: m.Capabilities = (), **options: Any) -> None:
        """`options`: those of the call."""
        asked = NO_OPTIONS.with_given(options, "test")
        self.incoming(
            m.TaskBatch(
                CLIENT,
                list(numbers),
                (FUNCTION,),
                Packed.of([b"P"] * len(numbers)),
                depth=depth,
                attempts=(),
                capabilities=capabilities,
                options=asked.for_agents if options else b"",
            )
        )

    def key_of(self, number: int) -> int:
        return next(key for key, task in self.running.items() if task.number == number)

    def end(
        self,
        number: int,
        payload: bytes = b"Presult",
        error: str = "",
        buffers: tuple[bytes, ...] = (),
        status: m.Status = m.Status.SUCCESS,
        profile: Any = None,
    ) -> None:
        key = self.key_of(number)
        del self.running[key]
        result = (
            None if error else RemoteResult(status, payload, buffers, 5, {"cpu_times": 4, "memory_peaks": 3}, profile)
        )
        self.handle(events.TaskEnded(key, result, error))

    def numbers(self) -> list[int]:
        return sorted(task.number for task in self.running.values())

    def answers(self) -> dict[int, int]:
        """Number to status of what was answered since the last call."""
        found: dict[int, int] = {}
        for batch in self.take(m.ResultBatch):
            assert isinstance(batch, m.ResultBatch)
            found.update(zip(batch.numbers, list(batch.statuses) or [0] * len(batch.numbers), strict=True))
        return found

    def take(self, kind: type[m.Message]) -> list[m.Message]:
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return found

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.handle(events.Tick())
