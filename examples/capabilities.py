"""Tasks that need what only some workers have: `python examples/capabilities.py`."""

from scaler import Client, Cluster, Scheduler


def main() -> None:
    with (
        Scheduler(address="tcp://127.0.0.1:0") as scheduler,
        Cluster(address=scheduler.get_address(), n_workers=1, per_worker_capabilities={"linux": -1}),
        Cluster(address=scheduler.get_address(), n_workers=1, per_worker_capabilities={"linux": -1, "gpu": -1}),
        Client(address=scheduler.get_address()) as client,
    ):
        # Goes to the second worker: the first one has no gpu.
        print(client.submit_verbose(round, args=(3.15,), kwargs={}, capabilities={"gpu": -1}).result())  # 3
        # Goes to either.
        print(client.submit_verbose(round, args=(2.5,), capabilities={"linux": -1}).result())  # 2


if __name__ == "__main__":
    main()
