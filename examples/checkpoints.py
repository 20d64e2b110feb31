"""A Monte Carlo run that can be interrupted: `python examples/checkpoints.py [--file FILE] [--portions N]`.

Prices an Asian option (its payoff is about the mean price of a year). Each portion of paths is one task with its own seed.
What is done is written to a file after each portion; started again, the program goes on where it was. The answer is the
same either way.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path

from scaler import Client, SchedulerClusterCombo

SPOT, STRIKE, RATE, VOLATILITY, MONTHS = 100.0, 100.0, 0.03, 0.2, 12
PATHS = 2_000


def portion(seed: int) -> tuple[int, float, float]:
    """The seed, and the sum of the payoffs of a portion of paths and of their squares."""
    source, step = random.Random(seed), 1 / MONTHS
    total = squares = 0.0
    for _ in range(PATHS):
        price, mean = SPOT, 0.0
        for _ in range(MONTHS):
            price *= math.exp((RATE - VOLATILITY**2 / 2) * step + VOLATILITY * math.sqrt(step) * source.gauss(0, 1))
            mean += price / MONTHS
        payoff = math.exp(-RATE) * max(mean - STRIKE, 0.0)
        total, squares = total + payoff, squares + payoff**2
    return seed, total, squares


def save(path: Path, done: dict[int, tuple[float, float]]) -> None:
    """Replace the file in one step: an interrupt leaves the old one or the new one."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(done), encoding="utf-8")
    beside.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Price an Asian option, and go on after an interrupt.")
    parser.add_argument("--file", type=Path, default=Path("checkpoints.json"))
    parser.add_argument("--portions", type=int, default=40)
    given = parser.parse_args()
    done: dict[int, tuple[float, float]] = {}
    if given.file.exists():
        done = {int(seed): tuple(sums) for seed, sums in json.loads(given.file.read_text(encoding="utf-8")).items()}
    missing = [seed for seed in range(given.portions) if seed not in done]
    print(f"{len(done)} portions were done, {len(missing)} are missing")
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        for seed, total, squares in client.imap_unordered(portion, missing, buffersize=8):
            done[seed] = (total, squares)
            save(given.file, done)
    # In the order of seeds: sums of floats depend on it.
    count = PATHS * given.portions
    mean = sum(done[seed][0] for seed in range(given.portions)) / count
    deviation = math.sqrt(sum(done[seed][1] for seed in range(given.portions)) / count - mean**2)
    print(f"price {mean:.4f}, standard error {deviation / math.sqrt(count):.4f}")


if __name__ == "__main__":
    main()
