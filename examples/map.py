"""`map` and `starmap` over many items: chunks are chosen by the client. `python examples/map.py`."""

import math

from scaler import Client, SchedulerClusterCombo


def add(x: int, y: int) -> int:
    return x + y


def main() -> None:
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(address=cluster.get_address()) as client:
        print(f"{sum(client.map(math.sqrt, range(100))):.2f}")  # 661.46
        print(client.map(add, [1, 2, 3], [10, 20, 30]))  # [11, 22, 33]
        print(client.starmap(add, [(1, 10), (2, 20), (3, 30)]))  # [11, 22, 33]


if __name__ == "__main__":
    main()
