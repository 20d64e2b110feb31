"""How risky is trend following? Bootstrapped risk figures for a grid of strategies over twenty years of the S&P 500.

Each strategy holds the index while its fast moving average is above its slow one, and cash otherwise. For each of them,
and for buy-and-hold, the stationary bootstrap (Politis and Romano, 1994) resamples the daily returns in blocks of random
length, and so says how sure one can be of the Sharpe ratio, of value at risk and of expected shortfall.

One strategy is one task. The grid is computed twice, by a local cluster and by this process alone, and must come out equal.

    python examples/demo.py [--workers N] [--resamples N] [--output FOLDER]

The prices are daily ones from 1999 to 2018, as the package `arch` ships them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import time
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from importlib.metadata import files
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scaler import Client, SchedulerClusterCombo

mpl.use("agg")

import matplotlib.pyplot as plt

DAYS_PER_YEAR = 252
BLOCK_DAYS_MEAN = 10
"""Mean length of the bootstrap's blocks: long enough to keep clusters of bad days together."""
TAIL = 0.025
"""Expected shortfall is the mean of the worst 2.5 % of days, as in the Basel rules on market risk."""
CONFIDENCE = 0.90
RESAMPLES_AT_ONCE = 25
"""As many histories as fit into a processor's cache."""

FAST_DAYS = (5, 10, 15, 20, 30, 40, 50, 60)
SLOW_DAYS = (80, 100, 120, 140, 160, 180, 200, 220, 240, 260)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Strategy:
    """Lengths of the two moving averages, in days; zero for buy-and-hold."""

    fast: int = 0
    slow: int = 0

    def __str__(self) -> str:
        return f"{self.fast}/{self.slow} days" if self.slow else "buy and hold"


@dataclass(frozen=True)
class Estimate:
    """A figure, and the interval in which it lies with 90 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Risk:
    """What one task computes. Returns are daily; losses are positive numbers."""

    strategy: Strategy
    growth: float
    sharpe: Estimate
    value_at_risk: Estimate
    expected_shortfall: Estimate
    worker: int = 0
    started: float = 0.0
    ended: float = 0.0


# --- the work ----------------------------------------------------------------------------------------------------------


def daily_returns(strategy: Strategy, prices: Floats) -> Floats:
    """Returns of a strategy. It decides in the evening with that day's prices, and holds its position the next day."""
    returns: Floats = prices[1:] / prices[:-1] - 1.0
    if not strategy.slow:
        return returns[max(SLOW_DAYS) - 1 :]
    sums = np.concatenate(([0.0], np.cumsum(prices)))

    def average(days: int) -> Floats:
        averages: Floats = (sums[days:] - sums[:-days]) / days
        return averages[max(SLOW_DAYS) - days :]

    position = average(strategy.fast) > average(strategy.slow)
    held: Floats = np.where(position[:-1], returns[max(SLOW_DAYS) - 1 :], 0.0)
    return held


