"""A cluster that grows and shrinks with its work, and a picture of it: `python examples/elastic.py [--output FILE]`.

Starts a scheduler without any workers and a native worker adapter that may start some on this machine, sends waves of tasks,
and draws what the scheduler publishes to monitors: tasks that are not done, workers that the scaling policy requests,
and workers that are connected. This program made the picture in docs/elastic.md. It needs matplotlib.
"""

from __future__ import annotations

import argparse
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

from scaler import Client
from scaler_protocol.monitoring.topics import FIGURES
from scaler_protocol.service.child import ChildService
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.messages import MonitorSnapshot

mpl.use("agg")

import matplotlib.pyplot as plt

WORKERS_MAX = 4
COOL_DOWN_S = 5
TASK_S = 0.05
WAVES = ((0.0, 400), (14.0, 400), (30.0, 40), (48.0, 300))
"""When tasks are submitted, in seconds, and how many."""
END_S = 75.0


@dataclass
class Record:
    """One figure of each kind per snapshot, about two in a second."""

    times: list[float] = field(default_factory=list)
    demand: list[int] = field(default_factory=list)
    requested: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)

    def add(self, at: float, snapshot: MonitorSnapshot) -> None:
        counts = {counter.name: counter.count for counter in snapshot.task_states}
        self.times.append(at)
        self.demand.append(counts["unassigned"] + counts["running"])
        self.requested.append(sum(a.requested_groups * a.workers_per_group for a in snapshot.adapters))
        self.workers.append(len(snapshot.workers))


def record(monitor_address: str, started: float, stop: threading.Event) -> Record:
    """Listen to the scheduler's figures until told to stop."""
    found = Record()
    subscriber = Subscriber(monitor_address, [FIGURES])
    while not stop.is_set():
        frames = subscriber.receive(0.2)
        message = decode(frames[1:]) if frames is not None else None
        if isinstance(message, MonitorSnapshot):
            found.add(time.monotonic() - started, message)
    subscriber.close()
    return found


def work(address: str, started: float) -> None:
    """Submit the waves, and wait until all is over and the cluster has had time to shrink."""
    with Client(address=address) as client:
        futures = []
        for at, count in WAVES:
            time.sleep(max(0.0, started + at - time.monotonic()))
            futures += [client.submit(time.sleep, TASK_S) for _ in range(count)]
        for future in futures:
            future.result(timeout=120)
        time.sleep(max(0.0, started + END_S - time.monotonic()))


def draw(found: Record, path: Path) -> None:
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), height_ratios=(1, 1))
    above.fill_between(found.times, found.demand, step="post", color="#4477aa", alpha=0.35, linewidth=0)
    above.step(found.times, found.demand, where="post", color="#4477aa")
    above.set_ylabel("tasks not done")
    below.step(found.times, found.requested, where="post", color="#ee6677", label="requested workers", linewidth=2)
    below.step(found.times, found.workers, where="post", color="#228833", label="workers connected", linewidth=2)
    below.axhline(WORKERS_MAX, color="#bbbbbb", linestyle="--", linewidth=1)
    below.text(found.times[0], WORKERS_MAX + 0.1, "limit of the adapter", color="#888888", fontsize=9)
    below.set_ylabel("workers")
    below.set_ylim(0, WORKERS_MAX + 0.9)
    below.set_xlabel("seconds")
    below.legend(loc="upper right", frameon=False, ncols=2)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def free_port() -> int:
    """A port for the scheduler, which the adapter's workers must know before the scheduler runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("elastic.png"), help="picture to write")
    output = parser.parse_args().output
    address = f"tcp://127.0.0.1:{free_port()}"
    adapter = ChildService.start("scaler_adapters.native", [address, "--port=0", f"--max-workers={WORKERS_MAX}"])
    scheduler: ChildService | None = None
    try:
        webhook = str(adapter.wait_ready()["webhook"]).replace("tcp", "http")
        scheduler = ChildService.start(
            "scaler_scheduler",
            [
                address,
                "--monitor-address=tcp://127.0.0.1:0",
                f"--adapter-webhook-url={webhook}",
                f"--scaling-cool-down-seconds={COOL_DOWN_S}",
            ],
        )
        monitor = str(scheduler.wait_ready()["monitor"])
        started, stop, found = time.monotonic(), threading.Event(), Record()

        def listen() -> None:
            nonlocal found
            found = record(monitor, started, stop)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            work(address, started)
        finally:
            stop.set()
            listener.join()
        draw(found, output)
        print(f"{sum(count for _, count in WAVES)} tasks on {os.cpu_count()} CPUs; picture in {output}")
    finally:
        adapter.terminate()
        if scheduler is not None:
            scheduler.terminate()


if __name__ == "__main__":
    main()
