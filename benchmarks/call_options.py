"""What options of tasks and shares of groups cost and give, on this machine: `python -m benchmarks.call_options`.

Three parts, each with clusters of real processes:

- *priority*: a client submits a million tasks of 10 ms. Behind them it submits tasks of a higher priority, one at a time, and so
  does another client without any. How long until each begins.
- *cost*: one client with no options and one with all of them, in turns in one cluster; processor time of all processes together
  for tasks submitted at once, and for tasks of which each is waited for.
- *groups*: clients in ten groups against the same number in none, in turns; processor time for each task.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.machine import describe
from scaler import Client, SchedulerClusterCombo

WORKERS = 2
BEGIN_SECONDS = 120.0
"""A task of high priority that has not begun by then is an error."""

OPTIONS: dict[str, Any] = {
    "label": "night",
    "tags": {"desk": "rates"},
    "retries": 2,
    "timeout_seconds": 60,
    "deadline_seconds": 3600,
    "priority": 1,
}


def same(value: int) -> int:
    """Return what was given."""
    return value


def ten_milliseconds() -> None:
    """Run for 10 ms."""
    time.sleep(0.01)


def begun() -> float:
    """Return when this runs; processes of one machine share the clock."""
    return time.monotonic()


def processor_seconds() -> float:
    """Return what this process and those that it has started have used, of all processors together."""
    here = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (here, *here.children(recursive=True)))


def priority(tasks: int, asked: int) -> None:
    """Print how long single tasks take to begin beside many that wait."""
    with (
        SchedulerClusterCombo(n_workers=WORKERS) as cluster,
        Client(cluster.get_address()) as client,
        Client(cluster.get_address()) as other,
    ):
        for each in (client, other):
            each.submit(begun).result()
        started = time.monotonic()
        waiting = [client.submit(ten_milliseconds) for _ in range(tasks)]
        print(f"{tasks:,} tasks of 10 ms submitted in {time.monotonic() - started:.1f} s", flush=True)
        for name, asking in (
            ("of this client, higher priority", client.with_options(priority=1)),
            ("of another client", other),
        ):
            waits = []
            for _ in range(asked):
                submitted = time.monotonic()
                waits.append((asking.submit(begun).result(BEGIN_SECONDS) - submitted) * 1e3)
            p50, p99 = statistics.median(waits), sorted(waits)[int(0.99 * (len(waits) - 1))]
            print(f"{name}: begin after p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {max(waits):.1f} ms", flush=True)
        assert not all(future.done() for future in waiting), "the tasks ended meanwhile: more are needed"
        for future in waiting:
            future.cancel()


def cost(rounds: int) -> None:
    """Print what tasks with all options take of processor time, against tasks with none."""
    figures: dict[tuple[str, str], list[float]] = {}
    with SchedulerClusterCombo(n_workers=WORKERS) as cluster, Client(cluster.get_address()) as client:
        kinds = {"none": client, "all": client.with_options(**OPTIONS)}
        for _ in range(rounds):
            for name, asking in kinds.items():
                begin = processor_seconds()
                for future in [asking.submit(same, number) for number in range(20_000)]:
                    future.result()
                figures.setdefault(("at once", name), []).append((processor_seconds() - begin) / 20_000)
                begin = processor_seconds()
                for number in range(1_000):
                    asking.submit(same, number).result()
                figures.setdefault(("one by one", name), []).append((processor_seconds() - begin) / 1_000)
    for how in ("at once", "one by one"):
        ratio = statistics.median(a / b for a, b in zip(figures[how, "none"], figures[how, "all"], strict=True))
        none, everything = (statistics.median(figures[how, name]) * 1e6 for name in ("none", "all"))
        print(
            f"{how}: {none:.1f} µs of processor time without options, {everything:.1f} with all: speed {ratio:.2f}",
            flush=True,
        )


def groups(rounds: int, clients: int) -> None:
    """Print what each task takes of processor time where clients are in ten groups, against no groups."""
    shares = {f"group{number}": number + 1.0 for number in range(10)}
    figures: dict[str, list[float]] = {}
    with (
        SchedulerClusterCombo(n_workers=WORKERS) as plain,
        SchedulerClusterCombo(n_workers=WORKERS, share=shares) as shared,
    ):
        for _ in range(rounds):
            for name, cluster in (("no groups", plain), ("ten groups", shared)):
                asking = [
                    Client(cluster.get_address(), group=f"group{number % 10}" if cluster is shared else None)
                    for number in range(clients)
                ]
                try:
                    for each in asking:
                        each.submit(same, 0).result()
                    begin = processor_seconds()
                    for future in [each.submit(same, number) for number in range(200) for each in asking]:
                        future.result()
                    figures.setdefault(name, []).append((processor_seconds() - begin) / (200 * clients))
                finally:
                    for each in asking:
                        each.disconnect()
    ratio = statistics.median(a / b for a, b in zip(figures["no groups"], figures["ten groups"], strict=True))
    none, ten = (statistics.median(figures[name]) * 1e6 for name in ("no groups", "ten groups"))
    print(
        f"{clients} clients: {none:.1f} µs of processor time a task, {ten:.1f} in ten groups: speed {ratio:.2f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.call_options", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="priority, cost, groups; all without any")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="how many wait, for priority")
    parser.add_argument("--asked", type=int, default=200, help="how many single tasks, for priority")
    parser.add_argument("--rounds", type=int, default=7, help="for cost and groups")
    parser.add_argument("--clients", type=int, default=100, help="for groups")
    given = parser.parse_args(arguments)
    known = ("priority", "cost", "groups")
    unknown = sorted(set(given.parts) - set(known))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: there are {', '.join(known)}")
    about = describe()
    print(", ".join(str(about[name]) for name in ("cpu", "python") if name in about), flush=True)
    parts = given.parts or known
    if "priority" in parts:
        priority(given.tasks, given.asked)
    if "cost" in parts:
        cost(given.rounds)
    if "groups" in parts:
        groups(given.rounds, given.clients)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
