"""Profiles at a worker: what a processor sends is read with care, and the agent adds it up only while somebody asks."""

from __future__ import annotations

import random
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from agent_harness import FUNCTION, AgentHarness

from scaler_protocol.monitoring.profile_tree import CallTable, ProfileTree, collapsed
from scaler_protocol.runtime.sampled_stacks import NODES_MAX, SampledStacks, call_table
from scaler_protocol.session.profile_reports import LATE_SECONDS
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_worker.core import effects, events
from scaler_worker.processor import sampler
from scaler_worker.processor.channel import AgentGoneError
from scaler_worker.processor.profile_records import profile_parts, read_profile, read_request, request_parts
from scaler_worker.processor.records import Bytes
from scaler_worker.processor.running_task import RunningTask
from scaler_worker.processor.sampler import SWITCH_SECONDS, Sampler


def calls(root: str, microseconds: int) -> CallTable:
    return CallTable([0, 1], [0, 1], [2, 2], [0, 7], [0, microseconds], (root, "f", ""))


def samples_of(harness: AgentHarness) -> list[m.ProfileSamples]:
    found = [message for message in harness.sent if isinstance(message, m.ProfileSamples)]
    harness.sent.clear()
    return found


# --- the agent


def test_unasked_samples_are_dropped() -> None:
    harness = AgentHarness()
    harness.step(events.ProcessorSamples(0, 5, 100, calls(FUNCTION.hex(), 40)))
    harness.wait(10)
    assert samples_of(harness) == []
    assert harness.take(effects.SampleProcessors) == []


def test_samples_of_processors_are_added_up_once_a_second() -> None:
    harness = AgentHarness()
    harness.say(m.ProfileRequest(3.0, 100, 1000))
    assert harness.take(effects.SampleProcessors) == [effects.SampleProcessors(3.0, 100)]
    harness.wait(0.5)
    harness.step(events.ProcessorSamples(0, 5, 100, calls(FUNCTION.hex(), 40)))
    harness.step(events.ProcessorSamples(1, 6, 150, calls(FUNCTION.hex(), 50)))
    harness.wait(0.6)
    (told,) = samples_of(harness)
    assert (told.processors, told.samples, told.cost_microseconds) == (2, 11, 250)
    assert (list(told.microseconds), told.texts) == ([0, 90], (FUNCTION.hex(), "", "f"))
    # What its sampler has used is told as a sum; a processor that has died has said what it has said.
    harness.step(events.ProcessorSamples(0, 5, 180, calls(FUNCTION.hex(), 1)))
    harness.step(events.ProcessorExited(1, None, "it was killed"))
    harness.wait(1.0)
    (told,) = samples_of(harness)
    assert (told.processors, told.cost_microseconds, list(told.microseconds)) == (1, 80, [0, 1])
    harness.wait(1.0 + LATE_SECONDS)
    assert [message.samples for message in samples_of(harness)] == [0, 0]
    harness.wait(10)
    assert samples_of(harness) == []


def test_sums_beyond_what_a_message_can_hold_are_cut() -> None:
    # A task may write such a record in the name of its processor.
    harness = AgentHarness()
    harness.say(m.ProfileRequest(3.0, 100, 1000))
    for processor in range(3):
        harness.step(events.ProcessorSamples(processor, 2**64 - 1, 2**64 - 1, calls(FUNCTION.hex(), 2**64 - 1)))
    harness.wait(1.1)
    (told,) = samples_of(harness)
    assert (told.samples, told.cost_microseconds, list(told.microseconds)) == (2**63, 2**63, [0, 2**63])
    encode(told)


def test_a_request_replaces_the_one_before() -> None:
    harness = AgentHarness()
    harness.say(m.ProfileRequest(3.0, 100, 1000))
    harness.say(m.ProfileRequest(1e9, 1_000_000, 0))
    assert harness.take(effects.SampleProcessors) == [
        effects.SampleProcessors(3.0, 100),
        effects.SampleProcessors(60.0, 1000),
    ]
    harness.wait(4)
    assert len(samples_of(harness)) == 4
    harness.say(m.ProfileRequest(0.0))
    assert harness.take(effects.SampleProcessors) == [effects.SampleProcessors(0.0, 1)]
    harness.wait(10)
    assert samples_of(harness) == []


# --- records


def tree(*stacks: tuple[str, float]) -> dict[bytes | str, list[Any]]:
    roots: dict[bytes | str, list[Any]] = {}
    for stack, seconds in stacks:
        node = roots.setdefault(FUNCTION, [0.0, {}])
        for name in stack.split(";"):
            node = node[1].setdefault(name, [0.0, {}])
        node[0] += seconds
    return roots


def record(*stacks: tuple[str, float]) -> bytes:
    return b"".join(profile_parts(call_table(tree(*stacks), ["/here", None, ""]), 12, 0.5))


def test_records_say_what_was_sampled() -> None:
    samples, cost, table = read_profile(record(("a;b", 0.25), ("a", 0.5)))
    assert (samples, cost) == (12, 500_000)
    root = FUNCTION.hex()
    assert set(collapsed(table).splitlines()) == {f"{root};a;b 250000", f"{root};a 500000"}
    assert read_request(b"".join(request_parts(2.5, 100))) == (2.5, 100)


def test_files_are_named_from_the_search_path_on() -> None:
    code = compile("def f(): pass", "/here/package/module.py", "exec")
    table = call_table({FUNCTION: [0.0, {code: [0.0, {3: [1.0, {}]}]}]}, ["/here", "/"])
    assert collapsed(table) == f"{FUNCTION.hex()};<module> (package/module.py:1);package/module.py:3 1000000\n"


