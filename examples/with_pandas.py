"""`groupby().apply` with each group on a worker. Needs pandas. `python examples/with_pandas.py`.

The groups travel one by one; the frame they come from is not sent. Columns in Arrow's or NumPy's form travel without being copied
item by item, so this is worth it where the function takes longer than sending its group.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from scaler import Client, SchedulerClusterCombo


def drawdown(prices: pd.DataFrame) -> pd.Series:
    close = prices["close"]
    return pd.Series({"days": len(close), "worst": round(float((close / close.cummax() - 1).min()), 3)})


def apply(client: Client, groups: Any, function: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    names, frames = zip(*groups, strict=True)
    return pd.DataFrame(client.map(function, frames), index=pd.Index(names, name=groups.keys))


def main() -> None:
    dice = np.random.default_rng(1)
    names = np.repeat(["A", "B", "C"], 250)
    prices = pd.DataFrame({"name": names, "close": 100 * np.exp(np.cumsum(dice.normal(0, 0.02, 750)))})
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        on_workers = apply(client, prices.groupby("name"), drawdown)
    print(on_workers)
    here = pd.DataFrame({name: drawdown(group) for name, group in prices.groupby("name")}).T
    print("as in one process:", bool((on_workers == here).all(axis=None)))


if __name__ == "__main__":
    main()
