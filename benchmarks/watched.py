"""What it costs a cluster to be watched: `python -m benchmarks.watched`.

One cluster runs small tasks, in turns without anybody who watches, with `scaler_ui` and a reader of its event stream, which gets
what an open page gets, with `scaler_top`, and with both while a profile is taken. The figure is the processor time that client,
scheduler and workers take for a task; what the watchers take themselves is beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import random
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence

import psutil

from benchmarks.machine import describe
from scaler import Client, SchedulerClusterCombo
from scaler_protocol.service.child import ChildService

WORKERS = 2
TASKS = 100_000
SETTLE_SECONDS = 1.5
"""After watchers have begun or gone."""

KINDS = ("nobody", "scaler_ui", "scaler_top", "both and a profile")


def same(value: int) -> int:
    """Return what was given."""
    return value


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return what these have used."""
    used = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:2])
    return used


def _read(url: str) -> None:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60) as answer:
        while answer.read(65_536):
            pass


def _drain(terminal: int) -> None:
    # Reading fails when the other end is closed.
    with contextlib.suppress(OSError):
        while os.read(terminal, 65_536):
            pass
    os.close(terminal)


@contextlib.contextmanager
def watching(kind: str, monitor: str) -> Iterator[list[psutil.Process]]:
    """Watch a cluster; yields the processes that do."""
    with contextlib.ExitStack() as stack:
        watchers = []
        if kind in ("scaler_ui", "both and a profile"):
            pages = ChildService.start("scaler_ui.web", [monitor, "--port=0"])
            stack.callback(pages.terminate, 10)
            base = str(pages.wait_ready(30)["webui"]).replace("tcp", "http")
            watchers.append(psutil.Process(pages.pid))
            threading.Thread(target=_read, args=(f"{base}/api/stream",), daemon=True).start()
            if kind == "both and a profile":
                request = urllib.request.Request(f"{base}/api/profiles?seconds=60", method="POST")
                with urllib.request.urlopen(request, timeout=10):
                    pass
        if kind in ("scaler_top", "both and a profile"):
            terminal, end = pty.openpty()
            top = subprocess.Popen(
                [sys.executable, "-m", "scaler_ui.top", monitor],
                stdin=end,
                stdout=end,
                stderr=end,
                env={**os.environ, "TERM": "xterm-256color", "LINES": "40", "COLUMNS": "120"},
            )
            os.close(end)
            reader = threading.Thread(target=_drain, args=(terminal,), daemon=True)
            reader.start()
            stack.callback(reader.join)
            stack.callback(top.wait)
            stack.callback(top.kill)
            watchers.append(psutil.Process(top.pid))
        time.sleep(SETTLE_SECONDS)
        yield watchers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watched", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=TASKS, help="in each turn")
    given = parser.parse_args(arguments)
    about = describe()
    print(f"{about['cpu']}, Python {about['python']}, load {about['load_average']:.1f}", flush=True)
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    watched: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with SchedulerClusterCombo(n_workers=WORKERS) as cluster, Client(cluster.get_address()) as client:
        assert client.map(same, range(1_000)) == list(range(1_000))
        here = psutil.Process()
        of_cluster = [here, *here.children(recursive=True)]
        for _ in range(given.rounds):
            # What came just before may be felt.
            for kind in random.sample(KINDS, len(KINDS)):
                with watching(kind, cluster.get_monitor_address()) as watchers:
                    begin, watchers_begin = processor_seconds(of_cluster), processor_seconds(watchers)
                    for future in [client.submit(same, number) for number in range(given.tasks)]:
                        future.result()
                    costs[kind].append((processor_seconds(of_cluster) - begin) / given.tasks * 1e6)
                    watched[kind].append((processor_seconds(watchers) - watchers_begin) / given.tasks * 1e6)
    for kind in KINDS:
        speed = statistics.median(a / b for a, b in zip(costs["nobody"], costs[kind], strict=True))
        print(
            f"{kind:20} {statistics.median(costs[kind]):6.1f} µs of processor time a task, speed {speed:.2f}; "
            f"watchers themselves {statistics.median(watched[kind]):.1f} µs"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
