"""A graph of tasks that use each other's results: `python examples/graph.py`."""

from scaler import Client, SchedulerClusterCombo


def inc(i: int) -> int:
    return i + 1


def add(a: int, b: int) -> int:
    return a + b


def minus(a: int, b: int) -> int:
    return a - b


GRAPH = {
    "a": 2,
    "b": 2,
    "c": (inc, "a"),  # c = a + 1 = 3
    "d": (add, "a", "b"),  # d = a + b = 4
    "e": (minus, "d", "c"),  # e = d - c = 1
}


def main() -> None:
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(address=cluster.get_address()) as client:
        print(client.get(GRAPH, keys=["e"]))  # {'e': 1}


if __name__ == "__main__":
    main()
