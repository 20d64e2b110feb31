"""What keys cost between two machines: `python -m benchmarks.across_hosts` (as root; Linux).

Two network namespaces joined by a pair of virtual cards stand for the machines. Each has process ids and shared memory of its
own, so that large values travel through the network. Scheduler, object storage and workers run in one, the client in the other,
with and without keys in turns: both clusters run all the time and the two clients take short turns, because the speed of a
shared machine changes from one second to the next. What is quoted is the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scaler import Client
from scaler.local.cluster import Cluster
from scaler.local.scheduler import Scheduler

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
ADDRESSES = (f"tcp://{SERVER}:7345", f"tcp://{SERVER}:7445")
"""Without keys and with them."""
WORKERS = 2
START_SECONDS = 60.0
ROUND_SECONDS = 300.0

Turns = dict[str, list[tuple[float, float]]]
"""By name: figures without and with keys that were measured one right after the other."""
WANTED = {"submit, tasks/s": 0.8, "round trip p50, µs": 1.15, "echo 32 MiB numpy, MiB/s": 0.25}
"""With keys, at least (rates) or at most (times) so many times the figure without."""


def main() -> int:
    """Measure and print a table. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.across_hosts", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often clusters are started and measured (default: 3)"
    )
    parser.add_argument("--measure", metavar="KEYS", help=argparse.SUPPRESS)
    parser.add_argument("--serve", metavar="KEYS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve(given.serve)
        return 0
    if given.measure:
        print(json.dumps(_measure(given.measure)))
        return 0
    if os.geteuid() != 0:
        print("across_hosts makes network namespaces, which only root may", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, _two_hosts() as (server, client):
        keys = Path(folder) / "keys"
        subprocess.run(
            [sys.executable, "-m", "scaler_protocol.security.command", "generate", keys],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        rounds = [_round(server, client, str(keys)) for _ in range(given.rounds)]
    print(f"{'':<28}{'plain':>12}{'with keys':>12}{'ratio':>8}{'wanted':>10}")
    for name, wanted in WANTED.items():
        turns = [turn for each in rounds for turn in each[name]]
        without, using = (statistics.median(turn[which] for turn in turns) for which in (0, 1))
        limit = f"{'≥' if wanted < 1 else '≤'} {wanted:g}"
        print(f"{name:<28}{without:>12,.0f}{using:>12,.0f}{_ratio(turns):>8.2f}{limit:>10}")
        print(f"    ratios of the rounds: {', '.join(f'{_ratio(each[name]):.2f}' for each in rounds)}")
    return 0


def _ratio(turns: list[tuple[float, float]]) -> float:
    return statistics.median(using / without for without, using in turns)


@contextlib.contextmanager
def _two_hosts() -> Iterator[tuple[list[str], list[str]]]:
    """Yield how a command begins that runs on each of two hosts."""
    names = [f"scaler-{os.getpid()}-{number}" for number in range(2)]
    cards = [f"sc{os.getpid() % 100_000}{letter}" for letter in "ab"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", cards[0], "type", "veth", "peer", "name", cards[1])
        for name, card, address in zip(names, cards, (SERVER, CLIENT), strict=True):
            _ip("link", "set", card, "netns", name)
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", card)
            _ip("-n", name, "link", "set", card, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc"]
        yield (
            ["ip", "netns", "exec", names[0], *alone],
            ["ip", "netns", "exec", names[1], *alone],
        )
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _round(server: list[str], client: list[str], keys: str) -> Turns:
    me = [sys.executable, "-m", "benchmarks.across_hosts"]
    serving = subprocess.Popen([*server, *me, "--serve", keys], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert serving.stdin is not None
    assert serving.stdout is not None
    try:
        if not serving.stdout.readline():
            raise SystemExit("across_hosts: the services do not start")
        found = subprocess.run(
            [*client, *me, "--measure", keys],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=ROUND_SECONDS,
        )
        turns: Turns = json.loads(found.stdout)
        return turns
    finally:
        serving.stdin.close()
        serving.wait(START_SECONDS)


def _serve(keys: str) -> None:
    """Serve without and with keys until the standard input ends."""
    with contextlib.ExitStack() as stack:
        for address, used in zip(ADDRESSES, (None, keys), strict=True):
            scheduler = Scheduler(address, security_dir=used, insecure=used is None, logging_level="ERROR")
            cluster = Cluster(address, WORKERS, security_dir=used, logging_level="ERROR")
            scheduler.start()
            stack.callback(scheduler.terminate)
            stack.callback(cluster.terminate)
            cluster.start()
            cluster.wait_ready()
        print("ready", flush=True)
        sys.stdin.read()


def _measure(keys: str) -> Turns:
    with (
        Client(ADDRESSES[0], timeout_seconds=START_SECONDS) as plain,
        Client(ADDRESSES[1], timeout_seconds=START_SECONDS, security=keys) as keyed,
    ):
        clients = (plain, keyed)
        for client in clients:
            client.map(abs, range(10_000))
            _submit(client, 5_000)
        array = np.random.default_rng(1).random(4 * 1024**2)
        what: list[tuple[Callable[[Client, int], float], int, int]] = [
            (_submit, 20_000, 5),
            (_round_trip, 100, 20),
            (partial(_echoes, array), 3, 3),
        ]
        return {
            name: [_turn(clients, turn, measure, count) for turn in range(turns)]
            for name, (measure, count, turns) in zip(WANTED, what, strict=True)
        }


def _turn(
    clients: tuple[Client, Client], turn: int, measure: Callable[[Client, int], float], count: int
) -> tuple[float, float]:
    """Return the figures of both clients; every other time the second one goes first."""
    if turn % 2:
        using = measure(clients[1], count)
        return measure(clients[0], count), using
    return measure(clients[0], count), measure(clients[1], count)


def _round_trip(client: Client, count: int) -> float:
    times = []
    for number in range(count):
        began = time.perf_counter()
        client.submit(abs, number).result()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _echoes(array: np.ndarray, client: Client, count: int) -> float:
    times = []
    for number in range(count):
        array[0] = number
        began = time.perf_counter()
        back = client.submit(_echo, array).result()
        times.append(time.perf_counter() - began)
        assert back[0] == number
        del back
    return 64 / statistics.median(times)


def _submit(client: Client, count: int) -> float:
    began = time.perf_counter()
    futures = [client.submit(abs, number) for number in range(count)]
    for future in futures:
        future.result()
    return count / (time.perf_counter() - began)


def _echo(value: Any) -> Any:
    return value


if __name__ == "__main__":
    sys.exit(main())
