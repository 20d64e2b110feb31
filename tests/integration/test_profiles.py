"""Profiles of what workers run, of real processes: shares are right, and nothing that tasks do breaks them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from scaler import Client, ScalerFuture, SchedulerClusterCombo
from scaler_protocol.address import Address
from scaler_protocol.monitoring.profile_tree import collapsed
from scaler_protocol.wire.messages import MonitorProfile
from scaler_ui.profiles import calls_of, take_profile
from scaler_worker.processor.sampler import SWITCH_SECONDS
from tests.integration import functions, profiled
from tests.integration.deployment import Deployment, wait_for

TOLERANCE = 0.12
"""Of shares, on a machine that does other things too."""

SAMPLES = 100
"""From each of two agents: shares of so many differ by less than that from what they are. A busy machine takes its time."""


def take(address: str, seconds: int = 3) -> MonitorProfile:
    return take_profile(Address.parse(address), seconds)


def shares(profile: MonitorProfile, function: str = "") -> Counter[str]:
    """The part of the time in each function or line and what it calls, by its name. One that calls itself counts once."""
    found: Counter[str] = Counter()
    for line in collapsed(calls_of(profile), function).splitlines():
        stack, _, microseconds = line.rpartition(" ")
        for name in {re.sub(r" \(.*", "", frame) for frame in stack.split(";")}:
            found[name] += int(microseconds)
        found[""] += int(microseconds)
    whole = max(found[""], 1)
    return Counter({name: count / whole for name, count in found.items()})


@pytest.fixture(scope="module")
def combo() -> Iterator[SchedulerClusterCombo]:
    with SchedulerClusterCombo(n_workers=2) as combo:
        yield combo


@contextmanager
def busy(
    combo: SchedulerClusterCombo,
    submit: Callable[[Client], list[ScalerFuture]],
    before: Callable[[float], object] = profiled.divided,
) -> Iterator[Client]:
    """Tasks that run meanwhile, and are cancelled afterwards."""
    with Client(combo.get_address()) as client:
        # Whatever workers import is imported before.
        client.run(before, 0.0)
        futures = submit(client)
        try:
            yield client
        finally:
            for future in futures:
                future.cancel()
            # They have ended when the workers do something else.
            client.run(before, 0.0)


def test_three_quarters_are_three_quarters(combo: SchedulerClusterCombo) -> None:
    with busy(combo, lambda client: [client.submit(profiled.divided, 30) for _ in range(2)]):
        profile = take(combo.get_monitor_address())
    assert (profile.done, profile.agents, profile.answered, profile.processors) == (True, 1, 1, 2)
    found = shares(profile)
    assert found["three_quarters"] == pytest.approx(0.75, abs=TOLERANCE)
    assert found["one_quarter"] == pytest.approx(0.25, abs=TOLERANCE)
    assert found["divided"] > 0.98
    # Two workers, three seconds; the scheduler's machinery is not in it.
    assert sum(profile.microseconds) / 1e6 == pytest.approx(6, abs=2.5)
    assert not any("scaler_worker" in text for text in profile.texts)
    # Two cores, for at most four seconds.
    assert profile.cost_microseconds < 0.02 * 2 * 4e6


def test_native_code_is_with_the_line_that_called_it(combo: SchedulerClusterCombo) -> None:
    pytest.importorskip("numpy")
    with busy(combo, lambda client: [client.submit(profiled.multiply, 30)], profiled.multiply):
        profile = take(combo.get_monitor_address())
    lines = {name: share for name, share in shares(profile).items() if "profiled.py:" in name}
    assert sum(lines.values()) > 0.6
    assert shares(profile)["multiply"] > 0.9


def test_coroutines_and_threads_of_tasks(combo: SchedulerClusterCombo) -> None:
    with busy(
        combo, lambda client: [client.submit(profiled.pause_in_a_loop, 30), client.submit(profiled.with_a_thread, 30)]
    ):
        profile = take(combo.get_monitor_address())
    found = shares(profile, "tests.integration.profiled.pause_in_a_loop")
    assert found["(event loop)"] > 0.1
    assert found["spin"] > 0.3
    # The loop's own calls are not shown above those of the task.
    seconds = [stack.split(";")[1] for stack in collapsed(calls_of(profile)).splitlines() if "pause_in_a_loop" in stack]
    assert not any("asyncio" in frame or "selectors" in frame for frame in seconds), seconds
    found = shares(profile, "tests.integration.profiled.with_a_thread")
    # Half of it is the main thread, which waits for the other one.
    assert found["divided"] == pytest.approx(0.5, abs=TOLERANCE)
    assert found["_worker"] == 0


def test_a_task_that_waits_for_its_own_shows_that_it_waits(combo: SchedulerClusterCombo) -> None:
    with busy(combo, lambda client: [client.submit(profiled.outer, 6)], profiled.outer):
        profile = take(combo.get_monitor_address())
    assert shares(profile, "tests.integration.profiled.outer")["ScalerFuture.result"] > 0.5
    assert shares(profile)["divided"] > 0.3


def run_short_tasks(client: Client, over: threading.Event) -> list[tuple[int, float, float]]:
    """Run them, some at a time, until it is over; return what all of them say."""
    said: list[tuple[int, float, float]] = []
    while not over.is_set():
        futures = [client.submit(profiled.few_milliseconds) for _ in range(200)]
        said += [future.result(120) for future in futures]
    return said


def test_short_tasks_are_seen() -> None:
    over = threading.Event()
    # Other tests leave threads in processes of theirs, with which the sampler does not take turns so often.
    with (
        SchedulerClusterCombo(n_workers=2) as combo,
        Client(combo.get_address()) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        # Whatever workers import is imported before; one of them had a client, and its threads stay.
        client.run(profiled.outer, 0.0)
        running = pool.submit(run_short_tasks, client, over)
        try:
            profile = take(combo.get_monitor_address(), 2)
        finally:
            over.set()
        # Of all of them: those that have just ended may still be on their way here.
        ended = running.result(120)
    # A sampler that waits as long for the interpreter's lock as threads usually do sees short tasks hardly ever: 23 % of their
    # time, but up to 80 % where all cores are busy, because each takes longer then. So the tasks themselves say whether it does.
    sampled = Counter[int]()
    seconds = 0.0
    for pid, took, switch_seconds in ended:
        if switch_seconds == SWITCH_SECONDS:
            sampled[pid] += 1
            seconds += took
    # There may be more than workers, after tasks that have waited for others.
    assert len(sampled) >= 2, sampled
    # Of the time of those tasks, not of the profile's: on a busy machine, workers wait for tasks, and the sampler for its turn.
    # It was 94 to 103 %, idle, beside 4 busy processes and beside 8 that came and went; the share of the profile's 70 to 92 %.
    seen = shares(profile)["few_milliseconds"] * sum(profile.microseconds) / 1e6
    assert seen == pytest.approx(seconds, rel=0.5)


def test_nothing_runs(combo: SchedulerClusterCombo) -> None:
    profile = take(combo.get_monitor_address(), 2)
    assert profile.answered == 1
    # Of the tasks before, hardly more than the end may be in it.
    assert sum(profile.microseconds) < 2e5
    # There may be more than workers, after tasks that have waited for others.
    assert profile.processors >= 2


def test_deep_stacks_are_cut_off_at_the_end(combo: SchedulerClusterCombo) -> None:
    with busy(combo, lambda client: [client.submit(profiled.deep, 400, 20) for _ in range(2)]):
        profile = take(combo.get_monitor_address(), 2)
    stacks = collapsed(calls_of(profile)).splitlines()
    assert stacks
    assert max(stack.count(";") for stack in stacks) < 120
    deepest = [stack for stack in stacks if stack.count(";deep (") > 90]
    assert deepest
    assert all(";(deeper calls) " in stack for stack in deepest)


def test_a_task_that_spoils_its_process_does_not_spoil_the_profile(combo: SchedulerClusterCombo) -> None:
    def submit(client: Client) -> list[ScalerFuture]:
        pairs = ((client.submit(profiled.spoil, 10_000_000), client.submit(profiled.divided, 0.1)) for _ in range(100))
        return [future for pair in pairs for future in pair]

    with busy(combo, submit):
        profile = take(combo.get_monitor_address(), 4)
    with Client(combo.get_address()) as client:
        assert client.submit(functions.square, 3).result(60) == 9
    assert shares(profile)["spoil"] > 0.3


def test_two_monitors_at_once_get_the_same_and_each_its_own(combo: SchedulerClusterCombo) -> None:
    with (
        busy(combo, lambda client: [client.submit(profiled.divided, 30) for _ in range(2)]),
        ThreadPoolExecutor(2) as pool,
    ):
        long = pool.submit(take, combo.get_monitor_address(), 5)
        short = pool.submit(take, combo.get_monitor_address(), 2)
        profiles = [short.result(), long.result()]
    assert [profile.seconds for profile in profiles] == [2, 5]
    for profile in profiles:
        assert shares(profile)["three_quarters"] == pytest.approx(0.75, abs=TOLERANCE)
    assert sum(profiles[1].microseconds) > 1.4 * sum(profiles[0].microseconds)


def test_what_a_processor_sent_before_it_died_is_kept(combo: SchedulerClusterCombo) -> None:
    with busy(combo, lambda client: [client.submit(profiled.die_soon, 2.5)]):
        profile = take(combo.get_monitor_address(), 5)
    assert shares(profile)["die_soon"] > 0.9
    assert sum(profile.microseconds) > 1e6


def test_the_samplers_end_with_the_profile(combo: SchedulerClusterCombo) -> None:
    with Client(combo.get_address()) as client:
        before = client.submit(profiled.threads_here).result()
        take(combo.get_monitor_address(), 1)
        wait_for("the samplers have ended", lambda: client.submit(profiled.threads_here).result() <= before)


class EnoughError(Exception):
    """Enough is known of a profile."""


@pytest.mark.timeout(200)
def test_an_agent_is_killed_and_another_one_comes(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    first = deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    client.run(profiled.divided, 0.0)
    futures = [client.submit(profiled.divided, 1.0) for _ in range(150)]
    found: list[MonitorProfile] = []
    killed: list[int] = []
    """How many samples there were then."""

    def watch(profile: MonitorProfile) -> None:
        found.append(profile)
        if not killed and profile.samples >= SAMPLES:
            os.kill(first.pid, signal.SIGKILL)
            killed.append(profile.samples)
        if profile.answered == 2 and profile.samples >= killed[0] + SAMPLES:
            raise EnoughError

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(take_profile, scheduler.addresses["monitor"], 60, on_progress=watch)
        wait_for("the agent is killed", lambda: killed, 40)
        deployment.workers(scheduler, count=1)
        with pytest.raises(EnoughError):
            taken.result()
    for future in futures:
        future.cancel()
    assert (found[-1].agents, found[-1].answered) == (2, 2)
    # Of the tasks' own time: the second worker is also seen to import what they need, for as long as this machine takes for it.
    share = shares(found[-1])
    assert share["three_quarters"] / share["divided"] == pytest.approx(0.75, abs=TOLERANCE)


def test_the_shell_gets_collapsed_stacks(combo: SchedulerClusterCombo) -> None:
    with busy(combo, lambda client: [client.submit(profiled.divided, 30) for _ in range(2)]):
        command = [sys.executable, "-m", "scaler_ui.dump", combo.get_monitor_address(), "--profile", "2"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    lines = printed.splitlines()
    assert all(re.fullmatch(r"[^;]+(;[^;]+)+ \d+", line) for line in lines), lines
    assert any("divided (" in line and ";three_quarters (" in line for line in lines)
