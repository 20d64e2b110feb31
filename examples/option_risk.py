"""Prices a portfolio of options and says what it may lose in ten days: `python examples/option_risk.py`.

The portfolio (examples/data/portfolio.csv) is priced with the formula of Black and Scholes. For the risk, the market moves at
random a few thousand times, and the portfolio is priced again each time. One portion of these scenarios is one task.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import NormalDist

from scaler import Client, SchedulerClusterCombo

RATE = 0.03
TEN_DAYS = 10 / 252
PORTIONS, SCENARIOS = 16, 250
PORTFOLIO = Path(__file__).parent / "data" / "portfolio.csv"


def price(option: Mapping[str, str], spot: float, years: float) -> float:
    """The value of one option, by Black and Scholes."""
    strike, volatility = float(option["strike"]), float(option["volatility"])
    deviation = volatility * math.sqrt(years)
    d1 = (math.log(spot / strike) + (RATE + volatility**2 / 2) * years) / deviation
    normal, sign = NormalDist(), 1 if option["kind"] == "call" else -1
    discounted = strike * math.exp(-RATE * years)
    return sign * (spot * normal.cdf(sign * d1) - discounted * normal.cdf(sign * (d1 - deviation)))


def value(portfolio: Sequence[Mapping[str, str]], move: float = 0.0, passed: float = 0.0) -> float:
    """The value of all positions after the market has moved by so many standard deviations, `passed` years later."""
    total = 0.0
    for option in portfolio:
        deviation = float(option["volatility"]) * math.sqrt(passed)
        spot = float(option["spot"]) * math.exp(move * deviation - deviation**2 / 2)
        total += float(option["quantity"]) * price(option, spot, float(option["years"]) - passed)
    return total


def losses(seed: int, portfolio: Sequence[Mapping[str, str]]) -> list[float]:
    """What is lost in each of a portion of scenarios."""
    source, today = random.Random(seed), value(portfolio)
    return [today - value(portfolio, source.gauss(0, 1), TEN_DAYS) for _ in range(SCENARIOS)]


def main() -> None:
    portfolio = list(csv.DictReader(PORTFOLIO.open(encoding="utf-8")))
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        # Sent once, read by all tasks.
        reference = client.send_object(portfolio, name="portfolio")
        portions = client.starmap(losses, [(seed, reference) for seed in range(PORTIONS)])
    ordered = sorted(loss for portion in portions for loss in portion)
    worst = ordered[int(0.975 * len(ordered)) :]
    print(f"value today: {value(portfolio):,.0f}")
    print(f"value at risk, 97.5 %: {worst[0]:,.0f}")
    print(f"expected shortfall: {sum(worst) / len(worst):,.0f}")


if __name__ == "__main__":
    main()
