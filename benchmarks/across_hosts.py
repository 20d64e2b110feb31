"""What keys cost between two machines: `python -m benchmarks.across_hosts` (as root; Linux).

Two network namespaces joined by a pair of virtual cards stand for the machines. Each has process ids and shared memory of its
own, so that large values travel through the network. Scheduler, object storage and workers run in one, the client in the other,
with and without keys in turns.
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
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scaler import Client
from scaler.local.cluster import Cluster
from scaler.local.scheduler import Scheduler

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
PORT = 7345
WORKERS = 2
START_SECONDS = 60.0
ROUND_SECONDS = 300.0

Figures = dict[str, float]
WANTED = {"submit, tasks/s": 0.8, "round trip p50, µs": 1.15, "echo 32 MiB numpy, MiB/s": 0.25}
"""With keys, at least (rates) or at most (times) so many times the figure without."""


def main() -> int:
    """Measure and print a table. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.across_hosts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--measure", nargs=2, metavar=("ADDRESS", "KEYS"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", nargs=2, metavar=("ADDRESS", "KEYS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        _serve(*given.serve)
        return 0
    if given.measure:
        print(json.dumps(_measure(*given.measure)))
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
        rounds: dict[str, list[Figures]] = {"": [], str(keys): []}
        for _ in range(given.rounds):
            for used, measured in rounds.items():
                measured.append(_round(server, client, used))
    plain, keyed = rounds.values()
    print(f"{'':<28}{'plain':>12}{'with keys':>12}{'ratio':>8}{'wanted':>10}")
    for name, wanted in WANTED.items():
        without, using = (statistics.median(each[name] for each in some) for some in (plain, keyed))
        limit = f"{'≥' if wanted < 1 else '≤'} {wanted:g}"
        print(f"{name:<28}{without:>12,.0f}{using:>12,.0f}{using / without:>8.2f}{limit:>10}")
        print(f"    plain {[round(each[name]) for each in plain]}, with keys {[round(each[name]) for each in keyed]}")
    return 0


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


def _round(server: list[str], client: list[str], keys: str) -> Figures:
    address = f"tcp://{SERVER}:{PORT}"
    me = [sys.executable, "-m", "benchmarks.across_hosts"]
    serving = subprocess.Popen([*server, *me, "--serve", address, keys], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert serving.stdin is not None
    assert serving.stdout is not None
    try:
        if not serving.stdout.readline():
            raise SystemExit("across_hosts: the services do not start")
        found = subprocess.run(
            [*client, *me, "--measure", address, keys],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=ROUND_SECONDS,
        )
        figures: Figures = json.loads(found.stdout)
        return figures
    finally:
        serving.stdin.close()
        serving.wait(START_SECONDS)


def _serve(address: str, keys: str) -> None:
    """Serve until the standard input ends."""
    scheduler = Scheduler(address, security_dir=keys or None, insecure=not keys, logging_level="ERROR")
    cluster = Cluster(address, WORKERS, security_dir=keys or None, logging_level="ERROR")
    try:
        scheduler.start()
        cluster.start()
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        cluster.terminate()
        scheduler.terminate()


def _measure(address: str, keys: str) -> Figures:
    with Client(address, timeout_seconds=START_SECONDS, security=keys or None) as client:
        client.map(abs, range(10_000))
        _submit(client, 5_000)
        rates = [_submit(client, 20_000) for _ in range(5)]
        times = []
        for number in range(2_000):
            began = time.perf_counter()
            client.submit(abs, number).result()
            times.append(time.perf_counter() - began)
        array = np.random.default_rng(1).random(4 * 1024**2)
        echoes = []
        for number in range(6):
            array[0] = number
            began = time.perf_counter()
            back = client.submit(_echo, array).result()
            echoes.append(time.perf_counter() - began)
            assert back[0] == number
            del back
    return {
        "submit, tasks/s": statistics.median(rates),
        "round trip p50, µs": statistics.median(times) * 1e6,
        "echo 32 MiB numpy, MiB/s": 64 / statistics.median(echoes[1:]),
    }


def _submit(client: Client, count: int) -> float:
    began = time.perf_counter()
    futures = [client.submit(abs, number) for number in range(count)]
    for future in futures:
        future.result()
    return count / (time.perf_counter() - began)


def _echo(value: object) -> object:
    return value


if __name__ == "__main__":
    sys.exit(main())