def test_what_a_task_writes_in_the_name_of_the_sampler_ends_nothing() -> None:
    chance = random.Random(7)
    whole = record(("a;b;c", 0.25), ("d", 0.5))
    for size in range(len(whole)):
        with pytest.raises((ValueError, struct.error)):
            read_profile(whole[:size])
    for _ in range(3_000):
        scrambled = bytearray(whole)
        for _ in range(chance.randrange(1, 5)):
            scrambled[chance.randrange(len(whole))] = chance.randrange(256)
        try:
            _, _, table = read_profile(bytes(scrambled))
        except (ValueError, struct.error):
            continue
        ProfileTree().add(table)


# --- the sampler


def do_something(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline


class Sampled:
    """A sampler that finds this process's main thread in a task."""

    def __init__(self) -> None:
        self.sent: list[CallTable] = []
        self.samples = 0
        self.is_gone = False
        row = SimpleNamespace(function=FUNCTION)
        self.running = cast(RunningTask, SimpleNamespace(row=row, is_forked=False, page=SimpleNamespace(word=[1])))
        self.sampler = Sampler(self.running, Sampled.run.__code__, self._send)

    def _send(self, _kind: int, parts: Sequence[Bytes]) -> None:
        if self.is_gone:
            raise AgentGoneError("closed")
        samples, _, table = read_profile(b"".join(parts))
        self.samples += samples
        self.sent.append(table)

    def run(self, seconds: float, until: Callable[[], bool]) -> None:
        self.sampler.ask(seconds, 200)
        do_something(until)


def test_a_profile_ends_by_itself_and_begins_again() -> None:
    sampled = Sampled()
    for _ in range(2):
        sampled.sent.clear()
        sampled.run(1.2, lambda: not sampled.sampler._is_alive)
        assert len(sampled.sent) >= 2
        tree = ProfileTree()
        for table in sampled.sent:
            tree.add(table)
        stacks = collapsed(tree.table())
        assert "do_something" in stacks
        # What called the task is not its business.
        assert "pytest" not in stacks


def test_the_interpreter_switches_threads_as_before_afterwards() -> None:
    before = sys.getswitchinterval()
    sampled = Sampled()
    sampled.run(60, lambda: sys.getswitchinterval() == SWITCH_SECONDS)
    sampled.sampler.ask(0, 0)
    do_something(lambda: not sampled.sampler._is_alive)
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize("seconds", [0.000003, 0.02])
def test_how_a_task_has_threads_switched_is_its_own_and_ends_with_it(seconds: float) -> None:
    before = sys.getswitchinterval()
    sampled = Sampled()
    sampled.sampler.begin(before)
    try:
        sys.setswitchinterval(seconds)
        of_task = sys.getswitchinterval()
        # The profile begins while the task runs, and another task follows.
        sampled.run(60, lambda: sampled.samples > 20)
        assert sys.getswitchinterval() == of_task
        sys.setswitchinterval(before)
    finally:
        sampled.sampler.ask(0, 0)
    do_something(lambda: not sampled.sampler._is_alive)
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize(
    ("folder", "is_of_task"), [(sampler._THREADS_OF_SCALER[0], False), ("their/", True)], ids=["kept", "own"]
)
def test_threads_are_switched_early_unless_a_task_has_some_of_its_own(
    monkeypatch: pytest.MonkeyPatch, folder: str, is_of_task: bool
) -> None:
    """Those of a client inside a task stay for the following ones, and are not theirs."""
    over: list[bool] = []
    names = {"sleep": time.sleep, "over": over}
    exec(compile("def keep():\n    while not over:\n        sleep(0.005)\n", folder + "kept.py", "exec"), names)
    thread = threading.Thread(target=cast(Callable[[], None], names["keep"]))
    thread.start()
    # Whoever runs this test may have threads, too.
    here = (threading.main_thread().ident, thread.ident)
    frames = sys._current_frames
    monkeypatch.setattr(sampler, "_current_frames", lambda: {one: at for one, at in frames().items() if one in here})
    sampled = Sampled()
    try:
        sampled.run(60, lambda: sampled.samples > 20)
        assert sampled.sampler._has_threads == is_of_task
    finally:
        over.append(True)
        thread.join()
        sampled.sampler.ask(0, 0)
        do_something(lambda: not sampled.sampler._is_alive)


def test_tasks_that_are_too_short_to_be_seen_are_not_forgotten() -> None:
    sampled = Sampled()
    running = sampled.running
    running.row = None
    sampled.sampler._look(0, 0.25)
    assert set(sampled.sampler._stacks.roots) == {"(short tasks)"}
    # No task has begun since.
    sampled.sampler._look(0, 0.5)
    assert collapsed(call_table(sampled.sampler._stacks.roots, [])) == "(short tasks) 250000\n"


def test_a_sampler_without_its_agent_ends() -> None:
    sampled = Sampled()
    sampled.is_gone = True
    sampled.run(60, lambda: not sampled.sampler._is_alive)
    assert sampled.sent == []


def test_a_task_with_very_many_stacks_is_kept_within_bounds() -> None:
    stacks = SampledStacks(tree.__code__, (), ())
    root: list[Any] = [0.0, {}]
    for number in range(3 * NODES_MAX):
        stacks.add(root, [], number, 0.001)
    assert len(root[1]) <= NODES_MAX + 1
    assert sum(node[0] for node in root[1].values()) == pytest.approx(3 * NODES_MAX * 0.001)
