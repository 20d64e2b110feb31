"""The Symphony agent's core under random events: every task ends once, whatever happens in between. From a seed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from symphony_harness import CLIENT, FUNCTION, Harness

from scaler_adapters.symphony.core import effects, events
from scaler_protocol.payloads.framing import OBJECT
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed

STEPS = 300


class World:
    """A harness, and what became of each task: answered, or given back to the scheduler."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.harness = Harness()
        self.submitted: set[int] = set()
        self.ended: Counter[int] = Counter()
        self.has_session = True

    def submit(self) -> None:
        number = len(self.submitted) + 1
        self.submitted.add(number)
        wanted = bytes([self.chance.randrange(4)]) * 16 if self.chance.random() < 0.3 else b""
        self.harness.incoming(
            m.TaskBatch(
                CLIENT,
                [number],
                (FUNCTION,),
                Packed.of([b"P"]),
                depth=self.chance.randrange(4),
                object_positions=[0] if wanted else (),
                objects=(wanted,) if wanted else (),
            )
        )

    def end_one(self) -> None:
        if not self.harness.running:
            return
        number = self.chance.choice([task.number for task in self.harness.running.values()])
        kind = self.chance.randrange(3)
        if kind == 0:
            self.harness.end(number, error="the service instance exited")
        elif kind == 1:
            self.harness.end(number)
        else:
            object_id = self.chance.randbytes(16)
            self.harness.end(number, OBJECT + object_id, buffers=(b"Plarge",))

    def answer_storage(self) -> None:
        for effect in [*self.harness.others]:
            if isinstance(effect, effects.FetchObject):
                is_there = self.chance.random() < 0.8
                self.harness.handle(
                    events.ObjectFetched(
                        effect.object_id, [b"Pvalue"] if is_there else None, "" if is_there else "gone"
                    )
                )
            elif isinstance(effect, effects.PutObject):
                self.harness.handle(events.ObjectStored(effect.object_id, self.chance.choice(["", "full"])))
            self.harness.others.remove(effect)

    def cancel(self) -> None:
        if self.submitted:
            self.harness.incoming(m.TaskCancel(CLIENT, [self.chance.randrange(1, len(self.submitted) + 1)]))

    def recall(self) -> None:
        self.harness.incoming(m.TaskRecall(self.chance.randrange(1, 4)))

    def lose_or_open_session(self) -> None:
        self.has_session = not self.has_session
        if self.has_session:
            self.harness.handle(events.SessionOpened())
        else:
            self.harness.running.clear()
            self.harness.handle(events.SessionLost("cut"))

    def wait(self) -> None:
        # The scheduler is alive, whatever else is the matter.
        self.harness.handle(events.Incoming(*self.harness.scheduler.say_plain(m.Heartbeat())))
        self.harness.advance(self.chance.random() * 2)

    def take_what_ended(self) -> None:
        self.ended.update(self.harness.answers().keys())
        for returned in self.harness.take(m.TaskReturn):
            assert isinstance(returned, m.TaskReturn)
            self.ended.update(returned.numbers)


@pytest.mark.parametrize("seed", range(20))
def test_every_task_ends_once(seed: int) -> None:
    world = World(seed)
    acts = (
        [world.submit] * 4 + [world.end_one] * 4 + [world.answer_storage] * 2 + [world.cancel, world.recall, world.wait]
    )
    for _ in range(STEPS):
        act = world.lose_or_open_session if world.chance.random() < 0.02 else world.chance.choice(acts)
        act()
        world.take_what_ended()
        assert set(world.ended.values()) <= {1}, "a task ended twice"
    if not world.has_session:
        world.lose_or_open_session()
    world.harness.handle(events.StopRequested("the test is over", 1000.0))
    for _ in range(10_000):
        if world.harness.core.snapshot().stopped:
            break
        world.end_one()
        world.answer_storage()
    world.take_what_ended()
    assert world.harness.core.snapshot().stopped
    assert set(world.ended) == world.submitted
    assert set(world.ended.values()) <= {1}, "a task ended twice"
