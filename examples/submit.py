"""Submit single tasks and collect their results: `python examples/submit.py`."""

import math

from scaler import Client, SchedulerClusterCombo


def main() -> None:
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(address=cluster.get_address()) as client:
        future = client.submit(math.sqrt, 16)
        print(future.result())  # 4.0

        futures = [client.submit(math.sqrt, i) for i in range(100)]
        print(f"{sum(future.result() for future in futures):.2f}")  # 661.46

        # Keyword arguments work as in a plain call.
        print(client.submit(sorted, [3, 1, 2], reverse=True).result())  # [3, 2, 1]


if __name__ == "__main__":
    main()
