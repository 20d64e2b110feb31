"""Synthetic and recorded loads on a model of a cluster, to compare scaling policies: who waits how long, who is paid for nothing.

The model knows tasks that arrive and take their time, workers that take a while to start, and a policy that is asked every
half second how many workers there should be. `python scaling_loads.py` prints the table that docs/elastic.md shows.
"""

from __future__ import annotations

import csv
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from scaler_scheduler.policy.durations import MeanSeconds
from scaler_scheduler.policy.scaling import (
    PLAIN,
    AdapterView,
    Demand,
    Strategy,
    View,
    share_out,
    steady,
    workers_needed,
)

LOOK_S = 0.5
START_S = 2.0
WORKERS_MAX = 16
END_S = 3_600.0
OSCILLATION_S = 10.0

Load = list[tuple[float, float]]
"""(arrival, duration) of each task, in seconds, by arrival."""


RECORDINGS = Path(__file__).parent / "recorded_loads"
"""Its README.md says what each of them is and how it was made."""


def loads() -> dict[str, Load]:
    """All loads by name, the synthetic ones first."""
    return {**synthetic_loads(), **recorded_loads()}


def recorded_loads() -> dict[str, Load]:
    found = {}
    for path in sorted(RECORDINGS.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            load = [(float(row["arrival_s"]), float(row["duration_s"])) for row in csv.DictReader(file)]
        found[f"recorded: {path.stem}"] = load
    return found


def synthetic_loads() -> dict[str, Load]:
    random = Random(7)
    arrivals, at = [], 0.0
    while at < 300.0:
        at += random.expovariate(20.0)
        arrivals.append(at)
    return {
        "burst: 2,000 × 50 ms": [(0.0, 0.05)] * 2_000,
        "tiny: 20,000 × 0.5 ms": [(0.0, 0.0005)] * 20_000,
        "long: 8 × 60 s": [(0.0, 60.0)] * 8,
        "steady: 20/s × 200 ms": [(at, random.expovariate(5.0)) for at in arrivals],
        "waves: 60 s on, 60 s off": [(120.0 * wave + i * 0.05, 0.25) for wave in range(4) for i in range(1_200)],
        "pulses: 100 × 100 ms each 20 s": [(20.0 * pulse, 0.1) for pulse in range(15) for _ in range(100)],
        "mixed: 2,000 × 10 ms, 20 × 20 s": [(0.0, 0.01)] * 2_000 + [(1.0, 20.0)] * 20,
    }


@dataclass(slots=True)
class Figures:
    """What a load and a policy came to. Times in seconds; `paid_s` in worker seconds, from start to stop."""

    end_s: float = 0.0
    mean_wait_s: float = 0.0
    paid_s: float = 0.0
    busy_s: float = 0.0
    starts: int = 0
    workers_max: int = 0
    restarts: int = 0
    """Workers started within `OSCILLATION_S` after one was stopped."""
    shrunk_while_waiting: int = 0

    @property
    def wasted_s(self) -> float:
        return self.paid_s - self.busy_s


@dataclass(slots=True)
class Seen:
    """What a policy is shown."""

    now: float
    waiting: int
    running: int
    workers: int
    """Working and starting."""
    arrived: int
    task_s: float | None


Policy = Callable[[Seen], int]


def ratio_policy() -> Policy:
    """The older tool's: more than ten tasks per worker starts one, less than one stops one, nothing else counts."""

    def wish(seen: Seen) -> int:
        tasks = seen.waiting + seen.running
        if seen.workers == 0:
            return 1 if tasks else 0
        ratio = tasks / seen.workers
        return seen.workers + 1 if ratio > 10 else seen.workers - 1 if ratio < 1 else seen.workers

    return wish


def vanilla_policy(cool_down_s: float = 30.0) -> Policy:
    """Ours, as the scheduler asks it."""
    history: deque[tuple[float, int]] = deque()

    def wish(seen: Seen) -> int:
        adapter = AdapterView(groups_max=WORKERS_MAX, groups={PLAIN: seen.workers}, start_seconds=START_S)
        demand = Demand(PLAIN, seen.waiting, seen.running, seen.task_s)
        view = View([demand], [adapter], {PLAIN: seen.arrived})
        history.append((seen.now, workers_needed(Strategy.VANILLA, view).get(PLAIN, 0)))
        while history[0][0] < seen.now - cool_down_s:
            history.popleft()
        return share_out({PLAIN: steady(history, seen.now, cool_down_s)}, view)[0].get(PLAIN, 0)

    return wish


@dataclass(slots=True)
class _Worker:
    since: float
    arrives: float
    task: tuple[float, float] | None = None
    began: float = 0.0
    ends: float = 0.0
    stops: bool = False


@dataclass(slots=True)
class Model:
    """One run: events in order of time, workers that take the oldest task."""

    load: Load
    policy: Policy
    figures: Figures = field(default_factory=Figures)
    workers: list[_Worker] = field(default_factory=list)
    durations: MeanSeconds = field(default_factory=MeanSeconds)

    def run(self) -> Figures:
        arrivals = deque(self.load)
        waiting: deque[tuple[float, float]] = deque()
        events: list[tuple[float, int, _Worker | None]] = [(0.0, 0, None)]
        order, waited, stopped_at = 0, 0.0, -1e9
        while events:
            if arrivals and arrivals[0][0] < events[0][0]:
                now, is_look, worker = arrivals[0][0], False, None
            else:
                now, _, worker = heapq.heappop(events)
                is_look = worker is None
            while arrivals and arrivals[0][0] <= now:
                waiting.append(arrivals.popleft())
            if worker is not None and worker.task is not None and now >= worker.ends:
                self.durations.observe("task", worker.task[1])
                self.figures.busy_s += worker.task[1]
                self.figures.end_s = now
                worker.task = None
            if is_look:
                before = len(self.workers)
                self._look(now, len(waiting))
                for started in self.workers[before:]:
                    order += 1
                    heapq.heappush(events, (started.arrives, order, started))
                    self.figures.restarts += now - stopped_at < OSCILLATION_S
            for each in [w for w in self.workers if w.task is None and w.arrives <= now]:
                if each.stops:
                    self.workers.remove(each)
                    self.figures.paid_s += now - each.since
                    stopped_at = now
                elif waiting:
                    each.task = waiting.popleft()
                    each.began, each.ends = now, now + each.task[1]
                    waited += now - each.task[0]
                    order += 1
                    heapq.heappush(events, (each.ends, order, each))
            if is_look and (arrivals or waiting or self.workers):
                order += 1
                heapq.heappush(events, (now + LOOK_S, order, None))
            assert now < END_S, "the load does not end"
        self.figures.mean_wait_s = waited / len(self.load)
        return self.figures

    def _look(self, now: float, waiting: int) -> None:
        staying = [worker for worker in self.workers if not worker.stops]
        busy = [worker for worker in self.workers if worker.task is not None]
        for worker in busy:
            if now - worker.began > LOOK_S:
                self.durations.at_least("task", now - worker.began)
        arrived = sum(1 for worker in staying if worker.arrives <= now)
        wish = min(
            self.policy(Seen(now, waiting, len(busy), len(staying), arrived, self.durations.of("task"))), WORKERS_MAX
        )
        for _ in range(wish - len(staying)):
            self.workers.append(_Worker(now, now + START_S))
            self.figures.starts += 1
        leaving = sorted(staying, key=lambda worker: worker.task is not None)[: max(0, len(staying) - wish)]
        for worker in leaving:
            worker.stops = True
            self.figures.shrunk_while_waiting += waiting > 0
        self.figures.workers_max = max(self.figures.workers_max, wish)


def table() -> Iterator[str]:
    yield "| load | policy | done after (s) | mean wait (s) | worker seconds | of these idle | starts | restarts |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, load in loads().items():
        policies = {
            "ratio": ratio_policy(),
            "vanilla": vanilla_policy(),
            "vanilla, cool-down 5 s": vanilla_policy(cool_down_s=5.0),
        }
        for policy_name, policy in policies.items():
            f = Model(load, policy).run()
            yield (
                f"| {name} | {policy_name} | {f.end_s:.1f} | {f.mean_wait_s:.2f} | {f.paid_s:.0f} | {f.wasted_s:.0f} "
                f"| {f.starts} | {f.restarts} |"
            )


if __name__ == "__main__":
    print("\n".join(table()))