def stationary_bootstrap(days: int, resamples: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Which day stands where in each resample: blocks of geometric length that begin anywhere and wrap around."""
    begins = random.random((resamples, days)) < 1.0 / BLOCK_DAYS_MEAN
    begins[:, 0] = True
    here = np.arange(days)
    last_begin = np.maximum.accumulate(np.where(begins, here, 0), axis=1)
    first_days = np.take_along_axis(random.integers(0, days, (resamples, days)), last_begin, axis=1)
    return (first_days + here - last_begin) % days


def sharpe_ratio(returns: Floats) -> Floats:
    """Mean over standard deviation, per year; along the last axis."""
    ratio: Floats = returns.mean(axis=-1) / returns.std(axis=-1) * np.sqrt(DAYS_PER_YEAR)
    return ratio


def tail_losses(returns: Floats) -> tuple[Floats, Floats]:
    """Value at risk and expected shortfall of one day; along the last axis."""
    count = max(1, int(returns.shape[-1] * TAIL))
    worst = np.partition(returns, count, axis=-1)[..., : count + 1]
    return -worst.max(axis=-1), -np.sort(worst, axis=-1)[..., :count].mean(axis=-1)


def figures(returns: Floats) -> Floats:
    """Sharpe ratio, value at risk and expected shortfall, stacked; along the last axis of `returns`."""
    return np.stack([sharpe_ratio(returns), *tail_losses(returns)])


def estimates(returns: Floats, resamples: int) -> list[Estimate]:
    """The same seed for every strategy, so that all meet the same histories."""
    random = np.random.default_rng(2026)
    parts = []
    for first in range(0, resamples, RESAMPLES_AT_ONCE):
        count = min(RESAMPLES_AT_ONCE, resamples - first)
        parts.append(figures(returns[stationary_bootstrap(len(returns), count, random)]))
    resampled = np.concatenate(parts, axis=1)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1)
    return [Estimate(*map(float, row)) for row in zip(figures(returns), low, high, strict=True)]


def assess(strategy: Strategy, prices: Floats, resamples: int) -> Risk:
    """One task: the risk figures of one strategy."""
    started = time.time()
    returns = daily_returns(strategy, prices)
    sharpe, value_at_risk, expected_shortfall = estimates(returns, resamples)
    return Risk(
        strategy,
        growth=float(np.prod(1.0 + returns)),
        sharpe=sharpe,
        value_at_risk=value_at_risk,
        expected_shortfall=expected_shortfall,
        worker=os.getpid(),
        started=started,
        ended=time.time(),
    )


# --- who does it --------------------------------------------------------------------------------------------------------


def with_a_cluster(grid: list[Strategy], prices: Floats, resamples: int, client: Client) -> Iterable[Risk]:
    """Every strategy is submitted at once; results come as they are ready. The prices are sent once."""
    reference = client.send_object(prices, name="prices")
    futures = [client.submit(assess, strategy, reference, resamples) for strategy in grid]
    for future in as_completed(futures):
        yield future.result()


def alone(grid: list[Strategy], prices: Floats, resamples: int) -> Iterable[Risk]:
    for strategy in grid:
        yield assess(strategy, prices, resamples)


def timed(console: Console, text: str, count: int, risks: Iterable[Risk]) -> tuple[dict[Strategy, Risk], float]:
    """Collect all results under a progress bar; return them, and the seconds it took."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
    found: dict[Strategy, Risk] = {}
    begin = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(text, total=count)
        for risk in risks:
            found[risk.strategy] = risk
            progress.advance(bar)
    return found, time.perf_counter() - begin


def same_figures(left: dict[Strategy, Risk], right: dict[Strategy, Risk]) -> bool:
    """Whether two runs agree in everything but who did it when."""

    def plain(risks: dict[Strategy, Risk]) -> dict[Strategy, Risk]:
        return {strategy: replace(risk, worker=0, started=0.0, ended=0.0) for strategy, risk in risks.items()}

    return plain(left) == plain(right)


# --- data ---------------------------------------------------------------------------------------------------------------


def sp500() -> tuple[NDArray[np.datetime64], Floats]:
    """Dates and adjusted closing prices. The file is read where it lies; `arch` itself is not imported."""
    path = next((file for file in files("arch") or () if file.name == "sp500.csv.gz"), None)
    if path is None:
        raise SystemExit("the data set is missing: pip install --no-deps arch")
    text = gzip.decompress(path.read_binary()).decode()
    rows = list(csv.DictReader(text.splitlines()))
    dates = [time.strftime("%Y-%m-%d", time.strptime(row["Date"], "%m/%d/%Y")) for row in rows]
    return np.array(dates, dtype="datetime64[D]"), np.array([float(row["Adj Close"]) for row in rows])


# --- the answer ---------------------------------------------------------------------------------------------------------


def show(console: Console, risks: dict[Strategy, Risk], best: list[Strategy]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    for heading in ("growth", "Sharpe ratio", "1-day VaR, %", "1-day ES, %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for strategy in (Strategy(), *best):
        risk = risks[strategy]
        table.add_row(
            str(strategy),
            f"{risk.growth:.2f} ×",
            f"{risk.sharpe.value:.2f} ({risk.sharpe.low:.2f}, {risk.sharpe.high:.2f})",
            *(
                f"{100 * figure.value:.2f} ({100 * figure.low:.2f}, {100 * figure.high:.2f})"
                for figure in (risk.value_at_risk, risk.expected_shortfall)
            ),
        )
    console.print("Buy and hold, and the five best strategies (picked with hindsight), 2000 to 2018")
    console.print(f"VaR and ES: of the worst 2.5 % of days; in brackets {CONFIDENCE:.0%} confidence\n")
    console.print(table)


def draw(
    path: Path,
    dates: NDArray[np.datetime64],
    prices: Floats,
    risks: dict[Strategy, Risk],
    best: list[Strategy],
    times: tuple[float, float],
) -> None:
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, ((growth, grid), (tails, work)) = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    held, chosen = "#7f7f7f", "#1f5fa8"

    days = dates[max(SLOW_DAYS) :]
    for strategy, colour in ((Strategy(), held), (best[0], chosen)):
        wealth = np.cumprod(1.0 + daily_returns(strategy, prices))
        growth.plot(days, wealth, color=colour, linewidth=1.1)
        growth.annotate(
            str(strategy), (days[-1], wealth[-1]), xytext=(6, 0), textcoords="offset points", color=colour, va="center"
        )
    growth.set_yscale("log")
    growth.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
    growth.minorticks_off()
    growth.set_title("Growth of one dollar", loc="left", fontweight="bold")
    growth.grid(alpha=0.25)

    ratios = np.array([[risks[Strategy(fast, slow)].sharpe.value for slow in SLOW_DAYS] for fast in FAST_DAYS])
    image = grid.imshow(ratios, cmap="viridis", aspect="auto", origin="lower")
    middle = (ratios.min() + ratios.max()) / 2
    for row in range(len(FAST_DAYS)):
        for column in range(len(SLOW_DAYS)):
            colour = "black" if ratios[row, column] > middle else "white"
            grid.text(column, row, f"{ratios[row, column]:.2f}", ha="center", va="center", color=colour, fontsize=7.5)
    grid.set_xticks(range(len(SLOW_DAYS)), [str(slow) for slow in SLOW_DAYS])
    grid.set_yticks(range(len(FAST_DAYS)), [str(fast) for fast in FAST_DAYS])
    grid.set_xlabel("slow average, days")
    grid.set_ylabel("fast average, days")
    grid.set_title(
        f"Sharpe ratio of each strategy (buy and hold: {risks[Strategy()].sharpe.value:.2f})",
        loc="left",
        fontweight="bold",
    )
    figure.colorbar(image, ax=grid, fraction=0.04)

    shown = [Strategy(), *best]
    for place, strategy in enumerate(shown):
        risk = risks[strategy]
        for offset, value, marker in ((0.12, risk.value_at_risk, "o"), (-0.12, risk.expected_shortfall, "s")):
            tails.errorbar(
                100 * value.value,
                place + offset,
                xerr=[[100 * (value.value - value.low)], [100 * (value.high - value.value)]],
                fmt=marker,
                color=chosen if strategy.slow else held,
                markerfacecolor="white" if marker == "o" else None,
                capsize=3,
                markersize=5,
            )
    tails.plot([], [], "o", color="black", markerfacecolor="white", label="value at risk")
    tails.plot([], [], "s", color="black", label="expected shortfall")
    tails.legend(frameon=False, loc="lower right")
    tails.set_yticks(range(len(shown)), [str(strategy) for strategy in shown])
    tails.invert_yaxis()
    tails.set_xlabel(f"loss in one day, %; bars: {CONFIDENCE:.0%} confidence")
    tails.set_title("The worst 2.5 % of days", loc="left", fontweight="bold")
    tails.grid(alpha=0.25, axis="x")

    figure.suptitle("Trend following on the S&P 500: hold it while the fast average is above the slow one", fontsize=12)
    begin = min(risk.started for risk in risks.values())
    workers = sorted({risk.worker for risk in risks.values()})
    colours = plt.get_cmap("viridis")
    for risk in risks.values():
        shade = colours(0.15 + 0.7 * (risk.strategy.slow / max(SLOW_DAYS)))
        work.barh(
            workers.index(risk.worker),
            risk.ended - risk.started,
            left=risk.started - begin,
            height=0.6,
            color=shade,
            edgecolor="white",
            linewidth=0.4,
        )
    work.set_yticks(range(len(workers)), [f"worker {number + 1}" for number in range(len(workers))])
    work.set_ylim(-0.7, len(workers) - 0.3)
    work.set_xlabel("seconds; one box is one task, shaded by its slow average")
    work.set_title(
        f"Who did it: {times[0]:.1f} s on the cluster, {times[1]:.1f} s alone", loc="left", fontweight="bold"
    )

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bootstrapped risk of trend following, on a local Scaler cluster.")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resamples", type=int, default=800)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    arguments = parser.parse_args()
    console = Console()

    dates, prices = sp500()
    grid = [Strategy(), *(Strategy(fast, slow) for fast in FAST_DAYS for slow in SLOW_DAYS)]
    console.print(
        f"{len(prices):,} days of the S&P 500, {dates[0]} to {dates[-1]}: {len(grid)} strategies, "
        f"{arguments.resamples:,} resampled histories each\n"
    )
    begin = time.perf_counter()
    with SchedulerClusterCombo(n_workers=arguments.workers) as cluster, Client(cluster.get_address()) as client:
        client.submit(os.getpid).result()
        console.print(f"a cluster of {arguments.workers} workers answers after {time.perf_counter() - begin:.2f} s")
        risks, cluster_s = timed(
            console,
            f"{arguments.workers} workers",
            len(grid),
            with_a_cluster(grid, prices, arguments.resamples, client),
        )
    expected, alone_s = timed(console, "this process alone", len(grid), alone(grid, prices, arguments.resamples))
    if not same_figures(risks, expected):
        raise SystemExit("the cluster's figures differ from those of one process")

    best = sorted(grid[1:], key=lambda strategy: risks[strategy].sharpe.value, reverse=True)[:5]
    console.print()
    show(console, risks, best)
    console.print(
        f"\none process {alone_s:.1f} s, cluster {cluster_s:.1f} s: "
        f"[bold]{alone_s / cluster_s:.2f} times as fast[/bold] with {arguments.workers} workers; all figures are equal"
    )
    picture = arguments.output / "trend-following.png"
    draw(picture, dates, prices, risks, best, (cluster_s, alone_s))
    console.print(f"picture: {picture}")


if __name__ == "__main__":
    main()
