"""Tasks that submit tasks: recursion of any depth on any number of workers. `python examples/nested.py`."""

from scaler import Client, SchedulerClusterCombo


def fibonacci(client: Client, n: int) -> int:
    if n < 2:
        return n
    a = client.submit(fibonacci, client, n - 1)
    b = client.submit(fibonacci, client, n - 2)
    return int(a.result() + b.result())


def main() -> None:
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(address=cluster.get_address()) as client:
        print(client.submit(fibonacci, client, 8).result())  # 21


if __name__ == "__main__":
    main()
